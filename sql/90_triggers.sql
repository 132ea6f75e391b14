-- The triggers on the host's table. Creating one waits for its writers, so an existing one is left alone.

do $$
declare
  v_wanted record;
  v_missing boolean := false;
begin
  for v_wanted in
    select *
    from (
      values
        ('reporting_events_rollup_insert', 'insert', 'referencing new table as events', 'track_events(''1'')'),
        ('reporting_events_rollup_delete', 'delete', 'referencing old table as events', 'track_events(''-1'')'),
        ('reporting_events_rollup_update_old', 'update', 'referencing old table as events', 'track_events(''-1'')'),
        ('reporting_events_rollup_update_new', 'update', 'referencing new table as events', 'track_events(''1'')'),
        ('reporting_events_rollup_truncate', 'truncate', '', 'track_truncate()')
    ) as t (name, event, referencing, function)
    where not exists (
      select
      from pg_trigger as g
      where g.tgrelid = 'public.reporting_events'::regclass and g.tgname = t.name and g.tgenabled in ('O', 'A')
    )
  loop
    -- While a trigger is missing, days go by untracked. All rows, and before the host's table is locked: a rebuild that is about
    -- to claim days holds its row.
    if not v_missing then
      update rollup.account_coverage set covered = '{}';
      v_missing := true;
    end if;
    execute format(
      'create or replace trigger %s after %s on public.reporting_events %s for each statement execute function rollup.%s',
      v_wanted.name, v_wanted.event, v_wanted.referencing, v_wanted.function
    );
    execute format('alter table public.reporting_events enable trigger %s', v_wanted.name);
  end loop;
end
$$;
