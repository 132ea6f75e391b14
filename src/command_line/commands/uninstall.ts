import type { Command } from "commander";
import { open } from "../../database/connection.js";
import { readUrl } from "../../database/url.js";
import { action } from "../command.js";
import { agree } from "../terminal/prompts.js";

/** `reporting-rollup uninstall` */
export function registerUninstall(program: Command): void {
  program
    .command("uninstall")
    .description("remove everything of ours from the database; the host's tables stay as they are")
    .option("-y, --yes", "do not ask")
    .action(
      action(program, async ({ out, server }, { yes = false }: { yes?: boolean }) => {
        const { url } = await server();
        const { host, port, database } = readUrl(url);
        await (await open(url, { max: 1 })).end();
        out.line(
          `From ${database} on ${host}:${port} will be removed, with all rollups and settings:`,
        );
        out.line(
          "  the triggers on public.reporting_events and public.accounts, the schemas rollup and rollup_worker,",
        );
        out.line("  and the record of our migrations. Raw events and all else of the host stay.");
        if (!yes && !(await agree("Uninstalling", "Remove all that?", false))) {
          out.progress("Nothing was removed.");
          return 1;
        }
        const { uninstall } = await import("../../database/uninstall.js");
        const removed = await uninstall(url, { log: out.progress });
        out.document({ database, removed });
        out.line("Removed. To install it again: reporting-rollup migrate");
        return 0;
      }),
    );
}
