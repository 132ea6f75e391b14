-- What the nodes of a Citus cluster share: the settings of accounts, by a reference table, and calls, which go to the account's node. Nothing
-- else of ours is known to Citus.

create or replace function rollup.at_node(p_call text)
returns text
language sql immutable
return format(
  -- A query of the account's shard that has one row, whatever is there. Citus' own way of sending calls (create_distributed_function) ends the
  -- server with a segmentation fault when the call stands in a subquery, as of 13.2 and 15.0.
  'select t.* from (select count(*) from (select from public.reporting_events as e where e.account_id = $1 limit 1) as e) as one cross join %s as t',
  p_call
);
comment on function rollup.at_node(text) is 'The query that Citus sends to the node of account $1, with a call of a function in it.';

-- The functions of one account, when called on another node than its own: each gets a second definition, local_…, and passes on.
do $do$
declare
  v_function record;
  v_call text;
begin
  for v_function in
    select
      p.proname as name, p.proretset as is_set, pg_get_functiondef(p.oid) as definition, pg_get_function_arguments(p.oid) as arguments,
      pg_get_function_result(p.oid) as result, p.provolatile = 's' as is_stable, p.prosecdef as is_definer,
      (select string_agg(format('$%s', i), ', ') from generate_series(1, p.pronargs) as i) as parameters
    from pg_proc as p
    where p.pronamespace = 'rollup'::regnamespace
      and p.proname = any ('{timeseries,aggregate,summary,heat_map,read_plan,backfill,backfill_date,enqueue_backfill,verify,repair}')
  loop
    v_call := format('%s(%s)', v_function.name, v_function.parameters);
    execute replace(v_function.definition, format('FUNCTION rollup.%s(', v_function.name), format('FUNCTION rollup.local_%s(', v_function.name));
    execute format(
      $query$
        create or replace function rollup.%1$s(%2$s) returns %3$s language plpgsql %4$s %5$s set search_path = pg_catalog, pg_temp as $body$
        %6$s
        begin
          if rollup.host_relation($1) is null and to_regclass('rollup.shared_settings') is not null
            and exists (select from rollup.account_settings as s where s.account_id = $1)
          then
            %7$s
          else
            %8$s
          end if;
        end
        $body$
      $query$,
      v_function.name, v_function.arguments, v_function.result,
      case when v_function.is_stable then 'stable' else 'volatile' end, case when v_function.is_definer then 'security definer' else '' end,
      case when not v_function.is_set then format('declare v_result %s;', v_function.result) else '' end,
      format(
        case when v_function.is_set then 'return query execute %L using %s;' else 'execute %L into v_result using %s; return v_result;' end,
        rollup.at_node('rollup.' || v_call), v_function.parameters
      ),
      format(case when v_function.is_set then 'return query select * from rollup.local_%s;' else 'return rollup.local_%s;' end, v_call)
    );
  end loop;
end
$do$;

create or replace function rollup.take_setting(p_account_id int, p_timezone text, p_enabled boolean, p_mode text)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
begin
  -- Not to be shared once more.
  perform set_config('rollup.taking', 'x', true);
  insert into rollup.account_settings (account_id)
  select p_account_id
  where not exists (select from rollup.account_settings as s where s.account_id = p_account_id)
  on conflict (account_id) do nothing;
  update rollup.account_settings as s
  set reporting_events_rollup = p_enabled, write_mode = p_mode, updated_at = now()
  where s.account_id = p_account_id and (s.reporting_events_rollup, s.write_mode) <> (p_enabled, p_mode);
  perform rollup.change_timezones(
    array[p_account_id], array[p_timezone], array(select s.host_timezone from rollup.account_settings as s where s.account_id = p_account_id)
  );
  if found and p_timezone is not null and rollup.host_relation(p_account_id) is not null then
    -- For the worker to queue a backfill.
    insert into rollup.dirty_marks (account_id, date, marked_at, reason) values (p_account_id, null, now(), 'its time zone was set');
  end if;
  perform set_config('rollup.taking', '', true);
end
$$;
comment on function rollup.take_setting(int, text, boolean, text) is 'Makes the settings of an account on this node those that the nodes share.';

create or replace function rollup.take_shared_setting()
returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
begin
  perform rollup.take_setting(new.account_id, new.reporting_timezone, new.reporting_events_rollup, new.write_mode);
  return null;
end
$$;
comment on function rollup.take_shared_setting() is 'Trigger function of shared_settings, on the copy of every node.';

create or replace function rollup.take_shared_settings()
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
begin
  if rollup.is_coordinator() or to_regclass('rollup.shared_settings') is null then
    return 0;
  end if;
  return (
    select count(rollup.take_setting(s.account_id, s.reporting_timezone, s.reporting_events_rollup, s.write_mode)) from rollup.shared_settings as s
  );
end
$$;
comment on function rollup.take_shared_settings() is 'Takes over all settings that the nodes share, on one that is new; returns how many. migrate does so.';

create or replace function rollup.share_setting()
returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
begin
  if current_setting('rollup.taking', true) = 'x' or to_regclass('rollup.shared_settings') is null then
    return null;
  end if;
  if not rollup.is_coordinator() then
    raise exception using
      errcode = 'RU011',
      message = format('the settings of account %s cannot be changed on this node', new.account_id),
      hint = 'Change them on the coordinator of the cluster, which passes them on.';
  end if;
  insert into rollup.shared_settings as s (account_id, reporting_timezone, reporting_events_rollup, write_mode)
  values (new.account_id, new.reporting_timezone, new.reporting_events_rollup, new.write_mode)
  on conflict (account_id) do update set
    reporting_timezone = excluded.reporting_timezone, reporting_events_rollup = excluded.reporting_events_rollup,
    write_mode = excluded.write_mode;
  return null;
end
$$;
comment on function rollup.share_setting() is 'Trigger function of account_settings: passes what is changed on the coordinator to all nodes.';

create or replace trigger share_setting
  after update on rollup.account_settings for each row
  when (
    (old.reporting_timezone, old.reporting_events_rollup, old.write_mode)
    is distinct from (new.reporting_timezone, new.reporting_events_rollup, new.write_mode)
  )
  execute function rollup.share_setting();

create or replace function rollup.require_distributable()
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
declare
  v_obstacle text;
begin
  v_obstacle := case
    when not rollup.is_coordinator() then 'this is a worker node: call it on the coordinator'
    when not rollup.is_distributed() then 'public.reporting_events is not distributed: select create_distributed_table(''public.reporting_events'', ''account_id'');'
    when (
      select column_to_column_name(p.logicalrelid, p.partkey) from pg_dist_partition as p where p.logicalrelid = rollup.host_table()
    ) <> 'account_id' then 'public.reporting_events is not distributed by account_id'
    when exists (select from pg_class as c where c.oid = rollup.host_table() and c.relkind = 'p')
      then 'public.reporting_events is partitioned: its partitions would be shards of their own, which we do not see'
    when exists (
      select from pg_dist_shard as s join pg_dist_placement as p on p.shardid = s.shardid
      where s.logicalrelid = rollup.host_table() group by s.shardid having count(*) > 1
    ) then 'shards of public.reporting_events have replicas: set citus.shard_replication_factor to 1'
    when exists (select from rollup.account_coverage as c where c.sealed_through is not null) then format(
      'account %s has sealed days, which cannot move: unseal them while their raw events are there',
      (select min(c.account_id) from rollup.account_coverage as c where c.sealed_through is not null)
    )
    else (
      select format('node %s:%s has no reporting-rollup yet: reporting-rollup migrate installs it', n.nodename, n.nodeport)
      from run_command_on_workers('select to_regclass(''rollup.dirty_marks'') is not null') as n
      where n.result is distinct from 't'
      limit 1
    )
  end;
  if v_obstacle is not null then
    raise exception using errcode = 'RU017', message = format('rollup.distribute: %s', v_obstacle);
  end if;
end
$$;
comment on function rollup.require_distributable() is 'Raises RU017, naming the reason, where distribute() cannot do its work.';

create or replace function rollup.distribute()
returns setof text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set citus.enable_ddl_propagation = on
set citus.enable_unsafe_triggers = on
set citus.multi_shard_modify_mode = 'sequential'
set client_min_messages = warning as $$
declare
  v_trigger record;
begin
  perform rollup.require_distributable();
  if to_regclass('rollup.shared_settings') is null then
    create table rollup.shared_settings (
      account_id int primary key, reporting_timezone text, reporting_events_rollup boolean not null, write_mode text not null
    );
    comment on table rollup.shared_settings is 'The settings of accounts as all nodes have them; written on the coordinator.';
    perform create_reference_table('rollup.shared_settings');
    create trigger take_shared_setting after insert or update on rollup.shared_settings for each row
      when (to_regnamespace('rollup_worker') is not null) execute function rollup.take_shared_setting();
    insert into rollup.shared_settings
    select s.account_id, s.reporting_timezone, s.reporting_events_rollup, s.write_mode from rollup.account_settings as s;
    return next 'settings shared';
  end if;
  -- Nothing of the host's statements is to go to other nodes than theirs.
  for v_trigger in select t.name from rollup.host_setting_triggers() as t where to_regclass('public.accounts') is not null loop
    execute format('drop trigger if exists %I on public.accounts', v_trigger.name);
  end loop;
  drop trigger if exists reporting_events_rollup_truncate on public.reporting_events;
  for v_trigger in select * from rollup.missing_host_triggers() loop
    execute format('create or replace trigger %I %s', v_trigger.name, v_trigger.definition);
    return next format('trigger %s on all shards', v_trigger.name);
  end loop;
end
$$;
comment on function rollup.distribute() is
  'On the coordinator of a Citus cluster whose nodes all have been migrated: shares the settings of accounts with all nodes, puts the triggers on the shards of '
  'public.reporting_events, and has calls of the functions of one account sent to its node. Returns what it did; safe to repeat. migrate calls it. '
  'Errors: RU017 naming what is missing. Example: select * from rollup.distribute();';

create or replace function rollup.undistribute()
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set citus.enable_ddl_propagation = on
set citus.enable_unsafe_triggers = on
set client_min_messages = warning as $$
begin
  drop trigger if exists reporting_events_rollup_insert on public.reporting_events;
  drop trigger if exists reporting_events_rollup_delete on public.reporting_events;
  drop trigger if exists reporting_events_rollup_update on public.reporting_events;
  drop table if exists rollup.shared_settings;
end
$$;
comment on function rollup.undistribute() is 'On the coordinator: takes back what distribute() has made, before the nodes are uninstalled.';
