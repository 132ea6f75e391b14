-- What the raw events of days say: their totals, their entries of the ledger, and how many there are.

create or replace function rollup.day_events(p_account_id int, p_event_names text[], p_timezone text, p_from date, p_to date)
returns table (
  date date, name text, user_id bigint, inbox_id bigint, conversation_id bigint,
  value double precision, value_in_business_hours double precision
)
language sql stable parallel safe as $$
  select d.*
  from (
    select
      rollup.local_date(e.created_at, p_timezone) as date,
      e.name, e.user_id, e.inbox_id, e.conversation_id, e.value, e.value_in_business_hours
    -- A local day lies within a day of the same UTC date; the bucket decides.
    from rollup.host_events(p_account_id, p_event_names, rollup.utc_midnight(p_from, -1), rollup.utc_midnight(p_to, 2)) as e
    -- Not to be pulled up, or every use of the day would compute it anew.
    offset 0
  ) as d
  -- As a case, since the planner takes a range of an expression for one row in two hundred.
  where case when p_from = '-infinity' and p_to = 'infinity' then d.date is not null else d.date between p_from and p_to end
$$;
comment on function rollup.day_events(int, text[], text, date, date) is
  'The raw events of an account''s days p_from to p_to (inclusive, infinite: open), with their day. One without created_at has none.';

create or replace function rollup.raw_totals(p_account_id int, p_timezone text, p_from date, p_to date)
returns setof rollup.reporting_events_rollups
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
declare
  v_columns text;
  v_sets text;
  v_types text;
  v_ids text;
begin
  select
    string_agg(format('rollup.dimension_id(%1$L, $1, e.user_id, e.inbox_id) as %1$I', t), ', '),
    string_agg(format('(%I)', t), ', '),
    string_agg(format('when grouping(%1$I) = 0 then %1$L', t), ' '),
    string_agg(format('when grouping(%1$I) = 0 then %1$I', t), ' ')
  into v_columns, v_sets, v_types, v_ids
  from unnest(rollup.dimension_types()) as t;
  -- Grouping sets rather than a row per dimension of every event: half the time. Built from the list of dimensions.
  return query execute format(
    $query$
      select $1, g.date, g.dimension_type, g.dimension_id, m.metric,
        m.count, m.sum_value, m.sum_value_business_hours, now(), m.count_value, m.count_value_business_hours
      from (
        select
          e.date, e.name, case %3$s end as dimension_type, case %4$s end as dimension_id,
          count(*) as count,
          rollup.seconds(sum(e.value)) as sum_value,
          rollup.seconds(sum(e.value_in_business_hours)) as sum_value_business_hours,
          count(e.value) as count_value,
          count(e.value_in_business_hours) as count_value_business_hours
        from (
          select
            e.date, e.name, rollup.microseconds(e.value) as value,
            rollup.microseconds(e.value_in_business_hours) as value_in_business_hours, %1$s
          from rollup.day_events($1, rollup.event_names(), $2, $3, $4) as e
          offset 0
        ) as e
        group by e.date, e.name, grouping sets (%2$s)
      ) as g
      cross join lateral rollup.metric_totals(
        g.name, g.count, g.sum_value, g.sum_value_business_hours, g.count_value, g.count_value_business_hours
      ) as m
      where g.dimension_id is not null
    $query$,
    v_columns, v_sets, v_types, v_ids
  ) using p_account_id, p_timezone, p_from, p_to;
end
$$;
comment on function rollup.raw_totals(int, text, date, date) is
  'The daily totals of an account''s days p_from to p_to (inclusive, infinite: open) as the raw events have them, distinct counts apart.';

create or replace function rollup.raw_ledger(p_account_id int, p_timezone text, p_from date, p_to date)
returns setof rollup.ledger
language sql stable parallel safe as $$
  select
    p_account_id, e.name::rollup.distinct_event, e.conversation_id, e.date, count(*)::int, e.user_id, e.inbox_id
  from rollup.day_events(p_account_id, rollup.distinct_event_names(), p_timezone, p_from, p_to) as e
  where e.conversation_id is not null
  group by 2, 3, 4, 6, 7
$$;
comment on function rollup.raw_ledger(int, text, date, date) is
  'The ledger of an account''s days p_from to p_to (inclusive, infinite: open) as the raw events have it.';

create or replace function rollup.events_of_utc_days(p_account_id int, p_from date, p_to date)
returns table (created_at timestamp)
language sql stable parallel safe as $$
  select e.created_at
  from rollup.host_events(p_account_id, rollup.event_names(), rollup.utc_midnight(p_from), rollup.utc_midnight(p_to, 1)) as e
  where e.created_at < rollup.utc_midnight(p_to, 1)
$$;
comment on function rollup.events_of_utc_days(int, date, date) is
  'The raw events of an account on the UTC days p_from to p_to, which are near enough to its own for deciding how many to take at once.';

create or replace function rollup.plan_chunks(p_account_id int, p_from date, p_to date, p_max_events bigint)
returns table (chunk int, from_date date, to_date date, events bigint)
language sql stable
set search_path = pg_catalog, pg_temp
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

create or replace function rollup.memory_chunk_events()
returns bigint
language sql immutable parallel safe
return 1000000::bigint;
comment on function rollup.memory_chunk_events() is
  'About how many raw events backfill and verify take at once: for these they need a few hundred MB of memory.';

create or replace function rollup.memory_chunks(p_account_id int, p_from date, p_to date)
returns table (from_date date, to_date date)
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
begin
  -- Seeing that there is nothing to cut is faster than looking where.
  if exists (select from rollup.events_of_utc_days(p_account_id, p_from, p_to) offset rollup.memory_chunk_events()) then
    return query
      select c.from_date, c.to_date from rollup.plan_chunks(p_account_id, p_from, p_to, rollup.memory_chunk_events()) as c;
  else
    return query select p_from, p_to;
  end if;
end
$$;
comment on function rollup.memory_chunks(int, date, date) is
  'The days p_from to p_to in chunks that fit into memory: see memory_chunk_events.';
