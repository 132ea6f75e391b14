-- From deltas to rollups: expand by the registry and the dimensions, remember conversations, apply. Whoever applies holds the
-- account's lock.

create or replace function rollup.totals(p_account_id int, p_deltas rollup.deltas[])
returns table (
  date date, dimension_type text, dimension_id bigint, metric text,
  count bigint, sum_value numeric, sum_value_business_hours numeric
)
language sql immutable parallel safe as $$
  -- Grouping sets rather than a row per dimension (rollup.dimensions): a fifth of the time for many deltas. Each counts once for
  -- its agent and once for its inbox; the account is all inboxes and none.
  with grouped as materialized (
    select
      d.date, d.event_name, d.user_id, d.inbox_id, grouping(d.user_id) = 0 as by_agent,
      sum(d.count)::bigint as count,
      sum(d.sum_value) as sum_value,
      sum(d.sum_value_business_hours) as sum_value_business_hours
    from unnest(p_deltas) as d
    group by grouping sets ((1, 2, 3), (1, 2, 4))
  ),
  total as (
    select g.date, g.event_name, 'agent' as dimension_type, g.user_id as dimension_id, g.count, g.sum_value, g.sum_value_business_hours
    from grouped as g
    where g.by_agent and g.user_id is not null
    union all
    select g.date, g.event_name, 'inbox', g.inbox_id, g.count, g.sum_value, g.sum_value_business_hours
    from grouped as g
    where not g.by_agent and g.inbox_id is not null
    union all
    select
      g.date, g.event_name, 'account', p_account_id,
      sum(g.count)::bigint, sum(g.sum_value), sum(g.sum_value_business_hours)
    from grouped as g
    where not g.by_agent
    group by 1, 2
  )
  select
    t.date, t.dimension_type, t.dimension_id, m.metric, t.count,
    case when m.payload = 'duration' then t.sum_value else 0 end,
    case when m.payload = 'duration' then t.sum_value_business_hours else 0 end
  from total as t
  join rollup.event_metric_list() as m on m.event_name = t.event_name and m.payload <> 'distinct'
  where t.count <> 0 or m.payload = 'duration' and (t.sum_value <> 0 or t.sum_value_business_hours <> 0)
$$;
comment on function rollup.totals(int, rollup.deltas[]) is
  'Signed deltas of one account as changes of its daily totals, distinct counts apart.';

create or replace function rollup.previous_date_cells(p_account_id int, p_occurrences rollup.ledger[])
returns setof rollup.previous_dates
language sql immutable parallel safe as $$
  with conversation as (
    select
      o.event_name, o.conversation_id, count(*) as occurrences,
      min(o.date) as date, min(o.user_id) as user_id, min(o.inbox_id) as inbox_id, sum(o.count) as count
    from unnest(p_occurrences) as o
    group by 1, 2
  ),
  -- Most conversations occur once and have no previous date: no need to line up their dates.
  single as (
    select c.event_name, c.date, c.user_id, c.inbox_id, count(*) as conversations
    from conversation as c
    where c.occurrences = 1 and c.count > 0
    group by 1, 2, 3, 4
  ),
  conversation_date as (
    select o.event_name, dim.dimension_type, dim.dimension_id, o.conversation_id, o.date
    from conversation as c
    join unnest(p_occurrences) as o on o.event_name = c.event_name and o.conversation_id = c.conversation_id
    cross join lateral rollup.dimensions(p_account_id, o.user_id, o.inbox_id) as dim
    where c.occurrences > 1
    group by 1, 2, 3, 4, 5
    having sum(o.count) > 0
  ),
  cell as (
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
  select p_account_id, c.event_name, c.dimension_type, c.dimension_id, c.date, c.previous_date, sum(c.conversations)::bigint
  from cell as c
  group by 2, 3, 4, 5, 6
$$;
comment on function rollup.previous_date_cells(int, rollup.ledger[]) is
  'The cells of previous_dates that follow from ledger rows. The rows must hold the whole sequence of dates of each conversation: '
  'single transitions do not compose.';

create or replace function rollup.occurrences(p_deltas rollup.deltas[])
returns setof rollup.ledger
language sql immutable parallel safe as $$
  select d.account_id, rollup.to_distinct_event(d.event_name), d.conversation_id, d.date, d.count::int, d.user_id, d.inbox_id
  from unnest(p_deltas) as d
  where d.conversation_id is not null
$$;
comment on function rollup.occurrences(rollup.deltas[]) is 'What deltas say about conversations, as signed ledger rows.';

create or replace function rollup.previous_date_changes(p_account_id int, p_changes rollup.ledger[])
returns setof rollup.previous_dates
language sql stable parallel safe as $$
  with stored as materialized (
    select array(
      select l
      from (select distinct c.event_name, c.conversation_id from unnest(p_changes) as c) as touched
      join rollup.ledger as l
        on l.account_id = p_account_id
        and l.event_name = touched.event_name
        and l.conversation_id = touched.conversation_id
    ) as rows
  ),
  cell as (
    select -1 as sign, before.*
    from stored as s cross join lateral rollup.previous_date_cells(p_account_id, s.rows) as before
    union all
    select 1, after.*
    from stored as s cross join lateral rollup.previous_date_cells(p_account_id, s.rows || p_changes) as after
  )
  select p_account_id, c.event_name, c.dimension_type, c.dimension_id, c.date, c.previous_date, sum(c.sign * c.count)::bigint
  from cell as c
  group by 2, 3, 4, 5, 6
  having sum(c.sign * c.count) <> 0
$$;
comment on function rollup.previous_date_changes(int, rollup.ledger[]) is
  'How previous_dates of an account must change when signed rows are added to its ledger.';

create or replace function rollup.rollup_changes(
  p_account_id int, p_deltas rollup.deltas[], p_previous_date_changes rollup.previous_dates[]
)
returns table (
  date date, dimension_type text, dimension_id bigint, metric text,
  count bigint, sum_value numeric, sum_value_business_hours numeric
)
language sql stable parallel safe as $$
  select t.date, t.dimension_type, t.dimension_id, t.metric, t.count, t.sum_value, t.sum_value_business_hours
  from rollup.totals(p_account_id, p_deltas) as t
  union all
  select p.date, p.dimension_type, p.dimension_id, m.metric, sum(p.count)::bigint, 0, 0
  from unnest(p_previous_date_changes) as p
  join rollup.event_metric_list() as m on m.event_name = p.event_name::text and m.payload = 'distinct'
  group by 1, 2, 3, 4
  having sum(p.count) <> 0
$$;
comment on function rollup.rollup_changes(int, rollup.deltas[], rollup.previous_dates[]) is
  'How the daily totals of an account change when the deltas are applied: a distinct count is the sum of its date''s cells.';

create or replace function rollup.apply_previous_dates(p_account_id int, p_changes rollup.previous_dates[])
returns void
language plpgsql volatile as $$
declare
  v_empty boolean;
begin
  with changed as (
    insert into rollup.previous_dates as p
      (account_id, event_name, dimension_type, dimension_id, date, previous_date, count)
    select p_account_id, c.event_name, c.dimension_type, c.dimension_id, c.date, c.previous_date, c.count
    from unnest(p_changes) as c
    order by c.event_name, c.dimension_type, c.dimension_id, c.date, c.previous_date
    on conflict (account_id, event_name, dimension_type, dimension_id, date, previous_date)
    do update set count = p.count + excluded.count
    returning p.count
  )
  select bool_or(count = 0) into v_empty from changed;
  if v_empty then
    delete from rollup.previous_dates as p
    using unnest(p_changes) as c
    where p.account_id = p_account_id
      and p.event_name = c.event_name
      and p.dimension_type = c.dimension_type
      and p.dimension_id = c.dimension_id
      and p.date = c.date
      and p.previous_date = c.previous_date
      and p.count = 0;
  end if;
end
$$;
comment on function rollup.apply_previous_dates(int, rollup.previous_dates[]) is
  'Adds signed cells to previous_dates, under the account''s lock.';

create or replace function rollup.remove_empty_totals(p_account_id int, p_dates date[])
returns void
language sql volatile as $$
  delete from rollup.reporting_events_rollups as r
  using rollup.dimensions(p_account_id, 0, 0) as dim, rollup.event_metric_list() as m, unnest(p_dates) as touched (date)
  where r.account_id = p_account_id
    and r.dimension_type = dim.dimension_type
    and r.metric = m.metric
    and r.date = touched.date
    -- With deltas pending a count may pass through 0 while its sums do not: such a row stays.
    and r.count = 0 and r.sum_value = 0 and r.sum_value_business_hours = 0
$$;
comment on function rollup.remove_empty_totals(int, date[]) is 'Removes the totals of these days that have come to nothing.';

create or replace function rollup.apply(p_account_id int, p_deltas rollup.deltas[])
returns void
language plpgsql volatile
-- A custom plan copies the arrays again and again.
set plan_cache_mode = force_generic_plan as $$
declare
  v_occurrences rollup.ledger[];
  v_cells rollup.previous_dates[];
  v_empty boolean;
begin
  v_occurrences := array(select o from rollup.occurrences(p_deltas) as o);
  if v_occurrences <> '{}' then
    v_cells := array(select c from rollup.previous_date_changes(p_account_id, v_occurrences) as c);

    with changed as (
      insert into rollup.ledger as l (account_id, event_name, conversation_id, date, count, user_id, inbox_id)
      select p_account_id, o.event_name, o.conversation_id, o.date, sum(o.count), o.user_id, o.inbox_id
      from unnest(v_occurrences) as o
      group by 2, 3, 4, 6, 7
      having sum(o.count) <> 0
      order by o.conversation_id
      on conflict (account_id, event_name, conversation_id, date, user_id, inbox_id)
      do update set count = l.count + excluded.count
      returning l.count
    )
    select bool_or(count = 0) into v_empty from changed;
    if v_empty then
      delete from rollup.ledger as l
      using (select distinct o.event_name, o.conversation_id from unnest(v_occurrences) as o) as touched
      where l.account_id = p_account_id
        and l.event_name = touched.event_name
        and l.conversation_id = touched.conversation_id
        and l.count = 0;
    end if;
    perform rollup.apply_previous_dates(p_account_id, v_cells);
  end if;

  with changed as (
    insert into rollup.reporting_events_rollups as r
      (account_id, date, dimension_type, dimension_id, metric, count, sum_value, sum_value_business_hours, updated_at)
    select
      p_account_id, c.date, c.dimension_type, c.dimension_id, c.metric,
      c.count, trim_scale(c.sum_value), trim_scale(c.sum_value_business_hours), now()
    from rollup.rollup_changes(p_account_id, p_deltas, v_cells) as c
    order by c.dimension_type, c.metric, c.date, c.dimension_id
    on conflict (account_id, dimension_type, metric, date, dimension_id)
    do update set
      count = r.count + excluded.count,
      sum_value = trim_scale(r.sum_value + excluded.sum_value),
      sum_value_business_hours = trim_scale(r.sum_value_business_hours + excluded.sum_value_business_hours),
      updated_at = excluded.updated_at
    returning r.count
  )
  select bool_or(count = 0) into v_empty from changed;
  if v_empty then
    perform rollup.remove_empty_totals(p_account_id, array(select distinct d.date from unnest(p_deltas) as d));
  end if;
end
$$;
comment on function rollup.apply(int, rollup.deltas[]) is
  'Applies signed deltas to the rollups, the ledger and the previous dates of an account. The caller holds the account''s lock and '
  'calls it in a statement of its own.';

create or replace function rollup.apply_event(
  p_account_id int, p_generation bigint, p_date date, p_event_name text, p_user_id bigint, p_inbox_id bigint,
  p_conversation_id bigint, p_value numeric, p_value_in_business_hours numeric
)
returns boolean
language plpgsql volatile as $$
declare
  v_event rollup.distinct_event;
  v_rows bigint;
  v_lowest int;
  v_last date;
  v_agent_last date;
  v_inbox_last date;
begin
  if p_conversation_id is not null then
    v_event := rollup.to_distinct_event(p_event_name);
    select
      count(*), min(l.count),
      max(l.date), max(l.date) filter (where l.user_id = p_user_id), max(l.date) filter (where l.inbox_id = p_inbox_id)
    into v_rows, v_lowest, v_last, v_agent_last, v_inbox_last
    from rollup.account_coverage as c
    left join rollup.ledger as l
      on l.account_id = p_account_id and l.event_name = v_event and l.conversation_id = p_conversation_id
    where c.account_id = p_account_id and c.generation = p_generation;
    -- With deltas pending, or later dates known, the dates of the conversation must be lined up.
    if v_rows = 0 or v_lowest < 1 or v_last > p_date then
      return false;
    end if;
    insert into rollup.ledger as l (account_id, event_name, conversation_id, date, count, user_id, inbox_id)
    values (p_account_id, v_event, p_conversation_id, p_date, 1, p_user_id, p_inbox_id)
    on conflict (account_id, event_name, conversation_id, date, user_id, inbox_id)
    do update set count = l.count + 1;
    insert into rollup.previous_dates as p
      (account_id, event_name, dimension_type, dimension_id, date, previous_date, count)
    select p_account_id, v_event, dim.dimension_type, dim.dimension_id, p_date, coalesce(dim.last_date, '-infinity'), 1
    from (
      select
        d.dimension_type, d.dimension_id,
        case d.dimension_type when 'account' then v_last when 'agent' then v_agent_last else v_inbox_last end as last_date
      from rollup.dimensions(p_account_id, p_user_id, p_inbox_id) as d
    ) as dim
    where dim.last_date is distinct from p_date
    on conflict (account_id, event_name, dimension_type, dimension_id, date, previous_date)
    do update set count = p.count + 1;
  end if;

  insert into rollup.reporting_events_rollups as r
    (account_id, date, dimension_type, dimension_id, metric, count, sum_value, sum_value_business_hours, updated_at)
  select
    p_account_id, p_date, dim.dimension_type, dim.dimension_id, m.metric, 1,
    case m.payload when 'duration' then p_value else 0 end,
    case m.payload when 'duration' then p_value_in_business_hours else 0 end,
    now()
  from rollup.account_coverage as c
  cross join rollup.dimensions(p_account_id, p_user_id, p_inbox_id) as dim
  cross join rollup.event_metric_list() as m
  where c.account_id = p_account_id and c.generation = p_generation
    and m.event_name = p_event_name
    and (
      m.payload <> 'distinct'
      or p_conversation_id is not null
        and case dim.dimension_type when 'account' then v_last when 'agent' then v_agent_last else v_inbox_last end is distinct from p_date
    )
  on conflict (account_id, dimension_type, metric, date, dimension_id)
  do update set
    count = r.count + excluded.count,
    sum_value = trim_scale(r.sum_value + excluded.sum_value),
    sum_value_business_hours = trim_scale(r.sum_value_business_hours + excluded.sum_value_business_hours),
    updated_at = excluded.updated_at;
  -- A hand-off of a conversation that the day has already changes no total.
  return found or p_conversation_id is not null;
end
$$;
comment on function rollup.apply_event is
  'Applies one new event under the account''s lock, at a third of the cost of rollup.apply: nothing to group, and one look at the last '
  'dates of its conversation. Returns false, having done nothing, if the rollups are not of this generation or the dates of the '
  'conversation must be lined up. Leaves no empty rows to remove: a count below 0 has deltas pending, and what applies those removes '
  'what comes to nothing.';
