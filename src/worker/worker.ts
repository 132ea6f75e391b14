/**
 * The worker: graphile-worker for the jobs of backfills, and timers for what has no job. All work is done by SQL
 * functions on connections of ours, each call a transaction of its own.
 */
import { type Log, silent } from "../command_line/log.js";
import { connect, requireSession, type Sql } from "../database/connection.js";
import { pause, repeatedly } from "../database/retry.js";
import {
  fold,
  follow,
  forget,
  health,
  repair,
  requeue,
  requeuePurges,
  retain,
  verifyNightly,
  type WorkerContext,
  watch,
  watchZones,
} from "./rounds.js";
import { Trouble } from "./trouble.js";

export interface WorkerOptions {
  /** Jobs at the same time; those of one account follow one another. */
  concurrency?: number;
  log?: Log;
  /** Milliseconds between two rounds of folding; 3 seconds by default. */
  foldEvery?: number;
}

/** A running worker. */
export interface Worker {
  /** Why its queue takes no jobs, and for how many milliseconds; undefined while all is well. */
  failure(): { error: unknown; milliseconds: number } | undefined;
  /** Takes no new job, waits for those under way to be done and recorded, and lets go of everything. */
  stop(): Promise<void>;
}

const minute = 60_000;

/** Starts a worker on a migrated database. It survives lost connections, and takes over the jobs of killed workers. */
export async function startWorker(url: string, options: WorkerOptions = {}): Promise<Worker> {
  const { concurrency = 2, log = silent, foldEvery = 3000 } = options;
  await requireSession(url, "The worker");
  const sql = connectWorker(url, concurrency + 1);
  const heartbeat = connectWorker(url, 1);
  const context: WorkerContext = {
    sql,
    log,
    done: { chunks: 0, events: 0n, folded: 0, errors: 0 },
  };
  const stopping = new AbortController();
  const { signal } = stopping;
  try {
    // Also tells a database that is not migrated at once.
    await requeue(context);
  } catch (error) {
    await Promise.all([sql.end({ timeout: 1 }), heartbeat.end({ timeout: 1 })]);
    throw error;
  }
  const trouble = new Trouble(log);
  // Its library takes a while to load, and most commands start no worker.
  const { Queue } = await import("./queue.js");
  const queue = new Queue({ url, concurrency, context, heartbeat, trouble });
  const running = [queue.run(signal), ...startTimers(context, { url, trouble, signal, foldEvery })];
  return {
    failure: () => queue.failure,
    stop: async () => {
      stopping.abort();
      await Promise.all(running);
      await Promise.all([sql.end({ timeout: 5 }), heartbeat.end({ timeout: 5 })]);
    },
  };
}

interface TimerOptions {
  url: string;
  trouble: Trouble;
  signal: AbortSignal;
  foldEvery: number;
}

/** What has no job of its own; each until the signal is aborted. */
function startTimers(
  context: WorkerContext,
  { url, trouble, signal, foldEvery }: TimerOptions,
): Promise<void>[] {
  const timer = (what: string, every: number, work: () => Promise<unknown>) =>
    repeatedly(work, { signal, every, failed: (error) => trouble.tell(`${what} failed`, error) });
  return [
    timer("folding", foldEvery, async () => {
      await fold(context, signal);
      await repair(context);
    }),
    timer("following the host's settings", 10_000, () => follow(context)),
    timer("watching the host's table", minute, () => watch(context)),
    timer("watching time zones", 24 * 60 * minute, () => watchZones(context, url)),
    timer("the nightly verification", minute, () => verifyNightly(context, signal)),
    timer("applying retention", 60 * minute, () => retain(context)),
    timer("forgetting old backfills", 24 * 60 * minute, () => forget(context)),
    pause(minute, signal).then(() =>
      timer("the health line", minute, async () => {
        await requeue(context);
        await requeuePurges(context);
        await health(context);
      }),
    ),
  ];
}

function connectWorker(url: string, max: number): Sql {
  return connect(url, {
    max,
    applicationName: "reporting-rollup worker",
    settings: {
      // A worker whose machine has vanished is to lose its locks within seconds, not hours.
      tcp_keepalives_idle: "10",
      tcp_keepalives_interval: "5",
      tcp_keepalives_count: "3",
    },
  });
}
