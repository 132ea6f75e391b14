/** Writers of one account beside each other: nobody waits, nobody fails, and the numbers are right at every moment. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  accountIn,
  assertExactEverywhere,
  assertTotalsExactEverywhere,
  insert,
  pending,
  rollups,
  sqlstate,
  stored,
  untracked,
} from "../engine/support.js";
import { database } from "../support/database.js";
import { event, type Isolation, withSessions } from "./support.js";

const sql = database();
const isolations: Isolation[] = ["read committed", "repeatable read", "serializable"];

/** An account with three events of two conversations. */
async function filled(): Promise<number> {
  const account = await accountIn("America/New_York");
  await insert(
    sql,
    account,
    ...[1, 2, 2].map((conversation_id, n) => ({
      name: "conversation_bot_handoff",
      conversation_id,
      user_id: n,
      created_at: `2026-02-1${n} 12:00:00`,
    })),
  );
  return account;
}

for (const isolation of isolations) {
  for (const ending of ["commit", "rollback"]) {
    test(`A (${isolation}) stays open and then does a ${ending}, B, C and D go on`, async () => {
      const account = await filled();
      await withSessions([isolation, undefined, undefined, undefined], async (a, b, c, d) => {
        await a.run(event(account));
        for (const level of isolations) {
          for (const writer of [b, c, d])
            await writer.run(`set default_transaction_isolation = '${level}'`);
          await b.run(event(account, { conversation_id: 5, name: "conversation_resolved" }));
          await b.run(
            `${event(account, { conversation_id: 6 })}, ('reply_time', 1, ${account}, 7, 8, 9, '2026-02-12')`,
          );
          await c.run(
            `update public.reporting_events set conversation_id = 5, created_at = created_at + interval '1 day' where account_id = ${account} and user_id = 1`,
          );
          await d.run(
            `delete from public.reporting_events where account_id = ${account} and user_id = 2`,
          );
          await assertExactEverywhere(account);
        }
        assert.ok((await pending(account)) > 0);
        await sql`select rollup.fold(${account})`;
        await assertExactEverywhere(account);
        await a.run(ending);
        await assertExactEverywhere(account);
        await sql`select rollup.fold(${account})`;
        assert.is(await pending(account), 0);
        await assertExactEverywhere(account);
        assert.equal(
          [a, b, c, d].flatMap((writer) => writer.warnings),
          [],
        );
      });
    });
  }
}

test("A inserts, then updates a host row; B updates that row, then inserts: no deadlock", async () => {
  const account = await filled();
  await sql`insert into public.accounts (id, name) values (${account}, 'host')`;
  await withSessions(["read committed", "read committed"], async (a, b) => {
    await a.run("set local lock_timeout = '30s'");
    await a.run(event(account));
    await b.run(`update public.accounts set name = 'b' where id = ${account}`);
    const waiting = a.run(`update public.accounts set name = 'a' where id = ${account}`);
    await b.run(event(account, { conversation_id: 9 }));
    await b.run(
      `update public.reporting_events set value = 3 where account_id = ${account} and conversation_id = 9`,
    );
    await b.run("commit");
    await waiting;
    await a.run("commit");
  });
  await sql`select rollup.fold(${account})`;
  await assertExactEverywhere(account);
});

test("two transactions over two accounts in opposite order: no deadlock", async () => {
  const [one, two] = [await filled(), await filled()];
  await withSessions(["read committed", "read committed"], async (a, b) => {
    await a.run(event(one));
    await b.run(event(two));
    await a.run(event(two, { conversation_id: 2 }));
    await b.run(event(one, { conversation_id: 3 }));
    await a.run("commit");
    await b.run("commit");
  });
  for (const account of [one, two]) {
    await assertExactEverywhere(account);
    await sql`select rollup.fold(${account})`;
    await assertExactEverywhere(account);
  }
});

test("a lock taken in a savepoint that is rolled back is given to another, and taken again", async () => {
  const account = await filled();
  await withSessions(["read committed", undefined], async (a, b) => {
    await a.run("savepoint s");
    await a.run(event(account, { conversation_id: 20 }));
    await a.run("rollback to s");
    await b.run(event(account, { conversation_id: 21 }));
    assert.is(await pending(account), 0);
    await a.run(event(account, { conversation_id: 22 }));
    await b.run(event(account, { conversation_id: 23 }));
    assert.is(await pending(account), 1);
    await a.run("savepoint t");
    await a.run(`delete from public.reporting_events where account_id = ${account}`);
    await a.run("rollback to t");
    await a.run(event(account, { conversation_id: 24 }));
    await a.run("release t");
    await a.run("commit");
  });
  await assertExactEverywhere(account);
  await sql`select rollup.fold(${account})`;
  await assertExactEverywhere(account);
  assert.ok(
    (await stored(account)).some(
      (line) => line.includes("account") && line.startsWith("2026-02-11"),
    ),
  );
});

for (const ending of ["commit", "rollback"]) {
  test(`writers beside a rebuild that ends with a ${ending}`, async () => {
    const account = await filled();
    await withSessions(["read committed", undefined, "repeatable read"], async (a, b, c) => {
      await c.run("select 1 from public.accounts");
      await a.run(`select rollup.backfill(${account})`);
      await b.run(event(account, { conversation_id: 30 }));
      await b.run(
        `update public.reporting_events set conversation_id = 31 where account_id = ${account} and user_id = 1`,
      );
      await b.run(
        `delete from public.reporting_events where account_id = ${account} and user_id = 0`,
      );
      await c.run(event(account, { conversation_id: 32 }));
      await assertExactEverywhere(account);
      await c.run("commit");
      await assertExactEverywhere(account);
      await a.run(ending);
      await assertExactEverywhere(account);
    });
    await sql`select rollup.fold(${account})`;
    await assertExactEverywhere(account);
  });
}

test("a rebuild of a day waits for an open writer, gives up after 10 s naming it, and writers never wait", async () => {
  const account = await filled();
  await withSessions(["read committed", undefined], async (a, b) => {
    await a.run(event(account));
    const [holder] = await a.sql`select pg_backend_pid() as pid`;
    const rebuild = sql`select rollup.backfill_date(${account}, '2026-02-11')`.then(
      () => ({ code: "00000", message: "" }),
      (error: { code: string; message: string }) => error,
    );
    let writes = 0;
    const busy = setInterval(() => {
      writes++;
      void b.run(event(account, { conversation_id: writes }));
    }, 100);
    const { code, message } = await rebuild;
    clearInterval(busy);
    assert.is(code, "RU006");
    assert.match(message, String(holder?.pid));
    assert.ok(writes > 20);
    await a.run("commit");
  });
  await assertExactEverywhere(account);
});

test("writers beside a long rebuild (rule: one snapshot for events and deltas)", async () => {
  const account = await accountIn("America/New_York");
  await untracked(
    (behind) => behind`
      insert into public.reporting_events (name, value, account_id, user_id, inbox_id, conversation_id, created_at)
      select (array['conversation_bot_handoff', 'conversation_resolved', 'reply_time'])[1 + i % 3], i, ${account}, i % 9, i % 5, i,
        timestamp '2026-02-01' + i * interval '50 seconds'
      from generate_series(1, 30000) as i`,
  );
  await withSessions([undefined, undefined], async (a, b) => {
    let rebuilding = true;
    const rebuild = sql`select rollup.backfill(${account})`.then(() => {
      rebuilding = false;
    });
    let writes = 0;
    while (rebuilding) {
      writes++;
      await Promise.all([
        a.run(event(account, { conversation_id: writes })),
        b.run(`
          update public.reporting_events set user_id = 10, conversation_id = conversation_id + 1, created_at = created_at + interval '1 day'
          where id in (select id from public.reporting_events where account_id = ${account} and name = 'reply_time' limit 3)`),
      ]);
    }
    await rebuild;
    assert.ok(writes > 5);
  });
  await assertTotalsExactEverywhere(account);
  await sql`select rollup.fold(${account})`;
  await assertTotalsExactEverywhere(account);
});

test("a rebuild that waits is let in before further writers take the lock", async () => {
  const account = await filled();
  await withSessions(["read committed"], async (a) => {
    await a.run(event(account));
    const rebuild = sqlstate(sql`select rollup.backfill(${account})`);
    await new Promise((done) => setTimeout(done, 500));
    await a.run("commit");
    assert.is(await rebuild, "00000");
  });
  await assertExactEverywhere(account);
});

test("a lock on the host's table makes the rebuild give up, never the host", async () => {
  const account = await filled();
  await withSessions(["read committed"], async (a) => {
    // An autovacuum may have to make way first.
    await a.run("set local lock_timeout = 0");
    await a.run("lock table public.reporting_events in access exclusive mode");
    await a.run("set local lock_timeout = '200ms'");
    // Not for ever, should it wait without a timeout of its own.
    const code = await sqlstate(
      sql.begin(async (tx) => {
        await tx`set local statement_timeout = '60s'`;
        await tx`select rollup.backfill(${account})`;
      }),
    );
    assert.is(code, "RU006");
    await a.run(event(account));
    await a.run("commit");
  });
  await assertExactEverywhere(account);
});

test("a writer sees its own open changes in the rollups", async () => {
  const account = await filled();
  await withSessions(isolations, async (...writers) => {
    for (const writer of writers) {
      await writer.run(event(account, { name: "reply_time", created_at: "2026-03-01 12:00:00" }));
      const lines = await rollups(account, writer.sql);
      assert.ok(lines.includes(`2026-03-01 account ${account} reply_time 1 2 0`), lines.join("\n"));
    }
    for (const writer of writers) await writer.run("commit");
  });
  await assertExactEverywhere(account);
});

test.run();
