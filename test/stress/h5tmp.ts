import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect } from "../../src/connection.js";
import { migrate } from "../../src/migrate.js";
import { clusterUrl, prepareCluster, startServer, stopServer } from "../../src/server.js";
import { addEvents, measureDirect } from "./h5tmp2.js";
const folder = await mkdtemp(join(tmpdir(), "reporting-rollup-h5-"));
const cluster = await prepareCluster(folder, { settings: { fsync: "off", max_wal_size: "4GB" } });
try {
  const url = await clusterUrl(cluster, await startServer(cluster), "postgres");
  await migrate(url);
  const sql = connect(url, { max: 1 });
  await addEvents(sql, 3_000_000, 1);
  await sql`select rollup.set_reporting_timezone(1, 'America/New_York')`;
  for (const piece of [1000000, 200000, 1000000, 200000]) {
    const [f] = await sql`select pg_get_functiondef('rollup.backfill(int,date,date)'::regprocedure) as def`;
    await sql.unsafe(f?.def.replace(/v_to, \d+\)/, `v_to, ${piece})`));
    console.log(piece, await measureDirect(url));
  }
  await sql.end();
} finally {
  await stopServer(cluster);
  await rm(cluster.folder, { recursive: true, force: true });
}
