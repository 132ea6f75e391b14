-- The account's lock: who holds it may change the account's rollups, ledger and previous dates.

create or replace function rollup.lock_class()
returns int
language sql immutable parallel safe
return 1919904876;
comment on function rollup.lock_class() is
  'First half of the advisory locks (lock_class(), account_id) under which an account''s rollups are changed; "roll" in ASCII.';

create or replace function rollup.try_lock_account(p_account_id int)
returns boolean
language sql volatile
return pg_try_advisory_xact_lock(rollup.lock_class(), p_account_id);
comment on function rollup.try_lock_account(int) is
  'Takes the account''s lock until the end of the transaction, or returns false at once. Call it in a statement of its own: what '
  'follows must see what its last holder committed.';

create or replace function rollup.lock_wait()
returns int
language sql stable
return least(300, greatest(1, (select s.setting::int from pg_settings as s where s.name = 'deadlock_timeout') / 4));
comment on function rollup.lock_wait() is
  'How long a rebuild may wait for any lock, milliseconds: well below deadlock_timeout. If the wait is part of a deadlock it is we who '
  'give up, never the host.';

create or replace function rollup.limit_lock_waits()
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
begin
  perform set_config('lock_timeout', rollup.lock_wait() || 'ms', true);
end
$$;
comment on function rollup.limit_lock_waits() is
  'Sets lock_timeout to lock_wait() for the rest of the calling function, which must set lock_timeout itself for it to end there.';

create or replace function rollup.holds_host_lock()
returns boolean
language sql volatile
set search_path = pg_catalog, pg_temp as $$
  select exists (
    select
    from pg_locks as l
    left join pg_class as c on c.oid = l.relation
    where l.pid = pg_backend_pid() and l.granted
      and l.database = (select d.oid from pg_database as d where d.datname = current_database())
      and case l.locktype
        when 'relation' then
          c.relpersistence <> 't'
          and c.relnamespace::regnamespace::text <> all ('{pg_catalog,pg_toast,information_schema,rollup,rollup_worker}')
        when 'advisory' then l.objsubid <> 2 or l.classid <> rollup.lock_class()::oid
      end
  )
$$;
comment on function rollup.holds_host_lock() is
  'Whether this session has an advisory lock that is not ours, or has locked a table that is neither ours nor the system''s, as every '
  'use of one does.';

create or replace function rollup.lock_account(p_account_id int, p_patience interval default '10 s')
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '300ms' as $$
declare
  -- A failed attempt gives back what it has locked, but not what the transaction had before: the holder of the account's lock may
  -- be waiting for that, so then there is one attempt only.
  v_deadline timestamptz := clock_timestamp() + case when rollup.holds_host_lock() then '0 s' else p_patience end;
  v_relation oid := rollup.host_relation(p_account_id);
  v_holders text;
begin
  perform rollup.limit_lock_waits();
  loop
    begin
      perform pg_advisory_xact_lock(rollup.lock_class(), p_account_id);
      -- Wait until the host's table can be read, and keep it so. (Citus refuses to lock a shard by name.)
      execute format('select from %s limit 0', coalesce(v_relation::regclass::text, 'public.reporting_events'));
      return;
    exception when lock_not_available then
      exit when clock_timestamp() > v_deadline;
    end;
  end loop;
  select string_agg(coalesce('process ' || l.pid, 'a prepared transaction'), ', ') into v_holders
  from pg_locks as l
  where l.locktype = 'advisory' and l.granted and l.objsubid = 2
    and l.database = (select d.oid from pg_database as d where d.datname = current_database())
    and l.classid = rollup.lock_class()::oid
    and l.objid = (p_account_id::bigint & 4294967295)::oid;
  raise exception using
    errcode = 'RU006',
    message = case
      when v_holders is not null then format('account %s is locked: %s holds its lock', p_account_id, v_holders)
      else format('account %s could not be rebuilt: public.reporting_events is locked, or the account''s lock was never free', p_account_id)
    end,
    hint = 'Nothing was changed. See pg_stat_activity for who it is, let that transaction end and try again.';
end
$$;
comment on function rollup.lock_account(int, interval) is
  'Waits for the account''s lock, and for the host''s table to be readable, for p_patience, or half a second in a transaction that '
  'has locked something of the host; then raises RU006 naming who holds it. While somebody waits for it, writers leave deltas.';

create or replace function rollup.require_here(p_function text, p_account_id int)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
begin
  if rollup.is_distributed() and rollup.host_relation(p_account_id) is null then
    raise exception using
      errcode = 'RU011',
      message = format('rollup.%s: the events of account %s are on another node: %s', p_function, p_account_id, rollup.account_node(p_account_id)),
      hint = 'Call it there, or by itself: Citus sends a call there if it is the whole statement, outside a transaction block, with the account as '
        'a constant or parameter.';
  end if;
end
$$;
comment on function rollup.require_here(text, int) is
  'Raises RU011, naming the node, for an account whose events are on another node of a Citus cluster.';

create or replace function rollup.require_all_rows(p_function text)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
begin
  if row_security_active(rollup.host_table()) then
    raise exception using
      errcode = 'RU011',
      message = format('rollup.%s: row level security hides events of public.reporting_events from the role %s', p_function, current_user),
      hint = format('It must see all of them: alter role %I bypassrls; or alter table public.reporting_events no force row level security;', current_user);
  end if;
end
$$;
comment on function rollup.require_all_rows(text) is
  'Raises RU011 where a policy would filter the events that the present role sees: of some of them, no number is right.';
