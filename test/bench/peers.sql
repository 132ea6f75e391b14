-- What rollups are measured against, as its users would write it: a table of events without a trigger, the host's own
-- rollups table, its day-by-day backfill, a materialized view. And the events that everything is measured with.

create schema peer;

create table peer.reporting_events (like public.reporting_events including all);

-- The least that a trigger can cost: one empty statement.
create schema floor;
create table floor.reporting_events (like public.reporting_events including all);
create function floor.look_at_events()
returns trigger
language plpgsql as $$
begin
  perform from events;
  return null;
end
$$;
create trigger look_at_events after insert on floor.reporting_events
  referencing new table as events for each statement execute function floor.look_at_events();

create table peer.reporting_events_rollups (
  id bigint generated always as identity primary key,
  account_id int not null,
  date date not null,
  dimension_type varchar not null,
  dimension_id bigint not null,
  metric varchar not null,
  count bigint not null default 0,
  sum_value double precision not null default 0,
  sum_value_business_hours double precision not null default 0,
  created_at timestamp not null,
  updated_at timestamp not null
);
create unique index on peer.reporting_events_rollups (account_id, date, dimension_type, dimension_id, metric);
create index on peer.reporting_events_rollups (account_id, metric, date);
create index on peer.reporting_events_rollups (account_id, dimension_type, date);

create view peer.metrics as
  select *
  from (
    values
      ('conversation_resolved', 'resolutions_count', false),
      ('conversation_resolved', 'resolution_time', true),
      ('first_response', 'first_response', true),
      ('reply_time', 'reply_time', true),
      ('conversation_bot_resolved', 'bot_resolutions_count', false)
  ) as m (event_name, metric, summed);

-- p_count events of an account in time order, spread evenly over the p_days days before today. A conversation has seven of
-- them: a hand-off, a resolution, one resolution by a bot, two first responses, two replies; one event in twenty is of a
-- conversation of the weeks before.
create function peer.events(p_account_id int, p_count bigint, p_days int)
returns table (
  name varchar, value double precision, value_in_business_hours double precision, account_id int, inbox_id int,
  user_id int, conversation_id int, event_start_time timestamp, event_end_time timestamp, created_at timestamp, updated_at timestamp
)
language sql volatile as $$
  select
    (array['first_response', 'reply_time', 'conversation_bot_resolved', 'conversation_bot_handoff', 'first_response',
      'reply_time', 'conversation_resolved'])[1 + e.i % 7],
    e.value,
    e.value * 0.4,
    p_account_id,
    1 + floor(5 * random())::int,
    1 + floor(20 * random())::int,
    (1 + greatest(0, e.i - case when random() < 0.05 then p_count / p_days * 20 * random() else 0 end) / 7)::int,
    e.at - make_interval(secs => e.value),
    e.at,
    e.at,
    e.at
  from (
    select
      g as i,
      86400 * random() as value,
      date_trunc('day', now() at time zone 'UTC') + interval '1 day' * (p_days * (g::double precision / p_count - 1)) as at
    from generate_series(0, p_count - 1) as g
    offset 0
  ) as e
$$;

-- The host's backfill: day by day, for each dimension the sums of the standard events and the distinct conversations of
-- hand-offs.
create procedure peer.backfill(p_account_id int, p_timezone text, p_from date, p_to date)
language plpgsql as $$
declare
  v_date date;
  v_from timestamp;
  v_to timestamp;
begin
  for v_date in select p_from + i from generate_series(0, p_to - p_from) as i loop
    v_from := v_date::timestamp at time zone p_timezone at time zone 'UTC';
    v_to := (v_date + 1)::timestamp at time zone p_timezone at time zone 'UTC';
    delete from peer.reporting_events_rollups where account_id = p_account_id and date = v_date;
    insert into peer.reporting_events_rollups
      (account_id, date, dimension_type, dimension_id, metric, count, sum_value, sum_value_business_hours, created_at, updated_at)
    select
      p_account_id, v_date, 'account', e.id, m.metric, e.count,
      case when m.summed then e.sum_value else 0 end, case when m.summed then e.sum_value_business_hours else 0 end, now(), now()
    from (
      select r.account_id as id, r.name, count(*) as count, coalesce(sum(r.value), 0) as sum_value,
        coalesce(sum(r.value_in_business_hours), 0) as sum_value_business_hours
      from public.reporting_events as r
      where r.account_id = p_account_id and r.account_id is not null and r.created_at >= v_from and r.created_at < v_to
        and r.name in ('conversation_resolved', 'first_response', 'reply_time', 'conversation_bot_resolved')
      group by 1, 2
    ) as e
    join peer.metrics as m on m.event_name = e.name;
    insert into peer.reporting_events_rollups
      (account_id, date, dimension_type, dimension_id, metric, count, created_at, updated_at)
    select p_account_id, v_date, 'account', r.account_id, 'bot_handoffs_count', count(distinct r.conversation_id), now(), now()
    from public.reporting_events as r
    where r.account_id = p_account_id and r.account_id is not null and r.created_at >= v_from and r.created_at < v_to
      and r.name = 'conversation_bot_handoff'
    group by r.account_id;

    insert into peer.reporting_events_rollups
      (account_id, date, dimension_type, dimension_id, metric, count, sum_value, sum_value_business_hours, created_at, updated_at)
    select
      p_account_id, v_date, 'agent', e.id, m.metric, e.count,
      case when m.summed then e.sum_value else 0 end, case when m.summed then e.sum_value_business_hours else 0 end, now(), now()
    from (
      select r.user_id as id, r.name, count(*) as count, coalesce(sum(r.value), 0) as sum_value,
        coalesce(sum(r.value_in_business_hours), 0) as sum_value_business_hours
      from public.reporting_events as r
      where r.account_id = p_account_id and r.user_id is not null and r.created_at >= v_from and r.created_at < v_to
        and r.name in ('conversation_resolved', 'first_response', 'reply_time', 'conversation_bot_resolved')
      group by 1, 2
    ) as e
    join peer.metrics as m on m.event_name = e.name;
    insert into peer.reporting_events_rollups
      (account_id, date, dimension_type, dimension_id, metric, count, created_at, updated_at)
    select p_account_id, v_date, 'agent', r.user_id, 'bot_handoffs_count', count(distinct r.conversation_id), now(), now()
    from public.reporting_events as r
    where r.account_id = p_account_id and r.user_id is not null and r.created_at >= v_from and r.created_at < v_to
      and r.name = 'conversation_bot_handoff'
    group by r.user_id;

    insert into peer.reporting_events_rollups
      (account_id, date, dimension_type, dimension_id, metric, count, sum_value, sum_value_business_hours, created_at, updated_at)
    select
      p_account_id, v_date, 'inbox', e.id, m.metric, e.count,
      case when m.summed then e.sum_value else 0 end, case when m.summed then e.sum_value_business_hours else 0 end, now(), now()
    from (
      select r.inbox_id as id, r.name, count(*) as count, coalesce(sum(r.value), 0) as sum_value,
        coalesce(sum(r.value_in_business_hours), 0) as sum_value_business_hours
      from public.reporting_events as r
      where r.account_id = p_account_id and r.inbox_id is not null and r.created_at >= v_from and r.created_at < v_to
        and r.name in ('conversation_resolved', 'first_response', 'reply_time', 'conversation_bot_resolved')
      group by 1, 2
    ) as e
    join peer.metrics as m on m.event_name = e.name;
    insert into peer.reporting_events_rollups
      (account_id, date, dimension_type, dimension_id, metric, count, created_at, updated_at)
    select p_account_id, v_date, 'inbox', r.inbox_id, 'bot_handoffs_count', count(distinct r.conversation_id), now(), now()
    from public.reporting_events as r
    where r.account_id = p_account_id and r.inbox_id is not null and r.created_at >= v_from and r.created_at < v_to
      and r.name = 'conversation_bot_handoff'
    group by r.inbox_id;
  end loop;
end
$$;

create materialized view peer.daily_totals as
  select
    (e.created_at at time zone 'UTC' at time zone 'America/New_York')::date as date,
    d.dimension_type, d.dimension_id, e.name, e.account_id,
    count(*) as count,
    count(distinct e.conversation_id) as conversations,
    sum(e.value) as sum_value,
    sum(e.value_in_business_hours) as sum_value_business_hours
  from public.reporting_events as e
  cross join lateral (values ('account', e.account_id), ('agent', e.user_id), ('inbox', e.inbox_id)) as d (dimension_type, dimension_id)
  where d.dimension_id is not null
  group by 1, 2, 3, 4, 5
with no data;
create unique index on peer.daily_totals (account_id, date, dimension_type, dimension_id, name);
