-- Nobody but the owner may use any of this until it is granted. The host's role needs nothing: the trigger runs as its owner.

revoke all on schema rollup from public;
revoke all on all tables in schema rollup from public;

do $$
declare
  v_function regprocedure;
begin
  for v_function in
    select p.oid from pg_proc as p
    where p.pronamespace = 'rollup'::regnamespace and has_function_privilege('public', p.oid, 'execute')
  loop
    execute format('revoke all on function %s from public', v_function);
  end loop;
end
$$;

-- Who reads reports is granted the role rollup_reader. Roles belong to the whole server: it may be there already, or somebody else's to make.
do $$
begin
  if to_regrole('rollup_reader') is null then
    create role rollup_reader nologin;
    comment on role rollup_reader is 'Made by reporting-rollup; removed by reporting-rollup uninstall.';
  end if;
exception
  -- Another database's migrate was faster; or migrate will say what to run.
  when duplicate_object or unique_violation or insufficient_privilege then null;
end
$$;

do $$
declare
  v_function regprocedure;
begin
  if to_regrole('rollup_reader') is null then
    return;
  end if;
  revoke all on all tables in schema rollup from rollup_reader;
  revoke all on all functions in schema rollup from rollup_reader;
  grant usage on schema rollup to rollup_reader;
  grant select on rollup.daily_metrics, rollup.daily_summary, rollup.report_metrics to rollup_reader;
  for v_function in
    select p.oid from pg_proc as p
    where p.pronamespace = 'rollup'::regnamespace and (
      -- Reads run as their owner; read_metric reads the registry alone.
      p.proname in ('timeseries', 'aggregate', 'summary', 'heat_map', 'read_plan', 'read_metric', 'report_window')
      -- Views call functions as whoever reads them. These read no table and change nothing.
      or p.provolatile = 'i'
    )
  loop
    execute format('grant execute on function %s to rollup_reader', v_function);
  end loop;
end
$$;
