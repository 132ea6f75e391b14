import type { Log } from "../../command_line/log.js";
import type { Queries } from "../../database/connection.js";

/** What everything that the worker does has at hand. */
export interface WorkerContext {
  sql: Queries;
  log: Log;
  /** What has been done since the last health line. */
  done: { chunks: number; events: bigint; folded: number; errors: number };
}
