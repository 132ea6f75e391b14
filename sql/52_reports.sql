-- Reports: exact at any moment, in O(days) where rollups are complete. Each is one snapshot: stable functions see what their
-- caller sees. What they set is for plans that outlive what they were made for: tables that were empty, estimates of how many
-- raw events there are to sort.

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

create or replace function rollup.require_choice(p_function text, p_argument text, p_value text, p_choices text[])
returns void
language plpgsql immutable as $$
begin
  if p_value is null or p_value <> all (p_choices) then
    raise exception using
      errcode = case when p_value is null then 'RU009' else 'RU008' end,
      message = case
        when p_value is null then format('rollup.%s needs a value for %s', p_function, p_argument)
        else format('rollup.%s: %s cannot be "%s"', p_function, p_argument, p_value)
      end,
      hint = format('It is one of %s.', array_to_string(p_choices, ', '));
  end if;
end
$$;
comment on function rollup.require_choice(text, text, text, text[]) is
  'Raises RU008 for a value that is none of the choices, RU009 for NULL.';

create or replace function rollup.check_read(
  p_function text, p_account_id int, p_since timestamptz, p_until timestamptz,
  p_dimension_type text, p_group_by text, p_timezone text
)
returns text
language plpgsql stable as $$
declare
  v_settings rollup.account_settings;
begin
  if p_account_id is null or p_since is null or p_until is null then
    perform rollup.require(p_function, jsonb_build_object('p_account_id', p_account_id, 'p_since', p_since, 'p_until', p_until));
  end if;
  -- At the ends of what a timestamp can hold, another zone or a period more is beyond it.
  if p_since > p_until or p_since < timestamptz '4713-03-01 BC' or p_until > timestamptz '294275-01-01' then
    raise exception using
      errcode = 'RU003',
      message = format(
        'rollup.%s: the range from %s to %s is %s', p_function, p_since, p_until,
        case
          when p_since > p_until then 'reversed'
          when isfinite(p_since) and isfinite(p_until) then 'beyond what can be reckoned with'
          else 'not finite'
        end
      ),
      hint = 'Pass the earlier timestamp first; p_since is included, p_until is not.';
  end if;
  perform rollup.require_choice(p_function, 'p_group_by', p_group_by, case
    when p_function = 'timeseries' then '{hour,day,week,month,quarter,year}'::text[]
    else '{hour,day,week,month,quarter,year,range}'
  end);
  perform rollup.require_choice(p_function, 'p_dimension_type', p_dimension_type, '{account,agent,inbox}');

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
comment on function rollup.check_read(text, int, timestamptz, timestamptz, text, text, text) is
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
language plpgsql stable as $$
begin
  return array(
    select d
    from rollup.deltas as d
    join rollup.account_settings as s on s.account_id = d.account_id and s.generation = d.generation
    where d.account_id = p_account_id and d.event_name = any (p_event_names)
  );
end
$$;
comment on function rollup.pending(int, text[]) is 'The pending deltas of the present generation of an account.';

create or replace function rollup.gaps(p_days datemultirange, p_since timestamptz, p_until timestamptz, p_timezone text)
returns datemultirange
language plpgsql immutable parallel safe as $$
begin
  return case
    when p_days = '{}' then '{(,)}'
    else datemultirange(rollup.touched_days(p_since, p_until, p_timezone)) - p_days
  end;
end
$$;
comment on function rollup.gaps(datemultirange, timestamptz, timestamptz, text) is
  'The local days that [p_since, p_until) touches, less p_days; all days if p_days is empty.';

create or replace function rollup.midnight(p_date date, p_timezone text, p_slack interval)
returns timestamp
language plpgsql immutable parallel safe as $$
declare
  v_midnight timestamp := p_date::timestamp at time zone p_timezone at time zone 'UTC';
begin
  return case when rollup.clocks_are_steady(v_midnight, p_timezone) then v_midnight else v_midnight + p_slack end;
end
$$;
comment on function rollup.midnight(date, text, interval) is
  'The beginning of a local day in UTC, as a bound for created_at; p_slack later where a clock change is near.';

create or replace function rollup.raw_events(
  p_account_id int, p_event_name text, p_since timestamptz, p_until timestamptz, p_gaps datemultirange, p_timezone text
)
returns table (
  created_at timestamp, user_id bigint, inbox_id bigint, conversation_id bigint,
  value double precision, value_in_business_hours double precision
)
language sql stable as $$
  select e.created_at, e.user_id::bigint, e.inbox_id::bigint, e.conversation_id::bigint, e.value, e.value_in_business_hours
  from unnest(p_gaps) as gap
  cross join lateral (
    select r.created_at, r.user_id, r.inbox_id, r.conversation_id, r.value, r.value_in_business_hours
    from public.reporting_events as r
    where r.account_id = p_account_id
      and r.name = p_event_name
      and r.created_at >= greatest(p_since at time zone 'UTC', rollup.midnight(lower(gap), p_timezone, '-2 days'))
      and r.created_at < least(p_until at time zone 'UTC', rollup.midnight(upper(gap), p_timezone, '2 days'))
    -- Keeps the bounds in the index scan of each gap.
    offset 0
  ) as e
  where gap = '(,)' or rollup.local_date(e.created_at, p_timezone) <@ gap
$$;
comment on function rollup.raw_events(int, text, timestamptz, timestamptz, datemultirange, text) is
  'The raw events in [p_since, p_until) whose local day lies in p_gaps.';

create or replace function rollup.event_period(p_created_at timestamp, p_group_by text, p_timezone text)
returns timestamp
language sql immutable parallel safe as $$
  select case p_group_by
    when 'hour' then date_trunc('hour', p_created_at at time zone 'UTC', p_timezone) at time zone 'UTC'
    when 'range' then timestamp '-infinity'
    else rollup.period(rollup.local_date(p_created_at, p_timezone), p_group_by)::timestamp
  end
$$;
comment on function rollup.event_period(timestamp, text, text) is
  'The beginning of the period of an event: of an hour in UTC, for clocks may repeat it, of others in local time.';

create or replace function rollup.period_start(p_period timestamp, p_group_by text, p_timezone text)
returns timestamptz
language sql immutable parallel safe as $$
  select p_period at time zone case p_group_by when 'hour' then 'UTC' else p_timezone end
$$;
comment on function rollup.period_start(timestamp, text, text) is 'The instant at which a period, as event_period names it, begins.';

create or replace function rollup.dimension_of(p_dimension_type text, p_account_id int, p_user_id bigint, p_inbox_id bigint)
returns bigint
language sql immutable parallel safe as $$
  select case p_dimension_type when 'agent' then p_user_id when 'inbox' then p_inbox_id else p_account_id end
$$;
comment on function rollup.dimension_of(text, int, bigint, bigint) is
  'The agent, the inbox or the account that an event counts for, as rollup.dimensions has it; NULL: none.';

create or replace function rollup.stored_sums(
  p_account_id int, p_metric text, p_dimension_type text, p_dimension_id bigint, p_business_hours boolean, p_days datemultirange
)
returns table (date date, count bigint, sum_value numeric)
language sql stable as $$
  select r.date, r.count, case when p_business_hours then r.sum_value_business_hours else r.sum_value end
  from unnest(p_days) as days
  cross join lateral (
    select s.date, s.count, s.sum_value, s.sum_value_business_hours
    from rollup.reporting_events_rollups as s
    where s.account_id = p_account_id
      and s.dimension_type = p_dimension_type
      and s.metric = p_metric
      and s.dimension_id = p_dimension_id
      and s.date >= lower(days) and s.date < upper(days)
    -- An index scan for each piece: joined, the whole history would be read once.
    offset 0
  ) as r
$$;
comment on function rollup.stored_sums(int, text, text, bigint, boolean, datemultirange) is
  'Counts and sums of the rollups of p_days, a row a day.';

create or replace function rollup.pending_sums(
  p_account_id int, p_metric text, p_dimension_type text, p_dimension_id bigint, p_business_hours boolean,
  p_days datemultirange, p_pending rollup.deltas[]
)
returns table (date date, count bigint, sum_value numeric)
language sql stable as $$
  select t.date, t.count, case when p_business_hours then t.sum_value_business_hours else t.sum_value end
  from rollup.totals(p_account_id, p_pending) as t
  where t.dimension_type = p_dimension_type
    and t.metric = p_metric
    and t.dimension_id = p_dimension_id
    and t.date <@ p_days
$$;
comment on function rollup.pending_sums(int, text, text, bigint, boolean, datemultirange, rollup.deltas[]) is
  'What the pending deltas of p_days add to stored_sums.';

create or replace function rollup.raw_sums(
  p_account_id int, p_event_name text, p_since timestamptz, p_until timestamptz, p_group_by text,
  p_dimension_type text, p_dimension_id bigint, p_business_hours boolean, p_timezone text, p_gaps datemultirange
)
returns table (period timestamp, count bigint, sum_value numeric)
language sql stable as $$
  select
    rollup.event_period(e.created_at, p_group_by, p_timezone), count(*),
    rollup.seconds(sum(rollup.microseconds(case when p_business_hours then e.value_in_business_hours else e.value end)))
  from rollup.raw_events(p_account_id, p_event_name, p_since, p_until, p_gaps, p_timezone) as e
  where rollup.dimension_of(p_dimension_type, p_account_id, e.user_id, e.inbox_id) = p_dimension_id
  group by 1
$$;
comment on function rollup.raw_sums(int, text, timestamptz, timestamptz, text, text, bigint, boolean, text, datemultirange) is
  'Counts and sums per period of the raw events in [p_since, p_until) whose local day lies in p_gaps.';

create or replace function rollup.stored_conversations(
  p_account_id int, p_event_name rollup.distinct_event, p_group_by text, p_dimension_type text, p_dimension_id bigint, p_days datemultirange
)
returns table (date date, count bigint)
language sql stable as $$
  select p.date, p.count
  from unnest(p_days) as days
  cross join lateral (
    select c.date, c.previous_date, c.count
    from rollup.previous_dates as c
    where c.account_id = p_account_id
      and c.event_name = p_event_name
      and c.dimension_type = p_dimension_type
      and c.dimension_id = p_dimension_id
      and c.date >= lower(days) and c.date < upper(days)
      and c.previous_date < case when p_group_by = 'range' then lower(days) else upper(days) end
    offset 0
  ) as p
  -- A conversation counts in a period on the first of its dates there.
  where p.previous_date < greatest(lower(days), rollup.period(p.date, p_group_by))
$$;
comment on function rollup.stored_conversations(int, rollup.distinct_event, text, text, bigint, datemultirange) is
  'How many conversations have their first date of a period, or of the piece of p_days that lies in it, on a date.';

create or replace function rollup.pending_conversations(
  p_account_id int, p_event_name rollup.distinct_event, p_group_by text, p_dimension_type text, p_dimension_id bigint,
  p_days datemultirange, p_pending rollup.deltas[]
)
returns table (date date, count bigint)
language sql stable as $$
  select c.date, c.count
  from rollup.previous_date_changes(p_account_id, array(select o from rollup.occurrences(p_pending) as o)) as c
  join unnest(p_days) as days on c.date <@ days
  where c.event_name = p_event_name
    and c.dimension_type = p_dimension_type
    and c.dimension_id = p_dimension_id
    and c.previous_date < greatest(lower(days), rollup.period(c.date, p_group_by))
$$;
comment on function rollup.pending_conversations(int, rollup.distinct_event, text, text, bigint, datemultirange, rollup.deltas[]) is
  'What the pending deltas change in stored_conversations.';

create or replace function rollup.raw_conversations(
  p_account_id int, p_event_name text, p_since timestamptz, p_until timestamptz, p_group_by text,
  p_dimension_type text, p_dimension_id bigint, p_timezone text, p_gaps datemultirange,
  p_days datemultirange, p_pending rollup.deltas[]
)
returns table (period timestamp, count bigint)
language sql stable as $$
  with raw as materialized (
    select distinct rollup.event_period(e.created_at, p_group_by, p_timezone) as period, e.conversation_id
    from rollup.raw_events(p_account_id, p_event_name, p_since, p_until, p_gaps, p_timezone) as e
    where e.conversation_id is not null
      and rollup.dimension_of(p_dimension_type, p_account_id, e.user_id, e.inbox_id) = p_dimension_id
  ),
  known as (
    select rollup.period(o.date, p_group_by)::timestamp as period, o.conversation_id
    from (
      select l.date, l.conversation_id, l.count, l.user_id, l.inbox_id
      from (select distinct r.conversation_id from raw as r) as r
      join rollup.ledger as l
        on l.account_id = p_account_id
        and l.event_name = rollup.to_distinct_event(p_event_name)
        and l.conversation_id = r.conversation_id
      union all
      select d.date, d.conversation_id, d.count, d.user_id, d.inbox_id
      from unnest(p_pending) as d
      where d.conversation_id is not null
    ) as o
    where o.date <@ p_days and rollup.dimension_of(p_dimension_type, p_account_id, o.user_id, o.inbox_id) = p_dimension_id
    group by o.date, o.conversation_id
    having sum(o.count) > 0
  )
  select r.period, count(*)
  from raw as r
  -- Those that the days of the same period which are read from rollups do not have. (A join would go through p_pending again and
  -- again, for its length is not known when it is planned.)
  where p_days = '{}' or (r.period, r.conversation_id) not in (select k.period, k.conversation_id from known as k)
  group by 1
$$;
comment on function rollup.raw_conversations is
  'Distinct conversations per period of the raw events in [p_since, p_until) whose local day lies in p_gaps, apart from those that '
  'p_days have in the same period.';

create or replace function rollup.period_totals(
  p_account_id int, p_event_name text, p_metric text, p_payload text, p_since timestamptz, p_until timestamptz, p_group_by text,
  p_dimension_type text, p_dimension_id bigint, p_business_hours boolean, p_timezone text
)
returns table (period timestamp, count bigint, sum_value numeric)
language plpgsql stable as $$
declare
  v_days datemultirange := rollup.rollup_days(p_account_id, p_since, p_until, p_payload, p_group_by, p_timezone);
  v_gaps datemultirange := rollup.gaps(v_days, p_since, p_until, p_timezone);
  v_distinct_event rollup.distinct_event := rollup.to_distinct_event(p_event_name);
  v_pending rollup.deltas[] := '{}';
begin
  if v_days <> '{}' then
    v_pending := rollup.pending(p_account_id, array[p_event_name]);
  end if;
  -- Most reads need one source for each period, and save the rest.
  if cardinality(v_pending) > 0 or v_days <> '{}' and v_gaps <> '{}' and p_group_by <> 'day' then
    if p_payload = 'distinct' then
      return query
        select t.period, sum(t.count)::bigint, 0::numeric
        from (
          select rollup.period(s.date, p_group_by)::timestamp as period, s.count
          from rollup.stored_conversations(p_account_id, v_distinct_event, p_group_by, p_dimension_type, p_dimension_id, v_days) as s
          union all
          select rollup.period(s.date, p_group_by)::timestamp, s.count
          from rollup.pending_conversations(
            p_account_id, v_distinct_event, p_group_by, p_dimension_type, p_dimension_id, v_days, v_pending
          ) as s
          union all
          select r.period, r.count
          from rollup.raw_conversations(
            p_account_id, p_event_name, p_since, p_until, p_group_by, p_dimension_type, p_dimension_id, p_timezone,
            v_gaps, v_days, v_pending
          ) as r
        ) as t
        group by 1;
    else
      return query
        select t.period, sum(t.count)::bigint, sum(t.sum_value)
        from (
          select rollup.period(s.date, p_group_by)::timestamp as period, s.count, s.sum_value
          from rollup.stored_sums(p_account_id, p_metric, p_dimension_type, p_dimension_id, p_business_hours, v_days) as s
          union all
          select rollup.period(s.date, p_group_by)::timestamp, s.count, s.sum_value
          from rollup.pending_sums(
            p_account_id, p_metric, p_dimension_type, p_dimension_id, p_business_hours, v_days, v_pending
          ) as s
          union all
          select r.period, r.count, r.sum_value
          from rollup.raw_sums(
            p_account_id, p_event_name, p_since, p_until, p_group_by, p_dimension_type, p_dimension_id, p_business_hours, p_timezone, v_gaps
          ) as r
        ) as t
        group by 1;
    end if;
    return;
  end if;

  if v_days <> '{}' and p_payload = 'distinct' then
    return query
      select rollup.period(s.date, p_group_by)::timestamp, sum(s.count)::bigint, 0::numeric
      from rollup.stored_conversations(p_account_id, v_distinct_event, p_group_by, p_dimension_type, p_dimension_id, v_days) as s
      group by 1;
  elsif v_days <> '{}' and p_group_by = 'day' then
    return query
      select s.date::timestamp, s.count, s.sum_value
      from rollup.stored_sums(p_account_id, p_metric, p_dimension_type, p_dimension_id, p_business_hours, v_days) as s;
  elsif v_days <> '{}' then
    return query
      select rollup.period(s.date, p_group_by)::timestamp, sum(s.count)::bigint, sum(s.sum_value)
      from rollup.stored_sums(p_account_id, p_metric, p_dimension_type, p_dimension_id, p_business_hours, v_days) as s
      group by 1;
  end if;
  if v_gaps <> '{}' and p_payload = 'distinct' then
    return query
      select r.period, r.count, 0::numeric
      from rollup.raw_conversations(
        p_account_id, p_event_name, p_since, p_until, p_group_by, p_dimension_type, p_dimension_id, p_timezone, v_gaps, '{}', '{}'
      ) as r;
  elsif v_gaps <> '{}' then
    return query
      select r.period, r.count, r.sum_value
      from rollup.raw_sums(
        p_account_id, p_event_name, p_since, p_until, p_group_by, p_dimension_type, p_dimension_id, p_business_hours, p_timezone, v_gaps
      ) as r;
  end if;
end
$$;
comment on function rollup.period_totals is
  'Counts and sums of the periods of [p_since, p_until) that have events: whole clean days from rollups and pending deltas, the rest '
  'from raw events.';

create or replace function rollup.value(p_aggregate text, p_count bigint, p_sum_value numeric)
returns numeric
language sql immutable parallel safe as $$
  -- The digits of a quotient depend on the scale of the dividend, and that on where it comes from.
  select case p_aggregate when 'average' then trim_scale(p_sum_value) / nullif(p_count, 0) else coalesce(p_count, 0) end
$$;
comment on function rollup.value(text, bigint, numeric) is 'The value of a report metric; of an average without events: NULL.';

create or replace function rollup.periods(p_since timestamptz, p_until timestamptz, p_group_by text, p_timezone text)
returns setof timestamp
language plpgsql immutable parallel safe as $$
declare
  v_days daterange := rollup.touched_days(p_since, p_until, p_timezone);
  v_may_skip boolean;
begin
  if isempty(v_days) then
    return;
  end if;
  if p_group_by = 'hour' then
    return query
      select distinct date_trunc('hour', i.at, p_timezone) at time zone 'UTC'
      from (
        select s.at
        from (
          select generate_series(p_since, p_until - interval '1 microsecond', interval '30 minutes')
          union all
          select p_until - interval '1 microsecond'
        ) as s (at)
        union all
        -- A change of the clock may leave a piece of an hour of any length.
        select c.at
        from generate_series(p_since, p_until - interval '1 microsecond', interval '30 minutes') as s (at)
        cross join lateral generate_series(
          s.at, least(s.at + interval '30 minutes', p_until - interval '1 microsecond'), interval '1 second'
        ) as c (at)
        where rollup.utc_offset(s.at at time zone 'UTC', p_timezone)
          <> rollup.utc_offset((s.at + interval '30 minutes') at time zone 'UTC', p_timezone)
      ) as i (at);
    return;
  end if;
  -- A zone that changed sides of the date line skipped a day. None did so twice within twenty years.
  v_may_skip := p_group_by = 'day' and (
    p_until - p_since > interval '7000 days'
    or abs(extract(epoch from ((p_until at time zone p_timezone) - (p_since at time zone p_timezone)) - (p_until - p_since))) > 43200
  );
  return query
    select p.period
    from generate_series(
      rollup.period(lower(v_days), p_group_by)::timestamp, rollup.period(upper(v_days) - 1, p_group_by)::timestamp,
      rollup.period_length(p_group_by)
    ) as p (period)
    where not v_may_skip
      or ((p.period + interval '12 hours') at time zone p_timezone at time zone p_timezone)::date = p.period::date;
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
set jit = off
set enable_seqscan = off
set enable_sort = off as $$
declare
  v_timezone text;
  v_dimension_id bigint;
  v_metric record;
begin
  v_timezone := rollup.check_read('timeseries', p_account_id, p_since, p_until, p_dimension_type, p_group_by, p_timezone);
  v_dimension_id := rollup.require_dimension_id('timeseries', p_account_id, p_dimension_type, p_dimension_id);
  v_metric := rollup.read_metric(p_metric);
  return query
    select
      rollup.period_start(p.period, p_group_by, v_timezone),
      coalesce(rollup.value(v_metric.aggregate, t.count, t.sum_value), 0),
      coalesce(t.count, 0)
    from rollup.periods(p_since, p_until, p_group_by, v_timezone) as p (period)
    left join rollup.period_totals(
      p_account_id, v_metric.event_name, v_metric.metric, v_metric.payload, p_since, p_until, p_group_by,
      p_dimension_type, v_dimension_id, coalesce(p_business_hours, false), v_timezone
    ) as t on t.period = p.period
    order by p.period;
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
set jit = off
set enable_seqscan = off
set enable_sort = off as $$
declare
  v_timezone text;
  v_dimension_id bigint;
  v_metric record;
begin
  v_timezone := rollup.check_read('aggregate', p_account_id, p_since, p_until, p_dimension_type, 'range', p_timezone);
  v_dimension_id := rollup.require_dimension_id('aggregate', p_account_id, p_dimension_type, p_dimension_id);
  v_metric := rollup.read_metric(p_metric);
  return query
    select rollup.value(v_metric.aggregate, t.count, t.sum_value), coalesce(t.count, 0)
    from (values (p_account_id)) as a (account_id)
    left join rollup.period_totals(
      p_account_id, v_metric.event_name, v_metric.metric, v_metric.payload, p_since, p_until, 'range',
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
set jit = off
set enable_seqscan = off
set enable_sort = off as $$
declare
  v_timezone text;
  v_days datemultirange;
  v_gaps datemultirange;
  v_pending rollup.deltas[] := '{}';
  v_event_names text[] := array(
    select distinct r.event_name from rollup.report_metric_list() as r where r.summary_key is not null
  );
begin
  v_timezone := rollup.check_read('summary', p_account_id, p_since, p_until, p_dimension_type, 'range', p_timezone);
  v_days := rollup.rollup_days(p_account_id, p_since, p_until, 'duration', 'range', v_timezone);
  v_gaps := rollup.gaps(v_days, p_since, p_until, v_timezone);
  if v_days <> '{}' then
    v_pending := rollup.pending(p_account_id, v_event_names);
  end if;
  return query
    -- A duration counts the same events as the count of the same event, so one of them will do.
    with metric as (
      select m.event_name, m.metric
      from rollup.event_metric_list() as m
      where m.payload = 'duration' and m.event_name = any (v_event_names)
    ),
    part as (
      select s.dimension_id, m.event_name, s.count, s.sum_value
      from metric as m
      cross join unnest(v_days) as days
      cross join lateral (
        select
          r.dimension_id, sum(r.count)::bigint as count,
          sum(case when p_business_hours then r.sum_value_business_hours else r.sum_value end) as sum_value
        from rollup.reporting_events_rollups as r
        where r.account_id = p_account_id
          and r.dimension_type = p_dimension_type
          and r.metric = m.metric
          and r.date >= lower(days) and r.date < upper(days)
        group by 1
      ) as s
      union all
      select t.dimension_id, m.event_name, t.count, case when p_business_hours then t.sum_value_business_hours else t.sum_value end
      from rollup.totals(p_account_id, v_pending) as t
      join metric as m on m.metric = t.metric
      where t.dimension_type = p_dimension_type and t.date <@ v_days
      union all
      select r.dimension_id, m.event_name, r.count, r.sum_value
      from metric as m
      cross join lateral (
        select
          rollup.dimension_of(p_dimension_type, p_account_id, e.user_id, e.inbox_id) as dimension_id, count(*) as count,
          rollup.seconds(
            sum(rollup.microseconds(case when p_business_hours then e.value_in_business_hours else e.value end))
          ) as sum_value
        from rollup.raw_events(p_account_id, m.event_name, p_since, p_until, v_gaps, v_timezone) as e
        group by 1
      ) as r
    ),
    total as (
      select p.dimension_id, p.event_name, sum(p.count)::bigint as count, sum(p.sum_value) as sum_value
      from part as p
      where p.dimension_id is not null
      group by 1, 2
      having sum(p.count) <> 0
    ),
    figure as (
      select t.dimension_id, r.summary_key, rollup.value(r.aggregate, t.count, t.sum_value) as value
      from total as t
      join rollup.report_metric_list() as r on r.event_name = t.event_name and r.summary_key is not null
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
comment on function rollup.summary is
  'A row per agent, inbox or account that has any of these events in [p_since, p_until), ordered by its id. Times are averages in '
  'seconds, NULL without events. Arguments and errors as in rollup.timeseries. '
  'Example: select * from rollup.summary(1, ''agent'', ''2026-01-01'', ''2026-02-01'');';
