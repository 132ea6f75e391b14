--! Previous: sha1:a6fecdb0742e64be6dd30bda2a4641fba7bb5572
--! Hash: sha1:581ade8ad26e3efb4160b653123b253d7f091a47
--! Message: host settings

-- A host that keeps the zones of its accounts is followed: what stood there last is the memory of it.

alter table rollup.account_settings add column host_timezone text;
comment on column rollup.account_settings.host_timezone is
  'The name in the host''s setting of the account that was followed last, empty for none; NULL: the host keeps no setting of this account.';
comment on column rollup.account_settings.generation is 'Grows with every change of the zone.';

-- Generations are numbered per account: those of a zone that the host sets come about in its session, whose lastval() is its own.
drop sequence rollup.generations;
