--! Previous: sha1:581ade8ad26e3efb4160b653123b253d7f091a47
--! Hash: sha1:17332e2a0e972f2165d8b04597751ef4596b0484
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
