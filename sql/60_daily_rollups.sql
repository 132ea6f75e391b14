-- Daily totals with the pending deltas: exact on clean days.

select rollup.define_view('daily_rollups', $view$
  select
    t.account_id, t.date, t.dimension_type, t.dimension_id, t.metric,
    sum(t.count)::bigint as count,
    trim_scale(sum(t.sum_value)) as sum_value,
    trim_scale(sum(t.sum_value_business_hours)) as sum_value_business_hours,
    max(t.updated_at) as updated_at
  from (
    select
      r.account_id, r.date, r.dimension_type::text, r.dimension_id, r.metric::text,
      r.count, r.sum_value, r.sum_value_business_hours, r.updated_at
    from rollup.reporting_events_rollups as r
    join rollup.account_coverage as c on c.account_id = r.account_id
    join rollup.account_settings as s on s.account_id = c.account_id and s.generation = c.generation
    where s.reporting_timezone is not null
    union all
    select
      p.account_id, c.date, c.dimension_type, c.dimension_id, c.metric,
      c.count, c.sum_value, c.sum_value_business_hours, null
    from (
      select d.account_id, array_agg(d) as deltas
      from rollup.deltas as d
      join rollup.account_settings as s on s.account_id = d.account_id and s.generation = d.generation
      where s.reporting_timezone is not null
      group by d.account_id
    ) as p
    cross join lateral rollup.rollup_changes(
      p.account_id, p.deltas,
      array(select x from rollup.previous_date_changes(p.account_id, array(select o from rollup.occurrences(p.deltas) as o)) as x)
    ) as c
  ) as t
  group by 1, 2, 3, 4, 5
  having sum(t.count) > 0
$view$);
comment on view rollup.daily_rollups is
  'Daily totals per account, dimension and metric, pending deltas included: exact on clean days (account_status.covered without '
  'dirty days); on other days, what the trigger has seen so far. Sums are seconds; updated_at is NULL where all is pending.';
