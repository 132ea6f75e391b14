-- How an event is turned into deltas: its day, its value, what is remembered of its conversation.

create or replace function rollup.local_date(p_created_at timestamp, p_timezone text)
returns date
language sql immutable parallel safe as $$
  select case
    -- Beyond this a shift of the clock leaves the range of timestamps; such a day needs no zone.
    when p_created_at between timestamp '4713-02-01 BC' and timestamp '294276-12-01'
      then (p_created_at at time zone 'UTC' at time zone p_timezone)::date
    else p_created_at::date
  end
$$;
comment on function rollup.local_date(timestamp, text) is
  'The day of an event. p_created_at: UTC; p_timezone: IANA name. The one definition of a day: always bucket with it, never '
  'compare with midnights, for clocks go back over midnight in some zones. '
  'Example: rollup.local_date(''2026-02-12 04:00'', ''America/New_York'') is 2026-02-11.';

create or replace function rollup.microseconds(p_seconds double precision)
returns bigint
language sql immutable parallel safe as $$
  select case when abs(p_seconds) < 9.2e12::double precision then (p_seconds * 1e6::double precision)::bigint else 0 end
$$;
comment on function rollup.microseconds(double precision) is
  'The value of an event in whole microseconds, which add up exactly in any order; 0 for NULL, NaN, infinities and what does not fit.';

create or replace function rollup.seconds(p_microseconds numeric)
returns numeric
language sql immutable parallel safe as $$
  select trim_scale(p_microseconds * 0.000001)
$$;
comment on function rollup.seconds(numeric) is 'Microseconds as seconds, without trailing zeros.';

create or replace function rollup.utc_bound(p_date date, p_days int)
returns timestamp
language sql immutable parallel safe as $$
  select case
    when p_date < date '4713-01-03 BC' then timestamp '-infinity'
    when p_date > date '294276-12-28' then timestamp 'infinity'
    else (p_date + p_days)::timestamp
  end
$$;
comment on function rollup.utc_bound(date, int) is
  'Midnight UTC of a date p_days later, as a bound for created_at; infinite where there is no such timestamp.';

create or replace function rollup.day_events(p_account_id int, p_event_names text[], p_timezone text, p_from date, p_to date)
returns table (
  date date, name text, user_id bigint, inbox_id bigint, conversation_id bigint,
  value double precision, value_in_business_hours double precision
)
language sql stable parallel safe as $$
  select d.*
  from (
    select
      rollup.local_date(e.created_at, p_timezone) as date,
      e.name::text, e.user_id::bigint, e.inbox_id::bigint, e.conversation_id::bigint, e.value, e.value_in_business_hours
    from public.reporting_events as e
    where e.account_id = p_account_id
      and e.name = any (p_event_names)
      -- A local day lies within a day of the same UTC date; the bucket decides.
      and (p_from = '-infinity' or e.created_at >= rollup.utc_bound(p_from, -1))
      and (p_to = 'infinity' or e.created_at <= rollup.utc_bound(p_to, 2))
    -- Not to be pulled up, or every use of the day would compute it anew.
    offset 0
  ) as d
  -- As a case, since the planner takes a range of an expression for one row in two hundred.
  where case when p_from = '-infinity' and p_to = 'infinity' then true else d.date between p_from and p_to end
$$;
comment on function rollup.day_events(int, text[], text, date, date) is
  'The raw events of an account''s days p_from to p_to (inclusive, infinite: open), with their day.';

create or replace function rollup.event_deltas(
  p_account_id int, p_generation bigint, p_timezone text, p_from date, p_to date
)
returns setof rollup.deltas
language sql stable parallel safe as $$
  -- All events by agent, plus all by inbox, less all: in every dimension each event counts once, at a third of the rows that
  -- agents by inboxes would be.
  select
    p_account_id, p_generation, g.date, g.name, g.user_id, g.inbox_id, null::bigint, g.sign * g.count,
    rollup.seconds(g.sign * g.sum_value), rollup.seconds(g.sign * g.sum_value_business_hours), false
  from (
    select
      e.date, e.name, e.user_id, e.inbox_id, case grouping(e.user_id, e.inbox_id) when 3 then -1 else 1 end as sign,
      count(*) as count,
      sum(rollup.microseconds(e.value)) as sum_value,
      sum(rollup.microseconds(e.value_in_business_hours)) as sum_value_business_hours
    from rollup.day_events(p_account_id, rollup.event_names(), p_timezone, p_from, p_to) as e
    group by grouping sets ((1, 2, 3), (1, 2, 4), (1, 2))
  ) as g
$$;
comment on function rollup.event_deltas(int, bigint, text, date, date) is
  'The deltas of all raw events of an account''s days p_from to p_to (inclusive, infinite: open), conversations apart. They are right as a '
  'whole, for rollup.totals, and not one by one.';

create or replace function rollup.event_occurrences(p_account_id int, p_timezone text, p_from date, p_to date)
returns setof rollup.ledger
language sql stable parallel safe as $$
  select
    p_account_id, rollup.to_distinct_event(e.name), e.conversation_id, e.date, count(*)::int, e.user_id, e.inbox_id
  from rollup.day_events(p_account_id, rollup.distinct_event_names(), p_timezone, p_from, p_to) as e
  where e.conversation_id is not null
  group by 2, 3, 4, 6, 7
$$;
comment on function rollup.event_occurrences(int, text, date, date) is
  'The ledger of an account''s days p_from to p_to (inclusive, infinite: open) as the raw events have it.';
