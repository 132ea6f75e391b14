import { connect } from "../../database/connection.js";
import type { WorkerContext } from "./task.js";

/** Queues the rebuild of days that the trigger could not keep. */
export async function repair({ sql, log }: WorkerContext): Promise<void> {
  const runs = await sql<{ run_id: string }[]>`
    select r as run_id from rollup.enqueue_repairs() as r`;
  for (const { run_id } of runs) log("info", "backfill of dirty days queued", { run_id });
}

/** Follows the zones that the host keeps in the settings of its accounts, where its trigger could not. */
export async function follow(context: WorkerContext): Promise<void> {
  const { sql, log } = context;
  const [row] = await sql<{ accounts: string }[]>`
    select rollup.follow_host_settings() as accounts`;
  if (Number(row?.accounts) === 0) return;
  log("info", "time zones of the host's settings followed", { accounts: row?.accounts });
  await requeue(context);
}

/** Looks whether the host's table was changed behind the triggers. */
export async function watch({ sql, log }: WorkerContext): Promise<void> {
  const [row] = await sql<{ accounts: string }[]>`select rollup.watch_host_table() as accounts`;
  if (Number(row?.accounts) === 0) return;
  log("warn", "public.reporting_events was changed behind its triggers: rollups begin anew", {
    accounts: row?.accounts,
  });
}

/** Looks whether the clocks of a zone have changed, on a session that has not read the old ones. */
export async function watchZones({ log }: WorkerContext, url: string): Promise<void> {
  const fresh = connect(url, { max: 1, applicationName: "reporting-rollup worker" });
  try {
    const [row] = await fresh<{ accounts: string }[]>`select rollup.watch_zone_rules() as accounts`;
    if (Number(row?.accounts) === 0) return;
    log("warn", "the rules of time zones have changed: rollups begin anew", {
      accounts: row?.accounts,
    });
  } finally {
    await fresh.end({ timeout: 1 });
  }
}

/** Removes runs that ended long ago. */
export async function forget({ sql, log }: WorkerContext): Promise<void> {
  const [row] = await sql<{ forgotten: string }[]>`select rollup.forget_backfills() as forgotten`;
  if (Number(row?.forgotten) > 0) log("info", "old backfills forgotten", { runs: row?.forgotten });
}

/** Queues jobs again that were lost, or were restored without their queue. */
export async function requeue({ sql, log }: WorkerContext): Promise<void> {
  const [row] = await sql<{ jobs: string }[]>`select rollup.requeue_backfills() as jobs`;
  if (Number(row?.jobs) > 0) log("info", "unfinished backfills go on", { jobs: row?.jobs });
}
