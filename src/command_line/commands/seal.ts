import type { Command } from "commander";
import pc from "picocolors";
import { accountArgument, dateArgument } from "../arguments.js";
import { action, type Context } from "../command.js";
import { counted } from "../terminal/format.js";
import { progressBar } from "../terminal/progress.js";

/** `reporting-rollup seal` */
export function registerSeal(program: Command): void {
  program
    .command("seal")
    .description("fix the days of an account: what is deleted later does not subtract from them")
    .argument("<account>", "the account's id", accountArgument)
    .requiredOption("--through <date>", "the last day to seal, in account time", dateArgument)
    .addHelpText(
      "after",
      "\nThe days are compared with the raw events first, and must be equal. To take it back: select rollup.unseal(ACCOUNT);",
    )
    .action(action(program, seal));
}

/** Seals step by step, each for good: an interrupted one goes on from there. */
async function seal(context: Context, account: number, { through }: { through: string }) {
  const { out, interrupted, endsByItself, database } = context;
  const { sql } = await database();
  await sql`select rollup.require_known_account(${account})`;
  const steps = await sql<{ to_date: string; events: string }[]>`
    select to_date, events from rollup.verification_steps(${account}, ${through})`;
  const total = steps.reduce((sum, { events }) => sum + Number(events), 0);
  endsByItself();
  const bar = steps.length > 1 ? progressBar(`Account ${account}`) : undefined;
  let events = 0;
  let sealed: string | null = null;
  try {
    // Without a step left they are sealed already, or it says why they cannot be.
    for (const step of steps.length === 0 ? [{ to_date: through, events: "0" }] : steps) {
      if (interrupted.aborted) break;
      bar?.update({ events, total });
      const [row] = await sql<{ sealed: string }[]>`
        select rollup.seal(${account}, ${step.to_date}) as sealed`;
      sealed = row?.sealed ?? null;
      events += Number(step.events);
    }
  } finally {
    bar?.stop();
  }
  out.document({ account_id: account, sealed_through: sealed, interrupted: interrupted.aborted });
  if (sealed === through) {
    out.line(
      `${pc.green("Done:")} the days of account ${account} through ${through} are sealed, ${counted(events, "event")} compared.`,
    );
    return 0;
  }
  out.line(
    `Interrupted: the days through ${sealed ?? "none"} are sealed. The same command goes on from there.`,
  );
  return 130;
}
