-- Rebuilding days: recompute them from the raw events, compare with what is kept, write the differences, claim the days. What is right
-- already is not written again. verify compares by the same functions.

create or replace function rollup.pending_totals(p_account_id int, p_from date, p_to date)
returns setof rollup.reporting_events_rollups
language sql stable as $$
  select t.*
  from rollup.totals(
    p_account_id,
    array(
      select (
        p_account_id, null, d.date, d.event_name, d.user_id, d.inbox_id, null, sum(d.count), sum(d.sum_value),
        sum(d.sum_value_business_hours), null, sum(d.count_value), sum(d.count_value_business_hours)
      )::rollup.deltas
      from rollup.pending_deltas(p_account_id) as d
      where d.date between p_from and p_to
      group by d.date, d.event_name, d.user_id, d.inbox_id
    )
  ) as t
$$;
comment on function rollup.pending_totals(int, date, date) is
  'What the pending deltas of the days p_from to p_to add to the daily totals, distinct counts apart.';

create or replace function rollup.stored_totals(p_account_id int, p_from date, p_to date, p_distinct boolean)
returns setof rollup.reporting_events_rollups
language sql stable as $$
  -- The series that there are, also of metrics that the registry has no more, by skipping through the index.
  with recursive series as (
    (
      select s.dimension_type, s.metric
      from rollup.reporting_events_rollups as s
      where s.account_id = p_account_id
      order by s.dimension_type, s.metric
      limit 1
    )
    union all
    select next.*
    from series as f
    cross join lateral (
      select s.dimension_type, s.metric
      from rollup.reporting_events_rollups as s
      where s.account_id = p_account_id and (s.dimension_type, s.metric) > (f.dimension_type, f.metric)
      order by s.dimension_type, s.metric
      limit 1
    ) as next
  )
  select r.*
  from series as f
  -- A range of the index for each, rather than all rows of the account.
  cross join lateral (
    select s.*
    from rollup.reporting_events_rollups as s
    where s.account_id = p_account_id and s.dimension_type = f.dimension_type and s.metric = f.metric and s.date between p_from and p_to
    offset 0
  ) as r
  where p_distinct is null
    or p_distinct = (f.metric in (select m.metric from rollup.event_metric_list() as m where m.payload = 'distinct'))
$$;
comment on function rollup.stored_totals(int, date, date, boolean) is
  'The rollups of an account''s days p_from to p_to, with or without those of distinct counts (NULL: all), as applied so far.';

create or replace function rollup.differ(p_expected rollup.reporting_events_rollups, p_actual rollup.reporting_events_rollups)
returns boolean
language sql immutable as $$
  select (
    p_expected.count, p_expected.sum_value, p_expected.sum_value_business_hours, p_expected.count_value, p_expected.count_value_business_hours
  ) is distinct from (
    p_actual.count, p_actual.sum_value, p_actual.sum_value_business_hours, p_actual.count_value, p_actual.count_value_business_hours
  )
$$;
comment on function rollup.differ(rollup.reporting_events_rollups, rollup.reporting_events_rollups) is
  'Whether two totals of the same day, dimension and metric differ.';

create or replace function rollup.change_of(
  p_account_id int, p_expected rollup.reporting_events_rollups, p_actual rollup.reporting_events_rollups
)
returns rollup.reporting_events_rollups
language sql stable as $$
  select (
    p_account_id, coalesce(p_expected.date, p_actual.date), coalesce(p_expected.dimension_type, p_actual.dimension_type),
    coalesce(p_expected.dimension_id, p_actual.dimension_id), coalesce(p_expected.metric, p_actual.metric),
    coalesce(p_expected.count, 0) - coalesce(p_actual.count, 0),
    coalesce(p_expected.sum_value, 0) - coalesce(p_actual.sum_value, 0),
    coalesce(p_expected.sum_value_business_hours, 0) - coalesce(p_actual.sum_value_business_hours, 0),
    now(),
    coalesce(p_expected.count_value, 0) - coalesce(p_actual.count_value, 0),
    coalesce(p_expected.count_value_business_hours, 0) - coalesce(p_actual.count_value_business_hours, 0)
  )::rollup.reporting_events_rollups
$$;
comment on function rollup.change_of(int, rollup.reporting_events_rollups, rollup.reporting_events_rollups) is
  'What must be added to a total for it to be as expected.';

create or replace function rollup.total_differences(p_account_id int, p_timezone text, p_from date, p_to date, p_pending boolean)
returns table (expected rollup.reporting_events_rollups, actual rollup.reporting_events_rollups)
language sql stable as $$
  with actual as (
    select (
      p_account_id, k.date, k.dimension_type, k.dimension_id, k.metric, sum(k.count), sum(k.sum_value),
      sum(k.sum_value_business_hours), null, sum(k.count_value), sum(k.count_value_business_hours)
    )::rollup.reporting_events_rollups as total
    from (
      select s.* from rollup.stored_totals(p_account_id, p_from, p_to, false) as s
      union all
      select p.* from rollup.pending_totals(p_account_id, p_from, p_to) as p where p_pending
    ) as k
    group by k.date, k.dimension_type, k.dimension_id, k.metric
    -- Deltas that cancel out leave nothing; a stored row of nothing is one too many.
    having not p_pending
      or (sum(k.count), sum(k.sum_value), sum(k.sum_value_business_hours), sum(k.count_value), sum(k.count_value_business_hours))
        <> (0, 0, 0, 0, 0)
  )
  select e, a.total
  from rollup.raw_totals(p_account_id, p_timezone, p_from, p_to) as e
  full join actual as a
    on (a.total).date = e.date and (a.total).dimension_type = e.dimension_type and (a.total).dimension_id = e.dimension_id
    and (a.total).metric = e.metric
  where rollup.differ(e, a.total)
$$;
comment on function rollup.total_differences(int, text, date, date, boolean) is
  'Where the daily totals of the days p_from to p_to, distinct counts apart, differ from the raw events; with p_pending, as if the pending '
  'deltas were applied. NULL: there is none.';

create or replace function rollup.ledger_differences(p_account_id int, p_timezone text, p_from date, p_to date, p_pending boolean)
returns table (
  event_name rollup.distinct_event, conversation_id bigint, date date, user_id bigint, inbox_id bigint,
  expected_count bigint, actual_count bigint
)
language sql stable as $$
  select d.event_name, d.conversation_id, d.date, d.user_id, d.inbox_id, sum(d.expected)::bigint, sum(d.actual)::bigint
  from (
    select e.event_name, e.conversation_id, e.date, e.user_id, e.inbox_id, e.count as expected, 0 as actual
    from rollup.raw_ledger(p_account_id, p_timezone, p_from, p_to) as e
    union all
    select l.event_name, l.conversation_id, l.date, l.user_id, l.inbox_id, 0, l.count
    from rollup.ledger as l
    where l.account_id = p_account_id and l.date between p_from and p_to
    union all
    select p.event_name::rollup.distinct_event, p.conversation_id, p.date, p.user_id, p.inbox_id, 0, p.count
    from rollup.pending_deltas(p_account_id) as p
    where p_pending and p.date between p_from and p_to and p.conversation_id is not null
  ) as d
  group by 1, 2, 3, 4, 5
  having sum(d.expected) <> sum(d.actual)
$$;
comment on function rollup.ledger_differences(int, text, date, date, boolean) is
  'Where the ledger of the days p_from to p_to differs from the raw events; with p_pending, as if the pending deltas were applied.';

create or replace function rollup.expected_previous_dates(p_account_id int, p_from date, p_to date, p_dates date[] default '{}')
returns setof rollup.previous_dates
language sql stable as $$
  select r.*
  from rollup.previous_date_rows(
    p_account_id,
    array(
      select l
      from rollup.ledger as l
      where l.account_id = p_account_id
        and (p_from = '-infinity' or (l.event_name, l.conversation_id) in (
          select o.event_name, o.conversation_id
          from rollup.ledger as o
          where o.account_id = p_account_id and (o.date between p_from and p_to or o.date = any (p_dates))
        ))
    )
  ) as r
  where r.date between p_from and p_to or r.date = any (p_dates)
$$;
comment on function rollup.expected_previous_dates(int, date, date, date[]) is
  'The rows of previous_dates of the days p_from to p_to, and of p_dates, as they follow from the ledger.';

create or replace function rollup.previous_date_differences(
  p_account_id int, p_expected rollup.previous_dates[], p_from date, p_to date, p_dates date[] default '{}'
)
returns table (
  event_name rollup.distinct_event, dimension_type text, dimension_id bigint, date date, previous_date date,
  expected_count bigint, actual_count bigint
)
language sql stable as $$
  select event_name, dimension_type, dimension_id, date, previous_date, e.count, a.count
  from unnest(p_expected) as e
  full join (
    select p.*
    from rollup.previous_dates as p
    where p.account_id = p_account_id and (p.date between p_from and p_to or p.date = any (p_dates))
  ) as a using (event_name, dimension_type, dimension_id, date, previous_date)
  where e.count is distinct from a.count
$$;
comment on function rollup.previous_date_differences(int, rollup.previous_dates[], date, date, date[]) is
  'Where previous_dates of the days p_from to p_to, and of p_dates, is not p_expected.';

create or replace function rollup.distinct_total_differences(p_account_id int, p_expected rollup.previous_dates[], p_from date, p_to date)
returns table (expected rollup.reporting_events_rollups, actual rollup.reporting_events_rollups)
language sql stable as $$
  select e, a
  from rollup.distinct_totals(p_account_id, p_expected) as e
  full join rollup.stored_totals(p_account_id, p_from, p_to, true) as a
    on a.date = e.date and a.dimension_type = e.dimension_type and a.dimension_id = e.dimension_id and a.metric = e.metric
  where coalesce(e.date, a.date) between p_from and p_to and rollup.differ(e, a)
$$;
comment on function rollup.distinct_total_differences(int, rollup.previous_dates[], date, date) is
  'Where the daily distinct counts of the days p_from to p_to do not follow from p_expected, which has the rows of previous_dates.';

create or replace function rollup.rebuild(p_account_id int, p_from date, p_to date, out rows_written bigint, out claimed boolean)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
-- Bulk work whose size no cached plan can know.
set plan_cache_mode = force_custom_plan
set jit = off
-- The planner expects few groups, and would sort all events for them; and of tables that it remembers as empty it would read all rows
-- again and again.
set enable_sort = off
set enable_seqscan = off
-- One core is enough: the others are the host's.
set max_parallel_workers_per_gather = 0
set work_mem = '64MB'
set hash_mem_multiplier = 8 as $$
declare
  v_settings rollup.account_settings;
  v_totals rollup.reporting_events_rollups[];
  v_entries rollup.ledger[];
  v_pending tid[];
  v_marks tid[];
  v_later date[];
  v_expected rollup.previous_dates[];
  v_sealed date := rollup.sealed_through(p_account_id);
begin
  select * into v_settings from rollup.account_settings as s where s.account_id = p_account_id;
  p_from := greatest(p_from, v_sealed + 1);
  if p_from > p_to then
    rows_written := 0;
    claimed := true;
    return;
  end if;
  claimed := rollup.await_old_writers(p_account_id)
    and not exists (select from rollup.host_table_obstacles(rollup.host_relation(p_account_id)));

  -- One snapshot for events, deltas and marks: a writer's event and its delta become visible together. Under the lock nobody
  -- else removes deltas, and nobody ever updates one, so their ctids hold.
  select
    array(
      select rollup.change_of(p_account_id, d.expected, d.actual)
      from rollup.total_differences(p_account_id, v_settings.reporting_timezone, p_from, p_to, false) as d
    ),
    array(
      select (p_account_id, d.event_name, d.conversation_id, d.date, d.expected_count - d.actual_count, d.user_id, d.inbox_id)::rollup.ledger
      from rollup.ledger_differences(p_account_id, v_settings.reporting_timezone, p_from, p_to, false) as d
    ),
    array(
      select d.ctid from rollup.deltas as d
      where d.account_id = p_account_id
        and (d.date between p_from and p_to or d.generation < v_settings.generation)
        and (d.date <= v_sealed) is not true
    ),
    array(
      select m.ctid from rollup.dirty_marks as m
      where m.account_id = p_account_id and m.date between p_from and p_to
    )
  into v_totals, v_entries, v_pending, v_marks;

  delete from rollup.deltas as d where d.account_id = p_account_id and d.ctid = any (v_pending);
  delete from rollup.dirty_marks as m where m.account_id = p_account_id and m.ctid = any (v_marks);
  perform rollup.add_to_ledger(p_account_id, v_entries);

  -- The previous dates of these days follow from the ledger, and so do those of the later days of conversations that have changed.
  if p_to < 'infinity' then
    v_later := array(
      select distinct l.date from rollup.conversation_entries(p_account_id, v_entries) as l where l.date > p_to
    );
  end if;
  v_expected := array(
    select e from rollup.expected_previous_dates(p_account_id, p_from, p_to, coalesce(v_later, '{}')) as e
  );
  perform rollup.add_to_previous_dates(p_account_id, array(
    select (
      p_account_id, d.event_name, d.dimension_type, d.dimension_id, d.date, d.previous_date,
      coalesce(d.expected_count, 0) - coalesce(d.actual_count, 0)
    )::rollup.previous_dates
    from rollup.previous_date_differences(p_account_id, v_expected, p_from, p_to, coalesce(v_later, '{}')) as d
  ));
  perform rollup.add_to_rollups(p_account_id, v_totals || array(
    select rollup.change_of(p_account_id, d.expected, d.actual)
    from rollup.distinct_total_differences(p_account_id, v_expected, p_from, p_to) as d
  ));
  rows_written := (select count(*) from rollup.stored_totals(p_account_id, p_from, p_to, null));
  if claimed then
    update rollup.account_coverage as c
    set covered = c.covered + datemultirange(rollup.days(p_from, p_to))
    where c.account_id = p_account_id and c.generation = v_settings.generation;
  end if;
end
$$;
comment on function rollup.rebuild(int, date, date) is
  'Under the account''s lock: makes the rollups, ledger and previous dates of the days p_from to p_to (inclusive; infinite: open) what the '
  'raw events say, and claims the days as covered unless older transactions are still under way, or changes of '
  'the host''s table do not reach us. Leaves sealed days out: their raw events may be gone. rows_written: the rows of '
  'reporting_events_rollups that the days have then, whether they were right before or not.';

create or replace function rollup.begin_rebuild(p_function text, p_account_id int, p_patience interval default '10 s')
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
declare
  v_settings rollup.account_settings;
begin
  perform rollup.require_read_committed(p_function);
  perform rollup.require_timezone(p_account_id);
  perform rollup.require_here(p_function, p_account_id);
  perform rollup.require_all_rows(p_function);
  if nullif(current_setting('rollup.rebuilt_account', true), '') <> p_account_id::text then
    raise exception using
      errcode = 'RU005',
      message = format(
        'rollup.%s: account %s cannot be rebuilt in a transaction that rebuilt account %s',
        p_function, p_account_id, current_setting('rollup.rebuilt_account')
      ),
      hint = 'Use a transaction for each account, so that none stays locked while another is worked on.';
  end if;
  perform set_config('rollup.rebuilt_account', p_account_id::text, true);
  perform rollup.lock_account(p_account_id, p_patience);
  v_settings := rollup.adopt_settings(p_account_id);
  -- The zone may have gone while we waited.
  perform rollup.require_timezone(p_account_id);
  return v_settings.generation;
end
$$;
comment on function rollup.begin_rebuild(text, int, interval) is
  'Checks what every rebuild needs, takes the account''s lock, clears what is of an old zone, and returns the generation. '
  'Errors: RU002, RU004, RU005, RU006, RU011.';
