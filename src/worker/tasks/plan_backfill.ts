import { z } from "zod";
import { errorCode, toUserError } from "../../database/errors.js";
import { isLostConnection } from "../../database/retry.js";
import type { WorkerContext } from "./task.js";

const payload = z.object({ run_id: z.union([z.string(), z.number()]).transform(String) });

/** The job that begins a run: cuts it into chunks, each with a job of its own. */
export async function planBackfill(context: WorkerContext, input: unknown): Promise<void> {
  const { sql, log, done } = context;
  const { run_id } = payload.parse(input);
  try {
    const [run] = await sql<{ account_id: number | null; chunks_total: number | null }[]>`
      select p.account_id, p.chunks_total from rollup.plan_backfill(${run_id}) as p`;
    if (run?.account_id) log("info", "backfill begun", { run_id, ...run });
  } catch (error) {
    if (isLostConnection(error)) throw error;
    const { message } = toUserError(error);
    const [failed] = await sql<{ state: string | null }[]>`
      select rollup.fail_plan_backfill(${run_id}, ${errorCode(error) ?? null}, ${message}) as state`;
    if (failed?.state !== "waiting") done.errors++;
    const level = failed?.state === "waiting" ? "info" : "warn";
    log(level, "backfill could not begin", { run_id, error: message, state: failed?.state });
    // Thrown, the job is tried again later.
    if (failed?.state === "pending") throw error;
  }
}
