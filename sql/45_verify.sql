-- Comparing what is kept with a recomputation from the raw events.

-- As of 0.1.0.
drop function if exists rollup.differences(int, date, date);

create or replace function rollup.differences(
  p_account_id int, p_from date, p_to date, p_pending rollup.deltas[], p_pending_cells rollup.previous_dates[]
)
returns table (
  structure text, date date, dimension_type text, dimension_id bigint, metric text,
  expected_count bigint, actual_count bigint,
  expected_sum_value numeric, actual_sum_value numeric,
  expected_sum_value_business_hours numeric, actual_sum_value_business_hours numeric
)
language sql stable as $$
  with setting as materialized (
    select
      s.reporting_timezone,
      rollup.clean_days(s.account_id) * datemultirange(rollup.days(p_from, p_to)) as clean
    from rollup.account_settings as s
    where s.account_id = p_account_id
  ),
  event as materialized (
    select
      e.date, e.name as event_name, e.user_id, e.inbox_id,
      rollup.remembered_conversation(e.name, e.conversation_id) as conversation_id,
      count(*) as count,
      sum(rollup.microseconds(e.value)) as sum_value,
      sum(rollup.microseconds(e.value_in_business_hours)) as sum_value_business_hours
    from setting as s
    cross join lateral rollup.day_events(p_account_id, rollup.event_names(), s.reporting_timezone, p_from, p_to) as e
    where s.clean @> e.date
    group by 1, 2, 3, 4, 5
  ),
  total as (
    select
      e.date, e.event_name, dim.dimension_type, dim.dimension_id,
      sum(e.count)::bigint as count,
      rollup.seconds(sum(e.sum_value)) as sum_value,
      rollup.seconds(sum(e.sum_value_business_hours)) as sum_value_business_hours
    from event as e
    cross join lateral rollup.dimensions(p_account_id, e.user_id, e.inbox_id) as dim
    group by 1, 2, 3, 4
  ),
  expected_rollup as (
    select
      t.date, t.dimension_type, t.dimension_id, m.metric, t.count,
      case when m.payload = 'duration' then t.sum_value else 0 end as sum_value,
      case when m.payload = 'duration' then t.sum_value_business_hours else 0 end as sum_value_business_hours
    from total as t
    join rollup.event_metric_list() as m on m.event_name = t.event_name and m.payload <> 'distinct'
    union all
    select e.date, dim.dimension_type, dim.dimension_id, m.metric, count(distinct e.conversation_id), 0, 0
    from event as e
    cross join lateral rollup.dimensions(p_account_id, e.user_id, e.inbox_id) as dim
    join rollup.event_metric_list() as m on m.event_name = e.event_name and m.payload = 'distinct'
    where e.conversation_id is not null
    group by 1, 2, 3, 4
  ),
  pending as materialized (
    select
      array(select d from unnest(p_pending) as d where d.date between p_from and p_to) as deltas,
      array(select c from unnest(p_pending_cells) as c where c.date between p_from and p_to) as cells
  ),
  -- Not daily_rollups, which hides what has come to less than nothing.
  actual_rollup as (
    select
      r.date, r.dimension_type, r.dimension_id, r.metric, sum(r.count)::bigint as count,
      sum(r.sum_value) as sum_value, sum(r.sum_value_business_hours) as sum_value_business_hours
    from (
      select r.date, r.dimension_type, r.dimension_id, r.metric, r.count, r.sum_value, r.sum_value_business_hours
      from rollup.reporting_events_rollups as r
      where r.account_id = p_account_id and r.date between p_from and p_to
      union all
      select c.date, c.dimension_type, c.dimension_id, c.metric, c.count, c.sum_value, c.sum_value_business_hours
      from pending as p cross join lateral rollup.rollup_changes(p_account_id, p.deltas, p.cells) as c
    ) as r
    cross join setting as s
    where s.clean @> r.date
    group by 1, 2, 3, 4
    having sum(r.count) <> 0 or sum(r.sum_value) <> 0 or sum(r.sum_value_business_hours) <> 0
  ),
  expected_ledger as materialized (
    select
      rollup.to_distinct_event(e.event_name) as event_name, e.conversation_id, e.date, e.user_id, e.inbox_id, sum(e.count) as count
    from event as e
    where e.conversation_id is not null
    group by 1, 2, 3, 4, 5
  ),
  -- Of these days, and what was before of the conversations that they have.
  kept_ledger as materialized (
    select l.event_name, l.conversation_id, l.date, l.user_id, l.inbox_id, sum(l.count) as count
    from (
      select l.*
      from rollup.ledger as l
      where l.account_id = p_account_id and l.date between p_from and p_to
      union all
      select l.*
      from rollup.ledger as l
      where l.account_id = p_account_id and l.date < p_from
        and (l.event_name, l.conversation_id) in (select e.event_name, e.conversation_id from expected_ledger as e)
      union all
      select o.* from rollup.occurrences(p_pending) as o
    ) as l
    group by 1, 2, 3, 4, 5
    having sum(l.count) <> 0
  ),
  -- Outside the clean days a sequence of dates is what the ledger says, for nothing is claimed of it.
  expected_cell as (
    select c.*
    from setting as s
    cross join lateral rollup.previous_date_cells(
      p_account_id,
      array(
        select (p_account_id, l.event_name, l.conversation_id, l.date, l.count, l.user_id, l.inbox_id)::rollup.ledger
        from (
          select * from expected_ledger
          union all
          select l.* from kept_ledger as l where not s.clean @> l.date
        ) as l
      )
    ) as c
    where s.clean @> c.date
  ),
  kept_cell as (
    select c.event_name, c.dimension_type::text, c.dimension_id, c.date, c.previous_date, sum(c.count) as count
    from (
      select p.* from rollup.previous_dates as p where p.account_id = p_account_id and p.date between p_from and p_to
      union all
      select c.* from pending as p cross join lateral unnest(p.cells) as c
    ) as c
    cross join setting as s
    where s.clean @> c.date
    group by 1, 2, 3, 4, 5
    having sum(c.count) <> 0
  )
  select
    'rollup', date, dimension_type, dimension_id, metric,
    e.count, a.count, e.sum_value, a.sum_value, e.sum_value_business_hours, a.sum_value_business_hours
  from expected_rollup as e
  full join actual_rollup as a using (date, dimension_type, dimension_id, metric)
  where (e.count, e.sum_value, e.sum_value_business_hours) is distinct from (a.count, a.sum_value, a.sum_value_business_hours)

  union all
  select
    'ledger', coalesce(e.date, a.date), 'conversation', coalesce(e.conversation_id, a.conversation_id),
    coalesce(e.event_name, a.event_name)::text, e.count::bigint, a.count::bigint, null, null, null, null
  from expected_ledger as e
  full join (select l.* from kept_ledger as l cross join setting as s where s.clean @> l.date) as a
    on (e.event_name, e.conversation_id, e.date, coalesce(e.user_id, 0), coalesce(e.inbox_id, 0))
     = (a.event_name, a.conversation_id, a.date, coalesce(a.user_id, 0), coalesce(a.inbox_id, 0))
    and (e.user_id is null) = (a.user_id is null) and (e.inbox_id is null) = (a.inbox_id is null)
  where e.count is distinct from a.count

  union all
  select
    'previous_date', date, dimension_type, dimension_id, event_name::text,
    e.count, a.count::bigint, null, null, null, null
  from expected_cell as e
  full join kept_cell as a using (event_name, dimension_type, dimension_id, date, previous_date)
  where e.count is distinct from a.count
  order by 1, 2, 3, 4, 5
$$;
comment on function rollup.differences is
  'What verify returns for the days p_from to p_to, inclusive. p_pending, p_pending_cells: all pending deltas of the account, and how they '
  'change its previous dates.';

create or replace function rollup.verify(p_account_id int, p_from date default null, p_to date default null)
returns table (
  structure text, date date, dimension_type text, dimension_id bigint, metric text,
  expected_count bigint, actual_count bigint,
  expected_sum_value numeric, actual_sum_value numeric,
  expected_sum_value_business_hours numeric, actual_sum_value_business_hours numeric
)
language plpgsql stable
set plan_cache_mode = force_custom_plan
set jit = off
set enable_sort = off
set max_parallel_workers_per_gather = 0
set work_mem = '64MB'
set hash_mem_multiplier = 8 as $$
declare
  v_pending rollup.deltas[];
  v_pending_cells rollup.previous_dates[];
  v_piece record;
begin
  perform rollup.require('verify', jsonb_build_object('p_account_id', p_account_id));
  perform rollup.require_finite('verify', p_from, p_to);
  perform rollup.require_ordered('verify', p_from, p_to);
  perform rollup.require_timezone(p_account_id);
  v_pending := array(
    select d
    from rollup.deltas as d
    join rollup.account_settings as s on s.account_id = d.account_id and s.generation = d.generation
    where d.account_id = p_account_id
  );
  v_pending_cells := array(
    select c
    from rollup.previous_date_changes(p_account_id, array(select o from rollup.occurrences(v_pending) as o)) as c
  );
  for v_piece in select * from rollup.pieces(p_account_id, coalesce(p_from, '-infinity'), coalesce(p_to, 'infinity'))
  loop
    return query select d.* from rollup.differences(p_account_id, v_piece.from_date, v_piece.to_date, v_pending, v_pending_cells) as d;
  end loop;
end
$$;
comment on function rollup.verify(int, date, date) is
  'Recomputes the clean days of an account from its raw events, in one snapshot, and returns a row for each difference to what is kept, '
  'pending deltas counted as applied; none when exact. p_from, p_to: account-local dates, inclusive, NULL: open. structure: rollup, '
  'ledger (dimension_id is the conversation) or previous_date. Sums are seconds. Errors: RU002 no zone, RU003 reversed or infinite '
  'dates. Example: select * from rollup.verify(1);';

create or replace function rollup.repair(p_account_id int, p_from date default null, p_to date default null)
returns setof date
language plpgsql volatile
-- See rollup.backfill.
set lock_timeout = '300ms' as $$
declare
  v_dates date[];
  v_rebuilt date[] := '{}';
begin
  perform rollup.require('repair', jsonb_build_object('p_account_id', p_account_id));
  perform rollup.require_finite('repair', p_from, p_to);
  perform rollup.require_ordered('repair', p_from, p_to);
  -- The account's lock comes before the first look at the events: see lock_account.
  perform rollup.begin_rebuild('repair', p_account_id);
  if p_from is null and p_to is null and exists (
    select from rollup.dirty_marks as m where m.account_id = p_account_id and (m.date is null or not isfinite(m.date))
  ) then
    v_rebuilt := array(select distinct r.date from rollup.reporting_events_rollups as r where r.account_id = p_account_id);
    perform rollup.backfill(p_account_id);
    return query
      select d from unnest(v_rebuilt) as d
      union
      select r.date from rollup.reporting_events_rollups as r where r.account_id = p_account_id
      order by 1;
    return;
  end if;
  -- A rebuild adjusts the previous dates of later days by difference: from a damaged ledger it may leave some wrong, which the
  -- next round finds.
  for v_round in 1..5 loop
    v_dates := array(
      select v.date from rollup.verify(p_account_id, p_from, p_to) as v
      union
      select m.date
      from rollup.dirty_marks as m
      where m.account_id = p_account_id
        and m.date between coalesce(p_from, '-infinity') and coalesce(p_to, 'infinity')
        and isfinite(m.date)
      order by 1
    );
    exit when v_dates = '{}';
    if '{-infinity,infinity}' && v_dates then
      perform rollup.backfill(p_account_id);
    else
      perform rollup.backfill(p_account_id, lower(r.days), upper(r.days) - 1)
      from unnest((select range_agg(daterange(d, d, '[]')) from unnest(v_dates) as d)) as r (days);
    end if;
    v_rebuilt := v_rebuilt || v_dates;
  end loop;
  return query select distinct d from unnest(v_rebuilt) as d order by 1;
end
$$;
comment on function rollup.repair(int, date, date) is
  'Rebuilds the days of an account that differ from the raw events or are dirty, in one transaction, and returns them; all days if the '
  'account as a whole is dirty and no range is given. Writers leave deltas meanwhile. Errors as in rollup.backfill, whether or not '
  'something differs. Example: select rollup.repair(1);';

create or replace function rollup.record_verification(p_account_id int, p_differences bigint)
returns void
language sql volatile as $$
  update rollup.account_coverage as c
  set last_verified_at = now(), last_verification_differences = p_differences
  where c.account_id = p_account_id
$$;
comment on function rollup.record_verification(int, bigint) is
  'Notes in account_status how many differences a verification of all clean days has found; the command line does so.';
