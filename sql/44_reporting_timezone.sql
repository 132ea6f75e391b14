-- The zone of an account: it decides the day of its events and is the switch of its rollups. Where the host keeps a setting for it, that
-- is its place, and ours follows (48_host_settings); elsewhere it stands in account_settings alone.

create or replace function rollup.accounts_table()
returns oid
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select c.oid
  from pg_class as c
  where c.oid = to_regclass('public.accounts') and c.relkind in ('r', 'p') and not row_security_active(c.oid)
$$;
comment on function rollup.accounts_table() is
  'The host''s table of accounts; NULL if there is none, or if reading it would run the functions of others, as a view''s and a policy''s are.';

create or replace function rollup.host_accounts()
returns oid
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select c.oid
  from pg_class as c
  join pg_namespace as n on n.nspname = 'rollup'
  join pg_attribute as i on i.attrelid = c.oid and i.attname = 'id' and i.atttypid in ('int'::regtype, 'bigint'::regtype)
  join pg_attribute as s on s.attrelid = c.oid and s.attname = 'settings' and s.atttypid = 'jsonb'::regtype
  where c.oid = to_regclass('public.accounts') and c.relkind = 'r'
    and has_column_privilege(n.nspowner, c.oid, i.attnum, 'select') and has_column_privilege(n.nspowner, c.oid, s.attnum, 'select')
$$;
comment on function rollup.host_accounts() is
  'The table in which the host keeps the settings of its accounts: public.accounts with settings jsonb, if the owner of this schema may '
  'read it; else NULL.';

create or replace function rollup.setting_timezone(p_settings jsonb)
returns text
language sql immutable parallel safe
return coalesce(btrim(p_settings ->> 'reporting_timezone'), '');
comment on function rollup.setting_timezone(jsonb) is 'The name of a zone in the host''s settings of an account; empty for none.';

create or replace function rollup.lock_host_setting(p_account_id int)
returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '300ms' as $$
declare
  -- As in lock_account: what the transaction had before is not given back while it waits.
  v_deadline timestamptz := clock_timestamp() + case when rollup.holds_host_lock() then '0 s' else '10 s' end::interval;
  v_name text;
begin
  if rollup.host_accounts() is null then
    return null;
  end if;
  perform rollup.limit_lock_waits();
  loop
    begin
      select rollup.setting_timezone(a.settings) into v_name from public.accounts as a where a.id = p_account_id for no key update;
      return v_name;
    exception when lock_not_available then
      exit when clock_timestamp() > v_deadline;
    end;
  end loop;
  raise exception using
    errcode = 'RU006',
    message = format('account %s is locked: another transaction is changing its row in public.accounts', p_account_id),
    hint = 'Nothing was changed. See pg_stat_activity for who it is, let that transaction end and try again.';
end
$$;
comment on function rollup.lock_host_setting(int) is
  'Locks the host''s row of an account and returns the name of the zone that stands there, empty for none; NULL where the host keeps no '
  'setting of it. Waits 10 s for the row, or 0.3 s in a transaction that has locked something of the host, then raises RU006.';

create or replace function rollup.timezone_obstacle(p_account_id int)
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
declare
  v_through date := rollup.sealed_through(p_account_id);
begin
  return case when v_through is not null then format('the days of account %s through %s are sealed, so it keeps its time zone', p_account_id, v_through) end;
end
$$;
comment on function rollup.timezone_obstacle(int) is
  'Why the zone of an account cannot be changed or taken away, or NULL. Ask under lock_settings, in a statement of its own: a seal that has '
  'seen the zone holds that lock until it is there.';

create or replace function rollup.change_timezones(p_account_ids int[], p_timezones text[], p_host_timezones text[])
returns setof int
language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
begin
  return query
  with wanted as (
    select s.account_id, w.timezone, w.host_timezone, s.reporting_timezone is distinct from w.timezone as is_new
    from unnest(p_account_ids, p_timezones, p_host_timezones) as w (account_id, timezone, host_timezone)
    join rollup.account_settings as s on s.account_id = w.account_id
    where s.reporting_timezone is distinct from w.timezone or s.host_timezone is distinct from w.host_timezone
  ),
  changed as (
    update rollup.account_settings as s
    set reporting_timezone = w.timezone, host_timezone = w.host_timezone, updated_at = now(),
      generation = case when w.is_new then rollup.next_generation(s.generation) else s.generation end
    from wanted as w
    where s.account_id = w.account_id
    returning s.account_id, s.generation, s.reporting_timezone, w.is_new
  ),
  -- A first zone has no older rows to clear: its rollups begin with the next event. (On conflict alone would wait for a rebuild.)
  first as (
    insert into rollup.account_coverage (account_id, generation, host_relation)
    select n.account_id, n.generation, rollup.coverage_of(rollup.host_relation(n.account_id))
    from changed as n
    where n.is_new and n.reporting_timezone is not null
      and not exists (select from rollup.account_coverage as c where c.account_id = n.account_id)
    on conflict (account_id) do nothing
  )
  select n.account_id from changed as n where n.is_new;
end
$$;
comment on function rollup.change_timezones(int[], text[], text[]) is
  'Gives accounts, whose settings rows are locked, their zones (p_timezones, NULL: none), and notes what stands in the host''s settings '
  '(p_host_timezones). Returns those that have another zone now: these begin anew, and need a backfill.';

create or replace function rollup.require_writable_setting(p_account_id int)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
declare
  v_kind text := (select jsonb_typeof(a.settings) from public.accounts as a where a.id = p_account_id);
begin
  if v_kind not in ('object', 'null') then
    raise exception using
      errcode = 'RU016',
      message = format('the settings of account %s in public.accounts are a JSON %s, in which no time zone can be set', p_account_id, v_kind),
      hint = 'Make an object of them first, such as: {"reporting_timezone": "America/New_York"}';
  end if;
end
$$;
comment on function rollup.require_writable_setting(int) is 'Raises RU016 where what the host has in an account''s settings is no object.';

create or replace function rollup.set_reporting_timezone(p_account_id int, p_timezone text)
returns rollup.account_settings
language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
declare
  v_timezone text;
  v_before text;
  v_name text;
  v_host_settings jsonb;
  v_settings rollup.account_settings;
begin
  perform rollup.require('set_reporting_timezone', jsonb_build_object('p_account_id', p_account_id));
  perform rollup.require_read_committed('set_reporting_timezone');
  if p_timezone is not null then
    v_timezone := rollup.find_timezone(p_timezone);
  end if;

  -- Ours first, for which the host never waits; its own row is locked for as short as may be.
  v_settings := rollup.lock_settings(p_account_id);
  if v_settings.reporting_timezone is distinct from v_timezone and rollup.timezone_obstacle(p_account_id) is not null then
    raise exception using
      errcode = 'RU012',
      message = rollup.timezone_obstacle(p_account_id),
      hint = format('While their raw events are there, days can be unsealed: select rollup.unseal(%s);', p_account_id);
  end if;
  v_before := rollup.lock_host_setting(p_account_id);
  v_name := case
    -- Another name of the zone may stand there.
    when v_before is null or rollup.known_timezone(v_before) = v_timezone then v_before
    else coalesce(v_timezone, '')
  end;
  perform rollup.change_timezones(array[p_account_id], array[v_timezone], array[v_name]);
  -- On Citus the account's node queues it.
  if found and v_timezone is not null and rollup.host_relation(p_account_id) is not null then
    perform rollup.enqueue_backfill(p_account_id);
  end if;
  -- After our own change, which its trigger then finds done.
  if v_name <> v_before then
    perform rollup.require_writable_setting(p_account_id);
    -- In two statements, for Citus takes no function of to_jsonb's kind in an update.
    select case
      when v_name = '' then a.settings - 'reporting_timezone'
      else jsonb_set(coalesce(nullif(a.settings, 'null'), '{}'), '{reporting_timezone}', to_jsonb(v_name))
    end into v_host_settings
    from public.accounts as a
    where a.id = p_account_id;
    update public.accounts as a set settings = v_host_settings where a.id = p_account_id;
  end if;
  select * into v_settings from rollup.account_settings as s where s.account_id = p_account_id;
  return v_settings;
end
$$;
comment on function rollup.set_reporting_timezone(int, text) is
  'Sets the time zone that decides the day of an account''s events, by its name in the IANA database or in Rails, any case; NULL switches '
  'its rollups off. Where the host keeps the setting (public.accounts.settings) it is written there. Returns the settings. '
  'A zone other than the present one makes the rollups start anew: reads use raw events until the backfill that it queues has run. '
  'Errors: RU001 no such zone (the hint suggests names), RU004 not read committed, RU006 the host''s row locked for 10 s (0.3 s in a '
  'transaction that has locked something of the host), RU009 no account, RU012 the account has sealed days, RU016 the host''s settings are no object, 42501 no right on the host''s table. '
  'Example: select rollup.set_reporting_timezone(1, ''America/New_York'');';
