/** Reports as the SQL functions give them, and how they look in a terminal. */
import pc from "picocolors";
import type { Queries, Sql } from "../database/connection.js";
import { chart } from "./terminal/chart.js";
import { counted, duration, whole } from "./terminal/format.js";
import { left, right, type Table } from "./terminal/table.js";

/** What a report is about. */
export interface Question {
  account: number;
  metric: string | undefined;
  since?: string | undefined;
  until?: string | undefined;
  /** The last so many days, if `since` is not given; 30 by default. */
  days?: number | undefined;
  /** A period of `rollup.timeseries`, such as `week`; by default as fits the range. */
  groupBy?: string | undefined;
  dimension?: { type: string; id: string } | undefined;
  businessHours?: boolean | undefined;
  /** Also the events by weekday and hour. */
  heatMap?: boolean | undefined;
}

/** The range of a report in account time, `until` exclusive, and the one of equal length before it. */
export interface Window {
  timezone: string;
  since: string;
  until: string;
  days: number;
  starts: string;
  ends: string;
  previous_since: string;
  previous_starts: string;
}

export interface Period {
  /** Its beginning in account time: a date, or the minute where periods are hours. */
  period: string;
  /** The same as an instant. */
  period_start: string;
  /** NULL: an average of events none of which has the value. */
  value: string | null;
  count: string;
}

export interface Total {
  value: string | null;
  count: string;
}

export interface Segment {
  starts_at: string;
  ends_at: string;
  source: "rollup" | "raw";
  reason: string;
}

export interface Cell {
  /** 0 is Sunday. */
  weekday: number;
  hour: number;
  count: string;
}

/** As in `rollup.report_metrics`. */
type Aggregate = "count" | "net count" | "distinct count" | "average" | "median" | "p90" | "rate";

function isCount(aggregate: Aggregate): boolean {
  return aggregate.endsWith("count");
}

/** The answer to a question. */
export interface Report {
  window: Window;
  aggregate: Aggregate;
  groupBy: string;
  periods: Period[];
  total: Total;
  previous: Total;
  plan: Segment[];
  /** If it was asked for. */
  heatMap: Cell[];
}

async function readWindow(
  sql: Queries,
  { account, since, until, days = 30 }: Question,
): Promise<Window> {
  const [window] = await sql<Window[]>`
    select * from rollup.report_window(${account}, ${since ?? null}, ${until ?? null}, ${days})`;
  return window as Window;
}

interface Metric {
  aggregate: Aggregate;
  /** Its column of `rollup.summary`, if it has one. */
  summary_key: string | null;
}

/** What the registry says of a metric; an error of the database that names all of them if there is none such. */
async function readMetric(sql: Queries, metric: string | undefined): Promise<Metric> {
  const [found] = await sql<Metric[]>`
    select m.aggregate, r.summary_key
    from rollup.read_metric(${metric ?? null}) as m
    left join rollup.report_metrics as r on r.report_metric = ${metric ?? null}`;
  return found as Metric;
}

/** Asks the database for a report: all its numbers from one state of the data. */
export function readReport(sql: Sql, question: Question): Promise<Report> {
  return sql.transaction((snapshot) => readReportIn(snapshot, question), "snapshot");
}

async function readReportIn(sql: Queries, question: Question): Promise<Report> {
  const { account, dimension, businessHours = false } = question;
  const metric = question.metric ?? null;
  const { aggregate } = await readMetric(sql, question.metric);
  const window = await readWindow(sql, question);
  const { timezone, starts, ends, previous_starts } = window;
  const groupBy = question.groupBy ?? usualGrouping(window.days);
  const [type, id] = [dimension?.type ?? "account", dimension?.id ?? null];
  const total = async (from: string, to: string) => {
    const [row] = await sql<Total[]>`
      select * from rollup.aggregate(
        ${account}, ${metric}, ${from}, ${to}, ${type}, ${id}, ${businessHours}, ${timezone})`;
    return row as Total;
  };
  return {
    window,
    aggregate,
    groupBy,
    periods: await sql<Period[]>`
      select to_char(t.period_start at time zone ${timezone}, case ${groupBy}::text
               when 'hour' then 'YYYY-MM-DD HH24:MI' else 'YYYY-MM-DD' end) as period,
             t.period_start, t.value, t.count
      from rollup.timeseries(
        ${account}, ${metric}, ${starts}, ${ends}, ${groupBy}, ${type}, ${id}, ${businessHours}, ${timezone}) as t`,
    total: await total(starts, ends),
    previous: await total(previous_starts, starts),
    plan: await sql<Segment[]>`
      select * from rollup.read_plan(${account}, ${starts}, ${ends}, ${metric}, ${groupBy}, ${timezone})`,
    heatMap: question.heatMap
      ? await sql<Cell[]>`
          select * from rollup.heat_map(${account}, ${metric}, ${starts}, ${ends}, ${type}, ${id}, ${timezone})`
      : [],
  };
}

function usualGrouping(days: number): string {
  if (days <= 2) return "hour";
  if (days <= 62) return "day";
  return days <= 370 ? "week" : "month";
}

// --- As text --------------------------------------------------------------------------------------------

/** What a metric, or a column of a summary, is called: its name in words. */
export function metricLabel(name: string, aggregate: Aggregate): string {
  const words = name.replace(/^avg_|_count$/g, "").replaceAll("_", " ");
  return aggregate === "average" ? `average ${words}` : words;
}

/** A value of a metric for people: a number of something, a share of it, or a span of time. */
export function valueText(aggregate: Aggregate, value: string | null): string {
  if (value === null) return "–";
  if (aggregate === "rate") return `${Math.round(Number(value) * 10) / 10} %`;
  return isCount(aggregate) ? whole(value) : duration(Number(value));
}

/** The periods to draw: as bars or as a line, in which unit, and the values in it. */
export function reportSeries(report: Report) {
  const { aggregate, groupBy, periods } = report;
  const unit = unitOf(report);
  return {
    unit: unit.name,
    bars: isCount(aggregate),
    points: periods.map(({ period, value, count }) => ({
      label: periodLabel(period, groupBy),
      // An average of nothing is nothing.
      value:
        value === null || (!isCount(aggregate) && count === "0")
          ? undefined
          : Number(value) / unit.size,
    })),
  };
}

/** The periods as a chart. */
export function reportChart(report: Report, title: string, width?: number): string {
  if (report.periods.every(({ count }) => count === "0")) return `${pc.bold(title)}\n  no events`;
  const { unit, bars, points } = reportSeries(report);
  return chart(points, {
    title: `${title}${unit === "" ? "" : ` (${unit})`}`,
    format: (value) => String(Math.round(value * 100) / 100),
    filled: bars,
    ...(width === undefined ? {} : { width }),
  });
}

/** What to divide the values of a chart by: of times, so that the largest is a small number. */
function unitOf({ aggregate, periods }: Report): { name: string; size: number } {
  if (isCount(aggregate)) return { name: "", size: 1 };
  if (aggregate === "rate") return { name: "%", size: 1 };
  const longest = Math.max(...periods.map(({ value }) => Number(value)), 0);
  if (longest >= 2 * 3600) return { name: "hours", size: 3600 };
  return longest >= 120 ? { name: "minutes", size: 60 } : { name: "seconds", size: 1 };
}

/** As much of a period's beginning as tells those of a report apart. */
function periodLabel(period: string, groupBy: string): string {
  if (groupBy === "hour") return period.slice(11);
  if (groupBy === "year") return period.slice(0, 4);
  return groupBy === "day" || groupBy === "week" ? period.slice(5) : period.slice(0, 7);
}

/** The periods as a table. */
export function reportTable({ aggregate, groupBy, periods }: Report): Table {
  const columns = [
    ...left(groupBy),
    ...right(...(isCount(aggregate) ? ["count"] : [aggregate, "events"])),
  ];
  const rows = periods.map(({ period, value, count }) => [
    period,
    count === "0" && !isCount(aggregate) ? "–" : valueText(aggregate, value),
    ...(isCount(aggregate) ? [] : [whole(count)]),
  ]);
  return { columns, rows };
}

/** The whole range as one number, beside the range before. */
export function reportTotal(report: Report, bold = pc.bold): string {
  const { aggregate, total, previous, window } = report;
  const behind = isCount(aggregate) ? "" : ` over ${counted(total.count, "event")}`;
  const before = `${counted(window.days, "day")} before: ${valueText(aggregate, previous.value)}`;
  const change = aggregate === "rate" ? "" : changeText(total.value, previous.value);
  return `${bold(valueText(aggregate, total.value))}${behind} · ${before}${change}`;
}

function changeText(value: string | null, before: string | null): string {
  if (value === null || before === null || Number(before) === 0) return "";
  const percent = Math.round((Number(value) / Number(before) - 1) * 100);
  return percent === 0 ? " (no change)" : ` (now ${percent > 0 ? "+" : "−"}${Math.abs(percent)} %)`;
}

/** Where the numbers came from. */
export function sourceText(plan: Segment[]): string {
  const raw = plan.filter(({ source }) => source === "raw");
  if (raw.length === 0) return "Read from rollups.";
  const reasons = [...new Set(raw.map(({ reason }) => reason))].join("; ");
  return raw.length === plan.length
    ? `Read from raw events: ${reasons}.`
    : `Read from rollups, and in part from raw events: ${reasons}.`;
}

// --- By agent or inbox ----------------------------------------------------------------------------------

/** All agents or inboxes of a range. */
export interface Summary {
  window: Window;
  type: string;
  /** The columns of `rollup.summary`, and what their values are. */
  columns: { name: string; aggregate: Aggregate }[];
  /** Those with the largest value of the metric first. */
  rows: Record<string, string | null>[];
}

/** Asks for a summary by a dimension: all its numbers from one state of the data. */
export function readSummary(sql: Sql, question: Question, type: string): Promise<Summary> {
  return sql.transaction((snapshot) => readSummaryIn(snapshot, question, type), "snapshot");
}

async function readSummaryIn(sql: Queries, question: Question, type: string): Promise<Summary> {
  const { account, metric, businessHours = false } = question;
  const key = metric === undefined ? null : (await readMetric(sql, metric)).summary_key;
  const window = await readWindow(sql, question);
  // A row without values, if there is none, tells the columns.
  const found = await sql<Summary["rows"]>`
    select s.*
    from (select) as one
    left join rollup.summary(
      ${account}, ${type}, ${window.starts}, ${window.ends}, ${businessHours}, ${window.timezone}) as s on true`;
  const kinds = await sql<{ name: string; aggregate: Aggregate }[]>`
    select summary_key as name, aggregate from rollup.report_metrics where summary_key is not null`;
  const columns = Object.keys(found[0] ?? {})
    .map((name) => kinds.find((kind) => kind.name === name))
    .filter((kind) => kind !== undefined);
  const rows = found.filter(({ dimension_id }) => dimension_id !== null);
  if (key !== null) rows.sort((a, b) => Number(b[key] ?? -1) - Number(a[key] ?? -1));
  return { window, type, columns, rows };
}

/** A summary as a table, with names for ids where there are any. */
export function summaryTable(
  { type, columns, rows }: Summary,
  names: Record<string, string> = {},
): Table {
  return {
    columns: [...left(type), ...right(...columns.map(({ name }) => metricLabel(name, "count")))],
    rows: rows.map((row) => [
      names[row.dimension_id ?? ""] ?? row.dimension_id ?? "",
      ...columns.map(({ name, aggregate }) => valueText(aggregate, row[name] ?? null)),
    ]),
  };
}
