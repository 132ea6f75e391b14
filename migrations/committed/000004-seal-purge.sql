--! Previous: sha1:581ade8ad26e3efb4160b653123b253d7f091a47
--! Hash: sha1:f0f823f79e90debca4663e11e0a77f5e94d7887e
--! Message: seal purge

-- Which days are sealed stands in account_coverage since the first migration.

comment on column rollup.account_coverage.sealed_through is
  'The last of the sealed days, which are all up to it and of the account''s present zone, whatever the generation says.';

-- Pending deltas are read by rollup.pending_deltas alone.
alter type rollup.read drop attribute generation;
