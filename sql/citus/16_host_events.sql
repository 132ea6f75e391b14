-- Where the host's events are on a node of a Citus cluster: in the shards of its table, which are tables of their own, with our triggers on
-- them. Citus plans no statement of ours: they are about tables that it does not know, or about a shard by its name.

create or replace function rollup.is_distributed()
returns boolean
language sql stable parallel safe
return exists (select from pg_dist_partition as p where p.logicalrelid = rollup.host_table() and p.partmethod = 'h');

create or replace function rollup.is_coordinator()
returns boolean
language sql stable parallel safe
return (select g.groupid = 0 from pg_dist_local_group as g);

create or replace function rollup.host_shards()
returns table (relation oid, first_hash int, last_hash int)
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select to_regclass(format('public.reporting_events_%s', s.shardid)), s.shardminvalue::int, s.shardmaxvalue::int
  from pg_dist_shard as s
  join pg_dist_placement as p on p.shardid = s.shardid
  -- One that has moved away may still be there under its name.
  join pg_dist_local_group as g on g.groupid = p.groupid
  where s.logicalrelid = rollup.host_table()
$$;
comment on function rollup.host_shards() is 'The shards of the host''s table on this node, and the hashes of account ids that they hold.';

create or replace function rollup.host_relations()
returns table (relation oid)
language sql stable as $$
  select h.relation from rollup.host_shards() as h
  union all
  select rollup.host_table() where not rollup.is_distributed()
$$;

create or replace function rollup.host_relation(p_account_id int)
returns oid
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
begin
  if p_account_id is null or not rollup.is_distributed() then
    return rollup.host_table();
  end if;
  return (
    select to_regclass(format('public.reporting_events_%s', p.shardid))
    from pg_dist_placement as p
    join pg_dist_local_group as g on g.groupid = p.groupid
    where p.shardid = get_shard_id_for_distribution_column('public.reporting_events', p_account_id)
  );
end
$$;

create or replace function rollup.is_host_relation(p_relation oid)
returns boolean
language sql stable
-- Not by pg_class, in which Citus hides shards from clients.
return p_relation = rollup.host_table() or exists (
  select
  from pg_dist_shard as s
  where s.shardid = substring(p_relation::regclass::text from '[0-9]+$')::bigint and s.logicalrelid = rollup.host_table()
    and p_relation = to_regclass(format('public.reporting_events_%s', s.shardid))
);

create or replace function rollup.coverage_of(p_relation oid)
returns oid
language sql stable
return case when p_relation = rollup.host_table() then p_relation else pg_relation_filenode(p_relation) end;

create or replace function rollup.is_sending()
returns boolean
language sql stable
return (
  select t.transaction_number <> 0 and t.initiator_node_identifier = g.groupid
  from get_current_transaction_id() as t
  cross join pg_dist_local_group as g
);
comment on function rollup.is_sending() is
  'Whether this session sends its statements to other nodes of the cluster as well, so that no subtransaction may begin within one: it would be '
  'sent to them in the midst of it, which is an error.';

create or replace function rollup.accounts_here()
returns table (account_id int, host_relation oid)
language sql stable
begin atomic
  select s.account_id, h.relation
  from rollup.account_settings as s
  join rollup.host_shards() as h on worker_hash(s.account_id) between h.first_hash and h.last_hash
  union all
  select s.account_id, rollup.host_table() from rollup.account_settings as s where not rollup.is_distributed();
end;

create or replace function rollup.account_node(p_account_id int)
returns text
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select format('%s:%s', n.nodename, n.nodeport)
  from pg_dist_placement as p
  join pg_dist_node as n on n.groupid = p.groupid and n.noderole = 'primary'
  where rollup.is_distributed() and p.shardid = get_shard_id_for_distribution_column('public.reporting_events', p_account_id)
$$;

create or replace function rollup.host_events(p_account_id int, p_event_names text[], p_from timestamp, p_to timestamp)
returns table (
  created_at timestamp, name text, user_id bigint, inbox_id bigint, conversation_id bigint,
  value double precision, value_in_business_hours double precision
)
language plpgsql stable as $$
begin
  -- Elsewhere Citus knows the way, more slowly.
  return query execute format(
    'select e.created_at, e.name::text, e.user_id::bigint, e.inbox_id::bigint, e.conversation_id::bigint, e.value, e.value_in_business_hours
     from %s as e
     where e.account_id = $1 and e.name = any ($2) and e.created_at >= $3 and e.created_at <= $4',
    coalesce(rollup.host_relation(p_account_id)::regclass::text, 'public.reporting_events')
  ) using p_account_id, p_event_names, p_from, p_to;
end
$$;
