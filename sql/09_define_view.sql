-- "create or replace view" locks out readers even when nothing changes, so a view is replaced only when its definition differs.

create or replace function rollup.define_view(p_name text, p_query text)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
declare
  v_current oid := to_regclass(format('rollup.%I', p_name));
  v_wanted text;
begin
  execute format('create temporary view define_view as %s', p_query);
  v_wanted := pg_get_viewdef('pg_temp.define_view'::regclass);
  drop view pg_temp.define_view;
  if v_current is null then
    execute format('create view rollup.%I as %s', p_name, p_query);
  elsif pg_get_viewdef(v_current) <> v_wanted then
    execute format('create or replace view rollup.%I as %s', p_name, p_query);
  end if;
end
$$;
comment on function rollup.define_view(text, text) is
  'Creates rollup.<p_name>, or replaces it if its definition differs from p_query. Used by the files in sql/ only.';
