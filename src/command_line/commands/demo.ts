import type { Command } from "commander";
import pc from "picocolors";
import { connect, open, type Sql } from "../../database/connection.js";
import { UserError } from "../../database/errors.js";
import { chance, conversations, demoAccounts, demoAgents, events } from "../../demo/history.js";
import { acquireEmbedded, type Server } from "../../server/server.js";
import { type RunProgress, watchBackfill } from "../../worker/backfill.js";
import { startWorker } from "../../worker/worker.js";
import { action, type Context } from "../command.js";
import { readConfig } from "../config.js";
import { readReport, readSummary, reportChart, reportTotal, summaryTable } from "../report.js";
import { counted, duration, whole } from "../terminal/format.js";
import { progressBar } from "../terminal/progress.js";
import { table } from "../terminal/table.js";

/** The demo's database on the embedded server. */
export const demoDatabase = "reporting_rollup_demo";

/** `reporting-rollup demo` */
export function registerDemo(program: Command): void {
  program
    .command("demo")
    .description(
      "see it work: a support desk's history, rolled up, shown and proven, on an embedded server",
    )
    .action(action(program, demo));
}

async function demo(context: Context): Promise<number> {
  const { out } = context;
  const clock = stopwatch();
  const { server, sql } = await prepare(context);
  const written = await writeHistory(context, sql);
  if (!(await backfill(context, server.url, sql))) {
    out.progress("Interrupted. The demo begins anew each time.");
    return 130;
  }
  const live = await writeLiveEvents(context, sql);
  await showReports(context, sql);
  const rows = await prove(context, sql);
  showNext(context, server, clock());
  out.document({
    database: demoDatabase,
    events: String(written + live),
    rows,
    differences: "0",
    seconds: clock().toFixed(1),
  });
  return 0;
}

// --- The steps ------------------------------------------------------------------------------------------

/** A new database on the embedded server, never the user's own. */
async function prepare({ out, defer }: Context): Promise<{ server: Server; sql: Sql }> {
  const { dataFolder } = readConfig({ ...process.env, DATABASE_URL: undefined });
  const holder = acquireEmbedded(dataFolder, { database: "postgres", log: out.progress });
  defer(() => holder.then((server) => server.release()));
  const old = connect((await holder).url, { max: 1 });
  await old.alone(`drop database if exists ${demoDatabase} with (force)`).finally(() => old.end());
  const server = await acquireEmbedded(dataFolder, { database: demoDatabase });
  defer(() => server.release({ stop: false }));
  const { migrate } = await import("../../database/migrate.js");
  await migrate(server.url, { createHostTables: true });
  const sql = await open(server.url, { max: 2 });
  defer(() => sql.end({ timeout: 1 }));
  return { server, sql };
}

/** 18 months of events. No account has a time zone yet, so the trigger leaves them alone. */
async function writeHistory({ out }: Context, sql: Sql): Promise<number> {
  step(out, "1. A support desk's history");
  const clock = stopwatch();
  const [begun, written] = await sql.transaction(async (transaction) => {
    await transaction.script(chance);
    const begun = await transaction.script(conversations);
    for (const { id, name } of demoAccounts) {
      await transaction`insert into public.accounts (id, name) values (${id}, ${name})`;
    }
    await transaction`
      insert into public.conversations (id, account_id, inbox_id, assignee_id, created_at)
      select id, account_id, inbox_id, user_id, began at time zone timezone at time zone 'UTC'
      from demo_conversations`;
    return [begun.count, (await transaction.script(events)).count];
  });
  out.line(`${counted(written, "event")} of ${counted(begun, "conversation")}, two accounts,`);
  out.line(`a dozen agents, 18 months, in ${duration(clock())}.`);
  return written;
}

/** Sets the time zones, which queues a backfill each, and lets reads use rollups. False if it was interrupted. */
async function backfill(context: Context, url: string, sql: Sql): Promise<boolean> {
  const { out, interrupted } = context;
  step(out, "2. Time zones, and the backfill they ask for");
  await sql`analyze public.reporting_events`;
  for (const { id, name, timezone } of demoAccounts) {
    await sql`select rollup.set_reporting_timezone(${id}, ${timezone})`;
    await sql`select rollup.set_reporting_events_rollup(${id}, true)`;
    out.line(`Account ${id} (${name}) counts its days in ${timezone}.`);
  }
  const done = await workOff(context, url, sql);
  if (interrupted.aborted) return false;
  const seconds = Math.max(...done.map((run) => Number(run.seconds)));
  out.line(`${whole(sum(done, "rows_written"))} rows of daily totals, in ${duration(seconds)}.`);
  return true;
}

async function workOff({ interrupted, endsByItself }: Context, url: string, sql: Sql) {
  endsByItself();
  const runs = await sql<{ id: string }[]>`select id from rollup.backfill_runs order by id`;
  const bar = progressBar("Backfill");
  const seen = new Map<string, RunProgress>();
  const progress = (run: RunProgress) => {
    seen.set(run.id, run);
    const all = [...seen.values()];
    bar.update({ events: sum(all, "events"), total: sum(all, "events_total") });
  };
  const worker = await startWorker(url, { concurrency: 2 });
  try {
    await Promise.all(
      runs.map(({ id }) => watchBackfill(sql, id, { signal: interrupted, progress })),
    );
  } finally {
    bar.stop();
    await worker.stop();
  }
  return [...seen.values()];
}

/** Resolves conversations one at a time, as the host would. */
async function writeLiveEvents({ out }: Context, sql: Sql): Promise<number> {
  step(out, "3. Live events, through the trigger");
  const number = 200;
  const before = await resolvedToday(sql);
  const clock = stopwatch();
  for (let n = 0; n < number; n++) {
    await sql`
      insert into public.reporting_events
        (name, value, value_in_business_hours, account_id, inbox_id, user_id, conversation_id, created_at, updated_at)
      values
        ('conversation_resolved', ${600 + 60 * n}, ${300 + 30 * n}, 2, 21, ${201 + (n % 3)}, ${1_000_000 + n},
         now() at time zone 'UTC', now() at time zone 'UTC')`;
  }
  const each = `${((1000 * clock()) / number).toFixed(1)} ms each`;
  out.line(`${counted(number, "conversation")} resolved one by one, ${each}:`);
  out.line(`today's count went from ${whole(before)} to ${whole(await resolvedToday(sql))}.`);
  return number;
}

async function resolvedToday(sql: Sql): Promise<string> {
  const [row] = await sql<{ count: string }[]>`
    select coalesce(sum(r.count), 0)::text as count
    from rollup.daily_rollups as r
    join rollup.account_settings as s using (account_id)
    where r.account_id = 2 and r.metric = 'resolutions_count' and r.dimension_type = 'account'
      and r.date = (now() at time zone s.reporting_timezone)::date`;
  return row?.count ?? "0";
}

/** Six weeks of resolutions, a year of first responses, and a month by agent. */
async function showReports({ out }: Context, sql: Sql): Promise<void> {
  step(out, "4. Reports");
  const resolutions = { account: 1, metric: "resolutions_count", days: 42 };
  const report = await readReport(sql, resolutions);
  out.line(reportChart(report, "Account 1: resolutions a day"));
  out.line(`  ${reportTotal(report)}`);
  out.line();
  const responses = { metric: "avg_first_response_time", days: 365, groupBy: "month" };
  const year = await readReport(sql, { account: 2, ...responses });
  out.line(reportChart(year, "Account 2: average first response time by month"));
  out.line(`  ${reportTotal(year)}`);
  out.line();
  const agents = await readSummary(sql, { account: 2, metric: undefined }, "agent");
  out.line(pc.bold(`Account 2, the last ${counted(agents.window.days, "day")} by agent`));
  out.line(table(summaryTable(agents, demoAgents)));
}

/** Compares the rollups with a recomputation from the raw events. */
async function prove({ out }: Context, sql: Sql): Promise<string> {
  step(out, "5. Proof");
  const clock = stopwatch();
  for (const { id } of demoAccounts) {
    const { length } = await sql`select from rollup.verify(${id})`;
    if (length > 0) throw new UserError(`${counted(length, "difference")} to the raw events.`);
  }
  const [kept] = await sql<{ rows: string; days: string }[]>`
    select count(*) as rows, count(distinct (account_id, date)) as days from rollup.daily_rollups`;
  const { rows = "0", days = "0" } = kept ?? {};
  const compared = `${counted(rows, "row")} on ${counted(days, "account day")}`;
  out.line(`${pc.green("Exact:")} ${compared} equal a recomputation`);
  out.line(`from all raw events, to the last digit (${duration(clock())}).`);
  return rows;
}

function step(out: Context["out"], title: string): void {
  out.line();
  out.line(pc.bold(pc.cyan(title)));
}

/** Tells the seconds since. */
function stopwatch(): () => number {
  const started = performance.now();
  return () => (performance.now() - started) / 1000;
}

function sum(runs: RunProgress[], column: "events" | "events_total" | "rows_written"): number {
  return runs.reduce((total, run) => total + Number(run[column]), 0);
}

function showNext({ out }: Context, { connection }: Server, seconds: number): void {
  const { host, port, user, database, passfile } = connection ?? {};
  out.line();
  out.line(`That took ${duration(seconds)}. ${pc.bold("Three things to try:")}`);
  out.line(`
1. Look around with psql. In one terminal, and then in another:

     npx reporting-rollup server

     PGPASSFILE=${passfile} \\
       psql -h ${host} -p ${port} -U ${user} ${database}

2. There, add an event, see its day change at once, and prove it exact:

     insert into reporting_events
       (name, value, account_id, user_id, created_at, updated_at)
     values
       ('first_response', 90, 2, 201, now() at time zone 'UTC', now());

     select * from rollup.daily_rollups
     where account_id = 2 and metric = 'first_response'
     order by date desc limit 5;

     select * from rollup.verify(2);

3. Your own database, as its owner:

     export DATABASE_URL=postgres://…
     npx reporting-rollup migrate
     npx reporting-rollup timezone ACCOUNT`);
}
