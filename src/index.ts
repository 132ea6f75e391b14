/** For use from code: install, start a worker, ask for a backfill. */

export { type Log, makeLog } from "./command_line/log.js";
export { UserError } from "./database/errors.js";
export { type MigrateOptions, type MigrateResult, migrate } from "./database/migrate.js";
export { type EnqueueOptions, enqueueBackfill } from "./worker/backfill.js";
export { startWorker, type Worker, type WorkerOptions } from "./worker/worker.js";
