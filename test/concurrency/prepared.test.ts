/** Prepared transactions, which hold the account's lock with no session to be seen. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { accountIn, assertExactEverywhere, pending, rollups } from "../engine/support.js";
import { database } from "../support/database.js";
import { event, type Isolation, withSessions } from "./support.js";

const sql = database();

for (const isolation of ["read committed", "repeatable read", "serializable"] as Isolation[]) {
  for (const ending of ["commit", "rollback"]) {
    test(`${isolation}, prepared, then a ${ending}: writers go on, the numbers are right`, async () => {
      const account = await accountIn("UTC");
      await sql.unsafe(event(account));
      await withSessions([isolation, undefined], async (a, b) => {
        await a.run(event(account, { conversation_id: 2 }));
        await a.run(event(account, { conversation_id: 3, name: "conversation_resolved" }));
        await a.run(`prepare transaction 'prepared_${account}'`);
        await b.run(event(account, { conversation_id: 4 }));
        await b.run(
          `delete from public.reporting_events where account_id = ${account} and conversation_id = 1`,
        );
        await assertExactEverywhere(account);
        await b.run(`${ending} prepared 'prepared_${account}'`);
        assert.equal([...a.warnings, ...b.warnings], []);
      });
      await assertExactEverywhere(account);
      await sql`select rollup.fold(${account})`;
      assert.is(await pending(account), 0);
      await assertExactEverywhere(account);
      const handoffs = ending === "commit" ? 2 : 1;
      assert.ok(
        (await rollups(account)).includes(
          `2026-02-11 account ${account} bot_handoffs_count ${handoffs} 0 0`,
        ),
      );
    });
  }
}

test("rebuilds name a prepared transaction that holds the account's lock", async () => {
  const account = await accountIn("UTC");
  await withSessions(["read committed"], async (a) => {
    await a.run(event(account));
    await a.run(`prepare transaction 'prepared_${account}'`);
  });
  const { code, message } = await sql`select rollup.backfill(${account})`.then(
    () => ({ code: "00000", message: "" }),
    (error: { code: string; message: string }) => error,
  );
  await sql.unsafe(`commit prepared 'prepared_${account}'`);
  assert.is(code, "RU006");
  assert.match(message, "prepared transaction");
  await assertExactEverywhere(account);
});

test.after(async () => {
  // A database with prepared transactions cannot be dropped.
  for (const {
    gid,
  } of await sql`select gid from pg_prepared_xacts where database = current_database()`) {
    await sql.unsafe(`rollback prepared '${gid}'`);
  }
});

test.run();
