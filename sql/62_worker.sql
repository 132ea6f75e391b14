-- What the worker, and whoever watches it, asks of the database beside the jobs themselves.

create or replace function rollup.worker_lock_class()
returns int
language sql immutable parallel safe as $$
  select 2003792491
$$;
comment on function rollup.worker_lock_class() is
  'First half of the advisory locks (worker_lock_class(), hashtext(worker id)) that say a worker is alive; "work" in ASCII.';

create or replace function rollup.worker_attends(p_worker_id text, p_pid int default null)
returns boolean
language sql volatile as $$
  select exists (
    select
    from pg_locks as l
    where l.locktype = 'advisory' and l.granted and l.objsubid = 2
      and l.database = (select d.oid from pg_database as d where d.datname = current_database())
      and l.classid = rollup.worker_lock_class()::oid
      and l.objid = (hashtext(p_worker_id)::bigint & 4294967295)::oid
      and l.pid = coalesce(p_pid, l.pid)
  )
$$;
comment on function rollup.worker_attends(text, int) is
  'Whether a session (the one of p_pid) holds the lock that says a worker is alive.';

create or replace function rollup.attend_worker(p_worker_id text)
returns bigint
language plpgsql volatile as $$
declare
  v_lost text[];
begin
  if not rollup.worker_attends(p_worker_id, pg_backend_pid()) then
    perform pg_advisory_lock(rollup.worker_lock_class(), hashtext(p_worker_id));
  end if;
  select array_agg(l.locked_by) into v_lost
  from (
    select j.locked_by from rollup_worker._private_jobs as j where j.locked_by is not null
    union
    select q.locked_by from rollup_worker._private_job_queues as q where q.locked_by is not null
  ) as l
  where not rollup.worker_attends(l.locked_by);
  if v_lost is not null then
    perform rollup_worker.force_unlock_workers(v_lost);
  end if;
  -- A worker wrongly taken for dead, because only its attendance was lost, works on: a job is then done by two, and the one who is
  -- second to remove it leaves its queue locked. (By age as well, which unlike the jobs is looked at anew should the row change.)
  update rollup_worker._private_job_queues as q
  set locked_at = null, locked_by = null
  where q.locked_at < now() - interval '5 seconds'
    and not exists (select from rollup_worker._private_jobs as j where j.job_queue_id = q.id and j.locked_by = q.locked_by);
  return coalesce(cardinality(v_lost), 0);
end
$$;
comment on function rollup.attend_worker(text) is
  'Says, for as long as the session lives, that a worker is alive, and takes the jobs from those that are not: a killed worker leaves '
  'its jobs locked, which graphile-worker itself would only notice after hours. Safe to repeat. Returns how many workers were gone.';

create or replace function rollup.fail_plan_backfill(p_run_id bigint, p_sqlstate text, p_error text)
returns text
language plpgsql volatile as $$
declare
  v_run rollup.backfill_runs;
begin
  update rollup.backfill_runs as r
  set error = p_error,
    state = case when rollup.is_lasting_error(p_sqlstate) then 'failed' else r.state end,
    finished_at = case when rollup.is_lasting_error(p_sqlstate) then clock_timestamp() end
  where r.id = p_run_id and r.state = 'pending'
  returning * into v_run;
  if v_run.state = 'pending' and rollup.is_busy_error(p_sqlstate) then
    perform rollup.add_plan_job(v_run, '1 s');
    return 'waiting';
  end if;
  return v_run.state;
end
$$;
comment on function rollup.fail_plan_backfill(bigint, text, text) is
  'Notes that a run could not begin; returns its state: "waiting" is tried again in a moment, "pending" means that it is worth another '
  'attempt some time.';

create or replace function rollup.enqueue_repairs()
returns setof bigint
language sql volatile as $$
  with dirty as (
    select
      m.account_id,
      bool_or(m.date is null or not isfinite(m.date)) as whole,
      -- Days less than a week apart are rebuilt together; the others have their turn when those are done.
      range_agg(daterange(m.date, m.date + 7)) filter (where isfinite(m.date)) as weeks
    from rollup.dirty_marks as m
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
  'Queues a backfill for accounts with dirty marks: of the days marked, or of the whole account. None while one of the account is under '
  'way or while its settings are being changed, nor within an hour after one of the same days failed or was cancelled. Returns the runs.';

create or replace function rollup.worker_health()
returns table (
  jobs_ready bigint, jobs_running bigint, jobs_later bigint, jobs_given_up bigint,
  backfills_pending bigint, backfills_running bigint, accounts_to_fold bigint, dirty_accounts bigint
)
language sql stable as $$
  select j.*, r.*, (select count(*) from rollup.accounts_to_fold()), (select count(distinct m.account_id) from rollup.dirty_marks as m)
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
comment on function rollup.worker_health() is 'What waits for the worker; it logs this once a minute.';
