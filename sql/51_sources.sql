-- The sources of a read (50_read_plan): rollups, pending deltas and raw events, and how they come together. A row for every period and
-- dimension that has events.

create or replace function rollup.rollup_rows(p_read rollup.read, p_metric text)
returns table (date date, dimension_id bigint, count bigint, sum_value numeric, count_value bigint)
language sql stable parallel safe as $$
  select r.*
  from unnest((p_read).rollup_days) as days
  cross join lateral (
    select
      t.date, t.dimension_id, t.count,
      case when (p_read).business_hours then t.sum_value_business_hours else t.sum_value end,
      case when (p_read).business_hours then t.count_value_business_hours else t.count_value end
    from rollup.reporting_events_rollups as t
    where t.account_id = (p_read).account_id
      and t.dimension_type = (p_read).dimension_type
      and t.metric = p_metric
      and t.dimension_id between (p_read).first_dimension_id and (p_read).last_dimension_id
      and t.date >= lower(days) and t.date < upper(days)
    -- An index scan for each piece: joined, the whole history would be read once.
    offset 0
  ) as r
$$;
comment on function rollup.rollup_rows(rollup.read, text) is 'The daily totals of a metric in the rollups.';

create or replace function rollup.pending_sums(p_read rollup.read, p_event_name text)
returns table (date date, dimension_id bigint, count bigint, sum_value numeric, count_value bigint)
language sql stable parallel safe as $$
  select d.date, d.dimension_id, d.count::bigint, d.sum_value, d.count_value::bigint
  from unnest((p_read).rollup_days) as days
  cross join lateral (
    select
      p.date, rollup.dimension_id((p_read).dimension_type, p.account_id, p.user_id, p.inbox_id) as dimension_id, sum(p.count) as count,
      sum(case when (p_read).business_hours then p.sum_value_business_hours else p.sum_value end) as sum_value,
      sum(case when (p_read).business_hours then p.count_value_business_hours else p.count_value end) as count_value
    from rollup.pending_deltas((p_read).account_id) as p
    where p.event_name = p_event_name
      and p.date >= lower(days) and p.date < upper(days)
    group by 1, 2
  ) as d
  where d.dimension_id between (p_read).first_dimension_id and (p_read).last_dimension_id
$$;
comment on function rollup.pending_sums(rollup.read, text) is
  'What the pending deltas of an event name add to the days that are taken from rollups.';

create or replace function rollup.pending_conversations(p_read rollup.read, p_event_name text)
returns table (date date, conversation_id bigint, count bigint)
language sql stable parallel safe as $$
  select d.date, d.conversation_id, d.count::bigint
  from unnest((p_read).rollup_days) as days
  cross join lateral (
    select p.date, p.conversation_id, sum(p.count) as count
    from rollup.pending_deltas((p_read).account_id) as p
    where p.event_name = p_event_name
      and p.conversation_id is not null
      and p.date >= lower(days) and p.date < upper(days)
      and rollup.dimension_id((p_read).dimension_type, p.account_id, p.user_id, p.inbox_id) = (p_read).first_dimension_id
    group by 1, 2
    having sum(p.count) <> 0
  ) as d
$$;
comment on function rollup.pending_conversations(rollup.read, text) is
  'Signed counts of the events that conversations have in the pending deltas of the days that are taken from rollups, in one dimension.';

create or replace function rollup.raw_rows(p_read rollup.read, p_event_name text)
returns table (
  period timestamp, dimension_id bigint, conversation_id bigint, sign int, value bigint, seconds double precision, created_at timestamp
)
language sql stable parallel safe as $$
  select
    rollup.event_period(e.created_at, q.group_by, q.timezone), e.dimension_id, e.conversation_id, part.sign,
    rollup.microseconds(case when q.business_hours then e.value_in_business_hours else e.value end),
    case when q.business_hours then e.value_in_business_hours else e.value end, e.created_at
  -- Field by field once, not for each event.
  from (select (p_read).* offset 0) as q
  cross join lateral (
    select
      1 as sign, days,
      greatest(q.since at time zone 'UTC', rollup.scan_bound(lower(days), q.timezone, '-2 days')) as first,
      least(q.until at time zone 'UTC', rollup.scan_bound(upper(days), q.timezone, '2 days')) as until
    from unnest(q.raw_days) as days
    union all
    select
      -1, daterange(q.shortened_day, q.shortened_day, '[]'), q.until at time zone 'UTC',
      rollup.scan_bound(q.shortened_day + 1, q.timezone, '2 days')
    where q.shortened_day is not null
  ) as part
  cross join lateral (
    select
      r.created_at, r.conversation_id, r.value, r.value_in_business_hours,
      rollup.dimension_id(q.dimension_type, q.account_id, r.user_id, r.inbox_id) as dimension_id
    from rollup.host_events(q.account_id, array[p_event_name], part.first, part.until) as r
    where r.name = p_event_name and r.created_at < part.until
    -- Keeps the bounds in the index scan of each part.
    offset 0
  ) as e
  where e.dimension_id between q.first_dimension_id and q.last_dimension_id
    and (part.days = '(,)' or rollup.local_date(e.created_at, q.timezone) <@ part.days)
$$;
comment on function rollup.raw_rows(rollup.read, text) is
  'The raw events of an event name that a read takes as they are; sign -1: those that it takes off the last of its days. value: in '
  'microseconds, NULL if there is none; seconds: as it stands there.';

create or replace function rollup.raw_sums(p_read rollup.read, p_event_name text)
returns table (period timestamp, dimension_id bigint, count bigint, sum_value numeric, count_value bigint)
language sql stable parallel safe as $$
  select
    e.period, e.dimension_id, sum(e.sign)::bigint, rollup.seconds(sum(e.sign * e.value)),
    coalesce(sum(e.sign) filter (where e.value is not null), 0)::bigint
  from rollup.raw_rows(p_read, p_event_name) as e
  group by 1, 2
$$;
comment on function rollup.raw_sums(rollup.read, text) is
  'Counts, sums of values and how many had a value, of the raw events that a read takes as they are.';

create or replace function rollup.read_totals(p_read rollup.read, p_event_name text, p_metric text)
returns table (period timestamp, dimension_id bigint, count bigint, sum_value numeric, count_value bigint)
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
declare
  -- Asked for every row.
  v_range boolean := p_read.group_by = 'range';
begin
  return query
    with stored as (
      -- A day has one row, which adding up would take as long as reading it.
      select r.date::timestamp as period, r.dimension_id, r.count, r.sum_value, r.count_value
      from rollup.rollup_rows(p_read, p_metric) as r
      where p_read.group_by = 'day'
      union all
      select
        case when v_range then timestamp '-infinity' else rollup.period(r.date, p_read.group_by)::timestamp end, r.dimension_id,
        sum(r.count)::bigint, sum(r.sum_value), sum(r.count_value)::bigint
      from rollup.rollup_rows(p_read, p_metric) as r
      where p_read.group_by <> 'day'
      group by 1, 2
    ),
    other as (
      select o.period, o.dimension_id, sum(o.count)::bigint as count, sum(o.sum_value) as sum_value, sum(o.count_value)::bigint as count_value
      from (
        select rollup.period(d.date, p_read.group_by)::timestamp as period, d.dimension_id, d.count, d.sum_value, d.count_value
        from rollup.pending_sums(p_read, p_event_name) as d
        union all
        select e.period, e.dimension_id, e.count, e.sum_value, e.count_value
        from rollup.raw_sums(p_read, p_event_name) as e
      ) as o
      group by 1, 2
    )
    select *
    from (
      select
        coalesce(s.period, o.period), coalesce(s.dimension_id, o.dimension_id),
        coalesce(s.count, 0) + coalesce(o.count, 0) as count,
        coalesce(s.sum_value, 0) + coalesce(o.sum_value, 0),
        coalesce(s.count_value, 0) + coalesce(o.count_value, 0)
      from stored as s
      full join other as o on o.period = s.period and o.dimension_id = s.dimension_id
    ) as t
    where t.count <> 0;
end
$$;
comment on function rollup.read_totals(rollup.read, text, text) is
  'Counts, sums of values and how many had a value, of the events of a metric that add up.';

create or replace function rollup.read_conversations(p_read rollup.read, p_event_name text)
returns table (period timestamp, count bigint)
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
declare
  v_event_name rollup.distinct_event;
begin
  if p_read.rollup_days = '{}' then
    return query
      select r.period, count(*)
      from (
        select distinct e.period, e.conversation_id
        from rollup.raw_rows(p_read, p_event_name) as e
        where e.conversation_id is not null
      ) as r
      group by 1;
    return;
  end if;
  -- An event that is not remembered has no such name.
  v_event_name := p_event_name;
  return query
    with event as materialized (
      select e.period, e.conversation_id, e.sign from rollup.raw_rows(p_read, p_event_name) as e where e.conversation_id is not null
    ),
    pending as materialized (
      select d.date, d.conversation_id, d.count from rollup.pending_conversations(p_read, p_event_name) as d
      union all
      -- What comes after the end of the last day goes, as if it were deleted.
      select p_read.shortened_day, e.conversation_id, -count(*) from event as e where e.sign < 0 group by 2
    ),
    raw as materialized (
      select distinct e.period, e.conversation_id from event as e where e.sign > 0
    ),
    -- What the ledger and the pending deltas have of those that come, go or may be there already.
    dated as (
      select o.date, o.conversation_id, sum(o.stored) as stored, sum(o.stored + o.pending) as total
      from (
        select l.date, l.conversation_id, l.count as stored, 0 as pending
        from (select p.conversation_id from pending as p union select r.conversation_id from raw as r) as wanted
        cross join lateral (
          select c.date, c.conversation_id, c.count, rollup.dimension_id(p_read.dimension_type, p_read.account_id, c.user_id, c.inbox_id) as dimension_id
          from rollup.ledger as c
          where c.account_id = p_read.account_id and c.event_name = v_event_name and c.conversation_id = wanted.conversation_id
          -- Looked up one by one.
          offset 0
        ) as l
        where l.date <@ p_read.rollup_days and l.dimension_id = p_read.first_dimension_id
        union all
        select p.date, p.conversation_id, 0, p.count from pending as p
      ) as o
      group by 1, 2
    ),
    changed as (
      select c.period, bool_or(c.before) as before, bool_or(c.after) as after
      from (
        select rollup.period(d.date, p_read.group_by)::timestamp as period, d.conversation_id, d.stored > 0 as before, d.total > 0 as after
        from dated as d
        union all
        select r.period, r.conversation_id, false, true from raw as r
      ) as c
      group by c.period, c.conversation_id
    )
    select t.period, sum(t.count)::bigint
    from (
      select rollup.period(p.date, p_read.group_by)::timestamp as period, p.count
      from unnest(p_read.rollup_days) as days
      cross join lateral (
        select c.date, c.previous_date, c.count
        from rollup.previous_dates as c
        where c.account_id = p_read.account_id
          and c.event_name = v_event_name
          and c.dimension_type = p_read.dimension_type
          and c.dimension_id = p_read.first_dimension_id
          and c.date >= lower(days) and c.date < upper(days)
          and c.previous_date < case when p_read.group_by = 'range' then lower(days) else upper(days) end
        offset 0
      ) as p
      -- A conversation counts in a period on the first of its dates there.
      where p.previous_date < greatest(lower(days), rollup.period(p.date, p_read.group_by))
      union all
      select c.period, c.after::int - c.before::int from changed as c
    ) as t
    group by 1
    having sum(t.count) <> 0;
end
$$;
comment on function rollup.read_conversations(rollup.read, text) is
  'Distinct conversations that have an event of a name, of one dimension: those of the rollups, and the difference that pending deltas '
  'and raw events make. What happens outside a period makes none.';

create or replace function rollup.value(p_aggregate text, p_count bigint, p_sum_value numeric, p_count_value bigint)
returns numeric
language sql immutable parallel safe
-- The digits of a quotient are at least those of the dividend.
return case p_aggregate when 'average' then trim_scale(round(p_sum_value, 24) / nullif(p_count_value, 0)) else coalesce(p_count, 0) end;
comment on function rollup.value(text, bigint, numeric, bigint) is
  'The value of a report metric: the count, or the average of the events that have a value; NULL where none has.';

create or replace function rollup.read_percentiles(p_read rollup.read, p_event_name text, p_fraction double precision)
returns table (period timestamp, value numeric, count bigint)
language plpgsql stable
set search_path = pg_catalog, pg_temp
-- The cast to numeric that keeps every digit goes through text.
set extra_float_digits = 1 as $$
begin
  return query
    select
      e.period,
      (percentile_cont(p_fraction) within group (order by e.seconds) filter (where e.value is not null))::text::numeric,
      count(*)
    from rollup.raw_rows(p_read, p_event_name) as e
    group by 1;
end
$$;
comment on function rollup.read_percentiles(rollup.read, text, double precision) is
  'percentile_cont of the values, in seconds, of the raw events that have one, NULL where none has; count: all events.';

create or replace function rollup.read_bot_outcomes(p_read rollup.read)
returns table (period timestamp, resolutions bigint, handoffs bigint)
language plpgsql stable
set search_path = pg_catalog, pg_temp
-- How many events there are is not known when it is planned.
set enable_nestloop = off as $$
begin
  return query
    with handoff as materialized (
      select distinct e.period, e.conversation_id
      from rollup.raw_rows(p_read, 'conversation_bot_handoff') as e
      where e.conversation_id is not null
    )
    select o.period, sum(o.resolutions)::bigint, sum(o.handoffs)::bigint
    from (
      select e.period, count(*) as resolutions, 0 as handoffs
      from rollup.raw_rows(p_read, 'conversation_bot_resolved') as e
      -- Of any period.
      where not exists (select from handoff as h where h.conversation_id = e.conversation_id)
      group by 1
      union all
      select h.period, 0, count(*) from handoff as h group by 1
    ) as o
    group by 1;
end
$$;
comment on function rollup.read_bot_outcomes(rollup.read) is
  'From raw events: the bot''s resolutions of conversations that have no hand-off in the range and dimension, or none at all, and the '
  'distinct conversations handed off.';

create or replace function rollup.period_values(p_read rollup.read, p_aggregate text, p_event_name text, p_metric text, p_distinct boolean)
returns table (period timestamp, value numeric, count bigint)
language sql stable as $$
  select t.period, rollup.value(p_aggregate, t.count, t.sum_value, t.count_value), t.count
  from rollup.read_totals(p_read, p_event_name, p_metric) as t
  where p_aggregate in ('count', 'average') and not p_distinct
  union all
  select c.period, c.count, c.count
  from rollup.read_conversations(p_read, p_event_name) as c
  where p_distinct
  union all
  select e.period, e.value, e.count
  from rollup.read_percentiles(p_read, p_event_name, case p_aggregate when 'median' then 0.5 else 0.9 end) as e
  where p_aggregate in ('median', 'p90')
  union all
  select b.period, b.resolutions, b.resolutions
  from rollup.read_bot_outcomes(p_read) as b
  where p_aggregate = 'net count'
  union all
  select
    b.period,
    rollup.value(
      'average', null, case p_event_name when 'conversation_bot_handoff' then b.handoffs else b.resolutions end * 100.0,
      b.resolutions + b.handoffs
    ),
    b.resolutions + b.handoffs
  from rollup.read_bot_outcomes(p_read) as b
  where p_aggregate = 'rate'
$$;
comment on function rollup.period_values(rollup.read, text, text, text, boolean) is
  'A report metric, described as by read_metric, of one dimension, in the periods that have events of it.';
