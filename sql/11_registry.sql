-- The registry: which event counts towards which metric, and how. Trigger, backfill, verification and reads all join it here.

create or replace function rollup.event_metric_list()
returns table (event_name text, metric text, payload text)
language sql immutable parallel safe as $$
  values
    ('conversation_resolved', 'resolutions_count', 'count'),
    ('conversation_resolved', 'resolution_time', 'duration'),
    ('first_response', 'first_response', 'duration'),
    ('reply_time', 'reply_time', 'duration'),
    ('conversation_bot_resolved', 'bot_resolutions_count', 'count'),
    ('conversation_bot_handoff', 'bot_handoffs_count', 'distinct')
$$;
comment on function rollup.event_metric_list() is
  'event_metrics as a function: triggers read tables and functions, never views.';

create or replace function rollup.event_names()
returns text[]
language sql immutable parallel safe as $$
  select array_agg(distinct m.event_name) from rollup.event_metric_list() as m
$$;
comment on function rollup.event_names() is 'The names of the events that count towards a metric.';

create or replace function rollup.to_distinct_event(p_event_name text)
returns rollup.distinct_event
language sql immutable parallel safe as $$
  select case p_event_name
    when 'conversation_bot_handoff' then 'conversation_bot_handoff'::rollup.distinct_event
    when 'conversation_resolved' then 'conversation_resolved'::rollup.distinct_event
  end
$$;
comment on function rollup.to_distinct_event(text) is
  'The event as the ledger names it, or NULL for an event whose conversations are not remembered.';

create or replace function rollup.distinct_event_names()
returns text[]
language sql immutable parallel safe as $$
  select enum_range(null::rollup.distinct_event)::text[]
$$;
comment on function rollup.distinct_event_names() is 'The names of the events whose conversations are remembered.';

create or replace function rollup.remembered_conversation(p_event_name text, p_conversation_id bigint)
returns bigint
language sql immutable parallel safe as $$
  select case when p_event_name = any (rollup.distinct_event_names()) then p_conversation_id end
$$;
comment on function rollup.remembered_conversation(text, bigint) is
  'The conversation of an event, or NULL if conversations are not remembered for it.';

create or replace function rollup.dimensions(p_account_id int, p_user_id bigint, p_inbox_id bigint)
returns table (dimension_type text, dimension_id bigint)
language sql immutable parallel safe as $$
  select d.dimension_type, d.dimension_id
  from (values ('account', p_account_id::bigint), ('agent', p_user_id), ('inbox', p_inbox_id)) as d (dimension_type, dimension_id)
  where d.dimension_id is not null
$$;
comment on function rollup.dimensions(int, bigint, bigint) is
  'The dimensions that an event counts in; a missing agent or inbox is none.';

create or replace function rollup.report_metric_list()
returns table (report_metric text, aggregate text, event_name text, metric text, summary_key text)
language sql immutable parallel safe as $$
  values
    ('avg_first_response_time', 'average', 'first_response', 'first_response', 'avg_first_response_time'),
    ('avg_resolution_time', 'average', 'conversation_resolved', 'resolution_time', 'avg_resolution_time'),
    ('reply_time', 'average', 'reply_time', 'reply_time', 'avg_reply_time'),
    ('resolutions_count', 'count', 'conversation_resolved', 'resolutions_count', 'resolved_conversations_count'),
    ('bot_resolutions_count', 'count', 'conversation_bot_resolved', 'bot_resolutions_count', null),
    ('bot_handoffs_count', 'count', 'conversation_bot_handoff', 'bot_handoffs_count', null),
    ('conversations_count', 'count', null, null, null),
    ('incoming_messages_count', 'count', null, null, null),
    ('outgoing_messages_count', 'count', null, null, null)
$$;
comment on function rollup.report_metric_list() is
  'report_metrics as a function.';

select rollup.define_view('event_metrics', 'select event_name, metric, payload from rollup.event_metric_list()');
comment on view rollup.event_metrics is
  'Which rollup metrics an event counts towards. count: number of events. duration: also the sums of its values, seconds. '
  'distinct: number of distinct conversations per dimension and day.';

select rollup.define_view('report_metrics',
  'select report_metric, aggregate, event_name, metric, summary_key from rollup.report_metric_list()');
comment on view rollup.report_metrics is
  'What a reader can ask for. Those with metric NULL come from other tables of the host and are refused by our reads.';
