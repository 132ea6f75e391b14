/**
 * Backfills while workers and the server are killed at random and writers change the same accounts; and, apart from that, how
 * much memory the backfill of a large account takes.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type Cluster, runningPort, startServer } from "../../src/server/server.js";
import { startWorker } from "../../src/worker/worker.js";
import { connect, type Sql } from "../support/client.js";
import { differences } from "../support/oracle.js";
import { killAll } from "./crash.js";
import { Random } from "./random.js";

export interface BackfillOptions {
  events: number;
  accounts: number;
  kills: number;
  seed: number;
  log: (line: string) => void;
}

export interface BackfillResult {
  workerKills: number;
  serverKills: number;
  runs: number;
  chunks: number;
  statements: number;
  seconds: number;
  problems: string[];
}

const root = resolve(import.meta.dirname, "../..");
const zones = ["America/New_York", "Asia/Kolkata", "America/Havana", "UTC", "Pacific/Apia"];

/** Enqueues runs for every account and kills what works on them; returns what is wrong when all of them have ended. */
export async function backfillUnderKills(
  cluster: Cluster,
  url: string,
  options: BackfillOptions,
): Promise<BackfillResult> {
  const { accounts, kills, seed, log } = options;
  const started = performance.now();
  const random = new Random(seed);
  const trial = new Trial(cluster, url, options);
  await trial.prepare();
  log(`${options.events} events of ${accounts} accounts: ${seconds(started)} s`);
  const ending = new AbortController();
  const workers = [0, 1].map(() => trial.work(ending.signal));
  const writers = [0, 1, 2].map((number) => trial.write(number, random.fork(), ending.signal));
  try {
    for (let kill = 1; kill <= kills; kill++) {
      await trial.keepBusy();
      // Mostly amid chunks, now and then while everybody is still starting again.
      if (random.chance(0.8)) await trial.awaitChunks(1 + random.int(8));
      await sleep(random.int(800));
      await trial.kill(random);
      log(`kill ${kill} of ${kills}: ${await trial.progress()}`);
    }
    await trial.settle(600);
  } finally {
    ending.abort();
    await Promise.all([...workers, ...writers]);
  }
  log(`all runs have ended: ${seconds(started)} s`);
  const problems = await trial.problems();
  return { ...trial.result, seconds: seconds(started), problems };
}

class Trial {
  readonly result = { workerKills: 0, serverKills: 0, runs: 0, chunks: 0, statements: 0 };
  /** Rows that statements have written, failed ones included: by so much counts of events may differ. */
  #rowsWritten = 0;
  readonly #processes = new Set<ChildProcess>();

  constructor(
    private readonly cluster: Cluster,
    private readonly url: string,
    private readonly options: BackfillOptions,
  ) {}

  async prepare(): Promise<void> {
    const { events, accounts } = this.options;
    const sql = connect(this.url, { max: 1 });
    await addEvents(sql, events, accounts);
    // Chunks small enough that most kills hit one, and that every account has some.
    await sql.unsafe(`
      create or replace function rollup.chunk_events() returns bigint
      language sql immutable parallel safe as 'select ${Math.max(100, Math.round(events / 300))}::bigint'`);
    for (let account = 1; account <= accounts; account++) {
      await sql`select rollup.set_reporting_timezone(${account}, ${zones[account % zones.length] as string})`;
    }
    await sql.end();
  }

  /** A worker in a process of its own, started again whenever it has been killed. */
  async work(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const child = spawn(process.execPath, ["dist/command_line/cli.js", "worker", "--json"], {
        cwd: root,
        env: { ...process.env, DATABASE_URL: this.url },
        stdio: ["ignore", "ignore", "inherit"],
      });
      this.#processes.add(child);
      const stop = () => child.kill("SIGTERM");
      signal.addEventListener("abort", stop, { once: true });
      await new Promise((done) => child.once("exit", done));
      signal.removeEventListener("abort", stop);
      this.#processes.delete(child);
      await sleep(200);
    }
  }

  /** Inserts, updates and deletes on all accounts; connects again when the server is gone. */
  async write(number: number, random: Random, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const sql = connect(this.url, { max: 1 });
      try {
        while (!signal.aborted) {
          const statement = this.#statement(number, random);
          // A client may wait for ever for what it had asked of a server that is no more.
          await within(10_000, sql.unsafe(statement));
          this.result.statements++;
          await sleep(random.int(20));
        }
      } catch {
        // Whatever was under way is committed or not; the rollups must agree with either.
        await sleep(250);
      }
      await sql.end({ timeout: 1 }).catch(() => {});
    }
  }

  #statement(number: number, random: Random): string {
    const account = 1 + random.int(this.options.accounts);
    const own = (limit: number) => `
      select id from public.reporting_events
      where account_id = ${account} and id % 3 = ${number} and created_at >= timestamp '2025-01-01' + interval '${random.int(365)} days'
      limit ${limit}`;
    const rows = 1 + random.int(5);
    this.#rowsWritten += rows;
    return random.pick(
      [
        `insert into public.reporting_events
           (name, value, value_in_business_hours, account_id, inbox_id, user_id, conversation_id, created_at, updated_at)
         select (array['conversation_resolved', 'first_response', 'reply_time', 'conversation_bot_handoff'])[1 + n % 4],
           n * 1.5, n, ${account}, 1 + n % 3, 1 + n % 5, ${random.int(100_000)},
           timestamp '2025-01-01' + interval '${random.int(365 * 24)} hours', now()
         from generate_series(1, ${rows}) as n`,
        `update public.reporting_events
         set value = value + 1, user_id = ${1 + random.int(20)}, created_at = created_at + interval '${random.int(72) - 36} hours'
         where id in (${own(rows)})`,
        `delete from public.reporting_events where id in (${own(rows)})`,
      ],
      [0.5, 0.3, 0.2],
    );
  }

  /** Sees to it that there is something to kill: asks for all once more when little is left to do. */
  async keepBusy(): Promise<void> {
    await this.#persistently(async (sql) => {
      const [left] = await sql`
        select count(*)::int as runs from rollup.backfill_runs where state in ('pending', 'running')`;
      if ((left?.runs ?? 0) > this.options.accounts / 3) return;
      for (let account = 1; account <= this.options.accounts; account++)
        await sql`select rollup.enqueue_backfill(${account})`;
    });
  }

  /** Waits, though not for ever, until so many more chunks are done. */
  async awaitChunks(more: number): Promise<void> {
    const done = () =>
      this.#persistently(async (sql) => {
        const [row] =
          await sql`select coalesce(sum(chunks_done), 0)::int as chunks from rollup.backfill_runs`;
        return row?.chunks as number;
      });
    const before = await done();
    for (let tries = 0; tries < 200 && (await done()) < before + more; tries++) await sleep(50);
  }

  async kill(random: Random): Promise<void> {
    const what = random.pick(["worker", "server", "both"], [0.4, 0.4, 0.2]);
    if (what !== "server") {
      const children = [...this.#processes];
      if (children.length > 0) random.pick(children).kill("SIGKILL");
      this.result.workerKills++;
    }
    if (what === "worker") return;
    await killAll(this.cluster);
    this.result.serverKills++;
    await sleep(random.int(1500));
    for (let tries = 0; (await runningPort(this.cluster)) !== undefined && tries < 50; tries++)
      await sleep(100);
    await startServer(this.cluster);
  }

  async progress(): Promise<string> {
    return this.#persistently(async (sql) => {
      const [row] = await sql`
        select count(*) filter (where state = 'done') as done, count(*) as runs, sum(chunks_done) as chunks
        from rollup.backfill_runs`;
      return `${row?.done} of ${row?.runs} runs, ${row?.chunks} chunks`;
    });
  }

  /** Waits until every run has ended and every delta is folded. */
  async settle(limit: number): Promise<void> {
    const deadline = performance.now() + limit * 1000;
    for (;;) {
      const left = await this.#persistently(async (sql) => {
        const [row] = await sql`
          select count(*)::int as runs from rollup.backfill_runs where state in ('pending', 'running')`;
        return row?.runs as number;
      });
      if (left === 0) return;
      if (performance.now() > deadline)
        throw new Error(`${left} runs have not ended within ${limit} s`);
      await sleep(500);
    }
  }

  /** What is wrong now that nothing is under way. */
  async problems(): Promise<string[]> {
    const sql = connect(this.url, { max: 1 });
    const problems: string[] = [];
    const complain = (text: string, rows: readonly object[]) => {
      for (const row of rows.slice(0, 5)) problems.push(`${text}: ${JSON.stringify(row)}`);
    };
    complain(
      "a run that is not done, or not counted right",
      await sql`
        select r.*, c.* from rollup.backfill_runs as r
        cross join lateral (
          select count(*)::int as chunks, count(*) filter (where c.state = 'done')::int as done,
                 sum(c.events)::bigint as read, max(c.attempts) as attempts
          from rollup.backfill_chunks as c where c.account_id = r.account_id and c.run_id = r.id
        ) as c
        where r.state <> 'done' or r.error is not null or r.chunks_failed > 0
           or r.chunks_total <> c.chunks or r.chunks_done <> c.chunks or c.done <> c.chunks
           or r.events <> c.read or c.attempts <> 1
        order by r.id`,
    );
    complain(
      "a run that did not read what there is",
      await sql`
        select r.id, r.account_id, r.events, e.events as there
        from rollup.backfill_runs as r
        cross join lateral (
          select count(*) as events from public.reporting_events as e
          where e.account_id = r.account_id and e.name = any (rollup.event_names())
        ) as e
        where abs(r.events - e.events) > ${this.#rowsWritten}`,
    );
    // Jobs in whose place others came, and those whose completion a crash has swallowed, wait for their next attempt.
    complain(
      "a job that is locked, or given up",
      await sql`select * from rollup_worker.jobs where locked_by is not null or attempts >= max_attempts`,
    );
    complain(
      "an account that is not covered",
      await sql`select account_id, covered::text from rollup.account_coverage where covered <> '{(,)}'`,
    );
    complain("a dirty mark", await sql`select * from rollup.dirty_marks`);
    for (let account = 1; account <= this.options.accounts; account++) {
      complain(`account ${account}`, await sql`select * from rollup.verify(${account})`);
      complain(`account ${account}`, await differences(sql, account));
    }
    const [counts] = await sql`
      select count(*)::int as runs, sum(chunks_done)::int as chunks from rollup.backfill_runs`;
    Object.assign(this.result, counts);
    await sql.end();
    return problems;
  }

  /** Does something on a connection of its own, again and again until the server answers. */
  async #persistently<T>(work: (sql: Sql) => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      const sql = connect(this.url, { max: 1 });
      try {
        return await within(10_000, work(sql));
      } catch (error) {
        if (attempt >= 60) throw error;
        await sleep(250);
      } finally {
        await sql.end({ timeout: 1 });
      }
    }
  }
}

/** Events of accounts of different size over a year, for which no zone is set yet. */
async function addEvents(sql: Sql, events: number, accounts: number): Promise<void> {
  const step = 250_000;
  for (let from = 0; from < events; from += step) {
    await sql`
      insert into public.reporting_events
        (name, value, value_in_business_hours, account_id, inbox_id, user_id, conversation_id, created_at, updated_at)
      select
        (array['conversation_resolved', 'first_response', 'reply_time', 'reply_time', 'conversation_bot_handoff',
               'conversation_bot_resolved', 'conversation_opened'])[1 + n % 7],
        60 + n % 5000, 30 + n % 2500,
        -- The first accounts have the most.
        1 + floor(${accounts}::int * power((n * 7919 % 10007) / 10007.0, 2)),
        1 + n % 5, 1 + n % 20, n / 9, at, at
      from generate_series(${from}::bigint, ${Math.min(from + step, events)}::bigint - 1) as n
      cross join lateral (
        select timestamp '2025-01-01' + (n::float8 / ${events}::int * 365 * 86400) * interval '1 second' as at
      ) as t`;
  }
  await sql`analyze public.reporting_events`;
}

async function within<T>(milliseconds: number, work: PromiseLike<T>): Promise<T> {
  const timer = new AbortController();
  const late = sleep(milliseconds, undefined, { signal: timer.signal }).then(() => {
    throw new Error(`not within ${milliseconds} ms`);
  });
  late.catch(() => {});
  try {
    return await Promise.race([work, late]);
  } finally {
    timer.abort();
  }
}

function seconds(since: number): number {
  return Math.round((performance.now() - since) / 1000);
}

// --- Memory ---------------------------------------------------------------------------------------------

export interface MemoryResult {
  events: number;
  /** By what was measured: seconds, and the peak of the backend's own memory (shared buffers excluded) in MB. */
  worker: { seconds: number; backendMb: number; processMb: number };
  direct: { seconds: number; backendMb: number };
}

/** Backfills one account of so many events, by the worker and by rollup.backfill, and measures memory. Needs /proc. */
export async function backfillMemory(
  url: string,
  { events, log }: { events: number; log: (line: string) => void },
): Promise<MemoryResult> {
  const sql = connect(url, { max: 1 });
  try {
    const started = performance.now();
    await addEvents(sql, events, 1);
    log(`${events} events: ${seconds(started)} s`);
    await sql`select rollup.set_reporting_timezone(1, 'America/New_York')`;
    const worker = await measureWorker(sql, url);
    log(`worker: ${JSON.stringify(worker)}`);
    const direct = await measureDirect(url);
    log(`direct: ${JSON.stringify(direct)}`);
    return { events, worker, direct };
  } finally {
    await sql.end();
  }
}

async function measureWorker(sql: Sql, url: string) {
  const started = performance.now();
  let processMb = 0;
  const backend = watchMemory(async () => {
    processMb = Math.max(processMb, process.memoryUsage().rss / 2 ** 20);
    const rows = await sql<{ pid: number }[]>`
      select pid from pg_stat_activity where datname = current_database() and application_name = 'reporting-rollup worker'`;
    return rows.map(({ pid }) => pid);
  });
  const worker = await startWorker(url);
  for (;;) {
    const [left] = await sql`
      select count(*)::int as runs from rollup.backfill_runs where state in ('pending', 'running')`;
    if (left?.runs === 0) break;
    await sleep(200);
  }
  const took = seconds(started);
  const backendMb = await backend.stop();
  await worker.stop();
  return { seconds: took, backendMb, processMb: Math.round(processMb) };
}

async function measureDirect(url: string) {
  const direct = connect(url, { max: 1 });
  try {
    const [own] = await direct<{ pid: number }[]>`select pg_backend_pid() as pid`;
    const backend = watchMemory(async () => [own?.pid as number]);
    const started = performance.now();
    await direct`select rollup.backfill(1)`;
    return { seconds: seconds(started), backendMb: await backend.stop() };
  } finally {
    await direct.end();
  }
}

/** The peak, over time, of the largest of some processes. */
function watchMemory(processes: () => Promise<number[]>) {
  let peak = 0;
  let stopped = false;
  const watching = (async () => {
    while (!stopped) {
      for (const pid of await processes()) peak = Math.max(peak, await ownMemory(pid));
      await sleep(50);
    }
  })();
  return {
    stop: async (): Promise<number> => {
      stopped = true;
      await watching;
      return Math.round(peak);
    },
  };
}

/** What a process has for itself, in MB: without shared buffers and libraries. */
async function ownMemory(pid: number): Promise<number> {
  const status = await readFile(join("/proc", String(pid), "status"), "utf8").catch(() => "");
  return Number(/^RssAnon:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) / 1024;
}
