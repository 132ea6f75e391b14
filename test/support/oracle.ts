/**
 * What the rollups must be: recomputed from the raw events by plain SQL that shares nothing with sql/. The zone is
 * read from the settings, the clean days from rollup.clean_days; everything in one statement, so in one snapshot.
 */
import type { Sql } from "./client.js";

/** Daily totals of account $1 as they must be. */
const expected = `
  select
    e.date, d.dimension_type, d.dimension_id, m.metric,
    case m.payload when 'distinct' then count(distinct e.conversation_id) else count(*) end as count,
    case m.payload when 'duration' then trim_scale(coalesce(sum(e.micros), 0) / 1000000) else 0 end as sum_value,
    case m.payload when 'duration' then trim_scale(coalesce(sum(e.business_micros), 0) / 1000000) else 0 end as sum_value_business_hours,
    case m.payload when 'duration' then count(e.micros) else 0 end as count_value,
    case m.payload when 'duration' then count(e.business_micros) else 0 end as count_value_business_hours
  from (
    select
      case
        when isfinite(r.created_at) then (r.created_at at time zone 'UTC' at time zone s.reporting_timezone)::date
        else r.created_at::date
      end as date,
      r.name, r.account_id::bigint, r.user_id::bigint, r.inbox_id::bigint, r.conversation_id,
      case when abs(r.value) < 9.2e12 then round(r.value * 1e6)::bigint end::numeric as micros,
      case when abs(r.value_in_business_hours) < 9.2e12 then round(r.value_in_business_hours * 1e6)::bigint end::numeric as business_micros
    from rollup.account_settings s
    join public.reporting_events r on r.account_id = s.account_id
    where s.account_id = $1 and s.reporting_timezone is not null and r.created_at is not null
  ) e
  cross join lateral (
    values ('account', e.account_id), ('agent', e.user_id), ('inbox', e.inbox_id)
  ) as d (dimension_type, dimension_id)
  join (
    values
      ('conversation_resolved', 'resolutions_count', 'count'),
      ('conversation_resolved', 'resolution_time', 'duration'),
      ('first_response', 'first_response', 'duration'),
      ('reply_time', 'reply_time', 'duration'),
      ('conversation_bot_resolved', 'bot_resolutions_count', 'count'),
      ('conversation_bot_handoff', 'bot_handoffs_count', 'distinct')
  ) as m (name, metric, payload) on m.name = e.name
  where d.dimension_id is not null and (m.payload <> 'distinct' or e.conversation_id is not null)
  group by e.date, d.dimension_type, d.dimension_id, m.metric, m.payload`;

const columns =
  "date, dimension_type, dimension_id, metric, count, sum_value, sum_value_business_hours, count_value, count_value_business_hours";

const differing = `
  with expected as materialized (
    select ${columns} from (${expected}) as e where (select rollup.clean_days($1)) @> e.date
  ),
  actual as materialized (
    select ${columns} from rollup.daily_rollups as a where a.account_id = $1 and (select rollup.clean_days($1)) @> a.date
  )
  select 'expected' as side, x::text as row from (select * from expected except all select * from actual) as x
  union all
  select 'actual', x::text from (select * from actual except all select * from expected) as x
  order by 2, 1`;

/** COUNT(DISTINCT conversation_id) of ranges of clean days, by the previous dates with the pending deltas, and from the raw events. */
const distinctDiffering = `
  with wanted as (
    select distinct w.from_date, w.to_date
    from unnest($2::date[], $3::date[]) as w (from_date, to_date)
    where (select rollup.clean_days($1)) @> daterange(w.from_date, w.to_date, '[]')
  ),
  -- Once without the pending deltas and once with them: what they will change.
  occurrence as (
    select w.pending, l.event_name::text, l.conversation_id, l.date, l.user_id, l.inbox_id, l.count
    from (values (false), (true)) as w (pending)
    join rollup.ledger as l on l.account_id = $1
    union all
    select true, d.event_name, d.conversation_id, d.date, d.user_id, d.inbox_id, d.count
    from rollup.deltas as d
    join rollup.account_settings as s on s.account_id = d.account_id and s.generation = d.generation
    where d.account_id = $1 and d.conversation_id is not null
  ),
  sequence as (
    select
      s.pending, s.event_name, s.dimension_type, s.dimension_id, s.date,
      lag(s.date, 1, '-infinity') over (
        partition by s.pending, s.event_name, s.dimension_type, s.dimension_id, s.conversation_id order by s.date
      ) as previous_date
    from (
      select o.pending, o.event_name, d.dimension_type, d.dimension_id, o.conversation_id, o.date
      from occurrence as o
      cross join lateral (values ('account', $1::bigint), ('agent', o.user_id), ('inbox', o.inbox_id)) as d (dimension_type, dimension_id)
      where d.dimension_id is not null
      group by 1, 2, 3, 4, 5, 6
      having sum(o.count) > 0
    ) as s
  ),
  cell as materialized (
    select p.event_name::text, p.dimension_type::text, p.dimension_id, p.date, p.previous_date, p.count
    from rollup.previous_dates as p
    where p.account_id = $1
    union all
    select s.event_name, s.dimension_type, s.dimension_id, s.date, s.previous_date, case when s.pending then 1 else -1 end
    from sequence as s
  ),
  actual as (
    select w.from_date, w.to_date, c.event_name, c.dimension_type, c.dimension_id, sum(c.count)::bigint as count
    from wanted as w
    join cell as c on c.date between w.from_date and w.to_date and c.previous_date < w.from_date
    group by 1, 2, 3, 4, 5
    having sum(c.count) <> 0
  ),
  expected as (
    select w.from_date, w.to_date, e.name::text as event_name, d.dimension_type, d.dimension_id, count(distinct e.conversation_id) as count
    from rollup.account_settings as s
    join public.reporting_events as e on e.account_id = s.account_id
    join wanted as w
      on (e.created_at at time zone 'UTC' at time zone s.reporting_timezone)::date between w.from_date and w.to_date
    cross join lateral (
      values ('account', e.account_id::bigint), ('agent', e.user_id::bigint), ('inbox', e.inbox_id::bigint)
    ) as d (dimension_type, dimension_id)
    where s.account_id = $1
      and e.name = 'conversation_bot_handoff'
      and e.conversation_id is not null
      and d.dimension_id is not null
    group by 1, 2, 3, 4, 5
  )
  select 'expected' as side, x::text as row from (select * from expected except all select * from actual) as x
  union all
  select 'actual', x::text from (select * from actual except all select * from expected) as x
  order by 2, 1`;

/** A row of one side that the other lacks. */
export interface Difference {
  side: "expected" | "actual";
  row: string;
}

/** Days, both inclusive. */
export interface Range {
  from: string;
  to: string;
}

const hostTable = "public.reporting_events";

/** Where rollup.daily_rollups differs from the raw events, which are in that table, on an account's clean days. */
export async function differences(
  sql: Sql,
  account: number,
  events = hostTable,
): Promise<Difference[]> {
  const query = differing.replaceAll(hostTable, events);
  return [...(await sql.unsafe<Difference[]>(query, [account], { prepare: true }))];
}

/** Where distinct counts by the previous dates differ from the raw events, for those of the ranges that are clean. */
export async function distinctDifferences(
  sql: Sql,
  account: number,
  ranges: Range[],
  events = hostTable,
): Promise<Difference[]> {
  const from = ranges.map((range) => range.from);
  const to = ranges.map((range) => range.to);
  const query = distinctDiffering.replaceAll(hostTable, events);
  return [...(await sql.unsafe<Difference[]>(query, [account, from, to], { prepare: true }))];
}

/** What rollup.verify finds. */
export async function verified(sql: Sql, account: number): Promise<Difference[]> {
  const rows = await sql<
    { row: string }[]
  >`select v::text as row from rollup.verify(${account}) as v`;
  return rows.map(({ row }) => ({ side: "actual", row }));
}
