import { z } from "zod";
import { isLostConnection, toUserError } from "../../database/errors.js";
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

/** Seals and purges what the accounts' retention lets go; an account that fails is left as it is. */
export async function retain({ sql, log, done }: WorkerContext): Promise<void> {
  const due = await sql<{ account_id: number; before: string }[]>`
    select * from rollup.retention_due()`;
  for (const { account_id, before } of due) {
    try {
      await sql`select rollup.apply_retention(${account_id})`;
      log("info", "raw events past their retention are purged", { account_id, before });
    } catch (error) {
      if (isLostConnection(error)) throw error;
      done.errors++;
      const { message } = toUserError(error);
      log("warn", "raw events past their retention not purged", { account_id, error: message });
    }
  }
}

/** Queues purges again whose job was lost. */
export async function requeuePurges({ sql }: WorkerContext): Promise<void> {
  await sql`select rollup.requeue_purges()`;
}
