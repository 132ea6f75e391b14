import type { Command } from "commander";
import { nodesOf } from "../../database/citus.js";
import { readUrl } from "../../database/url.js";
import { startWorker } from "../../worker/worker.js";
import { countArgument } from "../arguments.js";
import { action } from "../command.js";
import { divertConsole, makeLog } from "../log.js";

interface Options {
  concurrency: number;
  verbose?: boolean;
}

/** `reporting-rollup worker` */
export function registerWorker(program: Command): void {
  program
    .command("worker")
    .description("work off backfills and fold pending changes, until stopped")
    .option("--concurrency <jobs>", "accounts worked on at the same time", countArgument(64), 2)
    .option("--verbose", "log more")
    .addHelpText(
      "after",
      "\nLogs a line for what it does, and its health once a minute; with --json, a JSON document a line." +
        "\nCtrl-C or SIGTERM: finishes the jobs under way, then ends. Killed, it loses nothing: another worker takes over.",
    )
    .action(
      action(program, async (context, { concurrency, verbose = false }: Options) => {
        const { out, interrupted, endsByItself, database } = context;
        const { sql, url } = await database();
        const nodes = await nodesOf(sql, url);
        await sql.end({ timeout: 1 });
        endsByItself();
        const write = (line: string) => process.stdout.write(line);
        const log = makeLog({ json: out.json, write, debug: verbose });
        divertConsole(log);
        const worker = await startWorker(url, { concurrency, log });
        const { host, port, database: name } = readUrl(url);
        log("info", "worker started", {
          pid: process.pid,
          host,
          port,
          database: name,
          concurrency,
        });
        const others = nodes.filter(({ here }) => !here).map(({ name }) => name);
        if (others.length > 0)
          log("info", "each node of the cluster needs a worker of its own", { others });
        if (!interrupted.aborted) {
          await new Promise((done) => interrupted.addEventListener("abort", done, { once: true }));
        }
        log("info", "stopping; the jobs under way are finished first");
        await worker.stop();
        log("info", "worker stopped");
        return 0;
      }),
    );
}
