-- What a read asks for, and where its numbers come from: whole clean days from rollups, all else from raw events. Decided here and
-- nowhere else.

-- What is asked ------------------------------------------------------------------------------------------------------

create or replace function rollup.read_metric(p_metric text)
returns table (aggregate text, event_name text, metric text, is_distinct boolean, why_raw text)
language plpgsql stable parallel safe
set search_path = pg_catalog, pg_temp as $$
begin
  return query
    select
      r.aggregate, r.event_name, r.metric, coalesce(m.payload = 'distinct', r.aggregate = 'distinct count'),
      case
        when r.aggregate in ('median', 'p90') then 'medians and percentiles do not follow from totals'
        when r.aggregate in ('net count', 'rate') then 'a hand-off counts against the bot''s resolutions in the whole range'
        when r.aggregate = 'distinct count' and r.event_name <> all (rollup.distinct_event_names())
          then 'conversations of this event are not remembered'
      end
    from rollup.report_metric_list() as r
    left join rollup.event_metric_list() as m on m.metric = r.metric
    where r.report_metric = p_metric and r.event_name is not null;
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
        (select string_agg(r.report_metric, ', ') from rollup.report_metric_list() as r where r.event_name is not null)
      );
  end if;
end
$$;
comment on function rollup.read_metric(text) is
  'What a report metric is made of. is_distinct: it counts conversations, not events; why_raw: why it comes from raw events alone, or '
  'NULL. Raises RU008 for an unknown one, RU009 for NULL.';

create or replace function rollup.require_known_account(p_account_id int)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
declare
  v_known boolean := exists (select from rollup.account_settings as s where s.account_id = p_account_id);
begin
  if not v_known then
    v_known := exists (select from rollup.host_events(p_account_id, rollup.event_names(), '-infinity', 'infinity'));
  end if;
  if not v_known and rollup.accounts_table() is not null then
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

create or replace function rollup.require_read_range(
  p_function text, p_account_id int, p_since timestamptz, p_until timestamptz, p_group_by text
)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
declare
  v_most constant int := 100000;
begin
  if p_account_id is null or p_since is null or p_until is null then
    perform rollup.require(p_function, jsonb_build_object('p_account_id', p_account_id, 'p_since', p_since, 'p_until', p_until));
  end if;
  -- At the ends of what a timestamp can hold, another zone or a period more is beyond it.
  if p_since > p_until or p_since < timestamptz '4713-03-01 00:00Z BC' or p_until > timestamptz '294275-01-01 00:00Z' then
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
  if p_function = 'timeseries'
    and extract(epoch from p_until) - extract(epoch from p_since) > v_most * extract(epoch from rollup.period_length(p_group_by))
  then
    raise exception using
      errcode = 'RU003',
      message = format('rollup.%s: the range from %s to %s has more than %s periods (%s)', p_function, p_since, p_until, v_most, p_group_by),
      hint = 'Pass a shorter range or a longer period.';
  end if;
end
$$;
comment on function rollup.require_read_range(text, int, timestamptz, timestamptz, text) is
  'Raises RU009 for a range or an account that is NULL, RU003 for a range that is reversed, infinite or has too many periods.';

create or replace function rollup.read_timezone(p_account_id int, p_timezone text)
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
declare
  v_account rollup.account_settings;
begin
  select * into v_account from rollup.account_settings as s where s.account_id = p_account_id;
  if v_account.account_id is null then
    perform rollup.require_known_account(p_account_id);
  end if;
  if p_timezone is not null and p_timezone is distinct from v_account.reporting_timezone then
    return rollup.find_timezone(p_timezone);
  end if;
  if not rollup.has_timezone(coalesce(v_account.reporting_timezone, 'UTC')) then
    raise exception using
      errcode = 'RU001',
      message = format('this server has no time zone "%s", that of account %s', v_account.reporting_timezone, p_account_id),
      hint = format(
        'Install the server''s time zone files anew; or set another zone: select rollup.set_reporting_timezone(%s, ''Etc/UTC''); '
        'or read in another: p_timezone => ''UTC''.', p_account_id
      );
  end if;
  return coalesce(v_account.reporting_timezone, 'UTC');
end
$$;
comment on function rollup.read_timezone(int, text) is
  'The zone of a read: as asked, or the account''s, or UTC. Raises RU001 for one that the server does not know, RU007 for an account that '
  'nobody knows.';

create or replace function rollup.prepare_read(
  p_function text, p_account_id int, p_since timestamptz, p_until timestamptz, p_group_by text, p_timezone text,
  p_dimension_type text default 'account', p_dimension_id bigint default null, p_business_hours boolean default false
)
returns rollup.read
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
declare
  v_read rollup.read;
begin
  perform rollup.require_choice(p_function, 'p_group_by', p_group_by, case
    when p_function = 'timeseries' then rollup.period_types()
    else rollup.period_types() || 'range'::text
  end);
  perform rollup.require_choice(p_function, 'p_dimension_type', p_dimension_type, rollup.dimension_types());
  perform rollup.require_read_range(p_function, p_account_id, p_since, p_until, p_group_by);
  if p_dimension_type = 'account' and p_dimension_id <> p_account_id then
    raise exception using
      errcode = 'RU008',
      message = format('rollup.%s: the id of the dimension account is the account itself, not %s', p_function, p_dimension_id),
      hint = 'Leave p_dimension_id out for the account, or pass p_dimension_type => ''agent'' or ''inbox''.';
  end if;
  perform rollup.require_all_rows(p_function);
  v_read.account_id := p_account_id;
  v_read.since := p_since;
  v_read.until := p_until;
  v_read.group_by := p_group_by;
  v_read.timezone := rollup.read_timezone(p_account_id, p_timezone);
  v_read.dimension_type := p_dimension_type;
  v_read.first_dimension_id := case p_dimension_type when 'account' then p_account_id else p_dimension_id end;
  v_read.last_dimension_id := v_read.first_dimension_id;
  v_read.business_hours := coalesce(p_business_hours, false);
  v_read.rollup_days := '{}';
  v_read.raw_days := '{(,)}';
  return v_read;
end
$$;
comment on function rollup.prepare_read(text, int, timestamptz, timestamptz, text, text, text, bigint, boolean) is
  'Checks the arguments of a read, and has it take all from raw events: see choose_sources. Errors: RU001, RU003, RU007, RU008, RU009, RU011.';

create or replace function rollup.require_dimension_id(p_function text, p_read rollup.read)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
begin
  if p_read.first_dimension_id is null then
    raise exception using
      errcode = 'RU009',
      message = format('rollup.%s: the dimension %s needs an id', p_function, p_read.dimension_type),
      hint = format('Pass p_dimension_id => the id of the %s.', p_read.dimension_type);
  end if;
end
$$;
comment on function rollup.require_dimension_id(text, rollup.read) is 'Raises RU009 for a read of an agent or inbox without its id.';

-- Where it comes from ------------------------------------------------------------------------------------------------

create or replace function rollup.why_raw(p_settings rollup.account_settings, p_read rollup.read)
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
begin
  return case
    when p_settings.reporting_timezone is null then 'the account has no reporting time zone'
    when not p_settings.reporting_events_rollup then 'the flag reporting_events_rollup is off'
    when p_read.group_by = 'hour' then 'grouped by hour'
    when p_settings.reporting_timezone <> p_read.timezone and not (
      rollup.has_timezone(p_settings.reporting_timezone)
      and rollup.same_timezone(p_settings.reporting_timezone, p_read.timezone, p_read.since, p_read.until)
    ) then 'another time zone than the account''s'
  end;
end
$$;
comment on function rollup.why_raw(rollup.account_settings, rollup.read) is
  'Why no part of a read may come from rollups, or NULL if days of it may. A zone with the clocks of the account''s is the same.';

create or replace function rollup.shortened_day(p_read rollup.read, p_clean datemultirange)
returns date
language plpgsql stable parallel safe
set search_path = pg_catalog, pg_temp as $$
declare
  v_day date := rollup.local_date(p_read.until at time zone 'UTC', p_read.timezone);
  v_end timestamptz := rollup.day_begins(v_day + 1, p_read.timezone);
begin
  return case
    when v_end - p_read.until < interval '12 hours' and p_clean @> v_day
      and rollup.whole_days(p_read.since, v_end, p_read.timezone) @> v_day
    then v_day
  end;
end
$$;
comment on function rollup.shortened_day(rollup.read, datemultirange) is
  'The clean day that the end of a read cuts off in its second half, as 23:59:59 does; NULL: none. The fewer events are those after it.';

create or replace function rollup.split_periods(p_days datemultirange, p_group_by text)
returns datemultirange
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp as $$
  select coalesce(range_agg(daterange(p.first_date, p.last_date, '[]')), '{}')
  from (
    select min(lower(piece)) as first_date, max(upper(piece)) - 1 as last_date
    from (
      select rollup.period(edge.date, p_group_by) as period, piece
      from unnest(p_days) as days
      cross join lateral (values (lower(days)), (upper(days) - 1)) as edge (date)
      cross join lateral unnest(p_days * datemultirange(rollup.period_days(edge.date, p_group_by))) as piece
      group by 1, 2
    ) as pieces
    group by period
    having count(*) > 1
  ) as p
$$;
comment on function rollup.split_periods(datemultirange, text) is
  'Those days, from the first to the last, of the periods that have several pieces of p_days.';

create or replace function rollup.require_raw_events(p_read rollup.read, p_why text)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
declare
  v_purged daterange;
  v_timezone text;
  v_needed datemultirange;
begin
  if p_read.since = p_read.until or (p_read.raw_days = '{}' and p_read.shortened_day is null) then
    return;
  end if;
  select c.purged, s.reporting_timezone into v_purged, v_timezone
  from rollup.account_coverage as c
  join rollup.account_settings as s on s.account_id = c.account_id
  where c.account_id = p_read.account_id and c.purged is not null;
  if v_purged is null then
    return;
  end if;
  v_needed := datemultirange(v_purged) * case
    when p_read.raw_days = '{(,)}' then datemultirange(rollup.touched_days(p_read.since, p_read.until, v_timezone))
    else p_read.raw_days + case
      when p_read.shortened_day is null then '{}' else datemultirange(daterange(p_read.shortened_day, p_read.shortened_day, '[]'))
    end
  end;
  if v_needed <> '{}' then
    raise exception using
      errcode = 'RU014',
      message = format(
        'this read needs raw events of account %s that were purged, of %s: %s', p_read.account_id, v_needed,
        coalesce(p_why, 'parts of days do not come from rollups')
      ),
      hint = format(
        'Of %s whole days of %s are left: read from midnight to midnight there, by day or longer, no percentiles, with the flag reporting_events_rollup on.',
        v_purged, v_timezone
      );
  end if;
end
$$;
comment on function rollup.require_raw_events(rollup.read, text) is
  'Raises RU014 where a read takes raw events of days from which they were purged. p_why: why it takes them; NULL: parts of days.';

create or replace function rollup.choose_sources(p_read rollup.read, p_distinct boolean, p_why_raw text default null)
returns rollup.read
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
declare
  v_settings rollup.account_settings;
  v_days datemultirange;
begin
  select * into v_settings from rollup.account_settings as s where s.account_id = p_read.account_id;
  p_why_raw := coalesce(p_why_raw, rollup.why_raw(v_settings, p_read));
  if p_read.since = p_read.until or p_why_raw is not null then
    perform rollup.require_raw_events(p_read, p_why_raw);
    return p_read;
  end if;
  v_days := rollup.clean_days(p_read.account_id);
  p_read.shortened_day := rollup.shortened_day(p_read, v_days);
  v_days := v_days * datemultirange(rollup.whole_days(
    p_read.since,
    coalesce(rollup.day_begins(p_read.shortened_day + 1, p_read.timezone), p_read.until),
    p_read.timezone
  ));
  -- Distinct counts do not add up across pieces: a period whose clean days are not in one piece is read raw, sealed days apart, which
  -- are one piece and may have no raw events.
  if p_distinct and v_days <> datemultirange(range_merge(v_days)) then
    v_days := v_days - (rollup.split_periods(v_days, p_read.group_by) - rollup.sealed_days(p_read.account_id));
    if not v_days @> p_read.shortened_day then
      p_read.shortened_day := null;
    end if;
  end if;
  if v_days <> '{}' then
    p_read.rollup_days := v_days;
    p_read.raw_days := datemultirange(rollup.touched_days(p_read.since, p_read.until, p_read.timezone)) - v_days;
  end if;
  perform rollup.require_raw_events(p_read, null);
  return p_read;
end
$$;
comment on function rollup.choose_sources(rollup.read, boolean, text) is
  'A read with the days that it takes from rollups and from raw events. p_distinct: whether it counts distinct conversations; p_why_raw: '
  'why all must come from raw events, if so. Errors: RU014 raw events that it needs were purged.';

-- As a report --------------------------------------------------------------------------------------------------------

create or replace function rollup.read_plan(
  p_account_id int, p_since timestamptz, p_until timestamptz,
  p_metric text default null, p_group_by text default 'day', p_timezone text default null
)
returns table (starts_at timestamptz, ends_at timestamptz, source text, reason text)
language plpgsql stable
security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_read rollup.read := rollup.prepare_read('read_plan', p_account_id, p_since, p_until, p_group_by, p_timezone);
  v_distinct boolean := false;
  v_settings rollup.account_settings;
  v_why text;
  v_clean datemultirange;
  v_covered datemultirange;
  v_whole datemultirange;
  v_touched datemultirange;
  v_shortened datemultirange := '{}';
begin
  if p_metric is not null then
    select m.is_distinct, m.why_raw into v_distinct, v_why from rollup.read_metric(p_metric) as m;
  end if;
  if p_since = p_until then
    return;
  end if;
  select * into v_settings from rollup.account_settings as s where s.account_id = p_account_id;
  v_why := coalesce(v_why, rollup.why_raw(v_settings, v_read));
  if v_why is not null then
    perform rollup.require_raw_events(v_read, v_why);
    return query select p_since, p_until, 'raw', v_why;
    return;
  end if;

  v_read := rollup.choose_sources(v_read, v_distinct);
  v_clean := rollup.clean_days(p_account_id);
  v_covered := rollup.covered_days(p_account_id);
  v_whole := datemultirange(rollup.whole_days(p_since, p_until, v_read.timezone));
  v_touched := datemultirange(rollup.touched_days(p_since, p_until, v_read.timezone));
  if v_read.shortened_day is not null then
    v_shortened := datemultirange(daterange(v_read.shortened_day, v_read.shortened_day, '[]'));
  end if;
  return query
    select p.starts_at, p.ends_at, p.source, p.reason
    from (
      select
        -- Where clocks repeat a midnight, PostgreSQL means the second: the ends of the range are not midnights anyway.
        case when lower(s.days) = lower(v_touched) then p_since else lower(s.days)::timestamp at time zone v_read.timezone end as starts_at,
        -- What ends between the two is part of a day that has not begun by that.
        case when upper(s.days) = upper(v_touched) then p_until else least(upper(s.days)::timestamp at time zone v_read.timezone, p_until) end as ends_at,
        s.source, s.reason
      from (
        select unnest(v_read.rollup_days - v_shortened) as days, 'rollup' as source, 'clean' as reason
        union all
        select unnest(v_shortened), 'rollup', 'clean, less the raw events after the end'
        union all
        select unnest(v_touched - v_whole - v_read.rollup_days), 'raw', 'part of a day'
        union all
        select unnest(v_whole - v_covered), 'raw', 'not covered'
        union all
        select unnest(v_whole * v_covered - v_clean), 'raw', 'dirty'
        union all
        select unnest(v_whole * v_clean - v_read.rollup_days), 'raw', 'distinct counts do not add up over the gaps in this period'
      ) as s
    ) as p
    -- Not what lies in a day that clocks skip.
    where p.starts_at < p.ends_at
    order by 1;
end
$$;
comment on function rollup.read_plan(int, timestamptz, timestamptz, text, text, text) is
  'Which part of [p_since, p_until) a read takes from rollups and which from raw events, and why. Arguments as in rollup.timeseries; '
  'p_metric: medians, rates and counts of conversations cannot use all rollups that others can. Example: select * from rollup.read_plan(1, ''2026-01-01'', ''2027-01-01'');';
