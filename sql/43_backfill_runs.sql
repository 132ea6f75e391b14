-- Backfills of any size: a run is cut into chunks, each rebuilt by a job and a transaction of its own.

create or replace function rollup.job_key(p_task text, p_payload jsonb)
returns text
language sql immutable parallel safe as $$
  select format('%s %s', p_task, p_payload)
$$;
comment on function rollup.job_key(text, jsonb) is 'What makes two jobs the same.';

create or replace function rollup.add_job(p_task text, p_payload jsonb, p_account_id int, p_delay interval default '0 s', p_priority int default 0)
returns void
language plpgsql volatile as $$
begin
  -- Without the worker's schema the run waits; migrate and every worker queue what has no job.
  if to_regnamespace('rollup_worker') is null then
    return;
  end if;
  perform rollup_worker.add_job(
    identifier => p_task,
    payload => p_payload::json,
    -- One queue an account: never two jobs at once on one.
    queue_name => format('rollup_account_%s', p_account_id),
    run_at => now() + p_delay,
    job_key => rollup.job_key(p_task, p_payload),
    priority => p_priority
  );
end
$$;
comment on function rollup.add_job(text, jsonb, int, interval, int) is
  'Queues a job of an account for the worker; the same job already waiting is replaced.';

create or replace function rollup.enqueue_backfill(p_account_id int, p_from date default null, p_to date default null)
returns bigint
language plpgsql volatile as $$
declare
  v_settings rollup.account_settings;
  v_run_id bigint;
begin
  perform rollup.require('enqueue_backfill', jsonb_build_object('p_account_id', p_account_id));
  perform rollup.require_finite('enqueue_backfill', p_from, p_to);
  perform rollup.require_ordered('enqueue_backfill', p_from, p_to);
  perform rollup.require_timezone(p_account_id);
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
  end if;
  perform rollup.add_plan_job(r) from rollup.backfill_runs as r where r.id = v_run_id;
  return v_run_id;
end
$$;
comment on function rollup.enqueue_backfill(int, date, date) is
  'Asks the worker to rebuild the days p_from to p_to of an account (inclusive, NULL: open) and returns the id of the run in '
  'rollup.backfill_runs, which shows its progress. A run that has not begun is extended rather than doubled. '
  'Errors: RU002 no zone, RU003 reversed or infinite dates. Example: select rollup.enqueue_backfill(1);';

create or replace function rollup.add_plan_job(p_run rollup.backfill_runs, p_delay interval default '0 s')
returns void
language sql volatile as $$
  select rollup.add_job('plan_backfill', jsonb_build_object('run_id', p_run.id), p_run.account_id, p_delay)
$$;
comment on function rollup.add_plan_job(rollup.backfill_runs, interval) is 'Queues the beginning of a run for the worker.';

create or replace function rollup.cancel_backfill(p_run_id bigint)
returns rollup.backfill_runs
language plpgsql volatile as $$
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

create or replace function rollup.chunk_events()
returns bigint
language sql immutable parallel safe as $$
  select 50000::bigint
$$;
comment on function rollup.chunk_events() is
  'How many raw events a chunk of a backfill run has, about: a fraction of a second of work, so that progress is seen and little lost.';

create or replace function rollup.plan_backfill(p_run_id bigint)
returns rollup.backfill_runs
language plpgsql volatile
-- See rollup.backfill.
set lock_timeout = '300ms' as $$
declare
  v_run rollup.backfill_runs;
begin
  -- One run of an account at a time. Its end calls the next; the delay is for an end that is being committed just now.
  perform rollup.add_plan_job(r, '5 s')
  from rollup.backfill_runs as r
  where r.id = p_run_id and r.state = 'pending' and rollup.is_being_backfilled(r.account_id);
  if found then
    return null;
  end if;

  select * into v_run from rollup.backfill_runs as r where r.id = p_run_id and r.state = 'pending';
  if v_run.id is null then
    return null;
  end if;
  perform rollup.begin_rebuild('plan_backfill', v_run.account_id, '1 s');
  if not rollup.await_old_writers(v_run.account_id) then
    perform rollup.note_waiting(p_run_id);
    perform rollup.add_plan_job(v_run, '5 s');
    return null;
  end if;
  update rollup.backfill_runs as r
  set state = 'running', started_at = now(), error = null
  -- Now under the lock; whatever run has begun meanwhile calls this one when it ends.
  where r.id = p_run_id and r.state = 'pending' and not rollup.is_being_backfilled(r.account_id)
  returning * into v_run;
  if v_run.id is null then
    return null;
  end if;
  if v_run.from_date = '-infinity' and v_run.to_date = 'infinity' then
    perform rollup.forget_account_marks(v_run.account_id);
  end if;
  insert into rollup.backfill_chunks (account_id, run_id, chunk, from_date, to_date, events)
  select v_run.account_id, p_run_id, c.chunk, c.from_date, c.to_date, c.events
  from rollup.plan_chunks(v_run.account_id, v_run.from_date, v_run.to_date, rollup.chunk_events()) as c;
  update rollup.backfill_runs as r
  set chunks_total = (select count(*) from rollup.backfill_chunks as c where c.account_id = v_run.account_id and c.run_id = p_run_id)
  where r.id = p_run_id
  returning * into v_run;
  perform rollup.add_chunk_job(c) from rollup.backfill_chunks as c where c.account_id = v_run.account_id and c.run_id = p_run_id;
  return v_run;
end
$$;
comment on function rollup.plan_backfill(bigint) is
  'A job of the worker: begins a pending run by cutting it into chunks with a job each. NULL if it has begun or ended already, or has '
  'to wait for another run of the account or for transactions older than its zone.';

create or replace function rollup.note_waiting(p_run_id bigint)
returns void
language sql volatile as $$
  update rollup.backfill_runs as r
  set error = 'waiting for transactions older than the account''s time zone to end'
  where r.id = p_run_id
$$;
comment on function rollup.note_waiting(bigint) is 'Says in a run why it does not go on.';

create or replace function rollup.is_being_backfilled(p_account_id int)
returns boolean
language sql stable as $$
  select exists (select from rollup.backfill_runs as r where r.account_id = p_account_id and r.state = 'running')
$$;
comment on function rollup.is_being_backfilled(int) is 'Whether a run of the account is under way.';

create or replace function rollup.begin_next_backfill(p_account_id int)
returns void
language sql volatile as $$
  select rollup.add_plan_job(r)
  from rollup.backfill_runs as r
  where r.account_id = p_account_id and r.state = 'pending' and not rollup.is_being_backfilled(p_account_id)
$$;
comment on function rollup.begin_next_backfill(int) is 'When a run of an account has ended: lets the one that waits for it begin.';

create or replace function rollup.cancel_outdated_backfill(p_run_id bigint)
returns void
language plpgsql volatile as $$
declare
  v_account_id int;
begin
  update rollup.backfill_runs as r
  set state = 'cancelled', finished_at = clock_timestamp(), error = 'the account''s time zone was changed meanwhile'
  from rollup.account_settings as s
  where r.id = p_run_id and r.state = 'running' and s.account_id = r.account_id and s.generation <> r.generation
  returning r.account_id into v_account_id;
  perform rollup.begin_next_backfill(v_account_id);
end
$$;
comment on function rollup.cancel_outdated_backfill(bigint) is
  'Cancels a run whose account has another zone now, or none: what it has done is void, and the new zone has queued a run of its own.';

create or replace function rollup.chunk_payload(p_chunk rollup.backfill_chunks)
returns jsonb
language sql immutable parallel safe as $$
  select jsonb_build_object('account_id', p_chunk.account_id, 'run_id', p_chunk.run_id, 'chunk', p_chunk.chunk)
$$;
comment on function rollup.chunk_payload(rollup.backfill_chunks) is 'Which chunk a job rebuilds.';

create or replace function rollup.add_chunk_job(p_chunk rollup.backfill_chunks, p_delay interval default '0 s')
returns void
language sql volatile as $$
  select rollup.add_job(
    'backfill_chunk',
    rollup.chunk_payload(p_chunk),
    p_chunk.account_id,
    p_delay,
    -- In time order: what comes later then finds what came before.
    least(p_chunk.chunk, 30000)
  )
$$;
comment on function rollup.add_chunk_job(rollup.backfill_chunks, interval) is 'Queues a chunk for the worker.';

create or replace function rollup.backfill_chunk(p_account_id int, p_run_id bigint, p_chunk int)
returns text
language plpgsql volatile
-- See rollup.backfill.
set lock_timeout = '300ms' as $$
declare
  v_chunk rollup.backfill_chunks;
  v_rebuilt record;
begin
  perform rollup.cancel_outdated_backfill(p_run_id);
  -- Read, then lock the account, then lock the row: the account's barrier must come before what this transaction writes.
  select * into v_chunk
  from rollup.backfill_chunks as c
  where c.account_id = p_account_id and c.run_id = p_run_id and c.chunk = p_chunk;
  if v_chunk.state = 'pending' and exists (select from rollup.backfill_runs as r where r.id = p_run_id and r.state = 'running') then
    perform rollup.begin_rebuild('backfill_chunk', p_account_id, '1 s');
  end if;
  select * into v_chunk
  from rollup.backfill_chunks as c
  where c.account_id = p_account_id and c.run_id = p_run_id and c.chunk = p_chunk
  for update;
  if v_chunk.state is distinct from 'pending' then
    return v_chunk.state;
  end if;
  if not exists (select from rollup.backfill_runs as r where r.id = p_run_id and r.state = 'running') then
    update rollup.backfill_chunks as c set state = 'cancelled', finished_at = clock_timestamp()
    where c.account_id = p_account_id and c.run_id = p_run_id and c.chunk = p_chunk;
    return 'cancelled';
  end if;

  -- Rather than write every few seconds what cannot be claimed for hours.
  if not rollup.await_old_writers(p_account_id) then
    perform rollup.note_waiting(p_run_id);
    perform rollup.add_chunk_job(v_chunk, '5 s');
    return 'waiting';
  end if;
  v_rebuilt := rollup.rebuild(p_account_id, v_chunk.from_date, v_chunk.to_date);
  update rollup.backfill_chunks as c
  set state = 'done', events = v_rebuilt.events, attempts = c.attempts + 1, error = null, finished_at = clock_timestamp()
  where c.account_id = p_account_id and c.run_id = p_run_id and c.chunk = p_chunk;
  update rollup.backfill_runs as r
  set chunks_done = r.chunks_done + 1, events = r.events + v_rebuilt.events, rows_written = r.rows_written + v_rebuilt.rows_written,
    events_per_second = (r.events + v_rebuilt.events) / greatest(extract(epoch from clock_timestamp() - r.started_at), 0.001),
    error = case
      when exists (
        select from rollup.backfill_chunks as c where c.account_id = p_account_id and c.run_id = p_run_id and c.error is not null
      ) then r.error
    end
  where r.id = p_run_id;
  perform rollup.finish_backfill(p_run_id);
  return 'done';
end
$$;
comment on function rollup.backfill_chunk(int, bigint, int) is
  'A job of the worker: rebuilds a chunk of a run and records it in the same transaction, so that nothing is done twice or left out '
  'whenever it is killed. Returns the chunk''s state, or "waiting" if its days could not be claimed yet.';

create or replace function rollup.is_busy_error(p_sqlstate text)
returns boolean
language sql immutable parallel safe as $$
  select coalesce(p_sqlstate in ('RU006', '55P03', '40P01'), false)
$$;
comment on function rollup.is_busy_error(text) is
  'Whether an error is somebody else''s lock, or a deadlock with him, and no fault of what was tried.';

create or replace function rollup.is_lasting_error(p_sqlstate text)
returns boolean
language sql immutable parallel safe as $$
  select coalesce(p_sqlstate in ('RU002', 'RU003'), false)
$$;
comment on function rollup.is_lasting_error(text) is
  'Whether another attempt is no better: the account has no zone any more, or the range cannot be.';

create or replace function rollup.fail_backfill_chunk(p_account_id int, p_run_id bigint, p_chunk int, p_sqlstate text, p_error text)
returns text
language plpgsql volatile as $$
declare
  v_chunk rollup.backfill_chunks;
  v_busy boolean := rollup.is_busy_error(p_sqlstate);
  v_lasting boolean := rollup.is_lasting_error(p_sqlstate);
begin
  update rollup.backfill_chunks as c
  set attempts = c.attempts + (not v_busy)::int,
    state = case when v_lasting or (c.attempts >= 4 and not v_busy) then 'failed' else c.state end,
    error = p_error,
    finished_at = case when v_lasting or (c.attempts >= 4 and not v_busy) then clock_timestamp() end
  where c.account_id = p_account_id and c.run_id = p_run_id and c.chunk = p_chunk and c.state = 'pending'
  returning * into v_chunk;
  if v_chunk.run_id is null then
    return null;
  end if;
  update rollup.backfill_runs as r
  set error = format('chunk %s (%s to %s): %s', v_chunk.chunk, v_chunk.from_date, v_chunk.to_date, p_error),
    chunks_failed = r.chunks_failed + (v_chunk.state = 'failed')::int
  where r.id = p_run_id;
  if v_chunk.state = 'pending' then
    perform rollup.add_chunk_job(v_chunk, make_interval(secs => case when v_busy then 1 else 2 ^ v_chunk.attempts end));
  end if;
  perform rollup.finish_backfill(p_run_id);
  return v_chunk.state;
end
$$;
comment on function rollup.fail_backfill_chunk(int, bigint, int, text, text) is
  'Notes that a chunk has failed: it is tried five times, a few seconds apart, then marked; its days stay as they were and uncovered. '
  'What only has to wait for somebody is tried again for as long as it takes; what cannot succeed is marked at once.';

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

create or replace function rollup.finish_backfill(p_run_id bigint)
returns void
language plpgsql volatile as $$
declare
  v_account_id int;
begin
  update rollup.backfill_runs as r
  set state = case when r.chunks_failed > 0 then 'failed' else 'done' end, finished_at = clock_timestamp()
  where r.id = p_run_id and r.state = 'running' and r.chunks_done + r.chunks_failed = r.chunks_total
  returning r.account_id into v_account_id;
  perform rollup.begin_next_backfill(v_account_id);
end
$$;
comment on function rollup.finish_backfill(bigint) is 'Ends a run whose chunks have all ended.';

create or replace function rollup.requeue_backfills()
returns bigint
language plpgsql volatile as $$
declare
  v_plans bigint;
  v_chunks bigint;
begin
  -- A job that was added anew while it ran, and then was killed: nobody will run it.
  perform rollup_worker.complete_jobs(array(
    select j.id from rollup_worker.jobs as j where j.key is null and j.attempts >= j.max_attempts and j.locked_at is null
  ));
  -- In order, so that workers who start together wait for, and do not deadlock with, each other.
  perform rollup.add_plan_job(r)
  from rollup.backfill_runs as r
  where r.state = 'pending' and not rollup.is_queued('plan_backfill', jsonb_build_object('run_id', r.id))
  order by r.id;
  get diagnostics v_plans = row_count;
  perform rollup.add_chunk_job(c)
  from rollup.backfill_runs as r
  join rollup.backfill_chunks as c on c.account_id = r.account_id and c.run_id = r.id
  where r.state = 'running' and c.state = 'pending' and not rollup.is_queued('backfill_chunk', rollup.chunk_payload(c))
  order by c.run_id, c.chunk;
  get diagnostics v_chunks = row_count;
  return v_plans + v_chunks;
end
$$;
comment on function rollup.requeue_backfills() is
  'Queues the jobs of all runs that have not ended and have none, for when the queue was lost, restored without them, or has given them '
  'up; returns how many. Safe beside workers.';

create or replace function rollup.is_queued(p_task text, p_payload jsonb)
returns boolean
language sql stable as $$
  select exists (
    select from rollup_worker.jobs as j where j.key = rollup.job_key(p_task, p_payload) and j.attempts < j.max_attempts
  )
$$;
comment on function rollup.is_queued(text, jsonb) is 'Whether a job waits or runs, and will be tried again should it be lost.';

create or replace function rollup.forget_backfills(p_older_than interval default '90 days')
returns bigint
language sql volatile as $$
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
