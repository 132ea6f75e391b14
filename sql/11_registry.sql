-- The registry: which event counts towards which metric, and how. Trigger, rebuild, verification and reads all ask it.

create or replace function rollup.event_metric_list()
returns table (event_name text, metric text, payload text)
language sql immutable parallel safe
begin atomic
  select *
  from (
    values
      ('conversation_resolved', 'resolutions_count', 'count'),
      ('conversation_resolved', 'resolution_time', 'duration'),
      ('first_response', 'first_response', 'duration'),
      ('reply_time', 'reply_time', 'duration'),
      ('conversation_bot_resolved', 'bot_resolutions_count', 'count'),
      ('conversation_bot_handoff', 'bot_handoffs_count', 'distinct')
  ) as m;
end;
comment on function rollup.event_metric_list() is
  'event_metrics as a function: triggers read tables and functions, never views.';

create or replace function rollup.event_names()
returns text[]
language sql immutable parallel safe
return (select array_agg(distinct m.event_name) from rollup.event_metric_list() as m);
comment on function rollup.event_names() is 'The names of the events that count towards a metric.';

create or replace function rollup.distinct_event_names()
returns text[]
language sql immutable parallel safe
return (select array_agg(distinct m.event_name) from rollup.event_metric_list() as m where m.payload = 'distinct');
comment on function rollup.distinct_event_names() is
  'The names of the events whose conversations are remembered, in the ledger and the previous dates: those with a distinct count.';

create or replace function rollup.remembered_conversation(p_event_name text, p_conversation_id bigint)
returns bigint
language sql immutable parallel safe
return case when p_event_name = any (rollup.distinct_event_names()) then p_conversation_id end;
comment on function rollup.remembered_conversation(text, bigint) is
  'The conversation of an event, or NULL if conversations are not remembered for it.';

-- The ledger names events by this type, for it has a row a conversation and the names are long.
do $$
declare
  v_event_name text;
begin
  foreach v_event_name in array rollup.distinct_event_names() loop
    execute format('alter type rollup.distinct_event add value if not exists %L', v_event_name);
  end loop;
end
$$;

create or replace function rollup.report_metric_list()
returns table (report_metric text, aggregate text, event_name text, metric text, summary_key text)
language sql immutable parallel safe
begin atomic
  select *
  from (
    values
      ('avg_first_response_time', 'average', 'first_response', 'first_response', 'avg_first_response_time'),
      ('avg_resolution_time', 'average', 'conversation_resolved', 'resolution_time', 'avg_resolution_time'),
      ('reply_time', 'average', 'reply_time', 'reply_time', 'avg_reply_time'),
      ('resolutions_count', 'count', 'conversation_resolved', 'resolutions_count', 'resolved_conversations_count'),
      ('bot_resolutions_count', 'count', 'conversation_bot_resolved', 'bot_resolutions_count', null),
      ('bot_handoffs_count', 'count', 'conversation_bot_handoff', 'bot_handoffs_count', null),
      ('bot_resolutions_net_count', 'net count', 'conversation_bot_resolved', null, null),
      ('bot_resolution_rate', 'rate', 'conversation_bot_resolved', null, null),
      ('bot_handoff_rate', 'rate', 'conversation_bot_handoff', null, null),
      ('unique_resolutions_count', 'distinct count', 'conversation_resolved', null, null),
      ('median_first_response_time', 'median', 'first_response', null, null),
      ('median_resolution_time', 'median', 'conversation_resolved', null, null),
      ('median_reply_time', 'median', 'reply_time', null, null),
      ('p90_first_response_time', 'p90', 'first_response', null, null),
      ('p90_resolution_time', 'p90', 'conversation_resolved', null, null),
      ('p90_reply_time', 'p90', 'reply_time', null, null),
      ('conversations_count', 'count', null, null, null),
      ('incoming_messages_count', 'count', null, null, null),
      ('outgoing_messages_count', 'count', null, null, null)
  ) as m;
end;
comment on function rollup.report_metric_list() is 'report_metrics as a function.';

-- As views, for people.
select rollup.define_view('event_metrics', 'select event_name, metric, payload from rollup.event_metric_list()');
comment on view rollup.event_metrics is
  'Which rollup metrics an event counts towards. count: number of events. duration: also the sums of its values, seconds, and how many '
  'have one. distinct: number of distinct conversations per dimension and day.';

select rollup.define_view('report_metrics', 'select report_metric, aggregate, event_name, metric, summary_key from rollup.report_metric_list()');
comment on view rollup.report_metrics is
  'What a reader can ask for. metric: whose rollups it comes from; NULL: it is reckoned from raw events. aggregate: count, average, '
  'median or p90 (seconds), rate (percent); net count: without conversations that were handed off; distinct count: of conversations. '
  'Those with event_name NULL come from other tables of the host and are refused by our reads. docs/reads.md says what they mean.';
