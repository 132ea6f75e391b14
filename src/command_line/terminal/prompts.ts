/** Questions to the person at the keyboard; asked on stderr, so that stdout stays the command's output. */
import { UserError } from "../../database/errors.js";

const context = { output: process.stderr };
/** Loaded when somebody is asked: most commands ask nothing. */
const inquirer = () => import("@inquirer/prompts");

/** Throws a `UserError` (exit code 2) that names the flags to use instead, if there is nobody to ask. */
export function requireTerminal(question: string, instead: string): void {
  if (process.stdin.isTTY && process.stderr.isTTY) return;
  throw new UserError(`${question}, and there is no terminal to ask on.`, {
    exitCode: 2,
    hint: instead,
  });
}

/** A question with yes or no, before something is done; `--yes` is the answer of those without a terminal. */
export async function agree(what: string, message: string, suggestion = true): Promise<boolean> {
  requireTerminal(`${what} asks before it does`, "Pass --yes to do it without being asked.");
  const { confirm: ask } = await inquirer();
  return answer(ask({ message, default: suggestion }, context));
}

/** Something a person can pick. */
export interface Choice {
  /** How it is listed. */
  name: string;
  /** What it stands for; also how it is shown when it has been picked. */
  value: string;
}

/** Picks one of what `find` finds for the words typed so far. */
export async function search(message: string, find: (words: string) => Choice[]): Promise<string> {
  const { search: ask } = await inquirer();
  return answer(
    ask<string>(
      {
        message,
        pageSize: 12,
        source: async (words) =>
          find(words ?? "").map((choice) => ({ ...choice, short: choice.value })),
      },
      context,
    ),
  );
}

/** Ctrl-C at a question arrives as a key: treated like the signal it stands for. */
async function answer<T>(question: Promise<T>): Promise<T> {
  try {
    return await question;
  } catch (error) {
    if (!(error instanceof Error && error.name === "ExitPromptError")) throw error;
    process.stderr.write("\nNothing was changed.\n");
    process.kill(process.pid, "SIGINT");
    // Until the signal has arrived something must keep the process.
    return new Promise(() => setTimeout(() => {}, 60_000));
  }
}
