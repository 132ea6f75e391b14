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
