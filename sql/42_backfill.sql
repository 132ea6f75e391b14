-- Rebuilding days from the raw events: gather in one snapshot, replace, claim.

create or replace function rollup.days(p_from date, p_to date)
returns daterange
language sql immutable parallel safe as $$
  select daterange(nullif(p_from, '-infinity'), nullif(p_to, 'infinity'), '[]')
$$;
comment on function rollup.days(date, date) is 'The days p_from to p_to, inclusive; an infinite bound is an open one.';

create or replace function rollup.later_previous_date_changes(
  p_account_id int, p_from date, p_to date, p_occurrences rollup.ledger[]
)
returns rollup.previous_dates[]
language plpgsql stable
set plan_cache_mode = force_custom_plan as $$
begin
  if not exists (select from rollup.ledger as l where l.account_id = p_account_id and l.date > p_to) then
    return '{}';
  end if;
  return array(
    select c
    from rollup.previous_date_changes(
      p_account_id,
      array(
        select (p_account_id, o.event_name, o.conversation_id, o.date, o.count, o.user_id, o.inbox_id)::rollup.ledger
        from (
          select o.event_name, o.conversation_id, o.date, o.count, o.user_id, o.inbox_id
          from unnest(p_occurrences) as o
          union all
          select l.event_name, l.conversation_id, l.date, -l.count, l.user_id, l.inbox_id
          from rollup.ledger as l
          where l.account_id = p_account_id and l.date between p_from and p_to
        ) as o
        where (o.event_name, o.conversation_id) in (
          select l.event_name, l.conversation_id from rollup.ledger as l where l.account_id = p_account_id and l.date > p_to
        )
      )
    ) as c
    where c.date > p_to
  );
end
$$;
comment on function rollup.later_previous_date_changes(int, date, date, rollup.ledger[]) is
  'Before the ledger of p_from to p_to is replaced by p_occurrences: how the cells of later dates change by it.';

create or replace function rollup.rebuild(
  p_account_id int, p_from date, p_to date,
  out rows_written bigint, out events bigint, out claimed boolean
)
language plpgsql volatile
-- Bulk work whose size no cached plan can know.
set plan_cache_mode = force_custom_plan
set jit = off
-- The planner expects few groups, and would sort all events for them.
set enable_sort = off
-- One core is enough: the others are the host's.
set max_parallel_workers_per_gather = 0
set work_mem = '64MB'
set hash_mem_multiplier = 8 as $$
declare
  v_settings rollup.account_settings;
  v_deltas rollup.deltas[];
  v_occurrences rollup.ledger[];
  v_pending tid[];
  v_marks tid[];
  v_later rollup.previous_dates[];
  v_before rollup.ledger[];
  v_cells rollup.previous_dates[];
begin
  select * into v_settings from rollup.account_settings as s where s.account_id = p_account_id;
  claimed := rollup.await_old_writers(p_account_id);

  -- One snapshot for events, deltas and marks: a writer's event and its delta become visible together. Under the lock nobody
  -- else removes deltas, and nobody ever updates one, so their ctids hold.
  select
    array(
      select d
      from rollup.event_deltas(
        p_account_id, v_settings.generation, v_settings.reporting_timezone, p_from, p_to
      ) as d
    ),
    array(
      select o from rollup.event_occurrences(p_account_id, v_settings.reporting_timezone, p_from, p_to) as o
    ),
    array(
      select d.ctid from rollup.deltas as d
      where d.account_id = p_account_id
        and (d.date between p_from and p_to or d.generation < v_settings.generation)
    ),
    array(
      select m.ctid from rollup.dirty_marks as m
      where m.account_id = p_account_id and m.date between p_from and p_to
    )
  into v_deltas, v_occurrences, v_pending, v_marks;

  delete from rollup.deltas as d where d.ctid = any (v_pending);
  delete from rollup.dirty_marks as m where m.ctid = any (v_marks);

  v_later := rollup.later_previous_date_changes(p_account_id, p_from, p_to, v_occurrences);

  delete from rollup.ledger as l where l.account_id = p_account_id and l.date between p_from and p_to;
  insert into rollup.ledger
  select o.*
  from unnest(v_occurrences) as o
  -- Near enough to the order of the index, and four times as fast as by its columns.
  order by o.conversation_id;

  if p_from > '-infinity' then
    v_before := array(
      select l
      from rollup.ledger as l
      where l.account_id = p_account_id
        and l.date < p_from
        and (l.event_name, l.conversation_id) in (select o.event_name, o.conversation_id from unnest(v_occurrences) as o)
    );
  end if;

  -- From here on all is in arrays, which a custom plan would copy again and again.
  perform set_config('plan_cache_mode', 'force_generic_plan', true);
  v_cells := array(
    select c
    from rollup.previous_date_cells(p_account_id, v_occurrences || v_before) as c
    where c.date between p_from and p_to
  );
  delete from rollup.previous_dates as p where p.account_id = p_account_id and p.date between p_from and p_to;
  insert into rollup.previous_dates
  select c.*
  from unnest(v_cells) as c
  order by c.event_name, c.dimension_type, c.dimension_id, c.date, c.previous_date;
  perform rollup.apply_previous_dates(p_account_id, v_later);

  delete from rollup.reporting_events_rollups as r
  using rollup.dimensions(p_account_id, 0, 0) as dim, rollup.event_metric_list() as m
  where r.account_id = p_account_id
    and r.dimension_type = dim.dimension_type
    and r.metric = m.metric
    and r.date between p_from and p_to;
  insert into rollup.reporting_events_rollups
    (account_id, date, dimension_type, dimension_id, metric, count, sum_value, sum_value_business_hours, updated_at)
  select
    p_account_id, c.date, c.dimension_type, c.dimension_id, c.metric,
    c.count, trim_scale(c.sum_value), trim_scale(c.sum_value_business_hours), now()
  from rollup.rollup_changes(p_account_id, v_deltas, v_cells) as c
  -- As the index has them, for reads to find a series on few pages.
  order by c.dimension_type, c.metric, c.date, c.dimension_id;
  get diagnostics rows_written = row_count;

  events := (select coalesce(sum(d.count), 0) from unnest(v_deltas) as d);
  if claimed then
    update rollup.account_coverage as c
    set covered = c.covered + datemultirange(rollup.days(p_from, p_to))
    where c.account_id = p_account_id and c.generation = v_settings.generation;
  end if;
end
$$;
comment on function rollup.rebuild(int, date, date) is
  'Under the account''s lock: replaces the rollups, ledger and previous dates of the days p_from to p_to (inclusive; infinite: '
  'open) by what the raw events say, and claims the days as covered unless older transactions are still under way.';

create or replace function rollup.piece_events()
returns bigint
language sql immutable parallel safe as $$
  select 1000000::bigint
$$;
comment on function rollup.piece_events() is
  'About how many raw events backfill and verify take at once: for these they need a few hundred MB of memory.';

create or replace function rollup.events_of_utc_days(p_account_id int, p_from date, p_to date)
returns table (created_at timestamp)
language sql stable parallel safe as $$
  select e.created_at
  from public.reporting_events as e
  where e.account_id = p_account_id
    and e.name = any (rollup.event_names())
    and e.created_at >= rollup.utc_bound(p_from, 0)
    and e.created_at < rollup.utc_bound(p_to, 1)
$$;
comment on function rollup.events_of_utc_days(int, date, date) is
  'The raw events of an account on the UTC days p_from to p_to, which are near enough to its own for deciding how many to take at once.';

create or replace function rollup.plan_chunks(p_account_id int, p_from date, p_to date, p_max_events bigint)
returns table (chunk int, from_date date, to_date date, events bigint)
language sql stable
set jit = off
set enable_sort = off
set max_parallel_workers_per_gather = 0 as $$
  with day as (
    select e.created_at::date as date, count(*) as events
    from rollup.events_of_utc_days(p_account_id, p_from, p_to) as e
    group by 1
  ),
  -- A day belongs to the chunk in which the running sum before it falls.
  placed as (
    select d.date, d.events, floor((sum(d.events) over (order by d.date) - d.events) / p_max_events) as chunk
    from day as d
  ),
  filled as (
    select p.chunk, min(p.date) as from_date, sum(p.events)::bigint as events
    from placed as p
    group by 1
  )
  select
    row_number() over (order by f.from_date)::int,
    case when row_number() over (order by f.from_date) = 1 then p_from else f.from_date end,
    coalesce(lead(f.from_date) over (order by f.from_date) - 1, p_to),
    f.events
  from (select * from filled union all select 0, p_from, 0 where not exists (select from filled)) as f
  order by 1
$$;
comment on function rollup.plan_chunks(int, date, date, bigint) is
  'Cuts the days p_from to p_to into chunks that together are the whole range. A chunk has at most p_max_events raw events and those of '
  'its last day.';

create or replace function rollup.pieces(p_account_id int, p_from date, p_to date)
returns table (from_date date, to_date date)
language plpgsql stable as $$
begin
  -- Seeing that there is nothing to cut is faster than looking where.
  if exists (select from rollup.events_of_utc_days(p_account_id, p_from, p_to) offset rollup.piece_events()) then
    return query
      select c.from_date, c.to_date from rollup.plan_chunks(p_account_id, p_from, p_to, rollup.piece_events()) as c;
  else
    return query select p_from, p_to;
  end if;
end
$$;
comment on function rollup.pieces(int, date, date) is
  'The days p_from to p_to in pieces that fit into memory: see piece_events.';

create or replace function rollup.begin_rebuild(p_function text, p_account_id int, p_patience interval default '10 s')
returns bigint
language plpgsql volatile as $$
declare
  v_settings rollup.account_settings;
begin
  perform rollup.require_read_committed(p_function);
  perform rollup.require_timezone(p_account_id);
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
  v_settings := rollup.adopt_generation(p_account_id);
  -- The zone may have gone while we waited.
  perform rollup.require_timezone(p_account_id);
  return v_settings.generation;
end
$$;
comment on function rollup.begin_rebuild(text, int, interval) is
  'Checks what every rebuild needs, takes the account''s lock, clears what is of an old zone, and returns the generation. To come before '
  'anything that the transaction writes (see adopt_generation). Errors: RU002, RU004, RU005, RU006.';

create or replace function rollup.claim_later(p_account_id int, p_from date, p_to date)
returns void
language plpgsql volatile as $$
begin
  begin
    perform rollup.enqueue_backfill(p_account_id, nullif(p_from, '-infinity'), nullif(p_to, 'infinity'));
  exception when lock_not_available then
    -- By the lock_timeout of backfill. Somebody is changing the account's zone, and with that queues a backfill himself.
    null;
  end;
  raise notice 'account %: rebuilt, but transactions older than its time zone are still under way', p_account_id
    using hint = 'Until they end the days are read from raw events. A backfill is queued for the worker; or run it again later.';
end
$$;
comment on function rollup.claim_later(int, date, date) is
  'Tells that a rebuilt range could not be claimed yet, and queues it for the worker.';

create or replace function rollup.backfill(p_account_id int, p_from date default null, p_to date default null)
returns bigint
language plpgsql volatile
-- Once we hold the host's table, whoever has locked one of ours may be waiting for it, and must not be the deadlock's victim: see
-- lock_account.
set lock_timeout = '300ms' as $$
declare
  v_from date := coalesce(p_from, '-infinity');
  v_to date := coalesce(p_to, 'infinity');
  v_generation bigint;
  v_piece record;
  v_rebuilt record;
  v_rows bigint := 0;
  v_claimed boolean := true;
begin
  perform rollup.require('backfill', jsonb_build_object('p_account_id', p_account_id));
  perform rollup.require_finite('backfill', p_from, p_to);
  perform rollup.require_ordered('backfill', p_from, p_to);
  v_generation := rollup.begin_rebuild('backfill', p_account_id);
  if v_from = '-infinity' and v_to = 'infinity' then
    perform rollup.forget_account_marks(p_account_id);
  end if;
  for v_piece in select * from rollup.pieces(p_account_id, v_from, v_to)
  loop
    v_rebuilt := rollup.rebuild(p_account_id, v_piece.from_date, v_piece.to_date);
    v_rows := v_rows + v_rebuilt.rows_written;
    v_claimed := v_claimed and v_rebuilt.claimed;
  end loop;
  if v_claimed then
    perform rollup.settle_pending_backfill(p_account_id, v_generation, v_from, v_to, v_rows);
  else
    perform rollup.claim_later(p_account_id, v_from, v_to);
  end if;
  return v_rows;
end
$$;
comment on function rollup.backfill(int, date, date) is
  'Rebuilds the days p_from to p_to of an account from its raw events, atomically, and returns the number of rows of '
  'reporting_events_rollups written. Both are account-local dates, inclusive; NULL: from the first, through the last event on; both '
  'NULL: the whole history, and the trigger keeps days to come complete. Writers go on meanwhile. Large histories are better given '
  'to enqueue_backfill. Errors: RU002 no zone, RU003 reversed or infinite dates, RU004 not read committed, RU005 a second account in '
  'one transaction, RU006 the account''s lock not granted within 10 s (half a second if the transaction has locked something of the host, see holds_host_lock), '
  '55P03 one of our tables locked. Example: select rollup.backfill(1, ''2026-01-01'', ''2026-01-31'');';

create or replace function rollup.backfill_date(p_account_id int, p_date date)
returns bigint
language plpgsql volatile as $$
begin
  perform rollup.require('backfill_date', jsonb_build_object('p_account_id', p_account_id, 'p_date', p_date));
  return rollup.backfill(p_account_id, p_date, p_date);
end
$$;
comment on function rollup.backfill_date(int, date) is
  'Rebuilds one account-local day from the raw events, atomically, and returns the number of rows of reporting_events_rollups written. '
  'Errors as in rollup.backfill. Example: select rollup.backfill_date(1, ''2026-02-11'');';
