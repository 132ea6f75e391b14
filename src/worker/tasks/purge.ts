import { z } from "zod";
import type { WorkerContext } from "./task.js";

const payload = z.object({ account_id: z.number().int() });

/** How long a job works before its successor goes on, in milliseconds: whoever works for hours is taken for lost. */
const shift = 60_000;

/** The job of a purge: repeats `rollup.continue_purge`, and leaves what is not done after a minute to its successor. */
export async function purge(
  { sql, log }: WorkerContext,
  input: unknown,
  signal: AbortSignal,
): Promise<void> {
  const { account_id } = payload.parse(input);
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

/** Queues purges again whose job was lost. */
export async function requeuePurges({ sql }: WorkerContext): Promise<void> {
  await sql`select rollup.requeue_purges()`;
}
