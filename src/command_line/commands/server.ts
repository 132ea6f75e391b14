import type { Command } from "commander";
import { UserError } from "../../database/errors.js";
import { acquireEmbedded } from "../../server/server.js";
import { action } from "../command.js";
import { readConfig } from "../config.js";

/** `reporting-rollup server` */
export function registerServer(program: Command): void {
  program
    .command("server")
    .description("run the embedded PostgreSQL server in the foreground, and say how to connect")
    .action(
      action(program, async ({ out, interrupted, endsByItself }) => {
        const config = readConfig();
        if (config.databaseUrl !== undefined) {
          throw new UserError("DATABASE_URL names another server.", {
            exitCode: 2,
            hint: "Unset it to use the embedded one: env -u DATABASE_URL reporting-rollup server",
          });
        }
        endsByItself();
        const server = await acquireEmbedded(config.dataFolder, { log: out.progress });
        const { host, port, user, database, passfile } = server.connection ?? {};
        out.document(server.connection);
        out.line(`PostgreSQL listens on ${host}:${port}. To connect:`);
        out.line();
        out.line(`  PGPASSFILE=${passfile} psql -h ${host} -p ${port} -U ${user} ${database}`);
        out.line();
        out.line("Ctrl-C stops it, once nobody else uses it.");
        if (!interrupted.aborted) {
          await new Promise((done) => interrupted.addEventListener("abort", done));
        }
        // Whoever runs it in the foreground ends it, also when another command had started it.
        const fate = await server.release({ stop: true });
        out.progress(fate === "stopped" ? "Stopped." : "Others still use it: left running.");
        return 0;
      }),
    );
}
