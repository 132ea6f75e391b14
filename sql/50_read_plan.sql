-- Where a read takes its numbers from: whole clean days from rollups, all else from raw events.

create or replace function rollup.utc_offset(p_at timestamp, p_timezone text)
returns interval
language sql immutable parallel safe as $$
  select (p_at at time zone 'UTC' at time zone p_timezone) - p_at
$$;
comment on function rollup.utc_offset(timestamp, text) is 'Local time minus UTC at p_at (UTC).';

create or replace function rollup.clocks_are_steady(p_at timestamp, p_timezone text)
returns boolean
language sql immutable parallel safe as $$
  select rollup.utc_offset(p_at - interval '27 hours', p_timezone) = rollup.utc_offset(p_at + interval '27 hours', p_timezone)
$$;
comment on function rollup.clocks_are_steady(timestamp, text) is 'Whether no clock change is near p_at (UTC).';

create or replace function rollup.whole_days(p_since timestamptz, p_until timestamptz, p_timezone text)
returns daterange
language plpgsql immutable parallel safe as $$
declare
  v_since timestamp := p_since at time zone 'UTC';
  v_until timestamp := p_until at time zone 'UTC';
  v_first date := rollup.local_date(v_since - interval '1 microsecond', p_timezone) + 1;
  v_end date := rollup.local_date(v_until, p_timezone);
begin
  -- Where clocks change nearby, parts of a day may lie on either side of an instant: leave one more day to the raw events.
  if not rollup.clocks_are_steady(v_since, p_timezone) then
    v_first := v_first + 1;
  end if;
  if not rollup.clocks_are_steady(v_until, p_timezone) then
    v_end := v_end - 1;
  end if;
  return case when v_first < v_end then daterange(v_first, v_end) else 'empty' end;
end
$$;
comment on function rollup.whole_days(timestamptz, timestamptz, text) is
  'The local days of which every instant lies in [p_since, p_until).';

create or replace function rollup.touched_days(p_since timestamptz, p_until timestamptz, p_timezone text)
returns daterange
language plpgsql immutable parallel safe as $$
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

create or replace function rollup.period(p_date date, p_group_by text)
returns date
language sql immutable parallel safe as $$
  select case p_group_by
    when 'day' then p_date
    -- From Sunday, as in the host.
    when 'week' then p_date - extract(dow from p_date)::int
    when 'range' then date '-infinity'
    else date_trunc(p_group_by, p_date::timestamp)::date
  end
$$;
comment on function rollup.period(date, text) is
  'The first day of the day, week (from Sunday), month, quarter or year of a date; "range": all dates are one period.';

create or replace function rollup.why_raw(p_settings rollup.account_settings, p_group_by text, p_timezone text)
returns text
language plpgsql immutable parallel safe as $$
begin
  return case
    when p_settings.reporting_timezone is null then 'the account has no reporting time zone'
    when not p_settings.reporting_events_rollup then 'the flag reporting_events_rollup is off'
    when p_settings.reporting_timezone <> p_timezone then 'another time zone than the account''s'
    when p_group_by = 'hour' then 'grouped by hour'
  end;
end
$$;
comment on function rollup.why_raw(rollup.account_settings, text, text) is
  'Why no part of a read may come from rollups, or NULL if days of it may.';

create or replace function rollup.period_length(p_group_by text)
returns interval
language sql immutable parallel safe as $$
  select case p_group_by when 'quarter' then interval '3 months' else ('1 ' || p_group_by)::interval end
$$;
comment on function rollup.period_length(text) is 'From the first day of a day, week, month, quarter or year to that of the next.';

create or replace function rollup.period_days(p_date date, p_group_by text)
returns daterange
language sql immutable parallel safe as $$
  select case p_group_by
    when 'range' then daterange(null, null)
    else daterange(
      rollup.period(p_date, p_group_by),
      (rollup.period(p_date, p_group_by) + rollup.period_length(p_group_by))::date
    )
  end
$$;
comment on function rollup.period_days(date, text) is 'The days of the period of a date.';

create or replace function rollup.rollup_days(
  p_account_id int, p_since timestamptz, p_until timestamptz, p_payload text, p_group_by text, p_timezone text
)
returns datemultirange
language plpgsql stable as $$
declare
  v_settings rollup.account_settings;
  v_days datemultirange;
begin
  select * into v_settings from rollup.account_settings as s where s.account_id = p_account_id;
  if rollup.why_raw(v_settings, p_group_by, p_timezone) is not null then
    return '{}';
  end if;
  v_days := rollup.clean_days(p_account_id) * datemultirange(rollup.whole_days(p_since, p_until, p_timezone));
  -- Distinct counts do not add up across pieces: a period whose clean days are not in one piece is read raw.
  if p_payload = 'distinct' and v_days <> datemultirange(range_merge(v_days)) then
    v_days := v_days - (
      select coalesce(range_agg(daterange(p.first_date, p.last_date, '[]')), '{}')
      from (
        select min(lower(piece)) as first_date, max(upper(piece)) - 1 as last_date
        from (
          select rollup.period(edge.date, p_group_by) as period, piece
          from unnest(v_days) as days
          cross join lateral (values (lower(days)), (upper(days) - 1)) as edge (date)
          cross join lateral unnest(v_days * datemultirange(rollup.period_days(edge.date, p_group_by))) as piece
          group by 1, 2
        ) as pieces
        group by period
        having count(*) > 1
      ) as p
    );
  end if;
  return v_days;
end
$$;
comment on function rollup.rollup_days(int, timestamptz, timestamptz, text, text, text) is
  'The days that a read takes from rollups; the one place where that is decided.';

create or replace function rollup.read_plan(
  p_account_id int, p_since timestamptz, p_until timestamptz,
  p_metric text default null, p_group_by text default 'day', p_timezone text default null
)
returns table (starts_at timestamptz, ends_at timestamptz, source text, reason text)
language plpgsql stable as $$
declare
  v_timezone text;
  v_payload text;
  v_settings rollup.account_settings;
  v_why text;
  v_days datemultirange;
  v_clean datemultirange;
  v_covered datemultirange;
  v_whole datemultirange;
  v_all datemultirange;
begin
  v_timezone := rollup.check_read('read_plan', p_account_id, p_since, p_until, 'account', p_group_by, p_timezone);
  if p_metric is not null then
    select m.payload into v_payload from rollup.read_metric(p_metric) as m;
  end if;
  if p_since = p_until then
    return;
  end if;
  select * into v_settings from rollup.account_settings as s where s.account_id = p_account_id;
  v_why := rollup.why_raw(v_settings, p_group_by, v_timezone);
  if v_why is not null then
    return query select p_since, p_until, 'raw', v_why;
    return;
  end if;

  v_days := rollup.rollup_days(p_account_id, p_since, p_until, v_payload, p_group_by, v_timezone);
  v_clean := rollup.clean_days(p_account_id);
  v_covered := coalesce(
    (
      select c.covered from rollup.account_coverage as c
      where c.account_id = p_account_id and c.generation = v_settings.generation
    ),
    '{}'
  );
  v_whole := datemultirange(rollup.whole_days(p_since, p_until, v_timezone));
  v_all := datemultirange(rollup.touched_days(p_since, p_until, v_timezone));
  return query
    select p.starts_at, p.ends_at, p.source, p.reason
    from (
      select
        -- Where clocks repeat a midnight, PostgreSQL means the second: the ends of the range are not midnights anyway.
        case when lower(s.days) = lower(v_all) then p_since else lower(s.days)::timestamp at time zone v_timezone end as starts_at,
        case when upper(s.days) = upper(v_all) then p_until else upper(s.days)::timestamp at time zone v_timezone end as ends_at,
        s.source, s.reason
      from (
        select unnest(v_days) as days, 'rollup' as source, 'clean' as reason
        union all
        select unnest(v_all - v_whole), 'raw', 'part of a day'
        union all
        select unnest(v_whole - v_covered), 'raw', 'not covered'
        union all
        select unnest(v_whole * v_covered - v_clean), 'raw', 'dirty'
        union all
        select unnest(v_whole * v_clean - v_days), 'raw', 'distinct counts do not add up over the gaps in this period'
      ) as s
    ) as p
    -- Not what lies in a day that clocks skip.
    where p.starts_at < p.ends_at
    order by 1;
end
$$;
comment on function rollup.read_plan(int, timestamptz, timestamptz, text, text, text) is
  'Which part of [p_since, p_until) a read takes from rollups and which from raw events, and why. Arguments as in rollup.timeseries; '
  'p_metric matters for distinct counts only. Example: select * from rollup.read_plan(1, ''2026-01-01'', ''2027-01-01'');';
