-- Reports: exact at any moment, in O(days) where rollups are complete. Each is one snapshot: stable functions see what their
-- caller sees.

create or replace function rollup.read_metric(p_metric text)
returns table (aggregate text, event_name text, metric text, payload text)
language plpgsql immutable parallel safe as $$
begin
  return query
    select r.aggregate, r.event_name, r.metric, m.payload
    from rollup.report_metric_list() as r
    join rollup.event_metric_list() as m on m.metric = r.metric
    where r.report_metric = p_metric;
  if not found then
    raise exception using
      errcode = case when p_metric is null then 'RU009' else 'RU008' end,
      message = case
        when p_metric is null then 'a metric is needed'
        when exists (select from rollup.report_metric_list() as r where r.report_metric = p_metric)
          then format('the metric "%s" does not come from reporting events, so there are no rollups of it', p_metric)
        else format('unknown metric "%s"', p_metric)
      end,
      hint = format(
        'It is one of %s.',
        (select string_agg(r.report_metric, ', ') from rollup.report_metric_list() as r where r.metric is not null)
      );
  end if;
end
$$;
comment on function rollup.read_metric(text) is
  'What a report metric is made of. Raises RU008 for an unknown one, RU009 for NULL.';

create or replace function rollup.require_known_account(p_account_id int)
returns void
language plpgsql stable as $$
declare
  v_known boolean;
begin
  v_known := exists (select from rollup.account_settings as s where s.account_id = p_account_id)
    or exists (select from public.reporting_events as e where e.account_id = p_account_id);
  if not v_known and to_regclass('public.accounts') is not null then
    execute 'select exists (select from public.accounts as a where a.id = $1)' into v_known using p_account_id;
  end if;
  if not v_known then
    raise exception using
      errcode = 'RU007',
      message = format('there is no account %s', p_account_id),
      hint = 'Accounts that have settings or events: select account_id from rollup.account_settings; or look into public.accounts.';
  end if;
end
$$;
comment on function rollup.require_known_account(int) is
  'Raises RU007 for an account without settings, events and a row in public.accounts.';

create or replace function rollup.check_read(
  p_function text, p_account_id int, p_since timestamptz, p_until timestamptz,
  p_dimension_type text, p_dimension_id bigint, p_group_by text, p_timezone text
)
returns text
language plpgsql stable as $$
declare
  v_settings rollup.account_settings;
begin
  if p_account_id is null or p_since is null or p_until is null or p_dimension_type is null or p_group_by is null then
    perform rollup.require(p_function, jsonb_build_object(
      'p_account_id', p_account_id, 'p_since', p_since, 'p_until', p_until,
      'p_dimension_type', p_dimension_type, 'p_group_by', p_group_by
    ));
  end if;
  if not isfinite(p_since) or not isfinite(p_until) or p_since > p_until then
    raise exception using
      errcode = 'RU003',
      message = format(
        'rollup.%s: the range from %s to %s is %s', p_function, p_since, p_until,
        case when p_since > p_until then 'reversed' else 'not finite' end
      ),
      hint = 'Pass the earlier timestamp first; p_since is included, p_until is not.';
  end if;
  if p_group_by not in ('hour', 'day', 'week', 'month', 'quarter', 'year', 'range') then
    raise exception using
      errcode = 'RU008',
      message = format('cannot group by "%s"', p_group_by),
      hint = 'It is one of hour, day, week, month, quarter, year.';
  end if;
  if p_dimension_type not in ('account', 'agent', 'inbox') then
    raise exception using
      errcode = 'RU008',
      message = format('unknown dimension "%s"', p_dimension_type),
      hint = 'It is one of account, agent, inbox.';
  end if;

  select * into v_settings from rollup.account_settings as s where s.account_id = p_account_id;
  if v_settings.account_id is null then
    perform rollup.require_known_account(p_account_id);
  end if;
  return case
    when p_timezone is null then coalesce(v_settings.reporting_timezone, 'UTC')
    when p_timezone in (v_settings.reporting_timezone, 'UTC') then p_timezone
    else rollup.find_timezone(p_timezone)
  end;
end
$$;
comment on function rollup.check_read(text, int, timestamptz, timestamptz, text, bigint, text, text) is
  'Checks the arguments of a read and returns the time zone that it is in. Errors: RU001, RU003, RU007, RU008, RU009.';

create or replace function rollup.require_dimension_id(
  p_function text, p_account_id int, p_dimension_type text, p_dimension_id bigint
)
returns bigint
language plpgsql immutable as $$
begin
  if p_dimension_type = 'account' then
    if p_dimension_id <> p_account_id then
      raise exception using
        errcode = 'RU008',
        message = format('rollup.%s: the id of the dimension account is the account itself, not %s', p_function, p_dimension_id),
        hint = 'Leave p_dimension_id out for the account, or pass p_dimension_type => ''agent'' or ''inbox''.';
    end if;
    return p_account_id;
  end if;
  if p_dimension_id is null then
    raise exception using
      errcode = 'RU009',
      message = format('rollup.%s: the dimension %s needs an id', p_function, p_dimension_type),
      hint = format('Pass p_dimension_id => the id of the %s.', p_dimension_type);
  end if;
  return p_dimension_id;
end
$$;
comment on function rollup.require_dimension_id(text, int, text, bigint) is
  'The id to read; raises RU009 for an agent or inbox without one, RU008 for an account with another''s.';

create or replace function rollup.pending(p_account_id int, p_event_names text[])
returns rollup.deltas[]
language sql stable as $$
  select array(
    select d
    from rollup.deltas as d
    join rollup.account_settings as s on s.account_id = d.account_id and s.generation = d.generation
    where d.account_id = p_account_id and d.event_name = any (p_event_names)
  )
$$;
comment on function rollup.pending(int, text[]) is 'The pending deltas of the present generation of an account.';

create or replace function rollup.gaps(p_days datemultirange, p_since timestamptz, p_until timestamptz, p_timezone text)
returns datemultirange
language sql immutable parallel safe as $$
  select datemultirange(rollup.touched_days(p_since, p_until, p_timezone)) - p_days
$$;
comment on function rollup.gaps(datemultirange, timestamptz, timestamptz, text) is
  'The local days that [p_since, p_until) touches, less p_days.';

create or replace function rollup.raw_events(
  p_account_id int, p_event_names text[], p_since timestamptz, p_until timestamptz, p_gaps datemultirange, p_timezone text
)
returns table (
  event_name text, created_at timestamp, date date, user_id bigint, inbox_id bigint, conversation_id bigint,
  value double precision, value_in_business_hours double precision
)
language sql stable as $$
  select
    n.name, e.created_at, e.date, e.user_id::bigint, e.inbox_id::bigint, e.conversation_id::bigint, e.value, e.value_in_business_hours
  from unnest(p_gaps) as gap
  cross join unnest(p_event_names) as n (name)
  cross join lateral (
    select
      r.created_at, rollup.local_date(r.created_at, p_timezone) as date,
      r.user_id, r.inbox_id, r.conversation_id, r.value, r.value_in_business_hours
    from public.reporting_events as r
    where r.account_id = p_account_id
      and r.name = n.name
      and r.created_at >= greatest(p_since at time zone 'UTC', lower(gap) - 1)
      and r.created_at < least(p_until at time zone 'UTC', upper(gap) + 1)
    -- Keeps the bounds in the index scan of each gap.
    offset 0
  ) as e
  where e.date <@ gap
$$;
comment on function rollup.raw_events(int, text[], timestamptz, timestamptz, datemultirange, text) is
  'The raw events in [p_since, p_until) whose local day lies in p_gaps.';

create or replace function rollup.event_period(p_created_at timestamp, p_date date, p_group_by text, p_timezone text)
returns timestamp
language sql immutable parallel safe as $$
  select case p_group_by
    when 'hour' then date_trunc('hour', p_created_at at time zone 'UTC', p_timezone) at time zone 'UTC'
    else rollup.period(p_date, p_group_by)::timestamp
  end
$$;
comment on function rollup.event_period(timestamp, date, text, text) is
  'The beginning of the period of an event: of an hour in UTC, for clocks may repeat it, of others in local time.';

create or replace function rollup.period_start(p_period timestamp, p_group_by text, p_timezone text)
returns timestamptz
language sql immutable parallel safe as $$
  select p_period at time zone case p_group_by when 'hour' then 'UTC' else p_timezone end
$$;
comment on function rollup.period_start(timestamp, text, text) is 'The instant at which a period, as event_period names it, begins.';

create or replace function rollup.in_dimension(p_dimension_type text, p_dimension_id bigint, p_user_id bigint, p_inbox_id bigint)
returns boolean
language sql immutable parallel safe as $$
  select case p_dimension_type when 'agent' then p_user_id = p_dimension_id when 'inbox' then p_inbox_id = p_dimension_id else true end
$$;
comment on function rollup.in_dimension(text, bigint, bigint, bigint) is 'Whether an event counts for this agent, inbox or account.';

create or replace function rollup.period_sums(
  p_account_id int, p_event_name text, p_metric text, p_since timestamptz, p_until timestamptz, p_group_by text,
  p_dimension_type text, p_dimension_id bigint, p_business_hours boolean, p_timezone text,
  p_days datemultirange, p_pending rollup.deltas[]
)
returns table (period timestamp, count bigint, sum_value numeric)
language sql stable as $$
  select t.period, sum(t.count)::bigint, sum(t.sum_value)
  from (
    select
      rollup.period(r.date, p_group_by)::timestamp as period, r.count,
      case when p_business_hours then r.sum_value_business_hours else r.sum_value end as sum_value
    from rollup.reporting_events_rollups as r
    where r.account_id = p_account_id
      and r.dimension_type = p_dimension_type
      and r.metric = p_metric
      and r.dimension_id = p_dimension_id
      and r.date >= lower(p_days) and r.date < upper(p_days) and r.date <@ p_days
    union all
    select
      rollup.period(c.date, p_group_by)::timestamp, c.count,
      case when p_business_hours then c.sum_value_business_hours else c.sum_value end
    from rollup.totals(p_account_id, p_pending) as c
    where c.dimension_type = p_dimension_type and c.metric = p_metric and c.dimension_id = p_dimension_id and c.date <@ p_days
    union all
    select
      rollup.event_period(e.created_at, e.date, p_group_by, p_timezone), count(*),
      rollup.seconds(sum(rollup.microseconds(case when p_business_hours then e.value_in_business_hours else e.value end)))
    from rollup.raw_events(p_account_id, array[p_event_name], p_since, p_until, rollup.gaps(p_days, p_since, p_until, p_timezone), p_timezone) as e
    where rollup.in_dimension(p_dimension_type, p_dimension_id, e.user_id, e.inbox_id)
    group by 1
  ) as t
  group by 1
$$;
comment on function rollup.period_sums is
  'Counts and sums per period: p_days from rollups and pending deltas, the rest of [p_since, p_until) from raw events.';

create or replace function rollup.period_distinct_counts(
  p_account_id int, p_event_name text, p_since timestamptz, p_until timestamptz, p_group_by text,
  p_dimension_type text, p_dimension_id bigint, p_timezone text,
  p_days datemultirange, p_pending rollup.deltas[]
)
returns table (period timestamp, count bigint, sum_value numeric)
language sql stable as $$
  with cell as (
    select p.date, p.previous_date, p.count
    from rollup.previous_dates as p
    where p.account_id = p_account_id
      and p.event_name = rollup.to_distinct_event(p_event_name)
      and p.dimension_type = p_dimension_type
      and p.dimension_id = p_dimension_id
      and p.date >= lower(p_days) and p.date < upper(p_days)
    union all
    select c.date, c.previous_date, c.count
    from rollup.previous_date_changes(p_account_id, array(select o from rollup.occurrences(p_pending) as o)) as c
    where c.event_name = rollup.to_distinct_event(p_event_name)
      and c.dimension_type = p_dimension_type
      and c.dimension_id = p_dimension_id
  ),
  -- A conversation counts in a period on the first of its dates there.
  clean as (
    select rollup.period(c.date, p_group_by)::timestamp as period, sum(c.count)::bigint as count
    from cell as c
    join unnest(p_days) as days on c.date <@ days
    where c.previous_date < greatest(lower(days), rollup.period(c.date, p_group_by))
    group by 1
  ),
  -- To the clean days of a period its raw events add those conversations that the clean days do not have.
  raw as (
    select distinct
      rollup.event_period(e.created_at, e.date, p_group_by, p_timezone) as period, e.conversation_id,
      case when p_group_by <> 'hour' then p_days * datemultirange(rollup.period_days(e.date, p_group_by)) else '{}' end as clean_days
    from rollup.raw_events(p_account_id, array[p_event_name], p_since, p_until, rollup.gaps(p_days, p_since, p_until, p_timezone), p_timezone) as e
    where e.conversation_id is not null
      and rollup.in_dimension(p_dimension_type, p_dimension_id, e.user_id, e.inbox_id)
  ),
  added as (
    select r.period, count(*) as count
    from raw as r
    where r.clean_days = '{}' or not exists (
      select
      from (
        select l.date, l.count
        from rollup.ledger as l
        where l.account_id = p_account_id
          and l.event_name = rollup.to_distinct_event(p_event_name)
          and l.conversation_id = r.conversation_id
          and l.date <@ r.clean_days
          and rollup.in_dimension(p_dimension_type, p_dimension_id, l.user_id, l.inbox_id)
        union all
        select d.date, d.count
        from unnest(p_pending) as d
        where d.conversation_id = r.conversation_id
          and d.date <@ r.clean_days
          and rollup.in_dimension(p_dimension_type, p_dimension_id, d.user_id, d.inbox_id)
      ) as occurrence
      group by occurrence.date
      having sum(occurrence.count) > 0
    )
    group by 1
  )
  select t.period, sum(t.count)::bigint, 0::numeric
  from (select c.period, c.count from clean as c union all select a.period, a.count from added as a) as t
  group by 1
$$;
comment on function rollup.period_distinct_counts is
  'Distinct conversations per period: p_days from the previous dates and pending deltas, the rest of [p_since, p_until) from raw events.';

create or replace function rollup.period_totals(
  p_account_id int, p_metric text, p_since timestamptz, p_until timestamptz, p_group_by text,
  p_dimension_type text, p_dimension_id bigint, p_business_hours boolean, p_timezone text
)
returns table (period timestamp, value numeric, count bigint)
language plpgsql stable
set plan_cache_mode = force_generic_plan
set jit = off as $$
declare
  v_metric record;
  v_days datemultirange;
  v_pending rollup.deltas[];
begin
  v_metric := rollup.read_metric(p_metric);
  v_days := rollup.rollup_days(p_account_id, p_since, p_until, v_metric.payload, p_group_by, p_timezone);
  if v_days <> '{}' then
    v_pending := rollup.pending(p_account_id, array[v_metric.event_name]);
  end if;
  if v_metric.payload = 'distinct' then
    return query
      select t.period, t.count::numeric, t.count
      from rollup.period_distinct_counts(
        p_account_id, v_metric.event_name, p_since, p_until, p_group_by,
        p_dimension_type, p_dimension_id, p_timezone, v_days, v_pending
      ) as t
      where t.count <> 0;
  else
    return query
      select t.period, case v_metric.aggregate when 'average' then t.sum_value / t.count else t.count end, t.count
      from rollup.period_sums(
        p_account_id, v_metric.event_name, v_metric.metric, p_since, p_until, p_group_by,
        p_dimension_type, p_dimension_id, p_business_hours, p_timezone, v_days, v_pending
      ) as t
      where t.count <> 0;
  end if;
end
$$;
comment on function rollup.period_totals is 'The periods of a timeseries that have events.';

create or replace function rollup.periods(p_since timestamptz, p_until timestamptz, p_group_by text, p_timezone text)
returns setof timestamp
language plpgsql immutable parallel safe
set plan_cache_mode = force_generic_plan as $$
declare
  v_days daterange := rollup.touched_days(p_since, p_until, p_timezone);
  v_first date := lower(v_days);
  v_may_skip boolean;
begin
  if p_group_by = 'hour' then
    -- Half an hour is the smallest step between beginnings: some clocks change by that much.
    return query
      select distinct date_trunc('hour', h, p_timezone) at time zone 'UTC'
      from (
        select generate_series(p_since, p_until - interval '1 microsecond', interval '30 minutes')
        union all
        select p_until - interval '1 microsecond'
      ) as s (h)
      where p_since < p_until;
    return;
  end if;
  -- A zone that changed sides of the date line may have skipped a day.
  v_may_skip := abs(extract(epoch from
    ((p_until at time zone p_timezone) - (p_since at time zone p_timezone)) - (p_until - p_since)
  )) > 43200;
  return query
    select distinct rollup.period(d.date, p_group_by)::timestamp
    from (select v_first + i as date from generate_series(0, upper(v_days) - v_first - 1) as i) as d
    where not v_may_skip
      or ((d.date + time '12:00') at time zone p_timezone at time zone p_timezone)::date = d.date;
end
$$;
comment on function rollup.periods(timestamptz, timestamptz, text, text) is
  'All periods that [p_since, p_until) touches, named as event_period does.';

create or replace function rollup.timeseries(
  p_account_id int, p_metric text, p_since timestamptz, p_until timestamptz, p_group_by text default 'day',
  p_dimension_type text default 'account', p_dimension_id bigint default null,
  p_business_hours boolean default false, p_timezone text default null
)
returns table (period_start timestamptz, value numeric, count bigint)
language plpgsql stable
set plan_cache_mode = force_generic_plan
set jit = off as $$
declare
  v_timezone text;
  v_dimension_id bigint;
begin
  v_timezone := rollup.check_read(
    'timeseries', p_account_id, p_since, p_until, p_dimension_type, p_dimension_id, nullif(p_group_by, 'range'), p_timezone
  );
  v_dimension_id := rollup.require_dimension_id('timeseries', p_account_id, p_dimension_type, p_dimension_id);
  return query
    select rollup.period_start(p.period, p_group_by, v_timezone), coalesce(t.value, 0), coalesce(t.count, 0)
    from rollup.periods(p_since, p_until, p_group_by, v_timezone) as p (period)
    left join rollup.period_totals(
      p_account_id, p_metric, p_since, p_until, p_group_by,
      p_dimension_type, v_dimension_id, coalesce(p_business_hours, false), v_timezone
    ) as t on t.period = p.period
    order by 1;
end
$$;
comment on function rollup.timeseries is
  'A report metric over [p_since, p_until) by local period: hour, day, week (from Sunday), month, quarter or year; a row for every '
  'period touched, empty ones 0. period_start: its local beginning. value: the count, or the average in seconds, unrounded; count: the '
  'events (distinct conversations for bot_handoffs_count) behind it. p_metric: see rollup.report_metrics. p_dimension_type: account, '
  'agent or inbox, the latter two with p_dimension_id. p_business_hours: averages of value_in_business_hours. p_timezone: IANA name, '
  'NULL: the account''s, or UTC. Exact at any moment; rollup.read_plan tells what it reads. Errors: RU001 zone, RU003 range, RU007 '
  'unknown account, RU008 unknown name, RU009 missing argument. '
  'Example: select * from rollup.timeseries(1, ''resolutions_count'', ''2026-01-01'', ''2027-01-01'', ''month'');';

create or replace function rollup.aggregate(
  p_account_id int, p_metric text, p_since timestamptz, p_until timestamptz,
  p_dimension_type text default 'account', p_dimension_id bigint default null,
  p_business_hours boolean default false, p_timezone text default null
)
returns table (value numeric, count bigint)
language plpgsql stable
set plan_cache_mode = force_generic_plan
set jit = off as $$
declare
  v_timezone text;
  v_dimension_id bigint;
begin
  v_timezone := rollup.check_read('aggregate', p_account_id, p_since, p_until, p_dimension_type, p_dimension_id, 'range', p_timezone);
  v_dimension_id := rollup.require_dimension_id('aggregate', p_account_id, p_dimension_type, p_dimension_id);
  return query
    select coalesce(t.value, case m.aggregate when 'count' then 0 end), coalesce(t.count, 0)
    from rollup.read_metric(p_metric) as m
    left join rollup.period_totals(
      p_account_id, p_metric, p_since, p_until, 'range',
      p_dimension_type, v_dimension_id, coalesce(p_business_hours, false), v_timezone
    ) as t on true;
end
$$;
comment on function rollup.aggregate is
  'A report metric over [p_since, p_until) as one number: the count (0 without events), or the average in seconds (NULL without). '
  'Distinct conversations are counted once for the whole range. Arguments and errors as in rollup.timeseries. '
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
set plan_cache_mode = force_generic_plan
set jit = off as $$
declare
  v_timezone text;
  v_days datemultirange;
  v_pending rollup.deltas[];
  v_event_names text[] := array(
    select distinct r.event_name from rollup.report_metric_list() as r where r.summary_key is not null
  );
begin
  v_timezone := rollup.check_read('summary', p_account_id, p_since, p_until, p_dimension_type, null, 'range', p_timezone);
  v_days := rollup.rollup_days(p_account_id, p_since, p_until, 'duration', 'range', v_timezone);
  if v_days <> '{}' then
    v_pending := rollup.pending(p_account_id, v_event_names);
  end if;
  return query
    with total as (
      select
        r.dimension_id, r.metric::text, sum(r.count)::bigint as count,
        sum(case when p_business_hours then r.sum_value_business_hours else r.sum_value end) as sum_value
      from rollup.report_metric_list() as m
      join rollup.reporting_events_rollups as r on r.metric = m.metric
      where m.summary_key is not null
        and r.account_id = p_account_id
        and r.dimension_type = p_dimension_type
        and r.date >= lower(v_days) and r.date < upper(v_days) and r.date <@ v_days
      group by 1, 2
      union all
      select
        c.dimension_id, c.metric, c.count, case when p_business_hours then c.sum_value_business_hours else c.sum_value end
      from rollup.totals(p_account_id, v_pending) as c
      where c.dimension_type = p_dimension_type and c.date <@ v_days
      union all
      select e.dimension_id, m.metric, e.count, e.sum_value
      from (
        select
          e.event_name, dim.dimension_id, count(*) as count,
          rollup.seconds(
            sum(rollup.microseconds(case when p_business_hours then e.value_in_business_hours else e.value end))
          ) as sum_value
        from rollup.raw_events(
          p_account_id, v_event_names, p_since, p_until, rollup.gaps(v_days, p_since, p_until, v_timezone), v_timezone
        ) as e
        cross join lateral rollup.dimensions(p_account_id, e.user_id, e.inbox_id) as dim
        where dim.dimension_type = p_dimension_type
        group by 1, 2
      ) as e
      join rollup.event_metric_list() as m on m.event_name = e.event_name
    ),
    metric_total as (
      select t.dimension_id, m.summary_key, sum(t.count)::bigint as count, sum(t.sum_value) / nullif(sum(t.count), 0) as average
      from total as t
      join rollup.report_metric_list() as m on m.metric = t.metric and m.summary_key is not null
      group by 1, 2
      having sum(t.count) <> 0
    )
    select
      t.dimension_id,
      coalesce(max(t.count) filter (where t.summary_key = 'resolved_conversations_count'), 0),
      max(t.average) filter (where t.summary_key = 'avg_resolution_time'),
      max(t.average) filter (where t.summary_key = 'avg_first_response_time'),
      max(t.average) filter (where t.summary_key = 'avg_reply_time')
    from metric_total as t
    group by 1
    order by 1;
end
$$;
comment on function rollup.summary is
  'A row per agent, inbox or account that has any of these events in [p_since, p_until), ordered by its id. Times are averages in '
  'seconds, NULL without events. Arguments and errors as in rollup.timeseries. '
  'Example: select * from rollup.summary(1, ''agent'', ''2026-01-01'', ''2026-02-01'');';
