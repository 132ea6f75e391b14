--! Previous: -
--! Hash: sha1:4e6a28ad4b55819359db4a3de013076168d2032e
--! Message: schema

-- The schema: types, sequences, tables and indexes. Functions, views and triggers live in sql/.

create schema rollup;
comment on schema rollup is
  'Daily totals of public.reporting_events per account, metric and dimension, exact at every moment.';

create sequence rollup.generations;
comment on sequence rollup.generations is
  'Numbers every change of an account''s time zone; global, so that a number is never used twice.';

create table rollup.account_settings (
  account_id int primary key,
  reporting_timezone text,
  reporting_events_rollup boolean not null default false,
  write_mode text not null default 'inline' check (write_mode in ('inline', 'append')),
  generation bigint not null default 0,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
comment on table rollup.account_settings is 'What people decide for an account; changed by the set_… functions only.';
comment on column rollup.account_settings.reporting_timezone is
  'IANA name; decides the day of an event. NULL: the account keeps no rollups.';
comment on column rollup.account_settings.reporting_events_rollup is
  'Whether reads may use rollups; writes happen regardless.';
comment on column rollup.account_settings.write_mode is
  'inline: the trigger updates the rollups itself whenever it can have the account''s lock; append: it leaves deltas to fold().';
comment on column rollup.account_settings.generation is 'Changes with every change of the zone.';

create table rollup.account_coverage (
  account_id int primary key,
  generation bigint not null,
  covered datemultirange not null default '{}',
  barrier xid8,
  barrier_passed boolean not null default false,
  sealed_through date,
  last_verified_at timestamptz,
  last_verification_differences bigint
);
comment on table rollup.account_coverage is
  'Which days the rollups of an account hold completely; changed under the account''s lock only.';
comment on column rollup.account_coverage.generation is
  'The generation that the account''s rollups, ledger and previous dates belong to; where it is not the one of '
  'account_settings, they are of an old zone and count for nothing.';
comment on column rollup.account_coverage.covered is 'The days whose rollups are complete.';
comment on column rollup.account_coverage.barrier is
  'Transactions older than this one may still write under the previous zone; nothing is claimed until they are gone.';

create table rollup.deltas (
  account_id int not null,
  generation bigint not null,
  date date not null,
  event_name text not null,
  user_id bigint,
  inbox_id bigint,
  conversation_id bigint,
  count bigint not null,
  sum_value numeric not null,
  sum_value_business_hours numeric not null,
  from_delete boolean not null
) with (vacuum_truncate = off, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.05);
comment on table rollup.deltas is
  'Signed changes not yet applied to the rollups; its row type is the one shape in which changes travel. '
  'No key and no identity column: writers never wait for one another here, and lastval() stays the host''s.';
create index deltas_account_id_date on rollup.deltas (account_id, date);

create table rollup.reporting_events_rollups (
  account_id int not null,
  date date not null,
  dimension_type text collate "C" not null,
  dimension_id bigint not null,
  metric text collate "C" not null,
  count bigint not null,
  sum_value numeric not null default 0,
  sum_value_business_hours numeric not null default 0,
  updated_at timestamptz not null default now(),
  primary key (account_id, dimension_type, metric, date, dimension_id)
) with (fillfactor = 80);
comment on table rollup.reporting_events_rollups is
  'Daily totals as far as they have been applied; read rollup.daily_rollups, which adds the pending deltas.';
comment on column rollup.reporting_events_rollups.date is 'The day in the account''s reporting_timezone.';
comment on column rollup.reporting_events_rollups.sum_value is 'Seconds, exact to the microsecond.';
comment on column rollup.reporting_events_rollups.sum_value_business_hours is 'Seconds, exact to the microsecond.';

create type rollup.distinct_event as enum ('conversation_bot_handoff', 'conversation_resolved');
comment on type rollup.distinct_event is
  'The events whose conversations are remembered, so that they can be counted distinctly over any range.';

create table rollup.ledger (
  account_id int not null,
  event_name rollup.distinct_event not null,
  conversation_id bigint not null,
  date date not null,
  count int not null,
  user_id bigint,
  inbox_id bigint,
  unique nulls not distinct (account_id, event_name, conversation_id, date, user_id, inbox_id)
);
comment on table rollup.ledger is
  'How many events of a name a conversation had on a day, per agent and inbox. It counts in a dimension on a day '
  'while its sum there is above 0.';
create index ledger_account_id_date on rollup.ledger (account_id, date);

create table rollup.previous_dates (
  account_id int not null,
  event_name rollup.distinct_event not null,
  dimension_type text collate "C" not null,
  dimension_id bigint not null,
  date date not null,
  previous_date date not null,
  count bigint not null,
  primary key (account_id, event_name, dimension_type, dimension_id, date, previous_date)
) with (fillfactor = 80);
comment on table rollup.previous_dates is
  'How many conversations of a day had the same event last on a previous date. Distinct conversations of [a, b]: '
  'the sum over dates in [a, b] of those whose previous date lies before a.';
comment on column rollup.previous_dates.previous_date is '-infinity: the conversation had none before.';

create table rollup.dirty_marks (
  account_id int not null,
  date date,
  marked_at timestamptz not null,
  reason text
);
comment on table rollup.dirty_marks is
  'Days (NULL: all days of the account) that the trigger could not keep; they are read from raw events until rebuilt.';

create table rollup.backfill_runs (
  id bigint generated always as identity primary key,
  account_id int not null,
  generation bigint not null,
  from_date date not null,
  to_date date not null,
  chunks_total int not null default 0,
  chunks_done int not null default 0,
  chunks_failed int not null default 0,
  events bigint not null default 0,
  rows_written bigint not null default 0,
  events_per_second bigint,
  state text not null default 'pending' check (state in ('pending', 'running', 'done', 'failed', 'cancelled')),
  requested_at timestamptz not null default now(),
  started_at timestamptz,
  finished_at timestamptz,
  error text
);
comment on table rollup.backfill_runs is 'Requested rebuilds and how far they are.';
comment on column rollup.backfill_runs.generation is 'Of the zone that the account had when this was requested last.';
comment on column rollup.backfill_runs.from_date is 'First day, inclusive; -infinity: from the first event on.';
comment on column rollup.backfill_runs.to_date is 'Last day, inclusive; infinity: through the last event, and coming days too.';
comment on column rollup.backfill_runs.events is 'Raw events aggregated so far.';
comment on column rollup.backfill_runs.events_per_second is 'Since started_at, as of the last chunk.';
create index backfill_runs_account_id on rollup.backfill_runs (account_id) where state in ('pending', 'running');

create table rollup.backfill_chunks (
  account_id int not null,
  run_id bigint not null,
  chunk int not null,
  from_date date not null,
  to_date date not null,
  events bigint not null,
  state text not null default 'pending' check (state in ('pending', 'done', 'failed', 'cancelled')),
  attempts int not null default 0,
  error text,
  finished_at timestamptz,
  primary key (account_id, run_id, chunk)
);
comment on table rollup.backfill_chunks is 'The pieces of a run, rebuilt one at a time, each in a transaction of its own.';
