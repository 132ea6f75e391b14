/** Backfills from code: asking for one, and watching it. */
import { open, type Queries } from "../database/connection.js";
import { pause, persistently } from "../database/retry.js";

export interface EnqueueOptions {
  /** First account-local day, `2026-01-31`; without it, from the first event on. */
  from?: string | undefined;
  /** Last account-local day, inclusive; without it, through the last event, and coming days too. */
  to?: string | undefined;
}

/** Asks the worker to rebuild an account; returns the id of the run in `rollup.backfill_runs`. */
export async function enqueueBackfill(
  database: string | Queries,
  accountId: number,
  { from, to }: EnqueueOptions = {},
): Promise<string> {
  const own = typeof database === "string" ? await open(database, { max: 1 }) : undefined;
  const sql = own ?? (database as Queries);
  try {
    const [row] = await sql<{ run_id: string }[]>`
      select rollup.enqueue_backfill(${accountId}, ${from ?? null}, ${to ?? null}) as run_id`;
    return row?.run_id as string;
  } finally {
    await own?.end({ timeout: 1 });
  }
}

/** What a backfill would do, as `rollup.backfill_outlook` says. */
export interface Outlook {
  account_id: number;
  reporting_timezone: string;
  first_event: string | null;
  last_event: string | null;
  from_date: string | null;
  to_date: string | null;
  days: number | null;
  events: string;
  chunks: string;
  running_backfill_id: string | null;
  running_covers: boolean | null;
}

/** What a backfill would do. */
export async function backfillOutlook(
  sql: Queries,
  accountId: number,
  { from, to }: EnqueueOptions,
): Promise<Outlook> {
  const [row] = await sql<Outlook[]>`
    select * from rollup.backfill_outlook(${accountId}, ${from ?? null}, ${to ?? null})`;
  return row as Outlook;
}

/** How far a run is, as `rollup.backfill_progress` says. */
export interface RunProgress {
  id: string;
  account_id: number;
  from_date: string;
  to_date: string;
  state: "pending" | "running" | "done" | "failed" | "cancelled";
  chunks_total: number;
  chunks_done: number;
  chunks_failed: number;
  events: string;
  events_total: string;
  rows_written: string;
  seconds: string | null;
  error: string | null;
}

export interface WatchOptions {
  signal: AbortSignal;
  progress: (run: RunProgress) => void;
  /** Told once when the database stops answering. */
  lost?: () => void;
}

/**
 * Watches a run until it has ended, or the signal is aborted; returns what was seen last. Goes on asking while the
 * database does not answer.
 */
export async function watchBackfill(
  sql: Queries,
  runId: string,
  { signal, progress, lost }: WatchOptions,
): Promise<RunProgress | undefined> {
  let run: RunProgress | undefined;
  while (!signal.aborted) {
    const ask = () => sql<RunProgress[]>`select * from rollup.backfill_progress(${runId})`;
    const seen = (await persistently(ask, { signal, lost }))?.[0];
    if (seen === undefined) break;
    run = seen;
    progress(run);
    if (run.state !== "pending" && run.state !== "running") break;
    await pause(200, signal);
  }
  return run;
}
