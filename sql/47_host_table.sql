-- Whether the host's table, and the clocks of zones, are what they were when days were claimed.

create or replace function rollup.host_table_state()
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select jsonb_build_object(
    'table', h.oid,
    -- Disabling and enabling a trigger leaves it with another xmin.
    'triggers', (
      select jsonb_object_agg(g.tgname, format('%s %s', g.tgenabled, g.xmin))
      from pg_trigger as g
      join pg_proc as p on p.oid = g.tgfoid
      where g.tgrelid = h.oid and p.pronamespace = 'rollup'::regnamespace
    ),
    'partitions', rollup.host_partitions()
  )
  from (select rollup.host_relation()) as h (oid)
$$;
comment on function rollup.host_table_state() is
  'What would be another if the host''s table had been changed behind our triggers: itself, the triggers, the partitions and their files.';

create or replace function rollup.host_table_changed(p_before jsonb, p_now jsonb)
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
declare
  v_partition oid;
  v_rows boolean;
begin
  -- A partition that has gone or has another file takes rows with it.
  if p_before - 'partitions' <> p_now - 'partitions' or not (p_now -> 'partitions') @> (p_before -> 'partitions') then
    return true;
  end if;
  for v_partition in
    select p.key::oid from jsonb_each(p_now -> 'partitions') as p where not (p_before -> 'partitions') ? p.key
  loop
    execute format('select exists (select from %s)', v_partition::regclass) into v_rows;
    if v_rows then
      return true;
    end if;
  end loop;
  return false;
end
$$;
comment on function rollup.host_table_changed(jsonb, jsonb) is
  'Whether rows may have come or gone unseen between two states of the host''s table. A partition that is new and empty is none.';

create or replace function rollup.watch_host_table()
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
declare
  v_before jsonb;
  v_now jsonb := rollup.host_table_state();
  v_tracked boolean := not exists (select from rollup.host_table_obstacles());
  v_accounts bigint := 0;
begin
  insert into rollup.host_table (state) select v_now where not exists (select from rollup.host_table) on conflict do nothing;
  select h.state into v_before from rollup.host_table as h for update skip locked;
  if v_before is null or (v_tracked and not rollup.host_table_changed(v_before, v_now)) then
    -- Also new partitions, as long as they are empty.
    update rollup.host_table as h set state = v_now where v_before <> v_now;
    return 0;
  end if;
  with distrusted as (
    -- As after a change of the zone: what there is counts for nothing, and a rebuild under way claims nothing.
    update rollup.account_settings as s
    set generation = rollup.next_generation(s.generation), updated_at = now()
    where s.reporting_timezone is not null and (
      v_tracked or exists (
        select from rollup.account_coverage as c where c.account_id = s.account_id and c.generation = s.generation and c.covered <> '{}'
      )
    )
    returning s.account_id
  )
  select count(*) into v_accounts from distrusted;
  if v_tracked then
    perform rollup.enqueue_backfill(s.account_id) from rollup.account_settings as s where s.reporting_timezone is not null;
    update rollup.host_table as h set state = v_now where true;
  end if;
  return v_accounts;
end
$$;
comment on function rollup.watch_host_table() is
  'Compares the host''s table with what it was at the last look. Where rows may have come or gone behind our triggers, no day of any '
  'account is clean any more: reads use raw events, and backfills are queued, though not before changes reach us again. Returns how many '
  'accounts begin anew. The worker does this once a minute.';

create or replace function rollup.watch_zone_rules()
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
declare
  v_account_id int;
  v_accounts bigint := 0;
begin
  for v_account_id in
    with zone as materialized (
      select z.name, rollup.zone_rules(z.name) as rules
      from (
        select distinct s.reporting_timezone as name
        from rollup.account_settings as s
        join rollup.account_coverage as c on c.account_id = s.account_id and c.zone_rules is not null
        where s.reporting_timezone is not null
      ) as z
    )
    select s.account_id
    from rollup.account_settings as s
    join rollup.account_coverage as c on c.account_id = s.account_id and c.generation = s.generation
    join zone as z on z.name = s.reporting_timezone
    where z.rules <> c.zone_rules
  loop
    update rollup.account_settings as s set generation = rollup.next_generation(s.generation), updated_at = now() where s.account_id = v_account_id;
    perform rollup.enqueue_backfill(v_account_id);
    v_accounts := v_accounts + 1;
  end loop;
  -- A name in the host's settings that nobody knew may be known by now: it is followed as a new one.
  update rollup.account_settings as s
  set host_timezone = ''
  where s.account_id in (
    select u.account_id
    from rollup.account_settings as u
    where u.reporting_timezone is null and u.host_timezone <> '' and rollup.known_timezone(u.host_timezone) is not null
    for no key update skip locked
  );
  return v_accounts;
end
$$;
comment on function rollup.watch_zone_rules() is
  'Compares the clocks of the accounts'' zones with those that their rollups were made by. Where a government has changed them, also for the '
  'past, events have moved to other days: the account begins anew, as after a change of its zone. Returns how many do. The worker does this '
  'when it starts and daily, migrate every time; sessions that are older than the server''s new time zone data reckon by the old.';
