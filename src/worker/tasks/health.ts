import type { WorkerContext } from "./task.js";

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
  Object.assign(done, { chunks: 0, events: 0n, folded: 0, errors: 0 });
}
