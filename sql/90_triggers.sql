-- The triggers on the host's table. Creating one waits for its writers, so an existing one is left alone.

-- As of 0.1.0, which had one for the old rows of an update and one for the new.
do $$
declare
  v_name text;
begin
  for v_name in
    select g.tgname from pg_trigger as g
    where g.tgrelid = rollup.host_table()
      and g.tgname in ('reporting_events_rollup_update_old', 'reporting_events_rollup_update_new')
  loop
    execute format('drop trigger %I on public.reporting_events', v_name);
  end loop;
end
$$;

do $$
declare
  v_missing record;
begin
  -- On Citus they go to all nodes, when these are installed: citus/distribute.sql.
  if rollup.is_distributed() then
    return;
  end if;
  -- While a trigger is missing, days go by untracked. All rows, and before the host's table is locked: a rebuild that is about
  -- to claim days holds its row.
  update rollup.account_coverage set covered = '{}' where exists (select from rollup.missing_host_triggers());
  for v_missing in select * from rollup.missing_host_triggers() loop
    execute format('create or replace trigger %I %s', v_missing.name, v_missing.definition);
    execute format('alter table public.reporting_events enable trigger %I', v_missing.name);
  end loop;
end
$$;

-- And those on its accounts, where it keeps zones in their settings and lets us have a trigger there.
do $$
declare
  v_wanted record;
begin
  if has_table_privilege(rollup.host_accounts(), 'trigger') then
    for v_wanted in select * from rollup.missing_host_setting_triggers() loop
      execute format(
        'create or replace trigger %I %s execute function rollup.track_host_setting()', v_wanted.name, v_wanted.definition
      );
    end loop;
  end if;
end
$$;

select rollup.watch_host_table();
