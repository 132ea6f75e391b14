-- Whether the host's table, and the clocks of zones, are what they were when days were claimed.

create or replace function rollup.missing_host_triggers()
returns table (name text, definition text)
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select
    t.name,
    format(
      'after %s on public.reporting_events %s for each statement %s', t.event, t.referencing,
      case
        -- A node that a shard moves to may not have the types of this schema yet. Asked by what needs no right on it.
        when rollup.is_distributed() then 'when (to_regnamespace(''rollup_worker'') is not null) execute function rollup.track_events(''shard'')'
        else format('execute function rollup.%s()', t.function)
      end
    )
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
    where g.tgrelid = rollup.host_table() and g.tgname = t.name and g.tgenabled in ('O', 'A') and g.tgnargs = rollup.is_distributed()::int
  )
  -- See coverage_of.
  and not (t.event = 'truncate' and rollup.is_distributed())
$$;
comment on function rollup.missing_host_triggers() is 'The triggers that the host''s table should have and does not.';

create or replace function rollup.host_table_state()
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select jsonb_build_object(
    'table', rollup.host_table(),
    -- Disabling and enabling a trigger leaves it with another xmin.
    'triggers', (
      select coalesce(jsonb_object_agg(g.tgname, format('%s %s', g.tgenabled, g.xmin)), '{}')
      from rollup.host_relations() as h
      join pg_trigger as g on g.tgrelid = h.relation
      join pg_proc as p on p.oid = g.tgfoid
      where p.pronamespace = 'rollup'::regnamespace
    ),
    'partitions', rollup.host_partitions()
  )
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
  if p_before -> 'table' <> p_now -> 'table' or not (p_now -> 'partitions') @> (p_before -> 'partitions') then
    return true;
  end if;
  -- Shards come and go with theirs, which have their number in their names.
  if not rollup.is_distributed() and not (p_now -> 'triggers') @> (p_before -> 'triggers')
    or exists (select from jsonb_each_text(nullif(p_before -> 'triggers', 'null')) as b where (p_now -> 'triggers' ->> b.key) <> b.value)
  then
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
  v_tracked boolean := not exists (
    select from rollup.host_relations() as h cross join lateral rollup.host_table_obstacles(h.relation)
  );
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
    perform rollup.enqueue_backfill(s.account_id)
    from rollup.account_settings as s
    join rollup.accounts_here() as a on a.account_id = s.account_id
    where s.reporting_timezone is not null;
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
    join rollup.accounts_here() as a on a.account_id = s.account_id
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
