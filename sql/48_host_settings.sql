-- Following the zones that the host keeps in the settings of its accounts: a trigger there does so at once if it can, without waiting for
-- anybody; what it cannot, follow_host_settings() finds by comparing. So nothing has to be remembered in between.

create or replace function rollup.host_setting_triggers()
returns table (name text, definition text)
language sql immutable parallel safe
begin atomic
  -- The function is called for another zone only. Asked of the row, for the host could not alter or drop a column that a trigger names.
  values
    (
      'reporting_events_rollup_timezone_insert',
      'after insert on public.accounts for each row when (to_jsonb(new) #>> ''{settings,reporting_timezone}'' is not null)'
    ),
    (
      'reporting_events_rollup_timezone_update',
      'after update on public.accounts for each row '
      'when (to_jsonb(old) #>> ''{settings,reporting_timezone}'' is distinct from to_jsonb(new) #>> ''{settings,reporting_timezone}'')'
    ),
    (
      'reporting_events_rollup_timezone_delete',
      'after delete on public.accounts for each row when (to_jsonb(old) #>> ''{settings,reporting_timezone}'' is not null)'
    );
end;
comment on function rollup.host_setting_triggers() is 'The triggers on the host''s accounts, and when they call track_host_setting.';

create or replace function rollup.missing_host_setting_triggers()
returns table (name text, definition text)
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select t.name, t.definition
  from rollup.host_setting_triggers() as t
  -- On Citus settings go to all nodes, which no statement of the host is to wait for: the worker follows them.
  where rollup.host_accounts() is not null and not rollup.is_distributed() and not exists (
    select
    from pg_trigger as g
    join pg_proc as p on p.oid = g.tgfoid
    where g.tgrelid = rollup.host_accounts() and g.tgname = t.name and g.tgenabled in ('O', 'A') and p.pronamespace = 'rollup'::regnamespace
  )
$$;
comment on function rollup.missing_host_setting_triggers() is
  'Those that the host''s accounts do not have; no row where the host keeps no zones.';

create or replace function rollup.host_setting_obstacles()
returns setof text
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
declare
  v_table oid := to_regclass('public.accounts');
  v_owner oid := (select n.nspowner from pg_namespace as n where n.nspname = 'rollup');
begin
  if rollup.host_accounts() is null then
    return query
      select format(
        'Time zones set in public.accounts.settings are not followed: the role %1$I may not read it. grant select on public.accounts to %1$I;',
        v_owner::regrole::text
      )
      from pg_attribute as s
      join pg_class as c on c.oid = s.attrelid
      where s.attrelid = v_table and s.attname = 'settings' and s.atttypid = 'jsonb'::regtype and c.relkind = 'r'
        and not has_column_privilege(v_owner, v_table, s.attnum, 'select');
  elsif row_security_active(v_table) then
    return next format(
      'Time zones set in public.accounts.settings are not followed by the role %1$I, from which row level security hides accounts. '
      'alter role %1$I bypassrls;',
      current_user
    );
  elsif exists (select from rollup.missing_host_setting_triggers()) then
    return next 'No trigger of ours sees the time zones set in public.accounts.settings: the worker follows them, seconds later. ' || case
      when has_table_privilege(v_owner, v_table, 'trigger') then 'Run: reporting-rollup migrate'
      else format('grant trigger on public.accounts to %I; then run: reporting-rollup migrate', v_owner::regrole::text)
    end;
  end if;
end
$$;
comment on function rollup.host_setting_obstacles() is
  'Why the zones that the host keeps do not reach us, or not at once, in plain words; no row if they do, or if it keeps none.';

create or replace function rollup.track_host_setting()
returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '50ms' as $$
declare
  v_account_id int;
  v_name text;
  v_timezone text;
begin
  begin
    -- Whoever may execute this could put it on a table of his own.
    if tg_relid is distinct from rollup.host_accounts()
      or current_setting('transaction_isolation') <> 'read committed'
      -- Each is a subtransaction, and the others are for events. What has failed once is not tried again in this transaction.
      or rollup.remaining_guards() <= rollup.guarded_firings() / 2
      or current_setting('rollup.unfollowed', true) = 'x'
      or rollup.is_distributed()
    then
      return null;
    end if;
    perform rollup.use_guards(1);
    if tg_op = 'DELETE' then
      v_account_id := old.id;
      v_name := '';
    else
      v_account_id := new.id;
      v_name := rollup.setting_timezone(new.settings);
      insert into rollup.account_settings (account_id)
      select v_account_id
      where not exists (select from rollup.account_settings as s where s.account_id = v_account_id)
      on conflict (account_id) do nothing;
    end if;
    perform from rollup.account_settings as s where s.account_id = v_account_id for no key update skip locked;
    if found and rollup.timezone_obstacle(v_account_id) is null then
      v_timezone := rollup.known_timezone(v_name);
      perform rollup.change_timezones(array[v_account_id], array[v_timezone], array[v_name]);
      if found and v_timezone is not null then
        -- A mark, and the worker queues the backfill: a job would notify, and a run be numbered from a sequence.
        insert into rollup.dirty_marks (account_id, date, marked_at, reason) values (v_account_id, null, now(), 'its time zone was set');
      end if;
    end if;
  exception when others then
    perform set_config('rollup.unfollowed', 'x', true);
    raise warning 'rollup: the time zone of an account could not be followed: % (SQLSTATE %)', sqlerrm, sqlstate
      using hint = 'The worker follows it, as does: select rollup.follow_host_settings();';
  end;
  return null;
end
$$;
comment on function rollup.track_host_setting() is
  'Trigger function of the host''s accounts, for a row whose zone is another: gives the account that zone if its settings row can be had '
  'without waiting, and leaves it to follow_host_settings() otherwise: in another isolation level than read committed, after an error, '
  'which becomes a warning, or after some accounts of one transaction. Does nothing on any other table than the host''s.';

create or replace function rollup.host_differences()
returns table (account_id int, name text)
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
begin
  return query
  select coalesce(a.id, s.account_id), a.name
  from (
    select a.id::int as id, rollup.setting_timezone(a.settings) as name
    from public.accounts as a
    where a.id between -2147483648 and 2147483647
  ) as a
  full join rollup.account_settings as s on s.account_id = a.id
  where case
    when a.id is null then s.host_timezone is not null
    when s.account_id is null then a.name <> ''
    else a.name is distinct from s.host_timezone
  end;
end
$$;
comment on function rollup.host_differences() is
  'The accounts whose setting at the host is not the one that was followed last, and what it is; NULL: the host has the account no more.';

create or replace function rollup.add_settings(p_account_ids int[])
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '50ms' as $$
begin
  insert into rollup.account_settings (account_id)
  select a.account_id
  from unnest(p_account_ids) as a (account_id)
  where not exists (select from rollup.account_settings as s where s.account_id = a.account_id)
  on conflict (account_id) do nothing;
exception when lock_not_available then
  -- The host is setting the first zone of one of them right now, and may take its time: the others are not to wait for that.
  if cardinality(p_account_ids) > 1 then
    perform rollup.add_settings(p_account_ids[:cardinality(p_account_ids) / 2]);
    perform rollup.add_settings(p_account_ids[cardinality(p_account_ids) / 2 + 1:]);
  end if;
end
$$;
comment on function rollup.add_settings(int[]) is 'Makes the settings rows that are missing, but for those that somebody else is making.';

create or replace function rollup.host_setting_obstacle(p_account_id int)
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
declare
  v_obstacle text := rollup.timezone_obstacle(p_account_id);
begin
  if v_obstacle is null or rollup.host_accounts() is null then
    return null;
  end if;
  return (
    select format('public.accounts.settings has %s, but %s', coalesce(format('time zone "%s"', nullif(rollup.setting_timezone(a.settings), '')), 'no time zone'), v_obstacle)
    from public.accounts as a
    join rollup.account_settings as s on s.account_id = p_account_id
    where a.id = p_account_id and rollup.setting_timezone(a.settings) is distinct from s.host_timezone
  );
end
$$;
comment on function rollup.host_setting_obstacle(int) is 'Why what stands in the host''s setting of an account is not followed, or NULL.';

create or replace function rollup.forget_accounts(p_account_ids int[])
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
declare
  v_account_id int;
  v_table text;
begin
  for v_account_id in
    select s.account_id
    from rollup.account_settings as s
    left join rollup.account_coverage as c on c.account_id = s.account_id
    where s.account_id = any (p_account_ids) and s.reporting_timezone is null
      -- Cleared, and nobody is left who writes under its last zone: what he wrote would stay.
      and (c.account_id is null or c.generation = s.generation and c.awaited is not null and rollup.still_awaited(c.awaited) = '{}')
      and not exists (select from rollup.deltas as d where d.account_id = s.account_id)
      and not exists (select from rollup.backfill_runs as r where r.account_id = s.account_id and r.state in ('pending', 'running'))
    -- Each locks until the transaction ends, and lock memory is the whole server's.
    limit 100
  loop
    if rollup.try_lock_account(v_account_id) then
      foreach v_table in array '{backfill_chunks,backfill_runs,dirty_marks,account_coverage,account_settings}'::text[] loop
        execute format('delete from rollup.%I where account_id = $1', v_table) using v_account_id;
      end loop;
    end if;
  end loop;
end
$$;
comment on function rollup.forget_accounts(int[]) is
  'Removes what is left of accounts that the host has deleted, up to 100, as far as their rollups have been cleared. Their settings rows '
  'must be locked.';

create or replace function rollup.follow_host_settings()
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '300ms' as $$
declare
  v_accounts int[];
  v_changed int[];
begin
  perform rollup.require_read_committed('follow_host_settings');
  if rollup.host_accounts() is null or row_security_active('public.accounts') or not rollup.is_coordinator() then
    return 0;
  end if;
  perform rollup.limit_lock_waits();
  v_accounts := array(select d.account_id from rollup.host_differences() as d);
  if v_accounts = '{}' then
    return 0;
  end if;
  perform rollup.add_settings(v_accounts);
  v_accounts := array(
    select s.account_id from rollup.account_settings as s where s.account_id = any (v_accounts) for no key update skip locked
  );

  -- In a statement that begins when they are locked: until then the trigger may have changed them.
  with wanted as materialized (
    select d.account_id, d.name, s.reporting_timezone, s.host_timezone
    from rollup.host_differences() as d
    join rollup.account_settings as s on s.account_id = d.account_id
    where d.account_id = any (v_accounts)
  ),
  zone as materialized (
    select n.name, rollup.known_timezone(n.name) as timezone from (select distinct w.name from wanted as w) as n
  )
  select array_agg(n.account_id) into v_changed
  from (
    select
      array_agg(w.account_id) as account_ids,
      -- One that was set before the host was followed stays until the host says otherwise.
      array_agg(case when w.name = '' and w.host_timezone is null then w.reporting_timezone else z.timezone end) as timezones,
      array_agg(coalesce(w.name, '')) as names
    from wanted as w
    left join zone as z on z.name = w.name
    -- Looked at again each time, until its days are unsealed.
    where rollup.timezone_obstacle(w.account_id) is null or z.timezone = w.reporting_timezone
  ) as t
  cross join lateral rollup.change_timezones(t.account_ids, t.timezones, t.names) as n (account_id);

  insert into rollup.backfill_runs (account_id, generation, from_date, to_date)
  select s.account_id, s.generation, '-infinity', 'infinity'
  from rollup.account_settings as s
  join rollup.accounts_here() as a on a.account_id = s.account_id
  where s.account_id = any (v_changed) and s.reporting_timezone is not null;
  perform rollup.forget_accounts(
    array(select d.account_id from rollup.host_differences() as d where d.name is null and d.account_id = any (v_accounts))
  );
  return coalesce(cardinality(v_changed), 0);
end
$$;
comment on function rollup.follow_host_settings() is
  'Gives accounts the zones that stand in the host''s settings of them (public.accounts.settings ->> ''reporting_timezone''), where its '
  'trigger has not done so; an unknown name switches off. Accounts that somebody is changing right now are left for the next time, and '
  'accounts that the host has deleted are forgotten once they are cleared. Queues backfills, to which a worker gives jobs. Returns how '
  'many accounts have another zone now. The worker does this every ten seconds, migrate at its end. '
  'Errors: RU004 not read committed, 55P03 a table locked. Example: select rollup.follow_host_settings();';
