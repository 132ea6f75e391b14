import type { Command } from "commander";
import { UserError } from "../../database/errors.js";
import { action } from "../command.js";
import {
  accountsHelp,
  allOption,
  chooseAccounts,
  forEachAccount,
  requireAccounts,
  splitAccounts,
} from "../fleet.js";

/** `reporting-rollup flag` */
export function registerFlag(program: Command): void {
  program
    .command("flag")
    .description("say whether reads of accounts may use rollups; they are kept regardless")
    .usage("[options] <accounts...> on|off")
    .argument("<words...>", `${accountsHelp}; then on or off`)
    .option(allOption[0], "all accounts instead; on: those that have a time zone")
    .action(
      action(program, async ({ out, database }, words: string[], { all }: { all?: boolean }) => {
        const { accounts: named, rest } = splitAccounts(words, all);
        requireAccounts(named, all);
        const state = requireState(rest);
        const { sql } = await database();
        const accounts = await chooseAccounts(sql, named, { all, withTimezone: state });
        return forEachAccount(out, named, accounts, async (own, account) => {
          await sql`select rollup.require_known_account(${account})`;
          const [settings] = await sql`
            select s.* from rollup.set_reporting_events_rollup(${account}, ${state}) as s`;
          own.document(settings);
          if (!state) {
            own.line(
              `Reads of account ${account} use raw events only; its rollups are kept up nevertheless.`,
            );
          } else if (settings?.reporting_timezone) {
            own.line(`Reads of account ${account} use rollups wherever its days are covered.`);
          } else {
            own.line(
              `Reads of account ${account} may use rollups, but it has no time zone, so there are none.`,
            );
            own.line(`To switch them on: reporting-rollup timezone ${account}`);
          }
          return 0;
        });
      }),
    );
}

function requireState(words: string[]): boolean {
  const [state] = words;
  if (words.length === 1 && (state === "on" || state === "off")) return state === "on";
  throw new UserError(
    words.length === 0 ? "Nothing says on or off." : `"${words.join(" ")}" is neither on nor off.`,
    { exitCode: 2, hint: "Such as: reporting-rollup flag 1 on" },
  );
}
