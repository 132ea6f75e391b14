import type { Command } from "commander";
import pc from "picocolors";
import { accountArgument, dateArgument } from "../arguments.js";
import { action, type Context } from "../command.js";
import { counted } from "../terminal/format.js";
import { firstRows, left, right } from "../terminal/table.js";

/** A row of `rollup.compare_host_rollups`. */
interface Difference {
  date: string;
  dimension_type: string;
  dimension_id: string;
  metric: string;
  host_count: string | null;
  count: string | null;
  host_sum_value: number | null;
  sum_value: string | null;
  host_sum_value_business_hours: number | null;
  sum_value_business_hours: string | null;
  reason: string;
}

interface Days {
  from?: string;
  to?: string;
}

/** `reporting-rollup compare` */
export function registerCompare(program: Command): void {
  program
    .command("compare")
    .description("compare the host's own rollup table, reporting_events_rollups, with ours")
    .argument("<account>", "the account's id", accountArgument)
    .option(
      "--from <date>",
      "first day, in the account's time zone (default: the host's first)",
      dateArgument,
    )
    .option("--to <date>", "last day, included (default: the host's last)", dateArgument)
    .addHelpText("after", "\nExits with 1 if there are differences, or nothing to compare.")
    .action(action(program, compare));
}

async function compare({ out, database }: Context, account: number, { from, to }: Days) {
  const { at } = await database();
  const { sql } = await at(account);
  await sql`select rollup.require_known_account(${account})`;
  const found = await sql<(Difference & { of_reason: string })[]>`
    select d.*, count(*) over (partition by d.reason) as of_reason
    from rollup.compare_host_rollups(${account}, ${from ?? null}, ${to ?? null}) as d
    order by d.date, d.dimension_type, d.dimension_id, d.metric`;
  out.document({ differences: found.map(({ of_reason, ...difference }) => difference) });
  if (found.length === 0) {
    out.line(`${pc.green("Equal:")} the host's own rollups are the same on all clean days.`);
    return 0;
  }
  out.line(pc.red(`${counted(found.length, "row")} of the host's own rollups differ from ours:`));
  for (const [reason, count] of new Map(found.map((row) => [row.reason, row.of_reason])))
    out.line(`  ${count.padStart(7)}  ${reason}`);
  out.line();
  out.line(differenceTable(found));
  return 1;
}

function differenceTable(found: readonly Difference[]): string {
  return firstRows({
    columns: [
      ...left("date", "dimension", "metric"),
      ...right("host", "ours", "host's sum", "our sum"),
      ...left("reason"),
    ],
    rows: found.map((row) => [
      row.date,
      `${row.dimension_type} ${row.dimension_id}`,
      row.metric,
      row.host_count ?? "–",
      row.count ?? "–",
      row.host_sum_value === null ? "–" : String(row.host_sum_value),
      row.sum_value ?? "–",
      row.reason,
    ]),
  });
}
