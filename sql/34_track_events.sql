-- The write path: every statement of the host on reporting_events becomes deltas, applied at once under the account's
-- try-lock or appended for fold(). It never waits, and it never fails the host's statement.

create or replace function rollup.track_events()
returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
-- Planning costs more than the short path itself, and plans are made while our tables are still small.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
-- For statements of many rows: groups are underestimated, and sorting for them takes longer than hashing.
set enable_sort = off
set work_mem = '64MB'
set jit = off as $$
-- One trigger for each transition table, which is always called events. tg_argv[0]: 1 for new rows, -1 for old ones.
declare
  v_sign int;
  v_used text;
  v_event record;
  v_accounts bigint[];
  v_events bigint;
  v_locked int[];
  v_apply rollup.deltas[];
  v_append rollup.deltas[];
  v_error text;
begin
  begin
    v_sign := case tg_argv[0] when '1' then 1 else -1 end;
    -- All that one event needs, in one statement: starting another, or an expression, costs more than it does.
    select
      e.account_id, s.generation, rollup.local_date(e.created_at, s.timezone) as date, e.name, e.user_id, e.inbox_id,
      rollup.remembered_conversation(e.name, e.conversation_id) as conversation_id,
      rollup.seconds(v_sign * rollup.microseconds(e.value)) as value,
      rollup.seconds(v_sign * rollup.microseconds(e.value_in_business_hours)) as value_in_business_hours,
      e.name = any (rollup.event_names()) and s.account_id is not null as counts,
      exists (select from events offset 1) as several,
      -- What this transaction may still lock (the lock table is the whole server's) and write in subtransactions (more than
      -- 64 of them slow readers down). Kept as letters of a text: savepoints roll it back, and no cast of it can fail.
      40 - length(coalesce(current_setting('rollup.used', true), '')) as budget,
      current_setting('transaction_isolation') = 'read committed' as lockable,
      s.inline
    into v_event
    from events as e
    left join lateral rollup.writer_settings(e.account_id) as s on true
    -- Else plpgsql.extra_errors could make an error of the second row.
    limit 1;

    if v_event.several then
      -- A plan for how many rows there are.
      perform set_config('plan_cache_mode', 'force_custom_plan', true);
      select array_agg(t.account_id), sum(t.events)
      into v_accounts, v_events
      from (select e.account_id, count(*) as events from events as e where e.name = any (rollup.event_names()) group by 1) as t
      cross join lateral rollup.writer_settings(t.account_id);
      if v_events > 250000 then
        -- Deltas are held in memory, half a kilobyte for each event.
        raise program_limit_exceeded using message = 'more than 250,000 events in one statement';
      elsif v_events <= 10000 and v_event.lockable and v_event.budget > 0 then
        -- To apply more is for fold(), not for the host to wait for: appending takes half the time and less.
        v_locked := array(
          select candidate.account_id
          from (
            select s.account_id
            from unnest(v_accounts) as touched (account_id)
            cross join lateral rollup.writer_settings(touched.account_id) as s
            where s.inline
            limit v_event.budget
          ) as candidate
          where rollup.try_lock_account(candidate.account_id)
        );
      end if;
      -- Settings read before the lock may be of an old zone.
      with setting as materialized (
        select
          s.account_id, s.generation, s.timezone,
          s.account_id = any (v_locked) and rollup.is_applied(s.account_id, s.generation) as applicable
        from unnest(v_accounts) as touched (account_id)
        cross join lateral rollup.writer_settings(touched.account_id) as s
      ),
      total as (
        select
          s.account_id, rollup.local_date(e.created_at, s.timezone) as date, e.name, e.user_id, e.inbox_id,
          rollup.remembered_conversation(e.name, e.conversation_id) as conversation_id,
          v_sign * count(*) as count,
          rollup.seconds(v_sign * sum(rollup.microseconds(e.value))) as sum_value,
          rollup.seconds(v_sign * sum(rollup.microseconds(e.value_in_business_hours))) as sum_value_business_hours
        from events as e
        join setting as s on s.account_id = e.account_id
        where e.name = any (rollup.event_names())
        group by 1, 2, 3, 4, 5, 6
      ),
      delta as (
        select
          s.applicable,
          (
            t.account_id, s.generation, t.date, t.name, t.user_id, t.inbox_id, t.conversation_id,
            t.count, t.sum_value, t.sum_value_business_hours, tg_op = 'DELETE'
          )::rollup.deltas as delta
        from total as t
        join setting as s on s.account_id = t.account_id
      )
      select array_agg(d.delta) filter (where d.applicable), array_agg(d.delta) filter (where d.applicable is not true)
      into v_apply, v_append
      from delta as d;
    elsif v_event.counts then
      if v_event.budget > 0 then
        v_used := set_config('rollup.used', repeat('x', 41 - v_event.budget), true);
        if v_event.inline and v_event.lockable and rollup.try_lock_account(v_event.account_id::int) then
          if v_sign = 1 and rollup.apply_event(
            v_event.account_id::int, v_event.generation, v_event.date, v_event.name, v_event.user_id, v_event.inbox_id,
            v_event.conversation_id, v_event.value, v_event.value_in_business_hours
          ) then
            return null;
          end if;
          v_locked := array[v_event.account_id];
          -- Settings read before the lock may be of an old zone.
          select s.generation, rollup.local_date(e.created_at, s.timezone) into v_event.generation, v_event.date
          from events as e
          cross join lateral rollup.writer_settings(e.account_id) as s;
        else
          insert into rollup.deltas values (
            v_event.account_id, v_event.generation, v_event.date, v_event.name, v_event.user_id, v_event.inbox_id,
            v_event.conversation_id, v_sign, v_event.value, v_event.value_in_business_hours, tg_op = 'DELETE'
          );
          return null;
        end if;
      end if;
      if v_event.generation is not null then
        v_append := array[(
          v_event.account_id, v_event.generation, v_event.date, v_event.name, v_event.user_id, v_event.inbox_id,
          v_event.conversation_id, v_sign, v_event.value, v_event.value_in_business_hours, tg_op = 'DELETE'
        )::rollup.deltas];
      end if;
      if v_locked is not null and rollup.is_applied(v_event.account_id::int, v_event.generation) then
        v_apply := v_append;
        v_append := null;
      end if;
    end if;

    if v_event.budget > 0 and (v_apply is not null or v_append is not null) then
      v_used := set_config('rollup.used', repeat('x', 40 - v_event.budget + greatest(1, cardinality(v_locked))), true);
      if v_append is not null then
        insert into rollup.deltas select d.* from unnest(v_append) as d;
        v_append := null;
      end if;
      if cardinality(v_locked) = 1 and v_apply is not null then
        perform rollup.apply(v_locked[1], v_apply);
      elsif v_apply is not null then
        perform rollup.apply(a.account_id, a.deltas)
        from (select d.account_id, array_agg(d) as deltas from unnest(v_apply) as d group by 1) as a;
      end if;
    end if;
  exception when others then
    v_append := null;
    v_error := format('%s (SQLSTATE %s)', sqlerrm, sqlstate);
    raise warning 'rollup: % on reporting_events could not be added to the rollups: %', lower(tg_op), v_error
      using hint = 'The days concerned are read from raw events until the worker, rollup.repair or rollup.backfill rebuilds them.';
    begin
      insert into rollup.dirty_marks (account_id, date, marked_at, reason)
      select distinct s.account_id, rollup.local_date(e.created_at, s.timezone), now(), v_error
      from events as e
      cross join lateral rollup.writer_settings(e.account_id) as s
      where e.name = any (rollup.event_names());
    exception when others then
      begin
        -- The date itself may be what failed.
        insert into rollup.dirty_marks (account_id, date, marked_at, reason)
        select distinct s.account_id, null::date, now(), v_error
        from events as e
        cross join lateral rollup.writer_settings(e.account_id) as s;
      exception when others then
        raise warning 'rollup: not even marked: %', sqlerrm
          using hint = 'Run rollup.backfill for the accounts of this statement once the cause is gone.';
      end;
    end;
  end;

  if v_append is not null then
    insert into rollup.deltas select d.* from unnest(v_append) as d;
  end if;
  return null;
end
$$;
comment on function rollup.track_events() is
  'Trigger function of reporting_events, for each statement. Applies the statement''s deltas under the account''s lock if it can be had '
  'at once and there are no more than 10,000 events, and appends them otherwise. Its errors, and statements of more than 250,000 events, become '
  'warnings and dirty marks.';

create or replace function rollup.track_truncate()
returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
begin
  begin
    insert into rollup.dirty_marks (account_id, date, marked_at, reason)
    select s.account_id, null, now(), 'truncate'
    from rollup.account_settings as s
    where s.reporting_timezone is not null;
  exception when others then
    raise warning 'rollup: truncate of reporting_events could not be noted: %', sqlerrm
      using hint = 'Run rollup.backfill for every account once the cause is gone.';
  end;
  return null;
end
$$;
comment on function rollup.track_truncate() is
  'Trigger function of reporting_events for truncate: marks all accounts with a zone as dirty and does nothing else.';
