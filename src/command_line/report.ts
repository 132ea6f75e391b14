/** Reports as the SQL functions give them, and how they look in a terminal. */
import pc from "picocolors";
import type { Sql } from "../database/connection.js";
import { chart } from "./terminal/chart.js";
import { counted, duration, whole } from "./terminal/format.js";
import { table } from "./terminal/table.js";

export const groupings = ["hour", "day", "week", "month", "quarter", "year"] as const;
export type Grouping = (typeof groupings)[number];

/** The metrics that can be reported. */
export const metrics = [
  "resolutions_count",
  "avg_resolution_time",
  "avg_first_response_time",
  "reply_time",
  "bot_resolutions_count",
  "bot_handoffs_count",
] as const;

/** What a report is about. */
export interface Question {
  account: number;
  metric: string;
  since?: string | undefined;
  until?: string | undefined;
  /** The last so many days, if `since` is not given; 30 by default. */
  days?: number | undefined;
  groupBy?: Grouping | undefined;
  dimension?: { type: "agent" | "inbox"; id: string } | undefined;
  businessHours?: boolean | undefined;
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
  period_start: string;
  /** Its beginning in account time. */
  local: string;
  value: string;
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

/** The answer to a question. */
export interface Report {
  window: Window;
  aggregate: "count" | "average";
  groupBy: Grouping;
  periods: Period[];
  total: Total;
  previous: Total;
  plan: Segment[];
}

/** The range of a report. */
export async function reportWindow(
  sql: Sql,
  { account, since, until, days = 30 }: Pick<Question, "account" | "since" | "until" | "days">,
): Promise<Window> {
  const [window] = await sql<Window[]>`
    select * from rollup.report_window(${account}, ${since ?? null}, ${until ?? null}, ${days})`;
  return window as Window;
}

/** Asks the database for a report. */
export async function readReport(sql: Sql, question: Question): Promise<Report> {
  const { account, metric, dimension, businessHours = false } = question;
  const window = await reportWindow(sql, question);
  const { timezone, starts, ends, previous_starts } = window;
  const groupBy = question.groupBy ?? usualGrouping(window.days);
  const [type, id] = [dimension?.type ?? "account", dimension?.id ?? null];
  const aggregate = (from: string, to: string) => sql<Total[]>`
    select * from rollup.aggregate(
      ${account}, ${metric}, ${from}, ${to}, ${type}, ${id}, ${businessHours}, ${timezone})`;
  const periods = await sql<Period[]>`
    select t.period_start, to_char(t.period_start at time zone ${timezone}, 'YYYY-MM-DD HH24:MI') as local,
           t.value, t.count
    from rollup.timeseries(
      ${account}, ${metric}, ${starts}, ${ends}, ${groupBy}, ${type}, ${id}, ${businessHours}, ${timezone}) as t`;
  const [total] = await aggregate(starts, ends);
  const [previous] = await aggregate(previous_starts, starts);
  const plan = await sql<Segment[]>`
    select * from rollup.read_plan(${account}, ${starts}, ${ends}, ${metric}, ${groupBy}, ${timezone})`;
  const [kind] = await sql<{ aggregate: "count" | "average" }[]>`
    select aggregate from rollup.report_metrics where report_metric = ${metric}`;
  return {
    window,
    aggregate: kind?.aggregate ?? "count",
    groupBy,
    periods: [...periods],
    total: total as Total,
    previous: previous as Total,
    plan: [...plan],
  };
}

function usualGrouping(days: number): Grouping {
  if (days <= 2) return "hour";
  if (days <= 62) return "day";
  return days <= 370 ? "week" : "month";
}

// --- As text --------------------------------------------------------------------------------------------

const labels: Record<string, string> = {
  avg_first_response_time: "average first response time",
  avg_resolution_time: "average resolution time",
  reply_time: "average reply time",
  resolutions_count: "resolutions",
  bot_resolutions_count: "resolutions by bots",
  bot_handoffs_count: "conversations handed off by bots",
};

/** What a metric is called. */
export function metricLabel(metric: string): string {
  return labels[metric] ?? metric;
}

/** A value of a metric for people: a number of something, or a span of time. */
export function valueText(aggregate: Report["aggregate"], value: string | null): string {
  if (value === null) return "–";
  return aggregate === "count" ? whole(value) : duration(Number(value));
}

/** The periods as a chart. */
export function reportChart(report: Report, title: string, width?: number): string {
  const { aggregate, groupBy, periods } = report;
  if (periods.every(({ count }) => count === "0")) return `${pc.bold(title)}\n  no events`;
  const unit = aggregate === "count" ? countUnit : timeUnit(periods);
  return chart(
    periods.map(({ local, value, count }) => ({
      label: periodLabel(local, groupBy),
      // An average of nothing is nothing.
      value: aggregate === "average" && count === "0" ? undefined : Number(value) / unit.seconds,
    })),
    {
      title: `${title}${unit.name === "" ? "" : ` (${unit.name})`}`,
      format: (value) => String(Math.round(value * 100) / 100),
      filled: aggregate === "count",
      ...(width === undefined ? {} : { width }),
    },
  );
}

const countUnit = { name: "", seconds: 1 };

/** The unit in which the largest value is a small number. */
function timeUnit(periods: Period[]): { name: string; seconds: number } {
  const longest = Math.max(...periods.map(({ value }) => Number(value)), 0);
  if (longest >= 2 * 3600) return { name: "hours", seconds: 3600 };
  return longest >= 120 ? { name: "minutes", seconds: 60 } : { name: "seconds", seconds: 1 };
}

/** As much of a local timestamp as tells the periods of a report apart. */
export function periodLabel(local: string, groupBy: Grouping): string {
  if (groupBy === "hour") return local.slice(11);
  if (groupBy === "year") return local.slice(0, 4);
  return groupBy === "day" || groupBy === "week" ? local.slice(5, 10) : local.slice(0, 7);
}

/** The periods as a table. */
export function reportTable({ aggregate, groupBy, periods }: Report): string {
  const columns = [
    { title: groupBy },
    { title: aggregate === "count" ? "count" : "average", right: true },
    ...(aggregate === "count" ? [] : [{ title: "events", right: true }]),
  ];
  return table(
    columns,
    periods.map(({ local, value, count }) => [
      local.slice(0, groupBy === "hour" ? 16 : 10),
      count === "0" && aggregate === "average" ? "–" : valueText(aggregate, value),
      ...(aggregate === "count" ? [] : [whole(count)]),
    ]),
  );
}

/** The whole range as one number, beside the range before. */
export function reportTotal(report: Report): string {
  const { aggregate, total, previous, window } = report;
  const behind = aggregate === "count" ? "" : ` over ${counted(total.count, "event")}`;
  const before = `${counted(window.days, "day")} before: ${valueText(aggregate, previous.value)}`;
  const change = changeText(total.value, previous.value);
  return `${pc.bold(valueText(aggregate, total.value))}${behind} · ${before}${change}`;
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

/** A row of `rollup.summary`. */
export interface SummaryRow {
  dimension_id: string;
  resolved_conversations_count: string;
  avg_resolution_time: string | null;
  avg_first_response_time: string | null;
  avg_reply_time: string | null;
}

/** Asks for the summary of a range by agent or inbox. */
export async function readSummary(
  sql: Sql,
  { account, businessHours = false }: Pick<Question, "account" | "businessHours">,
  type: "agent" | "inbox",
  { starts, ends, timezone }: Window,
): Promise<SummaryRow[]> {
  return sql<SummaryRow[]>`
    select * from rollup.summary(${account}, ${type}, ${starts}, ${ends}, ${businessHours}, ${timezone})`;
}

const summaryKeys: Record<string, keyof SummaryRow> = {
  resolutions_count: "resolved_conversations_count",
  avg_resolution_time: "avg_resolution_time",
  avg_first_response_time: "avg_first_response_time",
  reply_time: "avg_reply_time",
};

/** The rows with the largest value of a metric first; as they came if a summary does not have it. */
export function sortSummary(rows: readonly SummaryRow[], metric: string): SummaryRow[] {
  const key = summaryKeys[metric];
  if (key === undefined) return [...rows];
  return [...rows].sort((a, b) => Number(b[key] ?? -1) - Number(a[key] ?? -1));
}

/** A summary as a table, with names for ids where there are any. */
export function summaryTable(
  type: "agent" | "inbox",
  rows: readonly SummaryRow[],
  names: Record<string, string> = {},
): string {
  const columns = [
    { title: type },
    { title: "resolved", right: true },
    { title: "resolution", right: true },
    { title: "first response", right: true },
    { title: "reply", right: true },
  ];
  return table(
    columns,
    rows.map((row) => [
      names[row.dimension_id] ?? row.dimension_id,
      whole(row.resolved_conversations_count),
      valueText("average", row.avg_resolution_time),
      valueText("average", row.avg_first_response_time),
      valueText("average", row.avg_reply_time),
    ]),
  );
}
