-- Reports: exact at any moment, in O(days) where rollups are complete. Each is one snapshot: stable functions see what their caller
-- sees. They read with the rights of their owner, so a reader needs to be granted these and nothing else. What they set is for plans
-- that outlive what they were made for: tables that were empty, estimates of how many raw events there are to sort.

create or replace function rollup.timeseries(
  p_account_id int, p_metric text, p_since timestamptz, p_until timestamptz, p_group_by text default 'day',
  p_dimension_type text default 'account', p_dimension_id bigint default null,
  p_business_hours boolean default false, p_timezone text default null
)
returns table (period_start timestamptz, value numeric, count bigint)
language plpgsql stable
security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set jit = off
set enable_seqscan = off
set enable_sort = off as $$
declare
  v_read rollup.read := rollup.prepare_read(
    'timeseries', p_account_id, p_since, p_until, p_group_by, p_timezone, p_dimension_type, p_dimension_id, p_business_hours
  );
  v_metric record := rollup.read_metric(p_metric);
begin
  perform rollup.require_dimension_id('timeseries', v_read);
  v_read := rollup.choose_sources(v_read, v_metric.is_distinct, v_metric.why_raw);
  return query
    select
      rollup.period_start(p.period, p_group_by, v_read.timezone),
      case when t.period is null then 0 else t.value end,
      coalesce(t.count, 0)
    from rollup.periods(p_since, p_until, p_group_by, v_read.timezone) as p (period)
    left join rollup.period_values(v_read, v_metric.aggregate, v_metric.event_name, v_metric.metric, v_metric.is_distinct) as t
      on t.period = p.period
    order by p.period;
end
$$;
comment on function rollup.timeseries(int, text, timestamptz, timestamptz, text, text, bigint, boolean, text) is
  'A report metric over [p_since, p_until) by local period: hour, day, week (from Sunday), month, quarter or year; a row for every '
  'period touched, at most 100,000; one without events is 0. period_start: its local beginning. value: the count; or the average, median '
  'or 90th percentile in seconds of the events that have the value, unrounded, NULL where events have none; or the rate in percent. '
  'count: the events, or the conversations where these are counted; what a rate divides by. bot_resolutions_net_count and rates depend '
  'on the whole range: a hand-off anywhere in it takes away its conversation''s bot resolutions. p_metric: see rollup.report_metrics. p_dimension_type: account, agent or inbox, the latter two with '
  'p_dimension_id. p_business_hours: of value_in_business_hours. p_timezone: IANA name, NULL: the account''s, or UTC. Exact at any '
  'moment; rollup.read_plan tells what it reads. Errors: RU001 zone, RU003 range, RU007 unknown account, RU008 unknown name, RU009 '
  'missing argument, RU011 row level security, RU014 raw events of purged days are needed. '
  'Example: select * from rollup.timeseries(1, ''resolutions_count'', ''2026-01-01'', ''2027-01-01'', ''month'');';

create or replace function rollup.aggregate(
  p_account_id int, p_metric text, p_since timestamptz, p_until timestamptz,
  p_dimension_type text default 'account', p_dimension_id bigint default null,
  p_business_hours boolean default false, p_timezone text default null
)
returns table (value numeric, count bigint)
language plpgsql stable
security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set jit = off
set enable_seqscan = off
set enable_sort = off as $$
declare
  v_read rollup.read := rollup.prepare_read(
    'aggregate', p_account_id, p_since, p_until, 'range', p_timezone, p_dimension_type, p_dimension_id, p_business_hours
  );
  v_metric record := rollup.read_metric(p_metric);
begin
  perform rollup.require_dimension_id('aggregate', v_read);
  v_read := rollup.choose_sources(v_read, v_metric.is_distinct, v_metric.why_raw);
  return query
    select coalesce(t.value, case when v_metric.aggregate like '%count' then 0 end), coalesce(t.count, 0)
    from (values (p_account_id)) as a (account_id)
    left join rollup.period_values(v_read, v_metric.aggregate, v_metric.event_name, v_metric.metric, v_metric.is_distinct) as t on true;
end
$$;
comment on function rollup.aggregate(int, text, timestamptz, timestamptz, text, bigint, boolean, text) is
  'A report metric over [p_since, p_until) as one number: the count (0 without events); the average, median or 90th percentile in '
  'seconds (NULL where no event has the value), or the rate in percent (NULL where there is nothing to divide by). Distinct '
  'conversations are counted once for the whole range. Arguments and errors as in rollup.timeseries. '
  'Example: select * from rollup.aggregate(1, ''bot_handoffs_count'', ''2026-01-01'', ''2026-02-01'');';

create or replace function rollup.summary(
  p_account_id int, p_dimension_type text, p_since timestamptz, p_until timestamptz,
  p_business_hours boolean default false, p_timezone text default null
)
returns table (
  dimension_id bigint, resolved_conversations_count bigint,
  avg_resolution_time numeric, avg_first_response_time numeric, avg_reply_time numeric
)
language plpgsql stable
security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set jit = off
set enable_seqscan = off
set enable_sort = off as $$
declare
  v_read rollup.read := rollup.choose_sources(
    rollup.prepare_read(
      'summary', p_account_id, p_since, p_until, 'range', p_timezone, p_dimension_type, p_business_hours => p_business_hours
    ),
    false
  );
begin
  if p_dimension_type <> 'account' then
    v_read.first_dimension_id := -9223372036854775808;
    v_read.last_dimension_id := 9223372036854775807;
  end if;
  return query
    with total as materialized (
      select m.event_name, t.*
      from rollup.event_metric_list() as m
      cross join lateral rollup.read_totals(v_read, m.event_name, m.metric) as t
      -- A duration counts the same events as the count of the same event, so it will do for both.
      where m.payload = 'duration'
    ),
    figure as (
      select t.dimension_id, r.summary_key, rollup.value(r.aggregate, t.count, t.sum_value, t.count_value) as value
      from total as t
      join rollup.report_metric_list() as r on r.event_name = t.event_name
      where r.summary_key is not null
    )
    select
      f.dimension_id,
      coalesce(max(f.value) filter (where f.summary_key = 'resolved_conversations_count'), 0)::bigint,
      max(f.value) filter (where f.summary_key = 'avg_resolution_time'),
      max(f.value) filter (where f.summary_key = 'avg_first_response_time'),
      max(f.value) filter (where f.summary_key = 'avg_reply_time')
    from figure as f
    group by 1
    order by 1;
end
$$;
comment on function rollup.summary(int, text, timestamptz, timestamptz, boolean, text) is
  'A row per agent, inbox or account that has any of these events in [p_since, p_until), ordered by its id. Times are averages in '
  'seconds of the events that have the value, NULL where none has. Arguments and errors as in rollup.timeseries. '
  'Example: select * from rollup.summary(1, ''agent'', ''2026-01-01'', ''2026-02-01'');';

create or replace function rollup.heat_map(
  p_account_id int, p_metric text, p_since timestamptz, p_until timestamptz,
  p_dimension_type text default 'account', p_dimension_id bigint default null, p_timezone text default null
)
returns table (weekday int, hour int, count bigint)
language plpgsql stable
security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set jit = off
set enable_seqscan = off
set enable_sort = off as $$
declare
  v_read rollup.read := rollup.prepare_read(
    'heat_map', p_account_id, p_since, p_until, 'range', p_timezone, p_dimension_type, p_dimension_id
  );
  v_event_name text := (select m.event_name from rollup.read_metric(p_metric) as m);
begin
  perform rollup.require_dimension_id('heat_map', v_read);
  v_read := rollup.choose_sources(v_read, false, 'by hour');
  return query
    select w.weekday, h.hour, coalesce(t.count, 0)
    from generate_series(0, 6) as w (weekday)
    cross join generate_series(0, 23) as h (hour)
    left join (
      select extract(dow from e.local)::int as weekday, extract(hour from e.local)::int as hour, count(*) as count
      from (
        select r.created_at at time zone 'UTC' at time zone v_read.timezone as local
        from rollup.raw_rows(v_read, v_event_name) as r
        offset 0
      ) as e
      group by 1, 2
    ) as t on t.weekday = w.weekday and t.hour = h.hour
    order by 1, 2;
end
$$;
comment on function rollup.heat_map(int, text, timestamptz, timestamptz, text, bigint, text) is
  'The events of a report metric in [p_since, p_until) by weekday (0: Sunday) and hour of the local clock, from raw events: 168 rows. '
  'For metrics of conversations, averages and rates too it is events that are counted. Arguments and errors as in rollup.timeseries. '
  'Example: select * from rollup.heat_map(1, ''resolutions_count'', ''2026-01-01'', ''2026-04-01'');';
