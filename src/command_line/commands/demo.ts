import type { Command } from "commander";
import pc from "picocolors";
import { open, type Sql } from "../../database/connection.js";
import { UserError } from "../../database/errors.js";
import {
  compareWithRaw,
  demoAccounts,
  demoAgents,
  demoDatabase,
  demoReports,
  dropDemo,
  liveEvents,
  switchOn,
  writeHistory,
} from "../../demo/demo.js";
import { acquireEmbedded, type Server } from "../../server/server.js";
import { type RunProgress, watchBackfill } from "../../worker/backfill.js";
import { startWorker } from "../../worker/worker.js";
import { action, type Context } from "../command.js";
import { readConfig } from "../config.js";
import { reportChart, reportTotal, summaryTable } from "../report.js";
import { counted, duration, whole } from "../terminal/format.js";
import { progressBar } from "../terminal/progress.js";

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
  const started = performance.now();
  const { server, sql } = await prepare(context);
  const events = await history(context, server.url);
  if (!(await backfill(context, server.url, sql))) {
    context.out.progress("Interrupted. The demo begins anew each time.");
    return 130;
  }
  const live = await liveEventsStep(context, sql);
  await reports(context, sql);
  const rows = await proof(context, sql);
  const seconds = (performance.now() - started) / 1000;
  showNext(context, server, seconds);
  context.out.document({
    database: demoDatabase,
    events: String(events + live),
    rows,
    differences: "0",
    seconds: seconds.toFixed(1),
  });
  return 0;
}

// --- The steps ------------------------------------------------------------------------------------------

async function history(context: Context, url: string): Promise<number> {
  step(context, "1. A support desk's history");
  const { value, seconds } = await timed(() => writeHistory(url));
  context.out.line(
    `${counted(value.events, "event")} of ${counted(value.conversations, "conversation")}, two accounts,`,
  );
  context.out.line(`a dozen agents, 18 months, in ${duration(seconds)}.`);
  return value.events;
}

/** False if it was interrupted. */
async function backfill(context: Context, url: string, sql: Sql): Promise<boolean> {
  step(context, "2. Time zones, and the backfill they ask for");
  const runs = await switchOn(sql);
  for (const { id, name, timezone } of demoAccounts) {
    context.out.line(`Account ${id} (${name}) counts its days in ${timezone}.`);
  }
  const done = await workOff(context, url, sql, runs);
  if (context.interrupted.aborted) return false;
  const seconds = Math.max(...done.map((run) => Number(run.seconds)));
  context.out.line(
    `${whole(sum(done, "rows_written"))} rows of daily totals, in ${duration(seconds)}.`,
  );
  return true;
}

async function liveEventsStep({ out }: Context, sql: Sql): Promise<number> {
  step({ out }, "3. Live events, through the trigger");
  const { inserted, milliseconds, before, after } = await liveEvents(sql, 2, 200);
  const each = `${milliseconds.toFixed(1)} ms each`;
  out.line(`${counted(inserted, "conversation")} resolved one by one, ${each}:`);
  out.line(`today's count went from ${whole(before)} to ${whole(after)}.`);
  return inserted;
}

async function reports({ out }: Context, sql: Sql): Promise<void> {
  step({ out }, "4. Reports");
  const { resolutions, responses, agents } = await demoReports(sql);
  out.line(reportChart(resolutions, "Account 1: resolutions a day"));
  out.line(`  ${reportTotal(resolutions)}`);
  out.line();
  out.line(reportChart(responses, "Account 2: average first response time by month"));
  out.line(`  ${reportTotal(responses)}`);
  out.line();
  out.line(pc.bold(`Account 2, the last ${counted(agents.window.days, "day")} by agent`));
  out.line(summaryTable(agents, demoAgents));
}

async function proof({ out }: Context, sql: Sql): Promise<string> {
  step({ out }, "5. Proof");
  const { value, seconds } = await timed(() => compareWithRaw(sql));
  const { differences, rows, days } = value;
  if (differences > 0)
    throw new UserError(`${counted(differences, "difference")} to the raw events.`);
  const compared = `${counted(rows, "row")} on ${counted(days, "account day")}`;
  out.line(`${pc.green("Exact:")} ${compared} equal a recomputation`);
  out.line(`from all raw events, to the last digit (${duration(seconds)}).`);
  return rows;
}

async function prepare(context: Context): Promise<{ server: Server; sql: Sql }> {
  const { out, defer } = context;
  // Never the user's own database.
  const { dataFolder } = readConfig({ ...process.env, DATABASE_URL: undefined });
  const holder = acquireEmbedded(dataFolder, { database: "postgres", log: out.progress });
  defer(() => holder.then((server) => server.release()));
  await holder;
  await dropDemo(dataFolder, out.progress);
  const server = await acquireEmbedded(dataFolder, { database: demoDatabase });
  defer(() => server.release({ stop: false }));
  const { migrate } = await import("../../database/migrate.js");
  await migrate(server.url, { createHostTables: true });
  const sql = await open(server.url, { max: 2 });
  defer(() => sql.end({ timeout: 1 }));
  return { server, sql };
}

function step({ out }: Pick<Context, "out">, title: string): void {
  out.line();
  out.line(pc.bold(pc.cyan(title)));
}

async function timed<T>(work: () => Promise<T>): Promise<{ value: T; seconds: number }> {
  const started = performance.now();
  return { value: await work(), seconds: (performance.now() - started) / 1000 };
}

async function workOff(
  { interrupted, endsByItself }: Context,
  url: string,
  sql: Sql,
  runs: string[],
): Promise<RunProgress[]> {
  endsByItself();
  const bar = progressBar("Backfill");
  const seen = new Map<string, RunProgress>();
  const show = (run: RunProgress) => {
    seen.set(run.id, run);
    bar.update({
      events: sum([...seen.values()], "events"),
      total: sum([...seen.values()], "events_total"),
    });
  };
  const worker = await startWorker(url, { concurrency: 2 });
  try {
    await Promise.all(
      runs.map((id) => watchBackfill(sql, id, { signal: interrupted, progress: show })),
    );
  } finally {
    bar.stop();
    await worker.stop();
  }
  return [...seen.values()];
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
