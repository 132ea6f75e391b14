--! Previous: sha1:46dc617f1bc85cda7b1424ada7ccbae4e0083b79
--! Hash: sha1:56c2f14898b81262cfdbcd719c1c695836e54782
--! Message: values counted and coverage of a table

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

alter table rollup.account_coverage add column host_relation oid;
comment on column rollup.account_coverage.host_relation is
  'The table whose events the account''s rollups hold; where public.reporting_events is another one they count for nothing.';

-- Rows are found by all their columns: they have no key, and a publication of all tables asks for a replica identity.
alter table rollup.deltas replica identity full;
alter table rollup.dirty_marks replica identity full;
alter table rollup.ledger replica identity full;

-- Who may still write under an older zone is remembered by virtual transaction id, which every role can see.
alter table rollup.account_coverage
  drop column barrier,
  drop column barrier_passed,
  add column awaited text[];
comment on column rollup.account_coverage.awaited is
  'Transactions that may still write under an older zone: days are claimed when they have ended. NULL: nobody has looked yet.';
comment on table rollup.account_coverage is
  'Which days the rollups of an account hold completely. Changed under the account''s lock, but for two writers: a first zone adds the '
  'row, and migrate and the worker empty covered where triggers were missing.';

-- Reads look for the pending deltas of an event name on some days.
drop index rollup.deltas_account_id_date;
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
