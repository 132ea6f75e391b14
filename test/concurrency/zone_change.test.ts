/** Changing the zone while writers still act under the old one: coverage waits for them. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  accountIn,
  assertExact,
  assertExactEverywhere,
  cleanDays,
  newAccount,
  pending,
  stored,
} from "../engine/support.js";
import { connect, database, databaseUrl, otherDatabase } from "../support/database.js";
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
    test(`${what} beside a ${isolation} writer with an old snapshot that writes later (rule: those that have only read so far too)`, async () => {
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
    await withSessions(["read committed", undefined], async (setter, writer) => {
      await setter.run(`select rollup.set_reporting_timezone(${account}, 'America/New_York')`);
      await writer.run("begin");
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
    assert.is(await pending(account, writer.sql), 1);
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

test("coverage waits for those that were there, not for those that came since (rule)", async () => {
  const account = await appending();
  await withSessions(["read committed", undefined], async (older, younger) => {
    await older.run(event(account));
    await setZone(account);
    await backfill(account);
    assert.is(await cleanDays(account), "{}");
    await younger.run("begin isolation level repeatable read");
    await younger.run("select 1 from public.accounts");
    await older.run("commit");
    await backfill(account);
    await assertExactEverywhere(account);
    await younger.run(event(account, { conversation_id: 2 }));
    await younger.run("commit");
    await assertExactEverywhere(account);
  });
});

test("coverage waits for what was prepared, not for what is prepared later (rule)", async () => {
  const account = await appending();
  const prepare = async (which: string, conversation_id: number) =>
    withSessions(["read committed"], async (writer) => {
      await writer.run(event(account, { conversation_id }));
      await writer.run(`prepare transaction '${which}_${account}'`);
    });
  await prepare("older", 1);
  await setZone(account);
  await backfill(account);
  assert.is(await cleanDays(account), "{}");
  await prepare("younger", 2);
  await backfill(account);
  assert.is(await cleanDays(account), "{}");
  await sql.unsafe(`commit prepared 'older_${account}'`);
  await backfill(account);
  await assertExactEverywhere(account);
  await sql.unsafe(`commit prepared 'younger_${account}'`);
  await assertExactEverywhere(account);
});

test("transactions of another server, from before a restore, are not waited for (rule)", async () => {
  const account = await accountIn("UTC", { covered: false });
  await sql`
    update rollup.account_coverage set awaited = '{1000000/7,4000000000,prepared}' where account_id = ${account}`;
  await withSessions(["repeatable read"], async (reader) => {
    await reader.run("select count(*) from public.reporting_events");
    await backfill(account);
    await assertExactEverywhere(account);
  });
});

test("a role that is not shown what others do waits for them all the same (rule)", async () => {
  const account = await appending();
  const role = `backfiller_${account}`;
  const name = new URL(databaseUrl).pathname.slice(1);
  const admin = connect({ superuser: true });
  try {
    await admin.unsafe(`
      create role ${role} login password 'secret';
      grant connect on database ${name} to ${role};
      grant select on public.reporting_events to ${role};
      grant usage on schema rollup, rollup_worker to ${role};
      grant all on all tables in schema rollup to ${role};
      grant all on all sequences in schema rollup to ${role};
      grant execute on all functions in schema rollup, rollup_worker to ${role}`);
    const ordinary = connect({
      url: otherDatabase(databaseUrl, name, { user: role, password: "secret" }),
    });
    await withSessions(["read committed"], async (writer) => {
      await writer.run(event(account));
      await setZone(account);
      await ordinary`select rollup.backfill(${account})`;
      assert.is(await cleanDays(account), "{}");
      await writer.run("commit");
      await assertExact(account);
    });
    await ordinary`select rollup.backfill(${account})`;
    await ordinary.end();
    await assertExactEverywhere(account);
  } finally {
    await admin.unsafe(`drop owned by ${role}; drop role ${role}`);
    await admin.end();
  }
});

test("an autovacuum is not waited for (rule)", async () => {
  const account = await accountIn("Asia/Tokyo");
  const admin = connect({ superuser: true });
  const vacuuming = async () => {
    const rows = await admin`
      select from pg_stat_activity
      where datname = current_database() and backend_type = 'autovacuum worker' and query like '%vacuumed%'`;
    return rows.length > 0;
  };
  try {
    // As slow as can be: a page every 100 ms.
    await sql.unsafe(`
      create table public.vacuumed (filler text) with (
        autovacuum_vacuum_threshold = 0, autovacuum_vacuum_scale_factor = 0, autovacuum_analyze_threshold = 1000000000,
        autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1
      );
      insert into public.vacuumed select repeat('x', 700) from generate_series(1, 10000);
      delete from public.vacuumed`);
    for (const deadline = Date.now() + 60_000; !(await vacuuming()); ) {
      if (Date.now() > deadline) throw new Error("no autovacuum came");
      await new Promise((done) => setTimeout(done, 100));
    }
    await setZone(account);
    await backfill(account);
    assert.ok(await vacuuming());
    await assertExactEverywhere(account);
  } finally {
    await sql`drop table public.vacuumed`;
    await admin.end();
  }
});

test("a change that is taken back in a savepoint does not keep the transaction from claiming", async () => {
  const account = await accountIn("Asia/Tokyo");
  await setZone(account);
  await sql.begin(async (tx) => {
    await tx.unsafe(`
      savepoint s;
      select rollup.set_reporting_timezone(${account}, 'UTC');
      rollback to s`);
    await tx`select rollup.backfill(${account})`;
  });
  await assertExactEverywhere(account);
});

test("a rebuild that fails, or is rolled back, has looked at nobody", async () => {
  const account = await appending();
  await withSessions(["read committed"], async (writer) => {
    await setZone(account, "UTC");
    await sql
      .begin(async (tx) => {
        await tx`select rollup.backfill(${account})`;
        throw new Error("back");
      })
      .catch(() => {});
    await writer.run(event(account));
    await setZone(account);
    await backfill(account);
    assert.is(await cleanDays(account), "{}");
    await writer.run("commit");
    await assertExact(account);
  });
  await backfill(account);
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
