-- Backfill: days, ranges or whole histories rebuilt now, in one transaction. (By the worker: 42_backfill_runs.)

create or replace function rollup.claim_later(p_account_id int, p_from date, p_to date)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
begin
  raise notice 'account %: rebuilt, but %', p_account_id, coalesce(
    (select o from rollup.host_table_obstacles(rollup.host_relation(p_account_id)) as o limit 1), 'transactions older than its time zone are still under way'
  ) using hint = 'Until that is over the days are read from raw events. A backfill is queued for the worker; or run it again later.';
  begin
    perform rollup.enqueue_backfill(p_account_id, nullif(p_from, '-infinity'), nullif(p_to, 'infinity'));
  exception when lock_not_available then
    -- By the lock_timeout of backfill. Somebody is changing the account's zone, and with that queues a backfill himself.
    null;
  end;
end
$$;
comment on function rollup.claim_later(int, date, date) is
  'Tells that a rebuilt range could not be claimed yet, and queues it for the worker.';

create or replace function rollup.backfill(p_account_id int, p_from date default null, p_to date default null)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
-- Once we hold the host's table, whoever has locked one of ours may be waiting for it, and must not be the deadlock's victim: see
-- lock_account.
set lock_timeout = '300ms' as $$
declare
  v_from date := coalesce(p_from, '-infinity');
  v_to date := coalesce(p_to, 'infinity');
  v_generation bigint;
  v_chunk record;
  v_rebuilt record;
  v_rows bigint := 0;
  v_claimed boolean := true;
begin
  perform rollup.limit_lock_waits();
  perform rollup.require_days('backfill', p_account_id, p_from, p_to);
  v_generation := rollup.begin_rebuild('backfill', p_account_id);
  perform rollup.require_unsealed('backfill', p_account_id, p_from, p_to);
  if v_from = '-infinity' and v_to = 'infinity' then
    perform rollup.forget_account_marks(p_account_id);
  end if;
  for v_chunk in select * from rollup.memory_chunks(p_account_id, rollup.first_unsealed_day(p_account_id, v_from), v_to)
  loop
    v_rebuilt := rollup.rebuild(p_account_id, v_chunk.from_date, v_chunk.to_date);
    v_rows := v_rows + v_rebuilt.rows_written;
    v_claimed := v_claimed and v_rebuilt.claimed;
  end loop;
  if v_claimed then
    perform rollup.settle_pending_backfill(p_account_id, v_generation, v_from, v_to, v_rows);
  else
    perform rollup.claim_later(p_account_id, v_from, v_to);
  end if;
  return v_rows;
end
$$;
comment on function rollup.backfill(int, date, date) is
  'Rebuilds the days p_from to p_to of an account from its raw events, atomically, and returns the number of rows of '
  'reporting_events_rollups that they then have. Both are account-local dates, inclusive; NULL: from the first, through the last event on; both '
  'NULL: the whole history, and the trigger keeps days to come complete. Sealed days are left as they are. Writers go on meanwhile. Large histories are better given '
  'to enqueue_backfill. Errors: RU002 no zone, RU003 reversed or infinite dates, RU004 not read committed, RU005 a second account in '
  'one transaction, RU006 the account''s lock not granted within 10 s (half a second if the transaction has locked something of the host, see holds_host_lock), '
  'RU011 row level security, or on another node, RU012 sealed days asked for, 55P03 one of our tables locked. Example: select rollup.backfill(1, ''2026-01-01'', ''2026-01-31'');';

create or replace function rollup.backfill_date(p_account_id int, p_date date)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
begin
  perform rollup.require('backfill_date', jsonb_build_object('p_account_id', p_account_id, 'p_date', p_date));
  return rollup.backfill(p_account_id, p_date, p_date);
end
$$;
comment on function rollup.backfill_date(int, date) is
  'Rebuilds one account-local day from the raw events, atomically, and returns the number of rows of reporting_events_rollups that it then has. '
  'Errors as in rollup.backfill. Example: select rollup.backfill_date(1, ''2026-02-11'');';
