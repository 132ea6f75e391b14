/** For use from code: install, start a worker, ask for a backfill. */
export { type EnqueueOptions, enqueueBackfill } from "./backfill.js";
export { UserError } from "./errors.js";
export { type Log, makeLog } from "./log.js";
export { type MigrateOptions, type MigrateResult, migrate } from "./migrate.js";
export { startWorker, type Worker, type WorkerOptions } from "./worker.js";
