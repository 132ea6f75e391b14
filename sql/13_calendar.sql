-- The calendar of an account: the day of an event, where days begin, which days a range of time touches or holds whole, and periods
-- of days. Here and nowhere else.

-- Days ---------------------------------------------------------------------------------------------------------------

create or replace function rollup.local_date(p_created_at timestamp, p_timezone text)
returns date
language sql immutable parallel safe
return case
  -- Beyond this a shift of the clock leaves the range of timestamps; such a day needs no zone.
  when p_created_at between timestamp '4713-02-01 BC' and timestamp '294276-12-01'
    then (p_created_at at time zone 'UTC' at time zone p_timezone)::date
  else p_created_at::date
end;
comment on function rollup.local_date(timestamp, text) is
  'The day of an event. p_created_at: UTC; p_timezone: IANA name. The one definition of a day: always bucket with it, never '
  'compare with midnights, for clocks go back over midnight in some zones. '
  'Example: rollup.local_date(''2026-02-12 04:00'', ''America/New_York'') is 2026-02-11.';

create or replace function rollup.days(p_from date, p_to date)
returns daterange
language sql immutable parallel safe
return daterange(nullif(p_from, '-infinity'), nullif(p_to, 'infinity'), '[]');
comment on function rollup.days(date, date) is 'The days p_from to p_to, inclusive; an infinite bound is an open one.';

create or replace function rollup.utc_midnight(p_date date, p_days int default 0)
returns timestamp
language sql immutable parallel safe
return case
  when p_date < date '4713-01-03 BC' then timestamp '-infinity'
  when p_date > date '294276-12-28' then timestamp 'infinity'
  else (p_date + p_days)::timestamp
end;
comment on function rollup.utc_midnight(date, int) is
  'Midnight UTC of a date p_days later, as a bound for created_at; infinite where there is no such timestamp. A local day lies within a '
  'day of the UTC day of the same date.';

create or replace function rollup.utc_offset(p_at timestamp, p_timezone text)
returns interval
language sql immutable parallel safe
return (p_at at time zone 'UTC' at time zone p_timezone) - p_at;
comment on function rollup.utc_offset(timestamp, text) is 'Local time minus UTC at p_at (UTC).';

create or replace function rollup.clocks_are_steady(p_at timestamp, p_timezone text)
returns boolean
language sql immutable parallel safe
return rollup.utc_offset(p_at - interval '27 hours', p_timezone) = rollup.utc_offset(p_at + interval '27 hours', p_timezone);
comment on function rollup.clocks_are_steady(timestamp, text) is 'Whether no clock change is near p_at (UTC).';

create or replace function rollup.day_begins(p_date date, p_timezone text)
returns timestamptz
language sql immutable parallel safe
begin atomic
  -- Where clocks go back over midnight PostgreSQL takes the later of two, and the day is an hour older than that.
  select case
    when rollup.local_date(midnight - interval '1 hour', p_timezone) = p_date then midnight - interval '1 hour'
    else midnight
  end at time zone 'UTC'
  from (select p_date::timestamp at time zone p_timezone at time zone 'UTC') as d (midnight);
end;
comment on function rollup.day_begins(date, text) is 'The first instant of a local day.';

create or replace function rollup.scan_bound(p_date date, p_timezone text, p_slack interval)
returns timestamp
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp as $$
declare
  v_midnight timestamp := p_date::timestamp at time zone p_timezone at time zone 'UTC';
begin
  return case when rollup.clocks_are_steady(v_midnight, p_timezone) then v_midnight else v_midnight + p_slack end;
end
$$;
comment on function rollup.scan_bound(date, text, interval) is
  'The beginning of a local day in UTC, as a bound for created_at; p_slack later where a clock change is near, for there the day decides.';

create or replace function rollup.whole_days(p_since timestamptz, p_until timestamptz, p_timezone text)
returns daterange
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp as $$
declare
  v_since timestamp := p_since at time zone 'UTC';
  v_until timestamp := p_until at time zone 'UTC';
  v_first date := rollup.local_date(v_since - interval '1 microsecond', p_timezone) + 1;
  v_end date := rollup.local_date(v_until, p_timezone);
begin
  -- Where clocks change nearby, parts of a day may lie on either side of an instant: look at every minute.
  if not rollup.clocks_are_steady(v_since, p_timezone) then
    v_first := greatest(v_first, (
      select max(rollup.local_date(i.at, p_timezone)) + 1 from generate_series(v_since - interval '27 hours', v_since - interval '1 second', interval '1 minute') as i (at)
    ));
  end if;
  if not rollup.clocks_are_steady(v_until, p_timezone) then
    v_end := least(v_end, (
      select min(rollup.local_date(i.at, p_timezone)) from generate_series(v_until, v_until + interval '27 hours', interval '1 minute') as i (at)
    ));
  end if;
  return case when v_first < v_end then daterange(v_first, v_end) else 'empty' end;
end
$$;
comment on function rollup.whole_days(timestamptz, timestamptz, text) is
  'The local days of which every instant lies in [p_since, p_until).';

create or replace function rollup.touched_days(p_since timestamptz, p_until timestamptz, p_timezone text)
returns daterange
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp as $$
declare
  v_since timestamp := p_since at time zone 'UTC';
  v_last timestamp := p_until at time zone 'UTC' - interval '1 microsecond';
begin
  if p_since >= p_until then
    return 'empty';
  end if;
  if rollup.clocks_are_steady(v_since, p_timezone) and rollup.clocks_are_steady(v_last, p_timezone) then
    return daterange(rollup.local_date(v_since, p_timezone), rollup.local_date(v_last, p_timezone), '[]');
  end if;
  -- Clocks that go back over midnight, or the date line that moves, return to a day before: look at every minute.
  return (
    select daterange(min(rollup.local_date(i.at, p_timezone)), max(rollup.local_date(i.at, p_timezone)), '[]')
    from (
      select generate_series(v_since, least(v_since + interval '27 hours', v_last), interval '1 minute')
      union all
      select generate_series(v_last, greatest(v_last - interval '27 hours', v_since), interval '-1 minute')
    ) as i (at)
  );
end
$$;
comment on function rollup.touched_days(timestamptz, timestamptz, text) is
  'The local days of which some instant lies in [p_since, p_until), from the first to the last.';

-- Periods ------------------------------------------------------------------------------------------------------------

create or replace function rollup.period_types()
returns text[]
language sql immutable parallel safe
return array['hour', 'day', 'week', 'month', 'quarter', 'year'];
comment on function rollup.period_types() is 'What a report can be grouped by. Within, "range" is one period of all dates.';

create or replace function rollup.period(p_date date, p_group_by text)
returns date
language sql immutable parallel safe
return case p_group_by
  when 'day' then p_date
  -- From Sunday, as in the host.
  when 'week' then p_date - extract(dow from p_date)::int
  when 'range' then date '-infinity'
  else date_trunc(p_group_by, p_date::timestamp)::date
end;
comment on function rollup.period(date, text) is
  'The first day of the day, week (from Sunday), month, quarter or year of a date; "range": all dates are one period.';

create or replace function rollup.period_length(p_group_by text)
returns interval
language sql immutable parallel safe
return case p_group_by
  when 'hour' then interval '1 hour'
  when 'day' then interval '1 day'
  when 'week' then interval '7 days'
  when 'month' then interval '1 month'
  when 'quarter' then interval '3 months'
  when 'year' then interval '1 year'
end;
comment on function rollup.period_length(text) is 'From the beginning of an hour, day, week, month, quarter or year to that of the next.';

create or replace function rollup.period_days(p_date date, p_group_by text)
returns daterange
language sql immutable parallel safe
return case p_group_by
  when 'range' then daterange(null, null)
  else daterange(
    rollup.period(p_date, p_group_by),
    (rollup.period(p_date, p_group_by) + rollup.period_length(p_group_by))::date
  )
end;
comment on function rollup.period_days(date, text) is 'The days of the period of a date.';

create or replace function rollup.event_period(p_created_at timestamp, p_group_by text, p_timezone text)
returns timestamp
language sql immutable parallel safe
return case p_group_by
  when 'hour' then
    p_created_at - (
      (p_created_at at time zone 'UTC' at time zone p_timezone)
      - date_trunc('hour', p_created_at at time zone 'UTC' at time zone p_timezone)
    )
  when 'range' then timestamp '-infinity'
  else rollup.period(rollup.local_date(p_created_at, p_timezone), p_group_by)::timestamp
end;
comment on function rollup.event_period(timestamp, text, text) is
  'The beginning of the period of an event: of an hour in UTC, for clocks may repeat it, of others in local time.';

create or replace function rollup.period_start(p_period timestamp, p_group_by text, p_timezone text)
returns timestamptz
language sql immutable parallel safe
return p_period at time zone case p_group_by when 'hour' then 'UTC' else p_timezone end;
comment on function rollup.period_start(timestamp, text, text) is 'The instant at which a period, as event_period names it, begins.';

create or replace function rollup.periods(p_since timestamptz, p_until timestamptz, p_group_by text, p_timezone text)
returns setof timestamp
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp as $$
declare
  v_since timestamp := p_since at time zone 'UTC';
  v_last timestamp := p_until at time zone 'UTC' - interval '1 microsecond';
  v_days daterange := rollup.touched_days(p_since, p_until, p_timezone);
  v_may_skip boolean;
begin
  if isempty(v_days) then
    return;
  end if;
  if p_group_by = 'hour' then
    return query
      select distinct rollup.event_period(i.at, 'hour', p_timezone)
      from (
        select s.at
        from (
          select generate_series(v_since, v_last, interval '30 minutes')
          union all
          select v_last
        ) as s (at)
        union all
        -- A change of the clock may leave a piece of an hour of any length.
        select c.at
        from generate_series(v_since, v_last, interval '30 minutes') as s (at)
        cross join lateral generate_series(s.at, least(s.at + interval '30 minutes', v_last), interval '1 second') as c (at)
        where rollup.utc_offset(s.at, p_timezone) <> rollup.utc_offset(s.at + interval '30 minutes', p_timezone)
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
