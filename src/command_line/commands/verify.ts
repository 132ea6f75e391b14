import type { Command } from "commander";
import pc from "picocolors";
import type { Sql } from "../../database/connection.js";
import { UserError } from "../../database/errors.js";
import { action, type Context } from "../command.js";
import {
  accountsHelp,
  allOption,
  chooseAccounts,
  forEachAccount,
  onlyAccounts,
  requireAccounts,
} from "../fleet.js";
import type { Output } from "../output.js";
import { counted } from "../terminal/format.js";
import { progressBar } from "../terminal/progress.js";
import { firstRows, left, right } from "../terminal/table.js";

/** A row of `rollup.verify`. */
interface Difference {
  structure: string;
  date: string;
  dimension_type: string;
  dimension_id: string;
  metric: string;
  expected_count: string | null;
  actual_count: string | null;
  expected_sum_value: string | null;
  actual_sum_value: string | null;
  expected_sum_value_business_hours: string | null;
  actual_sum_value_business_hours: string | null;
}

/** `reporting-rollup verify` */
export function registerVerify(program: Command): void {
  program
    .command("verify")
    .description("compare the rollups of accounts with a recomputation from their raw events")
    .argument("[accounts...]", accountsHelp)
    .option(allOption[0], "all accounts that have a time zone")
    .option("--repair", "rebuild the days that differ, and those that the trigger could not keep")
    .addHelpText("after", "\nExits with 1 if there are differences that were not repaired.")
    .action(action(program, verify));
}

interface Options {
  all?: boolean;
  repair?: boolean;
}

async function verify(context: Context, words: string[], { all, repair }: Options) {
  const named = onlyAccounts(words);
  requireAccounts(named, all);
  const { out, interrupted, endsByItself, database } = context;
  const { sql, at } = await database();
  const accounts = await chooseAccounts(sql, named, { all, withTimezone: true });
  endsByItself();
  return forEachAccount(out, named, accounts, async (own, account) => {
    if (interrupted.aborted) throw new UserError("Interrupted before it was looked at.");
    const { sql } = await at(account);
    await sql`select rollup.require_known_account(${account})`;
    return repair
      ? repairAccount(own, sql, account, interrupted)
      : verifyAccount(own, sql, account, interrupted);
  });
}

async function verifyAccount(
  out: Output,
  sql: Sql,
  account: number,
  interrupted: AbortSignal,
  done: { repaired?: string[] } = {},
): Promise<number> {
  const { found, seen } = await differences(sql, account, interrupted);
  if (interrupted.aborted) {
    out.document({ differences: found, ...done, interrupted: true, ...seen });
    return showInterrupted(out, found, seen);
  }
  out.document({ differences: found, ...done });
  await showVerdict(out, sql, account, found);
  if (found.length === 0) return 0;
  out.line(`To rebuild those days: reporting-rollup verify ${account} --repair`);
  return 1;
}

async function repairAccount(out: Output, sql: Sql, account: number, interrupted: AbortSignal) {
  const { found } = await differences(sql, account, interrupted);
  if (found.length > 0) await showVerdict(out, sql, account, found);
  const repaired = interrupted.aborted
    ? []
    : await sql<{ date: string }[]>`select r as date from rollup.repair(${account}) as r`;
  out.line(`${counted(repaired.length, "day")} rebuilt.`);
  return verifyAccount(out, sql, account, interrupted, {
    repaired: repaired.map(({ date }) => date),
  });
}

/** How far a verification came. */
interface Seen {
  /** The last day compared; null: all, or none. */
  through: string | null;
  events: number;
  total: number;
}

/** Compares step by step, each in a snapshot of its own, until all is seen or the signal is aborted. */
async function differences(sql: Sql, account: number, interrupted: AbortSignal) {
  const steps = await sql<{ from_date: string | null; to_date: string | null; events: string }[]>`
    select * from rollup.verification_steps(${account})`;
  const total = steps.reduce((sum, { events }) => sum + Number(events), 0);
  const seen: Seen = { through: null, events: 0, total };
  const found: Difference[] = [];
  const bar = steps.length > 1 ? progressBar(`Account ${account}`) : undefined;
  for (const { from_date, to_date, events } of steps) {
    if (interrupted.aborted) break;
    bar?.update(seen);
    found.push(
      ...(await sql<
        Difference[]
      >`select * from rollup.verify(${account}, ${from_date}, ${to_date})`),
    );
    seen.through = to_date;
    seen.events += Number(events);
  }
  bar?.stop();
  if (!interrupted.aborted)
    await sql`select rollup.record_verification(${account}, ${found.length})`;
  return { found, seen };
}

function showInterrupted(
  out: Output,
  found: Difference[],
  { through, events, total }: Seen,
): number {
  const looked = `${counted(events, "event")} of ${counted(total, "event")}`;
  const days = through === null ? "" : `, the days through ${through}`;
  out.line(`Interrupted after ${looked}${days}: ${counted(found.length, "difference")} so far.`);
  return 130;
}

async function showVerdict(out: Output, sql: Sql, account: number, found: Difference[]) {
  if (out.json) return;
  if (found.length > 0) {
    out.line(pc.red(`${counted(found.length, "difference")} to the raw events:`));
    out.line(differenceTable(found));
    return;
  }
  const [status] = await sql<{ covered: string; covered_share: string | null }[]>`
    select covered, covered_share from rollup.account_status where account_id = ${account}`;
  const share = Number(status?.covered_share ?? 1);
  if (status?.covered === "{}" || share === 0) {
    out.line("Nothing to verify: no day is covered by rollups yet, so reads use raw events.");
    out.line(`To rebuild them: reporting-rollup backfill ${account}`);
  } else if (status?.covered_share === null) {
    out.line("Exact: there are no events to compare with.");
  } else if (share === 1) {
    out.line(
      `${pc.green("Exact:")} the rollups of all days equal a recomputation from the raw events.`,
    );
  } else {
    out.line(
      `${pc.green("Exact")} on the ${Math.floor(share * 1000) / 10} % of the days that are covered; ` +
        "the others are read from raw events.",
    );
  }
}

function differenceTable(found: Difference[]): string {
  return firstRows({
    columns: [
      ...left("structure", "date", "dimension", "metric"),
      ...right("expected", "actual", "expected sum", "actual sum"),
    ],
    rows: found.map((row) => [
      row.structure,
      row.date,
      `${row.dimension_type} ${row.dimension_id}`,
      row.metric,
      row.expected_count ?? "–",
      row.actual_count ?? "–",
      row.expected_sum_value ?? "–",
      row.actual_sum_value ?? "–",
    ]),
  });
}
