-- For tools that draw charts of tables: docs/bi.md. As daily_rollups, exact on clean days.

select rollup.define_view('daily_metrics', $view$
  select
    r.account_id, r.date, r.dimension_type, r.dimension_id, r.metric, r.count,
    rollup.value('average', r.count, r.sum_value, r.count_value) as average,
    rollup.value('average', r.count, r.sum_value_business_hours, r.count_value_business_hours) as average_business_hours,
    r.sum_value, r.count_value, r.sum_value_business_hours, r.count_value_business_hours
  from rollup.daily_rollups as r
$view$);
comment on view rollup.daily_metrics is
  'A row per account, day, dimension and metric, with averages in seconds; NULL: not a duration, or no event has a value. Over several '
  'days, count adds up but for bot_handoffs_count, and an average is sum(sum_value) / sum(count_value). Exact on clean days.';

select rollup.define_view('daily_summary', $view$
  select
    m.account_id, m.date, m.dimension_type, m.dimension_id,
    coalesce(max(m.count) filter (where m.metric = 'resolutions_count'), 0) as resolutions_count,
    coalesce(max(m.count) filter (where m.metric = 'bot_resolutions_count'), 0) as bot_resolutions_count,
    coalesce(max(m.count) filter (where m.metric = 'bot_handoffs_count'), 0) as bot_handoffs_count,
    max(m.average) filter (where m.metric = 'resolution_time') as avg_resolution_time,
    max(m.average) filter (where m.metric = 'first_response') as avg_first_response_time,
    max(m.average) filter (where m.metric = 'reply_time') as avg_reply_time,
    max(m.average_business_hours) filter (where m.metric = 'resolution_time') as avg_resolution_time_business_hours,
    max(m.average_business_hours) filter (where m.metric = 'first_response') as avg_first_response_time_business_hours,
    max(m.average_business_hours) filter (where m.metric = 'reply_time') as avg_reply_time_business_hours
  from rollup.daily_metrics as m
  group by 1, 2, 3, 4
$view$);
comment on view rollup.daily_summary is
  'A row per account, day and agent, inbox or account that has any of these events; averages in seconds, NULL where no event has the value. '
  'Averages and hand-offs do not add up over days: see daily_metrics and rollup.aggregate. Exact on clean days.';
