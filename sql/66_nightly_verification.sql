-- Verification at night, by the worker: an account at a time, in its own small hours, its last days and a piece of the older ones.

create or replace function rollup.verification_due(p_now timestamptz default now())
returns table (account_id int, today date)
language sql stable
set search_path = pg_catalog, pg_temp as $$
  with zone as materialized (
    select z.name, p_now at time zone z.name as local_time
    from (
      select distinct s.reporting_timezone as name from rollup.account_settings as s where s.reporting_timezone is not null offset 0
    ) as z
    where rollup.has_timezone(z.name)
    offset 0
  )
  select s.account_id, z.local_time::date
  from zone as z
  join rollup.account_settings as s on s.reporting_timezone = z.name
  join rollup.accounts_here() as a on a.account_id = s.account_id
  join rollup.account_coverage as c on c.account_id = s.account_id and c.generation = s.generation and c.covered <> '{}'
  where z.local_time::time >= '01:00' and z.local_time::time < '05:00'
    -- Not this night yet.
    and (c.last_verified_at is null or c.last_verified_at < z.local_time::date::timestamp at time zone z.name)
    and not rollup.is_being_backfilled(s.account_id)
    -- None of its days is clean, so nothing would be compared.
    and not exists (select from rollup.dirty_marks as m where m.account_id = s.account_id and m.date is null)
  order by c.last_verified_at nulls first, s.account_id
$$;
comment on function rollup.verification_due(timestamptz) is
  'The accounts that are to be verified at p_now, and their local date: it is between 1 and 5 o''clock there, and they were not yet this night.';

create or replace function rollup.nightly_ranges(p_account_id int, p_today date, p_verified_from date)
returns table (from_date date, to_date date)
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
declare
  v_recent constant int := 7;
  v_nights constant int := 28;
  v_timezone text := (select s.reporting_timezone from rollup.account_settings as s where s.account_id = p_account_id);
  v_first date := rollup.first_unsealed_day(p_account_id, least(
    (select rollup.local_date(e.first_event, v_timezone) from rollup.event_span(p_account_id) as e),
    (select min(r.date) from rollup.reporting_events_rollups as r where r.account_id = p_account_id and isfinite(r.date))
  ));
  v_last date := least(p_verified_from, p_today - v_recent) - 1;
  v_from date;
begin
  -- Also what lies in days to come.
  return query select p_today - v_recent, null::date;
  if v_last < v_first or v_first is null then
    -- The oldest were seen: from the newest on again.
    v_last := p_today - v_recent - 1;
  end if;
  v_from := v_last - ((p_today - v_recent - v_first) / v_nights);
  -- And what lies before the first event.
  return query select case when v_from > v_first then v_from end, v_last where v_last >= v_first;
end
$$;
comment on function rollup.nightly_ranges(int, date, date) is
  'The days to verify in a night: the last week, and of the older ones that are not sealed one piece in 29, from the newest back, so that '
  'each is seen within a month. p_verified_from: how far the last nights came. NULL bounds are open.';

create or replace function rollup.verify_next(
  p_now timestamptz default clock_timestamp(),
  out account_id int, out verified_from date, out differences bigint, out days int
)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '300ms' as $$
declare
  v_today date;
  v_range record;
  v_dates date[] := '{}';
  v_found record;
begin
  perform rollup.limit_lock_waits();
  perform rollup.require_read_committed('verify_next');
  -- One account at a time, whoever asks. (None has the number 0.)
  if not rollup.try_lock_account(0) then
    return;
  end if;
  select d.account_id, d.today into account_id, v_today from rollup.verification_due(p_now) as d limit 1;
  if account_id is null then
    return;
  end if;
  begin
    differences := 0;
    for v_range in
      select r.*
      from rollup.account_coverage as c
      cross join lateral rollup.nightly_ranges(c.account_id, v_today, c.verified_from) as r
      where c.account_id = verify_next.account_id
    loop
      select count(*) as differences, array_agg(distinct v.date) as dates into v_found
      from rollup.verify(account_id, v_range.from_date, v_range.to_date) as v;
      differences := differences + v_found.differences;
      v_dates := v_dates || coalesce(v_found.dates, '{}');
      if v_range.to_date is not null then
        verified_from := v_range.from_date;
      end if;
    end loop;
    days := cardinality(v_dates);
    insert into rollup.dirty_marks (account_id, date, marked_at, reason)
    select verify_next.account_id, d, now(), 'a verification found a difference' from unnest(v_dates) as d;
  exception when others then
    -- The others' turn; this one's again tomorrow.
    raise warning 'rollup: account % could not be verified: % (SQLSTATE %)', account_id, sqlerrm, sqlstate
      using hint = format('To see it: select * from rollup.verify(%s);', account_id);
    differences := null;
    days := null;
    -- From where the last nights came.
    verified_from := (select c.verified_from from rollup.account_coverage as c where c.account_id = verify_next.account_id);
  end;
  update rollup.account_coverage as c
  set last_verified_at = p_now, last_verification_differences = verify_next.differences, last_verification_days = verify_next.days,
    verified_from = verify_next.verified_from
  where c.account_id = verify_next.account_id;
end
$$;
comment on function rollup.verify_next(timestamptz) is
  'Verifies the next account that is due at p_now (verification_due), of its clean days that are not sealed the last week and a piece of '
  'the older ones, and marks the days that differ, for the worker to rebuild. Returns the account, how far back it looked, how many '
  'differences and days; NULLs if none is due, or somebody else is verifying. Waits for nobody and blocks nobody. The worker calls it through '
  'the night, and sleeps as long as each call took: half a core at most. An account that cannot be verified is left for the next night, with a warning. Errors: RU004 not read committed, 55P03 a '
  'row locked. Example: select * from rollup.verify_next();';
