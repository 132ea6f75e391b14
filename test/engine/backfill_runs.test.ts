/** Backfills in chunks: what the worker calls, one transaction a chunk. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Sql } from "../../src/database/connection.js";
import { createDatabase, database } from "../support/database.js";
import {
  accountIn,
  assertExact,
  assertExactEverywhere,
  cleanDays,
  insert,
  newAccount,
  sqlstate,
  untracked,
} from "./support.js";

const sql = database();

interface Run {
  id: string;
  from_date: string;
  to_date: string;
  state: string;
  chunks_total: number;
  chunks_done: number;
  chunks_failed: number;
  events: string;
  rows_written: string;
}

async function runs(account: number, on: Sql = sql): Promise<Run[]> {
  return [
    ...(await on<
      Run[]
    >`select * from rollup.backfill_runs where account_id = ${account} order by id`),
  ];
}

async function last(account: number, on: Sql = sql): Promise<Run> {
  return (await runs(account, on)).at(-1) as Run;
}

/** Days of 2026 with an event every three hours. */
async function fill(on: Sql, account: number, days: number): Promise<void> {
  await on`
    insert into public.reporting_events (name, value, account_id, user_id, conversation_id, created_at)
    select (array['conversation_bot_handoff', 'conversation_resolved', 'reply_time'])[1 + i % 3], i, ${account}, i % 3, i % 11,
      timestamp '2026-01-01' + i * interval '3 hours'
    from generate_series(1, ${days * 8}::int) as i`;
}

test("chunks are the whole range, without gap or overlap, never less than a day", async () => {
  const account = await accountIn("Asia/Kolkata");
  await untracked((behind) => fill(behind, account, 40));
  for (const [from, to] of [
    ["-infinity", "infinity"],
    ["2026-01-10", "2026-01-20"],
    ["2030-01-01", "2030-01-02"],
  ] as [string, string][]) {
    const chunks = await sql<{ from_date: string; to_date: string; events: string }[]>`
      select * from rollup.plan_chunks(${account}, ${from}, ${to}, 30) order by chunk`;
    assert.is(chunks[0]?.from_date, from);
    assert.is(chunks.at(-1)?.to_date, to);
    for (const [index, chunk] of chunks.slice(1).entries()) {
      const [row] =
        await sql`select ${chunks[index]?.to_date ?? ""}::date + 1 = ${chunk.from_date}::date as next`;
      assert.ok(row?.next);
    }
    if (from === "-infinity") assert.ok(chunks.length > 8);
  }
});

test("a run from beginning to end, with writers between its chunks", async () => {
  const { sql: scratch, drop } = await createDatabase();
  await scratch.unsafe(
    "create or replace function rollup.chunk_events() returns bigint language sql immutable as 'select 40::bigint'",
  );
  await fill(scratch, 1, 30);
  await scratch`select rollup.set_reporting_timezone(1, 'America/New_York')`;
  const { id, state } = await last(1, scratch);
  assert.is(state, "pending");
  await scratch`select rollup.plan_backfill(${id})`;
  const { chunks_total } = await last(1, scratch);
  assert.ok(chunks_total >= 5);
  // In any order, with events that move from one chunk to another in between.
  const order = Array.from({ length: chunks_total }, (_, n) => 1 + ((n * 3) % chunks_total));
  for (const chunk of [
    ...new Set([...order, ...Array.from({ length: chunks_total }, (_, n) => n + 1)]),
  ]) {
    const [row] = await scratch`select rollup.backfill_chunk(1, ${id}, ${chunk}) as state`;
    assert.is(row?.state, "done");
    await assertExact(1, scratch);
    await scratch`update public.reporting_events set created_at = created_at + interval '9 days', conversation_id = 3 where id % 29 = ${chunk}`;
    await insert(scratch, 1, {
      created_at: `2026-01-${10 + chunk} 12:00:00`,
      name: "conversation_bot_handoff",
      conversation_id: chunk,
    });
    await assertExact(1, scratch);
  }
  const run = await last(1, scratch);
  assert.equal([run.state, run.chunks_done, run.chunks_failed], ["done", chunks_total, 0]);
  assert.is(await cleanDays(1, scratch), "{(,)}");
  await assertExact(1, scratch);
  const [again] = await scratch`select rollup.backfill_chunk(1, ${id}, 1) as state`;
  assert.is(again?.state, "done");
  await drop();
});

test("a run that has not begun is extended, and settled by a backfill of its days", async () => {
  const account = await accountIn("UTC");
  await sql`select rollup.enqueue_backfill(${account}, '2026-01-10', '2026-01-20')`;
  const first = await last(account);
  await sql`select rollup.enqueue_backfill(${account}, '2026-01-15', '2026-01-25')`;
  const extended = await last(account);
  assert.equal(
    [extended.id, extended.from_date, extended.to_date],
    [first.id, "2026-01-10", "2026-01-25"],
  );
  await sql`select rollup.backfill(${account}, '2026-01-11', '2026-01-25')`;
  assert.is((await last(account)).state, "pending");
  await sql`select rollup.backfill(${account}, '2026-01-10', '2026-01-25')`;
  assert.is((await last(account)).state, "done");
  await sql`select rollup.enqueue_backfill(${account})`;
  const whole = await last(account);
  assert.equal([whole.from_date, whole.to_date, whole.state], ["-infinity", "infinity", "pending"]);
});

test("a rebuild under the old zone does not settle the run of the new one", async () => {
  const account = await accountIn("UTC");
  await insert(sql, account, {});
  await sql.unsafe(`
    create function public.dawdle() returns trigger language plpgsql as $$ begin perform pg_sleep(1); return new; end $$;
    create trigger dawdle before insert on rollup.reporting_events_rollups for each row
      when (new.account_id = ${account}) execute function public.dawdle()`);
  const rebuild = sql`select rollup.backfill(${account})`.then(() => {});
  await new Promise((done) => setTimeout(done, 400));
  await sql`select rollup.set_reporting_timezone(${account}, 'Asia/Tokyo')`;
  await rebuild;
  await sql`drop trigger dawdle on rollup.reporting_events_rollups`;
  assert.is(await cleanDays(account), "{}");
  assert.is((await last(account)).state, "pending");
  await sql`select rollup.backfill(${account})`;
  await assertExactEverywhere(account);
});

test("a cancelled run does no more, and keeps what it has done", async () => {
  const account = await accountIn("UTC", { covered: false });
  await insert(sql, account, {});
  const { id } = await last(account);
  await sql`select rollup.plan_backfill(${id})`;
  const [cancelled] = await sql<Run[]>`select * from rollup.cancel_backfill(${id})`;
  assert.is(cancelled?.state, "cancelled");
  const [chunk] = await sql`select rollup.backfill_chunk(${account}, ${id}, 1) as state`;
  assert.is(chunk?.state, "cancelled");
  assert.is(await cleanDays(account), "{}");
  assert.is((await last(account)).state, "cancelled");
});

test("a chunk that fails is tried five times, then marked, and its days stay uncovered", async () => {
  const account = await accountIn("UTC", { covered: false });
  const { id } = await last(account);
  await sql`select rollup.plan_backfill(${id})`;
  const states: string[] = [];
  for (let attempt = 0; attempt < 5; attempt++) {
    const [row] =
      await sql`select rollup.fail_backfill_chunk(${account}, ${id}, 1, 'P0001', 'refused') as state`;
    states.push(row?.state);
  }
  assert.equal(states, ["pending", "pending", "pending", "pending", "failed"]);
  assert.is((await last(account)).state, "failed");
  assert.is(await cleanDays(account), "{}");
});

test("errors", async () => {
  const account = await accountIn("UTC");
  const state = (query: string) => sqlstate(sql.unsafe(query));
  assert.is(await state("select rollup.enqueue_backfill(null)"), "RU009");
  assert.is(await state(`select rollup.enqueue_backfill(${newAccount()})`), "RU002");
  assert.is(
    await state(`select rollup.enqueue_backfill(${account}, '2026-01-02', '2026-01-01')`),
    "RU003",
  );
  assert.is(await state(`select rollup.enqueue_backfill(${account}, 'infinity')`), "RU003");
  assert.is(await state("select rollup.cancel_backfill(null)"), "RU009");
  assert.is(await state("select rollup.cancel_backfill(-1)"), "RU010");
});

test.run();
