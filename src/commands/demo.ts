import type { Command } from "commander";
import pc from "picocolors";
import { type RunProgress, watchBackfill } from "../backfill.js";
import { action, type Context } from "../command.js";
import { readConfig } from "../config.js";
import { open, type Sql } from "../connection.js";
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
} from "../demo.js";
import { UserError } from "../errors.js";
import { migrate } from "../migrate.js";
import { reportChart, reportTotal, summaryTable } from "../report.js";
import { acquireEmbedded, type Server } from "../server.js";
import { counted, duration, whole } from "../terminal/format.js";
import { progressBar } from "../terminal/progress.js";
import { startWorker } from "../worker.js";

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
  const started = performance.now();
  const { server, sql } = await prepare(context);

  step(context, "A support desk's history");
  const history = await timed(() => writeHistory(server.url));
  out.line(
    `${counted(history.value.events, "event")} of ${counted(history.value.conversations, "conversation")}, ` +
      `two accounts, a dozen agents, 18 months, in ${duration(history.seconds)}.`,
  );

  step(context, "Time zones, and the backfill they ask for");
  const runs = await switchOn(sql);
  for (const { id, name, timezone } of demoAccounts) {
    out.line(`Account ${id} (${name}) counts its days in ${timezone}.`);
  }
  const done = await workOff(context, server.url, sql, runs);
  if (context.interrupted.aborted) {
    out.progress("Interrupted. The demo begins anew each time.");
    return 130;
  }
  const seconds = Math.max(...done.map((run) => Number(run.seconds)));
  out.line(`${whole(sum(done, "rows_written"))} rows of daily totals, in ${duration(seconds)}.`);

  step(context, "Live events, through the trigger");
  const live = await liveEvents(sql, 2, 200);
  out.line(
    `${counted(live.inserted, "conversation")} resolved one by one, ${live.milliseconds.toFixed(1)} ms each: ` +
      `today's count went from ${whole(live.before)} to ${whole(live.after)}.`,
  );

  step(context, "Reports");
  const { resolutions, responses, agents, window } = await demoReports(sql);
  out.line(reportChart(resolutions, "Account 1: resolutions a day"));
  out.line(`  ${reportTotal(resolutions)}`);
  out.line();
  out.line(reportChart(responses, "Account 2: average first response time by month"));
  out.line(`  ${reportTotal(responses)}`);
  out.line();
  out.line(pc.bold(`Account 2, the last ${counted(window.days, "day")} by agent`));
  out.line(summaryTable("agent", agents, demoAgents));

  step(context, "Proof");
  const proof = await timed(() => compareWithRaw(sql));
  const { differences, rows, days } = proof.value;
  if (differences > 0)
    throw new UserError(`${counted(differences, "difference")} to the raw events.`);
  out.line(
    `${pc.green("Exact:")} ${counted(rows, "row")} on ${counted(days, "account day")} equal a recomputation ` +
      `from all raw events, to the last digit (${duration(proof.seconds)}).`,
  );
  const took = (performance.now() - started) / 1000;
  showNext(context, server, took);
  out.document({
    database: demoDatabase,
    events: String(history.value.events + live.inserted),
    rows,
    differences: String(differences),
    seconds: String(Math.round(took * 10) / 10),
  });
  return 0;
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
  await migrate(server.url);
  const sql = await open(server.url, { max: 2 });
  defer(() => sql.end({ timeout: 1 }));
  return { server, sql };
}

let steps = 0;

function step({ out, interrupted }: Context, title: string): void {
  if (interrupted.aborted) return;
  steps++;
  out.line();
  out.line(pc.bold(pc.cyan(`${steps}. ${title}`)));
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
  out.line();
  out.line("1. Look around with psql. In one terminal, and then in another:");
  out.line("     npx reporting-rollup server");
  out.line(`     PGPASSFILE=${passfile} psql -h ${host} -p ${port} -U ${user} ${database}`);
  out.line(
    "2. There, add an event, see its day change at once, and prove that all is still exact:",
  );
  out.line(
    "     insert into reporting_events (name, value, account_id, user_id, created_at, updated_at)",
  );
  out.line("       values ('first_response', 90, 2, 201, now() at time zone 'UTC', now());");
  out.line(
    "     select * from rollup.daily_rollups where account_id = 2 and metric = 'first_response' order by date desc limit 5;",
  );
  out.line("     select * from rollup.verify(2);");
  out.line("3. Your own database, as its owner:");
  out.line("     export DATABASE_URL=postgres://…");
  out.line("     npx reporting-rollup migrate && npx reporting-rollup timezone ACCOUNT");
}
