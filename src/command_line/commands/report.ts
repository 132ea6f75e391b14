import { writeFile } from "node:fs/promises";
import { type Command, Option } from "commander";
import pc from "picocolors";
import type { Sql } from "../../database/connection.js";
import { UserError } from "../../database/errors.js";
import { accountArgument, dateArgument, idArgument } from "../arguments.js";
import { action, type Context } from "../command.js";
import { reportPage, summaryPage } from "../html.js";
import type { Output } from "../output.js";
import {
  metricLabel,
  type Question,
  type Report,
  readReport,
  readSummary,
  reportChart,
  reportTable,
  reportTotal,
  sourceText,
  summaryTable,
} from "../report.js";
import { table } from "../terminal/table.js";

interface Options {
  metric?: string;
  since?: string;
  until?: string;
  groupBy?: string;
  /** True without an id: all of them. */
  agent?: string | true;
  inbox?: string | true;
  businessHours?: boolean;
  csv?: boolean;
  html?: string;
}

/** `reporting-rollup report` */
export function registerReport(program: Command): void {
  program
    .command("report")
    .description("show a metric as a chart, or all agents or inboxes as a table")
    .argument("<account>", "the account's id", accountArgument)
    .option("--metric <name>", "what to show, such as resolutions_count")
    .option(
      "--since <date>",
      "first day, in account time (default: the last 30 days)",
      dateArgument,
    )
    .option("--until <date>", "the day after the last (default: tomorrow)", dateArgument)
    .option("--group-by <period>", "one value a day, week … (default: as fits the range)")
    .addOption(
      new Option("--agent [id]", "of one agent; without id, a table of all")
        .conflicts("inbox")
        .argParser(idArgument),
    )
    .addOption(
      new Option("--inbox [id]", "of one inbox; without id, a table of all").argParser(idArgument),
    )
    .option("--business-hours", "count only time in business hours")
    .addOption(new Option("--csv", "print CSV").conflicts("json"))
    .addOption(
      new Option(
        "--html <file>",
        "write a page to pass on: charts, tables, events by weekday and hour",
      ).conflicts(["csv", "json"]),
    )
    .action(action(program, report));
}

async function report(context: Context, account: number, options: Options): Promise<number> {
  const { out } = context;
  const type = options.agent === undefined ? "inbox" : "agent";
  const id = options.agent ?? options.inbox;
  requireOrder(options);
  if ((options.csv || options.html !== undefined) && out.json)
    throw new UserError("--csv, --html and --json exclude each other.", { exitCode: 2 });
  const { at } = await context.database();
  const { sql } = await at(account);
  const question: Question = {
    account,
    metric: options.metric,
    since: options.since,
    until: options.until,
    groupBy: options.groupBy,
    businessHours: options.businessHours,
    dimension: typeof id === "string" ? { type, id } : undefined,
    heatMap: options.html !== undefined,
  };
  await (id === true
    ? showSummary(out, sql, question, type, options)
    : showMetric(out, sql, question, options));
  return 0;
}

function requireOrder({ since, until }: Options): void {
  if (since === undefined || until === undefined || since < until) return;
  throw new UserError(`The range from ${since} until ${until} is empty or reversed.`, {
    exitCode: 2,
    hint: "--since is the first day, --until the day after the last.",
  });
}

// --- A metric over time ---------------------------------------------------------------------------------

async function showMetric(out: Output, sql: Sql, question: Question, { csv, html }: Options) {
  const report = await readReport(sql, question);
  if (csv) {
    writeCsv(["period", "period_start", "value", "count"], report.periods);
    return;
  }
  const { window, groupBy } = report;
  const title = `${whose(question)}: ${metricLabel(question.metric ?? "", report.aggregate)} by ${groupBy}`;
  if (html !== undefined) {
    await writePage(out, html, await reportPage(title, report, question.businessHours ?? false));
    return;
  }
  out.document(reportDocument(question, report));
  if (out.json) return;
  out.line(
    process.stdout.isTTY
      ? reportChart(report, title)
      : `${pc.bold(title)}\n${table(reportTable(report))}`,
  );
  out.line(`  ${reportTotal(report)}`);
  out.line(
    pc.dim(
      `  ${window.since} until ${window.until}, ${window.timezone}. ${sourceText(report.plan)}`,
    ),
  );
}

function whose({ account, dimension }: Question): string {
  return dimension === undefined
    ? `Account ${account}`
    : `Account ${account}, ${dimension.type} ${dimension.id}`;
}

function reportDocument(
  { account, metric, dimension, businessHours = false }: Question,
  report: Report,
) {
  const { window, groupBy, periods, total, previous } = report;
  return {
    account_id: account,
    metric,
    dimension_type: dimension?.type ?? "account",
    dimension_id: dimension?.id ?? String(account),
    business_hours: businessHours,
    timezone: window.timezone,
    since: window.since,
    until: window.until,
    group_by: groupBy,
    timeseries: periods,
    aggregate: total,
    previous: { since: window.previous_since, until: window.since, ...previous },
    read_plan: report.plan,
  };
}

// --- All agents or inboxes ------------------------------------------------------------------------------

async function showSummary(
  out: Output,
  sql: Sql,
  question: Question,
  type: string,
  { csv, html }: Options,
): Promise<void> {
  const summary = await readSummary(sql, question, type);
  const { window, columns, rows } = summary;
  if (csv) {
    writeCsv(["dimension_id", ...columns.map(({ name }) => name)], rows);
    return;
  }
  const title = `Account ${question.account}, ${window.since} until ${window.until}, by ${type}`;
  if (html !== undefined) {
    await writePage(out, html, summaryPage(title, summary, question.businessHours ?? false));
    return;
  }
  out.document({
    account_id: question.account,
    dimension_type: type,
    business_hours: question.businessHours ?? false,
    timezone: window.timezone,
    since: window.since,
    until: window.until,
    summary: rows,
  });
  out.line(pc.bold(title));
  out.line(rows.length === 0 ? "  no events" : table(summaryTable(summary)));
}

async function writePage(out: Output, file: string, page: string): Promise<void> {
  try {
    await writeFile(file, page);
  } catch (error) {
    throw new UserError(`Cannot write ${file}: ${(error as Error).message}`);
  }
  out.line(`Written: ${file}`);
}

function writeCsv<Row extends object>(
  columns: readonly (keyof Row & string)[],
  rows: readonly Row[],
) {
  const lines = rows.map((row) => columns.map((column) => cell(row[column])).join(","));
  process.stdout.write(`${[columns.join(","), ...lines].join("\n")}\n`);
}

function cell(value: unknown): string {
  const text = value === null || value === undefined ? "" : String(value);
  return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
