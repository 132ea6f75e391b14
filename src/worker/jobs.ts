/** What the queue's jobs do. Each leaves what is not done after a minute to its successor. */
import { z } from "zod";
import { persistently } from "../database/retry.js";
import type { WorkerContext } from "./rounds.js";

/** How long a job works, in milliseconds: whoever works for hours is taken for lost. */
const shift = 60_000;

interface Step {
  outcome: "begun" | "rebuilt" | "failed" | "waiting" | "ended";
  account_id: number | null;
  chunk: number | null;
  events: string | null;
  error: string | null;
  state: string | null;
  wait_seconds: number | null;
}

const runPayload = z.object({ run_id: z.union([z.string(), z.number()]).transform(String) });

/** Of a run: repeats `rollup.continue_backfill`. */
export async function backfill(
  context: WorkerContext,
  input: unknown,
  { jobId, signal }: { jobId: string; signal: AbortSignal },
): Promise<void> {
  const { run_id } = runPayload.parse(input);
  const { sql } = context;
  const until = performance.now() + shift;
  let pause = 0;
  while (pause === 0 && performance.now() < until && !signal.aborted) {
    const started = performance.now();
    const step = await persistently(
      () => sql<Step[]>`select * from rollup.continue_backfill(${run_id}, ${jobId})`,
      { signal },
    );
    if (step?.[0] === undefined) break;
    report(context, run_id, step[0], Math.round(performance.now() - started));
    if (step[0].wait_seconds === null) return;
    pause = step[0].wait_seconds;
  }
  await sql`select rollup.queue_backfill(${run_id}, make_interval(secs => ${pause}))`;
}

function report({ log, done }: WorkerContext, run_id: string, step: Step, ms: number): void {
  const { outcome, wait_seconds, ...fields } = step;
  if (outcome === "rebuilt") {
    done.chunks++;
    done.events += BigInt(step.events ?? 0);
  }
  if (outcome === "failed") done.errors++;
  const level = { failed: "warn", waiting: "debug" } as const;
  const told = level[outcome as keyof typeof level] ?? "info";
  log(told, `backfill ${outcome}`, { run_id, ...fields, ms });
}

const accountPayload = z.object({ account_id: z.number().int() });

/** Of a purge: repeats `rollup.continue_purge`. */
export async function purge(
  { sql, log }: WorkerContext,
  input: unknown,
  signal: AbortSignal,
): Promise<void> {
  const { account_id } = accountPayload.parse(input);
  const until = performance.now() + shift;
  while (performance.now() < until && !signal.aborted) {
    const [step] = await sql<{ day: string | null; events: string }[]>`
      select * from rollup.continue_purge(${account_id})`;
    if (step === undefined || step.day === null) {
      log("info", "purge done", { account_id });
      return;
    }
    log("debug", "raw events purged", { account_id, ...step });
  }
  await sql`select rollup.queue_purge(${account_id})`;
}
