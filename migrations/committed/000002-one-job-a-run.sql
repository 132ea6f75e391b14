--! Previous: sha1:4e6a28ad4b55819359db4a3de013076168d2032e
--! Hash: sha1:8aa015e7bcfa418ff6149cfdaa3feda047b2c5f2
--! Message: one job a run

-- A run is one job of the worker: it knows its job, and how often it could not begin.

alter table rollup.backfill_runs
  add column job_id bigint,
  add column attempts int not null default 0,
  drop column events_per_second;
comment on column rollup.backfill_runs.job_id is 'The job of the worker that goes through it; one that finds another here ends.';
comment on column rollup.backfill_runs.attempts is 'How often it could not begin.';

-- Jobs of the previous version, one a chunk: their tasks are no more. Workers give the runs that they belonged to jobs of their own.
do $$
declare
  v_tasks text[] := '{plan_backfill,backfill_chunk}';
begin
  if to_regclass('rollup_worker.jobs') is not null then
    perform rollup_worker.force_unlock_workers(array(select j.locked_by from rollup_worker.jobs as j where j.task_identifier = any (v_tasks)));
    perform rollup_worker.complete_jobs(array(select j.id from rollup_worker.jobs as j where j.task_identifier = any (v_tasks)));
  end if;
end
$$;

drop function if exists rollup.plan_backfill(bigint);
drop function if exists rollup.add_plan_job(rollup.backfill_runs, interval);
drop function if exists rollup.add_chunk_job(rollup.backfill_chunks, interval);
drop function if exists rollup.chunk_payload(rollup.backfill_chunks);
drop function if exists rollup.backfill_chunk(int, bigint, int);
drop function if exists rollup.fail_backfill_chunk(int, bigint, int, text, text);
drop function if exists rollup.fail_plan_backfill(bigint, text, text);
drop function if exists rollup.finish_backfill(bigint);
drop function if exists rollup.note_waiting(bigint);
drop function if exists rollup.is_busy_error(text);
drop function if exists rollup.is_lasting_error(text);
drop function if exists rollup.is_queued(text, jsonb);
drop function if exists rollup.add_job(text, jsonb, int, interval, int);
drop function if exists rollup.job_key(text, jsonb);
drop function if exists rollup.worker_attends(text, int);
drop function if exists rollup.attend_worker(text);
drop function if exists rollup.worker_health();
