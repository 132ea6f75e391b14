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
  requireAccounts,
  splitAccounts,
} from "../fleet.js";
import type { Output } from "../output.js";
import { agree, requireTerminal, search } from "../terminal/prompts.js";
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
    .description("set the time zone that decides the days of accounts: this switches rollups on")
    .usage("[options] <accounts...> [zone]")
    .argument(
      "<words...>",
      `${accountsHelp}; then a name such as America/New_York, or of Rails such as Chennai, or "${none}"; without it, you are asked`,
    )
    .option(...allOption)
    .option("-y, --yes", "do not ask")
    .action(action(program, timezone));
}

async function timezone(
  { out, database }: Context,
  words: string[],
  { all, yes = false }: { all?: boolean; yes?: boolean },
): Promise<number> {
  const { accounts: named, rest } = splitAccounts(words, all);
  requireAccounts(named, all);
  const { sql } = await database();
  const accounts = await chooseAccounts(sql, named, { all, withTimezone: false });
  const [only] = named;
  if (only !== undefined && named.length === 1) return setZone(sql, out, only, rest, yes);
  const zone = await chooseZone(
    sql,
    out,
    `${accounts.length} accounts`,
    rest.join(" ") || undefined,
  );
  if (
    !yes &&
    !(await agree("Setting a time zone", `Set ${zone ?? none} for ${accounts.length} accounts?`))
  ) {
    out.progress("Nothing was changed.");
    return 1;
  }
  return forEachAccount(out, named, accounts, async (own, account) => {
    await sql`select rollup.require_known_account(${account})`;
    const [set] = await writeZone(sql, account, zone);
    own.document(set);
    own.line(doneText(account, zone));
    return 0;
  });
}

async function setZone(sql: Sql, out: Output, account: number, words: string[], yes: boolean) {
  await sql`select rollup.require_known_account(${account})`;
  const [settings] = await sql<{ reporting_timezone: string | null }[]>`
    select * from rollup.account_settings where account_id = ${account}`;
  const current = settings?.reporting_timezone ?? null;
  const zone = await chooseZone(sql, out, `account ${account}`, words.join(" ") || undefined);
  if (zone === current) {
    // Writes it where the host keeps it, if it does not stand there.
    const [same] = await writeZone(sql, account, zone);
    out.document(same);
    out.line(
      `Account ${account} ${current === null ? "has no time zone" : `is in ${current}`} already.`,
    );
    return 0;
  }
  showChange(out, account, current, zone);
  if (!yes && !(await agree("Setting a time zone", "Set it?"))) {
    out.progress("Nothing was changed.");
    return 1;
  }
  const [set] = await writeZone(sql, account, zone);
  out.document(set);
  showNext(out, account, zone);
  return 0;
}

function writeZone(sql: Sql, account: number, zone: string | null) {
  return sql`select s.* from rollup.set_reporting_timezone(${account}, ${zone}) as s`;
}

/** The zone asked for, in its listed spelling; null for none. */
async function chooseZone(sql: Sql, out: Output, whose: string, given: string | undefined) {
  if (given === undefined) {
    requireTerminal(
      "No time zone was given",
      "Name one: reporting-rollup timezone 1 America/New_York --yes",
    );
    return askZone(await listTimezones(sql), whose);
  }
  if (given.toLowerCase() === none) return null;
  if (parseOffset(given) !== undefined) throw await offsetIsNoZone(sql, given);
  const [found] = await sql<{ name: string }[]>`select rollup.find_timezone(${given}) as name`;
  const name = found?.name ?? null;
  if (name?.toLowerCase() !== given.trim().toLowerCase()) out.line(`${given} is ${name}.`);
  return name;
}

function askZone(zones: Timezone[], whose: string): Promise<string> {
  return search(`Time zone of ${whose} (a name, or an offset such as +5:30, -8, 0)`, (words) =>
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

function doneText(account: number, zone: string | null): string {
  return zone === null
    ? `${pc.green("Done:")} account ${account} keeps no rollups.`
    : `${pc.green("Done:")} account ${account} counts its days in ${zone}.`;
}

function showNext(out: Output, account: number, zone: string | null): void {
  out.line(doneText(account, zone));
  if (zone === null) return;
  out.line();
  out.line("Next:");
  out.line(
    `  ${pc.bold(`reporting-rollup backfill ${account}`)}  do the backfill now, unless a worker is running`,
  );
  out.line(`  ${pc.bold(`reporting-rollup status ${account}`)}  see how far it is`);
}
