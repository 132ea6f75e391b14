import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Sql } from "../support/client.js";
import { createDatabase, database } from "../support/database.js";
import { accountIn, everything, handoff, insert, rollups, sqlstate } from "./support.js";

const sql = database();

/** A year and two months of events every six hours, in New York, with rollups on. */
async function yearOfEvents(on: Sql, account: number): Promise<void> {
  await on`select rollup.set_reporting_events_rollup(${account}, true)`;
  await on`
    insert into public.reporting_events
      (name, value, value_in_business_hours, account_id, user_id, inbox_id, conversation_id, created_at)
    select (rollup.event_names())[1 + i % 5], i / 7.0, nullif(i % 11, 0), ${account}::int, i % 4, nullif(i % 3, 0), i % 97,
      timestamp '2024-12-01' + i * interval '6 hours'
    from generate_series(0, 1700) as i`;
  await on`
    insert into public.reporting_events (name, account_id, created_at) values ('of another kind', ${account}, '2025-01-01')`;
}

const reports = [
  "timeseries(%, 'resolutions_count', '2024-12-01 05:00Z', '2026-02-01 05:00Z', 'month')",
  "timeseries(%, 'avg_first_response_time', '2024-12-01 05:00Z', '2026-02-01 05:00Z', 'week', 'agent', 2)",
  "timeseries(%, 'bot_handoffs_count', '2024-12-01 05:00Z', '2026-02-01 05:00Z', 'quarter')",
  "timeseries(%, 'bot_handoffs_count', '2025-03-09 05:00Z', '2025-11-02 04:00Z', 'day', 'inbox', 1)",
  "aggregate(%, 'bot_handoffs_count', '2025-06-05 04:00Z', '2026-01-12 05:00Z')",
  "aggregate(%, 'bot_handoffs_count', '2025-11-01 04:00Z', '2025-11-02 04:00Z')",
  "aggregate(%, 'reply_time', '2025-03-10 04:00Z', '2026-01-12 23:59:59Z', p_business_hours => true)",
  "summary(%, 'agent', '2025-01-01 05:00Z', '2026-02-01 05:00Z')",
];

async function answers(on: Sql, account: number): Promise<string[]> {
  return Promise.all(
    reports.map(async (report) => {
      const rows = await on.unsafe(
        `select r::text as row from rollup.${report.replace("%", String(account))} as r`,
      );
      return JSON.stringify([...rows]);
    }),
  );
}

async function purgeAll(on: Sql, account: number): Promise<void> {
  for (;;) {
    const [step] = await on`select day from rollup.continue_purge(${account})`;
    if (step?.day === null) return;
  }
}

test("a year purged: every report of whole days is what it was, distinct counts across the seal included", async () => {
  const one = await createDatabase();
  try {
    const on = one.sql;
    await on`select rollup.set_reporting_timezone(1, 'America/New_York')`;
    await yearOfEvents(on, 1);
    await on`select rollup.backfill(1)`;
    const before = await answers(on, 1);
    await on`select rollup.seal(1, '2025-12-31')`;
    assert.equal(await answers(on, 1), before);
    const [asked] = await on`select rollup.purge(1, '2026-01-01') as deleted`;
    assert.is(asked?.deleted, "0");
    assert.equal(await answers(on, 1), before);
    await purgeAll(on, 1);
    assert.equal(await answers(on, 1), before);
    const [counts] = await on`
      select
        count(*) filter (where name = 'of another kind')::int as others,
        min((created_at at time zone 'UTC' at time zone 'America/New_York')::date) filter (where name <> 'of another kind')::text as first
      from public.reporting_events`;
    assert.equal(counts, { others: 1, first: "2026-01-01" });
    const [status] = await on`
      select purged::text, purged_events::int, purging from rollup.account_status where account_id = 1`;
    const [deleted] = await on`
      select 1701 - count(*)::int as events from public.reporting_events where name <> 'of another kind'`;
    assert.equal(status, {
      purged: "[2024-11-30,2026-01-01)",
      purged_events: deleted?.events,
      purging: false,
    });
    await on`select rollup.fold(1)`;
    await on`select rollup.backfill(1)`;
    await on`insert into rollup.dirty_marks values (1, '2026-01-10', now(), 'test')`;
    assert.equal(await answers(on, 1), before);
    await on`select rollup.repair(1)`;
    await on`update rollup.account_settings set generation = rollup.next_generation(generation)`;
    assert.equal(await answers(on, 1), before);
    await on`select rollup.backfill(1)`;
    assert.equal(await answers(on, 1), before);
    assert.equal([...(await on`select * from rollup.verify(1)`)], []);
    assert.is(await sqlstate(on`select rollup.backfill(1, '2025-01-01', '2025-12-31')`), "RU012");
    assert.is(await sqlstate(on`select rollup.unseal(1)`), "RU014");
  } finally {
    await one.drop();
  }
});

/** An account of two sealed days, the first of them purged. */
async function purgedAccount(): Promise<number> {
  const account = await accountIn("UTC");
  await sql`select rollup.set_reporting_events_rollup(${account}, true)`;
  await insert(sql, account, handoff, {}, { ...handoff, created_at: "2026-02-12 12:00:00" });
  await sql`select rollup.seal(${account}, '2026-02-12')`;
  await sql`select rollup.purge(${account}, '2026-02-12')`;
  await purgeAll(sql, account);
  return account;
}

test("reads that need purged raw events say so, and what would work", async () => {
  const account = await purgedAccount();
  const day = "'2026-02-11 00:00Z', '2026-02-12 00:00Z'";
  const refused = {
    "by hour": `timeseries(${account}, 'resolutions_count', ${day}, 'hour')`,
    "part of a day": `aggregate(${account}, 'bot_handoffs_count', '2026-02-11 01:00Z', '2026-02-13 00:00Z')`,
    "a day cut off at its end": `aggregate(${account}, 'resolutions_count', '2026-02-10 00:00Z', '2026-02-11 23:59:59Z')`,
    "another zone": `aggregate(${account}, 'resolutions_count', ${day}, p_timezone => 'Asia/Tokyo')`,
    percentiles: `aggregate(${account}, 'p90_first_response_time', ${day})`,
    "a heat map": `heat_map(${account}, 'resolutions_count', ${day})`,
    "its plan": `read_plan(${account}, '2026-02-11 01:00Z', '2026-02-12 00:00Z')`,
  };
  for (const [what, call] of Object.entries(refused)) {
    const { code, message, hint } = (await sql
      .unsafe(`select * from rollup.${call}`)
      .catch((error) => error)) as { code: string; message: string; hint: string };
    assert.is(code, "RU014", `${what}: ${message}`);
    assert.match(
      message,
      `needs raw events of account ${account} that were purged, of {[2026-02-11,2026-02-12)}`,
    );
    assert.match(hint, "whole days of UTC");
  }
  const right = [
    `aggregate(${account}, 'bot_handoffs_count', ${day})`,
    `aggregate(${account}, 'bot_handoffs_count', '2026-02-10 07:00Z', '2026-02-12 00:00Z')`,
    `aggregate(${account}, 'bot_handoffs_count', '2026-02-11 00:00Z', '2026-02-12 13:00Z')`,
    `aggregate(${account}, 'bot_handoffs_count', '2026-02-12 11:00Z', '2026-02-12 13:00Z', p_timezone => 'Asia/Tokyo')`,
  ];
  for (const call of right) {
    assert.equal(
      [...(await sql.unsafe(`select count from rollup.${call}`))],
      [{ count: "1" }],
      call,
    );
  }
  await sql`select rollup.set_reporting_events_rollup(${account}, false)`;
  assert.is(await sqlstate(sql.unsafe(`select * from rollup.${right[0]}`)), "RU014");
});

test("only sealed days are purged", async () => {
  const account = await accountIn("UTC");
  await insert(sql, account, {}, { created_at: "2026-02-12 12:00:00" });
  assert.is(await sqlstate(sql`select rollup.purge(${account}, '2026-02-12')`), "RU013");
  await sql`select rollup.seal(${account}, '2026-02-11')`;
  assert.is(await sqlstate(sql`select rollup.purge(${account}, '2026-02-13')`), "RU013");
  await sql`select rollup.purge(${account}, '2026-02-12')`;
  await purgeAll(sql, account);
  const left =
    await sql`select created_at::date::text as day from public.reporting_events where account_id = ${account}`;
  assert.equal([...left], [{ day: "2026-02-12" }]);
});

test("what comes late on a purged day counts, is never read raw, and goes with the next purge", async () => {
  const account = await purgedAccount();
  await insert(sql, account, { value: 4 });
  const late = `2026-02-11 account ${account} first_response 2 5 2`;
  assert.ok((await rollups(account)).includes(late));
  const before = await everything(account);
  await sql`select rollup.purge(${account}, '2026-02-13')`;
  await purgeAll(sql, account);
  assert.is(await everything(account), before);
  const left = await sql`select from public.reporting_events where account_id = ${account}`;
  assert.is(left.length, 0);
});

test("retention seals and purges whole months as they go by, off by default", async () => {
  const account = await accountIn("America/New_York");
  const apply = async (at: string) => {
    const [row] =
      await sql`select rollup.apply_retention(${account}, ${at}::timestamptz) as before`;
    await purgeAll(sql, account);
    return row?.before;
  };
  await insert(
    sql,
    account,
    { created_at: "2026-01-15 12:00:00" },
    { created_at: "2026-02-01 04:59:59" },
    { created_at: "2026-02-01 05:00:00" },
    { created_at: "2026-04-01 12:00:00" },
  );
  const kept = async () => {
    const [row] = await sql<{ first: string }[]>`
      select min(created_at)::text as first from public.reporting_events where account_id = ${account}`;
    return row?.first;
  };
  assert.is(await apply("2026-05-01 04:00Z"), null);
  for (const months of [0, -1])
    assert.is(await sqlstate(sql`select rollup.set_retention(${account}, ${months})`), "RU003");
  await sql`select rollup.set_retention(${account}, 3)`;
  // The month there begins four hours after that of UTC.
  assert.is(await apply("2026-05-01 03:59Z"), null);
  assert.is(await apply("2026-05-01 04:00Z"), "2026-02-01");
  assert.is(await kept(), "2026-02-01 05:00:00");
  assert.is(await apply("2026-05-01 04:00Z"), null);
  await sql`select rollup.set_retention(${account}, 1)`;
  assert.is(await apply("2026-05-01 04:00Z"), "2026-04-01");
  assert.is(await kept(), "2026-04-01 12:00:00");
  const [status] = await sql`
    select sealed_through::text, upper(purged)::text as purged_before, purged_events::int, retention_months
    from rollup.account_status where account_id = ${account}`;
  assert.equal(status, {
    sealed_through: "2026-03-31",
    purged_before: "2026-04-01",
    purged_events: 3,
    retention_months: 1,
  });
  await sql`select rollup.set_retention(${account}, null)`;
  assert.is(await apply("2027-05-01 04:00Z"), null);
});

test.run();
