/** What the metrics that raw events answer mean, written out: bot numbers, unique conversations, percentiles, rates, the heat map. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { registryThatRemembersResolutions } from "../engine/support.js";
import { Random } from "../stress/random.js";
import { createDatabase, database } from "../support/database.js";
import {
  insertEvents,
  insertRandom,
  metrics,
  planOf,
  question,
  randomQuestion,
  rawMetrics,
  readerAccount,
  wrongAnswers,
} from "./support.js";

const sql = database();

function bot(name: "resolved" | "handoff", conversation_id: number | null, day: number, more = {}) {
  const created_at = `2026-02-${String(day).padStart(2, "0")} 12:00`;
  return { name: `conversation_bot_${name}`, conversation_id, created_at, ...more };
}

/** Of whole days of February 2026, UTC; checked against the raw events too. */
async function value(account: number, metric: string, from: number, to: number, more = {}) {
  const [since, until] = [from, to + 1].map((day) => `2026-02-${String(day).padStart(2, "0")}`);
  const asked = { ...question, account, metric, since: `${since}`, until: `${until}`, ...more };
  for (const read of ["aggregate", "timeseries"] as const)
    assert.equal(await wrongAnswers(sql, read, asked), [], `${read} ${metric}`);
  const [row] = await sql<{ value: string | null; count: string }[]>`
    select value, count from rollup.aggregate(
      ${account}, ${metric}, ${asked.since}, ${asked.until}, ${asked.dimension}, ${asked.id}, ${asked.businessHours})`;
  return row?.value;
}

async function days(account: number, metric: string, from: number, to: number) {
  const rows = await sql<{ value: string | null }[]>`
    select value from rollup.timeseries(
      ${account}, ${metric}, make_date(2026, 2, ${from})::timestamptz, make_date(2026, 2, ${to + 1})::timestamptz)`;
  return rows.map((row) => row.value);
}

test("a hand-off in the range takes away its conversation's bot resolutions", async () => {
  const account = await readerAccount("UTC");
  await insertEvents(sql, account, bot("resolved", 1, 10), bot("resolved", 2, 10));
  await insertEvents(sql, account, bot("handoff", 2, 10));
  assert.is(await value(account, "bot_resolutions_net_count", 10, 10), "1");
  assert.is(await value(account, "bot_resolutions_count", 10, 10), "2");
});

test("a day's count depends on the range, and does not add up", async () => {
  const account = await readerAccount("UTC");
  await insertEvents(sql, account, bot("resolved", 1, 10), bot("resolved", 2, 10));
  await insertEvents(sql, account, bot("handoff", 2, 11));
  assert.equal(await days(account, "bot_resolutions_net_count", 10, 11), ["1", "0"]);
  assert.equal(await days(account, "bot_resolutions_net_count", 10, 10), ["2"]);
  assert.is(await value(account, "bot_resolutions_net_count", 10, 11), "1");
  assert.is(await value(account, "bot_resolutions_net_count", 10, 10), "2");
  assert.is(await value(account, "bot_resolutions_net_count", 11, 11), "0");
});

test("a hand-off long before, of another agent or without a conversation takes nothing away", async () => {
  const account = await readerAccount("UTC");
  await insertEvents(
    sql,
    account,
    bot("handoff", 1, 1),
    bot("resolved", 1, 20, { user_id: 7 }),
    bot("handoff", null, 20, { user_id: 7 }),
    bot("resolved", null, 20, { user_id: 7 }),
  );
  assert.is(await value(account, "bot_resolutions_net_count", 15, 25), "2");
  await insertEvents(sql, account, bot("handoff", 1, 21, { user_id: 8 }));
  assert.is(await value(account, "bot_resolutions_net_count", 15, 25), "1");
  const agent = { dimension: "agent", id: 7 };
  assert.is(await value(account, "bot_resolutions_net_count", 15, 25, agent), "2");
});

test("rates: resolutions without a hand-off and conversations handed off come to 100 %", async () => {
  const account = await readerAccount("UTC");
  await insertEvents(
    sql,
    account,
    bot("resolved", 1, 10),
    bot("resolved", 2, 10),
    bot("resolved", 3, 11),
    bot("handoff", 3, 12),
    bot("handoff", 3, 12),
    bot("handoff", 4, 12),
  );
  assert.is(await value(account, "bot_resolution_rate", 10, 12), "50");
  assert.is(await value(account, "bot_handoff_rate", 10, 12), "50");
  assert.equal(await days(account, "bot_resolution_rate", 10, 13), ["100", "0", "0", "0"]);
  assert.equal(await days(account, "bot_handoff_rate", 10, 13), ["0", "0", "100", "0"]);
  await insertEvents(sql, account, bot("handoff", 5, 12));
  assert.is(await value(account, "bot_handoff_rate", 10, 12), "60");
  assert.is(await value(account, "bot_handoff_rate", 11, 11), "0");
  assert.is(await value(account, "bot_handoff_rate", 14, 15), null);
});

test("unique resolutions: 3 of 2 conversations", async () => {
  const account = await readerAccount("UTC");
  await insertEvents(
    sql,
    account,
    { created_at: "2026-02-10 12:00", conversation_id: 1 },
    { created_at: "2026-02-11 12:00", conversation_id: 1 },
    { created_at: "2026-02-11 13:00", conversation_id: 2 },
    { created_at: "2026-02-11 14:00", conversation_id: null },
  );
  assert.is(await value(account, "unique_resolutions_count", 10, 11), "2");
  assert.equal(await days(account, "unique_resolutions_count", 10, 11), ["1", "2"]);
});

test("medians and percentiles: between two values; what has none is apart", async () => {
  const account = await readerAccount("UTC");
  const at = { created_at: "2026-02-10 12:00", name: "reply_time" };
  await insertEvents(
    sql,
    account,
    ...[1, 2, 0.1, 10, null, 1e300].map((value) => ({ ...at, value, user_id: 7 })),
  );
  await sql`
    insert into public.reporting_events (name, value, account_id, created_at)
    values ('reply_time', 'NaN', ${account}, '2026-02-10'), ('reply_time', '-Infinity', ${account}, '2026-02-11')`;
  assert.is(await value(account, "median_reply_time", 10, 11), "1.5");
  assert.is(await value(account, "p90_reply_time", 10, 11), "7.600000000000001");
  assert.is(await value(account, "median_reply_time", 10, 11, { businessHours: true }), "0.5");
  assert.is(
    await value(account, "median_reply_time", 10, 11, { dimension: "agent", id: 7 }),
    "1.5",
  );
  assert.equal(await days(account, "median_reply_time", 9, 11), ["0", "1.5", null]);
  assert.is(await value(account, "median_reply_time", 11, 11), null);
});

test("an account or a range without events: 0, or NULL where nothing can be divided", async () => {
  const account = await readerAccount("UTC");
  const answers = async () => {
    const found = [];
    for (const metric of [...metrics, ...rawMetrics]) {
      found.push(`${metric} ${await value(account, metric, 10, 20)}`);
      assert.equal(await days(account, metric, 10, 11), ["0", "0"]);
    }
    return found;
  };
  const expected = [...metrics, ...rawMetrics].map(
    (metric) => `${metric} ${metric.endsWith("_count") ? 0 : null}`,
  );
  assert.equal(await answers(), expected);
  await insertEvents(sql, account, { created_at: "2026-01-31 23:59" }, bot("handoff", null, 12));
  assert.equal(await answers(), expected);
  const [cells] = await sql`
    select count(*)::int as cells, sum(count)::int as events
    from rollup.heat_map(${account}, 'resolutions_count', '2026-02-10', '2026-02-10')`;
  assert.equal({ ...cells }, { cells: 168, events: 0 });
});

test("the plan says why they are read raw", async () => {
  const account = await readerAccount("UTC");
  for (const [metric, reason] of [
    ["median_reply_time", "medians and percentiles do not follow from totals"],
    [
      "bot_resolutions_net_count",
      "a hand-off counts against the bot's resolutions in the whole range",
    ],
    ["bot_handoff_rate", "a hand-off counts against the bot's resolutions in the whole range"],
    ["unique_resolutions_count", "conversations of this event are not remembered"],
  ]) {
    const rows = await sql`
      select source, reason from rollup.read_plan(${account}, '2026-02-01', '2026-03-01', ${metric as string})`;
    assert.equal(
      rows.map((row) => ({ ...row })),
      [{ source: "raw", reason }],
    );
  }
});

test("the heat map: weekday and hour of the local clock, each hour where clocks repeat it", async () => {
  const account = await readerAccount("America/New_York");
  await insertEvents(
    sql,
    account,
    // 01:30 twice on a Sunday; 23:30 on a Monday, which is Tuesday in UTC.
    { created_at: "2025-11-02 05:30" },
    { created_at: "2025-11-02 06:30" },
    { created_at: "2025-11-04 04:30", user_id: 7 },
  );
  const cells = async (more: string) => {
    const rows = await sql.unsafe<{ cell: string }[]>(`
      select concat_ws(' ', weekday, hour, count) as cell
      from rollup.heat_map(${account}, 'avg_resolution_time', '2025-11-01', '2025-12-01'${more}) where count > 0`);
    return rows.map(({ cell }) => cell);
  };
  assert.equal(await cells(""), ["0 1 2", "1 23 1"]);
  assert.equal(await cells(", 'agent', 7, 'UTC'"), ["2 4 1"]);
});

test("unique conversations where the event is remembered: from rollups, the same", async () => {
  const { sql: on, drop } = await createDatabase();
  const random = new Random(14);
  const zone = "America/Havana";
  const around = "2024-11-03 05:00";
  try {
    await on.unsafe(await registryThatRemembersResolutions());
    await on`select rollup.set_reporting_timezone(1, ${zone}), rollup.set_reporting_events_rollup(1, true)`;
    await insertRandom(on, random, 1, around, 200);
    await on`select rollup.backfill(1)`;
    let fromRollups = 0;
    for (let round = 0; round < 40; round++) {
      if (round % 5 === 0) {
        await on`select rollup.set_write_mode(1, ${round % 2 === 0 ? "append" : "inline"})`;
        await insertRandom(on, random, 1, around, 10);
        await on`delete from public.reporting_events where id % 7 = ${random.int(7)}::int and random() < 0.3`;
      }
      if (round % 9 === 0) {
        await on`
          insert into rollup.dirty_marks (account_id, date, marked_at)
          select 1, date '2024-11-03' + ${random.int(30) - 15}::int, now()`;
      }
      const asked = {
        ...(await randomQuestion(on, random, 1, zone, around)),
        metric: "unique_resolutions_count",
      };
      const { faults, rollups } = await planOf(on, asked);
      assert.equal(faults, []);
      if (rollups) fromRollups++;
      for (const read of ["timeseries", "aggregate"] as const)
        assert.equal(await wrongAnswers(on, read, asked), [], JSON.stringify(asked));
    }
    assert.ok(fromRollups > 5, `${fromRollups} questions were answered from rollups`);
  } finally {
    await drop();
  }
});

test.run();
