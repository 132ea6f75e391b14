--! Previous: sha1:581ade8ad26e3efb4160b653123b253d7f091a47
--! Hash: sha1:988614f418850609c4064dace935f49660f40a71
--! Message: seal purge

-- Which days are sealed stands in account_coverage since the first migration.

comment on column rollup.account_coverage.sealed_through is
  'The last of the sealed days, which are all up to it and of the account''s present zone, whatever the generation says.';

alter table rollup.account_coverage
  add column purged daterange,
  add column purge_next date,
  add column purged_events bigint not null default 0;
comment on column rollup.account_coverage.purged is
  'The sealed days whose raw events were deleted, or are being; NULL: none. Set before the first is deleted.';
comment on column rollup.account_coverage.purge_next is 'The day from which on the worker goes on deleting; NULL: no purge is under way.';
comment on column rollup.account_coverage.purged_events is 'Raw events deleted so far.';

-- Pending deltas are read by rollup.pending_deltas alone.
alter type rollup.read drop attribute generation;

alter table rollup.account_settings
  add column retention_months int constraint account_settings_retention_months_check check (retention_months > 0);
comment on column rollup.account_settings.retention_months is
  'For how many whole months raw events are kept, after which the worker seals and purges them; NULL: for ever.';
