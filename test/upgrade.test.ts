/** Upgrades an installation of version 0.1.0 in the middle of its work: exact before, during and after. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { migrate as migrateUrl } from "../src/database/migrate.js";
import { startWorker } from "../src/worker/worker.js";
import type { Sql } from "./support/client.js";
import { connect, createDatabase, type TestDatabase } from "./support/database.js";
import { differences } from "./support/oracle.js";
import { definitionsAndPrivileges, schemaText } from "./support/schema.js";

const fixture = await readFile(
  join(import.meta.dirname, "fixtures/installation-0.1.0.sql"),
  "utf8",
);
const upgrade = suite("upgrade from 0.1.0");
/** The accounts with a zone; 8 is switched off, 9 was never on. */
const withZone = [1, 2, 3, 4, 5, 6, 7];

let installed: TestDatabase;
let sql: Sql;
upgrade.before.each(async () => {
  installed = await createDatabase({ empty: true });
  sql = installed.sql;
  // The dump changes the settings of its session.
  const loader = connect({ url: installed.url });
  await loader.unsafe(fixture);
  // As the host has them. It kept no zone there, so those of ours stay.
  await loader`insert into public.accounts (id) select generate_series(1, 9) on conflict do nothing`;
  await loader.end();
});
upgrade.after.each(() => installed.drop());

const migrate = () => migrateUrl(installed.url, { current: true });

// --- What reads must say --------------------------------------------------------------------------------

/** Every event of an account with a zone or without one, with its local time, once for each dimension it counts in. */
const occurrences = `
  occurrence as (
    select
      e.account_id, z.zone, e.name, e.conversation_id, e.created_at at time zone 'UTC' as at,
      (e.created_at at time zone 'UTC' at time zone z.zone)::date as day,
      d.dimension_type, d.dimension_id,
      case when abs(e.value) < 9.2e12 then round(e.value * 1e6)::bigint end::numeric as micros
    from public.reporting_events as e
    left join rollup.account_settings as s on s.account_id = e.account_id
    cross join lateral (select coalesce(s.reporting_timezone, 'UTC') as zone) as z
    cross join lateral (
      values ('account', e.account_id::bigint), ('agent', e.user_id::bigint), ('inbox', e.inbox_id::bigint)
    ) as d (dimension_type, dimension_id)
    where d.dimension_id is not null
  ),
  metric as (
    select * from (values
      ('avg_first_response_time', 'average', 'first_response'), ('avg_resolution_time', 'average', 'conversation_resolved'),
      ('reply_time', 'average', 'reply_time'), ('resolutions_count', 'count', 'conversation_resolved'),
      ('bot_resolutions_count', 'count', 'conversation_bot_resolved'), ('bot_handoffs_count', 'distinct', 'conversation_bot_handoff')
    ) as m (metric, aggregate, name)
  ),
  -- From an account's first event to its last: all of it, days in part at both ends, whole days in the middle.
  span as (
    select o.account_id, o.zone, min(o.at) as first, max(o.at) as last from occurrence as o group by 1, 2
  ),
  range as (
    -- Two of them may happen to be the same.
    select s.account_id, s.zone, bool_or(r.every_dimension) as every_dimension, r.since, r.until
    from span as s
    cross join lateral (
      values
        (false, s.first - interval '3 days', s.last + interval '3 days'),
        (true, s.first + (s.last - s.first) / 5, s.last - (s.last - s.first) / 4),
        (false, s.first + interval '1 hour', s.last - interval '31 hours'),
        (false, ((s.first at time zone s.zone)::date + 2)::timestamp at time zone s.zone,
         ((s.last at time zone s.zone)::date - 1)::timestamp at time zone s.zone)
    ) as r (every_dimension, since, until)
    where r.since < r.until
    group by s.account_id, s.zone, r.since, r.until
  )`;

/** An average in 0.1.0 was over all events, one without a value counting as 0; now it is over those that have one. */
type Averages = "of all events" | "of events with a value";

function figures(averages: Averages): string {
  const divisor = averages === "of all events" ? "count(*)" : "nullif(count(o.micros), 0)";
  return `
    case m.aggregate
      when 'average' then round(coalesce(sum(o.micros), ${averages === "of all events" ? "0" : "null"}) / 1000000 / ${divisor}, 9)
      when 'distinct' then count(distinct o.conversation_id)
      else count(*)
    end as value,
    case when m.aggregate = 'distinct' then count(distinct o.conversation_id) else count(*) end as count`;
}

const keys = "r.account_id, r.since, r.until, m.metric, o.dimension_type, o.dimension_id";
const matching = `
  from range as r
  join occurrence as o on o.account_id = r.account_id and o.at >= r.since and o.at < r.until
    and (r.every_dimension or o.dimension_type = 'account')
  join metric as m on m.name = o.name`;

/** What is asked, for every id that has events; what the function says; what it must say. All in one snapshot. */
const comparisons = {
  timeseries: (averages: Averages) => ({
    expected: `
      select ${keys}, (o.day::timestamp at time zone o.zone) as period_start, ${figures(averages)}
      ${matching} group by ${keys}, o.day, o.zone, m.aggregate`,
    actual: `
      select q.*, t.period_start, round(t.value, 9), t.count
      from question as q
      cross join lateral rollup.timeseries(q.account_id, q.metric, q.since, q.until, 'day', q.dimension_type, q.dimension_id) as t
      where t.count > 0`,
    rows: "expected as e where e.count > 0",
  }),
  aggregate: (averages: Averages) => ({
    expected: `select ${keys}, ${figures(averages)} ${matching} group by ${keys}, m.aggregate`,
    actual: `
      select q.*, round(t.value, 9), t.count
      from question as q
      cross join lateral rollup.aggregate(q.account_id, q.metric, q.since, q.until, q.dimension_type, q.dimension_id) as t`,
    rows: "expected as e",
  }),
};

/** Where a function's answer differs from the raw events, a line for each side; and how many answers were compared. */
async function compare(on: Sql, read: keyof typeof comparisons, averages: Averages) {
  const { expected, actual, rows } = comparisons[read](averages);
  const [row] = await on.unsafe<{ wrong: string[]; compared: number }[]>(`
    with ${occurrences},
    question as materialized (select distinct ${keys} ${matching}),
    expected as materialized (${expected}),
    wanted as materialized (select e.* from ${rows}),
    actual as materialized (${actual})
    select
      array(
        select 'expected ' || x::text from (select * from wanted except all select * from actual) as x
        union all
        select 'actual ' || x::text from (select * from actual except all select * from wanted) as x
        order by 1 limit 20
      ) as wrong,
      (select count(*)::int from wanted) as compared`);
  return row as { wrong: string[]; compared: number };
}

/** The same of rollup.summary, for the whole of each range. */
async function compareSummaries(on: Sql, averages: Averages) {
  const average = (name: string) => {
    const chosen = `filter (where o.name = '${name}')`;
    return averages === "of all events"
      ? `round(coalesce(sum(o.micros) ${chosen}, 0) / 1000000 / nullif(count(*) ${chosen}, 0), 9)`
      : `round(sum(o.micros) ${chosen} / 1000000 / nullif(count(o.micros) ${chosen}, 0), 9)`;
  };
  const [row] = await on.unsafe<{ wrong: string[]; compared: number }[]>(`
    with ${occurrences},
    wanted as materialized (
      select
        r.account_id, r.since, r.until, o.dimension_type, o.dimension_id,
        count(*) filter (where o.name = 'conversation_resolved'), ${average("conversation_resolved")},
        ${average("first_response")}, ${average("reply_time")}
      from range as r
      join occurrence as o on o.account_id = r.account_id and o.at >= r.since and o.at < r.until
      where o.name in ('conversation_resolved', 'first_response', 'reply_time')
      group by 1, 2, 3, 4, 5
    ),
    actual as materialized (
      select
        r.account_id, r.since, r.until, d.dimension_type, s.dimension_id, s.resolved_conversations_count,
        round(s.avg_resolution_time, 9), round(s.avg_first_response_time, 9), round(s.avg_reply_time, 9)
      from range as r
      cross join (values ('account'), ('agent'), ('inbox')) as d (dimension_type)
      cross join lateral rollup.summary(r.account_id, d.dimension_type, r.since, r.until) as s
    )
    select
      array(
        select 'expected ' || x::text from (select * from wanted except all select * from actual) as x
        union all
        select 'actual ' || x::text from (select * from actual except all select * from wanted) as x
        order by 1 limit 20
      ) as wrong,
      (select count(*)::int from wanted) as compared`);
  return row as { wrong: string[]; compared: number };
}

/** Fails unless every read equals the raw events. */
async function assertReads(when: string, averages: Averages, on: Sql = sql): Promise<void> {
  for (const read of ["timeseries", "aggregate"] as const) {
    const { wrong, compared } = await compare(on, read, averages);
    assert.equal(wrong, [], `${read} ${when}`);
    assert.ok(compared > 300, `${read} ${when}: ${compared} answers compared`);
  }
  const { wrong, compared } = await compareSummaries(on, averages);
  assert.equal(wrong, [], `summary ${when}`);
  assert.ok(compared > 100, `summary ${when}: ${compared} answers compared`);
}

/** Fails unless daily rollups of every clean day equal the raw events. */
async function assertDays(when: string): Promise<void> {
  for (const account of withZone) {
    assert.equal(await differences(sql, account), [], `account ${account} ${when}`);
  }
}

const before: Averages = "of all events";
const after: Averages = "of events with a value";

// --- A host that goes on --------------------------------------------------------------------------------

/** Inserts, updates and deletes events of all accounts until told to stop; returns how many statements it ran. */
function keepWriting(): { stop(): Promise<number> } {
  let busy = true;
  const writer = async (seed: number) => {
    const on = connect({ url: installed.url });
    let statements = 0;
    for (; busy; statements++) {
      const n = statements * 7 + seed;
      const account = 1 + (n % 9);
      await on`
        insert into public.reporting_events
          (name, value, value_in_business_hours, account_id, inbox_id, user_id, conversation_id, created_at, updated_at)
        select
          (array['conversation_resolved', 'first_response', 'reply_time', 'conversation_bot_resolved', 'conversation_bot_handoff'])[1 + (${n}::int + e.n) % 5],
          nullif(${n}::int % 4, 0) * 12.5, nullif(e.n, 2), ${account}::int, nullif(${n}::int % 3, 0), nullif(e.n, 3), 1 + ${n}::int % 11, e.created_at, e.created_at
        from (
          select row_number() over ()::int as n, r.created_at + interval '5 hours' as created_at
          from (
            select created_at from public.reporting_events where account_id = ${account} order by id desc offset ${n % 20}::int limit 3
          ) as r
        ) as e`;
      await on`
        delete from public.reporting_events
        where id = (select id from public.reporting_events where account_id = ${account} order by id offset ${n % 17}::int limit 1)`;
      await on`
        update public.reporting_events set user_id = 1 + ${n}::int % 4, updated_at = now()
        where id = (select max(id) from public.reporting_events where account_id = ${1 + ((n + 4) % 9)})`;
      await pause(10);
    }
    await on.end();
    return statements * 3;
  };
  const writers = [writer(1), writer(4)];
  return {
    stop: async () => {
      busy = false;
      const counts = await Promise.all(writers);
      return counts.reduce((sum, count) => sum + count, 0);
    },
  };
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((done) => setTimeout(done, milliseconds));
}

/** Waits until the worker has left nothing undone; throws, telling what is left, when it takes too long. */
async function nothingIsLeft(): Promise<void> {
  for (const deadline = Date.now() + 60_000; ; await pause(100)) {
    const left = (await waiting()) ?? {};
    if (Object.values(left).every((count) => count === 0)) return;
    if (Date.now() < deadline) continue;
    const runs = await sql`
      select * from rollup.backfill_runs where state not in ('done', 'cancelled') order by id`;
    const jobs = await sql`select * from rollup_worker.jobs`;
    throw new Error(`not within a minute: ${JSON.stringify([left, [...runs], [...jobs]])}`);
  }
}

/** Everything that still waits for a worker. */
async function waiting(): Promise<Record<string, unknown> | undefined> {
  const [row] = await sql`
    select
      (select count(*)::int from rollup.backfill_runs where state in ('pending', 'running')) as runs,
      (select count(*)::int from rollup_worker.jobs) as jobs,
      (select count(*)::int from rollup.dirty_marks) as marks,
      (select count(*)::int from rollup.deltas) as deltas`;
  return row;
}

async function uncovered(): Promise<number[]> {
  const rows = await sql<{ account_id: number }[]>`
    select a as account_id from unnest(${withZone}::int[]) as a where rollup.clean_days(a) <> '{(,)}' order by 1`;
  return rows.map(({ account_id }) => account_id);
}

// --- The tests ------------------------------------------------------------------------------------------

upgrade("exact at every moment, and everything that was under way is finished", async () => {
  assert.equal(await waiting(), { runs: 3, jobs: 4, marks: 4, deltas: 33 });
  await assertReads("before", before);
  const host = keepWriting();
  try {
    await migrate();
    await assertReads("right after, while the host writes", after);
    await assertDays("right after");
    const worker = await startWorker(installed.url, { foldEvery: 200 });
    try {
      // Its run had failed: it is for people to ask again.
      await sql`select rollup.enqueue_backfill(6)`;
      await assertReads("while the worker and the host work", after);
      await assertDays("while the worker and the host work");
      assert.ok((await host.stop()) > 20);
      await nothingIsLeft();
    } finally {
      await worker.stop();
    }
  } finally {
    await host.stop();
  }
  assert.equal(await uncovered(), []);
  const unfinished = await sql`
    select id, account_id, state, error from rollup.backfill_runs where state not in ('done', 'failed')`;
  assert.equal([...unfinished], []);
  await assertReads("at the end", after);
  await assertDays("at the end");
  for (const account of withZone) {
    assert.equal([...(await sql`select * from rollup.verify(${account})`)], []);
  }
});

upgrade("as if it had been installed just now", async () => {
  await migrate();
  const fresh = await createDatabase({ empty: true });
  try {
    await migrateUrl(fresh.url, { current: true, createHostTables: true });
    assert.fixture(await schemaText(sql), await schemaText(fresh.sql));
    const upgraded = await definitionsAndPrivileges(sql);
    const installedNow = await definitionsAndPrivileges(fresh.sql);
    const without = (some: string[], others: string[]) =>
      some.filter((line) => !others.includes(line));
    assert.equal(without(upgraded, installedNow), [], "only in the upgraded database");
    assert.equal(without(installedNow, upgraded), [], "only in a fresh one");
  } finally {
    await fresh.drop();
  }
});

upgrade("settings, totals and the history of runs stay", async () => {
  const kept = async () => [
    ...(await sql`
      select account_id, reporting_timezone, reporting_events_rollup, write_mode from rollup.account_settings order by 1`),
    ...(await sql`
      select id, account_id, from_date, to_date, state from rollup.backfill_runs where state in ('done', 'failed') order by 1`),
    ...(await sql`select * from public.reporting_events order by id`),
  ];
  const old = await kept();
  await migrate();
  assert.equal(await kept(), old);
});

upgrade.run();
