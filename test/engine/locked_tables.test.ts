/** Tables of ours that others have locked, for alter, reindex or by hand: the host neither waits nor fails, and no number is wrong. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Sql } from "../support/client.js";
import { connect, createDatabase, database } from "../support/database.js";
import {
  accountIn,
  assertExact,
  assertExactEverywhere,
  cleanDays,
  handoff,
  insert,
  listening,
  operations,
  sqlstate,
} from "./support.js";

const sql = database();

const lockable = [
  "account_settings",
  "account_coverage",
  "deltas",
  "reporting_events_rollups",
  "ledger",
  "previous_dates",
  "dirty_marks",
];

/** Somebody holds a lock on a table of ours, for as long as this runs. */
async function whileLocked(statement: string, work: () => Promise<unknown>): Promise<void> {
  const holder = connect();
  try {
    await holder.unsafe("begin");
    await holder.unsafe(statement);
    await work();
    await holder.unsafe("commit");
  } finally {
    await holder.end();
  }
}

for (const table of lockable) {
  for (const mode of ["inline", "append"]) {
    for (const lock_timeout of ["0", "200ms"]) {
      test(`rollup.${table} is locked by another, ${mode}, host with lock_timeout ${lock_timeout}: it neither waits nor fails`, async () => {
        const account = await accountIn("UTC");
        await insert(sql, account, handoff, { name: "conversation_resolved" });
        await sql`select rollup.set_write_mode(${account}, ${mode})`;
        const client = connect({ settings: { lock_timeout, statement_timeout: "5s" } });
        await whileLocked(`lock table rollup.${table} in access exclusive mode`, async () => {
          for (const [what, operate] of Object.entries(operations)) {
            const started = performance.now();
            await operate(client, account);
            const took = performance.now() - started;
            assert.ok(took < 1500, `${what} took ${took} ms`);
          }
          const [own] = await client`select current_setting('lock_timeout') as lock_timeout`;
          assert.is(own?.lock_timeout, lock_timeout);
        });
        await client.end();
        await assertExact(account);
        await sql`select rollup.repair(${account})`;
        await assertExactEverywhere(account);
      });
    }
  }

  test(`45 firings in one transaction while rollup.${table} is locked wait once (rule: what has failed is not tried again)`, async () => {
    const account = await accountIn("UTC");
    await insert(sql, account, handoff);
    const client = connect({ settings: { statement_timeout: "5s" } });
    await whileLocked(`lock table rollup.${table} in access exclusive mode`, async () => {
      const started = performance.now();
      await client.begin(async (tx) => {
        for (let n = 0; n < 45; n++)
          await insert(tx as unknown as Sql, account, { ...handoff, conversation_id: n });
      });
      const took = performance.now() - started;
      // 45 times 50 ms would be 2.25 s.
      assert.ok(took < 1500, `${took} ms`);
    });
    await client.end();
    await assertExact(account);
    await sql`select rollup.repair(${account})`;
    await assertExactEverywhere(account);
  });
}

for (const table of ["account_settings", "deltas", "reporting_events_rollups"]) {
  test(`an alter of rollup.${table} waits behind a long reader: the host does not`, async () => {
    const account = await accountIn("UTC");
    await insert(sql, account, handoff);
    const [reader, admin] = [connect(), connect({ applicationName: "altering" })];
    const client = connect({ settings: { statement_timeout: "5s" } });
    await reader.unsafe("begin");
    await reader.unsafe(`select count(*) from rollup.${table}`);
    const altering = admin
      .unsafe(
        `alter table rollup.${table} add column added int; alter table rollup.${table} drop column added`,
      )
      .execute();
    for (;;) {
      const [waiting] = await sql`
        select from pg_locks as l join pg_stat_activity as a using (pid) where a.application_name = 'altering' and not l.granted`;
      if (waiting !== undefined) break;
    }
    for (const [what, operate] of Object.entries(operations)) {
      const started = performance.now();
      await operate(client, account);
      const took = performance.now() - started;
      assert.ok(took < 1500, `${what} took ${took} ms`);
    }
    await reader.unsafe("commit");
    await altering;
    for (const one of [reader, admin, client]) await one.end();
    await assertExact(account);
    await sql`select rollup.repair(${account})`;
    await assertExactEverywhere(account);
  });
}

test("deltas and dirty marks are locked both: the mark is waited for, whatever the host's lock_timeout, rather than missing (rule)", async () => {
  for (const lock_timeout of ["0", "200ms"]) {
    const account = await accountIn("UTC");
    await sql`select rollup.set_write_mode(${account}, 'append')`;
    const { client, warnings } = listening({ settings: { lock_timeout } });
    let marked: Promise<string> | undefined;
    await whileLocked(
      "lock table rollup.deltas, rollup.dirty_marks in access exclusive mode",
      async () => {
        marked = sqlstate(insert(client, account, handoff));
        const early = new Promise((done) => setTimeout(() => done("waits"), 800));
        assert.is(await Promise.race([marked, early]), "waits");
      },
    );
    assert.is(await marked, "00000");
    await client.end();
    assert.is(warnings.length, 1);
    assert.is(await cleanDays(account), "{}");
    await sql`select rollup.repair(${account})`;
    await assertExactEverywhere(account);
  }
});

test("truncate while the settings are locked marks whoever has rollups", async () => {
  const other = await createDatabase();
  const client = connect({ url: other.url });
  try {
    for (const account of [1, 2]) {
      await client`select rollup.set_reporting_timezone(${account}, 'UTC')`;
      await client`select rollup.backfill(${account})`;
      await insert(client, account, {});
    }
    const holder = connect({ url: other.url });
    await holder.unsafe("begin; lock table rollup.account_settings in access exclusive mode");
    const started = performance.now();
    await client`truncate public.reporting_events`;
    assert.ok(performance.now() - started < 1500);
    await holder.unsafe("commit");
    await holder.end();
    for (const account of [1, 2]) assert.is(await cleanDays(account, client), "{}");
  } finally {
    await client.end();
    await other.drop();
  }
});

test.run();
