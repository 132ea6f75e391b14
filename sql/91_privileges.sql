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
