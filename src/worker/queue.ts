import graphileWorker, { type Runner, type TaskList } from "graphile-worker";
import type { Pool } from "pg";
import type { Level } from "../command_line/log.js";
import { pgPool, type Sql } from "../database/connection.js";
import { workerSchema } from "../database/ours.js";
import { repeatedly } from "../database/retry.js";
import { backfill, purge } from "./jobs.js";
import { requeue, type WorkerContext } from "./rounds.js";
import type { Trouble } from "./trouble.js";

interface QueueOptions {
  url: string;
  concurrency: number;
  context: WorkerContext;
  /** A connection for the heartbeat alone. */
  heartbeat: Sql;
  trouble: Trouble;
}

const stopped = "the queue does not run: jobs wait";

/** graphile-worker, started anew whenever it gives up. */
export class Queue {
  readonly #options: QueueOptions;
  /** Under which graphile-worker locks jobs at present. */
  #poolId: string | undefined;
  #failure: { error: unknown; since: number } | undefined;

  constructor(options: QueueOptions) {
    this.#options = options;
  }

  /** Why no job is taken, and for how many milliseconds; undefined while all is well. */
  get failure(): { error: unknown; milliseconds: number } | undefined {
    if (this.#failure === undefined) return undefined;
    const { error, since } = this.#failure;
    return { error, milliseconds: performance.now() - since };
  }

  /** Runs until the signal is aborted and the jobs under way are done. */
  async run(signal: AbortSignal): Promise<void> {
    const { trouble } = this.#options;
    await Promise.all([
      repeatedly(() => this.#beat(), {
        signal,
        every: 2000,
        failed: (error) => trouble.tell("the heartbeat failed", error),
      }),
      repeatedly(() => this.#runOnce(signal), {
        signal,
        every: 250,
        failed: (error) => this.#failed(error),
      }),
    ]);
  }

  async #runOnce(signal: AbortSignal): Promise<void> {
    // Jobs of a queue that has given up are no longer ours.
    const ended = new AbortController();
    const { url, concurrency } = this.#options;
    const pool = await pgPool(url, {
      max: concurrency + 2,
      applicationName: "reporting-rollup queue",
    });
    try {
      await this.#work(await this.#start(pool, AbortSignal.any([signal, ended.signal])), signal);
    } finally {
      ended.abort();
      this.#poolId = undefined;
      await pool.end();
    }
  }

  async #work(runner: Runner, signal: AbortSignal): Promise<void> {
    const stop = () => {
      runner.stop().catch(() => {});
    };
    if (signal.aborted) stop();
    signal.addEventListener("abort", stop, { once: true });
    runner.events.on("worker:getJob:error", ({ error }) => this.#failed(error));
    runner.events.on("worker:getJob:empty", () => this.#works());
    runner.events.on("job:start", () => this.#works());
    try {
      await new Promise<void>((done, failed) => {
        // After this its own promise may stay open, or resolve as if nothing had happened.
        runner.events.on("pool:fatalError", ({ error }) => failed(error));
        runner.promise.then(done, failed);
      });
    } finally {
      signal.removeEventListener("abort", stop);
    }
  }

  #start(pgPool: Pool, signal: AbortSignal): Promise<Runner> {
    const { concurrency, context } = this.#options;
    const tasks: TaskList = {
      backfill: (payload, { job }) => backfill(context, payload, { jobId: job.id, signal }),
      purge: (payload) => purge(context, payload, signal),
    };
    return graphileWorker.run({
      pgPool,
      schema: workerSchema,
      concurrency,
      pollInterval: 1000,
      noHandleSignals: true,
      parsedCronItems: [],
      taskList: tasks,
      logger: this.#logger(),
      preset: {
        plugins: [this.#heartbeatPlugin()],
        // Otherwise jobs that are done can stay locked at the end.
        worker: { completeJobBatchDelay: 0, failJobBatchDelay: 0 },
      },
    });
  }

  /** Registers before the first job is taken. */
  #heartbeatPlugin(): GraphileConfig.Plugin {
    return {
      name: "RollupHeartbeatPlugin",
      version: "1.0.0",
      worker: {
        hooks: {
          startWorker: async (_context, { worker }) => {
            this.#poolId = worker.workerPool.id;
            await this.#beat();
          },
        },
      },
    };
  }

  /** Being alive is a lock of a session: a lost one is taken anew, and without a queue there is none. */
  async #beat(): Promise<void> {
    const { heartbeat, context, trouble } = this.#options;
    const [row] = await heartbeat<{ dead: string }[]>`
      select rollup.heartbeat(${this.#poolId ?? null}) as dead`;
    trouble.connected();
    if (Number(row?.dead) === 0) return;
    context.log("warn", "took over the jobs of killed workers", { workers: row?.dead });
    await requeue(context);
  }

  #failed(error: unknown): void {
    this.#failure = { error, since: this.#failure?.since ?? performance.now() };
    this.#options.trouble.insist(stopped, error, "error");
  }

  #works(): void {
    this.#failure = undefined;
    if (this.#options.trouble.over(stopped)) this.#options.context.log("info", "the queue runs");
  }

  /** What graphile-worker says, as lines of our log; its successes are ours to tell. */
  #logger() {
    const { context, trouble } = this.#options;
    return new graphileWorker.Logger(() => (level, message, meta) => {
      const { error, fatalError } = (meta ?? {}) as { error?: unknown; fatalError?: unknown };
      const firstLine = message.split("\n", 1)[0] as string;
      const cause = error ?? fatalError;
      const told = levels[level] ?? "debug";
      if (cause === undefined) context.log(told, firstLine);
      else trouble.tell(firstLine, cause, told);
    });
  }
}

const levels: Record<string, Level> = {
  error: "error",
  // Of its own workings, when it stops and is started again.
  warning: "debug",
  info: "debug",
  debug: "debug",
};
