import type { Command } from "commander";
import pc from "picocolors";
import { connect, type Sql } from "../../database/connection.js";
import { toUserError, UserError } from "../../database/errors.js";
import {
  backfillOutlook,
  enqueueBackfill,
  type Outlook,
  type RunProgress,
  watchBackfill,
} from "../../worker/backfill.js";
import { startWorker, type Worker } from "../../worker/worker.js";
import { dateArgument } from "../arguments.js";
import { action, type Context, type Database, type Place } from "../command.js";
import {
  accountsHelp,
  allOption,
  chooseAccounts,
  concludeAccounts,
  type Fate,
  failure,
  onlyAccounts,
  requireAccounts,
} from "../fleet.js";
import { divertConsole, silent } from "../log.js";
import type { Output } from "../output.js";
import { counted, duration, whole } from "../terminal/format.js";
import { type ProgressBar, progressBar } from "../terminal/progress.js";
import { agree } from "../terminal/prompts.js";
import { facts } from "../terminal/table.js";

interface Options {
  all?: boolean;
  from?: string;
  to?: string;
  dryRun?: boolean;
  yes?: boolean;
  /** False with --no-wait. */
  wait: boolean;
}

const manyDays = 730;

/** `reporting-rollup backfill` */
export function registerBackfill(program: Command): void {
  program
    .command("backfill")
    .description("rebuild the daily totals of accounts from their raw events")
    .argument("[accounts...]", accountsHelp)
    .option(allOption[0], "all accounts that have a time zone")
    .option(
      "--from <date>",
      "first day, in account time (default: the first event's)",
      dateArgument,
    )
    .option(
      "--to <date>",
      "last day, inclusive (default: through today, and days to come)",
      dateArgument,
    )
    .option("--dry-run", "say what would be done, and do nothing")
    .option("-y, --yes", "do not ask")
    .option("--no-wait", "leave the work to a running worker")
    .action(action(program, backfill));
}

async function backfill(context: Context, words: string[], options: Options): Promise<number> {
  const named = onlyAccounts(words);
  requireAccounts(named, options.all);
  requireOrder(options);
  const { sql, at } = await context.database();
  const accounts = await chooseAccounts(sql, named, { all: options.all, withTimezone: true });
  const [only] = named;
  return only !== undefined && named.length === 1
    ? backfillOne(context, await at(only), only, options)
    : backfillSeveral(context, at, accounts, options);
}

async function backfillOne(
  context: Context,
  { sql, url }: Place,
  account: number,
  options: Options,
): Promise<number> {
  const { out } = context;
  const outlook = await backfillOutlook(sql, account, options);
  showPlan(out, outlook, options);
  if (options.dryRun) {
    out.document(outlook);
    out.line("Nothing was done (--dry-run).");
    return 0;
  }
  if (!options.yes && !(await agree("A backfill", "Begin?", (outlook.days ?? 0) <= manyDays))) {
    out.progress("Nothing was done.");
    return 1;
  }
  const runId = await requestRun(out, sql, outlook, options);
  if (!options.wait) return leaveToWorker(out, sql, runId);
  await sql.end({ timeout: 1 });
  const [run] = await workOff(context, url, [{ account, url, runId, events: 0 }]);
  return context.interrupted.aborted && run?.seen?.state !== "done"
    ? interruptedAt(out, run?.seen, account)
    : conclude(out, run?.seen);
}

/** One plan and one question for all, one worker for all of their runs; a bad account does not stop the rest. */
async function backfillSeveral(
  context: Context,
  at: Database["at"],
  accounts: number[],
  options: Options,
): Promise<number> {
  const { out } = context;
  const fates: Fate[] = [];
  const attempt = async <T>(account_id: number, work: () => Promise<T>): Promise<T[]> =>
    work().then(
      (done) => [done],
      (error) => {
        fates.push({ account_id, ...failure(error) });
        return [];
      },
    );
  const outlooks: Outlook[] = [];
  for (const account of accounts) {
    const plan = async () => backfillOutlook((await at(account)).sql, account, options);
    outlooks.push(...(await attempt(account, plan)));
  }
  const events = outlooks.reduce((sum, outlook) => sum + Number(outlook.events), 0);
  out.line(pc.bold(`Backfill of ${counted(outlooks.length, "account")}`));
  out.line(facts([["to read", counted(events, "event")]]));
  if (options.dryRun) {
    out.line("Nothing was done (--dry-run).");
    const planned = outlooks.map((result) => ({ account_id: result.account_id, result }));
    return concludeAccounts(out, [...planned, ...fates]);
  }
  if (outlooks.length > 0 && !options.yes && !(await agree("A backfill", "Begin?"))) {
    out.progress("Nothing was done.");
    return 1;
  }
  const runs: Run[] = [];
  for (const outlook of outlooks) {
    const account = outlook.account_id;
    const request = async () => {
      const { sql, url } = await at(account);
      const runId = await requestRun(out, sql, outlook, options);
      return { account, url, runId, events: Number(outlook.events) };
    };
    runs.push(...(await attempt(account, request)));
  }
  if (!options.wait) {
    out.line(`${counted(runs.length, "run")} queued. A worker does them: ${command("worker")}`);
    const queued = runs.map(({ account, runId }) => ({
      account_id: account,
      result: { id: runId },
    }));
    return concludeAccounts(out, [...queued, ...fates]);
  }
  const worked: Run[] = [];
  for (const url of new Set(runs.map((run) => run.url)))
    worked.push(
      ...(await workOff(
        context,
        url,
        runs.filter((run) => run.url === url),
      )),
    );
  for (const { account, runId, seen } of worked) {
    fates.push({
      account_id: account,
      result: seen ?? { id: runId },
      ...(seen?.state !== "done" && { error: { message: unfinished(runId, seen) } }),
    });
  }
  const done = worked.flatMap(({ seen }) => (seen?.state === "done" ? [seen] : []));
  const read = done.reduce((sum, { events }) => sum + Number(events), 0);
  out.line(
    `${pc.green("Done:")} ${counted(done.length, "account")}, ${counted(read, "event")} read.`,
  );
  const code = concludeAccounts(out, fates);
  if (!context.interrupted.aborted || code === 0) return code;
  out.progress(`Interrupted, and nothing is lost. To go on where it was: ${command("worker")}`);
  return 130;
}

function unfinished(runId: string, run: RunProgress | undefined): string {
  if (run === undefined) return `run ${runId} is queued`;
  const chunks = `${whole(run.chunks_done)} of ${counted(run.chunks_total, "chunk")} done`;
  return `run ${runId} is ${run.state}, ${chunks}${run.error === null ? "" : `: ${run.error}`}`;
}

function requireOrder({ from, to }: Options): void {
  if (from === undefined || to === undefined || from <= to) return;
  throw new UserError(`The range from ${from} to ${to} is reversed.`, {
    exitCode: 2,
    hint: "Pass the earlier date to --from; both are inclusive.",
  });
}

// --- The plan -------------------------------------------------------------------------------------------

function showPlan(out: Output, outlook: Outlook, options: Options): void {
  const history =
    outlook.first_event === null
      ? "none that rolls up"
      : `${instant(outlook.first_event)} to ${instant(outlook.last_event)}`;
  out.line(pc.bold(`Backfill of account ${outlook.account_id}`));
  out.line(
    facts([
      ["time zone", outlook.reporting_timezone],
      ["events", history],
      ["days", rangeText(outlook, options)],
      ["to read", `${counted(outlook.events, "event")} in ${counted(outlook.chunks, "chunk")}`],
    ]),
  );
  for (const warning of warnings(outlook)) out.line(`  ${pc.yellow("!")} ${warning}`);
}

function rangeText({ from_date, to_date, days }: Outlook, { from, to }: Options): string {
  if (days === null) return "all";
  const open = from === undefined && to === undefined ? ", the whole history and days to come" : "";
  return `${from_date} to ${to_date} (${counted(days, "day")}${open})`;
}

function instant(timestamp: string | null): string {
  return (timestamp ?? "").slice(0, 16);
}

function warnings({ days, events, first_event }: Outlook): string[] {
  const found: string[] = [];
  if (first_event === null) {
    found.push("The account has no events to roll up yet; from now on the trigger keeps its days.");
  } else if (events === "0") {
    found.push("There are no events in this range: check --from and --to.");
  }
  if ((days ?? 0) > manyDays) {
    found.push(
      `More than ${manyDays} days: this may take a while. It can be interrupted, and goes on where it was.`,
    );
  }
  return found;
}

// --- The run --------------------------------------------------------------------------------------------

/** The run under way if it already rebuilds these days, else a new one. */
async function requestRun(out: Output, sql: Sql, outlook: Outlook, options: Options) {
  if (outlook.running_backfill_id !== null && outlook.running_covers) {
    out.line(`Run ${outlook.running_backfill_id} is already at it: joining.`);
    return outlook.running_backfill_id;
  }
  return enqueueBackfill(sql, outlook.account_id, options);
}

async function leaveToWorker(out: Output, sql: Sql, runId: string): Promise<number> {
  const [run] = await sql`select * from rollup.backfill_progress(${runId})`;
  out.document(run);
  out.line(`Run ${runId} is queued. A worker does it: ${command("worker")}`);
  out.line(`To see how far it is: ${command(`status ${run?.account_id}`)}`);
  return 0;
}

interface Run {
  account: number;
  /** Of its node. */
  url: string;
  runId: string;
  /** As planned. */
  events: number;
  /** How it stood when it was last looked at. */
  seen?: RunProgress | undefined;
}

/** Works runs off in this process, beside any worker there may be, and shows how far they are, until they or we are ended. */
async function workOff(context: Context, url: string, runs: Run[]): Promise<Run[]> {
  const { out, interrupted, endsByItself, defer } = context;
  endsByItself();
  const bar = progressBar(runs.length === 1 ? `Run ${runs[0]?.runId}` : `${runs.length} accounts`);
  divertConsole(silent);
  // What goes wrong with a chunk stands in the run, and there the bar shows it.
  const worker = await startWorker(url, {
    log: (level, message, { error } = {}) => level === "error" && bar.say(`${message}: ${error}`),
  });
  // What the server says when it goes down would be written across the bar.
  const watcher = connect(url, { max: 1 });
  defer(() => watcher.end({ timeout: 1 }));
  const stranded = untilStranded(worker);
  const signal = AbortSignal.any([interrupted, stranded.signal]);
  const show = overview(bar, runs);
  for (const run of runs) {
    const progress = (seen: RunProgress) => {
      run.seen = seen;
      show();
      stranded.answered();
    };
    const lost = () => bar.say("The server does not answer; going on as soon as it does …");
    await watchBackfill(watcher, run.runId, { signal, progress, lost });
  }
  bar.stop();
  if (interrupted.aborted) out.progress("Finishing the chunk under way …");
  await worker.stop();
  if (stranded.signal.aborted) throw stranded.signal.reason;
  if (!interrupted.aborted) return runs;
  for (const run of runs) {
    const ask = watcher<RunProgress[]>`select * from rollup.backfill_progress(${run.runId})`;
    [run.seen] = await ask.catch(() => [run.seen]);
  }
  return runs;
}

/** Draws where the runs are, which are looked at one after the other. */
function overview(bar: ProgressBar, runs: Run[]): () => void {
  const planned = runs.reduce((sum, { events }) => sum + events, 0);
  return () => {
    const looked = runs.flatMap(({ seen }) => seen ?? []);
    const run = looked.at(-1);
    const waiting = run?.state === "pending" ? "waiting for a worker" : undefined;
    const place = `account ${run?.account_id}, ${looked.length} of ${runs.length}`;
    const note = [runs.length > 1 ? place : undefined, run?.error ?? waiting];
    bar.update({
      events: looked.reduce((sum, { events }) => sum + Number(events), 0),
      total: runs.length > 1 ? planned : Number(run?.events_total),
      note: note.filter(Boolean).join(" · ") || undefined,
    });
  };
}

const patience = 15_000;

/** Aborted when the queue of this process does not run although the database answers, whenever `answered` is called. */
function untilStranded(worker: Worker) {
  const stranded = new AbortController();
  let answeringSince = performance.now();
  let answeredAt = answeringSince;
  const answered = () => {
    const now = performance.now();
    if (now - answeredAt > 2000) answeringSince = now;
    answeredAt = now;
    const failure = worker.failure();
    if (failure === undefined) return;
    if (Math.min(failure.milliseconds, now - answeringSince) < patience) return;
    const { message } = toUserError(failure.error);
    const error = new UserError(`This process cannot take the run's job: ${message}`, {
      hint: "The run stays queued, and nothing is lost. Begin again when the cause is gone, or start a worker elsewhere.",
      cause: failure.error,
    });
    stranded.abort(error);
  };
  return { signal: stranded.signal, answered };
}

function interruptedAt(out: Output, run: RunProgress | undefined, account: number): number {
  out.document(run ?? null);
  const done = `${whole(run?.chunks_done)} of ${whole(run?.chunks_total)} chunks`;
  const what =
    run?.state === "running"
      ? `${done} of run ${run.id} are done for good`
      : "it waits for a worker";
  out.progress(`Interrupted, and nothing is lost: ${what}.`);
  out.progress(`To go on where it was: ${command(`backfill ${account}`)}, or ${command("worker")}`);
  out.progress(`To give it up, in SQL: select rollup.cancel_backfill(${run?.id});`);
  return 130;
}

function conclude(out: Output, run: RunProgress | undefined): number {
  if (run === undefined) throw new UserError("The run has been removed meanwhile.");
  out.document(run);
  const took = run.seconds === null ? "" : ` in ${duration(Number(run.seconds))}`;
  const figures = `${counted(run.events, "event")} read, ${counted(run.rows_written, "row")} written${took}`;
  if (run.state === "done") {
    out.line(`${pc.green("Done:")} ${figures}.`);
    out.line();
    out.line("Next:");
    out.line(`  ${command(`verify ${run.account_id}`)}  compare with the raw events`);
    out.line(`  ${command(`flag ${run.account_id} on`)}  let reads use the rollups`);
    out.line(`  ${command(`report ${run.account_id} --metric resolutions_count`)}  see them`);
    return 0;
  }
  if (run.state === "cancelled") {
    const why = run.error ? ` (${run.error})` : "";
    out.progress(`Run ${run.id} was cancelled${why}; ${figures} before that.`);
    return 1;
  }
  if (run.chunks_total === 0) {
    out.progress(`Run ${run.id} could not begin: ${run.error}`);
    out.progress(`When the cause is gone: ${command(`backfill ${run.account_id}`)}`);
    return 1;
  }
  out.progress(
    `${whole(run.chunks_failed)} of ${counted(run.chunks_total, "chunk")} failed: ${run.error}`,
  );
  out.progress(
    "Their days stay as they were, and are read from raw events. " +
      `When the cause is gone: ${command(`backfill ${run.account_id}`)}`,
  );
  return 1;
}

function command(words: string): string {
  return pc.bold(`reporting-rollup ${words}`);
}
