/** Applying the pending deltas. */
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Sql } from "../support/client.js";
import { connect, createDatabase, database } from "../support/database.js";
import { accountIn, assertExactEverywhere, insert, pending, sqlstate, stored } from "./support.js";

const sql = database();

async function fold(account: number | null = null): Promise<number> {
  const [row] = await sql<{ count: number }[]>`select rollup.fold(${account})::int as count`;
  return row?.count ?? 0;
}

async function appending(): Promise<number> {
  const account = await accountIn("UTC");
  await sql`select rollup.set_write_mode(${account}, 'append')`;
  return account;
}

test("fold applies what is pending, once, and says how much", async () => {
  const account = await appending();
  await insert(sql, account, {});
  await insert(sql, account, { user_id: 7 }, { user_id: 7 });
  assert.is(await fold(account), 2);
  const lines = [
    `2026-02-11 account ${account} first_response 3 3 3`,
    "2026-02-11 agent 7 first_response 2 2 2",
  ];
  assert.equal(await stored(account), lines);
  assert.is(await fold(account), 0);
  assert.equal(await stored(account), lines);
  await assertExactEverywhere(account);
});

test("fold of everybody", async () => {
  const accounts = [await appending(), await appending(), await appending()];
  for (const account of accounts) await insert(sql, account, {}, { user_id: account });
  assert.is(await fold(), 6);
  for (const account of accounts) {
    assert.is((await stored(account)).length, 2);
    await assertExactEverywhere(account);
  }
});

test("an account whose lock is taken is skipped, the others are not", async () => {
  const [busy, free] = [await appending(), await appending()];
  for (const account of [busy, free]) await insert(sql, account, {});
  await sql.begin(async (tx) => {
    await tx`select rollup.lock_account(${busy})`;
    assert.is(await fold(), 1);
    assert.is(await fold(busy), 0);
  });
  assert.is(await pending(busy), 1);
  assert.is((await stored(free)).length, 1);
  assert.is(await fold(busy), 1);
});

test("an account that cannot be folded stays as it was, with a warning, and holds up nobody", async () => {
  const [bad, good] = [await appending(), await appending()];
  for (const account of [bad, good]) await insert(sql, account, {});
  await sql.unsafe(`
    create function public.refuse() returns trigger language plpgsql as $$ begin raise 'refused'; end $$;
    create trigger refuse before insert on rollup.reporting_events_rollups for each row
      when (new.account_id = ${bad}) execute function public.refuse()`);
  const warnings: string[] = [];
  const client = connect({ onNotice: (notice) => warnings.push(String(notice.message)) });
  try {
    const [row] = await client`select rollup.fold() as count`;
    assert.is(row?.count, "1");
    assert.match(warnings.join("\n"), `account ${bad}`);
    assert.is(await pending(bad), 1);
    await assertExactEverywhere(bad);
    await assertExactEverywhere(good);
  } finally {
    await client.end();
    await sql`drop trigger refuse on rollup.reporting_events_rollups`;
  }
  assert.is(await fold(bad), 1);
  await assertExactEverywhere(bad);
});

test("a fold that is rolled back changes nothing", async () => {
  const account = await appending();
  await insert(sql, account, {});
  await sql
    .begin(async (tx) => {
      await tx`select rollup.fold(${account})`;
      throw new Error("back");
    })
    .catch(() => {});
  assert.is(await pending(account), 1);
  assert.equal(await stored(account), []);
  await assertExactEverywhere(account);
});

test("fold clears the rows of an old zone", async () => {
  const account = await accountIn("UTC");
  await insert(sql, account, {});
  await sql`select rollup.set_reporting_timezone(${account}, 'Asia/Tokyo')`;
  await fold();
  assert.equal(await stored(account), []);
});

test("a fold in small chunks is exact after each", async () => {
  const { sql: scratch, drop } = await createDatabase();
  await scratch.unsafe(
    "create or replace function rollup.fold_size() returns int language sql immutable as 'select 7'",
  );
  await scratch`select rollup.set_reporting_timezone(1, 'UTC')`;
  await scratch`select rollup.backfill(1)`;
  await scratch`select rollup.set_write_mode(1, 'append')`;
  for (let n = 0; n < 20; n++) {
    await insert(scratch, 1, {
      name: "conversation_bot_handoff",
      conversation_id: n % 4,
      user_id: n % 3,
      created_at: `2026-02-${10 + (n % 5)} 12:00:00`,
    });
    await scratch`update public.reporting_events set conversation_id = 2 where conversation_id = 3`;
  }
  await scratch`delete from public.reporting_events where user_id = 1`;
  const chunks: number[] = [];
  while (chunks.at(-1) !== 0) {
    const [row] = await scratch`select rollup.fold_account(1)::int as count`;
    chunks.push(row?.count);
    await assertExactEverywhere(1, scratch);
  }
  assert.ok(chunks.length > 4 && Math.max(...chunks) === 7, chunks.join());
  // fold() goes on until nothing is left.
  await insert(scratch, 1, ...Array.from({ length: 30 }, (_, user_id) => ({ user_id })));
  const [row] = await scratch`select rollup.fold(1)::int as count`;
  assert.is(row?.count, 30);
  assert.is(await pending(1, scratch), 0);
  await assertExactEverywhere(1, scratch);
  await drop();
});

test("an account whose writers always have its lock is folded all the same", async () => {
  const account = await accountIn("UTC");
  const ending = new AbortController();
  const write = async (client: Sql) => {
    while (!ending.signal.aborted)
      await client.begin(async (tx) => {
        await insert(tx as unknown as Sql, account, {});
        await tx`select pg_sleep(0.25)`;
      });
  };
  const clients = Array.from({ length: 4 }, () => connect());
  const writing = clients.map(write);
  try {
    const folding = connect();
    let folded = 0;
    for (let round = 0; round < 12; round++) {
      const [row] = await folding`select rollup.fold_account(${account})::int as count`;
      folded += row?.count;
      await sleep(100);
    }
    await folding.end();
    assert.ok(folded > 0);
    assert.ok((await pending(account)) < 20, `${await pending(account)} deltas are left`);
  } finally {
    ending.abort();
    await Promise.all(writing);
    await Promise.all(clients.map((client) => client.end()));
  }
  await assertExactEverywhere(account);
});

test("a fold queues for no lock where others may wait for its transaction", async () => {
  const account = await appending();
  await insert(sql, account, {});
  const other = connect();
  const before = async (statement: string) => {
    const started = performance.now();
    await sql.begin(async (tx) => {
      await tx.unsafe(statement);
      await tx`select rollup.fold_account(${account})`;
    });
    return performance.now() - started;
  };
  await other.begin(async (tx) => {
    await tx`select rollup.lock_account(${account})`;
    // A quarter of deadlock_timeout.
    assert.ok((await before("select")) > 230);
    assert.ok((await before("select pg_current_xact_id()")) < 200);
    assert.ok((await before("lock table public.reporting_events in access share mode")) < 200);
  });
  await other.end();
});

test("read committed only", async () => {
  const attempt = sql.begin("isolation level repeatable read", (tx) => tx`select rollup.fold()`);
  assert.is(await sqlstate(attempt), "RU004");
});

test.run();
