-- What happens to an event that the host writes: every statement on reporting_events becomes deltas, applied at once under the account's
-- try-lock or appended for fold(). It never waits, and it never fails the host's statement.

create or replace function rollup.guarded_firings()
returns int
language sql immutable parallel safe
return 40;
comment on function rollup.guarded_firings() is
  'How often the trigger may lock accounts and write in subtransactions of one transaction: the lock table is the whole server''s, and more '
  'than 64 subtransactions slow readers down. From then on it appends without a guard. The last guarded firing appends too: that shows '
  'that it can be done, and no lock on rollup.deltas comes in between.';

create or replace function rollup.inline_events()
returns int
language sql immutable parallel safe
return 10000;
comment on function rollup.inline_events() is
  'How many events of a statement the trigger applies itself. To apply more is for fold(), not for the host to wait for.';

-- What the trigger remembers of a transaction stands in settings that are local to it: savepoints roll them back with everything else.

create or replace function rollup.remaining_guards()
returns int
language sql stable
return rollup.guarded_firings() - length(coalesce(current_setting('rollup.used', true), ''));
comment on function rollup.remaining_guards() is 'How many of its guarded_firings this transaction has left. They are letters of a text, for no cast of that can fail.';

create or replace function rollup.use_guards(p_count int)
returns text
language sql volatile
return set_config('rollup.used', coalesce(current_setting('rollup.used', true), '') || repeat('x', p_count), true);
comment on function rollup.use_guards(int) is 'Notes that this transaction has used p_count of its guarded_firings.';

create or replace function rollup.try_lock_accounts(p_account_ids bigint[], p_limit int)
returns int[]
language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
begin
  return array(
    select candidate.account_id
    from (
      select s.account_id
      from unnest(p_account_ids) as a (account_id)
      cross join lateral rollup.writer_settings(a.account_id) as s
      where s.inline
      limit p_limit
    ) as candidate
    where rollup.try_lock_account(candidate.account_id)
  );
end
$$;
comment on function rollup.try_lock_accounts(bigint[], int) is
  'Takes the locks of those of up to p_limit accounts, all in inline mode, that are free; returns them.';

create or replace function rollup.apply_event(
  p_account_id int, p_generation bigint, p_relation oid, p_date date, p_event_name text, p_user_id bigint, p_inbox_id bigint,
  p_conversation_id bigint, p_value bigint, p_value_in_business_hours bigint
)
returns boolean
language plpgsql volatile as $$
declare
  v_distinct text[];
begin
  if p_conversation_id is not null then
    with dimension as materialized (
      select dim.dimension_type, dim.dimension_id, max(l.date) filter (where l.dimension_id = dim.dimension_id) as last_date
      from rollup.account_coverage as c
      cross join rollup.dimensions(p_account_id, p_user_id, p_inbox_id) as dim
      left join lateral (
        select l.date, l.count, rollup.dimension_id(dim.dimension_type, p_account_id, l.user_id, l.inbox_id) as dimension_id
        from rollup.ledger as l
        where l.account_id = p_account_id and l.event_name = p_event_name::rollup.distinct_event and l.conversation_id = p_conversation_id
      ) as l on true
      where c.account_id = p_account_id and c.generation = p_generation and c.host_relation = p_relation
      group by 1, 2
      -- With entries below 1 (deltas are pending) or later dates the whole sequence of dates matters.
      having coalesce(min(l.count) > 0 and max(l.date) <= p_date, true)
    ),
    entry as (
      insert into rollup.ledger as l (account_id, event_name, conversation_id, date, count, user_id, inbox_id)
      select p_account_id, p_event_name::rollup.distinct_event, p_conversation_id, p_date, 1, p_user_id, p_inbox_id
      where exists (select from dimension)
      on conflict (account_id, event_name, conversation_id, date, user_id, inbox_id) do update set count = l.count + 1
    ),
    previous_date as (
      insert into rollup.previous_dates as p (account_id, event_name, dimension_type, dimension_id, date, previous_date, count)
      select
        p_account_id, p_event_name::rollup.distinct_event, d.dimension_type, d.dimension_id, p_date, coalesce(d.last_date, '-infinity'), 1
      from dimension as d
      where d.last_date is distinct from p_date
      on conflict (account_id, event_name, dimension_type, dimension_id, date, previous_date) do update set count = p.count + 1
    )
    select array_agg(case when d.last_date is distinct from p_date then d.dimension_type end) into v_distinct from dimension as d;
    if v_distinct is null then
      return false;
    end if;
  end if;

  insert into rollup.reporting_events_rollups as r
    (account_id, date, dimension_type, dimension_id, metric, count, sum_value, sum_value_business_hours, updated_at,
      count_value, count_value_business_hours)
  select
    p_account_id, p_date, dim.dimension_type, dim.dimension_id, m.metric, m.count, m.sum_value, m.sum_value_business_hours, now(),
    m.count_value, m.count_value_business_hours
  from rollup.account_coverage as c
  cross join rollup.dimensions(p_account_id, p_user_id, p_inbox_id) as dim
  cross join lateral rollup.metric_totals(
    p_event_name, 1, rollup.seconds(p_value), rollup.seconds(p_value_in_business_hours),
    (p_value is not null)::int, (p_value_in_business_hours is not null)::int,
    coalesce(dim.dimension_type = any (v_distinct), false)::int
  ) as m
  where c.account_id = p_account_id and c.generation = p_generation and c.host_relation = p_relation
  on conflict (account_id, dimension_type, metric, date, dimension_id)
  do update set
    count = r.count + excluded.count,
    sum_value = trim_scale(r.sum_value + excluded.sum_value),
    sum_value_business_hours = trim_scale(r.sum_value_business_hours + excluded.sum_value_business_hours),
    updated_at = excluded.updated_at,
    count_value = r.count_value + excluded.count_value,
    count_value_business_hours = r.count_value_business_hours + excluded.count_value_business_hours;
  -- A hand-off of a conversation that the day has already changes no total.
  return found or v_distinct is not null;
end
$$;
comment on function rollup.apply_event(int, bigint, oid, date, text, bigint, bigint, bigint, bigint, bigint) is
  'Applies one new event under the account''s lock, at a third of the cost of rollup.apply: nothing to group, and one look at the last dates '
  'of its conversation. Returns false, having done nothing, if the rollups are not of this generation and table, or if the whole sequence of '
  'dates of the conversation matters. Leaves no empty rows to remove: a count below 0 has deltas pending, and what applies those removes '
  'what comes to nothing. Called by track_events only, which sets the search_path.';

create or replace function rollup.apply_or_append(p_deltas rollup.deltas[], p_locked int[])
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
declare
  v_account record;
begin
  for v_account in
    select d.account_id, d.generation, array_agg(d) as deltas from unnest(p_deltas) as d group by 1, 2
  loop
    if v_account.account_id = any (p_locked)
      and exists (select from rollup.current_coverage(v_account.account_id) as c where c.generation = v_account.generation)
    then
      perform rollup.apply(v_account.account_id, v_account.deltas);
    else
      insert into rollup.deltas select d.* from unnest(v_account.deltas) as d;
    end if;
  end loop;
end
$$;
comment on function rollup.apply_or_append(rollup.deltas[], int[]) is
  'Applies the deltas of those accounts whose lock is held (p_locked) and whose rollups belong to the settings of the deltas, and appends the '
  'others.';

create or replace function rollup.statement_deltas(p_source text)
returns text
language sql stable parallel safe
return format(
  $query$
    select
      s.account_id, s.generation, rollup.local_date(e.created_at, s.timezone) as date, e.name::text as event_name,
      e.user_id::bigint as user_id, e.inbox_id::bigint as inbox_id,
      rollup.remembered_conversation(e.name, e.conversation_id) as conversation_id,
      sum(e.sign)::bigint as count,
      rollup.seconds(sum(e.sign * rollup.microseconds(e.value))) as sum_value,
      rollup.seconds(sum(e.sign * rollup.microseconds(e.value_in_business_hours))) as sum_value_business_hours,
      $2 as from_delete,
      coalesce(sum(e.sign) filter (where rollup.microseconds(e.value) is not null), 0) as count_value,
      coalesce(sum(e.sign) filter (where rollup.microseconds(e.value_in_business_hours) is not null), 0) as count_value_business_hours
    from (%s) as e
    join (
      select s.* from unnest($1) as a (account_id) cross join lateral rollup.writer_settings(a.account_id) as s
    ) as s on s.account_id = e.account_id
    where e.name = any (rollup.event_names()) and e.created_at is not null
    group by 1, 2, 3, 4, 5, 6, 7
    having (
      sum(e.sign), coalesce(sum(e.sign * rollup.microseconds(e.value)), 0),
      coalesce(sum(e.sign * rollup.microseconds(e.value_in_business_hours)), 0),
      coalesce(sum(e.sign) filter (where rollup.microseconds(e.value) is not null), 0),
      coalesce(sum(e.sign) filter (where rollup.microseconds(e.value_in_business_hours) is not null), 0)
    ) <> (0, 0, 0, 0, 0)
  $query$,
  p_source
);
comment on function rollup.statement_deltas(text) is
  'The query for the deltas of the events of a statement. p_source: a query for these with their sign, 1 or -1. Its parameters: $1 the accounts, '
  '$2 whether it is a delete.';

create or replace function rollup.track_events()
returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
-- Whoever alters or reindexes a table of ours must not make the host wait.
set lock_timeout = '50ms'
-- Planning costs more than the short path itself, and plans are made while our tables are still small.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
-- For statements of many rows: groups are underestimated, and sorting for them takes longer than hashing.
set enable_sort = off
set work_mem = '64MB'
set jit = off as $$
-- Transition tables, which no other function can see: events of an insert or delete, old_events and new_events of an update.
declare
  v_source text;
  v_guards int;
  v_used text;
  v_event record;
  v_several boolean;
  v_single boolean;
  v_accounts bigint[];
  v_events bigint;
  v_locked int[];
  v_deltas rollup.deltas[];
  v_append rollup.deltas[];
  v_error text;
  v_usual text;
begin
  -- By name: the host may have columns of its own.
  v_source := replace(
    case tg_op
      when 'INSERT' then 'select 1 as sign, # from events'
      when 'DELETE' then 'select -1 as sign, # from events'
      else 'select 1 as sign, # from new_events union all select -1, # from old_events'
    end,
    '#', 'account_id, created_at, name, user_id, inbox_id, conversation_id, value, value_in_business_hours'
  );
  -- On the shards of Citus only, which alone has this function.
  if tg_nargs > 0 then
    if to_regproc('rollup.is_sending') is null then
      -- migrate has not come so far on this node: there is no account yet.
      return null;
    end if;
    if rollup.is_sending() then
      -- No guard, so nothing that can fail: no day is computed of dates out of the usual, and rather wait than give up.
      perform set_config('lock_timeout', '0', true);
      v_usual := 'e.created_at between ''1900-01-01'' and ''9999-01-01''';
      execute format('select array_agg(distinct e.account_id) from (%s) as e where e.name = any (rollup.event_names())', v_source) into v_accounts;
      execute 'insert into rollup.deltas ' || rollup.statement_deltas(format('select * from (%s) as e where %s', v_source, v_usual))
        using v_accounts, tg_op = 'DELETE';
      execute format(
        'insert into rollup.dirty_marks (account_id, date, marked_at, reason)
         select distinct e.account_id, null::date, now(), $1
         from (%s) as e
         where e.account_id is not null and e.name = any (rollup.event_names()) and not (%s)',
        v_source, v_usual
      ) using 'an event of an unusual date, in a statement that this session sent to other nodes as well';
      return null;
    end if;
  end if;
  begin
    -- Whoever may execute this could put it on a table of his own.
    if rollup.is_host_relation(tg_relid) is not true then
      return null;
    end if;
    v_guards := rollup.remaining_guards();

    -- 1. What is it: nothing that counts, one event, or several?
    -- What has failed once in this transaction is not tried again: it may have cost the host a lock_timeout.
    if current_setting('rollup.failed', true) = 'x' then
      v_error := 'an earlier statement of the transaction could not be added';
    elsif tg_op = 'UPDATE' then
      -- Most updates change nothing that counts.
      v_several := exists (
        select account_id, created_at, name, user_id, inbox_id, conversation_id, value, value_in_business_hours from new_events
        except all
        select account_id, created_at, name, user_id, inbox_id, conversation_id, value, value_in_business_hours from old_events
      );
    else
      -- All that one event needs, in one statement: starting another, or an expression, costs more than it does.
      select
        -- The same types whatever the host's: expressions of a session are prepared for them once.
        e.account_id::bigint, s.generation, rollup.local_date(e.created_at, s.timezone) as date, e.name::text, e.user_id::bigint,
        e.inbox_id::bigint,
        rollup.remembered_conversation(e.name, e.conversation_id) as conversation_id,
        rollup.microseconds(e.value) as value, rollup.microseconds(e.value_in_business_hours) as value_in_business_hours,
        e.name = any (rollup.event_names()) and e.created_at is not null and s.account_id is not null as counts,
        exists (select from events offset 1) as several,
        s.inline and current_setting('transaction_isolation') = 'read committed' as inline
      into v_event
      from events as e
      left join lateral rollup.writer_settings(e.account_id) as s on true
      -- Else plpgsql.extra_errors could make an error of the second row.
      limit 1;
      v_several := v_event.several;
      v_single := v_event.counts;
    end if;

    -- 2. Several: lock the accounts that can be had, then read the settings and build the deltas; read before the lock they may be of
    -- an old zone.
    if v_several then
      execute format(
        'select array_agg(t.account_id), sum(t.events)
         from (select e.account_id, count(*) as events from (%s) as e where e.name = any (rollup.event_names()) group by 1) as t
         cross join lateral rollup.writer_settings(t.account_id)',
        v_source
      ) into v_accounts, v_events;
      if v_accounts is null then
        return null;
      end if;
      if v_guards > 1 and v_events <= rollup.inline_events() and current_setting('transaction_isolation') = 'read committed' then
        v_locked := rollup.try_lock_accounts(v_accounts, v_guards - 1);
      end if;
      if v_guards > 0 then
        v_used := rollup.use_guards(greatest(1, cardinality(v_locked)));
      end if;
      if v_guards > 0 and coalesce(cardinality(v_locked), 0) = 0 then
        execute 'insert into rollup.deltas ' || rollup.statement_deltas(v_source) using v_accounts, tg_op = 'DELETE';
      elsif v_events > rollup.inline_events() then
        raise program_limit_exceeded using message = 'too many events for a transaction of so many statements';
      else
        execute format(
          'select array_agg((d.account_id, d.generation, d.date, d.event_name, d.user_id, d.inbox_id, d.conversation_id, d.count, d.sum_value,
             d.sum_value_business_hours, d.from_delete, d.count_value, d.count_value_business_hours)::rollup.deltas)
           from (%s) as d',
          rollup.statement_deltas(v_source)
        ) into v_deltas using v_accounts, tg_op = 'DELETE';
      end if;

    -- 3. One: the short path if it can be had, else a delta like those of several.
    elsif v_single then
      if v_guards > 0 then
        v_used := rollup.use_guards(1);
        if v_guards > 1 and v_event.inline and rollup.try_lock_account(v_event.account_id::int) then
          if tg_op = 'INSERT' and rollup.apply_event(
            v_event.account_id::int, v_event.generation, rollup.coverage_of(tg_relid), v_event.date, v_event.name, v_event.user_id, v_event.inbox_id,
            v_event.conversation_id, v_event.value, v_event.value_in_business_hours
          ) then
            return null;
          end if;
          v_locked := array[v_event.account_id];
          select s.generation, rollup.local_date(e.created_at, s.timezone) into v_event.generation, v_event.date
          from events as e
          cross join lateral rollup.writer_settings(e.account_id) as s;
        end if;
      end if;
      if v_event.generation is not null then
        v_deltas := array[rollup.event_delta(
          v_event.account_id::int, v_event.generation, v_event.date, v_event.name, v_event.user_id, v_event.inbox_id,
          v_event.conversation_id, v_event.value, v_event.value_in_business_hours, case tg_op when 'DELETE' then -1 else 1 end
        )];
      end if;
    end if;

    -- 4. Apply what is locked, append the rest: without a guard, below, once the transaction has used all of them.
    if v_deltas is not null then
      if v_locked is not null then
        perform rollup.apply_or_append(v_deltas, v_locked);
      elsif v_guards > 0 then
        insert into rollup.deltas select d.* from unnest(v_deltas) as d;
      else
        v_append := v_deltas;
      end if;
    end if;
  exception when others then
    v_append := null;
    v_error := format('%s (SQLSTATE %s)', sqlerrm, sqlstate);
    raise warning 'rollup: % on reporting_events could not be added to the rollups: %', lower(tg_op), v_error
      using hint = 'The days concerned are read from raw events until the worker, rollup.repair or rollup.backfill rebuilds them.';
    perform set_config('rollup.failed', 'x', true);
    begin
      execute format(
        'insert into rollup.dirty_marks (account_id, date, marked_at, reason)
         select distinct s.account_id, rollup.local_date(e.created_at, s.timezone), now(), $1
         from (%s) as e
         cross join lateral rollup.writer_settings(e.account_id) as s
         where e.name = any (rollup.event_names()) and e.created_at is not null',
        v_source
      ) using v_error;
      return null;
    exception when others then
      null;
    end;
  end;

  if v_append is not null then
    insert into rollup.deltas select d.* from unnest(v_append) as d;
  elsif v_error is not null then
    -- 5. The last resort: whole accounts, once in a transaction, from nothing but the events, and waiting if it must, for a mark that is
    -- missing would be a wrong number. If even this fails the host goes on, and verify will find it.
    begin
      perform set_config('lock_timeout', '0', true);
      v_error := format('%s (process %s)', v_error, pg_backend_pid());
      execute format(
        'insert into rollup.dirty_marks (account_id, date, marked_at, reason)
         select distinct e.account_id, null::date, now(), $1
         from (%s) as e
         where e.account_id is not null and e.name = any (rollup.event_names()) and not exists (
           select from rollup.dirty_marks as m
           where m.account_id = e.account_id and m.date is null and m.marked_at = now() and m.reason like $2
         )',
        v_source
      ) using v_error, format('%%(process %s)', pg_backend_pid());
    exception when others then
      raise warning 'rollup: not even marked: %', sqlerrm
        using hint = 'Run rollup.backfill for the accounts of this statement once the cause is gone.';
    end;
  end if;
  return null;
end
$$;
comment on function rollup.track_events() is
  'Trigger function of reporting_events, for each statement. Applies the statement''s deltas under the account''s lock if it can be had '
  'at once and there are no more than inline_events(), and appends them otherwise. Its errors become warnings and dirty marks; after the '
  'first of a transaction its accounts are marked as a whole, once. Does nothing on any other table than the host''s.';

create or replace function rollup.track_truncate()
returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '50ms' as $$
begin
  begin
    if tg_relid = rollup.host_table() then
      insert into rollup.dirty_marks (account_id, date, marked_at, reason)
      select s.account_id, null, now(), 'truncate'
      from rollup.account_settings as s
      where s.reporting_timezone is not null;
    end if;
  exception when others then
    begin
      -- As the last resort of track_events: every account that has rollups, waiting if it must.
      perform set_config('lock_timeout', '0', true);
      insert into rollup.dirty_marks (account_id, date, marked_at, reason)
      select c.account_id, null, now(), 'truncate'
      from rollup.account_coverage as c;
    exception when others then
      raise warning 'rollup: truncate of reporting_events could not be noted: %', sqlerrm
        using hint = 'Run rollup.backfill for every account once the cause is gone.';
    end;
  end;
  return null;
end
$$;
comment on function rollup.track_truncate() is
  'Trigger function of reporting_events for truncate: marks all accounts with a zone as dirty and does nothing else.';
