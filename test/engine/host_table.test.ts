/** Changes of the host's table that no trigger sees. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { migrate } from "../../src/database/migrate.js";
import type { Sql } from "../support/client.js";
import { connect, createDatabase, type TestDatabase } from "../support/database.js";
import { assertExactEverywhere, cleanDays, insert, rollups } from "./support.js";

const hostTable = suite("the host's table");
const databases: TestDatabase[] = [];

hostTable.after.each(async () => {
  for (const database of databases.splice(0)) await database.drop();
});

/** Two accounts with clean days, an event each. */
async function prepared(options: { partitioned?: boolean } = {}): Promise<Sql> {
  const { partitioned = false } = options;
  const database = await createDatabase({ empty: partitioned });
  databases.push(database);
  const { sql, url } = database;
  if (partitioned) {
    await sql.unsafe(`
      create table public.reporting_events (
        id bigserial, name varchar, value float8, value_in_business_hours float8, account_id int, inbox_id int, user_id int,
        conversation_id int, created_at timestamp not null, updated_at timestamp
      ) partition by range (created_at);
      create table public.y2025 partition of public.reporting_events for values from ('2025-01-01') to ('2026-01-01');
      create table public.y2026 partition of public.reporting_events for values from ('2026-01-01') to ('2027-01-01')`);
    await migrate(url, { createHostTables: true });
  }
  for (const account of [1, 2]) {
    await sql`select rollup.set_reporting_timezone(${account}, 'UTC')`;
    await insert(sql, account, {}, { created_at: "2025-06-01 12:00:00" });
    await sql`select rollup.backfill(${account})`;
  }
  assert.is(await watch(sql), 0);
  return sql;
}

async function watch(sql: Sql): Promise<number> {
  const [row] = await sql<{ accounts: number }[]>`
    select rollup.watch_host_table()::int as accounts`;
  return row?.accounts ?? -1;
}

async function pendingRuns(sql: Sql): Promise<number> {
  return (await sql`select from rollup.backfill_runs where state = 'pending'`).length;
}

/** Both accounts begin anew, and are exact afterwards. */
async function assertNoticed(sql: Sql): Promise<void> {
  assert.is(await watch(sql), 2);
  await assertAnew(sql);
}

async function assertAnew(sql: Sql): Promise<void> {
  for (const account of [1, 2]) assert.is(await cleanDays(account, sql), "{}");
  assert.is(await pendingRuns(sql), 2);
  assert.is(await watch(sql), 0);
  for (const account of [1, 2]) {
    await sql`select rollup.backfill(${account})`;
    await assertExactEverywhere(account, sql);
  }
  assert.is(await watch(sql), 0);
}

hostTable("what the host does all day is no change", async () => {
  const sql = await prepared();
  await insert(sql, 1, {});
  await sql`update public.reporting_events set value = 3`;
  await sql`vacuum analyze public.reporting_events`;
  await sql`create index on public.reporting_events (user_id)`;
  await sql`alter table public.reporting_events add column extra text`;
  await sql`vacuum full public.reporting_events`;
  assert.is(await watch(sql), 0);
  await sql`truncate public.reporting_events`;
  assert.is(await watch(sql), 0);
  assert.is(await pendingRuns(sql), 0);
});

hostTable("triggers disabled and enabled again", async () => {
  const sql = await prepared();
  await sql`alter table public.reporting_events disable trigger all`;
  await insert(sql, 1, {});
  await sql`alter table public.reporting_events enable trigger all`;
  await assertNoticed(sql);
});

hostTable("as long as triggers are missing nothing is clean, and the warnings say so", async () => {
  const sql = await prepared();
  const warnings = async () => (await sql`select w from rollup.warnings() as w`).map(({ w }) => w);
  assert.equal(await warnings(), []);
  await sql`alter table public.reporting_events disable trigger reporting_events_rollup_insert`;
  assert.equal(await warnings(), [
    "No trigger of ours sees insert on public.reporting_events. Run: reporting-rollup migrate",
  ]);
  assert.is(await watch(sql), 2);
  assert.is(await watch(sql), 0);
  assert.is(await pendingRuns(sql), 0);
  // A rebuild claims nothing either.
  await sql`select rollup.backfill(1)`;
  assert.is(await cleanDays(1, sql), "{}");
  await insert(sql, 1, {});
  assert.is(await watch(sql), 0);
  await sql`alter table public.reporting_events enable trigger reporting_events_rollup_insert`;
  await assertNoticed(sql);
});

hostTable("a rebuild under way claims nothing", async () => {
  const sql = await prepared();
  await sql.begin(async (rebuild) => {
    await rebuild`select rollup.backfill(1)`;
    await sql`alter table public.reporting_events disable trigger all`;
    await insert(sql, 1, {});
    await sql`alter table public.reporting_events enable trigger all`;
    assert.is(await watch(sql), 2);
  });
  assert.is(await cleanDays(1, sql), "{}");
  await sql`select rollup.backfill(1)`;
  await assertExactEverywhere(1, sql);
});

hostTable("another table under its name", async () => {
  const sql = await prepared();
  await sql.unsafe(`
    create table public.copied (like public.reporting_events including all);
    insert into public.copied select * from public.reporting_events;
    alter table public.reporting_events rename to former;
    alter table public.copied rename to reporting_events;
    select setval(pg_get_serial_sequence('public.reporting_events', 'id'), 1000)`);
  await insert(sql, 1, {});
  assert.is(await watch(sql), 2);
  assert.is(await cleanDays(1, sql), "{}");
  const [{ warnings } = {}] =
    await sql`select count(*)::int as warnings from rollup.warnings() as w`;
  assert.is(warnings, 4);
  // It looks itself.
  await migrate(databases[0]?.url as string);
  await assertAnew(sql);
});

hostTable("a subscription fires no trigger: nothing is clean beside one", async () => {
  const sql = await prepared();
  const superuser = connect({ url: databases[0]?.url as string, superuser: true });
  await superuser.unsafe(`
    create subscription feed connection 'host=nowhere' publication p with (connect = false);
    set allow_system_table_mods = on;
    insert into pg_subscription_rel (srsubid, srrelid, srsubstate)
    select oid, 'public.reporting_events'::regclass, 'r' from pg_subscription where subname = 'feed'`);
  const [warning] = await sql`select w from rollup.warnings() as w`;
  assert.match(warning?.w, "The subscription feed writes to public.reporting_events");
  assert.is(await watch(sql), 2);
  assert.is(await cleanDays(1, sql), "{}");
  await superuser.unsafe("alter subscription feed set (slot_name = none)");
  await superuser.unsafe("drop subscription feed");
  await superuser.end();
});

hostTable("partitions: new ones and their rows are none of our business", async () => {
  const sql = await prepared({ partitioned: true });
  await sql`
    create table public.y2027 partition of public.reporting_events for values from ('2027-01-01') to ('2028-01-01')`;
  assert.is(await watch(sql), 0);
  await insert(sql, 1, { created_at: "2027-06-01 12:00:00" });
  assert.is(await watch(sql), 0);
  assert.is(await cleanDays(1, sql), "{(,)}");
});

for (const [what, statement] of [
  ["detached", "alter table public.reporting_events detach partition public.y2025"],
  ["dropped", "drop table public.y2025"],
  ["truncated", "truncate public.y2025"],
  [
    "attached again with one more",
    `alter table public.reporting_events detach partition public.y2025;
     insert into public.y2025 select * from public.y2025 where account_id = 1;
     update public.y2025 set created_at = created_at + interval '1 day' where ctid = (select max(ctid) from public.y2025);
     alter table public.reporting_events attach partition public.y2025 for values from ('2025-01-01') to ('2026-01-01')`,
  ],
  [
    "attached with rows",
    `create table public.y2024 (like public.y2025);
     insert into public.y2024 select * from public.y2025;
     update public.y2024 set created_at = created_at - interval '1 year';
     alter table public.reporting_events attach partition public.y2024 for values from ('2024-01-01') to ('2025-01-01')`,
  ],
] as const) {
  hostTable(`a partition that is ${what}`, async () => {
    const sql = await prepared({ partitioned: true });
    await sql.unsafe(statement);
    // Before anybody has looked.
    for (const account of [1, 2]) assert.is(await cleanDays(account, sql), "{}");
    await assertNoticed(sql);
    assert.is((await rollups(1, sql)).length, what.startsWith("attached") ? 3 : 1);
  });
}

hostTable.run();
