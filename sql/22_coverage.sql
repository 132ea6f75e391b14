-- Who may change an account's rollups, and which of its days they hold completely.

create or replace function rollup.lock_class()
returns int
language sql immutable parallel safe as $$
  select 1919904876
$$;
comment on function rollup.lock_class() is
  'First half of the advisory locks (lock_class(), account_id) under which an account''s rollups are changed; "roll" in ASCII.';

create or replace function rollup.try_lock_account(p_account_id int)
returns boolean
language sql volatile as $$
  select pg_try_advisory_xact_lock(rollup.lock_class(), p_account_id)
$$;
comment on function rollup.try_lock_account(int) is
  'Takes the account''s lock until the end of the transaction, or returns false at once. Call it in a statement of its own: what '
  'follows must see what its last holder committed.';

create or replace function rollup.holds_host_lock()
returns boolean
language sql volatile as $$
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
-- Well below deadlock_timeout: if this wait is part of a deadlock it is we who give up, never the host.
set lock_timeout = '300ms' as $$
declare
  -- A failed attempt gives back what it has locked, but not what the transaction had before: the holder of the account's lock may
  -- be waiting for that, so then there is one attempt only.
  v_deadline timestamptz := clock_timestamp() + case when rollup.holds_host_lock() then '0 s' else p_patience end;
  v_holders text;
begin
  loop
    begin
      perform pg_advisory_xact_lock(rollup.lock_class(), p_account_id);
      lock table public.reporting_events in access share mode;
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
      when v_holders is not null then format('account %s is busy: %s holds its lock', p_account_id, v_holders)
      else format('account %s could not be rebuilt: public.reporting_events is locked, or the account''s lock was never free', p_account_id)
    end,
    hint = 'Nothing was changed. See pg_stat_activity for who it is, let that transaction end and try again.';
end
$$;
comment on function rollup.lock_account(int, interval) is
  'Waits for the account''s lock, and for the host''s table to be readable, for p_patience, or half a second in a transaction that '
  'has locked something of the host; then raises RU006 naming who holds it. While somebody waits for it, writers leave deltas.';

create or replace function rollup.writer_settings(p_account_id bigint)
returns table (account_id int, generation bigint, timezone text, inline boolean)
language sql stable parallel safe as $$
  select s.account_id, s.generation, s.reporting_timezone, s.write_mode = 'inline'
  from rollup.account_settings as s
  where s.account_id = p_account_id and s.reporting_timezone is not null
  -- Not to be pulled up: planned as a join while the table is small, it would read all settings for each event.
  offset 0
$$;
comment on function rollup.writer_settings(bigint) is
  'What the trigger needs to know of an account; no row for one without a zone.';

create or replace function rollup.is_applied(p_account_id int, p_generation bigint)
returns boolean
language sql stable parallel safe as $$
  select exists (
    select
    from rollup.account_settings as s
    join rollup.account_coverage as c on c.account_id = s.account_id and c.generation = s.generation
    where s.account_id = p_account_id and s.generation = p_generation
  )
$$;
comment on function rollup.is_applied(int, bigint) is
  'Whether a generation is the present one and the account''s rollups belong to it.';

create or replace function rollup.clean_days(p_account_id int)
returns datemultirange
language plpgsql stable parallel safe as $$
-- In plpgsql for its plan to be kept: every read asks.
begin
  return coalesce(
    (
      select case
        when exists (select from rollup.dirty_marks as m where m.account_id = s.account_id and m.date is null) then '{}'
        else c.covered - coalesce(
          (
            select range_agg(daterange(m.date, m.date, '[]'))
            from rollup.dirty_marks as m
            where m.account_id = s.account_id
          ),
          '{}'
        )
      end
      from rollup.account_settings as s
      join rollup.account_coverage as c on c.account_id = s.account_id and c.generation = s.generation
      where s.account_id = p_account_id and s.reporting_timezone is not null
    ),
    '{}'
  );
end
$$;
comment on function rollup.clean_days(int) is
  'The days of an account whose rollups, with the pending deltas, are complete: covered and without a dirty mark.';

create or replace function rollup.old_writers_gone(p_barrier xid8)
returns boolean
language plpgsql volatile as $$
begin
  if p_barrier is null then
    return false;
  elsif p_barrier > pg_snapshot_xmax(pg_current_snapshot()) and p_barrier is distinct from pg_current_xact_id_if_assigned() then
    return true;
  end if;
  perform pg_stat_clear_snapshot();
  return not exists (
    select
    from pg_stat_activity as a
    where a.datid = (select d.oid from pg_database as d where d.datname = current_database())
      and a.pid <> pg_backend_pid()
      -- Either is enough: who has written may hold no snapshot now, and who holds an old one may write yet.
      and (age(a.backend_xid) > age(p_barrier::xid) or age(a.backend_xmin) > age(p_barrier::xid))
      and a.backend_type is distinct from 'autovacuum worker'
  )
  -- A prepared transaction may carry the choices of an old snapshot, and shows none.
  and not exists (select from pg_prepared_xacts as p where p.database = current_database());
end
$$;
comment on function rollup.old_writers_gone(xid8) is
  'Whether no transaction is left in this database that began before the barrier or holds a snapshot from before it; false while there '
  'is no barrier. Ask before the statement whose snapshot is to be trusted: a transaction that shows no id any more has ended for '
  'every later snapshot. A barrier beyond the present transaction ids was restored from another server, and counts as passed.';

create or replace function rollup.await_old_writers(p_account_id int)
returns boolean
language plpgsql volatile as $$
declare
  v_coverage rollup.account_coverage;
begin
  -- For update: migrate, finding a trigger missing, clears coverage after we have claimed, not before.
  select * into v_coverage from rollup.account_coverage as c where c.account_id = p_account_id for no key update;
  if v_coverage.barrier_passed then
    return true;
  end if;
  for v_try in 1..20 loop
    if rollup.old_writers_gone(v_coverage.barrier) then
      update rollup.account_coverage as c set barrier_passed = true where c.account_id = p_account_id;
      return true;
    end if;
    exit when v_coverage.barrier is null or current_setting('rollup.awaited', true) = 'x';
    perform pg_sleep(0.05);
  end loop;
  perform set_config('rollup.awaited', 'x', true);
  return false;
end
$$;
comment on function rollup.await_old_writers(int) is
  'Under the account''s lock: waits for transactions older than the barrier, up to a second in a transaction; whether what follows may '
  'claim days.';

create or replace function rollup.adopt_generation(p_account_id int)
returns rollup.account_settings
language plpgsql volatile as $$
declare
  v_fresh boolean := pg_current_xact_id_if_assigned() is null;
  v_settings rollup.account_settings;
begin
  select * into v_settings from rollup.account_settings as s where s.account_id = p_account_id;
  -- Whoever chose by older settings had his transaction id before they were changed: below ours, if we get it only now. (The
  -- xmax of a snapshot will not do: it is the latest id that has ended, not the latest assigned.)
  if v_fresh then
    update rollup.account_coverage as c set barrier = pg_current_xact_id()
    where c.account_id = p_account_id and (c.barrier is null or c.generation < v_settings.generation);
  end if;
  if exists (
    select from rollup.account_coverage as c
    where c.account_id = p_account_id and c.generation < v_settings.generation
  ) then
    delete from rollup.reporting_events_rollups as r where r.account_id = p_account_id;
    delete from rollup.ledger as l where l.account_id = p_account_id;
    delete from rollup.previous_dates as p where p.account_id = p_account_id;
    delete from rollup.deltas as d where d.account_id = p_account_id and d.generation < v_settings.generation;
    update rollup.account_coverage as c
    set generation = v_settings.generation, covered = '{}', barrier_passed = false,
      barrier = case when v_fresh then c.barrier end
    where c.account_id = p_account_id;
  end if;
  return v_settings;
end
$$;
comment on function rollup.adopt_generation(int) is
  'Under the account''s lock: clears what belongs to an old zone, records the barrier of the present one, and returns the settings. To '
  'record the barrier it must come before anything that its transaction writes.';

create or replace function rollup.forget_account_marks(p_account_id int)
returns void
language sql volatile as $$
  with forgotten as (
    delete from rollup.dirty_marks as m where m.account_id = p_account_id and m.date is null returning 1
  )
  update rollup.account_coverage as c set covered = '{}'
  where c.account_id = p_account_id and exists (select from forgotten)
$$;
comment on function rollup.forget_account_marks(int) is
  'Under the account''s lock: turns the visible account-wide dirty marks into uncovered days, before all of them are rebuilt.';
