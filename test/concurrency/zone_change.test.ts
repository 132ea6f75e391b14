/** Changing the zone while writers still act under the old one: coverage waits for them. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  accountIn,
  assertExact,
  assertExactEverywhere,
  cleanDays,
  newAccount,
  stored,
} from "../engine/support.js";
import { database } from "../support/database.js";
import { event, type Isolation, type Session, session, withSessions } from "./support.js";

const sql = database();
const isolations: Isolation[] = ["read committed", "repeatable read", "serializable"];

async function setZone(account: number, zone = "America/New_York"): Promise<void> {
  await sql.begin(async (tx) => {
    await tx`set local lock_timeout = '200ms'`;
    await tx`select rollup.set_reporting_timezone(${account}, ${zone})`;
  });
}

async function backfill(account: number): Promise<void> {
  await sql`select rollup.backfill(${account})`;
}

/** Starting from no zone, and from another one, whose writers do not take the lock that a rebuild needs. */
const beginnings: Record<string, () => Promise<number>> = {
  "a first zone": async () => newAccount(),
  "another zone": appending,
};

async function appending(): Promise<number> {
  const account = await accountIn("Asia/Tokyo");
  await sql`select rollup.set_write_mode(${account}, 'append')`;
  return account;
}

for (const [what, begin] of Object.entries(beginnings)) {
  for (const isolation of isolations) {
    test(`${what} beside a ${isolation} writer that has written before`, async () => {
      const account = await begin();
      await withSessions([isolation], async (writer) => {
        await writer.run(event(account));
        await setZone(account);
        await backfill(account);
        assert.is(await cleanDays(account), "{}");
        await writer.run(event(account, { conversation_id: 2 }));
        await writer.run("commit");
        await assertExact(account);
      });
      await backfill(account);
      await assertExactEverywhere(account);
    });
  }

  for (const isolation of ["repeatable read", "serializable"] as const) {
    test(`${what} beside a ${isolation} writer with an old snapshot that writes later (rule: backend_xmin)`, async () => {
      const account = await begin();
      await withSessions([isolation], async (writer) => {
        await writer.run("select 1 from public.accounts");
        await setZone(account);
        await backfill(account);
        await writer.run(event(account));
        await backfill(account);
        assert.is(await cleanDays(account), "{}");
        await writer.run(event(account, { conversation_id: 2, name: "conversation_resolved" }));
        await writer.run("commit");
        await assertExact(account);
      });
      await backfill(account);
      await assertExactEverywhere(account);
    });

    test(`${what} beside a ${isolation} writer whose old snapshot is then prepared`, async () => {
      const account = await begin();
      const name = `zone_change_${account}`;
      await withSessions([isolation], async (writer) => {
        await writer.run("select 1 from public.accounts");
        await setZone(account);
        await backfill(account);
        await writer.run(event(account));
        await writer.run(`prepare transaction '${name}'`);
      });
      await backfill(account);
      assert.is(await cleanDays(account), "{}");
      await sql.unsafe(`commit prepared '${name}'`);
      await assertExact(account);
      await backfill(account);
      await assertExactEverywhere(account);
    });
  }

  test(`${what} that is set while a younger writer is at it, and stays`, async () => {
    const account = await begin();
    await withSessions(["read committed", "read committed"], async (setter, writer) => {
      await setter.run(`select rollup.set_reporting_timezone(${account}, 'America/New_York')`);
      await writer.run(event(account));
      await setter.run("commit");
      await backfill(account);
      assert.is(await cleanDays(account), "{}");
      await writer.run("commit");
      await assertExact(account);
    });
    await backfill(account);
    await assertExactEverywhere(account);
  });

  test(`${what} and a rebuild in one transaction claim nothing`, async () => {
    const account = await begin();
    await withSessions(["read committed", undefined], async (setter, writer) => {
      await setter.run(`select rollup.set_reporting_timezone(${account}, 'America/New_York')`);
      await setter.run(`select rollup.backfill(${account})`);
      await writer.run(event(account));
      await setter.run("commit");
    });
    assert.is(await cleanDays(account), "{}");
    await backfill(account);
    await assertExactEverywhere(account);
  });

  test(`${what} that is rolled back leaves everything as it was`, async () => {
    const account = await begin();
    await sql.unsafe(event(account));
    const [days, rows] = [await cleanDays(account), await stored(account)];
    await withSessions(["read committed", undefined], async (setter, writer) => {
      await setter.run(`select rollup.set_reporting_timezone(${account}, 'America/New_York')`);
      await setter.run(`select rollup.backfill(${account})`);
      await setter.run(event(account));
      await writer.run("select 1");
      await setter.run("rollback");
    });
    assert.is(await cleanDays(account), days);
    assert.equal(await stored(account), rows);
    await setZone(account, "Pacific/Apia");
    await backfill(account);
    await assertExactEverywhere(account);
  });
}

test("a rebuild that began before the change claims nothing for the new zone", async () => {
  const account = await accountIn("Asia/Tokyo");
  await withSessions(["read committed", undefined], async (rebuild, writer) => {
    await rebuild.run(`select rollup.backfill(${account})`);
    await setZone(account);
    await writer.run(event(account));
    await rebuild.run("commit");
  });
  assert.is(await cleanDays(account), "{}");
  await backfill(account);
  await assertExactEverywhere(account);
});

test("a writer that holds the lock under the old zone appends under the new one (rule: applied generation)", async () => {
  const account = await accountIn("Asia/Tokyo");
  await withSessions(["read committed"], async (writer) => {
    await writer.run(event(account));
    await setZone(account);
    await writer.run(event(account, { conversation_id: 2 }));
    await writer.run("commit");
  });
  assert.is((await stored(account)).length, 3);
  await sql`select rollup.fold(${account})`;
  await assertExact(account);
  await backfill(account);
  await assertExactEverywhere(account);
});

test("a long reading transaction delays coverage, and nothing else", async () => {
  const account = await accountIn("Asia/Tokyo");
  await withSessions(["repeatable read", undefined], async (dump, writer) => {
    await dump.run("select count(*) from public.reporting_events");
    await setZone(account);
    await writer.run(event(account));
    await backfill(account);
    await writer.run(event(account, { conversation_id: 2 }));
    assert.is(await cleanDays(account), "{}");
    await assertExact(account);
    await dump.run("commit");
  });
  await backfill(account);
  await assertExactEverywhere(account);
});

test("once claimed, a later old snapshot does not hold up further days", async () => {
  const account = await accountIn("Asia/Tokyo", { covered: false });
  await sql`select rollup.backfill_date(${account}, '2026-02-11')`;
  await withSessions(["repeatable read"], async (dump) => {
    await dump.run("select count(*) from public.reporting_events");
    await backfill(account);
    await assertExactEverywhere(account);
  });
});

test("zones change again and again while writers of every age are open", async () => {
  const account = await appending();
  const open: Session[] = [];
  try {
    for (const [round, zone] of ["UTC", "America/Havana", "Asia/Tokyo", "Pacific/Apia"].entries()) {
      for (const isolation of isolations) {
        const writer = await session(isolation);
        open.push(writer);
        if (round % 2 === 0) await writer.run(event(account, { conversation_id: round }));
        else await writer.run("select 1 from public.accounts");
      }
      await setZone(account, zone);
      await backfill(account);
      for (const writer of open)
        await writer.run(event(account, { created_at: `2026-02-1${round} 23:30:00` }));
      await assertExact(account);
      await open.shift()?.run("commit");
      await sql`select rollup.fold(${account})`;
      await assertExact(account);
      await backfill(account);
      await assertExact(account);
    }
    for (const writer of open) await writer.run("commit");
    await assertExact(account);
  } finally {
    for (const writer of open) await writer.end();
  }
  await backfill(account);
  await assertExactEverywhere(account);
});

test("a barrier beyond the present transaction ids came from another server and counts as passed (rule)", async () => {
  const account = await accountIn("UTC", { covered: false });
  await sql`
    update rollup.account_coverage set barrier = (pg_current_xact_id()::text::bigint + 1000000)::text::xid8
    where account_id = ${account}`;
  await withSessions(["repeatable read"], async (reader) => {
    await reader.run("select count(*) from public.reporting_events");
    await backfill(account);
    await assertExactEverywhere(account);
  });
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
