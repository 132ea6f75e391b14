-- Applying the pending deltas that writers have left.

create or replace function rollup.fold_size()
returns int
language sql immutable parallel safe
return 50000;
comment on function rollup.fold_size() is 'How many deltas are applied at once: they are held in memory.';

create or replace function rollup.queue_for_account(p_account_id int)
returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '300ms' as $$
begin
  if rollup.try_lock_account(p_account_id) then
    return true;
  elsif pg_current_xact_id_if_assigned() is not null or rollup.holds_host_lock() then
    return false;
  end if;
  perform rollup.limit_lock_waits();
  perform pg_advisory_xact_lock(rollup.lock_class(), p_account_id);
  return true;
exception when lock_not_available then
  return false;
end
$$;
comment on function rollup.queue_for_account(int) is
  'Takes the account''s lock and, while others hold it, queues for up to 300 ms, in which writers leave deltas: an account whose writers '
  'always have it would never be folded. Only tries in a transaction that has written or locked something, for which others may wait. '
  'Call it in a statement of its own.';

create or replace function rollup.fold_account(p_account_id int)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
-- The planner may remember our tables as empty.
set enable_seqscan = off
set jit = off as $$
declare
  v_settings rollup.account_settings;
  v_pending tid[];
  v_deltas rollup.deltas[];
begin
  if not rollup.queue_for_account(p_account_id) then
    return 0;
  end if;
  v_settings := rollup.adopt_settings(p_account_id);
  select array_agg(d.ctid), array_agg(d.delta)
  into v_pending, v_deltas
  from (
    select p.ctid, p as delta
    from rollup.deltas as p
    where p.account_id = p_account_id and p.generation <= v_settings.generation
    limit rollup.fold_size()
  ) as d;
  delete from rollup.deltas as d where d.account_id = p_account_id and d.ctid = any (v_pending);
  if v_deltas is not null then
    perform rollup.apply(p_account_id, v_deltas);
  end if;
  return coalesce(cardinality(v_pending), 0);
end
$$;
comment on function rollup.fold_account(int) is
  'Applies up to fold_size() pending deltas of an account and discards those that do not count, of an old zone or of deletes on sealed days; '
  'returns how many. 0 if its lock is taken.';

create or replace function rollup.accounts_to_fold()
returns setof int
language sql stable
set search_path = pg_catalog, pg_temp as $$
  -- The distinct accounts of a long table, by skipping through its index.
  with recursive pending as (
    (select d.account_id from rollup.deltas as d order by d.account_id limit 1)
    union all
    select (select d.account_id from rollup.deltas as d where d.account_id > p.account_id order by d.account_id limit 1)
    from pending as p
    where p.account_id is not null
  )
  select p.account_id from pending as p where p.account_id is not null
  union
  select c.account_id
  from rollup.account_coverage as c
  join rollup.account_settings as s on s.account_id = c.account_id and s.generation > c.generation
  union
  select c.account_id
  from rollup.account_coverage as c
  where rollup.is_distributed() and c.host_relation is not null
    and not exists (select from rollup.accounts_here() as a where a.account_id = c.account_id)
$$;
comment on function rollup.accounts_to_fold() is
  'The accounts with pending deltas or with rows to clear: of an old zone, or because their events have moved to another node.';

create or replace function rollup.fold(p_account_id int default null)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
declare
  v_account_id int;
  v_folded bigint;
  v_total bigint := 0;
begin
  perform rollup.require_read_committed('fold');
  for v_account_id in
    select p_account_id where p_account_id is not null
    union all
    -- Each account locks until the transaction ends, and lock memory is the whole server's.
    (select a from rollup.accounts_to_fold() as a where p_account_id is null limit 500)
  loop
    begin
      loop
        v_folded := rollup.fold_account(v_account_id);
        v_total := v_total + v_folded;
        exit when v_folded < rollup.fold_size();
      end loop;
    exception when others then
      raise warning 'rollup: the pending deltas of account % could not be folded: % (SQLSTATE %)', v_account_id, sqlerrm, sqlstate
        using hint = format('They still count. Rebuild the account: select rollup.backfill(%s);', v_account_id);
    end;
  end loop;
  return v_total;
end
$$;
comment on function rollup.fold(int) is
  'Applies the pending deltas of an account (NULL: of up to 500 accounts) to its rollups; returns how many. Accounts whose lock is '
  'taken are skipped, and one that fails is left as it was, with a warning. The worker does this every few seconds. '
  'Errors: RU004 not read committed. Example: select rollup.fold();';
