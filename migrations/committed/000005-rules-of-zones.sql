--! Previous: sha1:56c2f14898b81262cfdbcd719c1c695836e54782
--! Hash: sha1:65f6cd4de0cf54c592a2664e720f19a1d49d347a
--! Message: rules of zones

-- The rules of a zone change with its governments, also for the past.

alter table rollup.account_coverage add column zone_rules text;
comment on column rollup.account_coverage.zone_rules is
  'Fingerprint of the clocks by which the account''s days were reckoned; where its zone has others now, its rollups begin anew.';
