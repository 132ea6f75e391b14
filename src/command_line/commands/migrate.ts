import type { Command } from "commander";
import { action } from "../command.js";

/** `reporting-rollup migrate` */
export function registerMigrate(program: Command): void {
  program
    .command("migrate")
    .description("install into the database, or update it to this version; safe to repeat")
    .option(
      "--create-host-tables",
      "make the host's tables where there are none, to try the rollups on; always on the embedded server",
    )
    .action(
      action(program, async ({ out, server }, options: { createHostTables?: boolean }) => {
        const { url, embedded } = await server();
        const createHostTables = options.createHostTables ?? embedded;
        const { migrate } = await import("../../database/migrate.js");
        const result = await migrate(url, { log: out.progress, createHostTables });
        out.document(result);
        out.line(
          result.host_tables === "created"
            ? "There was no public.reporting_events: the host's tables were made too, for trying it out."
            : "public.reporting_events was found, and is as expected.",
        );
        out.line(`The database (PostgreSQL ${result.server_version}) is up to date.`);
        return 0;
      }),
    );
}
