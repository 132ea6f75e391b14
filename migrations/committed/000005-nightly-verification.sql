--! Previous: sha1:988614f418850609c4064dace935f49660f40a71
--! Hash: sha1:db394ff9e6a213d351e89b78263743b2bd7b1ea8
--! Message: nightly verification

alter table rollup.account_coverage
  add column verified_from date,
  add column last_verification_days int;
comment on column rollup.account_coverage.verified_from is
  'How far back the nightly verification has come, a piece each night; NULL: it begins anew.';
comment on column rollup.account_coverage.last_verification_days is 'How many days of those that differed are rebuilt.';
