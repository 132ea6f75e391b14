/** Commands that take one account, several (`1 2 5`, `1,2,5`) or `--all`. */
import { InvalidArgumentError } from "commander";
import pc from "picocolors";
import type { Sql } from "../database/connection.js";
import { toUserError, UserError } from "../database/errors.js";
import { accountArgument } from "./arguments.js";
import type { Output } from "./output.js";

/** What the help says of the accounts. */
export const accountsHelp = "the accounts' ids, such as 1 or 1 2 5";
/** The option `--all`. */
export const allOption = ["--all", "all accounts instead"] as const;

/** Splits words into the ids that they begin with and the others. */
export function splitAccounts(
  words: string[],
  all?: boolean,
): { accounts: number[]; rest: string[] } {
  const first = words.findIndex((word) => !/^\d+(,\d+)*,?$/.test(word));
  const ids = first < 0 ? words : words.slice(0, first);
  const rest = first < 0 ? [] : words.slice(first);
  const accounts = ids.flatMap((word) => word.split(",").filter(Boolean).map(checked));
  if (accounts.length === 0 && !all && rest[0] !== undefined) checked(rest[0]);
  return { accounts: [...new Set(accounts)], rest };
}

/** Words that are all ids. */
export function onlyAccounts(words: string[]): number[] {
  const { accounts, rest } = splitAccounts(words);
  return rest.length === 0 ? accounts : [...accounts, ...rest.map(checked)];
}

function checked(id: string): number {
  try {
    return accountArgument(id);
  } catch (error) {
    if (!(error instanceof InvalidArgumentError)) throw error;
    throw new UserError(`"${id}" is not the id of an account.`, {
      exitCode: 2,
      hint: error.message,
    });
  }
}

/** The accounts that were named, or those that `--all` means. */
export async function chooseAccounts(
  sql: Sql,
  named: number[],
  { all = false, withTimezone }: { all?: boolean | undefined; withTimezone: boolean },
): Promise<number[]> {
  const found = all
    ? await sql<{ id: number }[]>`select a as id from rollup.all_accounts(${withTimezone}) as a`
    : named.map((id) => ({ id }));
  if (found.length === 0)
    throw new UserError(withTimezone ? "No account has a time zone." : "There is no account.", {
      hint: "reporting-rollup status shows the accounts that have settings.",
    });
  return found.map(({ id }) => id);
}

/** Refuses ids beside `--all`, and neither of them: before anything is connected. */
export function requireAccounts(named: number[], all: boolean | undefined): void {
  if (Boolean(all) === (named.length === 0)) return;
  throw new UserError(all ? "Name accounts, or pass --all: not both." : "No account was named.", {
    exitCode: 2,
    hint: "Such as: reporting-rollup verify 1 2 5, or: reporting-rollup verify --all",
  });
}

/** What became of an account among several. */
export interface Fate {
  account_id: number;
  result?: unknown;
  error?: { message: string; detail?: string | undefined; hint?: string | undefined };
}

/** Does the work for the one account named, or for several one after the other: a bad one does not stop the rest. */
export async function forEachAccount(
  out: Output,
  named: number[],
  accounts: number[],
  work: (out: Output, account: number) => Promise<number>,
): Promise<number> {
  const [only] = named;
  if (only !== undefined && named.length === 1) return work(out, only);
  const fates: Fate[] = [];
  let code = 0;
  for (const [index, account_id] of accounts.entries()) {
    out.progress(`Account ${account_id}, ${index + 1} of ${accounts.length}`);
    const fate: Fate = { account_id };
    const own: Output = { ...out, document: (value) => Object.assign(fate, { result: value }) };
    try {
      code = Math.max(code, await work(own, account_id));
    } catch (error) {
      Object.assign(fate, failure(error));
    }
    fates.push(fate);
  }
  return Math.max(code, concludeAccounts(out, fates));
}

/** An error as it stands in a `Fate`. */
export function failure(error: unknown): Pick<Fate, "error"> {
  const { message, detail, hint } = toUserError(error);
  return { error: { message, detail, hint } };
}

/** Prints the document of several accounts and, at the end, the list of those that failed; the exit code. */
export function concludeAccounts(out: Output, fates: Fate[]): number {
  out.document({ accounts: fates });
  const failed = fates.filter(({ error }) => error !== undefined);
  if (failed.length === 0) return 0;
  if (!out.json) {
    out.line();
    out.line(pc.red(`${failed.length} of ${fates.length} accounts failed:`));
    for (const { account_id, error } of failed)
      out.line(`  account ${account_id}: ${error?.message}`);
  }
  return 1;
}
