/**
 * Runs the tests: every test/**\/*.test.ts as a process of its own, some at a time, each on a database of its own
 * cloned from a migrated template, on every supported PostgreSQL. What is the same on all of them, such as the
 * command line, runs on one: see `once`.
 *
 *   npm test                            everything
 *   npm test -- --pg 15                 everything, on one PostgreSQL
 *   npm test -- --pg 15 trigger.test    the files whose path contains one of the words
 *   npm test -- --sql patch.sql         the same with this SQL applied over the template
 *   npm test -- --at-once 1             one file at a time
 */
import { readdir, readFile } from "node:fs/promises";
import { join, relative, resolve } from "node:path";
import { parseArgs } from "node:util";
import { toUserError } from "../src/database/errors.js";
import { command, compile, killTestFiles, type Outcome, runTestFile } from "./support/file.js";
import { packages, startTestServer, type TestServer, template } from "./support/server.js";

/**
 * Files that run on one major: what they test is ours in TypeScript, or a client's, and the SQL that it calls is tested on both.
 * On 18 those with servers of their own and those that need the newest; on 15, whose databases belong to an ordinary role, the rest.
 */
const once: Record<string, string[]> = {
  18: [
    "command_line/",
    "server/",
    "database/url.test.ts",
    "database/tls.test.ts",
    "database/poolers.test.ts",
    "database/hostile_public.test.ts",
    "harness.test.ts",
  ],
  15: ["worker/backfill_runs.test.ts", "database/settings_of_others.test.ts", "chatwoot/"],
};
/** The files that take longest, longest first: they begin first. */
const slow = [
  "concurrency/zone_change.test.ts",
  "command_line/commands/backfill.test.ts",
  "worker/backfill_runs.test.ts",
  "command_line/commands/demo.test.ts",
  "worker/worker.test.ts",
  "database/migrate.test.ts",
  "concurrency/writers.test.ts",
  "database/tls.test.ts",
  "engine/harmless.test.ts",
  "engine/events.test.ts",
  "command_line/cli.test.ts",
  "upgrade.test.ts",
  "server/server.test.ts",
  "concurrency/interleavings.test.ts",
  "engine/locked_tables.test.ts",
  "command_line/commands/every.test.ts",
  "reads/random.test.ts",
  "command_line/commands/report.test.ts",
  "concurrency/crash.test.ts",
];

const root = resolve(import.meta.dirname, "..");
const { values, positionals } = parseArgs({
  options: {
    pg: { type: "string", multiple: true },
    sql: { type: "string" },
    "at-once": { type: "string", default: "4" },
  },
  allowPositionals: true,
});
const servers = new Map<string, Promise<TestServer>>();

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.once(signal, async () => {
    killTestFiles();
    await stopServers();
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
  await stopServers();
}

interface Job {
  /** Below test/. */
  file: string;
  major: string;
}

async function main(): Promise<number> {
  const started = Date.now();
  const jobs = await plan();
  const majors = [...new Set(jobs.map(({ major }) => major))];
  const built = [compile()];
  if (await useCommandLine(jobs)) built.push(command("npm", "run", "build"));
  for (const major of majors) servers.set(major, start(major));
  await Promise.all([...built, ...servers.values()]);
  const outcomes = await runAll(jobs);
  for (const major of majors) {
    const all = outcomes.filter(({ job }) => job.major === major).map(({ outcome }) => outcome);
    console.log(`PostgreSQL ${major}, ${all.length} files: ${summary(sum(all))}`);
  }
  const total = sum(outcomes.map(({ outcome }) => outcome));
  if (jobs.length === 0) console.log("No test file matches.");
  console.log(`${Math.round((Date.now() - started) / 1000)} s`);
  console.log();
  console.log(summary(total));
  return total.failed > 0 || total.passed === 0 ? 1 : 0;
}

/** What to run, in the order in which to begin. */
async function plan(): Promise<Job[]> {
  const names = await readdir(join(root, "test"), { recursive: true });
  const files = names
    .filter((name) => name.endsWith(".test.ts"))
    .filter((name) => positionals.length === 0 || positionals.some((word) => matches(name, word)))
    .sort((a, b) => rank(a) - rank(b) || a.localeCompare(b));
  return files.flatMap((file) => {
    const only = Object.keys(once).find((major) => once[major]?.some((it) => file.startsWith(it)));
    const majors = values.pg ?? (only === undefined ? [...packages.keys()] : [only]);
    return majors.map((major) => ({ file, major }));
  });
}

function matches(name: string, word: string): boolean {
  return join("test", name).includes(word) || resolve(word) === join(root, "test", name);
}

function rank(file: string): number {
  const place = slow.indexOf(file);
  return place < 0 ? slow.length : place;
}

/** The command line under test is the built one: what people run, and quicker to start. */
async function useCommandLine(jobs: Job[]): Promise<boolean> {
  const sources = await Promise.all(
    jobs.map(({ file }) => readFile(join(root, "test", file), "utf8")),
  );
  return sources.some((source) => source.includes("support/cli.js") || source.includes("dist/"));
}

async function start(major: string): Promise<TestServer> {
  const server = await startTestServer(major);
  if (values.sql !== undefined) await server.run(await readFile(values.sql, "utf8"), template);
  return server;
}

async function stopServers(): Promise<void> {
  const started = await Promise.allSettled(servers.values());
  servers.clear();
  await Promise.all(
    started.map((server) => (server.status === "fulfilled" ? server.value.stop() : undefined)),
  );
}

async function runAll(jobs: Job[]): Promise<{ job: Job; outcome: Outcome }[]> {
  const waiting = [...jobs];
  const outcomes: { job: Job; outcome: Outcome }[] = [];
  const runners = Array.from({ length: Number(values["at-once"]) }, async () => {
    for (let job = waiting.shift(); job !== undefined; job = waiting.shift()) {
      outcomes.push({ job, outcome: await run(job) });
    }
  });
  await Promise.all(runners);
  return outcomes;
}

function sum(outcomes: Outcome[]): Outcome {
  const total = { passed: 0, failed: 0, skipped: 0 };
  for (const outcome of outcomes) {
    for (const key of ["passed", "failed", "skipped"] as const) total[key] += outcome[key];
  }
  return total;
}

function summary({ passed, failed, skipped }: Outcome): string {
  return `${passed} passed, ${failed} failed, ${skipped} skipped`;
}

// --- One file -------------------------------------------------------------------------------------------

async function run({ file, major }: Job): Promise<Outcome> {
  const started = Date.now();
  const server = await (servers.get(major) as Promise<TestServer>);
  const path = join(root, "test", file);
  const name = `test_${file.replace(/\.test\.ts$/, "").replace(/\W+/g, "_")}`.slice(0, 50);
  await server.createDatabase(name);
  const { outcome, problems, output } = await runTestFile(path, {
    TEST_DATABASE_URL: await server.url(name),
    TEST_SERVER_URL: await server.url("postgres", "superuser"),
    TEST_TEMPLATE: template,
    TEST_PG: major,
  });
  if (servers.size > 0) await server.run(`drop database ${name} with (force)`);
  const seconds = ((Date.now() - started) / 1000).toFixed(1);
  const verdict = outcome.failed > 0 ? "FAIL" : "ok  ";
  console.log(`${verdict} ${major} ${relative(root, path)} ${summary(outcome)} (${seconds} s)`);
  for (const problem of problems) console.log(`     ${problem}`);
  for (const [reason] of output.matchAll(/^skipped: .*$/gm)) console.log(`     ${reason}`);
  if (outcome.failed > 0) console.log(abridged(output));
  return outcome;
}

function abridged(output: string): string {
  const half = 10_000;
  if (output.length <= 2 * half) return output;
  return `${output.slice(0, half)}\n[…]\n${output.slice(-half)}`;
}
