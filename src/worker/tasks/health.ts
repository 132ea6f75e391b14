import type { WorkerContext } from "./task.js";

/** The health line: what waits, what was done since the last one, and how much memory it takes; and what to see to. */
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
  const warnings = await sql<
    { warning: string }[]
  >`select w as warning from rollup.warnings() as w`;
  for (const { warning } of warnings) log("warn", warning);
  Object.assign(done, { chunks: 0, events: 0n, folded: 0, errors: 0 });
}
