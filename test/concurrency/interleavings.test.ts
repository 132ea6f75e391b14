/**
 * Sessions stopped between two steps of ours while others go on: at a lock where one will do, else at a gate in a
 * function of a database of the test's own.
 */
import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  accountIn,
  assertExact,
  assertExactEverywhere,
  cleanDays,
  pending,
  rollups,
  sqlstate,
  untracked,
} from "../engine/support.js";
import type { Sql } from "../support/client.js";
import { connect, createDatabase, database, databaseUrl, onServer } from "../support/database.js";
import { event, withSessions } from "./support.js";

const sql = database();

/** Functions of ours in which sessions called "gated" stop while the gate is shut. */
const gates = {
  try_lock_account: `
    create or replace function rollup.try_lock_account(p_account_id int) returns boolean language plpgsql as $$
    begin
      perform public.pass_gate();
      return pg_try_advisory_xact_lock(rollup.lock_class(), p_account_id);
    end $$`,
  local_date: `
    create or replace function rollup.local_date(p_created_at timestamp, p_timezone text) returns date language plpgsql stable as $$
    begin
      perform public.pass_gate();
      return (p_created_at at time zone 'UTC' at time zone p_timezone)::date;
    end $$`,
  open_transactions: `
    alter function rollup.open_transactions() rename to really_open_transactions;
    create function rollup.open_transactions() returns text[] language plpgsql as $$
    declare
      v_open text[] := rollup.really_open_transactions();
    begin
      perform public.pass_gate();
      return v_open;
    end $$`,
  lock_settings: `
    alter function rollup.lock_settings(int) rename to really_lock_settings;
    create function rollup.lock_settings(p_account_id int) returns rollup.account_settings language plpgsql as $$
    begin
      perform public.pass_gate();
      return rollup.really_lock_settings(p_account_id);
    end $$`,
  // A constant, which the planner asks for before the statement has its snapshot.
  distinct_event_names: `
    create or replace function rollup.distinct_event_names() returns text[] language plpgsql immutable as $$
    begin
      perform public.pass_gate();
      return enum_range(null::rollup.distinct_event)::text[];
    end $$`,
};

interface Gated {
  sql: Sql;
  /** Starts a statement and returns once it stands at the gate. */
  start(statement: string): Promise<void>;
  /** Opens the gate and waits for the statement's end. */
  open(): Promise<unknown>;
}

/** Account 1 in UTC, covered, in a database of its own with a gate, which is shut. */
async function withGate(
  at: keyof typeof gates,
  work: (gated: Gated) => Promise<unknown>,
): Promise<void> {
  const { sql: scratch, url, drop } = await createDatabase();
  const keeper = connect({ url });
  const stopped = connect({ url, applicationName: "gated" });
  let ending: Promise<unknown> | undefined;
  try {
    await scratch.unsafe(`
      create function public.pass_gate() returns void language plpgsql as $$
      begin
        while current_setting('application_name') = 'gated' and not pg_try_advisory_xact_lock_shared(1) loop
          perform pg_sleep(0.01);
        end loop;
      end $$;
      ${gates[at]}`);
    await scratch`select rollup.set_reporting_timezone(1, 'UTC')`;
    await scratch`select rollup.backfill(1)`;
    await keeper`select pg_advisory_lock(1)`;
    await work({
      sql: scratch,
      start: async (statement) => {
        ending = stopped.unsafe(statement).execute();
        ending.catch(() => {});
        await waiting(scratch, "gated", "PgSleep");
      },
      open: async () => {
        await keeper`select pg_advisory_unlock(1)`;
        await ending;
      },
    });
  } finally {
    for (const client of [keeper, stopped]) await client.end({ timeout: 1 });
    await drop();
  }
}

/** Returns once a session of that name waits for that. */
async function waiting(
  on: Sql,
  name: string,
  wait: "PgSleep" | "advisory" | "relation" | "transactionid",
) {
  for (const deadline = Date.now() + 10_000; ; ) {
    const [row] = await on`
      select from pg_stat_activity
      where datname = current_database() and application_name = ${name} and wait_event = ${wait}`;
    if (row !== undefined) return;
    if (Date.now() > deadline) throw new Error(`${name} never waited for ${wait}`);
    await pause(10);
  }
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((done) => setTimeout(done, milliseconds));
}

/** Runs something beside a session called "rebuild", whose statement's SQLSTATE it can ask for. */
async function besideRebuild(
  statement: string,
  work: (ended: Promise<string>) => Promise<unknown>,
): Promise<void> {
  const rebuild = connect({ applicationName: "rebuild", settings: { statement_timeout: "60s" } });
  try {
    await work(sqlstate(rebuild.unsafe(statement)));
  } finally {
    await rebuild.end({ timeout: 1 });
  }
}

test("a writer's ledger is the one its predecessor under the lock has left (rule: a statement of its own)", () =>
  withGate("try_lock_account", async (gated) => {
    await gated.sql.begin(async (tx) => {
      await tx.unsafe(event(1));
      await gated.start(event(1));
    });
    await gated.open();
    assert.is(await pending(1, gated.sql), 0);
    await assertExactEverywhere(1, gated.sql);
  }));

test("a fold applies the deltas that its predecessor under the lock has left (rule: a statement of its own)", () =>
  withGate("try_lock_account", async (gated) => {
    await gated.sql`select rollup.set_write_mode(1, 'append')`;
    await gated.sql.unsafe(event(1, { name: "reply_time" }));
    await gated.start("select rollup.fold(1)");
    await gated.sql`select rollup.fold(1)`;
    await gated.open();
    await assertExactEverywhere(1, gated.sql);
  }));

const late = { created_at: "2026-02-12 04:00:00", user_id: null, inbox_id: null };
const statements: Record<string, [statement: string, after: string[]]> = {
  "one event": [
    event(1, { ...late, name: "reply_time" }),
    ["2026-02-11 account 1 bot_handoffs_count 1 0 0", "2026-02-11 account 1 reply_time 1 2 0"],
  ],
  "one event of a conversation": [
    event(1, { ...late, conversation_id: 2 }),
    ["2026-02-11 account 1 bot_handoffs_count 2 0 0"],
  ],
  "several events": [
    `${event(1, { ...late, name: "reply_time" })}, ('x', null, null, null, null, null, now())`,
    ["2026-02-11 account 1 bot_handoffs_count 1 0 0", "2026-02-11 account 1 reply_time 1 2 0"],
  ],
  "a delete": ["delete from public.reporting_events", []],
};

for (const [what, [statement, after]] of Object.entries(statements)) {
  test(`the zone changes between a writer's first look at the settings and its lock: ${what} (rule: settings after the lock)`, () =>
    withGate("try_lock_account", async (gated) => {
      await gated.sql.unsafe(event(1, late));
      await gated.start(statement);
      await gated.sql`select rollup.set_reporting_timezone(1, 'America/New_York')`;
      await gated.sql`select rollup.backfill(1)`;
      await gated.open();
      assert.equal(await rollups(1, gated.sql), after);
      await gated.sql`select rollup.backfill(1)`;
      await assertExactEverywhere(1, gated.sql);
    }));
}

for (const [when, gate] of [
  ["while", "local_date"],
  ["before", "distinct_event_names"],
] as const) {
  test(`a writer commits ${when} a rebuild reads the events (rule: one snapshot for events and deltas)`, () =>
    withGate(gate, async (gated) => {
      await gated.sql.unsafe(event(1));
      await gated.start("select rollup.backfill_date(1, '2026-02-11')");
      await gated.sql.unsafe(event(1, { conversation_id: 2 }));
      await gated.open();
      await assertExactEverywhere(1, gated.sql);
    }));
}

test("a writer fails while a rebuild reads the events: its mark stays (rule: one snapshot for events and marks)", () =>
  withGate("local_date", async (gated) => {
    await gated.sql.unsafe(event(1));
    await gated.sql`alter table rollup.deltas add constraint refuse check (false) not valid`;
    await gated.start("select rollup.backfill_date(1, '2026-02-11')");
    await gated.sql.unsafe(event(1, { conversation_id: 2 }));
    await gated.open();
    assert.is(await cleanDays(1, gated.sql), "{(,2026-02-11),[2026-02-12,)}");
    await gated.sql`select rollup.repair(1)`;
    await assertExactEverywhere(1, gated.sql);
  }));

test("a zone changes, with a writer under the old one, just after a rebuild has looked who is there (rule: settings first)", () =>
  withGate("open_transactions", async (gated) => {
    await gated.sql`select rollup.set_write_mode(1, 'append')`;
    await gated.sql`select rollup.set_reporting_timezone(1, 'Asia/Tokyo')`;
    await gated.start("select rollup.backfill(1)");
    await gated.sql.begin(async (writer) => {
      await writer.unsafe(event(1));
      await gated.sql`select rollup.set_reporting_timezone(1, 'America/New_York')`;
      await gated.open();
      await assertExact(1, gated.sql);
    });
    await assertExact(1, gated.sql);
    await gated.sql`select rollup.backfill(1)`;
    await assertExactEverywhere(1, gated.sql);
  }));

test("an old writer that ends while a rebuild waits for it is not missed (rule: awaited before the statement)", async () => {
  const account = await accountIn("Asia/Tokyo");
  await sql`select rollup.set_write_mode(${account}, 'append')`;
  await withSessions(["read committed"], async (writer) => {
    await writer.run(event(account));
    await sql`select rollup.set_reporting_timezone(${account}, 'America/New_York')`;
    await besideRebuild(`select rollup.backfill(${account})`, async (ended) => {
      await waiting(sql, "rebuild", "PgSleep");
      await writer.run("commit");
      assert.is(await ended, "00000");
    });
  });
  await assertExact(account);
});

for (const isolation of ["repeatable read", "serializable"] as const) {
  test(`a ${isolation} writer with an old snapshot takes no lock (rule: in read committed only)`, async () => {
    const account = await accountIn("UTC");
    await withSessions([isolation], async (writer) => {
      await writer.run("select 1 from public.accounts");
      await sql.unsafe(event(account));
      await writer.run(event(account));
      await writer.run("commit");
      assert.equal(writer.warnings, []);
    });
    await assertExactEverywhere(account);
  });
}

test("two writers append the same event at once: neither waits for the other (rule: no unique key)", async () => {
  const account = await accountIn("UTC");
  await withSessions(["serializable", "repeatable read"], async (a, b) => {
    await a.run(event(account));
    await b.run(event(account));
    await b.run("commit");
    await a.run("commit");
    assert.equal([...a.warnings, ...b.warnings], []);
  });
  await assertExactEverywhere(account);
});

test("an account's settings are locked: writers go on (rule: no foreign key)", async () => {
  const account = await accountIn("UTC");
  await sql`select rollup.set_write_mode(${account}, 'append')`;
  await withSessions(["read committed", undefined], async (admin, writer) => {
    await admin.run(`select from rollup.account_settings where account_id = ${account} for update`);
    await writer.run(event(account));
    assert.equal(writer.warnings, []);
  });
  await assertExactEverywhere(account);
});

/** A test of deadlocks, with the deadlock_timeout that servers have and with a short one (rule: a quarter of it). */
function victimTest(title: string, work: () => Promise<unknown>): void {
  test(title, () => work().then(() => {}));
  test(`${title}, with a deadlock_timeout of 100 ms`, async () => {
    const name = new URL(databaseUrl).pathname.slice(1);
    await onServer((server) =>
      server.unsafe(`alter database ${name} set deadlock_timeout = '100ms'`),
    );
    try {
      await work();
    } finally {
      await onServer((server) => server.unsafe(`alter database ${name} reset deadlock_timeout`));
    }
  });
}

for (const [function_, call] of [
  ["a rebuild", "select rollup.backfill(%)"],
  ["a repair", "select rollup.repair(%)"],
] as const) {
  victimTest(
    `an open writer wants the host's table while ${function_} waits for its lock: the host is no deadlock's victim (rule)`,
    async () => {
      const account = await accountIn("UTC");
      await sql`insert into rollup.dirty_marks values (${account}, '2026-02-11', now(), 'test')`;
      await withSessions(["read committed"], async (host) => {
        await host.run(event(account));
        await besideRebuild(call.replace("%", String(account)), async (ended) => {
          await waiting(sql, "rebuild", "advisory");
          await pause(1200);
          await host.run("set local lock_timeout = '30s'");
          await host.run("lock table public.reporting_events in access exclusive mode");
          await host.run("commit");
          assert.is(await ended, "00000");
        });
      });
      await assertExactEverywhere(account);
    },
  );
}

for (const [what, first, wanted] of [
  ["table", "perform from public.reporting_events", "lock table public.reporting_events"],
  ["advisory lock", "perform pg_advisory_xact_lock(42)", "select pg_advisory_xact_lock(42)"],
] as const) {
  victimTest(
    `an open writer wants the ${what} that who waits for the account has: the host is no deadlock's victim (rule)`,
    async () => {
      const account = await accountIn("UTC");
      await withSessions(["read committed"], async (host) => {
        await host.run(event(account));
        const call = `do $$ begin ${first}; perform rollup.backfill(${account}); end $$`;
        await besideRebuild(call, async (ended) => {
          // It tries once, for as long as it may wait, seen or not.
          await Promise.race([waiting(sql, "rebuild", "advisory"), ended]);
          await host.run("set local lock_timeout = '30s'");
          await host.run(wanted);
          await host.run("commit");
          assert.is(await ended, "RU006");
        });
      });
      await assertExactEverywhere(account);
    },
  );
}

victimTest(
  "who has the host's table waits for the account's lock of a rebuild: is no deadlock's victim (rule)",
  async () => {
    const account = await accountIn("UTC");
    await withSessions(["read committed"], async (host) => {
      await host.run("lock table public.reporting_events in access exclusive mode");
      await besideRebuild(`select rollup.backfill(${account})`, async (ended) => {
        await waiting(sql, "rebuild", "relation");
        // Beyond the rebuild's own search for a deadlock.
        await pause(1200);
        // Whoever gives up first: to be told that the account is locked is no deadlock.
        for (let code = ""; code !== "00000"; ) {
          await host.run("savepoint s");
          code = await sqlstate(host.run(`select rollup.backfill(${account})`));
          assert.ok(["00000", "RU006"].includes(code), code);
          if (code !== "00000") await host.run("rollback to s");
        }
        await host.run("commit");
        assert.is(await ended, "00000");
      });
    });
    await assertExactEverywhere(account);
  },
);

for (const [table, call] of [
  ["ledger", "backfill_date(%, '2026-02-11')"],
  ["dirty_marks", "backfill(%)"],
  ["ledger", "repair(%)"],
] as const) {
  victimTest(
    `who locks our ${table} wants the host's table too: is no deadlock's victim of ${call} (rule)`,
    async () => {
      const account = await accountIn("UTC");
      await withSessions(["read committed"], async (host) => {
        await host.run(`lock table rollup.${table} in access exclusive mode`);
        const rebuild = `select rollup.${call.replace("%", String(account))}`;
        await besideRebuild(rebuild, async (ended) => {
          // It gives up after 300 ms, seen or not.
          await Promise.race([waiting(sql, "rebuild", "relation"), ended]);
          await host.run("set local lock_timeout = '30s'");
          await host.run("lock table public.reporting_events in access exclusive mode");
          assert.is(await ended, "55P03");
        });
      });
      await assertExactEverywhere(account);
    },
  );
}

victimTest(
  "who locks our ledger wants the host's table too: is no deadlock's victim of a run's chunk (rule)",
  async () => {
    const account = await accountIn("UTC", { covered: false });
    await untracked((behind) => behind.unsafe(event(account)));
    const [run] =
      await sql`select id from rollup.backfill_runs where account_id = ${account} and state = 'pending'`;
    await sql`select rollup.continue_backfill(${run?.id})`;
    const client = connect({ applicationName: "rebuild", settings: { statement_timeout: "60s" } });
    await withSessions(["read committed"], async (host) => {
      await host.run("lock table rollup.ledger in access exclusive mode");
      const stepped =
        client`select outcome, error from rollup.continue_backfill(${run?.id})`.execute();
      await Promise.race([waiting(sql, "rebuild", "relation"), stepped]);
      await host.run("set local lock_timeout = '30s'");
      await host.run("lock table public.reporting_events in access exclusive mode");
      assert.is((await stepped)[0]?.outcome, "waiting");
      await host.run("commit");
    });
    await client.end();
    await sql`select rollup.backfill(${account})`;
    await assertExactEverywhere(account);
  },
);

test("no wait of ours is longer than a quarter of deadlock_timeout, nor than 300 ms (rule)", async () => {
  const admin = connect({ superuser: true });
  for (const [deadlock_timeout, wait] of [
    ["1s", 250],
    ["100ms", 25],
    ["60s", 300],
    ["2ms", 1],
  ] as const) {
    await admin`select set_config('deadlock_timeout', ${deadlock_timeout}, false)`;
    const [row] = await admin`select rollup.lock_wait() as wait`;
    assert.is(row?.wait, wait);
  }
  await admin.end();
});

const removal = "delete from public.reporting_events where account_id = ";
const twoDays = `${event(1)}, ('conversation_bot_handoff', 2, 1, 7, 3, 1, '2026-02-12 12:00:00')`;
const neverSubtracted = [
  "2026-02-11 account 1 bot_handoffs_count 1 0 0",
  "2026-02-11 agent 7 bot_handoffs_count 1 0 0",
  "2026-02-11 inbox 3 bot_handoffs_count 1 0 0",
];

/** The rollups, which folding must not change. */
async function foldedAlike(account: number, on: Sql, expected: string[]): Promise<void> {
  assert.equal(await rollups(account, on), expected);
  await on`select rollup.fold(${account})`;
  assert.is(await pending(account, on), 0);
  assert.equal(await rollups(account, on), expected);
}

test("a delete begins before a seal and commits after it: it is not subtracted (rule: decided when applied or read)", async () => {
  const account = await accountIn("UTC");
  await sql`select rollup.set_write_mode(${account}, 'append')`;
  await sql.unsafe(event(account));
  await withSessions(["read committed"], async (host) => {
    await host.run(removal + account);
    await sql`select rollup.seal(${account}, '2026-02-11')`;
    await host.run("commit");
  });
  const kept = neverSubtracted.map((line) => line.replace("account 1", `account ${account}`));
  await foldedAlike(account, sql, kept);
  await sql`select rollup.backfill(${account})`;
  assert.equal(await rollups(account), kept);
});

test("an inline delete is under way: a seal waits, and it is subtracted", async () => {
  const account = await accountIn("UTC");
  await sql.unsafe(event(account));
  await withSessions(["read committed"], async (host) => {
    await host.run(removal + account);
    await besideRebuild(`select rollup.seal(${account}, '2026-02-11')`, async (ended) => {
      await waiting(sql, "rebuild", "advisory");
      await host.run("commit");
      assert.is(await ended, "00000");
    });
  });
  assert.equal(await rollups(account), []);
});

for (const many of [false, true]) {
  test(`a delete of ${many ? "several events" : "an event"} gets its lock after a seal: it is not subtracted from sealed days`, () =>
    withGate("try_lock_account", async (gated) => {
      await gated.sql.unsafe(many ? twoDays : event(1));
      await gated.start(`${removal} 1`);
      await gated.sql`select rollup.seal(1, '2026-02-11')`;
      await gated.open();
      await foldedAlike(1, gated.sql, neverSubtracted);
    }));
}

test("a delete commits after a seal has read the days and before it is there: it is not subtracted, as a whole", () =>
  withGate("lock_settings", async (gated) => {
    await gated.sql.unsafe(
      `${event(1)}, ('reply_time', 2, 1, 7, 3, 1, '2026-02-10 12:00:00'), ('reply_time', 2, 1, 7, 3, 1, '2026-02-12 12:00:00')`,
    );
    const before = (await rollups(1, gated.sql)).filter((line) => line < "2026-02-12");
    await gated.start("select rollup.seal(1, '2026-02-11')");
    await gated.sql.unsafe(`${removal} 1`);
    await gated.open();
    await foldedAlike(1, gated.sql, before);
  }));

test("inserts and updates commit after a seal has read the days and before it is there: they count", () =>
  withGate("lock_settings", async (gated) => {
    await gated.sql.unsafe(event(1, { name: "reply_time" }));
    await gated.start("select rollup.seal(1, '2026-02-11')");
    await gated.sql.unsafe("update public.reporting_events set value = 3");
    await gated.sql.unsafe(event(1, { conversation_id: 2 }));
    await gated.open();
    await assertExactEverywhere(1, gated.sql);
    await gated.sql`select rollup.fold(1)`;
    await assertExactEverywhere(1, gated.sql);
  }));

test("the zone changes after a seal has read the days: nothing is sealed (rule: the zone of sealed days)", () =>
  withGate("lock_settings", async (gated) => {
    await gated.sql.unsafe(event(1));
    await gated.start("select rollup.seal(1, '2026-02-11')");
    await gated.sql`select rollup.set_reporting_timezone(1, 'Asia/Tokyo')`;
    assert.is(await sqlstate(gated.open()), "RU013");
    assert.equal([...(await gated.sql`select rollup.sealed_through(1) as date`)], [{ date: null }]);
  }));

test("who changes the zone while a seal is about to commit waits, and is refused (rule: the zone of sealed days)", async () => {
  const account = await accountIn("UTC");
  await withSessions(["read committed"], async (sealing) => {
    await sealing.run(`select rollup.seal(${account}, '2026-02-11')`);
    await besideRebuild(
      `select rollup.set_reporting_timezone(${account}, 'Asia/Tokyo')`,
      async (ended) => {
        await Promise.race([ended, waiting(sql, "rebuild", "transactionid")]);
        await sealing.run("commit");
        assert.is(await ended, "RU012");
      },
    );
  });
});

test.run();
