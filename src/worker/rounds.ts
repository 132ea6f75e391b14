/** What the worker does again and again, without a job: each a call of one SQL function, told where it did something. */
import type { Level, Log } from "../command_line/log.js";
import { connect, type Queries } from "../database/connection.js";
import { isLostConnection, toUserError } from "../database/errors.js";
import { pause } from "../database/retry.js";

/** What everything that the worker does has at hand. */
export interface WorkerContext {
  sql: Queries;
  log: Log;
  /** What has been done since the last health line. */
  done: { chunks: number; events: bigint; folded: number; errors: number };
}

/** Applies the pending deltas of every account, each in transactions of its own. */
export async function fold(context: WorkerContext, signal: AbortSignal): Promise<void> {
  const accounts = await context.sql<{ account_id: number }[]>`
    select a as account_id from rollup.accounts_to_fold() as a`;
  for (const { account_id } of accounts) {
    if (signal.aborted) return;
    await unlessItFails(context, account_id, "pending deltas not folded", () =>
      foldAccount(context, account_id, signal),
    );
  }
}

async function foldAccount({ sql, log, done }: WorkerContext, account: number, stop: AbortSignal) {
  for (let more = true; more && !stop.aborted; ) {
    const [row] = await sql<{ folded: string; size: number }[]>`
      select rollup.fold_account(${account}) as folded, rollup.fold_size() as size`;
    const folded = Number(row?.folded);
    done.folded += folded;
    if (folded > 0) log("debug", "folded", { account_id: account, deltas: folded });
    more = folded === row?.size;
  }
}

/** Queues the rebuild of days that the trigger could not keep. */
export async function repair({ sql, log }: WorkerContext): Promise<void> {
  const runs = await sql<{ run_id: string }[]>`
    select r as run_id from rollup.enqueue_repairs() as r`;
  for (const { run_id } of runs) log("info", "backfill of dirty days queued", { run_id });
}

/** Follows the zones that the host keeps in the settings of its accounts, where its trigger could not. */
export async function follow(context: WorkerContext): Promise<void> {
  const accounts = context.sql<Count>`select rollup.follow_host_settings() as number`;
  if (await told(context, accounts, "info", "time zones of the host's settings followed"))
    await requeue(context);
}

/** Looks whether the host's table was changed behind the triggers. */
export async function watch(context: WorkerContext): Promise<void> {
  const accounts = context.sql<Count>`select rollup.watch_host_table() as number`;
  const what = "public.reporting_events was changed behind its triggers: rollups begin anew";
  await told(context, accounts, "warn", what);
}

/** Looks whether the clocks of a zone have changed, on a session that has not read the old ones. */
export async function watchZones(context: WorkerContext, url: string): Promise<void> {
  const fresh = connect(url, { max: 1, applicationName: "reporting-rollup worker" });
  const accounts = fresh<Count>`select rollup.watch_zone_rules() as number`;
  const what = "the rules of time zones have changed: rollups begin anew";
  await told(context, accounts, "warn", what).finally(() => fresh.end({ timeout: 1 }));
}

/** Removes runs that ended long ago. */
export async function forget(context: WorkerContext): Promise<void> {
  const runs = context.sql<Count>`select rollup.forget_backfills() as number`;
  await told(context, runs, "info", "old backfills forgotten", "runs");
}

/** Queues jobs again that were lost, or were restored without their queue. */
export async function requeue(context: WorkerContext): Promise<void> {
  const jobs = context.sql<Count>`select rollup.requeue_backfills() as number`;
  await told(context, jobs, "info", "unfinished backfills go on", "jobs");
}

/** Queues purges again whose job was lost. */
export async function requeuePurges({ sql }: WorkerContext): Promise<void> {
  await sql`select rollup.requeue_purges()`;
}

/** Seals and purges what the accounts' retention lets go. */
export async function retain(context: WorkerContext): Promise<void> {
  const { sql, log } = context;
  const due = await sql<{ account_id: number; before: string }[]>`
    select * from rollup.retention_due()`;
  for (const { account_id, before } of due) {
    const what = "raw events past their retention not purged";
    await unlessItFails(context, account_id, what, async () => {
      await sql`select rollup.apply_retention(${account_id})`;
      log("info", "raw events past their retention are purged", { account_id, before });
    });
  }
}

/** Verifies the accounts in whose zones it is night, one after the other, and rests as long as each took. */
export async function verifyNightly(
  { sql, log }: WorkerContext,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    const began = performance.now();
    const [seen] = await sql<{ account_id: number | null; days: number }[]>`
      select * from rollup.verify_next()`;
    if (seen === undefined || seen.account_id === null) return;
    log(seen.days > 0 ? "warn" : "debug", "account verified", { ...seen });
    await pause(performance.now() - began, signal);
  }
}

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
  const warnings = await sql<{ warning: string }[]>`
    select w as warning from rollup.warnings() as w`;
  for (const { warning } of warnings) log("warn", warning);
  Object.assign(done, { chunks: 0, events: 0n, folded: 0, errors: 0 });
}

type Count = { number: string }[];

/** Logs how many there were, if there were any. */
async function told(
  { log }: WorkerContext,
  counted: Promise<Count>,
  level: Level,
  what: string,
  name = "accounts",
): Promise<boolean> {
  const number = (await counted)[0]?.number;
  if (Number(number) === 0) return false;
  log(level, what, { [name]: number });
  return true;
}

/** An account that fails is left as it is, and the others go on. */
async function unlessItFails(
  { log, done }: WorkerContext,
  account_id: number,
  what: string,
  work: () => Promise<void>,
): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (isLostConnection(error)) throw error;
    done.errors++;
    log("warn", what, { account_id, error: toUserError(error).message });
  }
}
