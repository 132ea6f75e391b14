-- Where the host's events are: what reads them asks here. On Citus citus/16_host_events.sql takes the place of these definitions.

create or replace function rollup.host_table()
returns oid
language sql stable parallel safe
return to_regclass('public.reporting_events')::oid;
comment on function rollup.host_table() is 'The table that the host writes its events to; NULL if there is none.';

create or replace function rollup.is_distributed()
returns boolean
language sql stable parallel safe
return false;
comment on function rollup.is_distributed() is 'Whether the host''s table is distributed over the nodes of a Citus cluster.';

create or replace function rollup.is_coordinator()
returns boolean
language sql stable parallel safe
return true;
comment on function rollup.is_coordinator() is 'Whether settings of accounts are changed on this server: everywhere, but on the workers of a Citus cluster.';

create or replace function rollup.host_relations()
returns table (relation oid)
language sql stable parallel safe as $$
  select rollup.host_table()
$$;
comment on function rollup.host_relations() is 'The tables of this server that hold events of the host: its table, or those of its shards that are here.';

create or replace function rollup.host_relation(p_account_id int)
returns oid
language sql stable parallel safe
return rollup.host_table();
comment on function rollup.host_relation(int) is 'That of host_relations which holds the events of an account; NULL if they are on another server.';

create or replace function rollup.is_host_relation(p_relation oid)
returns boolean
language sql stable parallel safe
return p_relation = rollup.host_table();
comment on function rollup.is_host_relation(oid) is 'Whether a table is one of host_relations.';

create or replace function rollup.coverage_of(p_relation oid)
returns oid
language sql stable parallel safe
return p_relation;
comment on function rollup.coverage_of(oid) is
  'What account_coverage.host_relation must be for days that were claimed on a table: itself. Of a shard, the file of its rows, which is another '
  'after a truncate, for that fires no trigger on shards.';

create or replace function rollup.accounts_here()
returns table (account_id int, host_relation oid)
language sql stable parallel safe
begin atomic
  select s.account_id, rollup.host_table() from rollup.account_settings as s;
end;
comment on function rollup.accounts_here() is 'The accounts whose events are on this server, with their host_relation.';

create or replace function rollup.account_node(p_account_id int)
returns text
language sql stable parallel safe
return null;
comment on function rollup.account_node(int) is 'The node of a Citus cluster that has the events of an account, as host:port; NULL without Citus.';

create or replace function rollup.host_events(p_account_id int, p_event_names text[], p_from timestamp, p_to timestamp)
returns table (
  created_at timestamp, name text, user_id bigint, inbox_id bigint, conversation_id bigint,
  value double precision, value_in_business_hours double precision
)
language sql stable parallel safe as $$
  select
    e.created_at, e.name::text, e.user_id::bigint, e.inbox_id::bigint, e.conversation_id::bigint, e.value, e.value_in_business_hours
  from public.reporting_events as e
  where e.account_id = p_account_id and e.name = any (p_event_names) and e.created_at >= p_from and e.created_at <= p_to
$$;
comment on function rollup.host_events(int, text[], timestamp, timestamp) is
  'The raw events of an account with these names, created_at (UTC) from p_from through p_to, both inclusive.';
