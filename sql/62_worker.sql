-- What the worker, and whoever watches it, asks of the database beside the jobs themselves.

create or replace function rollup.worker_lock_class()
returns int
language sql immutable parallel safe as $$
  select 2003792491
$$;
comment on function rollup.worker_lock_class() is
  'First half of the advisory locks (worker_lock_class(), hashtext(worker id)) that say a worker is alive; "work" in ASCII.';

create or replace function rollup.live_workers()
returns table (worker_hash int, pid int)
language sql volatile as $$
  select l.objid::bigint::bit(32)::int, l.pid
  from pg_locks as l
  where l.locktype = 'advisory' and l.granted and l.objsubid = 2
    and l.database = (select d.oid from pg_database as d where d.datname = current_database())
    and l.classid = rollup.worker_lock_class()::oid
$$;
comment on function rollup.live_workers() is 'The workers that are alive: hashtext of each one''s id, and the session that says so.';

create or replace function rollup.heartbeat(p_worker_id text)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
declare
  v_dead text[];
begin
  if not exists (select from rollup.live_workers() as w where w.worker_hash = hashtext(p_worker_id) and w.pid = pg_backend_pid()) then
    -- A worker whose queue has started anew has another id, and works on the jobs of the former no more.
    perform pg_advisory_unlock_all();
    perform pg_advisory_lock_shared(rollup.worker_lock_class(), hashtext(p_worker_id));
  end if;
  select array_agg(distinct j.locked_by) into v_dead
  from rollup_worker.jobs as j
  where j.locked_by is not null and hashtext(j.locked_by) <> all (select w.worker_hash from rollup.live_workers() as w);
  if v_dead is not null then
    perform rollup_worker.force_unlock_workers(v_dead);
  end if;
  return coalesce(cardinality(v_dead), 0);
end
$$;
comment on function rollup.heartbeat(text) is
  'Registers a worker as alive for as long as the session lives (NULL: its queue does not run, none is), and unlocks the jobs of those '
  'that are not: a killed worker leaves its jobs locked, which graphile-worker itself would only notice after hours. Safe to repeat; the '
  'session must have no advisory locks of its own. Returns how many workers were dead.';

create or replace function rollup.enqueue_repairs()
returns setof bigint
language sql volatile as $$
  with dirty as (
    select
      m.account_id,
      bool_or(m.date is null or not isfinite(m.date)) as whole,
      -- Days less than a week apart are rebuilt together; the others have their turn when those are done.
      range_agg(daterange(m.date, m.date + 7)) filter (where isfinite(m.date)) as weeks
    from (
      select d.account_id, d.date from rollup.repairable_marks() as d
      union all
      select c.account_id, null
      from rollup.account_coverage as c
      join rollup.accounts_here() as a on a.account_id = c.account_id and c.host_relation is distinct from rollup.coverage_of(a.host_relation)
    ) as m
    join rollup.account_settings as s on s.account_id = m.account_id and s.reporting_timezone is not null
    where not exists (
      select
      from rollup.backfill_runs as r
      where r.account_id = m.account_id
        and (
          r.state in ('pending', 'running')
          or (
            r.state in ('failed', 'cancelled')
            and r.generation = s.generation
            and r.finished_at > now() - interval '1 hour'
            and coalesce(m.date, 'infinity') between r.from_date and r.to_date
          )
        )
    )
    group by 1
    limit 100
  )
  select case
    when d.whole then rollup.enqueue_backfill(d.account_id)
    else rollup.enqueue_backfill(d.account_id, lower(first.days), upper(first.days) - 7)
  end
  from dirty as d
  -- Somebody who is changing an account's settings must not keep the worker from the others, nor from folding.
  cross join lateral (
    select from rollup.account_settings as s where s.account_id = d.account_id for no key update skip locked
  ) as free
  left join lateral (select w as days from unnest(d.weeks) as w order by w limit 1) as first on true
$$;
comment on function rollup.enqueue_repairs() is
  'Queues a backfill for accounts with dirty marks: of the days marked, or of the whole account; and of accounts whose rollups belong to '
  'another table of the host, or to a version before this was known. None while one of the account is under '
  'way or while its settings are being changed, nor within an hour after one of the same days failed or was cancelled. Returns the runs.';

create or replace function rollup.worker_health()
returns table (
  workers bigint, jobs_ready bigint, jobs_running bigint, jobs_later bigint, jobs_given_up bigint,
  backfills_pending bigint, backfills_running bigint, accounts_to_fold bigint, deltas_pending bigint, dirty_accounts bigint
)
language sql volatile
set search_path = pg_catalog, pg_temp as $$
  select
    (select count(distinct w.worker_hash) from rollup.live_workers() as w),
    j.*,
    r.*,
    (select count(*) from rollup.accounts_to_fold()),
    (select count(*) from (select from rollup.deltas limit 1000000) as d),
    (select count(distinct m.account_id) from rollup.repairable_marks() as m)
  from (
    select
      count(*) filter (where j.locked_at is null and j.run_at <= now() and j.attempts < j.max_attempts),
      count(*) filter (where j.locked_at is not null),
      count(*) filter (where j.locked_at is null and j.run_at > now() and j.attempts < j.max_attempts),
      count(*) filter (where j.locked_at is null and j.attempts >= j.max_attempts)
    from rollup_worker.jobs as j
  ) as j
  cross join (
    select count(*) filter (where r.state = 'pending'), count(*) filter (where r.state = 'running')
    from rollup.backfill_runs as r
    where r.state in ('pending', 'running')
  ) as r
$$;
comment on function rollup.worker_health() is
  'The workers that are alive and what waits for them (deltas_pending is counted up to a million); each logs this once a minute.';

create or replace function rollup.warnings()
returns setof text
language sql volatile
set search_path = pg_catalog, pg_temp as $$
  select format('No worker takes jobs, and %s %s for one.', r.waiting, case r.waiting when 1 then 'backfill waits' else 'backfills wait' end)
  from (select count(*) as waiting from rollup.backfill_runs as r where r.state in ('pending', 'running')) as r
  where r.waiting > 0 and not exists (select from rollup.live_workers())
  union all
  select distinct o from rollup.host_relations() as h cross join lateral rollup.host_table_obstacles(h.relation) as o
  union all
  select o from rollup.host_setting_obstacles() as o
  union all
  select format('Account %s has more than 100,000 pending changes: until a worker has folded them its reads are slower.', a)
  from rollup.accounts_to_fold() as a
  where exists (select from rollup.deltas as d where d.account_id = a offset 100000)
  union all
  select format(
    'Raw events of account %s before %s are past their retention and were not purged. Why not: select rollup.apply_retention(%1$s);', r.account_id, r.before
  )
  from rollup.retention_due(now() - interval '1 day') as r
$$;
comment on function rollup.warnings() is
  'What somebody should see to, in plain words: work that nobody does, and backlogs. The worker logs it once a minute, status shows it.';
