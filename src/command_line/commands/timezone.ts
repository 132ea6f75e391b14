import type { Command } from "commander";
import pc from "picocolors";
import type { Sql } from "../../database/connection.js";
import { UserError } from "../../database/errors.js";
import { accountArgument } from "../arguments.js";
import { action, type Context } from "../command.js";
import type { Output } from "../output.js";
import { confirm, requireTerminal, search } from "../terminal/prompts.js";
import { facts } from "../terminal/table.js";
import {
  listTimezones,
  matchTimezones,
  offsetText,
  parseOffset,
  type Timezone,
} from "../timezones.js";

/** What stands for no time zone at all. */
const none = "none";

/** `reporting-rollup timezone` */
export function registerTimezone(program: Command): void {
  program
    .command("timezone")
    .description("set the time zone that decides an account's days: this switches its rollups on")
    .argument("<account>", "the account's id", accountArgument)
    .argument(
      "[zone]",
      `an IANA name such as America/New_York, or "${none}"; without it, you are asked`,
    )
    .option("-y, --yes", "do not ask")
    .action(action(program, timezone));
}

async function timezone(
  context: Context,
  account: number,
  given: string | undefined,
  { yes = false }: { yes?: boolean },
): Promise<number> {
  const { out } = context;
  const { sql } = await context.database();
  await sql`select rollup.require_known_account(${account})`;
  const [settings] = await sql<{ reporting_timezone: string | null }[]>`
    select * from rollup.account_settings where account_id = ${account}`;
  const current = settings?.reporting_timezone ?? null;
  const zone = await chooseZone(sql, account, given);
  if (zone === current) {
    out.document(settings ?? null);
    out.line(
      `Account ${account} ${current === null ? "has no time zone" : `is in ${current}`} already.`,
    );
    return 0;
  }
  showChange(out, account, current, zone);
  if (!yes) {
    requireTerminal(
      "Setting a time zone asks before it does",
      "Pass --yes to do it without being asked.",
    );
    if (!(await confirm("Set it?"))) {
      out.progress("Nothing was changed.");
      return 1;
    }
  }
  const [set] = await sql`select s.* from rollup.set_reporting_timezone(${account}, ${zone}) as s`;
  out.document(set);
  showNext(out, account, zone);
  return 0;
}

/** The zone asked for, in its listed spelling; null for none. */
async function chooseZone(sql: Sql, account: number, given: string | undefined) {
  if (given === undefined) {
    requireTerminal(
      "No time zone was given",
      "Name one: reporting-rollup timezone 1 America/New_York --yes",
    );
    return askZone(await listTimezones(sql), account);
  }
  if (given.toLowerCase() === none) return null;
  if (parseOffset(given) !== undefined) throw await offsetIsNoZone(sql, given);
  const [found] = await sql<{ name: string }[]>`select rollup.find_timezone(${given}) as name`;
  return found?.name ?? null;
}

function askZone(zones: Timezone[], account: number): Promise<string> {
  return search(
    `Time zone of account ${account} (a name, or an offset such as +5:30, -8, 0)`,
    (words) =>
      matchTimezones(zones, words).map((zone) => ({ name: zoneText(zone), value: zone.name })),
  );
}

function zoneText({ name, offset, is_dst, local }: Timezone): string {
  const summer = is_dst ? ", summer time" : "";
  return `${name.padEnd(32)} ${pc.dim(`${offsetText(offset)}${summer}, ${local} now`)}`;
}

async function offsetIsNoZone(sql: Sql, given: string): Promise<UserError> {
  const names = matchTimezones(await listTimezones(sql), given).map(({ name }) => name);
  const some = names.slice(0, 6).join(", ");
  return new UserError(
    `"${given}" is an offset, not a time zone: offsets change with the seasons.`,
    {
      exitCode: 2,
      hint:
        some === ""
          ? "Pass an IANA name."
          : `Zones with that offset now: ${some}. Without a zone, you can search.`,
    },
  );
}

function showChange(out: Output, account: number, current: string | null, zone: string | null) {
  out.line(pc.bold(`Account ${account}`));
  out.line(
    facts([
      ["time zone now", current ?? none],
      ["new time zone", pc.bold(zone ?? none)],
    ]),
  );
  if (zone === null) {
    out.line("  Its rollups are given up; reads use raw events.");
  } else if (current === null) {
    out.line(
      "  From now on the trigger keeps its daily totals, and a backfill of its history is queued.",
    );
    out.line("  Until that has run, reads use raw events: slower, and as exact.");
  } else {
    out.line(
      "  Events move to other days, so all its daily totals are made anew by a backfill, which is queued.",
    );
    out.line("  Until that has run, reads use raw events: slower, and as exact.");
  }
}

function showNext(out: Output, account: number, zone: string | null): void {
  if (zone === null) {
    out.line(`${pc.green("Done:")} account ${account} keeps no rollups.`);
    return;
  }
  out.line(`${pc.green("Done:")} account ${account} counts its days in ${zone}.`);
  out.line();
  out.line("Next:");
  out.line(
    `  ${pc.bold(`reporting-rollup backfill ${account}`)}  do the backfill now, unless a worker is running`,
  );
  out.line(`  ${pc.bold(`reporting-rollup status ${account}`)}  see how far it is`);
}
