/**
 * The worker: graphile-worker for the jobs of backfills, and timers for what has no job. All work is done by SQL
 * functions on connections of ours, each call a transaction of its own.
 */
import graphileWorker, { type Runner, type TaskList, type WorkerPool } from "graphile-worker";
import { type Level, type Log, silent } from "../command_line/log.js";
import { connect, type Sql } from "../database/connection.js";
import { toUserError } from "../database/errors.js";
import { workerSchema } from "../database/migrate.js";
import { isLostConnection, pause, repeatedly } from "../database/retry.js";
import { backfillChunk } from "./tasks/backfill_chunk.js";
import { fold } from "./tasks/fold.js";
import { health } from "./tasks/health.js";
import { planBackfill } from "./tasks/plan_backfill.js";
import { forget, repair, requeue } from "./tasks/repair.js";
import type { WorkerContext } from "./tasks/task.js";

export interface WorkerOptions {
  /** Jobs at the same time; those of one account follow one another. */
  concurrency?: number;
  log?: Log;
  /** Milliseconds between two rounds of folding; 3 seconds by default. */
  foldEvery?: number;
}

/** A running worker. */
export interface Worker {
  /** Takes no new job, waits for those under way to be done and recorded, and lets go of everything. */
  stop(): Promise<void>;
}

const minute = 60_000;

/** Starts a worker on a migrated database. It survives lost connections, and takes over the jobs of killed workers. */
export async function startWorker(url: string, options: WorkerOptions = {}): Promise<Worker> {
  const { concurrency = 2, log = silent, foldEvery = 3000 } = options;
  const sql = connectWorker(url, concurrency + 1);
  const attendance = connectWorker(url, 1);
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
    await Promise.all([sql.end({ timeout: 1 }), attendance.end({ timeout: 1 })]);
    throw error;
  }
  const trouble = new Trouble(log);
  const queue = new Queue({ url, concurrency, context, attendance, trouble });
  const running = [queue.run(signal), ...startTimers(context, { trouble, signal, foldEvery })];
  return {
    stop: async () => {
      stopping.abort();
      await Promise.all(running);
      await Promise.all([sql.end({ timeout: 5 }), attendance.end({ timeout: 5 })]);
    },
  };
}

interface TimerOptions {
  trouble: Trouble;
  signal: AbortSignal;
  foldEvery: number;
}

/** What has no job of its own; each until the signal is aborted. */
function startTimers(
  context: WorkerContext,
  { trouble, signal, foldEvery }: TimerOptions,
): Promise<void>[] {
  const timer = (what: string, every: number, work: () => Promise<unknown>) =>
    repeatedly(work, { signal, every, failed: (error) => trouble.tell(`${what} failed`, error) });
  return [
    timer("folding", foldEvery, async () => {
      await fold(context, signal);
      await repair(context);
    }),
    timer("forgetting old backfills", 24 * 60 * minute, () => forget(context)),
    pause(minute, signal).then(() =>
      timer("the health line", minute, async () => {
        await requeue(context);
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
      default_transaction_isolation: "read committed",
      statement_timeout: "0",
      // A worker whose machine has vanished is to lose its locks within seconds, not hours.
      tcp_keepalives_idle: "10",
      tcp_keepalives_interval: "5",
      tcp_keepalives_count: "3",
    },
  });
}

/** Tells what goes wrong; a lost connection, which many notice, only once. */
class Trouble {
  readonly #log: Log;
  #lostAt: number | undefined;

  constructor(log: Log) {
    this.#log = log;
  }

  tell(message: string, error: unknown, level: Level = "warn"): void {
    const fields = { error: toUserError(error).message };
    if (!isLostConnection(error)) {
      this.#log(level, message, fields);
      return;
    }
    const known = this.#lostAt !== undefined;
    this.#lostAt = performance.now();
    this.#log(known ? "debug" : "warn", "connection lost; trying to connect again", fields);
  }

  /** The database answers. */
  over(): void {
    // Others may still be about to notice.
    if (this.#lostAt === undefined || performance.now() - this.#lostAt < 1000) return;
    this.#lostAt = undefined;
    this.#log("info", "connected again");
  }
}

interface QueueOptions {
  url: string;
  concurrency: number;
  context: WorkerContext;
  attendance: Sql;
  trouble: Trouble;
}

/** graphile-worker, started anew whenever it gives up. */
class Queue {
  readonly #options: QueueOptions;
  /** Under which graphile-worker locks jobs at present. */
  #poolId: string | undefined;

  constructor(options: QueueOptions) {
    this.#options = options;
  }

  /** Runs until the signal is aborted and the jobs under way are done. */
  async run(signal: AbortSignal): Promise<void> {
    const { trouble } = this.#options;
    await Promise.all([
      repeatedly(() => this.#attend(), {
        signal,
        every: 2000,
        failed: (error) => trouble.tell("attendance failed", error),
      }),
      repeatedly(() => this.#runOnce(signal), {
        signal,
        every: 250,
        failed: (error) => trouble.tell("the queue stopped; starting it again", error, "error"),
      }),
    ]);
  }

  async #runOnce(signal: AbortSignal): Promise<void> {
    const runner = await this.#start();
    runner.events.on("job:complete", ({ worker }) => lookAgain(worker.workerPool, signal));
    const stop = () => {
      runner.stop().catch(() => {});
    };
    if (signal.aborted) stop();
    signal.addEventListener("abort", stop, { once: true });
    try {
      await new Promise<void>((done, failed) => {
        // After this its own promise may stay open, or resolve as if nothing had happened.
        runner.events.on("pool:fatalError", ({ error }) => failed(error));
        runner.promise.then(done, failed);
      });
    } finally {
      signal.removeEventListener("abort", stop);
      this.#poolId = undefined;
    }
  }

  #start(): Promise<Runner> {
    const { url, concurrency, context, trouble } = this.#options;
    const tasks: TaskList = {
      plan_backfill: (payload) => planBackfill(context, payload),
      backfill_chunk: (payload) => backfillChunk(context, payload),
    };
    return graphileWorker.run({
      connectionString: url,
      schema: workerSchema,
      concurrency,
      maxPoolSize: concurrency + 2,
      pollInterval: 1000,
      noHandleSignals: true,
      parsedCronItems: [],
      taskList: tasks,
      logger: graphileLogger(context.log, trouble),
      preset: {
        plugins: [this.#attendancePlugin()],
        // Otherwise jobs that are done can stay locked at the end.
        worker: { completeJobBatchDelay: 0, failJobBatchDelay: 0 },
      },
    });
  }

  /** Attends before the first job is taken. */
  #attendancePlugin(): GraphileConfig.Plugin {
    return {
      name: "RollupAttendancePlugin",
      version: "1.0.0",
      worker: {
        hooks: {
          startWorker: async (_context, { worker }) => {
            this.#poolId = worker.workerPool.id;
            await this.#attend();
          },
        },
      },
    };
  }

  /** Attendance is a lock of a session; a lost one is taken anew. */
  async #attend(): Promise<void> {
    if (this.#poolId === undefined) return;
    const { attendance, context, trouble } = this.#options;
    const [row] = await attendance<{ lost: string }[]>`
      select rollup.attend_worker(${this.#poolId}) as lost`;
    trouble.over();
    if (Number(row?.lost) === 0) return;
    context.log("warn", "took over the jobs of killed workers", { workers: row?.lost });
    await requeue(context);
  }
}

/**
 * The next job of an account can be had a moment after the one before is done, which is when this has been written; a
 * worker that looks too early sleeps until the next poll.
 */
function lookAgain(pool: WorkerPool, signal: AbortSignal): void {
  for (const delay of [5, 20, 100]) {
    setTimeout(() => {
      if (!signal.aborted && pool._active && !pool._shuttingDown) pool.nudge(pool._workers.length);
    }, delay).unref();
  }
}

const levels: Record<string, Level> = {
  error: "error",
  // Of its own workings, when it stops and is started again.
  warning: "debug",
  info: "debug",
  debug: "debug",
};

/** What graphile-worker says, as lines of our log; its successes are ours to tell. */
function graphileLogger(log: Log, trouble: Trouble) {
  return new graphileWorker.Logger(() => (level, message, meta) => {
    const { error, fatalError } = (meta ?? {}) as { error?: unknown; fatalError?: unknown };
    const firstLine = message.split("\n", 1)[0] as string;
    const told = levels[level] ?? "debug";
    const cause = error ?? fatalError;
    if (cause === undefined) log(told, firstLine);
    else trouble.tell(firstLine, cause, told);
  });
}
