-- How an account stands, for people. Whatever state one account is in, the others' can be seen. Nothing here depends on the host's
-- tables: they are asked by functions, which let them be altered, dropped and restored.

create or replace function rollup.event_span(p_account_id int, out first_event timestamp, out last_event timestamp)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan as $$
begin
  select min(first.created_at), max(last.created_at)
  into first_event, last_event
  from unnest(rollup.event_names()) as n (name)
  -- The name once more, for the index to give its events in their order.
  cross join lateral (
    select e.created_at from rollup.host_events(p_account_id, array[n.name], '-infinity', 'infinity') as e
    where e.name = n.name and e.created_at > '-infinity' order by e.created_at limit 1
  ) as first
  cross join lateral (
    select e.created_at from rollup.host_events(p_account_id, array[n.name], '-infinity', 'infinity') as e
    where e.name = n.name and e.created_at < 'infinity' order by e.created_at desc limit 1
  ) as last
  where isfinite(first.created_at) and isfinite(last.created_at);
end
$$;
comment on function rollup.event_span(int) is
  'When an account had its first and its last event that counts towards a metric, UTC; NULLs: none.';

create or replace function rollup.covered_share(p_account_id int, p_timezone text)
returns numeric
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
declare
  v_span record;
  v_history daterange;
begin
  v_span := rollup.event_span(p_account_id);
  if v_span.first_event is null or not rollup.has_timezone(p_timezone) then
    return null;
  end if;
  v_history := daterange(rollup.local_date(v_span.first_event, p_timezone), rollup.local_date(v_span.last_event, p_timezone), '[]');
  return round(
    (
      select coalesce(sum(upper(clean.days) - lower(clean.days)), 0)
      from unnest(rollup.clean_days(p_account_id) * datemultirange(v_history)) as clean (days)
    )::numeric / (upper(v_history) - lower(v_history)),
    4
  );
end
$$;
comment on function rollup.covered_share(int, text) is
  'Clean days of an account as a share of those from its first to its last event; NULL without events or where the server does not know '
  'the zone.';

create or replace function rollup.awaited_by(p_awaited text[])
returns text[]
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
begin
  if coalesce(p_awaited, '{}') = '{}' then
    return '{}';
  end if;
  return array(
    select format('process %s', l.pid)
    from pg_locks as l
    where l.locktype = 'virtualxid' and l.granted and l.virtualxid = any (p_awaited) and l.pid is not null
    union
    select format('prepared transaction %L', p.gid)
    from pg_prepared_xacts as p
    where p.database = current_database() and (p.transaction::text = any (p_awaited) or 'prepared' = any (p_awaited))
    order by 1
  );
end
$$;
comment on function rollup.awaited_by(text[]) is 'Who is meant by account_coverage.awaited, of those that have not ended.';

select rollup.define_view('account_status', $view$
  select
    s.account_id,
    s.reporting_timezone,
    s.reporting_events_rollup,
    rollup.covered_days(s.account_id) as covered,
    case when s.reporting_timezone is not null then rollup.covered_share(s.account_id, s.reporting_timezone) end as covered_share,
    coalesce(m.dirty_days, 0) as dirty_days,
    coalesce(d.pending_deltas, 0) as pending_deltas,
    (
      select r.id from rollup.backfill_runs as r
      where r.account_id = s.account_id and r.state in ('pending', 'running')
      order by r.state desc, r.id limit 1
    ) as running_backfill_id,
    c.sealed_through,
    c.last_verified_at,
    c.last_verification_differences,
    rollup.awaited_by(c.awaited) as awaited_by,
    case
      when s.reporting_timezone is null and s.host_timezone <> ''
        then format('no time zone: "%s", which stands in public.accounts.settings, is none', s.host_timezone)
      when s.reporting_timezone is null then null
      when not rollup.has_timezone(s.reporting_timezone) then 'this server does not know its time zone'
      when c.generation = s.generation and c.covered <> '{}' and c.host_relation is distinct from rollup.coverage_of(h.host_relation)
        then 'its rollups were made from another table than public.reporting_events is now'
      when c.generation = s.generation and c.covered <> '{}' and not rollup.knows_partitions()
        then 'public.reporting_events has other partitions than when the worker last looked'
      when m.all_days and c.covered <> '{}' then 'all of its days are dirty'
      when exists (select from rollup.dirty_marks as k where k.account_id = s.account_id and k.date <= c.sealed_through)
        then 'late changes of sealed days could not be added'
      else rollup.host_setting_obstacle(s.account_id)
    end as problem,
    s.host_timezone,
    c.purged,
    c.purged_events,
    c.purge_next is not null as purging,
    s.retention_months,
    c.last_verification_days,
    c.verified_from
  from rollup.account_settings as s
  join rollup.accounts_here() as h on h.account_id = s.account_id
  left join rollup.account_coverage as c on c.account_id = s.account_id
  left join (
    select m.account_id, count(distinct m.date) as dirty_days, bool_or(m.date is null) as all_days
    from rollup.dirty_marks as m
    left join rollup.account_coverage as c on c.account_id = m.account_id
    where (m.date <= c.sealed_through) is not true
    group by 1
  ) as m on m.account_id = s.account_id
  left join (
    select d.account_id, count(*) as pending_deltas
    from rollup.deltas as d
    join rollup.account_settings as s on s.account_id = d.account_id
    left join rollup.account_coverage as c on c.account_id = d.account_id
    where rollup.delta_counts(d, s.generation, c.sealed_through)
    group by 1
  ) as d on d.account_id = s.account_id
$view$);
comment on view rollup.account_status is
  'Settings, coverage and pending work of each account. covered_share: clean days as a share of those from its first to its last event; '
  'dirty_days: days that the trigger could not keep (an account-wide mark makes covered_share 0); running_backfill_id: of backfill_runs; '
  'awaited_by: whose end a rebuild awaits before it claims days, for they may still write under an older zone; problem: what keeps all of '
  'its days from being read from rollups and does not go by itself, and what sealed days miss; host_timezone: the name in '
  'public.accounts.settings, where the host keeps one; purged: the days whose raw events were or, while purging, are being deleted, and how '
  'many that have been; retention_months: see set_retention; last_verified_at, '
  'last_verification_differences, last_verification_days: when a verification ended, what differed, and how many days were marked for rebuilding; '
  'verified_from: how far back the nightly ones have come.';
