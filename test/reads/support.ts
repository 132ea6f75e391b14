/**
 * What reads must answer: recomputed from the raw events by plain SQL that shares nothing with sql/. Periods come from
 * instants: whatever local time they show, that hour, day, week… is touched.
 */

import type { Random } from "../stress/random.js";
import type { Sql } from "../support/client.js";
import { database } from "../support/database.js";

/** Those that rollups may answer. */
export const metrics = [
  "avg_first_response_time",
  "avg_resolution_time",
  "reply_time",
  "resolutions_count",
  "bot_resolutions_count",
  "bot_handoffs_count",
] as const;

/** Those that raw events answer. */
export const rawMetrics = [
  "bot_resolutions_net_count",
  "bot_resolution_rate",
  "bot_handoff_rate",
  "unique_resolutions_count",
  "median_first_response_time",
  "median_resolution_time",
  "median_reply_time",
  "p90_first_response_time",
  "p90_resolution_time",
  "p90_reply_time",
] as const;

export const groupings = ["hour", "day", "week", "month", "quarter", "year"] as const;

/** What to ask, and in which zone the answer must be. */
export interface Question {
  account: number;
  metric: string;
  since: string;
  until: string;
  groupBy: string;
  dimension: string;
  id: number | null;
  businessHours: boolean | null;
  /** As passed. */
  timezone: string | null;
  /** As meant. */
  zone: string;
}

export const question: Question = {
  account: 0,
  metric: "resolutions_count",
  since: "2026-02-01 00:00Z",
  until: "2026-03-01 00:00Z",
  groupBy: "day",
  dimension: "account",
  id: null,
  businessHours: false,
  timezone: null,
  zone: "UTC",
};

/** The raw events of a question, with their local time, as `event`; parameters as `parameters` gives them. */
const events = `
  event as (
    select
      r.created_at, r.created_at at time zone 'UTC' at time zone $10 as local, r.name, r.conversation_id, r.user_id, r.inbox_id,
      case when abs(v.value) < 9.2e12 then round(v.value * 1e6)::bigint end::numeric as micros,
      case when abs(v.value) < 9.2e12 then v.value end as seconds
    from public.reporting_events r
    cross join lateral (select case when $8::boolean then r.value_in_business_hours else r.value end as value) v
    where r.account_id = $1 and r.created_at >= $3::timestamptz at time zone 'UTC' and r.created_at < $4::timestamptz at time zone 'UTC'
      and isfinite(r.created_at)
  )`;

const metricEvents = `
  metric as (
    select * from (values
      ('avg_first_response_time', 'average', 'first_response'), ('avg_resolution_time', 'average', 'conversation_resolved'),
      ('reply_time', 'average', 'reply_time'), ('resolutions_count', 'count', 'conversation_resolved'),
      ('bot_resolutions_count', 'count', 'conversation_bot_resolved'), ('bot_handoffs_count', 'distinct', 'conversation_bot_handoff'),
      ('unique_resolutions_count', 'distinct', 'conversation_resolved'),
      ('median_first_response_time', '0.5', 'first_response'), ('p90_first_response_time', '0.9', 'first_response'),
      ('median_resolution_time', '0.5', 'conversation_resolved'), ('p90_resolution_time', '0.9', 'conversation_resolved'),
      ('median_reply_time', '0.5', 'reply_time'), ('p90_reply_time', '0.9', 'reply_time'),
      ('bot_resolutions_net_count', 'count', 'kept'), ('bot_resolution_rate', 'kept rate', null), ('bot_handoff_rate', 'handed rate', null)
    ) as m (metric, aggregate, name) where m.metric = $2
  ),
  in_dimension as (
    select * from event e
    where case $6 when 'agent' then e.user_id = $7::bigint when 'inbox' then e.inbox_id = $7::bigint else true end
  ),
  named as (
    select e.* from in_dimension e
    union all
    select e.created_at, e.local, 'kept', e.conversation_id, e.user_id, e.inbox_id, e.micros, e.seconds
    from in_dimension e
    where e.name = 'conversation_bot_resolved' and (e.conversation_id is null or e.conversation_id not in (
      select h.conversation_id from in_dimension h where h.name = 'conversation_bot_handoff' and h.conversation_id is not null))
  ),
  chosen as (
    select e.*, m.aggregate
    from named e
    join metric m on m.name = e.name
      or (m.aggregate like '% rate' and (e.name = 'kept' or (e.name = 'conversation_bot_handoff' and e.conversation_id is not null)))
  )`;

/** Over the events that have the value, to 24 digits; NULL where none has. */
function average(micros: string, filter = ""): string {
  return `trim_scale(round(sum(${micros}) ${filter} * 0.000001, 24) / nullif(count(${micros}) ${filter}, 0))`;
}

const kept = "count(*) filter (where c.name = 'kept')";
const handed =
  "count(distinct c.conversation_id) filter (where c.name = 'conversation_bot_handoff')";

/** To the last digit of a double. */
function percentile(fraction: string): string {
  return `(percentile_cont(${fraction}) within group (order by c.seconds))::text::numeric`;
}

const figures = `
  case
    when c.aggregate = 'distinct' then count(distinct c.conversation_id)
    when c.aggregate like '% rate' then ${kept} + ${handed}
    else count(*)
  end as count,
  case c.aggregate
    when 'average' then ${average("c.micros")}
    when 'distinct' then count(distinct c.conversation_id)
    when '0.5' then ${percentile("0.5")}
    when '0.9' then ${percentile("0.9")}
    when 'kept rate' then trim_scale(${kept} * 100::numeric(40, 24) / (${kept} + ${handed}))
    when 'handed rate' then trim_scale(${handed} * 100::numeric(40, 24) / (${kept} + ${handed}))
    else count(*)
  end as value`;

/** The beginning of the period that a local time lies in; of an hour as an instant, for clocks repeat hours. */
function periodStart(local: string, at: string): string {
  return `case $5
    when 'hour' then (${at} - (${local} - date_trunc('hour', ${local}))) at time zone 'UTC'
    when 'day' then ${local}::date::timestamp at time zone $10
    when 'week' then (date_trunc('week', ${local} + interval '1 day') - interval '1 day') at time zone $10
    when 'month' then make_timestamp(extract(year from ${local})::int, extract(month from ${local})::int, 1, 0, 0, 0) at time zone $10
    when 'quarter' then
      make_timestamp(extract(year from ${local})::int, (extract(month from ${local})::int - 1) / 3 * 3 + 1, 1, 0, 0, 0) at time zone $10
    else make_timestamp(extract(year from ${local})::int, 1, 1, 0, 0, 0) at time zone $10
  end`;
}

/** The periods that an instant of the range lies in; every minute is looked at for hours, which may last a minute, and in short ranges. */
const expectedTimeseries = `
  with ${events}, ${metricEvents},
  instant as (
    select s.at, s.at at time zone 'UTC' at time zone $10 as local
    from (
      select generate_series(
        $3::timestamptz at time zone 'UTC', $4::timestamptz at time zone 'UTC' - interval '1 microsecond',
        case
          when $5 = 'hour' or $4::timestamptz - $3::timestamptz < interval '4 days' then interval '1 minute'
          when $4::timestamptz - $3::timestamptz < interval '90 days' then interval '30 minutes'
          else interval '6 hours'
        end
      )
      union all
      -- Clocks that go back may touch a period for a minute only.
      select generate_series(
        greatest($3::timestamptz, $4::timestamptz - interval '27 hours') at time zone 'UTC',
        $4::timestamptz at time zone 'UTC' - interval '1 microsecond', interval '1 minute'
      )
      union all
      select $4::timestamptz at time zone 'UTC' - interval '1 microsecond'
      union all
      select e.created_at from event e
    ) as s (at)
    where $3::timestamptz < $4::timestamptz
  ),
  period as (select distinct ${periodStart("i.local", "i.at")} as period_start from instant i),
  total as (
    select ${periodStart("c.local", "c.created_at")} as period_start, ${figures} from chosen c group by 1, c.aggregate
  )
  select p.period_start, case when t.period_start is null then 0 else t.value end as value, coalesce(t.count, 0) as count
  from period p left join total t on t.period_start = p.period_start`;

const expectedAggregate = `
  with ${events}, ${metricEvents}
  select
    coalesce(t.value, case when m.aggregate in ('count', 'distinct') then 0 end) as value, coalesce(t.count, 0) as count
  from metric m left join (select ${figures} from chosen c group by c.aggregate) t on true`;

const expectedSummary = `
  with ${events},
  of_dimension as (
    select e.*, case $6 when 'agent' then e.user_id when 'inbox' then e.inbox_id else $1 end::bigint as dimension_id from event e
  )
  select
    d.dimension_id,
    count(*) filter (where d.name = 'conversation_resolved') as resolved_conversations_count,
    ${average("d.micros", "filter (where d.name = 'conversation_resolved')")} as avg_resolution_time,
    ${average("d.micros", "filter (where d.name = 'first_response')")} as avg_first_response_time,
    ${average("d.micros", "filter (where d.name = 'reply_time')")} as avg_reply_time
  from of_dimension d
  where d.dimension_id is not null and d.name in ('conversation_resolved', 'first_response', 'reply_time')
  group by 1`;

const expectedHeatMap = `
  with ${events}, ${metricEvents}
  select w.weekday, h.hour, coalesce(c.count, 0) as count
  from generate_series(0, 6) as w (weekday) cross join generate_series(0, 23) as h (hour)
  left join (
    select extract(isodow from e.local)::int % 7 as weekday, date_part('hour', e.local)::int as hour, count(*) as count
    from in_dimension e join metric m on m.name = e.name group by 1, 2
  ) as c using (weekday, hour)`;

const calls = {
  timeseries: `rollup.timeseries($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
  aggregate: `rollup.aggregate($1, $2, $3, $4, $6, $7, $8, $9)`,
  summary: `rollup.summary($1, $6, $3, $4, $8, $9)`,
  heat_map: `rollup.heat_map($1, $2, $3, $4, $6, $7, $9)`,
};
const oracles = {
  timeseries: expectedTimeseries,
  aggregate: expectedAggregate,
  summary: expectedSummary,
  heat_map: expectedHeatMap,
};

/** Where the answer of a function differs from the raw events: compared to the last digit, in one statement. */
export async function wrongAnswers(
  sql: Sql,
  read: keyof typeof calls,
  asked: Question,
): Promise<string[]> {
  const rows = await sql.unsafe<{ row: string }[]>(
    `
    -- Every parameter is used, whichever the function takes.
    with asked as (
      select $1::int, $2::text, $3::timestamptz, $4::timestamptz, $5::text, $6::text, $7::bigint, $8::boolean, $9::text, $10::text
    ),
    actual as materialized (select x::text as row from ${calls[read]} as x),
    expected as materialized (select x::text as row from (${oracles[read]}) as x)
    select 'expected ' || row as row from (select * from expected except all select * from actual) as missing
    union all
    select 'actual ' || row from (select * from actual except all select * from expected) as wrong
    union all
    select 'not in order' from asked
    where array(select row from actual) <> array(select x::text as line from ${calls[read]} as x order by x)`,
    parameters(asked),
    { prepare: true },
  );
  return rows.map(({ row }) => row);
}

function parameters(asked: Question): (string | number | boolean | null)[] {
  return [
    asked.account,
    asked.metric,
    asked.since,
    asked.until,
    asked.groupBy,
    asked.dimension,
    asked.id,
    asked.businessHours,
    asked.timezone,
    asked.zone,
  ];
}

/** Where the parts of a read's plan do not follow one another from its beginning to its end; and whether rollups have a part. */
export async function planOf(
  sql: Sql,
  asked: Question,
): Promise<{ faults: string[]; rollups: boolean }> {
  const [row] = await sql<{ faults: string[]; rollups: boolean }[]>`
    with plan as (
      select p.*, lead(p.starts_at, 1, ${asked.until}::timestamptz) over (order by p.starts_at) as next
      from rollup.read_plan(
        ${asked.account}, ${asked.since}::timestamptz, ${asked.until}::timestamptz, ${asked.metric}, ${asked.groupBy}, ${asked.timezone}
      ) as p
    )
    select
      array(
        select p::text from plan as p where p.starts_at >= p.ends_at or p.ends_at <> p.next
        union all
        select 'begins at ' || min(p.starts_at) from plan as p having min(p.starts_at) <> ${asked.since}::timestamptz
      ) as faults,
      exists (select from plan as p where p.source = 'rollup') as rollups`;
  return row ?? { faults: ["no row"], rollups: false };
}

/** Rows of public.reporting_events near a moment, half of them within three days, some exactly on the hour. */
export async function insertRandom(
  sql: Sql,
  random: Random,
  account: number,
  around: string,
  count: number,
): Promise<void> {
  const rows = Array.from({ length: count }, () => {
    const days = random.chance(0.6) ? 3 : random.chance(0.8) ? 40 : 400;
    const hours = (random.next() * 2 - 1) * days * 24;
    return {
      name: random.pick([
        "first_response",
        "conversation_resolved",
        "conversation_resolved",
        "reply_time",
        "conversation_bot_resolved",
        "conversation_bot_handoff",
        "conversation_bot_handoff",
        "conversation_bot_handoff",
        "something_else",
      ]),
      value: random.pick([null, null, 0, 1, 0.1, 1 / 3, 1e-7, 86_400.5, 1e12, 1e300, -5]),
      value_in_business_hours: random.pick([null, 0.25, 7, 1 / 7]),
      account_id: account,
      user_id: random.pick([null, 1, 2, 3]),
      inbox_id: random.pick([null, 1, 2]),
      conversation_id: random.chance(0.1) ? null : random.int(random.chance(0.7) ? 12 : 200),
      hours: random.chance(0.3) ? Math.round(hours) : hours,
    };
  });
  await sql`
    insert into public.reporting_events
      (name, value, value_in_business_hours, account_id, user_id, inbox_id, conversation_id, created_at)
    select r.name, r.value, r.value_in_business_hours, r.account_id, r.user_id, r.inbox_id, r.conversation_id,
      ${around}::timestamp + make_interval(secs => r.hours * 3600)
    from jsonb_to_recordset(${sql.json(rows)}) as r (
      name text, value float8, value_in_business_hours float8, account_id int, user_id int, inbox_id int, conversation_id int, hours float8
    )`;
}

/** A question about an account whose interesting moment is `around`. */
export async function randomQuestion(
  sql: Sql,
  random: Random,
  account: number,
  zone: string,
  around: string,
): Promise<Question> {
  const timezone = random.pick(
    [null, zone, zone.toLowerCase(), "America/New_York", "UTC"],
    [8, 1, 1, 1, 1],
  );
  const days = random.pick([0, 1 / 86_400, 1 / 24, 1, 2, 7, 31, 92, 400, 3660]);
  const groupBy = random.pick(groupings.filter((g) => g !== "hour" || days < 40));
  const [row] = await sql<{ since: string; until: string }[]>`
    with beginning as (
      select case ${random.int(4)}::int
        -- A local midnight, an event's instant or just after it, anything.
        when 0 then (((${around}::timestamp at time zone 'UTC' at time zone ${zone})::date + ${random.int(9) - 4}::int)::timestamp)
          at time zone ${zone}
        when 1 then date_trunc('month', ${around}::timestamp at time zone 'UTC', ${zone}) - ${random.int(3)}::int * interval '1 month'
        when 2 then (
          select e.created_at + ${random.int(2)}::int * interval '1 microsecond' from public.reporting_events as e
          where e.account_id = ${account} order by e.id offset ${random.int(80)}::int limit 1
        ) at time zone 'UTC'
        else ${around}::timestamp at time zone 'UTC' + ${random.next() * 8 - 4}::float8 * interval '1 day'
      end as at
    )
    select since.at::text as since,
      greatest(
        since.at,
        -- The last day may end early, as it does at 23:59:59.
        ${random.pick([0, 1, 5000], [2, 1, 1])}::int * interval '-1 second' + case ${random.int(3)}::int
          when 0 then since.at + ${days}::float8 * interval '24 hours'
          when 1 then (since.at at time zone ${zone} + ceil(${days}::float8)::int * interval '1 day') at time zone ${zone}
          else date_trunc('day', since.at + ${days}::float8 * interval '24 hours', ${zone})
        end
      )::text as until
    from (
      select coalesce(b.at, ${around}::timestamp at time zone 'UTC') - ${random.chance(0.3) ? days / 2 : 0}::float8 * interval '24 hours' as at
      from beginning as b
    ) as since`;
  const dimension = random.pick(["account", "agent", "inbox"]);
  return {
    account,
    metric: random.pick(metrics),
    since: row?.since ?? "",
    until: row?.until ?? "",
    groupBy,
    dimension,
    id: dimension === "account" ? random.pick([null, account]) : random.int(5),
    businessHours: random.pick([true, false, null]),
    timezone,
    zone: timezone?.toLowerCase() === zone.toLowerCase() ? zone : (timezone ?? zone),
  };
}

let accounts = 0;

/** A new account that reads from rollups, covered unless told otherwise. */
export async function readerAccount(zone: string, { covered = true } = {}): Promise<number> {
  const sql = database();
  const account = ++accounts;
  await sql`select rollup.set_reporting_timezone(${account}, ${zone})`;
  await sql`select rollup.set_reporting_events_rollup(${account}, true)`;
  if (covered) await sql`select rollup.backfill(${account})`;
  return account;
}

/** One statement that inserts the events, resolutions unless told otherwise. */
export async function insertEvents(
  sql: Sql,
  account: number,
  ...events: Record<string, string | number | null>[]
): Promise<void> {
  const rows = events.map((event) => ({
    name: "conversation_resolved",
    value: 1,
    value_in_business_hours: 0.5,
    account_id: account,
    user_id: null,
    inbox_id: null,
    conversation_id: 1,
    ...event,
  }));
  await sql`insert into public.reporting_events ${sql(rows)}`;
}

/** The pages that a statement touches when everything is in memory and planned. */
export async function pages(on: Sql, statement: string): Promise<number> {
  await on.unsafe(statement);
  const rows = await on.unsafe<{ "QUERY PLAN": string }[]>(
    `explain (analyze, buffers, timing off) ${statement}`,
  );
  const text = rows
    .map((row) => row["QUERY PLAN"])
    .join("\n")
    .replace(/Planning:[\s\S]*/, "");
  const [, hit = "0"] = /Buffers: shared hit=(\d+)/.exec(text) ?? [];
  const [, read = "0"] = /Buffers: shared[^\n]* read=(\d+)/.exec(text) ?? [];
  return Number(hit) + Number(read);
}
