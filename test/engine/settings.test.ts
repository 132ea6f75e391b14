/** What people decide for an account. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Sql } from "../support/client.js";
import { database } from "../support/database.js";
import {
  accountIn,
  assertExact,
  assertExactEverywhere,
  cleanDays,
  insert,
  newAccount,
  pending,
  rollups,
  sqlstate,
  stored,
} from "./support.js";

const sql = database();

interface Settings {
  account_id: number;
  reporting_timezone: string | null;
  reporting_events_rollup: boolean;
  write_mode: string;
  generation: string;
}

async function setZone(account: number, zone: string | null): Promise<Settings> {
  const [row] = await sql<
    Settings[]
  >`select * from rollup.set_reporting_timezone(${account}, ${zone})`;
  return row as Settings;
}

async function runs(account: number): Promise<number> {
  const [row] =
    await sql`select count(*)::int as count from rollup.backfill_runs where account_id = ${account}`;
  return row?.count;
}

test("a zone in any case is stored as listed, the flag is off, a backfill is queued", async () => {
  const account = newAccount();
  const settings = await setZone(account, "aMerica/new_york");
  assert.is(settings.account_id, account);
  assert.is(settings.reporting_timezone, "America/New_York");
  assert.is(settings.reporting_events_rollup, false);
  assert.is(settings.write_mode, "inline");
  assert.is(await runs(account), 1);
});

test("an alias is kept", async () => {
  assert.is((await setZone(newAccount(), "Asia/Calcutta")).reporting_timezone, "Asia/Calcutta");
});

test("the zone it has already: nothing happens", async () => {
  const account = await accountIn("Asia/Tokyo");
  const runsBefore = await runs(account);
  const first = await setZone(account, "Asia/Tokyo");
  const again = await setZone(account, "asia/tokyo");
  assert.is(again.generation, first.generation);
  assert.is(await runs(account), runsBefore);
  assert.is(await cleanDays(account), "{(,)}");
});

test("a new zone empties coverage at once, clears nothing by itself, and is rebuilt", async () => {
  const account = await accountIn("UTC");
  await insert(sql, account, { created_at: "2026-02-12 04:00:00" });
  await setZone(account, "America/New_York");
  assert.is(await cleanDays(account), "{}");
  assert.equal(await rollups(account), []);
  assert.is((await stored(account)).length, 1);
  assert.is(await runs(account), 2);
  await sql`select rollup.backfill(${account})`;
  assert.equal(await stored(account), [`2026-02-11 account ${account} first_response 1 1 1`]);
  await assertExactEverywhere(account);
});

test("null switches off: nothing is written or shown", async () => {
  const account = await accountIn("UTC");
  await insert(sql, account, {});
  assert.is((await setZone(account, null)).reporting_timezone, null);
  await insert(sql, account, {});
  await insert(sql, account, {}, {});
  assert.equal(await rollups(account), []);
  assert.is(await cleanDays(account), "{}");
  assert.is(await pending(account), 0);
  await sql`select rollup.fold()`;
  assert.equal(await stored(account), []);
  await setZone(account, "UTC");
  assert.equal(await rollups(account), []);
  await sql`select rollup.backfill(${account})`;
  assert.equal(await stored(account), [`2026-02-11 account ${account} first_response 4 4 4`]);
});

test("events between a change and its rebuild count once", async () => {
  const account = await accountIn("UTC");
  await insert(sql, account, { created_at: "2026-02-12 04:00:00" });
  await setZone(account, "America/New_York");
  await insert(sql, account, { created_at: "2026-02-12 04:30:00" });
  await insert(
    sql,
    account,
    { created_at: "2026-02-12 04:30:00" },
    { created_at: "2026-02-12 06:00:00" },
  );
  await assertExact(account);
  await sql`select rollup.backfill(${account}, '2026-02-11', '2026-02-11')`;
  await assertExact(account);
  assert.is(await cleanDays(account), "{[2026-02-11,2026-02-12)}");
  await sql`select rollup.backfill(${account})`;
  await assertExactEverywhere(account);
  assert.equal(await stored(account), [
    `2026-02-11 account ${account} first_response 3 3 3`,
    `2026-02-12 account ${account} first_response 1 1 1`,
  ]);
});

test("an account's first zone loses no event that the trigger alone has seen", async () => {
  const account = await accountIn("UTC", { covered: false });
  await insert(sql, account, {});
  assert.equal(await stored(account), [`2026-02-11 account ${account} first_response 1 1 1`]);
  await sql`select rollup.backfill(${account}, '2026-03-01', '2026-03-01')`;
  assert.equal(await stored(account), [`2026-02-11 account ${account} first_response 1 1 1`]);
});

test("deltas of an old zone are ignored and discarded", async () => {
  const account = await accountIn("UTC");
  await sql`select rollup.set_write_mode(${account}, 'append')`;
  await insert(sql, account, { created_at: "2026-02-12 04:00:00" });
  await setZone(account, "America/New_York");
  assert.equal(await rollups(account), []);
  await sql`select rollup.fold(${account})`;
  assert.equal(await stored(account), []);
  assert.is(await pending(account), 0);
});

test("a delta of an old zone that comes after the rebuild is ignored and discarded", async () => {
  const account = await accountIn("UTC");
  await insert(sql, account, {});
  await sql`select rollup.set_reporting_timezone(${account}, 'Asia/Tokyo')`;
  await sql`select rollup.backfill(${account})`;
  await sql`
    insert into rollup.deltas
    select ${account}, generation - 1, '2026-02-11', 'conversation_bot_handoff', 7, null, 1, 1, 5, 5, false
    from rollup.account_settings where account_id = ${account}`;
  await assertExactEverywhere(account);
  await sql`select rollup.fold(${account})`;
  await assertExactEverywhere(account);
  assert.is(await pending(account), 0);
});

test("a zone there and back: an old delta of the same zone does not count again (rule: generations)", async () => {
  const account = await accountIn("UTC");
  await sql`select rollup.set_write_mode(${account}, 'append')`;
  await insert(sql, account, {});
  await setZone(account, "Asia/Tokyo");
  await setZone(account, "UTC");
  await sql`select rollup.fold(${account})`;
  await sql`select rollup.backfill(${account})`;
  await sql`select rollup.fold(${account})`;
  await assertExactEverywhere(account);
  assert.equal(await stored(account), [`2026-02-11 account ${account} first_response 1 1 1`]);
});

test("generations of an account only grow; of a change that was rolled back nothing is left", async () => {
  const account = await accountIn("UTC");
  await sql`select rollup.set_write_mode(${account}, 'append')`;
  const generations = [(await setZone(account, "Asia/Kolkata")).generation];
  await sql.begin(async (tx) => {
    await tx
      .savepoint(async (nested) => {
        await nested`select rollup.set_reporting_timezone(${account}, 'Asia/Tokyo')`;
        await insert(nested as unknown as Sql, account, { created_at: "2026-02-11 17:00:00" });
        throw new Error("back");
      })
      .catch(() => {});
    await tx`select rollup.set_reporting_timezone(${account}, 'America/New_York')`;
    await insert(tx as unknown as Sql, account, { created_at: "2026-02-12 04:00:00" });
  });
  generations.push((await setZone(account, "UTC")).generation);
  generations.push((await setZone(account, "America/New_York")).generation);
  assert.equal(
    generations.map(Number),
    [...generations].map(Number).sort((a, b) => a - b),
  );
  assert.is(new Set(generations).size, 3);
  await sql`select rollup.backfill(${account})`;
  await assertExactEverywhere(account);
  assert.equal(await stored(account), [`2026-02-11 account ${account} first_response 1 1 1`]);
});

test("the setter takes no lock of an account and waits for no writer", async () => {
  const account = await accountIn("UTC");
  await sql.begin(async (writer) => {
    await writer`insert into public.reporting_events (name, value, account_id) values ('reply_time', 1, ${account})`;
    await sql.begin(async (setter) => {
      await setter`set local lock_timeout = '200ms'`;
      await setter`select rollup.set_reporting_timezone(${account}, 'Asia/Tokyo')`;
    });
  });
  await sql`select rollup.backfill(${account})`;
  await assertExactEverywhere(account);
});

test("the flag is set with or without a zone", async () => {
  const account = newAccount();
  const [on] = await sql<
    Settings[]
  >`select * from rollup.set_reporting_events_rollup(${account}, true)`;
  assert.is(on?.reporting_events_rollup, true);
  assert.is(on?.reporting_timezone, null);
  const [off] = await sql<
    Settings[]
  >`select * from rollup.set_reporting_events_rollup(${account}, false)`;
  assert.is(off?.reporting_events_rollup, false);
});

test("append leaves deltas, inline applies them", async () => {
  const account = await accountIn("UTC");
  const [settings] = await sql<
    Settings[]
  >`select * from rollup.set_write_mode(${account}, 'append')`;
  assert.is(settings?.write_mode, "append");
  await insert(sql, account, {});
  await insert(sql, account, {}, { user_id: 1 });
  await sql`update public.reporting_events set value = 3 where account_id = ${account}`;
  assert.equal(await stored(account), []);
  await assertExactEverywhere(account);
  await sql`select rollup.set_write_mode(${account}, 'inline')`;
  await insert(sql, account, {});
  assert.equal(await stored(account), [`2026-02-11 account ${account} first_response 1 1 1`]);
  await assertExactEverywhere(account);
});

test("errors", async () => {
  const account = newAccount();
  const state = (query: string) => sqlstate(sql.unsafe(query));
  for (const zone of [
    "FOO-5",
    "posix/Asia/Tokyo",
    "Factory",
    "localtime",
    "EST5EDT4",
    "",
    "Mars/Olympus",
  ]) {
    assert.is(
      await state(`select rollup.set_reporting_timezone(${account}, '${zone}')`),
      "RU001",
      zone,
    );
  }
  assert.is(await state("select rollup.set_reporting_timezone(null, 'UTC')"), "RU009");
  assert.is(await state(`select rollup.set_reporting_events_rollup(${account}, null)`), "RU009");
  assert.is(await state(`select rollup.set_write_mode(${account}, null)`), "RU009");
  assert.is(await state(`select rollup.set_write_mode(${account}, 'later')`), "RU008");
});

test("a zone is set in read committed only (rule: the setter must see what is committed)", async () => {
  for (const level of ["repeatable read", "serializable"]) {
    const attempt = sql.begin(
      `isolation level ${level}`,
      (tx) => tx`select rollup.set_reporting_timezone(${newAccount()}, 'UTC')`,
    );
    assert.is(await sqlstate(attempt), "RU004");
  }
});

test.run();
