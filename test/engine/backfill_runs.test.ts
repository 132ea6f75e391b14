/** Backfills in chunks: what the worker calls, one transaction a chunk. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Sql } from "../support/client.js";
import { connect, createDatabase, database } from "../support/database.js";
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
  error: string | null;
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

interface Step {
  outcome: string;
  chunk: number | null;
  events: string | null;
  error: string | null;
  state: string | null;
  wait_seconds: number | null;
}

async function step(run: string, on: Sql = sql): Promise<Step> {
  const [row] = await on<Step[]>`select * from rollup.continue_backfill(${run})`;
  return row as Step;
}

/** Makes rebuilds of an account fail, with this SQLSTATE. */
async function refuse(account: number, code: string): Promise<void> {
  await sql.unsafe(`
    create or replace function public.refuse() returns trigger language plpgsql as
      $$ begin raise exception using errcode = tg_argv[0], message = 'refused'; end $$;
    create trigger refuse before insert on rollup.reporting_events_rollups for each row
      when (new.account_id = ${account}) execute function public.refuse('${code}')`);
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
  assert.is((await step(id, scratch)).outcome, "begun");
  const { chunks_total } = await last(1, scratch);
  assert.ok(chunks_total >= 5);
  for (let chunk = 1; chunk <= chunks_total; chunk++) {
    const { outcome, wait_seconds, ...done } = await step(id, scratch);
    assert.equal([outcome, done.chunk, done.error], ["rebuilt", chunk, null]);
    assert.is(wait_seconds, chunk < chunks_total ? 0 : null);
    await assertExact(1, scratch);
    // Events move from one chunk to another in between, forwards and back.
    await scratch`update public.reporting_events set created_at = created_at + interval '9 days', conversation_id = 3 where id % 29 = ${chunk}`;
    await scratch`update public.reporting_events set created_at = created_at - interval '7 days', conversation_id = 4 where id % 31 = ${chunk}`;
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
  const { outcome, state: ended, wait_seconds } = await step(id, scratch);
  assert.equal([outcome, ended, wait_seconds], ["ended", "done", null]);
  await drop();
});

test("chunks are rebuilt in any order, with writers between them", async () => {
  const { sql: scratch, drop } = await createDatabase();
  await scratch.unsafe(
    "create or replace function rollup.chunk_events() returns bigint language sql immutable as 'select 40::bigint'",
  );
  await fill(scratch, 1, 30);
  await scratch`select rollup.set_reporting_timezone(1, 'America/New_York')`;
  const { id } = await last(1, scratch);
  await step(id, scratch);
  const { chunks_total } = await last(1, scratch);
  // Chunks that were tried more often come later.
  await scratch`update rollup.backfill_chunks set attempts = (chunk * 3) % ${chunks_total}`;
  const order: (number | null)[] = [];
  for (let n = 0; n < chunks_total; n++) {
    const { chunk } = await step(id, scratch);
    order.push(chunk);
    await scratch`update public.reporting_events set created_at = created_at + interval '9 days', conversation_id = 3 where id % 29 = ${chunk}`;
    await assertExact(1, scratch);
  }
  assert.not.equal(
    order,
    [...order].sort((a, b) => Number(a) - Number(b)),
  );
  assert.is((await last(1, scratch)).state, "done");
  assert.is(await cleanDays(1, scratch), "{(,)}");
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
  await untracked((behind) => insert(behind, account, {}));
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
  await step(id);
  const [cancelled] = await sql<Run[]>`select * from rollup.cancel_backfill(${id})`;
  assert.is(cancelled?.state, "cancelled");
  const { outcome, wait_seconds } = await step(id);
  assert.equal([outcome, wait_seconds], ["ended", null]);
  assert.is(await cleanDays(account), "{}");
  assert.is((await last(account)).state, "cancelled");
});

test("a chunk that fails is tried five times, longer and longer apart, then marked, and its days stay uncovered", async () => {
  const account = await accountIn("UTC", { covered: false });
  await untracked((behind) => insert(behind, account, {}));
  const { id } = await last(account);
  await step(id);
  await refuse(account, "P0001");
  try {
    const steps: Step[] = [];
    for (let attempt = 0; attempt < 5; attempt++) steps.push(await step(id));
    assert.equal(
      steps.map(({ outcome, error, state, wait_seconds }) => [outcome, error, state, wait_seconds]),
      [
        ["failed", "refused", "running", 2],
        ["failed", "refused", "running", 4],
        ["failed", "refused", "running", 8],
        ["failed", "refused", "running", 16],
        ["failed", "refused", "failed", null],
      ],
    );
  } finally {
    await sql`drop trigger refuse on rollup.reporting_events_rollups`;
  }
  assert.is(await cleanDays(account), "{}");
  assert.is((await last(account)).error, "chunk 1 (-infinity to infinity): refused");
});

test("other chunks go on before one that failed has its next turn", async () => {
  const account = await accountIn("UTC", { covered: false });
  await untracked((behind) => fill(behind, account, 4));
  const { id } = await last(account);
  await sql`select rollup.begin_backfill(${id})`;
  await sql`
    insert into rollup.backfill_chunks (account_id, run_id, chunk, from_date, to_date, events)
    select account_id, run_id, n, date '2026-01-01' + n, date '2026-01-01' + n, 8
    from rollup.backfill_chunks, generate_series(2, 3) as n where run_id = ${id}`;
  await sql`update rollup.backfill_chunks set to_date = '2026-01-02' where run_id = ${id} and chunk = 1`;
  await sql`update rollup.backfill_runs set chunks_total = 3 where id = ${id}`;
  await refuse(account, "P0001");
  const failed = await step(id);
  assert.equal([failed.chunk, failed.outcome, failed.wait_seconds], [1, "failed", 0]);
  await sql`drop trigger refuse on rollup.reporting_events_rollups`;
  assert.equal((await step(id)).wait_seconds, 0);
  assert.match((await last(account)).error ?? "", "chunk 1 (-infinity to 2026-01-02): refused");
  const before = await step(id);
  assert.equal([before.chunk, before.wait_seconds], [3, 2]);
  const mended = await step(id);
  assert.equal([mended.chunk, mended.outcome, mended.state], [1, "rebuilt", "done"]);
  assert.is((await last(account)).error, null);
});

for (const code of ["55000", "42501", "0A000"]) {
  test(`what fails with ${code} would fail again: it is tried once`, async () => {
    const account = await accountIn("UTC", { covered: false });
    await untracked((behind) => insert(behind, account, {}));
    const { id } = await last(account);
    await step(id);
    await refuse(account, code);
    const { outcome, state, wait_seconds } = await step(id);
    await sql`drop trigger refuse on rollup.reporting_events_rollups`;
    assert.equal([outcome, state, wait_seconds], ["failed", "failed", null]);
  });
}

test("a run that cannot begin fails after five attempts, or at once where another is no better", async () => {
  for (const [code, attempts] of [
    ["P0001", 5],
    ["55000", 1],
  ] as const) {
    const account = await accountIn("UTC", { covered: false });
    const { id } = await last(account);
    await sql.unsafe(`
      create or replace function public.refuse() returns trigger language plpgsql as
        $$ begin raise exception using errcode = tg_argv[0], message = 'refused'; end $$;
      create trigger refuse before insert on rollup.backfill_chunks for each row
        when (new.account_id = ${account}) execute function public.refuse('${code}')`);
    const steps: Step[] = [];
    for (let n = 0; n < attempts; n++) steps.push(await step(id));
    await sql`drop trigger refuse on rollup.backfill_chunks`;
    assert.ok(steps.every(({ outcome, error }) => outcome === "failed" && error === "refused"));
    assert.equal(
      steps.map(({ wait_seconds }) => wait_seconds),
      attempts === 1 ? [null] : [2, 4, 8, 16, null],
    );
    const run = await last(account);
    assert.equal([run.state, run.error], ["failed", "refused"]);
    assert.is((await step(id)).outcome, "ended");
  }
});

test("a lock that somebody has is waited for, without counting", async () => {
  const account = await accountIn("UTC", { covered: false });
  const { id } = await last(account);
  for (const state of ["pending", "running"]) {
    await sql.begin(async (other) => {
      await other`select rollup.lock_account(${account})`;
      const waiting = await step(id);
      assert.equal([waiting.outcome, waiting.state, waiting.wait_seconds], ["waiting", state, 2]);
      assert.match((await last(account)).error ?? "", `account ${account} is locked`);
    });
    await step(id);
    assert.is((await last(account)).error, null);
  }
  const [chunk] =
    await sql`select state, attempts from rollup.backfill_chunks where run_id = ${id}`;
  assert.equal({ ...chunk }, { state: "done", attempts: 1 });
});

test("a job that is not the run's any more ends", async () => {
  const account = await accountIn("UTC", { covered: false });
  const { id } = await last(account);
  const [job] = await sql`select job_id from rollup.backfill_runs where id = ${id}`;
  const [successor] = await sql`select rollup.queue_backfill(${id}) as id`;
  assert.not.equal(job?.job_id, successor?.id);
  const go = async (jobId: string) =>
    (await sql<Step[]>`select * from rollup.continue_backfill(${id}, ${jobId})`)[0] as Step;
  const old = await go(job?.job_id);
  assert.equal([old.outcome, old.state, old.wait_seconds], ["ended", "pending", null]);
  assert.is((await go(successor?.id)).outcome, "begun");
});

test("a step that waits for older transactions keeps whom it waits for, and begins when they have ended", async () => {
  const account = newAccount();
  const awaited = async () => {
    const [row] =
      await sql`select awaited from rollup.account_coverage where account_id = ${account}`;
    return row?.awaited as string[] | null;
  };
  const older = connect();
  const younger = connect();
  await older.unsafe("begin");
  await older.unsafe("select 1 from public.accounts");
  await sql`select rollup.set_reporting_timezone(${account}, 'UTC')`;
  assert.is(await awaited(), null);
  const { id } = await last(account);
  const waiting = await step(id);
  assert.equal([waiting.outcome, waiting.state, waiting.wait_seconds], ["waiting", "pending", 2]);
  assert.match(waiting.error ?? "", "older than the account's time zone");
  const [own] = await older<{ id: string }[]>`
    select virtualxid as id from pg_locks where locktype = 'virtualxid' and pid = pg_backend_pid()`;
  assert.ok((await awaited())?.includes(own?.id ?? ""));
  await younger.unsafe("begin");
  await younger.unsafe("select 1 from public.accounts");
  await older.unsafe("commit");
  assert.is((await step(id)).outcome, "begun");
  assert.equal(await awaited(), []);
  assert.is((await step(id)).outcome, "rebuilt");
  assert.is(await cleanDays(account), "{(,)}");
  for (const client of [older, younger]) await client.end();
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
