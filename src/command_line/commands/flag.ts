import { Argument, type Command } from "commander";
import { accountArgument } from "../arguments.js";
import { action } from "../command.js";

/** `reporting-rollup flag` */
export function registerFlag(program: Command): void {
  program
    .command("flag")
    .description("say whether reads of an account may use rollups; they are kept regardless")
    .argument("<account>", "the account's id", accountArgument)
    .addArgument(new Argument("<state>", "on or off").choices(["on", "off"]))
    .action(
      action(program, async ({ out, database }, account: number, state: "on" | "off") => {
        const { sql } = await database();
        await sql`select rollup.require_known_account(${account})`;
        const [settings] = await sql`
          select s.* from rollup.set_reporting_events_rollup(${account}, ${state === "on"}) as s`;
        out.document(settings);
        if (state === "off") {
          out.line(
            `Reads of account ${account} use raw events only; its rollups are kept up nevertheless.`,
          );
        } else if (settings?.reporting_timezone) {
          out.line(`Reads of account ${account} use rollups wherever its days are covered.`);
        } else {
          out.line(
            `Reads of account ${account} may use rollups, but it has no time zone, so there are none.`,
          );
          out.line(`To switch them on: reporting-rollup timezone ${account}`);
        }
        return 0;
      }),
    );
}
