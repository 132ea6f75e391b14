/** Distinct conversations: the ledger and the previous dates, for any order of inserts, updates and deletes. */
import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { createDatabase, database } from "../support/database.js";
import {
  accountIn,
  assertExactEverywhere,
  type Event,
  insert,
  pending,
  registryThatRemembersResolutions,
  rollups,
} from "./support.js";

const sql = database();

function handoff(conversation_id: number | null, day: number, more: Event = {}): Event {
  return {
    name: "conversation_bot_handoff",
    conversation_id,
    created_at: `2026-02-${String(day).padStart(2, "0")} 12:00:00`,
    ...more,
  };
}

/** COUNT(DISTINCT) of an account's hand-offs in February, by the previous dates alone. */
async function distinct(account: number, from: number, to: number): Promise<number> {
  const [row] = await sql<{ count: number }[]>`
    select coalesce(sum(count), 0)::int as count from rollup.previous_dates
    where account_id = ${account} and event_name = 'conversation_bot_handoff' and dimension_type = 'account'
      and date between make_date(2026, 2, ${from}) and make_date(2026, 2, ${to}) and previous_date < make_date(2026, 2, ${from})`;
  return row?.count ?? 0;
}

test("a conversation handed off on three days counts once over the range", async () => {
  const account = await accountIn("UTC");
  await insert(sql, account, handoff(1, 10), handoff(1, 11), handoff(2, 11), handoff(1, 12));
  assert.is(await distinct(account, 10, 12), 2);
  assert.is(await distinct(account, 10, 10), 1);
  assert.is(await distinct(account, 11, 12), 2);
  assert.is(await distinct(account, 12, 12), 1);
  assert.is(await distinct(account, 13, 28), 0);
});

test("dates in any order, a middle date that goes and comes back (rule: whole sequences)", async () => {
  const account = await accountIn("UTC");
  for (const day of [20, 5, 12, 27, 1, 12, 5]) {
    await insert(sql, account, handoff(1, day));
    await assertExactEverywhere(account);
  }
  for (const day of [12, 1, 27, 5]) {
    await sql`delete from public.reporting_events where account_id = ${account} and extract(day from created_at) = ${day}`;
    await assertExactEverywhere(account);
    await insert(sql, account, handoff(1, day + 1, { user_id: day }));
    await assertExactEverywhere(account);
  }
  assert.is(await distinct(account, 1, 28), 1);
});

test("several dates of one conversation in one statement (rule: whole sequences)", async () => {
  const account = await accountIn("UTC");
  await insert(sql, account, handoff(1, 3), handoff(1, 9), handoff(1, 6), handoff(2, 6));
  await sql`delete from public.reporting_events where account_id = ${account} and created_at >= '2026-02-06'`;
  await assertExactEverywhere(account);
  await sql`update public.reporting_events set created_at = created_at + interval '9 days' where account_id = ${account}`;
  await insert(sql, account, handoff(1, 2), handoff(1, 20), handoff(1, 11));
  await assertExactEverywhere(account);
  assert.is(await distinct(account, 1, 28), 1);
});

test("the same conversation at two agents counts once for the account", async () => {
  const account = await accountIn("UTC");
  await insert(sql, account, handoff(1, 10, { user_id: 7 }), handoff(1, 10, { user_id: 8 }));
  await insert(sql, account, handoff(1, 10, { user_id: 8, inbox_id: 3 }));
  assert.equal(await rollups(account), [
    `2026-02-10 account ${account} bot_handoffs_count 1 0 0`,
    "2026-02-10 agent 7 bot_handoffs_count 1 0 0",
    "2026-02-10 agent 8 bot_handoffs_count 1 0 0",
    "2026-02-10 inbox 3 bot_handoffs_count 1 0 0",
  ]);
  await sql`delete from public.reporting_events where account_id = ${account} and user_id = 7`;
  await assertExactEverywhere(account);
});

test("hand-offs without agent and inbox are one ledger row (rule: nulls not distinct)", async () => {
  const account = await accountIn("UTC");
  for (let n = 0; n < 3; n++) await insert(sql, account, handoff(1, 10));
  await insert(sql, account, handoff(1, 10, { user_id: 7 }));
  const ledger =
    await sql`select count, user_id from rollup.ledger where account_id = ${account} order by count`;
  assert.equal(
    ledger.map((row) => ({ ...row })),
    [
      { count: 1, user_id: "7" },
      { count: 3, user_id: null },
    ],
  );
  await sql`delete from public.reporting_events where account_id = ${account}`;
  assert.equal([...(await sql`select * from rollup.ledger where account_id = ${account}`)], []);
});

test("hand-offs without a conversation count nothing", async () => {
  const account = await accountIn("UTC");
  await insert(sql, account, handoff(null, 10));
  await insert(sql, account, handoff(null, 10), handoff(null, 11));
  assert.equal(await rollups(account), []);
  await assertExactEverywhere(account);
});

test("what is not counted distinctly is not remembered", async () => {
  const account = await accountIn("UTC");
  const resolved = (day: number) => handoff(1, day, { name: "conversation_resolved" });
  await insert(sql, account, resolved(10), resolved(10), resolved(11));
  await sql`select rollup.set_write_mode(${account}, 'append')`;
  await insert(sql, account, resolved(12));
  await insert(sql, account, resolved(12), resolved(13));
  await sql`select rollup.backfill_date(${account}, '2026-02-10')`;
  const [kept] = await sql`
    select (select count(*)::int from rollup.ledger where account_id = ${account}) as ledger,
      (select count(*)::int from rollup.previous_dates where account_id = ${account}) as previous_dates,
      (select count(conversation_id)::int from rollup.deltas where account_id = ${account}) as deltas,
      (select count(*)::int from rollup.deltas where account_id = ${account}) as pending`;
  assert.equal({ ...kept }, { ledger: 0, previous_dates: 0, deltas: 0, pending: 3 });
  assert.equal(
    (await rollups(account)).filter((line) => line.includes("resolutions_count")),
    [10, 11, 12, 13].map(
      (day) => `2026-02-${day} account ${account} resolutions_count ${day % 2 === 0 ? 2 : 1} 0 0`,
    ),
  );
  await assertExactEverywhere(account);
});

test("another event is remembered by a line in the registry and a backfill", async () => {
  const { sql: scratch, drop } = await createDatabase();
  await scratch`select rollup.set_reporting_timezone(1, 'America/Havana')`;
  await scratch`select rollup.backfill(1)`;
  const write = (rows: number) => scratch`
    insert into public.reporting_events (name, value, account_id, user_id, inbox_id, conversation_id, created_at)
    select case when random() < 0.3 then 'conversation_bot_handoff' else 'conversation_resolved' end, 1, 1,
      nullif(floor(random() * 3), 0), nullif(floor(random() * 3), 0), nullif(floor(random() * 9), 0),
      timestamp '2024-10-30' + random() * interval '9 days'
    from generate_series(1, ${rows}::int)`;
  /** COUNT(DISTINCT) of every range of days, by the previous dates and from the raw events. */
  const wrongRanges = () => scratch`
    with day as (select d::date as date from generate_series(timestamp '2024-10-29', '2024-11-08', '1 day') as d)
    select a.date as from, b.date as to, kept.count, raw.count
    from day as a join day as b on a.date <= b.date
    cross join lateral (
      select coalesce(sum(p.count), 0) as count from rollup.previous_dates as p
      where p.event_name::text = 'conversation_resolved' and p.dimension_type = 'account' and p.date between a.date and b.date
        and p.previous_date < a.date
    ) as kept
    cross join lateral (
      select count(distinct e.conversation_id) as count from public.reporting_events as e
      where e.name = 'conversation_resolved'
        and (e.created_at at time zone 'UTC' at time zone 'America/Havana')::date between a.date and b.date
    ) as raw
    where kept.count <> raw.count`;
  const daily = () => scratch`
    select r.date::text, r.count from rollup.daily_rollups as r
    where r.metric = 'unique_resolutions' and r.dimension_type = 'account' order by 1`;
  await write(60);
  assert.ok((await wrongRanges()).length > 0);

  await scratch.unsafe(await registryThatRemembersResolutions());
  assert.ok((await scratch`select rollup.verify(1)`).length > 0);
  await scratch`select rollup.backfill(1)`;
  assert.equal([...(await scratch`select rollup.verify(1)`)], []);
  assert.equal([...(await wrongRanges())], []);
  for (let round = 0; round < 12; round++) {
    await scratch`select rollup.set_write_mode(1, ${round % 3 === 0 ? "append" : "inline"})`;
    await write(1 + (round % 4));
    await scratch`update public.reporting_events set created_at = created_at + interval '30 hours' where random() < 0.1`;
    await scratch`delete from public.reporting_events where random() < 0.1`;
    assert.equal([...(await scratch`select rollup.verify(1)`)], []);
    const raw = await scratch`
      select (e.created_at at time zone 'UTC' at time zone 'America/Havana')::date::text as date, count(distinct e.conversation_id) as count
      from public.reporting_events as e where e.name = 'conversation_resolved' and e.conversation_id is not null group by 1 order by 1`;
    assert.equal([...(await daily())], [...raw]);
    if (round % 4 === 3) {
      await scratch`select rollup.fold(1)`;
      assert.equal([...(await scratch`select rollup.verify(1)`)], []);
      assert.equal([...(await wrongRanges())], []);
    }
  }

  // And forgotten again: the same the other way round.
  await scratch.unsafe(
    await readFile(resolve(import.meta.dirname, "../../sql/11_registry.sql"), "utf8"),
  );
  await scratch`select rollup.backfill(1)`;
  await assertExactEverywhere(1, scratch);
  const [left] = await scratch`
    select (select count(*)::int from rollup.ledger where event_name::text = 'conversation_resolved') as ledger,
      (select count(*)::int from rollup.previous_dates where event_name::text = 'conversation_resolved') as previous_dates,
      (select count(*)::int from rollup.reporting_events_rollups where metric = 'unique_resolutions') as rollups`;
  assert.equal({ ...left }, { ledger: 0, previous_dates: 0, rollups: 0 });
  await drop();
});

test("pending deltas make the ledger negative in between, and nothing is lost", async () => {
  const account = await accountIn("UTC");
  await sql`select rollup.set_write_mode(${account}, 'append')`;
  await insert(sql, account, handoff(1, 10), handoff(1, 12));
  await sql`select rollup.set_write_mode(${account}, 'inline')`;
  // Applied before the inserts are: the ledger says -1.
  await sql`delete from public.reporting_events where account_id = ${account} and created_at < '2026-02-11'`;
  const [row] =
    await sql`select min(count) as count from rollup.ledger where account_id = ${account}`;
  assert.is(row?.count, -1);
  await assertExactEverywhere(account);
  await insert(sql, account, handoff(1, 11));
  await assertExactEverywhere(account);
  await sql`select rollup.fold(${account})`;
  assert.is(await pending(account), 0);
  await assertExactEverywhere(account);
  assert.is(await distinct(account, 1, 28), 1);
});

test("a long random history, applied and pending by turns", async () => {
  const account = await accountIn("America/Havana");
  for (let round = 0; round < 40; round++) {
    await sql`select rollup.set_write_mode(${account}, ${round % 3 === 0 ? "append" : "inline"})`;
    await sql`
      insert into public.reporting_events (name, value, account_id, user_id, inbox_id, conversation_id, created_at)
      select case when random() < 0.9 then 'conversation_bot_handoff' else 'conversation_resolved' end, 1, ${account},
        nullif(floor(random() * 3), 0), nullif(floor(random() * 3), 0), floor(random() * 6),
        timestamp '2024-10-30' + random() * interval '9 days'
      from generate_series(1, ${1 + (round % 4)})`;
    await sql`
      update public.reporting_events
      set created_at = created_at + (random() - 0.5) * interval '4 days', conversation_id = floor(random() * 6)
      where account_id = ${account} and random() < 0.1`;
    await sql`delete from public.reporting_events where account_id = ${account} and random() < 0.15`;
    if (round % 7 === 0) await sql`select rollup.fold(${account})`;
    await assertExactEverywhere(account);
  }
});

test.run();
