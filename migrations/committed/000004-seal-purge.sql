--! Previous: sha1:a6fecdb0742e64be6dd30bda2a4641fba7bb5572
--! Hash: sha1:a8dccdbfc8ebb53f94919b96c7c258a861c880eb
--! Message: seal purge

-- Which days are sealed stands in account_coverage since the first migration.

comment on column rollup.account_coverage.sealed_through is
  'The last of the sealed days, which are all up to it and of the account''s present zone, whatever the generation says.';

-- Pending deltas are read by rollup.pending_deltas alone.
alter type rollup.read drop attribute generation;
