#!/usr/bin/env node
import { readFileSync } from "node:fs";
import { Command, CommanderError } from "commander";
import { errorCode, UserError } from "../database/errors.js";
import { registerBackfill } from "./commands/backfill.js";
import { registerCompare } from "./commands/compare.js";
import { registerDemo } from "./commands/demo.js";
import { registerFlag } from "./commands/flag.js";
import { registerMigrate } from "./commands/migrate.js";
import { registerReport } from "./commands/report.js";
import { registerSeal } from "./commands/seal.js";
import { registerServer } from "./commands/server.js";
import { registerStatus } from "./commands/status.js";
import { registerTimezone } from "./commands/timezone.js";
import { registerUninstall } from "./commands/uninstall.js";
import { registerVerify } from "./commands/verify.js";
import { registerWorker } from "./commands/worker.js";
import { makeOutput } from "./output.js";

const { version, description } = JSON.parse(
  readFileSync(new URL("../../package.json", import.meta.url), "utf8"),
) as { version: string; description: string };

// A reader that closes the pipe early (`| head`) wants no more output; the work goes on.
for (const stream of [process.stdout, process.stderr]) {
  stream.on("error", (error) => {
    if (errorCode(error) === "EPIPE") return;
    process.exitCode = 1;
    if (stream !== process.stderr)
      console.error(`error: cannot write the output: ${error.message}`);
  });
}

const program = new Command("reporting-rollup")
  .description(description)
  .version(version)
  .option("--json", "print one JSON document instead of text")
  .exitOverride()
  .showHelpAfterError("(--help shows what there is)");

registerDemo(program);
registerMigrate(program);
registerServer(program);
registerTimezone(program);
registerBackfill(program);
registerWorker(program);
registerFlag(program);
registerStatus(program);
registerReport(program);
registerVerify(program);
registerCompare(program);
registerSeal(program);
registerUninstall(program);
// Options of all commands may also stand behind the command.
for (const command of program.commands) {
  command.option("--json", "print one JSON document instead of text");
  command.on("option:json", () => program.setOptionValue("json", true));
}

try {
  await program.parseAsync();
} catch (error) {
  if (!(error instanceof CommanderError)) throw error;
  // Help and version were asked for; anything else is a wrong argument.
  process.exitCode = error.exitCode === 0 ? 0 : 2;
  if (process.exitCode === 2 && program.opts().json) {
    makeOutput(true).error(new UserError(error.message.replace(/^error: /, "")));
  }
}
