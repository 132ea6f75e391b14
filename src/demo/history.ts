/**
 * The demo's history: what a support desk of two accounts writes in 18 months. Set-based SQL; every number comes from
 * a hash of what it belongs to, so the same day looks the same whenever the demo runs.
 */

/** The demo's accounts. */
export const demoAccounts = [
  { id: 1, name: "Chai & Co.", timezone: "Asia/Kolkata" },
  { id: 2, name: "Hudson Outfitters", timezone: "America/New_York" },
] as const;

/** The demo's agents, by their ids. */
export const demoAgents: Record<string, string> = {
  101: "Aarav",
  102: "Ananya",
  103: "Dev",
  104: "Ishita",
  105: "Kabir",
  106: "Meera",
  107: "Rohan",
  201: "Ava",
  202: "Ben",
  203: "Chloe",
  204: "Diego",
  205: "Ella",
};

/** Functions for chance, dropped with the session. */
export const chance = `
-- Evenly between 0 and 1, from what it is about and a number for which of its chances.
create function pg_temp.chance(p_about bigint, p_which bigint) returns float8 language sql immutable
return (hashint8extended(p_about, p_which * 7919 + 42) & 4503599627370495)::float8 / 4503599627370496;

-- Log-normal: most are near the median, a few are much longer.
create function pg_temp.lognormal(p_about bigint, p_which bigint, p_median float8, p_sigma float8) returns float8 language sql immutable
return p_median * exp(
  p_sigma * sqrt(-2 * ln(1 - pg_temp.chance(p_about, p_which))) * cos(2 * pi() * pg_temp.chance(p_about, p_which + 1000))
);

-- The part of a span that falls into business hours, roughly.
create function pg_temp.business_hours(p_local timestamp, p_seconds float8) returns float8 language sql immutable
return case
  when extract(isodow from p_local) > 5 then p_seconds * 0.1
  when p_local::time not between '09:00' and '18:00' then p_seconds * 0.35
  when p_seconds < 3600 then p_seconds
  else 3600 + (p_seconds - 3600) * 0.38
end;`;

/** The conversations: when they began, with whom, and what becomes of them. */
export const conversations = `
create temporary table demo_conversations as
with desk (account_id, timezone, per_day, agents, inboxes) as (
  values (1, 'Asia/Kolkata', 102, 7, 3), (2, 'America/New_York', 73, 5, 3)
),
day as (
  select
    d.*, day::date as date,
    -- A date is a number to its chances: it looks the same whenever the demo runs.
    (day::date - date '2000-01-01') * 10::bigint + d.account_id as about,
    (day::date - (now() at time zone d.timezone)::date) / 540.0 as age
  from desk as d
  cross join generate_series(
    (now() at time zone d.timezone)::date - interval '18 months', (now() at time zone d.timezone)::date, interval '1 day'
  ) as day
),
busy as (
  select
    *,
    round(
      per_day
      -- Growing over time, less to do on weekends, more before the year ends, and never twice the same.
      * (1 + 0.45 * age)
      * case extract(isodow from date) when 6 then 0.35 when 7 then 0.2 when 1 then 1.25 else 1.05 end
      * (1 + 0.3 * exp(-1 * ((extract(doy from date) - 340) / 18) ^ 2))
      * (0.8 + 0.4 * pg_temp.chance(about, 1))
    )::int as conversations
  from day
),
conversation as (
  select
    b.account_id, b.timezone, b.agents, b.inboxes, b.date, b.age,
    b.about * 1000 + n as about,
    -- Two humps with lunch between them; one in eight at any hour.
    b.date + make_interval(secs => case
      when pg_temp.chance(b.about * 1000 + n, 2) < 0.125 then pg_temp.chance(b.about * 1000 + n, 3) * 86400
      when pg_temp.chance(b.about * 1000 + n, 2) < 0.6 then (9 + 3.5 * (pg_temp.chance(b.about * 1000 + n, 3) + pg_temp.chance(b.about * 1000 + n, 4)) / 2) * 3600
      else (13.5 + 4.5 * (pg_temp.chance(b.about * 1000 + n, 3) + pg_temp.chance(b.about * 1000 + n, 4)) / 2) * 3600
    end) as began
  from busy as b
  cross join generate_series(1, b.conversations) as n
)
select
  row_number() over (order by began, account_id, about)::int as id,
  account_id, timezone, about, began, age,
  -- Some agents take more than others.
  account_id * 100 + 1 + floor(agents * pg_temp.chance(about, 5) ^ 1.4)::int as user_id,
  account_id * 10 + 1 + floor(inboxes * pg_temp.chance(about, 6) ^ 1.8)::int as inbox_id,
  pg_temp.chance(about, 7) < 0.34 + 0.1 * age as met_bot,
  pg_temp.chance(about, 8) < 0.42 as bot_solved,
  -- Reopened once, and some twice.
  case when pg_temp.chance(about, 9) < 0.03 then 2 when pg_temp.chance(about, 9) < 0.14 then 1 else 0 end as reopened,
  -- Three replies on average.
  floor(ln(1 - pg_temp.chance(about, 10)) / ln(0.7))::int as replies,
  -- Answers got faster over the months; agents differ.
  (1 - 0.35 * (1 + age)) * (0.75 + 0.5 * pg_temp.chance(account_id * 100 + 1 + floor(agents * pg_temp.chance(about, 5) ^ 1.4)::int, 11)) as pace
from conversation`;

/** The events of the conversations, in the order in which they happened. */
export const events = `
insert into public.reporting_events
  (name, value, value_in_business_hours, account_id, inbox_id, user_id, conversation_id, event_start_time, event_end_time, created_at, updated_at)
with round as (
  -- A conversation and each of its reopenings, a day or two later.
  select
    c.*, r, c.about * 10 + r as which,
    c.began + r * make_interval(secs => pg_temp.lognormal(c.about * 10 + r, 20, 100000, 0.7)) as started
  from demo_conversations as c
  cross join generate_series(0, c.reopened) as r
  where not (c.met_bot and c.bot_solved and r > 0)
),
happening as (
  select 'conversation_bot_resolved' as name, null::int as agent, pg_temp.lognormal(which, 21, 240, 0.6) as seconds, started as begins, round.*
  from round where met_bot and bot_solved
  union all
  select 'conversation_bot_handoff', user_id, pg_temp.lognormal(which, 22, 150, 0.5), started, round.*
  from round where met_bot and not bot_solved
  union all
  select 'first_response', user_id, pace * pg_temp.lognormal(which, 23, 600, 0.9), started, round.*
  from round where not (met_bot and bot_solved) and r = 0
  union all
  select
    'reply_time', user_id, pace * pg_temp.lognormal(which * 100 + reply, 24, 900, 0.95),
    started + reply * make_interval(secs => pg_temp.lognormal(which * 100 + reply, 25, 1500, 0.6)), round.*
  from round cross join generate_series(1, replies) as reply
  where not (met_bot and bot_solved)
  union all
  select 'conversation_resolved', user_id, pace * pg_temp.lognormal(which, 26, 15000, 1.0), started, round.*
  from round where not (met_bot and bot_solved)
),
event as (
  select
    name, round(seconds) as seconds, round(pg_temp.business_hours(begins, seconds)) as business_seconds,
    account_id, inbox_id, agent, id as conversation_id,
    begins at time zone timezone at time zone 'UTC' as began,
    (begins + make_interval(secs => round(seconds))) at time zone timezone at time zone 'UTC' as ended
  from happening
)
select
  name, seconds, business_seconds, account_id, inbox_id, agent, conversation_id, began, ended, ended, ended
from event
where ended < now() at time zone 'UTC'
order by ended, conversation_id, name`;
