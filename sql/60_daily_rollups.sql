-- Daily totals with the pending deltas: exact on clean days.

select rollup.define_view('daily_rollups', $view$
  select
    t.account_id, t.date, t.dimension_type, t.dimension_id, t.metric,
    sum(t.count)::bigint as count,
    trim_scale(sum(t.sum_value)) as sum_value,
    trim_scale(sum(t.sum_value_business_hours)) as sum_value_business_hours,
    max(t.updated_at) as updated_at,
    sum(t.count_value)::bigint as count_value,
    sum(t.count_value_business_hours)::bigint as count_value_business_hours
  from (
    select
      r.account_id, r.date, r.dimension_type::text, r.dimension_id, r.metric::text,
      r.count, r.sum_value, r.sum_value_business_hours, r.count_value, r.count_value_business_hours, r.updated_at
    from rollup.reporting_events_rollups as r
    join rollup.account_coverage as c on c.account_id = r.account_id
    join rollup.account_settings as s on s.account_id = c.account_id and (s.generation = c.generation or r.date <= c.sealed_through)
    where s.reporting_timezone is not null
    union all
    select
      d.account_id, d.date, dim.dimension_type, dim.dimension_id, m.metric,
      m.count, m.sum_value, m.sum_value_business_hours, m.count_value, m.count_value_business_hours, null
    from rollup.deltas as d
    join rollup.account_settings as s on s.account_id = d.account_id
    left join rollup.account_coverage as c on c.account_id = d.account_id
    cross join lateral rollup.dimensions(d.account_id, d.user_id, d.inbox_id) as dim
    cross join lateral rollup.metric_totals(
      d.event_name, d.count, d.sum_value, d.sum_value_business_hours, d.count_value, d.count_value_business_hours
    ) as m
    where s.reporting_timezone is not null and rollup.delta_counts(d, s.generation, c.sealed_through)
    union all
    -- A conversation counts on a day while its events there, the pending ones included, come to more than 0.
    select
      p.account_id, p.date, p.dimension_type, p.dimension_id, p.metric,
      (p.stored + p.pending > 0)::int - (p.stored > 0)::int, 0, 0, 0, 0, null
    from (
      select
        e.account_id, e.date, dim.dimension_type, dim.dimension_id, m.metric, e.conversation_id,
        sum(e.stored) as stored, sum(e.pending) as pending
      from (
        select d.account_id, d.date, d.event_name, d.conversation_id, d.user_id, d.inbox_id, 0 as stored, d.count as pending
        from rollup.deltas as d
        join rollup.account_settings as s on s.account_id = d.account_id
        left join rollup.account_coverage as c on c.account_id = d.account_id
        where d.conversation_id is not null and s.reporting_timezone is not null
          and rollup.delta_counts(d, s.generation, c.sealed_through)
        union all
        select l.account_id, l.date, l.event_name::text, l.conversation_id, l.user_id, l.inbox_id, l.count, 0
        from (
          select distinct d.account_id, d.date, d.event_name, d.conversation_id
          from rollup.deltas as d
          join rollup.account_settings as s on s.account_id = d.account_id
          left join rollup.account_coverage as c on c.account_id = d.account_id
          where d.conversation_id is not null and s.reporting_timezone is not null
            and rollup.delta_counts(d, s.generation, c.sealed_through)
        ) as k
        join rollup.ledger as l
          on l.account_id = k.account_id
          and l.event_name = k.event_name::rollup.distinct_event
          and l.conversation_id = k.conversation_id
          and l.date = k.date
      ) as e
      cross join lateral rollup.dimensions(e.account_id, e.user_id, e.inbox_id) as dim
      join rollup.event_metric_list() as m on m.event_name = e.event_name and m.payload = 'distinct'
      group by 1, 2, 3, 4, 5, 6
    ) as p
  ) as t
  group by 1, 2, 3, 4, 5
  having sum(t.count) > 0
$view$);
comment on view rollup.daily_rollups is
  'Daily totals per account, dimension and metric, pending deltas included: exact on clean days (account_status.covered without '
  'dirty days); on other days, what the trigger has seen so far. Sums are seconds; count_value and count_value_business_hours are the '
  'events that have a value: averages divide by them. updated_at is NULL where all is pending.';
