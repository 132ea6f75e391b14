import { pause } from "../../database/retry.js";
import type { WorkerContext } from "./task.js";

/** Verifies the accounts in whose zones it is night, one after the other, and rests as long as each took. */
export async function verifyNightly(
  { sql, log }: WorkerContext,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    const began = performance.now();
    const [seen] = await sql<
      {
        account_id: number | null;
        differences: string;
        days: number;
        verified_from: string | null;
      }[]
    >`select * from rollup.verify_next()`;
    if (seen === undefined || seen.account_id === null) return;
    log(seen.days > 0 ? "warn" : "debug", "account verified", { ...seen });
    await pause(performance.now() - began, signal);
  }
}
