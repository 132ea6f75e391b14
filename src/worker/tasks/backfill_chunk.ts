import { z } from "zod";
import type { Sql } from "../../database/connection.js";
import { errorCode, toUserError } from "../../database/errors.js";
import { isLostConnection } from "../../database/retry.js";
import type { WorkerContext } from "./task.js";

const payload = z.object({
  account_id: z.number().int(),
  run_id: z.union([z.string(), z.number()]).transform(String),
  chunk: z.number().int(),
});

type Chunk = z.infer<typeof payload>;

/**
 * The job that rebuilds a chunk of a run. What fails is noted in a transaction of its own, and queued again by the
 * database; only when that cannot be noted either does the job itself fail, and graphile-worker tries it again.
 */
export async function backfillChunk(context: WorkerContext, input: unknown): Promise<void> {
  const chunk = payload.parse(input);
  const started = performance.now();
  try {
    const result = await rebuild(context.sql, chunk);
    if (result.state === "done") {
      context.done.chunks++;
      context.done.events += BigInt(result.events ?? 0);
    }
    const ms = Math.round(performance.now() - started);
    context.log("info", `chunk ${result.state}`, { ...chunk, events: result.events, ms });
  } catch (error) {
    if (isLostConnection(error)) throw error;
    context.done.errors++;
    const { message } = toUserError(error);
    const state = await noteFailure(context.sql, chunk, errorCode(error), message);
    context.log("warn", "chunk not rebuilt", { ...chunk, error: message, state });
  }
}

async function rebuild(sql: Sql, { account_id, run_id, chunk }: Chunk) {
  const [row] = await sql<{ state: string }[]>`
    select rollup.backfill_chunk(${account_id}, ${run_id}, ${chunk}) as state`;
  const [read] = await sql<{ events: string }[]>`
    select events from rollup.backfill_chunks
    where account_id = ${account_id} and run_id = ${run_id} and chunk = ${chunk}`;
  return { state: row?.state ?? "gone", events: read?.events };
}

async function noteFailure(sql: Sql, chunk: Chunk, code: string | undefined, message: string) {
  const [row] = await sql<{ state: string | null }[]>`
    select rollup.fail_backfill_chunk(
      ${chunk.account_id}, ${chunk.run_id}, ${chunk.chunk}, ${code ?? null}, ${message}
    ) as state`;
  return row?.state ?? "gone";
}
