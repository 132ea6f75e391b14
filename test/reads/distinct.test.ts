/** Distinct conversations over weeks, months and any other range: never the sum of the days. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { database } from "../support/database.js";
import { insertEvents, planOf, question, readerAccount, wrongAnswers } from "./support.js";

const sql = database();
const base = { ...question, metric: "bot_handoffs_count" };

function handoff(conversation_id: number | null, created_at: string, user_id: number | null = 7) {
  return { name: "conversation_bot_handoff", conversation_id, created_at, user_id, inbox_id: 3 };
}

/** Conversation 1 on three days of two weeks and two months, 2 twice on a day, one without a conversation. */
const history = [
  handoff(1, "2026-02-27 10:00"),
  handoff(1, "2026-02-28 10:00", 8),
  handoff(1, "2026-03-01 10:00"),
  handoff(2, "2026-03-01 11:00"),
  handoff(2, "2026-03-01 12:00"),
  handoff(null, "2026-03-01 13:00"),
  handoff(3, "2026-03-02 23:59:59.999999"),
];

async function series(account: number, groupBy: string, since: string, until: string) {
  const rows = await sql<{ line: string }[]>`
    select concat_ws(' ', to_char(period_start, 'MM-DD'), value, count) as line
    from rollup.timeseries(${account}, 'bot_handoffs_count', ${since}, ${until}, ${groupBy})`;
  return rows.map(({ line }) => line);
}

async function count(account: number, since: string, until: string, dimension = "account", id = 0) {
  const asked = { ...base, account, since, until, dimension, id: id === 0 ? null : id };
  assert.equal(await wrongAnswers(sql, "aggregate", asked), []);
  const [row] = await sql<{ count: string }[]>`
    select count from rollup.aggregate(
      ${account}, 'bot_handoffs_count', ${since}, ${until}, ${dimension}, ${asked.id})`;
  return Number(row?.count);
}

test("written out, from rollups", async () => {
  const account = await readerAccount("UTC");
  await insertEvents(sql, account, ...history);
  assert.equal(await series(account, "day", "2026-02-27", "2026-03-03"), [
    "02-27 1 1",
    "02-28 1 1",
    "03-01 2 2",
    "03-02 1 1",
  ]);
  assert.equal(await series(account, "week", "2026-02-27", "2026-03-03"), [
    "02-22 1 1",
    "03-01 3 3",
  ]);
  assert.equal(await series(account, "month", "2026-02-01", "2026-04-01"), [
    "02-01 1 1",
    "03-01 3 3",
  ]);
  assert.equal(await series(account, "year", "2026-01-01", "2027-01-01"), ["01-01 3 3"]);
  assert.is(await count(account, "2026-02-27", "2026-03-03"), 3);
  assert.is(await count(account, "2026-02-27", "2026-03-02"), 2);
  assert.is(await count(account, "2026-02-28", "2026-03-01"), 1);
  assert.is(await count(account, "2026-02-27", "2026-03-03", "agent", 8), 1);
  assert.is(await count(account, "2026-02-27", "2026-03-03", "agent", 7), 3);
  assert.is(await count(account, "2026-02-27", "2026-03-03", "inbox", 4), 0);
});

test("edges in the middle of a day add only conversations that the whole days do not have", async () => {
  const account = await readerAccount("UTC");
  await insertEvents(sql, account, ...history);
  // The whole days 28 and 1 have conversations 1 and 2.
  assert.is(await count(account, "2026-02-27 09:00Z", "2026-03-02 12:00Z"), 2);
  assert.is(await count(account, "2026-02-27 09:00Z", "2026-03-02 23:59:59.999999Z"), 2);
  assert.is(await count(account, "2026-02-27 09:00Z", "2026-03-03 00:00:00.000001Z"), 3);
  // No whole day at all.
  assert.is(await count(account, "2026-03-01 11:30Z", "2026-03-01 12:30Z"), 1);
  assert.is(await count(account, "2026-03-01 10:00Z", "2026-03-01 10:00Z"), 0);
});

test("a last day that ends early: what only comes after its end goes", async () => {
  const account = await readerAccount("UTC");
  await insertEvents(sql, account, ...history);
  // Conversation 3 has its only event after the end; 4 has one before it too, 1 on another day.
  await insertEvents(
    sql,
    account,
    handoff(4, "2026-03-02 13:00"),
    handoff(4, "2026-03-02 23:59:59.5"),
    handoff(1, "2026-03-02 23:59:59.5"),
  );
  const until = "2026-03-02 23:59:59Z";
  assert.is(await count(account, "2026-02-27", until), 3);
  assert.is(await count(account, "2026-03-02", until), 1);
  assert.is(await count(account, "2026-03-02", "2026-03-03"), 3);
  assert.equal(await series(account, "day", "2026-03-01", until), ["03-01 2 2", "03-02 1 1"]);
  assert.equal(await series(account, "week", "2026-02-27", until), ["02-22 1 1", "03-01 3 3"]);
  const plan = await sql`
    select source from rollup.read_plan(${account}, '2026-02-27', ${until}, 'bot_handoffs_count')`;
  assert.equal(
    plan.map(({ source }) => source),
    ["rollup", "rollup"],
  );
  // Pending deltas of that day, of either sign.
  await sql`select rollup.set_write_mode(${account}, 'append')`;
  await insertEvents(sql, account, handoff(5, "2026-03-02 23:59:59.5"));
  await sql`delete from public.reporting_events where account_id = ${account} and created_at = '2026-03-02 13:00'`;
  assert.is(await count(account, "2026-02-27", until), 2);
  assert.is(await count(account, "2026-03-02", "2026-03-03"), 4);
  // Not where the day's period is read raw for a gap in it.
  await sql`insert into rollup.dirty_marks (account_id, date, marked_at) values (${account}, '2026-03-01', now())`;
  for (const groupBy of ["day", "week", "month"]) {
    const asked = { ...base, account, since: "2026-02-20", until, groupBy };
    assert.equal(await wrongAnswers(sql, "timeseries", asked), []);
    assert.equal(await wrongAnswers(sql, "aggregate", asked), []);
  }
});

test("a hole in the coverage: its period is read raw, other periods are not", async () => {
  const account = await readerAccount("UTC");
  await insertEvents(sql, account, ...history);
  await sql`insert into rollup.dirty_marks (account_id, date, marked_at) values (${account}, '2026-02-27', now())`;
  assert.is(await count(account, "2026-02-01", "2026-04-01"), 3);
  assert.equal(await series(account, "month", "2026-02-01", "2026-04-01"), [
    "02-01 1 1",
    "03-01 3 3",
  ]);
  const plan = await sql`
    select starts_at::date::text, ends_at::date::text, source, reason
    from rollup.read_plan(${account}, '2026-02-01', '2026-04-01', 'bot_handoffs_count', 'month')`;
  const gaps = "distinct counts do not add up over the gaps in this period";
  assert.equal(
    plan.map((row) => Object.values(row).join(" ")),
    [
      `2026-02-01 2026-02-27 raw ${gaps}`,
      "2026-02-27 2026-02-28 raw dirty",
      `2026-02-28 2026-03-01 raw ${gaps}`,
      "2026-03-01 2026-04-01 rollup clean",
    ],
  );
  // Other metrics add up.
  const other = {
    ...question,
    account,
    since: "2026-02-01",
    until: "2026-04-01",
    groupBy: "month",
  };
  assert.ok((await planOf(sql, other)).rollups);
});

test("one piece at the end or in the middle of a period is used", async () => {
  for (const hole of [
    ["2026-02-01", "2026-02-28"],
    ["2026-03-01", "2026-03-01"],
  ]) {
    const account = await readerAccount("UTC");
    await insertEvents(sql, account, ...history);
    await sql`
      update rollup.account_coverage set covered = datemultirange(daterange('2026-02-20', '2026-03-20'))
        - datemultirange(daterange(${hole[0] ?? ""}, ${hole[1] ?? ""}, '[]'))
      where account_id = ${account}`;
    for (const groupBy of ["day", "week", "month", "quarter"]) {
      const asked = {
        ...base,
        account,
        since: "2026-02-10 05:00Z",
        until: "2026-03-25 05:00Z",
        groupBy,
      };
      assert.equal(await wrongAnswers(sql, "timeseries", asked), []);
    }
    assert.is(await count(account, "2026-02-10", "2026-03-20"), 3);
  }
});

test("pending deltas: what comes, goes and moves counts at once", async () => {
  const account = await readerAccount("UTC");
  await insertEvents(sql, account, ...history);
  await sql`select rollup.set_write_mode(${account}, 'append')`;
  await insertEvents(sql, account, handoff(1, "2026-01-15 10:00"), handoff(4, "2026-03-01 10:00"));
  assert.is(await count(account, "2026-03-01", "2026-03-02"), 3);
  assert.is(await count(account, "2026-01-01", "2026-04-01"), 4);
  assert.equal(await series(account, "month", "2026-01-01", "2026-04-01"), [
    "01-01 1 1",
    "02-01 1 1",
    "03-01 4 4",
  ]);
  // A negative delta of a stored row, and one of a delta.
  await sql`
    delete from public.reporting_events
    where account_id = ${account} and (conversation_id = 4 or conversation_id = 1 and created_at >= '2026-03-01')`;
  assert.equal(await series(account, "month", "2026-01-01", "2026-04-01"), [
    "01-01 1 1",
    "02-01 1 1",
    "03-01 2 2",
  ]);
  await sql`
    update public.reporting_events set created_at = created_at - interval '1 month', user_id = 9
    where account_id = ${account} and conversation_id = 2`;
  assert.equal(await series(account, "month", "2026-01-01", "2026-04-01"), [
    "01-01 1 1",
    "02-01 2 2",
    "03-01 1 1",
  ]);
  assert.is(await count(account, "2026-01-01", "2026-04-01", "agent", 9), 1);
  // An edge whose conversation only pending deltas have, or no longer have, in the whole days.
  assert.is(await count(account, "2026-01-14", "2026-03-01 10:30Z"), 2);
  const [pending] = await sql<{ deltas: string }[]>`
    select count(*) as deltas from rollup.deltas where account_id = ${account}`;
  assert.ok(Number(pending?.deltas) > 0);
});

test.run();
