import type { Command } from "commander";
import pc from "picocolors";
import type { Sql } from "../../database/connection.js";
import { readUrl } from "../../database/url.js";
import { accountArgument } from "../arguments.js";
import { action, type Place } from "../command.js";
import type { Output } from "../output.js";
import { counted, whole } from "../terminal/format.js";
import { facts, left, right, table } from "../terminal/table.js";

interface AccountStatus {
  account_id: number;
  reporting_timezone: string | null;
  reporting_events_rollup: boolean;
  covered: string;
  covered_share: string | null;
  dirty_days: string;
  pending_deltas: string;
  running_backfill_id: string | null;
  sealed_through: string | null;
  last_verified_at: string | null;
  last_verification_differences: string | null;
  last_verification_days: number | null;
  purged: string | null;
  purged_events: string;
  purging: boolean;
  retention_months: number | null;
  problem: string | null;
  host_timezone: string | null;
}

interface Run {
  id: string;
  from_date: string;
  to_date: string;
  chunks_total: number;
  chunks_done: number;
  chunks_failed: number;
  events: string;
  state: string;
  error: string | null;
  requested: string;
}

/** `reporting-rollup status` */
export function registerStatus(program: Command): void {
  program
    .command("status")
    .description("how accounts stand: time zone, coverage, pending work, backfills")
    .argument("[account]", "one account, in more detail", accountArgument)
    .action(
      action(program, async ({ out, database }, account?: number) => {
        const { at, everywhere } = await database();
        return account === undefined
          ? showAll(out, await everywhere())
          : showOne(out, (await at(account)).sql, account);
      }),
    );
}

async function showAll(out: Output, places: Place[]): Promise<number> {
  const accounts: AccountStatus[] = [];
  const warnings: string[] = [];
  for (const { sql, url } of places) {
    accounts.push(...(await sql<AccountStatus[]>`select * from rollup.account_status`));
    const { host, port } = readUrl(url);
    const where = places.length > 1 ? `Node ${host}:${port}: ` : "";
    for (const { warning } of await sql<{ warning: string }[]>`
      select w as warning from rollup.warnings() as w`) {
      warnings.push(`${where}${warning}`);
    }
  }
  accounts.sort((a, b) => a.account_id - b.account_id);
  out.document({ accounts, warnings });
  if (accounts.length === 0) {
    out.line("No account has a time zone yet. To set one: reporting-rollup timezone ACCOUNT");
    return 0;
  }
  const columns = [
    ...right("account"),
    ...left("time zone", "reads"),
    ...right("covered", "dirty days", "pending", "backfill"),
    ...left("sealed through", "verified"),
  ];
  const rows = accounts.map((status) => [
    String(status.account_id),
    status.reporting_timezone ?? pc.dim("none"),
    reads(status),
    share(status),
    whole(status.dirty_days),
    whole(status.pending_deltas),
    status.running_backfill_id ?? "–",
    status.sealed_through ?? "–",
    lastVerified(status),
  ]);
  out.line(table({ columns, rows }));
  for (const { account_id, problem } of accounts) {
    if (problem !== null) out.line(`${pc.yellow("!")} account ${account_id}: ${problem}`);
  }
  for (const warning of warnings) out.line(`${pc.yellow("!")} ${warning}`);
  return 0;
}

async function showOne(out: Output, sql: Sql, account: number): Promise<number> {
  await sql`select rollup.require_known_account(${account})`;
  const [status] = await sql<AccountStatus[]>`
    select * from rollup.account_status where account_id = ${account}`;
  const runs = await sql<Run[]>`
    select r.*, to_char(r.requested_at, 'YYYY-MM-DD HH24:MI TZ') as requested
    from rollup.backfill_runs as r where r.account_id = ${account} order by r.id desc limit 5`;
  out.document({
    account: status ?? null,
    backfill_runs: runs.map(({ requested, ...run }) => run),
  });
  out.line(pc.bold(`Account ${account}`));
  if (status === undefined) {
    out.line("  No time zone, so no rollups: reads use raw events.");
    out.line(`  To switch them on: reporting-rollup timezone ${account}`);
    return 0;
  }
  out.line(
    facts([
      ["time zone", timezone(status)],
      ...optional("problem", status.problem),
      ["reads use rollups", status.reporting_events_rollup ? "yes, where days are covered" : "no"],
      ["covered", `${share(status)} of its history ${pc.dim(status.covered)}`],
      ["dirty days", whole(status.dirty_days)],
      ["pending changes", whole(status.pending_deltas)],
      ...optional("verified", verified(status)),
      ...optional("sealed through", status.sealed_through),
      ...optional("purged", purged(status)),
      ...optional("retention", retention(status)),
    ]),
  );
  if (runs.length > 0) {
    out.line();
    out.line(runTable(runs));
  }
  return 0;
}

function timezone({ reporting_timezone, host_timezone }: AccountStatus): string {
  if (reporting_timezone === null) return "none: no rollups are kept";
  return host_timezone && host_timezone !== reporting_timezone
    ? `${reporting_timezone} ${pc.dim(`"${host_timezone}" in public.accounts.settings`)}`
    : reporting_timezone;
}

function reads({ reporting_events_rollup }: AccountStatus): string {
  return reporting_events_rollup ? "rollups" : "raw";
}

function share({ covered_share }: AccountStatus): string {
  return covered_share === null ? "–" : `${Math.floor(Number(covered_share) * 1000) / 10} %`;
}

function optional(name: string, value: string | null): [string, string][] {
  return value === null ? [] : [[name, value]];
}

function verified(status: AccountStatus): string | null {
  const { last_verified_at, last_verification_differences, last_verification_days } = status;
  if (last_verified_at === null) return null;
  const days = last_verification_days
    ? `, ${counted(last_verification_days, "day")} marked for rebuilding`
    : "";
  const found =
    last_verification_differences === null
      ? "without result: see the log"
      : counted(last_verification_differences, "difference");
  return `${last_verified_at.slice(0, 16)}, ${found}${days}`;
}

/** For the overview: the day, and what was found. */
function lastVerified({ last_verified_at, last_verification_differences }: AccountStatus): string {
  if (last_verified_at === null) return "–";
  const found = last_verification_differences;
  const verdict =
    found === "0" ? "exact" : found === null ? "failed" : counted(found, "difference");
  return `${last_verified_at.slice(0, 10)} ${verdict}`;
}

function purged({ purged, purged_events, purging }: AccountStatus): string | null {
  if (purged === null) return null;
  return `${purged}, ${counted(purged_events, "raw event")}${purging ? " so far" : ""}`;
}

function retention({ retention_months }: AccountStatus): string | null {
  if (retention_months === null) return null;
  return `raw events are kept for ${counted(retention_months, "whole month")}`;
}

function runTable(runs: Run[]): string {
  return table({
    columns: [
      ...right("run"),
      ...left("requested", "days", "state"),
      ...right("chunks", "events"),
      ...left(""),
    ],
    rows: runs.map((run) => [
      run.id,
      run.requested,
      range(run),
      run.state,
      `${run.chunks_done}/${run.chunks_total}`,
      whole(run.events),
      run.error ?? "",
    ]),
  });
}

function range({ from_date, to_date }: Run): string {
  if (from_date === "-infinity" && to_date === "infinity") return "all";
  return `${from_date.replace("-infinity", "…")} to ${to_date.replace("infinity", "…")}`;
}
