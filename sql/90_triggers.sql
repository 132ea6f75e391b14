-- The triggers on the host's table. Creating one waits for its writers, so an existing one is left alone.

-- As of 0.1.0, which had one for the old rows of an update and one for the new.
do $$
declare
  v_name text;
begin
  for v_name in
    select g.tgname from pg_trigger as g
    where g.tgrelid = rollup.host_relation()
      and g.tgname in ('reporting_events_rollup_update_old', 'reporting_events_rollup_update_new')
  loop
    execute format('drop trigger %I on public.reporting_events', v_name);
  end loop;
end
$$;

do $$
declare
  v_wanted record;
  v_missing boolean := false;
begin
  for v_wanted in
    select *
    from (
      values
        ('reporting_events_rollup_insert', 'insert', 'referencing new table as events', 'track_events'),
        ('reporting_events_rollup_delete', 'delete', 'referencing old table as events', 'track_events'),
        ('reporting_events_rollup_update', 'update', 'referencing old table as old_events new table as new_events', 'track_events'),
        ('reporting_events_rollup_truncate', 'truncate', '', 'track_truncate')
    ) as t (name, event, referencing, function)
    where not exists (
      select
      from pg_trigger as g
      where g.tgrelid = rollup.host_relation() and g.tgname = t.name and g.tgenabled in ('O', 'A') and g.tgnargs = 0
    )
  loop
    -- While a trigger is missing, days go by untracked. All rows, and before the host's table is locked: a rebuild that is about
    -- to claim days holds its row.
    if not v_missing then
      update rollup.account_coverage set covered = '{}';
      v_missing := true;
    end if;
    execute format(
      'create or replace trigger %s after %s on public.reporting_events %s for each statement execute function rollup.%s()',
      v_wanted.name, v_wanted.event, v_wanted.referencing, v_wanted.function
    );
    execute format('alter table public.reporting_events enable trigger %s', v_wanted.name);
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
