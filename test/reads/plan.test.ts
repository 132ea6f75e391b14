/** Where a read takes its numbers from, why, and that it looks at no more than it needs. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Sql } from "../support/client.js";
import { connect, createDatabase, database } from "../support/database.js";
import { insertEvents, pages, question, readerAccount, wrongAnswers } from "./support.js";

const sql = database();

async function plan(account: number, call: string): Promise<string[]> {
  const rows = await sql.unsafe<{ line: string }[]>(`
    select concat_ws(' ', to_char(starts_at, 'MM-DD HH24:MI'), to_char(ends_at, 'MM-DD HH24:MI'), source, reason) as line
    from rollup.read_plan(${account}, ${call})`);
  return rows.map(({ line }) => line);
}

test("whole clean days from rollups, parts of days raw", async () => {
  const account = await readerAccount("America/New_York");
  assert.equal(await plan(account, "'2026-02-01 12:00Z', '2026-02-05 05:00Z'"), [
    "02-01 12:00 02-02 05:00 raw part of a day",
    "02-02 05:00 02-05 05:00 rollup clean",
  ]);
  assert.equal(await plan(account, "'2026-02-02 05:00Z', '2026-02-05 05:00:00.000001Z'"), [
    "02-02 05:00 02-05 05:00 rollup clean",
    "02-05 05:00 02-05 05:00 raw part of a day",
  ]);
  assert.equal(await plan(account, "'2026-02-02 06:00Z', '2026-02-02 06:00:01Z'"), [
    "02-02 06:00 02-02 06:00 raw part of a day",
  ]);
  assert.equal(await plan(account, "'2026-02-02 06:00Z', '2026-02-02 06:00Z'"), []);
});

test("a last day that ends a second early: the whole day from rollups, less what comes after", async () => {
  const account = await readerAccount("America/New_York");
  await insertEvents(
    sql,
    account,
    { created_at: "2026-02-02 06:00" },
    { created_at: "2026-02-05 04:59:58" },
    { created_at: "2026-02-05 04:59:59", value: null },
    { created_at: "2026-02-05 04:59:59.5" },
    { created_at: "2026-02-05 05:00" },
  );
  const since = "2026-02-02 05:00Z";
  const until = "2026-02-05 04:59:59Z";
  assert.equal(await plan(account, `'${since}', '${until}'`), [
    "02-02 05:00 02-04 05:00 rollup clean",
    "02-04 05:00 02-05 04:59 rollup clean, less the raw events after the end",
  ]);
  // Before noon, more would be taken off than added.
  assert.equal(await plan(account, `'${since}', '2026-02-04 16:59Z'`), [
    "02-02 05:00 02-04 05:00 rollup clean",
    "02-04 05:00 02-04 16:59 raw part of a day",
  ]);
  for (const metric of ["resolutions_count", "avg_resolution_time", "bot_handoffs_count"]) {
    for (const groupBy of ["day", "week", "month"]) {
      const asked = {
        ...question,
        account,
        since,
        until,
        metric,
        groupBy,
        zone: "America/New_York",
      };
      assert.equal(await wrongAnswers(sql, "timeseries", asked), []);
      assert.equal(await wrongAnswers(sql, "summary", asked), []);
      // A day of which all is taken off is empty.
      assert.equal(
        await wrongAnswers(sql, "timeseries", {
          ...asked,
          since: "2026-02-03 05:00Z",
          until: "2026-02-05 04:59:57Z",
        }),
        [],
      );
    }
  }
});

test("uncovered and dirty days raw", async () => {
  const account = await readerAccount("UTC");
  await sql`
    update rollup.account_coverage set covered = '{[2026-02-01,2026-02-10)}' where account_id = ${account}`;
  await sql`
    insert into rollup.dirty_marks (account_id, date, marked_at)
    values (${account}, '2026-02-05', now()), (${account}, '2026-03-05', now())`;
  assert.equal(await plan(account, "'2026-01-30', '2026-02-15'"), [
    "01-30 00:00 02-01 00:00 raw not covered",
    "02-01 00:00 02-05 00:00 rollup clean",
    "02-05 00:00 02-06 00:00 raw dirty",
    "02-06 00:00 02-10 00:00 rollup clean",
    "02-10 00:00 02-15 00:00 raw not covered",
  ]);
  await sql`insert into rollup.dirty_marks (account_id, date, marked_at) values (${account}, null, now())`;
  assert.equal(await plan(account, "'2026-02-01', '2026-02-10'"), [
    "02-01 00:00 02-10 00:00 raw dirty",
  ]);
});

test("all raw: no zone, the flag off, another zone, by hour", async () => {
  const account = await readerAccount("America/New_York");
  const range = "'2026-02-01 12:00Z', '2026-02-05 05:00Z'";
  const raw = (reason: string) => [`02-01 12:00 02-05 05:00 raw ${reason}`];
  assert.equal(await plan(account, `${range}, p_group_by => 'hour'`), raw("grouped by hour"));
  assert.equal(
    await plan(account, `${range}, p_timezone => 'UTC'`),
    raw("another time zone than the account's"),
  );
  assert.is((await plan(account, `${range}, p_timezone => 'america/NEW_york'`)).length, 2);
  await sql`select rollup.set_reporting_events_rollup(${account}, false)`;
  assert.equal(await plan(account, range), raw("the flag reporting_events_rollup is off"));
  await sql`select rollup.set_reporting_timezone(${account}, null)`;
  assert.equal(await plan(account, range), raw("the account has no reporting time zone"));
});

test("a new zone: raw until it is rebuilt, exact all the while", async () => {
  const account = await readerAccount("UTC");
  await insertEvents(
    sql,
    account,
    { created_at: "2026-02-03 23:30" },
    { created_at: "2026-02-04 00:30" },
  );
  const asked = { ...question, account, since: "2026-01-31 15:00Z", until: "2026-02-28 15:00Z" };
  assert.equal(await wrongAnswers(sql, "timeseries", asked), []);
  await sql`select rollup.set_reporting_timezone(${account}, 'Asia/Tokyo')`;
  assert.equal(await plan(account, "'2026-01-31 15:00Z', '2026-02-28 15:00Z'"), [
    "01-31 15:00 02-28 15:00 raw not covered",
  ]);
  assert.equal(await wrongAnswers(sql, "timeseries", { ...asked, zone: "Asia/Tokyo" }), []);
  await sql`select rollup.backfill(${account})`;
  assert.equal(await wrongAnswers(sql, "timeseries", { ...asked, zone: "Asia/Tokyo" }), []);
});

/** An account with a month of events, `perDay` a day, of 100 agents. */
async function monthOfEvents(on: Sql, account: number, perDay: number): Promise<void> {
  await on`
    insert into public.reporting_events
      (name, value, value_in_business_hours, account_id, user_id, inbox_id, conversation_id, created_at)
    select n.name, i, i, ${account}, i % 100, i % 3, i / 4, timestamp '2026-05-01' + d * interval '1 day' + i * interval '1 second'
    from generate_series(0, 30) d, generate_series(1, ${perDay}::int) i,
      unnest(array['first_response', 'conversation_resolved', 'conversation_bot_handoff']) n (name)`;
}

const tenYears = "'2020-01-01', '2030-01-01'";

test("ten years of an account with a month of events cost its days, not its events", async () => {
  const one = await createDatabase();
  try {
    await monthOfEvents(one.sql, 1, 400);
    await one.sql`select rollup.set_reporting_timezone(1, 'UTC'), rollup.set_reporting_events_rollup(1, true)`;
    await one.sql`select rollup.backfill(1)`;
    await one.sql`analyze`;
    const on = connect({ url: one.url });
    for (const [call, most] of [
      [`timeseries(1, 'avg_first_response_time', ${tenYears})`, 150],
      [`timeseries(1, 'avg_first_response_time', ${tenYears}, 'month', 'agent', 3)`, 150],
      [`timeseries(1, 'bot_handoffs_count', ${tenYears}, 'week')`, 150],
      [`aggregate(1, 'bot_handoffs_count', ${tenYears})`, 150],
      [`aggregate(1, 'resolutions_count', ${tenYears}, 'inbox', 1)`, 150],
      // A last day in part costs the events after its end.
      [`aggregate(1, 'resolutions_count', '2026-05-01', '2026-05-31 23:59:59Z')`, 60],
      [`aggregate(1, 'bot_handoffs_count', '2026-05-01', '2026-05-31 23:59:59Z')`, 60],
      [`read_plan(1, ${tenYears})`, 30],
      // Rows of 100 agents on 31 days and three metrics.
      [`summary(1, 'agent', ${tenYears})`, 100 * 31 * 3 * 1.2],
    ] as const) {
      const touched = await pages(on, `select * from rollup.${call}`);
      assert.ok(touched < most, `${call} touches ${touched} pages`);
    }
    await on.end();
  } finally {
    await one.drop();
  }
});

test("plans made while the tables were empty serve when they are full", async () => {
  const one = await createDatabase();
  try {
    await one.sql`select rollup.set_reporting_timezone(1, 'UTC'), rollup.set_reporting_events_rollup(1, true)`;
    await one.sql`select rollup.backfill(1)`;
    for (const table of ["reporting_events_rollups", "previous_dates", "ledger", "deltas"]) {
      await one.sql`alter table ${one.sql(`rollup.${table}`)} set (autovacuum_enabled = off)`;
    }
    await one.sql`alter table public.reporting_events set (autovacuum_enabled = off)`;
    // What the planner takes for granted to be empty.
    await one.sql`vacuum (analyze)`;
    const on = connect({ url: one.url });
    const calls = [
      `timeseries(1, 'avg_first_response_time', ${tenYears}, 'day', 'agent', 3)`,
      `aggregate(1, 'bot_handoffs_count', ${tenYears}, 'agent', 3)`,
      `timeseries(1, 'resolutions_count', '2026-05-03', '2026-05-20', 'day', 'agent', 3)`,
      // Raw.
      `timeseries(1, 'resolutions_count', '2026-05-03 00:01Z', '2026-05-03 00:02Z', 'hour')`,
    ];
    for (const call of calls) await on.unsafe(`select * from rollup.${call}`);
    const untracked = connect({
      url: one.url,
      superuser: true,
      settings: { session_replication_role: "replica" },
    });
    await monthOfEvents(untracked, 1, 400);
    await untracked.end();
    await one.sql`select rollup.backfill(1)`;
    const [table] = await one.sql<{ pages: number }[]>`
      select (pg_relation_size('rollup.reporting_events_rollups') / 8192)::int as pages`;
    for (const call of calls) {
      const touched = await pages(on, `select * from rollup.${call}`);
      assert.ok(
        touched < (table?.pages ?? 0) / 2,
        `${call} touches ${touched} of ${table?.pages} pages`,
      );
    }
    await on.end();
  } finally {
    await one.drop();
  }
});

test.run();
