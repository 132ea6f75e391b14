-- From deltas to totals: expand by the dimensions and the registry, add to what is there. Whoever applies holds the account's lock.

create or replace function rollup.metric_totals(
  p_event_name text, p_count bigint, p_sum_value numeric, p_sum_value_business_hours numeric,
  p_count_value bigint, p_count_value_business_hours bigint, p_conversations bigint default 0
)
returns table (
  metric text, count bigint, sum_value numeric, sum_value_business_hours numeric,
  count_value bigint, count_value_business_hours bigint
)
language sql immutable parallel safe
begin atomic
  select
    m.metric,
    case m.payload when 'distinct' then p_conversations else p_count end,
    case m.payload when 'duration' then p_sum_value else 0 end,
    case m.payload when 'duration' then p_sum_value_business_hours else 0 end,
    case m.payload when 'duration' then p_count_value else 0 end,
    case m.payload when 'duration' then p_count_value_business_hours else 0 end
  from rollup.event_metric_list() as m
  where m.event_name = p_event_name and (m.payload <> 'distinct' or p_conversations <> 0);
end;
comment on function rollup.metric_totals(text, bigint, numeric, numeric, bigint, bigint, bigint) is
  'Totals of events of one name, and of their distinct conversations, as the registry has them: a row per metric.';

create or replace function rollup.totals(p_account_id int, p_deltas rollup.deltas[])
returns setof rollup.reporting_events_rollups
language sql stable parallel safe as $$
  select
    p_account_id, g.date, g.dimension_type, g.dimension_id, m.metric,
    m.count, m.sum_value, m.sum_value_business_hours, now(), m.count_value, m.count_value_business_hours
  from (
    select
      d.date, d.event_name, dim.dimension_type, dim.dimension_id,
      sum(d.count)::bigint as count,
      sum(d.sum_value) as sum_value,
      sum(d.sum_value_business_hours) as sum_value_business_hours,
      sum(d.count_value)::bigint as count_value,
      sum(d.count_value_business_hours)::bigint as count_value_business_hours
    from unnest(p_deltas) as d
    cross join lateral rollup.dimensions(p_account_id, d.user_id, d.inbox_id) as dim
    group by 1, 2, 3, 4
  ) as g
  cross join lateral rollup.metric_totals(
    g.event_name, g.count, g.sum_value, g.sum_value_business_hours, g.count_value, g.count_value_business_hours
  ) as m
  where (m.count, m.sum_value, m.sum_value_business_hours, m.count_value, m.count_value_business_hours) <> (0, 0, 0, 0, 0)
$$;
comment on function rollup.totals(int, rollup.deltas[]) is
  'Signed deltas of one account as changes of its daily totals, distinct counts apart.';

create or replace function rollup.distinct_totals(p_account_id int, p_rows rollup.previous_dates[])
returns setof rollup.reporting_events_rollups
language sql stable parallel safe as $$
  select p_account_id, p.date, p.dimension_type, p.dimension_id, m.metric, sum(p.count)::bigint, 0, 0, now(), 0, 0
  from unnest(p_rows) as p
  join rollup.event_metric_list() as m on m.event_name = p.event_name::text and m.payload = 'distinct'
  group by 2, 3, 4, 5
  having sum(p.count) <> 0
$$;
comment on function rollup.distinct_totals(int, rollup.previous_dates[]) is
  'Signed rows of previous_dates as changes of the daily distinct counts: that of a date is the sum of its rows.';

create or replace function rollup.add_to_rollups(p_account_id int, p_totals rollup.reporting_events_rollups[])
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
begin
  merge into rollup.reporting_events_rollups as r
  -- As the index has them, for reads to find a series on few pages.
  using (select t.* from unnest(p_totals) as t order by t.dimension_type, t.metric, t.date, t.dimension_id) as t
    on r.account_id = p_account_id
    and r.dimension_type = t.dimension_type
    and r.metric = t.metric
    and r.date = t.date
    and r.dimension_id = t.dimension_id
  -- With deltas pending a count may pass through 0 while its sums do not: such a row stays.
  when matched
    and r.count + t.count = 0
    and r.sum_value + t.sum_value = 0 and r.sum_value_business_hours + t.sum_value_business_hours = 0
    and r.count_value + t.count_value = 0 and r.count_value_business_hours + t.count_value_business_hours = 0
    then delete
  when matched then
    update set
      count = r.count + t.count,
      sum_value = trim_scale(r.sum_value + t.sum_value),
      sum_value_business_hours = trim_scale(r.sum_value_business_hours + t.sum_value_business_hours),
      updated_at = now(),
      count_value = r.count_value + t.count_value,
      count_value_business_hours = r.count_value_business_hours + t.count_value_business_hours
  when not matched then
    insert (account_id, date, dimension_type, dimension_id, metric, count, sum_value, sum_value_business_hours, updated_at,
      count_value, count_value_business_hours)
    values (p_account_id, t.date, t.dimension_type, t.dimension_id, t.metric, t.count, trim_scale(t.sum_value),
      trim_scale(t.sum_value_business_hours), now(), t.count_value, t.count_value_business_hours);
end
$$;
comment on function rollup.add_to_rollups(int, rollup.reporting_events_rollups[]) is
  'Adds signed totals, of different keys, to the rollups of an account, under its lock. Those that come to nothing go.';

create or replace function rollup.apply(p_account_id int, p_deltas rollup.deltas[])
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
-- A custom plan copies the arrays again and again.
set plan_cache_mode = force_generic_plan as $$
declare
  v_deltas rollup.deltas[];
  v_entries rollup.ledger[];
  v_dates rollup.previous_dates[] := '{}';
begin
  v_deltas := array(
    select d
    from rollup.account_coverage as c
    cross join unnest(p_deltas) as d
    where c.account_id = p_account_id and rollup.delta_counts(d, c.generation, c.sealed_through)
  );
  if v_deltas = '{}' then
    return;
  end if;
  v_entries := array(select e from rollup.ledger_entries(v_deltas) as e);
  if v_entries <> '{}' then
    v_dates := array(select c from rollup.previous_date_changes(p_account_id, v_entries) as c);
    perform rollup.add_to_ledger(p_account_id, v_entries);
    perform rollup.add_to_previous_dates(p_account_id, v_dates);
  end if;
  perform rollup.add_to_rollups(p_account_id, array(
    select t from rollup.totals(p_account_id, v_deltas) as t
    union all
    select t from rollup.distinct_totals(p_account_id, v_dates) as t
  ));
end
$$;
comment on function rollup.apply(int, rollup.deltas[]) is
  'Applies those of the signed deltas that count (delta_counts) to the rollups, the ledger and the previous dates of an account. The caller '
  'holds the account''s lock and calls it in a statement of its own.';
