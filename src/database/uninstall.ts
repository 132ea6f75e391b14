import { setTimeout as sleep } from "node:timers/promises";
import { open } from "./connection.js";
import { errorCode, UserError } from "./errors.js";
import { ownMigrations, workerSchema } from "./migrate.js";

export interface UninstallOptions {
  /** How long to wait for others' locks, in milliseconds. */
  patience?: number;
}

/**
 * Removes the triggers, both schemas and the record of our migrations, in one transaction. The host's tables stay.
 * Waits for locks only a moment at a time: the host's writers would queue behind us.
 */
export async function uninstall(url: string, { patience = 60_000 }: UninstallOptions = {}) {
  const hashes = await ownMigrations();
  const sql = await open(url, { max: 1 });
  try {
    for (const deadline = Date.now() + patience; ; await sleep(500)) {
      try {
        await sql.begin(async (transaction) => {
          await transaction`set local lock_timeout = '200ms'`;
          // The triggers go with their functions.
          await transaction`drop schema if exists rollup cascade`;
          await transaction`drop schema if exists ${transaction(workerSchema)} cascade`;
          const [history] = await transaction<{ found: boolean }[]>`
            select to_regclass('graphile_migrate.migrations') is not null as found`;
          if (history?.found) {
            await transaction`delete from graphile_migrate.migrations where hash = any(${hashes})`;
          }
        });
        return;
      } catch (error) {
        if (!["55P03", "40P01"].includes(errorCode(error) ?? "")) throw error;
        if (Date.now() > deadline) {
          throw new UserError("Gave up waiting for another transaction that uses the tables.", {
            hint: "Let it end (see pg_stat_activity), or stop the worker; nothing was removed.",
            cause: error,
          });
        }
      }
    }
  } finally {
    await sql.end({ timeout: 1 });
  }
}
