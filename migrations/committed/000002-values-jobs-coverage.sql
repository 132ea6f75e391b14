--! Previous: sha1:4e6a28ad4b55819359db4a3de013076168d2032e
--! Hash: sha1:a6fecdb0742e64be6dd30bda2a4641fba7bb5572
--! Message: values jobs coverage

-- A run is one job of the worker: it knows its job, and how often it could not begin.

alter table rollup.backfill_runs
  add column job_id bigint,
  add column attempts int not null default 0,
  -- squawk-ignore ban-drop-column
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

-- What the host's table was like when the worker last looked.

create table rollup.host_table (
  one boolean primary key default true check (one),
  state jsonb not null
);
comment on table rollup.host_table is 'One row: rollup.host_table_state() when the worker last looked.';

-- Averages are over the events that have the value, so how many have it is kept beside count and sums. Coverage belongs to a table
-- as well: what was claimed before this version knew belongs to none, counts for nothing, and is rebuilt.

alter table rollup.deltas
  add column count_value bigint not null default 0,
  add column count_value_business_hours bigint not null default 0;

alter table rollup.reporting_events_rollups
  add column count_value bigint not null default 0,
  add column count_value_business_hours bigint not null default 0;
comment on column rollup.reporting_events_rollups.count_value is 'Events that have a value; averages divide by it.';
comment on column rollup.reporting_events_rollups.count_value_business_hours is
  'Events that have a value in business hours; averages divide by it.';

alter table rollup.account_coverage
  add column host_relation oid,
  add column zone_rules text;
comment on column rollup.account_coverage.host_relation is
  'The table whose events the account''s rollups hold; where public.reporting_events is another one they count for nothing.';
comment on column rollup.account_coverage.zone_rules is
  'Fingerprint of the clocks by which the account''s days were reckoned; where its zone has others now, its rollups begin anew.';

-- Rows are found by all their columns: they have no key, and a publication of all tables asks for a replica identity.
alter table rollup.deltas replica identity full;
alter table rollup.dirty_marks replica identity full;
alter table rollup.ledger replica identity full;

-- Who may still write under an older zone is remembered by virtual transaction id, which every role can see.
alter table rollup.account_coverage
  -- squawk-ignore ban-drop-column
  drop column barrier,
  -- squawk-ignore ban-drop-column
  drop column barrier_passed,
  add column awaited text[];
comment on column rollup.account_coverage.awaited is
  'Transactions that may still write under an older zone: days are claimed when they have ended. NULL: nobody has looked yet.';
comment on table rollup.account_coverage is
  'Which days the rollups of an account hold completely. Changed under the account''s lock, but for two writers: a first zone adds the '
  'row, and migrate and the worker empty covered where triggers were missing.';

-- Reads look for the pending deltas of an event name on some days.
-- squawk-ignore require-concurrent-index-deletion
drop index rollup.deltas_account_id_date;
-- squawk-ignore require-concurrent-index-creation
create index deltas_account_id_date_event_name on rollup.deltas (account_id, date, event_name);

create type rollup.read as (
  account_id int,
  generation bigint,
  since timestamptz,
  until timestamptz,
  group_by text,
  timezone text,
  dimension_type text,
  first_dimension_id bigint,
  last_dimension_id bigint,
  business_hours boolean,
  rollup_days datemultirange,
  raw_days datemultirange,
  shortened_day date
);
comment on type rollup.read is 'What a read asks for, and where its numbers come from.';
comment on column rollup.read.generation is 'Of the deltas that are pending.';
comment on column rollup.read.until is 'Exclusive.';
comment on column rollup.read.first_dimension_id is 'With last_dimension_id: which agents, inboxes or account; inclusive.';
comment on column rollup.read.rollup_days is 'Days taken from rollups and pending deltas.';
comment on column rollup.read.raw_days is 'Days taken from raw events; {(,)}: whatever lies in the range.';
comment on column rollup.read.shortened_day is
  'The last of rollup_days where the range ends within it: the raw events from there on are taken off.';
