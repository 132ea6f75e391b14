/** Truncate, and triggers that are missing. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { migrate } from "../../src/database/migrate.js";
import { connect, createDatabase } from "../support/database.js";
import { assertExact, cleanDays, insert, rollups, stored } from "./support.js";

test("truncate marks every account with a zone, and does nothing else (rule)", async () => {
  const { sql, drop } = await createDatabase();
  try {
    for (const account of [1, 2, 3]) {
      await sql`select rollup.set_reporting_timezone(${account}, 'UTC')`;
      await sql`select rollup.backfill(${account})`;
      await insert(sql, account, { user_id: 7 }, {});
    }
    await sql`select rollup.set_reporting_timezone(3, null)`;
    await insert(sql, 4, {});

    await sql
      .begin(async (tx) => {
        await tx`truncate public.reporting_events`;
        throw new Error("back");
      })
      .catch(() => {});
    assert.is(await cleanDays(1, sql), "{(,)}");
    await assertExact(1, sql);

    await sql`truncate public.reporting_events`;
    const marks = await sql`select account_id, date from rollup.dirty_marks order by 1`;
    assert.equal(
      marks.map((mark) => ({ ...mark })),
      [
        { account_id: 1, date: null },
        { account_id: 2, date: null },
      ],
    );
    assert.is(await cleanDays(1, sql), "{}");
    assert.is((await stored(1, sql)).length, 2);

    await insert(sql, 1, {});
    await sql`select rollup.repair(1)`;
    assert.is(await cleanDays(1, sql), "{(,)}");
    assert.equal(await rollups(1, sql), ["2026-02-11 account 1 first_response 1 1 1"]);
    await assertExact(1, sql);
    await sql`select rollup.backfill(2)`;
    assert.equal(await rollups(2, sql), []);
    assert.is(await cleanDays(2, sql), "{(,)}");
  } finally {
    await drop();
  }
});

for (const removal of [
  "drop trigger reporting_events_rollup_insert on public.reporting_events",
  "alter table public.reporting_events disable trigger reporting_events_rollup_update",
]) {
  test(`migrate finds a trigger missing (${removal.split(" ")[0]}): all coverage goes`, async () => {
    const { sql, url, drop } = await createDatabase();
    await sql`select rollup.set_reporting_timezone(1, 'UTC')`;
    await sql`select rollup.backfill(1)`;
    await insert(sql, 1, {});
    await migrate(url, { createHostTables: true });
    assert.is(await cleanDays(1, sql), "{(,)}");
    await sql.unsafe(removal);
    await insert(sql, 1, {});
    await sql`update public.reporting_events set value = 7`;
    await migrate(url, { createHostTables: true });
    assert.is(await cleanDays(1, sql), "{}");
    await insert(sql, 1, {});
    await sql`update public.reporting_events set value = 8`;
    await sql`select rollup.backfill(1)`;
    await insert(sql, 1, {});
    assert.is(await cleanDays(1, sql), "{(,)}");
    await assertExact(1, sql);
    await drop();
  });
}

test("coverage counts on its table only: at once, with deltas pending, and back again (rule)", async () => {
  const { sql, url, drop } = await createDatabase();
  await sql`select rollup.set_reporting_timezone(1, 'UTC')`;
  await insert(
    sql,
    1,
    { user_id: 7 },
    { created_at: "2026-02-10", name: "conversation_bot_handoff", conversation_id: 1 },
  );
  await sql`select rollup.backfill(1)`;
  await sql`select rollup.set_write_mode(1, 'append')`;
  await insert(sql, 1, { user_id: 8 });
  await sql`select rollup.set_write_mode(1, 'inline')`;
  await sql.unsafe(`
    create table public.copied (like public.reporting_events including all);
    insert into public.copied select * from public.reporting_events where user_id is null;
    alter table public.reporting_events rename to former;
    alter table public.copied rename to reporting_events;
    select setval(pg_get_serial_sequence('public.reporting_events', 'id'), 1000)`);
  await migrate(url, { createHostTables: true });
  assert.is(await cleanDays(1, sql), "{}");
  await insert(sql, 1, {}, { user_id: 9 });
  await insert(sql, 1, { created_at: "2026-02-12" });
  await sql`insert into public.former (id, name, account_id, created_at, updated_at) values (-1, 'reply_time', 1, '2026-02-12', now())`;
  assert.is(await cleanDays(1, sql), "{}");
  await sql`select rollup.backfill(1, '2026-02-11', '2026-02-11')`;
  // What is rebuilt of it first does not matter: the account as a whole is marked, for the worker.
  assert.is(await cleanDays(1, sql), "{}");
  await sql`select rollup.backfill(1)`;
  assert.is(await cleanDays(1, sql), "{(,)}");
  await assertExact(1, sql);
  await sql.unsafe(
    "alter table public.reporting_events rename to copied; alter table public.former rename to reporting_events",
  );
  assert.is(await cleanDays(1, sql), "{}");
  await sql`select rollup.fold(1)`;
  await sql`select rollup.backfill(1)`;
  assert.is(await cleanDays(1, sql), "{(,)}");
  await assertExact(1, sql);
  await drop();
});

test("a rebuild that began while a trigger was missing claims nothing", async () => {
  const { sql, url, drop } = await createDatabase();
  await sql`select rollup.set_reporting_timezone(1, 'UTC')`;
  await sql`drop trigger reporting_events_rollup_insert on public.reporting_events`;
  const rebuild = connect({ url });
  await rebuild.unsafe("begin");
  await rebuild.unsafe("select rollup.backfill(1)");
  await insert(sql, 1, {});
  const migrating = migrate(url, { createHostTables: true });
  await new Promise((done) => setTimeout(done, 500));
  await rebuild.unsafe("commit");
  await migrating;
  assert.is(await cleanDays(1, sql), "{}");
  await sql`select rollup.backfill(1)`;
  await assertExact(1, sql);
  await rebuild.end();
  await drop();
});

test("migrate again, beside an open writer and with writers coming: nobody waits", async () => {
  const { sql, url, drop } = await createDatabase();
  await sql`select rollup.set_reporting_timezone(1, 'UTC')`;
  await sql`select rollup.backfill(1)`;
  const open = connect({ url });
  await open.unsafe("begin");
  await insert(open, 1, {});
  const writer = connect({ url, settings: { lock_timeout: "200ms" } });
  let migrated = false;
  const migrating = migrate(url, { createHostTables: true }).then(() => {
    migrated = true;
  });
  while (!migrated) await insert(writer, 1, {});
  await migrating;
  await open.unsafe("commit");
  assert.is(await cleanDays(1, sql), "{(,)}");
  await assertExact(1, sql);
  for (const client of [open, writer]) await client.end();
  await drop();
});

test.run();
