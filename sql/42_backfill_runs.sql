-- Backfills of any size: a run is cut into chunks, and a job of the worker rebuilds one after the other, each in a transaction of its own.

create or replace function rollup.queue_backfill(p_run_id bigint, p_delay interval default '0 s')
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
declare
  v_job_id bigint;
begin
  -- Without the worker's schema the run waits; migrate makes it, and workers queue runs that have no job.
  if to_regnamespace('rollup_worker') is not null then
    update rollup.backfill_runs as r
    set job_id = (rollup_worker.add_job('backfill', json_build_object('run_id', r.id), run_at => now() + p_delay)).id
    where r.id = p_run_id and r.state in ('pending', 'running')
    returning r.job_id into v_job_id;
  end if;
  return v_job_id;
end
$$;
comment on function rollup.queue_backfill(bigint, interval) is
  'Gives a run that has not ended a job, in place of the one it had, which ends when it notices; returns the job''s id.';

create or replace function rollup.enqueue_backfill(p_account_id int, p_from date default null, p_to date default null)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
declare
  v_settings rollup.account_settings;
  v_run_id bigint;
begin
  perform rollup.require_days('enqueue_backfill', p_account_id, p_from, p_to);
  perform rollup.require_timezone(p_account_id);
  perform rollup.require_here('enqueue_backfill', p_account_id);
  perform rollup.require_unsealed('enqueue_backfill', p_account_id, p_from, p_to);
  v_settings := rollup.lock_settings(p_account_id);

  update rollup.backfill_runs as r
  set generation = v_settings.generation,
    from_date = least(r.from_date, coalesce(p_from, '-infinity')),
    to_date = greatest(r.to_date, coalesce(p_to, 'infinity'))
  where r.id = (
    select p.id
    from rollup.backfill_runs as p
    where p.account_id = p_account_id and p.state = 'pending'
    order by p.id
    limit 1
    -- One that a backfill is settling right now ends with it, and may not cover what is asked for.
    for update skip locked
  )
  returning r.id into v_run_id;
  if v_run_id is null then
    insert into rollup.backfill_runs (account_id, generation, from_date, to_date)
    values (p_account_id, v_settings.generation, coalesce(p_from, '-infinity'), coalesce(p_to, 'infinity'))
    returning id into v_run_id;
    perform rollup.queue_backfill(v_run_id);
  end if;
  return v_run_id;
end
$$;
comment on function rollup.enqueue_backfill(int, date, date) is
  'Asks the worker to rebuild the days p_from to p_to of an account (inclusive, NULL: open) and returns the id of the run in '
  'rollup.backfill_runs, which shows its progress. A run that has not begun is extended rather than doubled. '
  'Errors: RU002 no zone, RU003 reversed or infinite dates, RU011 on another node, RU012 sealed days. Example: select rollup.enqueue_backfill(1);';

create or replace function rollup.is_being_backfilled(p_account_id int)
returns boolean
language sql stable as $$
  select exists (select from rollup.backfill_runs as r where r.account_id = p_account_id and r.state = 'running')
$$;
comment on function rollup.is_being_backfilled(int) is 'Whether a run of the account is under way.';

create or replace function rollup.begin_next_backfill(p_account_id int)
returns void
language sql volatile as $$
  select rollup.queue_backfill(r.id)
  from (
    select p.id
    from rollup.backfill_runs as p
    where p.account_id = p_account_id and p.state = 'pending' and not rollup.is_being_backfilled(p_account_id)
    -- One that somebody holds looks again by itself.
    for no key update skip locked
  ) as r
$$;
comment on function rollup.begin_next_backfill(int) is 'When a run of an account has ended: lets the one that waits for it begin.';

create or replace function rollup.cancel_backfill(p_run_id bigint)
returns rollup.backfill_runs
language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
declare
  v_run rollup.backfill_runs;
begin
  perform rollup.require('cancel_backfill', jsonb_build_object('p_run_id', p_run_id));
  update rollup.backfill_runs as r
  set state = 'cancelled', finished_at = now()
  where r.id = p_run_id and r.state in ('pending', 'running')
  returning * into v_run;
  if v_run.id is null then
    select * into v_run from rollup.backfill_runs as r where r.id = p_run_id;
  end if;
  if v_run.id is null then
    raise exception using
      errcode = 'RU010',
      message = format('there is no backfill run %s', p_run_id),
      hint = 'See the runs with: select * from rollup.backfill_runs;';
  end if;
  perform rollup.begin_next_backfill(v_run.account_id);
  return v_run;
end
$$;
comment on function rollup.cancel_backfill(bigint) is
  'Cancels a run and returns its row; a chunk under way is finished, the others stay as they are. A run that has ended is left as it '
  'is. Errors: RU010 no such run. Example: select rollup.cancel_backfill(7);';

create or replace function rollup.cancel_outdated_backfill(p_run_id bigint)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
declare
  v_account_id int;
begin
  update rollup.backfill_runs as r
  set state = 'cancelled', finished_at = clock_timestamp(), error = 'the account''s time zone was changed meanwhile'
  from rollup.account_settings as s
  where r.id = p_run_id and r.state in ('pending', 'running') and s.account_id = r.account_id and s.generation <> r.generation
  returning r.account_id into v_account_id;
  perform rollup.begin_next_backfill(v_account_id);
end
$$;
comment on function rollup.cancel_outdated_backfill(bigint) is
  'Cancels a run whose account has another zone now, or none: what it has done is void, and the new zone has queued a run of its own.';

create or replace function rollup.chunk_events()
returns bigint
language sql immutable parallel safe as $$
  select 50000::bigint
$$;
comment on function rollup.chunk_events() is
  'How many raw events a chunk of a backfill run has, about: a fraction of a second of work, so that progress is seen and little lost.';

create or replace function rollup.is_lock_conflict(p_sqlstate text)
returns boolean
language sql immutable parallel safe as $$
  select p_sqlstate in ('RU006', '55P03', '40P01')
$$;
comment on function rollup.is_lock_conflict(text) is
  'Whether an error is somebody else''s lock, or a deadlock with him, and no fault of what was tried.';

create or replace function rollup.is_permanent_error(p_sqlstate text)
returns boolean
language sql immutable parallel safe as $$
  select left(p_sqlstate, 2) in ('0A', '42', 'RU') or p_sqlstate = '55000'
$$;
comment on function rollup.is_permanent_error(text) is
  'Whether another attempt would fail alike until somebody changes something: a right, a table, a publication, the account''s zone.';

create or replace function rollup.max_attempts()
returns int
language sql immutable parallel safe as $$
  select 5
$$;
comment on function rollup.max_attempts() is 'How often a chunk of a run, or its beginning, is tried before it has failed.';

create or replace function rollup.begin_backfill(p_run_id bigint)
returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
declare
  v_run rollup.backfill_runs;
begin
  update rollup.backfill_runs as r
  set state = 'running', started_at = now(), error = null
  where r.id = p_run_id and r.state = 'pending'
  returning * into v_run;
  if v_run.id is null then
    return false;
  end if;
  if v_run.from_date = '-infinity' and v_run.to_date = 'infinity' then
    perform rollup.forget_account_marks(v_run.account_id);
  end if;
  insert into rollup.backfill_chunks (account_id, run_id, chunk, from_date, to_date, events)
  select v_run.account_id, p_run_id, c.chunk, c.from_date, c.to_date, c.events
  from rollup.plan_chunks(
    v_run.account_id, rollup.first_unsealed_day(v_run.account_id, v_run.from_date), v_run.to_date, rollup.chunk_events()
  ) as c;
  update rollup.backfill_runs as r
  set chunks_total = (select count(*) from rollup.backfill_chunks as c where c.account_id = v_run.account_id and c.run_id = p_run_id)
  where r.id = p_run_id;
  return true;
end
$$;
comment on function rollup.begin_backfill(bigint) is
  'Under the account''s lock: begins a pending run by cutting it into chunks; whether it was pending.';

create or replace function rollup.next_chunk(p_account_id int, p_run_id bigint)
returns rollup.backfill_chunks
language sql stable as $$
  select c
  from rollup.backfill_chunks as c
  where c.account_id = p_account_id and c.run_id = p_run_id and c.state = 'pending'
  -- In time order: what comes later then finds what came before. What has failed has its next turn after all the others.
  order by c.attempts, c.chunk
  limit 1
$$;
comment on function rollup.next_chunk(int, bigint) is 'The chunk of a run to be rebuilt next; NULL when all have ended.';

create or replace function rollup.record_chunk(
  p_chunk rollup.backfill_chunks, p_state text, p_error text, p_events bigint default 0, p_rows_written bigint default 0
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
declare
  v_ended rollup.backfill_runs;
begin
  update rollup.backfill_chunks as c
  set state = p_state, error = p_error, attempts = c.attempts + 1,
    events = case p_state when 'done' then p_events else c.events end,
    finished_at = case when p_state <> 'pending' then clock_timestamp() end
  where c.account_id = p_chunk.account_id and c.run_id = p_chunk.run_id and c.chunk = p_chunk.chunk and c.state = 'pending';
  if not found then
    return;
  end if;
  update rollup.backfill_runs as r
  set chunks_done = r.chunks_done + (p_state = 'done')::int,
    chunks_failed = r.chunks_failed + (p_state = 'failed')::int,
    events = r.events + p_events,
    rows_written = r.rows_written + p_rows_written,
    error = (
      select format('chunk %s (%s to %s): %s', c.chunk, c.from_date, c.to_date, c.error)
      from rollup.backfill_chunks as c
      where c.account_id = r.account_id and c.run_id = r.id and c.error is not null
      order by c.chunk
      limit 1
    )
  where r.id = p_chunk.run_id;
  update rollup.backfill_runs as r
  set state = case when r.chunks_failed > 0 then 'failed' else 'done' end, finished_at = clock_timestamp()
  where r.id = p_chunk.run_id and r.state = 'running' and r.chunks_done + r.chunks_failed = r.chunks_total
  returning * into v_ended;
  perform rollup.begin_next_backfill(v_ended.account_id);
end
$$;
comment on function rollup.record_chunk(rollup.backfill_chunks, text, text, bigint, bigint) is
  'Records an attempt at a chunk: its state after it, the error or what it read and wrote. After the last chunk the run has ended.';

create or replace function rollup.fail_backfill(p_run_id bigint, p_chunk rollup.backfill_chunks, p_sqlstate text, p_error text)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
declare
  v_permanent boolean := rollup.is_permanent_error(p_sqlstate);
begin
  if p_chunk.chunk is not null then
    perform rollup.record_chunk(
      p_chunk, case when v_permanent or p_chunk.attempts + 1 >= rollup.max_attempts() then 'failed' else 'pending' end, p_error
    );
  else
    update rollup.backfill_runs as r
    set attempts = r.attempts + 1, error = p_error,
      state = case when f.failed then 'failed' else 'pending' end,
      finished_at = case when f.failed then clock_timestamp() end
    from rollup.backfill_runs as w
    cross join lateral (select v_permanent or w.attempts + 1 >= rollup.max_attempts() as failed) as f
    where r.id = p_run_id and w.id = r.id and r.state = 'pending';
  end if;
end
$$;
comment on function rollup.fail_backfill(bigint, rollup.backfill_chunks, text, text) is
  'Records that a chunk or, without one, the beginning of a run has failed: it is tried five times, what cannot succeed once. Days of a '
  'failed chunk stay as they were.';

create or replace function rollup.note_waiting(p_run_id bigint, p_reason text)
returns void
language sql volatile as $$
  update rollup.backfill_runs as r
  set error = p_reason
  where r.id = (
    select w.id
    from rollup.backfill_runs as w
    where w.id = p_run_id and w.state in ('pending', 'running') and w.error is distinct from p_reason
    -- What it waits for may be whoever holds this row.
    for no key update skip locked
  )
$$;
comment on function rollup.note_waiting(bigint, text) is 'Says in a run why it does not go on.';

create or replace function rollup.backfill_obstacle(p_run_id bigint, p_job_id bigint)
returns text
language sql stable as $$
  select case
    when r.state not in ('pending', 'running') or r.job_id <> p_job_id then 'ended'
    -- Its end lets this one begin; to look again is for an end that is being committed just now.
    when r.state = 'pending' and rollup.is_being_backfilled(r.account_id) then 'waiting'
  end
  from rollup.backfill_runs as r
  where r.id = p_run_id
  union all
  select 'ended' where not exists (select from rollup.backfill_runs as r where r.id = p_run_id)
$$;
comment on function rollup.backfill_obstacle(bigint, bigint) is
  'Why a job cannot go on with a run: "ended" is for ever (it has another job, or is no more), "waiting" until another run of the '
  'account has ended; NULL: it can.';

create or replace function rollup.backfill_pause(p_run_id bigint, p_attempts int)
returns int
language sql stable as $$
  select case
    when r.state = 'pending' then 2 ^ r.attempts
    when r.state = 'running' and c.attempts > p_attempts then 2 ^ c.attempts
    when r.state = 'running' then 0
  end::int
  from rollup.backfill_runs as r
  cross join lateral rollup.next_chunk(r.account_id, r.id) as c
  where r.id = p_run_id
$$;
comment on function rollup.backfill_pause(bigint, int) is
  'The seconds until a run goes on after a chunk that had been tried p_attempts times before: none as long as others are left that were '
  'not tried more often. NULL: it has ended.';

create or replace function rollup.continue_backfill(
  p_run_id bigint, p_job_id bigint default null,
  out outcome text, out account_id int, out chunk int, out events bigint, out error text, out state text, out wait_seconds int
)
language plpgsql volatile
-- See rollup.backfill.
set lock_timeout = '300ms'
set search_path = pg_catalog, pg_temp as $$
declare
  v_chunk rollup.backfill_chunks;
  v_rebuilt record;
begin
  perform rollup.limit_lock_waits();
  perform rollup.cancel_outdated_backfill(p_run_id);
  select r.account_id into account_id from rollup.backfill_runs as r where r.id = p_run_id;
  outcome := rollup.backfill_obstacle(p_run_id, p_job_id);
  if outcome is null then
    begin
      -- Before anything that this transaction writes, row locks included.
      perform rollup.begin_rebuild('continue_backfill', account_id, '1 s');
      outcome := rollup.backfill_obstacle(p_run_id, p_job_id);
      if outcome is null and not rollup.await_old_writers(account_id) then
        -- Rather than write every few seconds what cannot be claimed for hours.
        outcome := 'waiting';
        error := 'waiting for transactions older than the account''s time zone to end';
      elsif outcome is null and rollup.begin_backfill(p_run_id) then
        outcome := 'begun';
      elsif outcome is null then
        v_chunk := rollup.next_chunk(account_id, p_run_id);
        if v_chunk.chunk is null then
          -- Cancelled just now.
          outcome := 'ended';
        else
          v_rebuilt := rollup.rebuild(account_id, v_chunk.from_date, v_chunk.to_date);
          perform rollup.record_chunk(v_chunk, 'done', null, v_chunk.events, v_rebuilt.rows_written);
          outcome := 'rebuilt';
          events := v_chunk.events;
        end if;
      end if;
    exception when query_canceled or others then
      error := sqlerrm;
      outcome := case when rollup.is_lock_conflict(sqlstate) then 'waiting' else 'failed' end;
      if outcome = 'failed' then
        perform rollup.fail_backfill(p_run_id, v_chunk, sqlstate, error);
      end if;
    end;
  end if;
  if outcome = 'waiting' then
    error := coalesce(error, 'waiting for another backfill of the account to end');
    perform rollup.note_waiting(p_run_id, error);
  end if;
  chunk := v_chunk.chunk;
  select r.state into state from rollup.backfill_runs as r where r.id = p_run_id;
  wait_seconds := case outcome when 'ended' then null when 'waiting' then 2 else rollup.backfill_pause(p_run_id, v_chunk.attempts) end;
end
$$;
comment on function rollup.continue_backfill(bigint, bigint) is
  'One step of a run, for the job of the worker that repeats it, in a transaction of its own: begins the run, or rebuilds a chunk and '
  'records it, so that nothing is done twice or left out whenever it is killed. outcome: begun, rebuilt, failed (an attempt, see error), '
  'waiting (for another run, for older transactions, for a lock), ended (nothing is left for this job). state: of the run. wait_seconds: '
  'until the next step; NULL: none. Errors of what it does are recorded, not raised. Example: select * from rollup.continue_backfill(7);';

create or replace function rollup.settle_pending_backfill(
  p_account_id int, p_generation bigint, p_from date, p_to date, p_rows bigint
)
returns void
language sql volatile as $$
  update rollup.backfill_runs as r
  set state = 'done', chunks_total = 1, chunks_done = 1, rows_written = p_rows, started_at = now(), finished_at = clock_timestamp()
  where r.id in (
    select p.id
    from rollup.backfill_runs as p
    where p.account_id = p_account_id and p.generation = p_generation
      and p.state = 'pending' and p.from_date >= p_from and p.to_date <= p_to
    for update skip locked
  )
$$;
comment on function rollup.settle_pending_backfill(int, bigint, date, date, bigint) is
  'Marks a run that has not begun as done when its days have just been rebuilt by rollup.backfill.';

create or replace function rollup.requeue_backfills()
returns bigint
language sql volatile
set search_path = pg_catalog, pg_temp as $$
  with lost as (
    select r.id
    from rollup.backfill_runs as r
    where r.state in ('pending', 'running') and not exists (
      select
      from rollup_worker.jobs as j
      where j.id = r.job_id and j.task_identifier = 'backfill' and j.attempts < j.max_attempts
    )
    -- Workers that start together share them.
    for no key update skip locked
  ),
  -- All in one call: there may be one for each account of a large host.
  job as (
    select j.id, (j.payload ->> 'run_id')::bigint as run_id
    from (
      select array_agg(('backfill', json_build_object('run_id', l.id), null, null, null, null, null, null)::rollup_worker.job_spec) as specs
      from lost as l
    ) as l
    cross join lateral rollup_worker.add_jobs(l.specs) as j
    where l.specs is not null
  ),
  queued as (
    update rollup.backfill_runs as r set job_id = j.id from job as j where r.id = j.run_id returning 1
  )
  select count(*) from queued
$$;
comment on function rollup.requeue_backfills() is
  'Gives a job to all runs that have not ended and have none, for when the queue was lost, restored without them, or has given them up; '
  'returns how many. Safe beside workers.';

create or replace function rollup.forget_backfills(p_older_than interval default '90 days')
returns bigint
language sql volatile
set search_path = pg_catalog, pg_temp as $$
  with forgotten as (
    delete from rollup.backfill_runs as r where r.finished_at < now() - p_older_than returning r.account_id, r.id
  ),
  chunks as (
    delete from rollup.backfill_chunks as c using forgotten as f where c.account_id = f.account_id and c.run_id = f.id
  )
  select count(*) from forgotten
$$;
comment on function rollup.forget_backfills(interval) is
  'Removes runs that ended longer ago than p_older_than, 90 days by default; the worker does so once a day. Returns how many.';
