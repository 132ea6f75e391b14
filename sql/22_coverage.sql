-- Which days the rollups of an account hold completely, and which generation of its settings they belong to.

create or replace function rollup.host_table_obstacles(p_relation oid)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select format('No trigger of ours sees %s on public.reporting_events. Run: reporting-rollup migrate', e.event)
  from (values ('insert', 4), ('delete', 8), ('update', 16), ('truncate', 32)) as e (event, bit)
  -- A truncated shard is seen by its file: see coverage_of.
  where not (e.event = 'truncate' and rollup.is_distributed()) and not exists (
    select
    from pg_trigger as g
    join pg_proc as p on p.oid = g.tgfoid
    where g.tgrelid = p_relation and g.tgenabled in ('O', 'A') and g.tgtype & e.bit > 0
      and p.pronamespace = 'rollup'::regnamespace
  )
  union all
  select format('The subscription %s writes to public.reporting_events, which fires no trigger of ours: keep rollups where the events are made.', s.subname)
  from pg_subscription_rel as r
  join pg_subscription as s on s.oid = r.srsubid
  where r.srrelid = p_relation
    or r.srrelid in (select t.relid from pg_partition_tree(p_relation) as t)
$$;
comment on function rollup.host_table_obstacles(oid) is
  'Why changes of one of host_relations do not reach us, in plain words; no row if they do.';

create or replace function rollup.host_partitions()
returns jsonb
language sql stable parallel safe
set search_path = pg_catalog, pg_temp as $$
  -- Detaching and attaching a partition leaves it with another xmin in pg_inherits: it may have been written to in between.
  select coalesce(jsonb_object_agg(c.oid, format('%s %s', c.relfilenode, i.xmin)), '{}')
  from pg_partition_tree(rollup.host_table()) as t
  join pg_class as c on c.oid = t.relid
  join pg_inherits as i on i.inhrelid = t.relid
  where t.level > 0
$$;
comment on function rollup.host_partitions() is 'The partitions of the host''s table, by oid, with the files that hold their rows.';

create or replace function rollup.knows_partitions()
returns boolean
language plpgsql stable parallel safe
set search_path = pg_catalog, pg_temp as $$
begin
  return (select c.relkind <> 'p' from pg_class as c where c.oid = rollup.host_table())
    or exists (select from rollup.host_table as h where h.state -> 'partitions' = rollup.host_partitions());
end
$$;
comment on function rollup.knows_partitions() is
  'Whether the host''s table has the partitions that it had when the worker last looked, if any: rows come and go with others.';

create or replace function rollup.current_coverage(p_account_id int)
returns setof rollup.account_coverage
language sql stable parallel safe as $$
  select c.*
  from rollup.account_settings as s
  join rollup.account_coverage as c on c.account_id = s.account_id and c.generation = s.generation
  where s.account_id = p_account_id and s.reporting_timezone is not null and c.host_relation = rollup.coverage_of(rollup.host_relation(p_account_id))
    and rollup.knows_partitions()
$$;
comment on function rollup.current_coverage(int) is
  'The coverage of an account if its rollups belong to the present zone, and to the present table of the host and its partitions; else no row, and they '
  'count for nothing.';

-- Sealed days stay as they are, but for late inserts and updates: nothing rebuilds, clears or uncovers them, and deletes do not count.

create or replace function rollup.sealed_through(p_account_id int)
returns date
language sql stable parallel safe as $$
  select c.sealed_through from rollup.account_coverage as c where c.account_id = p_account_id
$$;
comment on function rollup.sealed_through(int) is 'The last of the sealed days of an account, which are all up to it; NULL: none is sealed.';

create or replace function rollup.sealed_days(p_account_id int)
returns datemultirange
language plpgsql stable parallel safe
set search_path = pg_catalog, pg_temp as $$
declare
  v_through date := rollup.sealed_through(p_account_id);
begin
  return case when v_through is null then '{}' else datemultirange(rollup.days('-infinity', v_through)) end;
end
$$;
comment on function rollup.sealed_days(int) is 'The sealed days of an account, as a set.';

create or replace function rollup.first_unsealed_day(p_account_id int, p_from date)
returns date
language sql stable parallel safe as $$
  select greatest(p_from, rollup.sealed_through(p_account_id) + 1)
$$;
comment on function rollup.first_unsealed_day(int, date) is 'p_from, or the day after the sealed days if that is later.';

create or replace function rollup.require_unsealed(p_function text, p_account_id int, p_from date, p_to date)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
declare
  v_through date := rollup.sealed_through(p_account_id);
begin
  if p_from <= v_through or p_to <= v_through then
    raise exception using
      errcode = 'RU012',
      message = format('rollup.%s: the days of account %s through %s are sealed', p_function, p_account_id, v_through),
      hint = format('Begin with %s. While their raw events are there, days can be unsealed: select rollup.unseal(%s);', v_through + 1, p_account_id);
  end if;
end
$$;
comment on function rollup.require_unsealed(text, int, date, date) is
  'Raises RU012 where a range asks for sealed days. A NULL bound does not: an open beginning means the first day that is not sealed.';

create or replace function rollup.covered_days(p_account_id int)
returns datemultirange
language plpgsql stable parallel safe
set search_path = pg_catalog, pg_temp as $$
begin
  return coalesce((select c.covered from rollup.current_coverage(p_account_id) as c), '{}') + rollup.sealed_days(p_account_id);
end
$$;
comment on function rollup.covered_days(int) is
  'The days of an account that are covered, dirty or not. Sealed days are, whatever happens to zone, table and coverage.';

create or replace function rollup.clean_days(p_account_id int)
returns datemultirange
language plpgsql stable parallel safe
set search_path = pg_catalog, pg_temp as $$
-- In plpgsql for its plan to be kept: every read asks.
begin
  return coalesce(
    (
      select case
        when exists (select from rollup.dirty_marks as m where m.account_id = p_account_id and m.date is null) then '{}'::datemultirange
        else c.covered - coalesce(
          (select range_agg(daterange(m.date, m.date, '[]')) from rollup.dirty_marks as m where m.account_id = p_account_id),
          '{}'
        )
      end
      from rollup.current_coverage(p_account_id) as c
    ),
    '{}'
  ) + rollup.sealed_days(p_account_id);
end
$$;
comment on function rollup.clean_days(int) is
  'The days of an account whose rollups, with the pending deltas, are complete: covered and without a dirty mark. Sealed days always are: a '
  'mark on one does not send reads to raw events that may be gone.';

create or replace function rollup.repairable_marks()
returns setof rollup.dirty_marks
language sql stable as $$
  select m.*
  from rollup.dirty_marks as m
  join rollup.accounts_here() as a on a.account_id = m.account_id
  left join rollup.account_coverage as c on c.account_id = m.account_id
  where (m.date <= c.sealed_through) is not true
$$;
comment on function rollup.repairable_marks() is
  'The dirty marks that a rebuild here removes: those on sealed days stay, for account_status to show, until the days are unsealed.';

create or replace function rollup.open_transactions()
returns text[]
language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
begin
  -- Not pg_stat_activity alone: it hides from an ordinary role what others are doing.
  perform pg_stat_clear_snapshot();
  return array(
    select l.virtualxid
    from pg_locks as l
    join pg_stat_activity as a on a.pid = l.pid
    where l.locktype = 'virtualxid' and l.granted and l.virtualxid = l.virtualtransaction
      and a.datid = (select d.oid from pg_database as d where d.datname = current_database())
      and l.pid <> pg_backend_pid()
      -- An autovacuum has no user, and writes no event.
      and a.usesysid is not null
  );
end
$$;
comment on function rollup.open_transactions() is 'The other transactions of this database that are under way, by virtual transaction id.';

create or replace function rollup.still_awaited(p_awaited text[])
returns text[]
language sql volatile
set search_path = pg_catalog, pg_temp as $$
  with remaining as materialized (
    select array(
      select l.virtualxid from pg_locks as l where l.locktype = 'virtualxid' and l.granted and l.virtualxid = any (p_awaited)
      union
      select p.transaction::text from pg_prepared_xacts as p where p.transaction::text = any (p_awaited)
    ) as ids
  )
  select case
    -- One of those awaited may have been prepared for two-phase commit, and then has another name.
    when r.ids = '{}' and 'prepared' = any (p_awaited) then
      array(select p.transaction::text from pg_prepared_xacts as p where p.database = current_database())
    when 'prepared' = any (p_awaited) then r.ids || 'prepared'::text
    else r.ids
  end
  from remaining as r
$$;
comment on function rollup.still_awaited(text[]) is
  'Those of account_coverage.awaited that have not ended. "prepared" stands for whatever is prepared when the others have ended.';

create or replace function rollup.await_old_writers(p_account_id int)
returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
declare
  v_before text[];
  v_awaited text[];
begin
  -- For update: migrate, finding a trigger missing, clears coverage after we have claimed, not before.
  select c.awaited into v_before from rollup.account_coverage as c where c.account_id = p_account_id for no key update;
  if v_before is null then
    return false;
  end if;
  v_awaited := v_before;
  for v_try in 1..20 loop
    v_awaited := rollup.still_awaited(v_awaited);
    exit when v_awaited = '{}' or current_setting('rollup.awaited', true) = 'x';
    perform pg_sleep(0.05);
  end loop;
  if v_awaited <> v_before then
    update rollup.account_coverage as c set awaited = v_awaited where c.account_id = p_account_id;
  end if;
  if v_awaited <> '{}' then
    perform set_config('rollup.awaited', 'x', true);
  end if;
  return v_awaited = '{}';
end
$$;
comment on function rollup.await_old_writers(int) is
  'Under the account''s lock: waits for transactions that may write under an older zone, up to a second in a transaction; whether what '
  'follows may claim days. Ask before the statement whose snapshot is to be trusted.';

create or replace function rollup.adopt_settings(p_account_id int)
returns rollup.account_settings
language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
declare
  v_settings rollup.account_settings;
  v_sealed date := rollup.sealed_through(p_account_id);
  v_relation oid := rollup.coverage_of(rollup.host_relation(p_account_id));
  v_coverage rollup.account_coverage;
begin
  select * into v_settings from rollup.account_settings as s where s.account_id = p_account_id;
  select * into v_coverage from rollup.account_coverage as c where c.account_id = p_account_id;
  if v_coverage.account_id is not null
    and (v_coverage.generation < v_settings.generation or v_coverage.host_relation is distinct from v_relation)
  then
    -- Sealed days are of the same zone, which they keep from being changed.
    delete from rollup.reporting_events_rollups as r where r.account_id = p_account_id and (r.date <= v_sealed) is not true;
    delete from rollup.ledger as l where l.account_id = p_account_id and (l.date <= v_sealed) is not true;
    delete from rollup.previous_dates as p where p.account_id = p_account_id and (p.date <= v_sealed) is not true;
    delete from rollup.deltas as d
    where d.account_id = p_account_id and (d.date <= v_sealed) is not true
      and (d.generation < v_settings.generation or v_coverage.host_relation is distinct from v_relation);
    if v_coverage.host_relation is distinct from v_relation then
      -- A new zone has its backfill; another table, or an upgrade, is for the worker to see.
      insert into rollup.dirty_marks (account_id, date, marked_at, reason)
      values (p_account_id, null, now(), 'the rollups were of another table');
    end if;
    update rollup.account_coverage as c
    set generation = v_settings.generation, host_relation = v_relation, covered = '{}', awaited = null, zone_rules = null
    where c.account_id = p_account_id;
  end if;
  -- Whoever begins from here on sees the settings that we have seen, unless it is we who are changing them.
  update rollup.account_coverage as c
  set awaited = rollup.open_transactions() || 'prepared'::text, zone_rules = rollup.zone_rules(v_settings.reporting_timezone)
  where c.account_id = p_account_id and c.awaited is null
    and coalesce(current_setting('rollup.changes_settings', true), '') = '';
  return v_settings;
end
$$;
comment on function rollup.adopt_settings(int) is
  'Under the account''s lock: clears what belongs to an old zone or another table of the host, sealed days apart, notes whose end must be '
  'awaited before days are claimed and by which clocks they are reckoned, and returns the settings.';

create or replace function rollup.forget_account_marks(p_account_id int)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
begin
  with forgotten as (
    delete from rollup.dirty_marks as m where m.account_id = p_account_id and m.date is null returning 1
  )
  update rollup.account_coverage as c set covered = '{}'
  where c.account_id = p_account_id and exists (select from forgotten);
end
$$;
comment on function rollup.forget_account_marks(int) is
  'Under the account''s lock: turns the visible account-wide dirty marks into uncovered days, before all of them are rebuilt.';
