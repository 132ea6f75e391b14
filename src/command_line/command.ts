/** What every command of the command line has in common: output, the database, interruption, the exit code. */
import { constants } from "node:os";
import type { Command } from "commander";
import { nodesOf } from "../database/citus.js";
import { open, type Sql } from "../database/connection.js";
import { toUserError } from "../database/errors.js";
import { acquireServer, type Server } from "../server/server.js";
import { readConfig } from "./config.js";
import { makeOutput, type Output } from "./output.js";

/** Handed to a command's action. */
export interface Context {
  out: Output;
  /** Aborted by the first Ctrl-C or SIGTERM. */
  interrupted: AbortSignal;
  /**
   * From here on an interruption only aborts `interrupted`, and the command ends by itself, soon. Otherwise the
   * process ends at once, after what was deferred.
   */
  endsByItself(): void;
  /** To be done at the end of the command, however it ends; the latest first. */
  defer(work: () => Promise<unknown>): void;
  /** The server that the configuration names, started if it is an embedded one that does not run. */
  server(options?: { database?: string }): Promise<Server>;
  /** A client on its database; throws a `UserError` when it cannot be reached. */
  database(): Promise<Database>;
}

export interface Place {
  sql: Sql;
  url: string;
}

export interface Database extends Place {
  /** Where the events of an account are: on a Citus cluster one of its nodes, else here. */
  at(account: number): Promise<Place>;
  /** Here, or all nodes of a Citus cluster if it is its coordinator. */
  everywhere(): Promise<Place[]>;
}

type Action<Args extends unknown[]> = (
  context: Context,
  ...args: Args
) => Promise<number | undefined>;

/**
 * Wraps an action for commander. The action returns its exit code, 0 if nothing; what it throws becomes a message
 * and the exit code 1, or 2 when the arguments are wrong by themselves.
 */
export function action<Args extends unknown[]>(program: Command, work: Action<Args>) {
  return async (...args: Args): Promise<void> => {
    const out = makeOutput(Boolean(program.opts().json));
    const deferred: (() => Promise<unknown>)[] = [];
    const interruption = new AbortController();
    let patient = false;
    const signalled = untilSignalled((first) => {
      interruption.abort();
      return !patient || !first;
    });
    const context = makeContext(out, deferred, interruption.signal, () => {
      patient = true;
    });
    const crashed = new Promise<never>((_, failed) => {
      process.on("uncaughtException", failed);
    });
    let code = 0;
    try {
      code = (await Promise.race([work(context, ...args), signalled, crashed])) ?? 0;
    } catch (error) {
      code = report(out, error);
    }
    for (const cleanup of deferred.reverse()) {
      await cleanup().catch((error) => {
        code = Math.max(code, report(out, error));
      });
    }
    await flushed();
    // Output that could not be written has set it meanwhile.
    process.exit(code || process.exitCode);
  };
}

/** process.exit does not wait for output that is still on its way. */
async function flushed(): Promise<void> {
  await Promise.all(
    [process.stdout, process.stderr].map((stream) => new Promise((done) => stream.write("", done))),
  );
}

function report(out: Output, error: unknown): number {
  const explained = toUserError(error);
  out.error(explained);
  if (process.env.REPORTING_ROLLUP_DEBUG) console.error(error);
  return explained.exitCode;
}

/** The exit code of a signal that `ends` says to obey; a third one ends the process on the spot. */
function untilSignalled(ends: (first: boolean) => boolean): Promise<number> {
  let received = 0;
  return new Promise((done) => {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
      process.on(signal, () => {
        received++;
        const code = 128 + constants.signals[signal];
        if (received > 2) process.exit(code);
        if (ends(received === 1)) done(code);
      });
    }
  });
}

/** Connects to the nodes of a Citus cluster as they are needed. */
function cluster(
  here: Place,
  connected: (url: string) => Promise<Place>,
): Pick<Database, "at" | "everywhere"> {
  const places = new Map<string, Promise<Place>>();
  const nodes = async () => {
    const found = await nodesOf(here.sql, here.url);
    for (const { name, url, here: own } of found) {
      if (places.has(name)) continue;
      places.set(name, own ? Promise.resolve(here) : connected(url));
    }
    return found;
  };
  return {
    at: async (account) => {
      if ((await nodes()).length === 0) return here;
      const [row] = await here.sql<{ node: string | null }[]>`
        select rollup.account_node(${account}) as node`;
      return places.get(row?.node ?? "") ?? here;
    },
    everywhere: async () => {
      const found = await nodes();
      const coordinator = found.find(({ coordinator }) => coordinator);
      return coordinator?.here ? Promise.all(places.values()) : [here];
    },
  };
}

function makeContext(
  out: Output,
  deferred: (() => Promise<unknown>)[],
  interrupted: AbortSignal,
  endsByItself: () => void,
): Context {
  const context: Context = {
    out,
    interrupted,
    endsByItself,
    defer: (work) => {
      deferred.push(work);
    },
    server: async ({ database } = {}) => {
      const acquiring = acquireServer(readConfig(), {
        ...(database === undefined ? {} : { database }),
        log: out.progress,
      });
      // Deferred before it is there: an interruption may come while it starts.
      context.defer(() =>
        acquiring.then(
          (server) => server.release(),
          () => {},
        ),
      );
      return acquiring;
    },
    database: async () => {
      const { url } = await context.server();
      const connected = async (url: string): Promise<Place> => {
        const sql = await open(url, { onNotice: ({ message }) => out.progress(message ?? "") });
        context.defer(() => sql.end({ timeout: 1 }));
        return { sql, url };
      };
      const here = await connected(url);
      return { ...here, ...cluster(here, connected) };
    },
  };
  return context;
}
