-- Conversations of the events that are counted distinctly. The ledger has how many such events a conversation had on a day, per agent
-- and inbox; previous_dates has, per dimension and day, how many conversations of that day had the event last on which day before:
-- distinct conversations of [a, b] are the sum over dates in [a, b] of those whose previous date lies before a.

create or replace function rollup.ledger_entries(p_deltas rollup.deltas[])
returns setof rollup.ledger
language sql stable parallel safe as $$
  select d.account_id, d.event_name::rollup.distinct_event, d.conversation_id, d.date, sum(d.count)::int, d.user_id, d.inbox_id
  from unnest(p_deltas) as d
  where d.conversation_id is not null
  group by 1, 2, 3, 4, 6, 7
  having sum(d.count) <> 0
$$;
comment on function rollup.ledger_entries(rollup.deltas[]) is 'What deltas change in the ledger: signed entries.';

create or replace function rollup.previous_date_rows(p_account_id int, p_entries rollup.ledger[])
returns setof rollup.previous_dates
language sql immutable parallel safe as $$
  with conversation as (
    select
      e.event_name, e.conversation_id, count(*) as entries,
      min(e.date) as date, min(e.user_id) as user_id, min(e.inbox_id) as inbox_id, sum(e.count) as count
    from unnest(p_entries) as e
    group by 1, 2
  ),
  -- Most conversations have one entry, and no previous date.
  single as (
    select c.event_name, c.date, c.user_id, c.inbox_id, count(*) as conversations
    from conversation as c
    where c.entries = 1 and c.count > 0
    group by 1, 2, 3, 4
  ),
  conversation_date as (
    select e.event_name, dim.dimension_type, dim.dimension_id, e.conversation_id, e.date
    from conversation as c
    join unnest(p_entries) as e on e.event_name = c.event_name and e.conversation_id = c.conversation_id
    cross join lateral rollup.dimensions(p_account_id, e.user_id, e.inbox_id) as dim
    where c.entries > 1
    group by 1, 2, 3, 4, 5
    having sum(e.count) > 0
  ),
  dated as (
    select s.event_name, dim.dimension_type, dim.dimension_id, s.date, date '-infinity' as previous_date, s.conversations
    from single as s
    cross join lateral rollup.dimensions(p_account_id, s.user_id, s.inbox_id) as dim
    union all
    select
      c.event_name, c.dimension_type, c.dimension_id, c.date,
      lag(c.date, 1, date '-infinity') over (
        -- The most distinct first, for the sake of the sort.
        partition by c.conversation_id, c.dimension_id, c.dimension_type, c.event_name order by c.date
      ),
      1
    from conversation_date as c
  )
  select p_account_id, d.event_name, d.dimension_type, d.dimension_id, d.date, d.previous_date, sum(d.conversations)::bigint
  from dated as d
  group by 2, 3, 4, 5, 6
$$;
comment on function rollup.previous_date_rows(int, rollup.ledger[]) is
  'The rows of previous_dates that follow from ledger entries, which must be all entries of each conversation: a date that comes or goes '
  'changes the previous date of the next.';

create or replace function rollup.conversation_entries(p_account_id int, p_conversations rollup.ledger[])
returns setof rollup.ledger
language sql stable parallel safe as $$
  select l.*
  from (select distinct c.event_name, c.conversation_id from unnest(p_conversations) as c) as wanted
  join rollup.ledger as l
    on l.account_id = p_account_id
    and l.event_name = wanted.event_name
    and l.conversation_id = wanted.conversation_id
$$;
comment on function rollup.conversation_entries(int, rollup.ledger[]) is 'All entries of the ledger of the conversations in p_conversations.';

create or replace function rollup.previous_date_changes(p_account_id int, p_changes rollup.ledger[])
returns setof rollup.previous_dates
language sql stable parallel safe as $$
  with stored as materialized (
    select array(select l from rollup.conversation_entries(p_account_id, p_changes) as l) as entries
  ),
  dated as (
    select -1 as sign, before.*
    from stored as s cross join lateral rollup.previous_date_rows(p_account_id, s.entries) as before
    union all
    select 1, after.*
    from stored as s cross join lateral rollup.previous_date_rows(p_account_id, s.entries || p_changes) as after
  )
  select p_account_id, d.event_name, d.dimension_type, d.dimension_id, d.date, d.previous_date, sum(d.sign * d.count)::bigint
  from dated as d
  group by 2, 3, 4, 5, 6
  having sum(d.sign * d.count) <> 0
$$;
comment on function rollup.previous_date_changes(int, rollup.ledger[]) is
  'How previous_dates of an account must change when signed entries are added to its ledger.';

create or replace function rollup.add_to_ledger(p_account_id int, p_entries rollup.ledger[])
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
begin
  merge into rollup.ledger as l
  -- Near enough to the order of the index, and four times as fast as by its columns.
  using (select e.* from unnest(p_entries) as e order by e.conversation_id) as e
    on l.account_id = p_account_id
    and l.event_name = e.event_name
    and l.conversation_id = e.conversation_id
    and l.date = e.date
    and l.user_id is not distinct from e.user_id
    and l.inbox_id is not distinct from e.inbox_id
  when matched and l.count + e.count = 0 then delete
  when matched then update set count = l.count + e.count
  when not matched then
    insert (account_id, event_name, conversation_id, date, count, user_id, inbox_id)
    values (p_account_id, e.event_name, e.conversation_id, e.date, e.count, e.user_id, e.inbox_id);
end
$$;
comment on function rollup.add_to_ledger(int, rollup.ledger[]) is
  'Adds signed entries, of different keys, to the ledger, under the account''s lock. Those that come to nothing go.';

create or replace function rollup.add_to_previous_dates(p_account_id int, p_rows rollup.previous_dates[])
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
begin
  merge into rollup.previous_dates as p
  using (
    select r.* from unnest(p_rows) as r order by r.event_name, r.dimension_type, r.dimension_id, r.date, r.previous_date
  ) as r
    on p.account_id = p_account_id
    and p.event_name = r.event_name
    and p.dimension_type = r.dimension_type
    and p.dimension_id = r.dimension_id
    and p.date = r.date
    and p.previous_date = r.previous_date
  when matched and p.count + r.count = 0 then delete
  when matched then update set count = p.count + r.count
  when not matched then
    insert (account_id, event_name, dimension_type, dimension_id, date, previous_date, count)
    values (p_account_id, r.event_name, r.dimension_type, r.dimension_id, r.date, r.previous_date, r.count);
end
$$;
comment on function rollup.add_to_previous_dates(int, rollup.previous_dates[]) is
  'Adds signed rows, of different keys, to previous_dates, under the account''s lock. Those that come to nothing go.';
