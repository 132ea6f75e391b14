/** Rebuilding days from the raw events. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { createDatabase, database } from "../support/database.js";
import {
  accountIn,
  assertExact,
  assertExactEverywhere,
  cleanDays,
  type Event,
  everything,
  insert,
  newAccount,
  pending,
  rollups,
  sqlstate,
  stored,
  untracked,
} from "./support.js";

const sql = database();

async function backfillDate(account: number, date: string): Promise<string> {
  const [row] = await sql<
    { rows: string }[]
  >`select rollup.backfill_date(${account}, ${date}) as rows`;
  return row?.rows ?? "";
}

test("a day in New York, by hand", async () => {
  const account = await accountIn("America/New_York");
  const [agentA, agentB, inboxA, inboxB] = [11, 12, 21, 22];
  const events: Event[] = [
    { value: 100, value_in_business_hours: 60, user_id: agentA, inbox_id: inboxA },
    {
      value: 40,
      value_in_business_hours: 20,
      user_id: agentA,
      inbox_id: inboxA,
      created_at: "2026-02-12 04:59:59",
    },
    {
      name: "conversation_resolved",
      value: 200,
      value_in_business_hours: 80,
      user_id: agentB,
      inbox_id: inboxB,
      conversation_id: 5,
    },
    {
      name: "reply_time",
      value: 9,
      user_id: agentA,
      inbox_id: inboxA,
      created_at: "2026-02-12 05:00:00",
    },
  ];
  const day = [
    `2026-02-11 account ${account} first_response 2 140 80`,
    `2026-02-11 account ${account} resolution_time 1 200 80`,
    `2026-02-11 account ${account} resolutions_count 1 0 0`,
    "2026-02-11 agent 11 first_response 2 140 80",
    "2026-02-11 agent 12 resolution_time 1 200 80",
    "2026-02-11 agent 12 resolutions_count 1 0 0",
    "2026-02-11 inbox 21 first_response 2 140 80",
    "2026-02-11 inbox 22 resolution_time 1 200 80",
    "2026-02-11 inbox 22 resolutions_count 1 0 0",
  ];
  await insert(sql, account, ...events);
  assert.equal((await stored(account)).slice(0, 9), day);
  await sql`delete from rollup.reporting_events_rollups where account_id = ${account} and date = '2026-02-11'`;
  assert.is(await backfillDate(account, "2026-02-11"), "9");
  assert.equal((await stored(account)).slice(0, 9), day);
  assert.is((await stored(account)).length, 12);
});

const handoffs: Event[] = [
  { conversation_id: 1, user_id: 11, inbox_id: 21 },
  { conversation_id: 1, user_id: 11, inbox_id: 21 },
  { conversation_id: 2, user_id: 11, inbox_id: 21 },
  { conversation_id: 3, user_id: 12, inbox_id: 22 },
].map((event) => ({ ...event, name: "conversation_bot_handoff", value: 5 }));

function handoffRows(account: number): string[] {
  return [
    `2026-02-11 account ${account} bot_handoffs_count 3 0 0`,
    "2026-02-11 agent 11 bot_handoffs_count 2 0 0",
    "2026-02-11 agent 12 bot_handoffs_count 1 0 0",
    "2026-02-11 inbox 21 bot_handoffs_count 2 0 0",
    "2026-02-11 inbox 22 bot_handoffs_count 1 0 0",
  ];
}

test("four hand-offs of three conversations, by trigger in one statement", async () => {
  const account = await accountIn("UTC");
  await insert(sql, account, ...handoffs);
  assert.equal(await stored(account), handoffRows(account));
});

test("four hand-offs of three conversations, by trigger one by one", async () => {
  const account = await accountIn("UTC");
  for (const handoff of handoffs) await insert(sql, account, handoff);
  assert.equal(await stored(account), handoffRows(account));
});

test("four hand-offs of three conversations, by backfill", async () => {
  const account = await accountIn("UTC");
  await untracked((behind) => insert(behind, account, ...handoffs));
  assert.equal(await stored(account), []);
  assert.is(await backfillDate(account, "2026-02-11"), "5");
  assert.equal(await stored(account), handoffRows(account));
});

test("a backfill counts null, NaN and infinite values and adds nothing", async () => {
  const account = await accountIn("UTC");
  const values = [null, Number.NaN, Infinity, -Infinity, 9.3e12];
  await untracked((behind) =>
    insert(behind, account, ...values.map((value) => ({ value, value_in_business_hours: value }))),
  );
  await backfillDate(account, "2026-02-11");
  assert.equal(await stored(account), [`2026-02-11 account ${account} first_response 5 0 0`]);
  const [row] = await sql`
    select count_value::int as values, count_value_business_hours::int as business from rollup.reporting_events_rollups where account_id = ${account}`;
  assert.equal({ ...row }, { values: 0, business: 0 });
  await assertExactEverywhere(account);
});

test("a day that cannot be rebuilt stands as it was", async () => {
  const account = await accountIn("UTC");
  for (let n = 0; n < 7; n++)
    await insert(sql, account, { value: 100, value_in_business_hours: 50 });
  await insert(sql, account, { name: "conversation_bot_handoff", conversation_id: 1 });
  await untracked((behind) =>
    insert(
      behind,
      account,
      { user_id: 8 },
      { name: "conversation_bot_handoff", conversation_id: 2 },
    ),
  );
  const before = await everything(account);
  await sql.unsafe(`
    create function public.refuse() returns trigger language plpgsql as $$ begin raise 'refused'; end $$;
    create trigger refuse before insert on rollup.reporting_events_rollups for each row
      when (new.account_id = ${account}) execute function public.refuse()`);
  try {
    assert.is(await sqlstate(sql`select rollup.backfill_date(${account}, '2026-02-11')`), "P0001");
  } finally {
    await sql`drop trigger refuse on rollup.reporting_events_rollups`;
  }
  assert.is(await everything(account), before);
  assert.ok(
    (await stored(account)).includes(`2026-02-11 account ${account} first_response 7 700 350`),
  );
  await sql`select rollup.backfill_date(${account}, '2026-02-11')`;
  await assertExactEverywhere(account);
});

test("after the trigger alone a backfill over everything changes nothing, to the last digit", async () => {
  const account = await accountIn("Asia/Kolkata");
  for (let n = 0; n < 300; n++) {
    await sql`
      insert into public.reporting_events (name, value, value_in_business_hours, account_id, user_id, inbox_id, conversation_id, created_at)
      select (array['conversation_resolved', 'first_response', 'reply_time', 'conversation_bot_handoff', 'conversation_bot_resolved'])
          [1 + floor(random() * 5)],
        random() * 10 ^ (random() * 9), random() * 1000, ${account}, nullif(floor(random() * 4), 0), nullif(floor(random() * 3), 0),
        nullif(floor(random() * 9), 0), timestamp '2026-01-01' + random() * interval '20 days'
      from generate_series(1, ${1 + (n % 3)})`;
    if (n % 5 === 0) {
      await sql`delete from public.reporting_events where id in (
        select id from public.reporting_events where account_id = ${account} order by random() limit 2)`;
    }
  }
  assert.is(await pending(account), 0);
  const before = await everything(account);
  await sql`select rollup.backfill(${account})`;
  assert.is(await everything(account), before);
  await assertExactEverywhere(account);
});

test("a middle day with hand-offs adjusts the previous dates of later days (rule: later dates by difference)", async () => {
  const account = await accountIn("UTC");
  const handoff = (conversation_id: number, day: number): Event => ({
    name: "conversation_bot_handoff",
    conversation_id,
    user_id: 11,
    created_at: `2026-02-${day} 12:00:00`,
  });
  await insert(sql, account, handoff(1, 10), handoff(1, 20), handoff(2, 20));
  await untracked((behind) =>
    insert(behind, account, handoff(1, 15), handoff(2, 15), handoff(3, 15)),
  );
  await backfillDate(account, "2026-02-15");
  await assertExactEverywhere(account);
  await untracked(
    (behind) =>
      behind`delete from public.reporting_events where account_id = ${account} and created_at::date = '2026-02-15'`,
  );
  await backfillDate(account, "2026-02-15");
  await assertExactEverywhere(account);
});

test("days are rebuilt in any order and size", async () => {
  const account = await accountIn("America/New_York", { covered: false });
  await untracked(
    (behind) => behind`
      insert into public.reporting_events (name, value, account_id, user_id, inbox_id, conversation_id, created_at)
      select (array['conversation_bot_handoff', 'conversation_resolved'])[1 + i % 2], i, ${account}, i % 3, i % 2, i % 7,
        timestamp '2026-01-01' + i * interval '5 hours'
      from generate_series(1, 200) as i`,
  );
  for (const [from, to] of [
    ["2026-01-20", "2026-01-25"],
    ["2026-01-05", "2026-01-06"],
    ["2026-01-22", "2026-02-20"],
    ["2026-01-01", "2026-01-10"],
  ] as [string, string][]) {
    await sql`select rollup.backfill(${account}, ${from}, ${to})`;
    await assertExact(account);
  }
  assert.is(await cleanDays(account), "{[2026-01-01,2026-01-11),[2026-01-20,2026-02-21)}");
  await sql`select rollup.backfill(${account}, null, '2026-01-31')`;
  assert.is(await cleanDays(account), "{(,2026-02-21)}");
  await sql`select rollup.backfill(${account})`;
  await assertExactEverywhere(account);
});

test("a history too large to be rebuilt or verified at once", async () => {
  const { sql: scratch, drop } = await createDatabase();
  const chunksOf = (events: number) =>
    scratch.unsafe(
      `create or replace function rollup.memory_chunk_events() returns bigint language sql immutable as 'select ${events}::bigint'`,
    );
  await scratch`select rollup.set_reporting_timezone(1, 'America/New_York')`;
  await scratch`
    insert into public.reporting_events (name, value, account_id, user_id, inbox_id, conversation_id, created_at)
    select (array['conversation_bot_handoff', 'conversation_resolved'])[1 + i % 2], i, 1, i % 3, i % 2, i % 7,
      timestamp '2026-01-01' + i * interval '5 hours'
    from generate_series(1, 200) as i`;
  await scratch`truncate rollup.reporting_events_rollups, rollup.ledger, rollup.previous_dates, rollup.deltas`;
  const rows = [];
  for (const events of [30, 199, 200]) {
    await chunksOf(events);
    const [result] = await scratch`select rollup.backfill(1) as rows`;
    rows.push(result?.rows);
    assert.is(await cleanDays(1, scratch), "{(,)}");
    await assertExactEverywhere(1, scratch);
  }
  assert.equal(new Set(rows).size, 1);

  await chunksOf(30);
  await scratch`select rollup.set_write_mode(1, 'append')`;
  await scratch`delete from public.reporting_events where id % 5 = 0`;
  await scratch`update public.reporting_events set conversation_id = 3 where id % 7 = 1`;
  assert.ok((await pending(1, scratch)) > 0);
  await assertExactEverywhere(1, scratch);
  await scratch`update rollup.reporting_events_rollups set sum_value = 0 where date = '2026-01-10' and metric = 'resolution_time'`;
  await scratch`delete from rollup.ledger where date = '2026-01-20'`;
  await scratch`update rollup.previous_dates set count = count + 1 where date = '2026-02-05'`;
  const damaged = async () => [
    ...(await scratch`
      select distinct structure, date from rollup.verify(1)
      where (structure, date) in (('rollup', '2026-01-10'), ('ledger', '2026-01-20'), ('previous_date', '2026-02-05'))`),
  ];
  assert.is((await damaged()).length, 3);
  await scratch`select rollup.repair(1)`;
  await assertExactEverywhere(1, scratch);
  await drop();
});

test("backfill removes what has no event any more, and returns the rows that its days have then", async () => {
  const account = await accountIn("UTC");
  await insert(sql, account, { user_id: 11 }, { user_id: 12, created_at: "2026-02-12 12:00:00" });
  await untracked(
    (behind) =>
      behind`delete from public.reporting_events where account_id = ${account} and user_id = 11`,
  );
  const [result] = await sql`select rollup.backfill(${account}) as rows`;
  assert.is(result?.rows, "2");
  assert.equal(await rollups(account), [
    `2026-02-12 account ${account} first_response 1 1 1`,
    "2026-02-12 agent 12 first_response 1 1 1",
  ]);
});

test("a backfill of what is right writes nothing and returns its rows", async () => {
  const account = await accountIn("UTC");
  await insert(
    sql,
    account,
    { user_id: 11, value: null },
    { name: "conversation_bot_handoff", conversation_id: 1 },
    { name: "conversation_bot_handoff", conversation_id: 1, created_at: "2026-02-13 12:00:00" },
  );
  const versions = () => sql`
    select 'rollup' as structure, r.ctid::text, r.xmin::text from rollup.reporting_events_rollups as r where account_id = ${account}
    union all select 'ledger', l.ctid::text, l.xmin::text from rollup.ledger as l where account_id = ${account}
    union all select 'previous_date', p.ctid::text, p.xmin::text from rollup.previous_dates as p where account_id = ${account}
    order by 1, 2`;
  const before = [...(await versions())];
  assert.is(before.length, 8);
  const [result] = await sql`select rollup.backfill(${account}) as rows`;
  assert.is(result?.rows, "4");
  assert.equal([...(await versions())], before);
  // Only what is wrong: one row of the day.
  await sql`update rollup.reporting_events_rollups set count_value = 1 where account_id = ${account} and dimension_type = 'agent'`;
  const damaged = [...(await versions())];
  assert.is(await backfillDate(account, "2026-02-11"), "3");
  const after = [...(await versions())];
  assert.is(
    after.filter(
      (row) =>
        !damaged.some((other) => other.ctid === row.ctid && other.structure === row.structure),
    ).length,
    1,
  );
  await assertExactEverywhere(account);
});

test("a row without anything, which opposite deltas may leave, goes with a rebuild", async () => {
  const account = await accountIn("UTC");
  const mode = (name: string) => sql`select rollup.set_write_mode(${account}, ${name})`;
  await mode("append");
  await insert(sql, account, { user_id: 1 });
  await mode("inline");
  await sql`delete from public.reporting_events where account_id = ${account}`;
  await insert(sql, account, { user_id: 1 });
  await mode("append");
  await sql`delete from public.reporting_events where account_id = ${account}`;
  await sql`select rollup.fold(${account})`;
  assert.equal(await rollups(account), []);
  await assertExactEverywhere(account);
  assert.is(await backfillDate(account, "2026-02-11"), "0");
  assert.equal(await stored(account), []);
  await assertExactEverywhere(account);
});

test("no events: 0, and the account is covered", async () => {
  const account = await accountIn("UTC", { covered: false });
  const [result] = await sql`select rollup.backfill(${account}) as rows`;
  assert.is(result?.rows, "0");
  assert.is(await cleanDays(account), "{(,)}");
});

test("backfill takes the pending deltas of its days, not those of others", async () => {
  const account = await accountIn("UTC");
  await sql`select rollup.set_write_mode(${account}, 'append')`;
  await insert(sql, account, {}, { created_at: "2026-02-12 12:00:00" });
  assert.is(await pending(account), 2);
  await backfillDate(account, "2026-02-11");
  assert.is(await pending(account), 1);
  await assertExactEverywhere(account);
});

test("errors", async () => {
  const account = await accountIn("UTC");
  const none = newAccount();
  const other = await accountIn("UTC");
  const state = (query: string) => sqlstate(sql.unsafe(query));
  assert.is(await state(`select rollup.backfill(null)`), "RU009");
  assert.is(await state(`select rollup.backfill_date(${account}, null)`), "RU009");
  assert.is(await state(`select rollup.backfill(${none})`), "RU002");
  assert.is(await state(`select rollup.backfill_date(${none}, '2026-01-01')`), "RU002");
  assert.is(await state(`select rollup.backfill(${account}, '2026-01-02', '2026-01-01')`), "RU003");
  assert.is(await state(`select rollup.backfill(${account}, '-infinity', '2026-01-01')`), "RU003");
  assert.is(await state(`select rollup.backfill(${account}, '2026-01-02', 'infinity')`), "RU003");
  assert.is(await state(`select rollup.backfill_date(${account}, 'infinity')`), "RU003");
  for (const level of ["repeatable read", "serializable"]) {
    assert.is(
      await sqlstate(
        sql.begin(`isolation level ${level}`, (tx) => tx`select rollup.backfill(${account})`),
      ),
      "RU004",
    );
  }
  const two = sql.begin(async (tx) => {
    await tx`select rollup.backfill(${account})`;
    await tx`select rollup.backfill_date(${account}, '2026-01-01')`;
    await tx`select rollup.backfill(${other})`;
  });
  assert.is(await sqlstate(two), "RU005");
});

test.run();
