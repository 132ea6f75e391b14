/**
 * Connections. A statement of ours runs in a transaction that sets what it needs for itself: nothing depends on what a role,
 * a database or a pooler has set, and nothing is left behind in a session that a pooler gives to others.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import { UserError } from "./errors.js";
import { explainConnection } from "./explain.js";
import { type ConnectOptions, Pool } from "./pool.js";

export type Row = Record<string, unknown>;

type Value = string | number | boolean | null | readonly Value[];

export type Rows<T extends readonly object[]> = T & { count: number };

/** Asks with a template, whose values become parameters. bigint, numeric, dates and times arrive as the database's text. */
export type Queries = <T extends readonly object[] = Row[]>(
  text: TemplateStringsArray,
  ...values: Value[]
) => Promise<Rows<T>>;

export type Transaction = Queries & {
  /** Runs statements as they are. */
  script(text: string): Promise<{ count: number }>;
};

/** A pool of connections. Each statement is a transaction of its own. */
export type Sql = Queries & {
  transaction<T>(
    work: (transaction: Transaction) => Promise<T>,
    mode?: keyof typeof modes,
  ): Promise<T>;
  /** Closes the connections; those still busy after `timeout` seconds are cut. */
  end(options?: { timeout?: number }): Promise<void>;
};

const oldestVersion = 15;

/** What our statements need, whatever role, database or server say. The path is the first, for what follows it. */
const settings: Record<string, string> = {
  search_path: "pg_catalog, pg_temp",
  DateStyle: "ISO, MDY",
  IntervalStyle: "postgres",
  TimeZone: "UTC",
  bytea_output: "hex",
  extra_float_digits: "1",
  standard_conforming_strings: "on",
  transform_null_equals: "off",
  statement_timeout: "0",
  lock_timeout: "0",
  idle_in_transaction_session_timeout: "0",
  "plpgsql.extra_errors": "none",
  "plpgsql.extra_warnings": "none",
};

const setLocally = Object.entries(settings)
  .map(([name, value]) => `set local ${name} to ${name === "search_path" ? value : `'${value}'`}`)
  .join("; ");

const modes = {
  /** Each statement sees what was committed before it. */
  write: `begin isolation level read committed; ${setLocally}`,
  /** All statements see the same state of the database. */
  snapshot: `begin isolation level repeatable read, read only; ${setLocally}`,
};

/** The one place where connections are made. Nothing is sent before the first query. */
export function connect(url: string, options: ConnectOptions = {}): Sql {
  const pool = new Pool(url, options, options.settings ?? {});
  const transaction: Sql["transaction"] = (work, mode = "write") => within(pool, mode, work);
  const sql: Queries = (text, ...values) => transaction((ask) => ask(text, ...values));
  return Object.assign(sql, {
    transaction,
    end: ({ timeout = 5 } = {}) => pool.close(timeout),
  });
}

/**
 * A pool for libraries that manage their transactions themselves. It sets what it needs for the whole session, which a
 * pooler in transaction mode would hand on to others: ask `requireSession` first.
 */
export function pgPool(url: string, options: ConnectOptions = {}): pg.Pool {
  return new Pool(url, options, { ...settings, ...options.settings });
}

async function within<T>(
  pool: pg.Pool,
  mode: keyof typeof modes,
  work: (transaction: Transaction) => Promise<T>,
): Promise<T> {
  const client = await pool.connect();
  let broken: Error | undefined;
  try {
    await client.query(modes[mode]);
    const result = await work(queriesOf(client));
    await client.query("commit");
    return result;
  } catch (error) {
    await client.query("rollback").catch((lost) => {
      broken = lost;
    });
    throw error;
  } finally {
    client.release(broken);
  }
}

/** The statements of a client of a `pgPool`. */
export function queriesOf(client: pg.ClientBase): Transaction {
  const ask = async (query: pg.QueryConfig) => {
    const { rows, rowCount } = await client.query(query);
    return Object.assign(rows, { count: rowCount ?? 0 });
  };
  const queries = (text: TemplateStringsArray, ...values: Value[]) =>
    ask({
      text: text.reduce((before, after, index) => `${before}$${index}${after}`),
      values: values as unknown[],
    });
  return Object.assign(queries as Queries, {
    script: async (text: string) => {
      const result = await client.query(text);
      return { count: (Array.isArray(result) ? result.at(-1) : result).rowCount ?? 0 };
    },
  });
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
  const pool = new Pool(url, { max: 2 }, {});
  const first = await pool.connect().catch((error) => {
    throw explainConnection(error, url);
  });
  try {
    const second = await pool.connect();
    const begin = async (client: pg.PoolClient) => {
      await client.query(modes.write);
      const { rows } = await client.query("select pg_backend_pid() as pid");
      return rows[0].pid as number;
    };
    const steady = async (order: pg.PoolClient[]) => {
      const before = [await begin(first), await begin(second)];
      for (const client of order) await client.query("commit");
      const after = await begin(first);
      await first.query("commit");
      return after === before[0];
    };
    const check = steady([first, second]).then((same) => same && steady([second, first]));
    // A pooler with one connection to the server never lets the second begin.
    if (await Promise.race([check, sleep(10_000, false, { ref: false })])) return;
    throw new UserError(
      `${what} needs sessions of its own, and a pooler in transaction mode gives none.`,
      {
        hint:
          "Connect to the server itself, or to the pooler in session mode: often another port or host name. " +
          "Reports, status and settings work through either.",
      },
    );
  } finally {
    // Neither is given back, nor worth waiting for.
    await pool.close(0);
  }
}
