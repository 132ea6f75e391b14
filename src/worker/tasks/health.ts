import type { WorkerContext } from "./task.js";

/** So many pending deltas slow reads down, and mean that folding lags behind. */
export const manyDeltas = 100_000;

/** The health line: what waits, what was done since the last one, and how much memory it takes. */
export async function health({ sql, log, done }: WorkerContext): Promise<void> {
  const [waiting] = await sql<Record<string, string>[]>`select * from rollup.worker_health()`;
  log("info", "health", {
    ...waiting,
    chunks_done: done.chunks,
    events_rebuilt: String(done.events),
    deltas_folded: done.folded,
    errors: done.errors,
    memory_mb: Math.round(process.memoryUsage().rss / 2 ** 20),
  });
  const pending = Number(waiting?.deltas_pending);
  if (pending >= manyDeltas) {
    log("warn", "many pending changes: reads are slower until they are folded", {
      deltas_pending: waiting?.deltas_pending,
    });
  }
  Object.assign(done, { chunks: 0, events: 0n, folded: 0, errors: 0 });
}
