import { isLostConnection, toUserError } from "../../database/errors.js";
import type { WorkerContext } from "./task.js";

/** Applies the pending deltas of every account, each in transactions of its own. An account that fails is left as it is. */
export async function fold(context: WorkerContext, signal: AbortSignal): Promise<void> {
  const accounts = await context.sql<{ account_id: number }[]>`
    select a as account_id from rollup.accounts_to_fold() as a`;
  for (const { account_id } of accounts) {
    if (signal.aborted) return;
    try {
      await foldAccount(context, account_id, signal);
    } catch (error) {
      if (isLostConnection(error)) throw error;
      context.done.errors++;
      const { message } = toUserError(error);
      context.log("warn", "pending deltas not folded", { account_id, error: message });
    }
  }
}

async function foldAccount({ sql, log, done }: WorkerContext, account: number, stop: AbortSignal) {
  for (let more = true; more && !stop.aborted; ) {
    const [row] = await sql<{ folded: string; size: number }[]>`
      select rollup.fold_account(${account}) as folded, rollup.fold_size() as size`;
    const folded = Number(row?.folded);
    done.folded += folded;
    if (folded > 0) log("debug", "folded", { account_id: account, deltas: folded });
    more = folded === row?.size;
  }
}
