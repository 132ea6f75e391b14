/** Connections: for our own statements through `postgres`, and for the libraries that want a pool of `pg`. */
import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import { UserError } from "./errors.js";
import { explainConnection } from "./explain.js";
import { Pool } from "./pool.js";
import {
  type ConnectOptions,
  modes,
  type Queries,
  type Session,
  settings,
  type Transaction,
} from "./session.js";
import { type Attempt, readUrl } from "./url.js";

export type { Queries, Row, Rows, Transaction } from "./session.js";

/** A pool of connections. Each statement is a transaction of its own. */
export type Sql = Queries & {
  /** Runs a statement that cannot be in a transaction. */
  alone(text: string): Promise<void>;
  transaction<T>(
    work: (transaction: Transaction) => Promise<T>,
    mode?: keyof typeof modes,
  ): Promise<T>;
  /** Closes the connections; those still busy after `timeout` seconds are cut. */
  end(options?: { timeout?: number }): Promise<void>;
};

const oldestVersion = 15;

/** The one place where connections are made. Nothing is sent before the first query. */
export function connect(url: string, options: ConnectOptions = {}): Sql {
  const pool = new Pool(url, options);
  const transaction: Sql["transaction"] = (work, mode = "write") =>
    pool.use((session) => session.transaction(work, mode));
  const sql: Queries = (text, ...values) => transaction((ask) => ask(text, ...values));
  return Object.assign(sql, {
    transaction,
    alone: (text: string) => pool.use(async (session) => void (await session.script(text))),
    end: ({ timeout = 5 } = {}) => pool.end(timeout),
  });
}

/**
 * A pool for libraries that manage their transactions themselves. It sets what it needs for the whole session, which a
 * pooler in transaction mode would hand on to others: ask `requireSession` first.
 */
export async function pgPool(url: string, options: ConnectOptions = {}): Promise<pg.Pool> {
  const attempt = await arrive(url);
  const { address, port, user, database, password = "", tls, keepAlive, timeout } = attempt;
  const { applicationName = options.applicationName } = readUrl(url);
  const session = { ...settings, ...options.settings };
  const calls = Object.entries(session).map(
    ([name, value]) => `pg_catalog.set_config('${name}', '${value}', false)`,
  );
  const { default: driver } = await import("pg");
  const pool = new driver.Pool({
    host: address,
    port,
    user,
    database,
    // A function, or it would go on to look for one itself.
    password: () => password,
    ssl: tls ?? false,
    sslnegotiation: attempt.direct ? "direct" : "postgres",
    ...(attempt.options !== undefined && { options: attempt.options }),
    keepAlive: keepAlive > 0,
    keepAliveInitialDelayMillis: keepAlive * 1000,
    connectionTimeoutMillis: timeout * 1000,
    max: options.max ?? 4,
    application_name: applicationName ?? "reporting-rollup",
    // By default it would end and replace connections, and with them the locks of their sessions.
    idleTimeoutMillis: 0,
    onConnect: (async (client: pg.ClientBase) => {
      await client.query(`select ${calls.join(", ")}`);
    }) as unknown as (client: pg.ClientBase) => void,
  });
  pool.on("error", () => {});
  pool.on("connect", (client) => client.on("error", () => {}));
  return pool;
}

/** Which of a URL's ways works. */
async function arrive(url: string): Promise<Attempt> {
  const pool = new Pool(url, { max: 1 });
  return pool.use(async ({ attempt }) => attempt).finally(() => pool.end(1));
}

// --- What is on the other side --------------------------------------------------------------------------

/** Connects, and checks that the server is there, lets us in and is new enough; else throws a `UserError`. */
export async function open(url: string, options: ConnectOptions = {}): Promise<Sql> {
  const sql = connect(url, options);
  try {
    await checkVersion(sql);
    return sql;
  } catch (error) {
    await sql.end({ timeout: 1 });
    throw explainConnection(error, url);
  }
}

/** Throws a `UserError` when the server is older than we support. */
export async function checkVersion(sql: Queries): Promise<void> {
  const [row] = await sql<{ server_version: string; server_version_num: string }[]>`
    select current_setting('server_version') as server_version,
           current_setting('server_version_num') as server_version_num`;
  if (Number(row?.server_version_num) >= oldestVersion * 10000) return;
  throw new UserError(
    `The server runs PostgreSQL ${row?.server_version}; reporting-rollup needs ${oldestVersion} or newer.`,
    { hint: "Upgrade the server, or leave DATABASE_URL unset to try it on an embedded one." },
  );
}

/**
 * Throws a `UserError` when a pooler in transaction mode stands before the server: locks of a session and LISTEN would be lost
 * there, and settings would reach the host's own transactions. Such a pooler hands the connections to the server out anew with
 * every transaction, the latest or the longest unused first.
 */
export async function requireSession(url: string, what: string): Promise<void> {
  const pool = new Pool(url, { max: 2 });
  const begin = async (session: Session) => {
    await session.script(modes.write);
    return (await session.ask`select pg_backend_pid() as pid`)[0]?.pid;
  };
  const isSteady = (first: Session, second: Session) => async (order: Session[]) => {
    const before = [await begin(first), await begin(second)];
    for (const session of order) await session.script("commit");
    const after = await begin(first);
    await first.script("commit");
    return after === before[0];
  };
  const check = pool.use((first) =>
    pool.use(async (second) => {
      const steady = isSteady(first, second);
      return (await steady([first, second])) && (await steady([second, first]));
    }),
  );
  try {
    // A pooler with one connection to the server never lets the second begin.
    if (await Promise.race([check, sleep(10_000, false, { ref: false })])) return;
  } catch (error) {
    throw explainConnection(error, url);
  } finally {
    check.catch(() => {});
    await pool.end(0);
  }
  throw new UserError(
    `${what} needs sessions of its own, and a pooler in transaction mode gives none.`,
    {
      hint:
        "Connect to the server itself, or to the pooler in session mode: often another port or host name. " +
        "Reports, status and settings work through either.",
    },
  );
}
