/** Connections: for our own statements, and for the libraries that want a pool of `pg`. */
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { UserError } from "./errors.js";
import { explainConnection } from "./explain.js";
import { type ConnectOptions, Pools } from "./pool.js";

export type Row = Record<string, unknown>;

type Value = string | number | boolean | null | readonly Value[];

/** Asks with a template, whose values become parameters. bigint, numeric, dates and times arrive as the database's text. */
export type Queries = <T extends readonly object[] = Row[]>(
  text: TemplateStringsArray,
  ...values: Value[]
) => Promise<T>;

export type Transaction = Queries & {
  /** Runs statements as they are. */
  script(text: string): Promise<{ count: number }>;
};

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

/** A transaction sets what it needs for itself: a session that a pooler gives to others keeps nothing of it. */
const modes = {
  /** Each statement sees what was committed before it. */
  write: `begin isolation level read committed; ${setLocally}`,
  /** All statements see the same state of the database. */
  snapshot: `begin isolation level repeatable read, read only; ${setLocally}`,
};

/** The one place where connections are made. Nothing is sent before the first query. */
export function connect(url: string, options: ConnectOptions = {}): Sql {
  const pools = new Pools(url, options);
  const use = async <T>(work: (client: pg.PoolClient) => Promise<T>): Promise<T> => {
    const client = await pools.client();
    return work(client).finally(() => client.release());
  };
  const transaction: Sql["transaction"] = (work, mode = "write") =>
    use((client) => inTransaction(client, work, mode));
  const sql: Queries = (text, ...values) => transaction((ask) => ask(text, ...values));
  return Object.assign(sql, {
    transaction,
    alone: (text: string) => use(async (client) => void (await client.query(text))),
    end: ({ timeout = 5 } = {}) => pools.end(timeout),
  });
}

async function inTransaction<T>(
  client: pg.PoolClient,
  work: (transaction: Transaction) => Promise<T>,
  mode: keyof typeof modes,
): Promise<T> {
  try {
    await client.query(modes[mode]);
    const result = await work(statements(client));
    await client.query("commit");
    return result;
  } catch (error) {
    // Fails only with the connection, which the pool then gives to nobody else.
    await client.query("rollback").catch(() => {});
    throw error;
  }
}

function statements(client: pg.PoolClient): Transaction {
  const ask: Queries = async (parts, ...values) => {
    const text = parts.reduce((before, part, index) => `${before}$${index}${part}`);
    return (await client.query({ text, values, types })).rows as never;
  };
  const script = async (text: string) => ({ count: (await client.query(text)).rowCount ?? 0 });
  return Object.assign(ask, { script });
}

/** bool, bytea, int2, int4, oid, float4, float8, json, jsonb; all else is text, days among it, which are no instants. */
const parsed = new Set([16, 17, 21, 23, 26, 700, 701, 114, 3802]);
const text = 25;
/** text, and days and times. */
const arrays = new Set([1009, 1115, 1182, 1185]);
const types: pg.CustomTypesConfig = {
  getTypeParser: (type: number) =>
    pg.types.getTypeParser(arrays.has(type) ? 1009 : parsed.has(type) ? type : text),
};

/**
 * A pool for libraries that manage their transactions themselves. It sets what it needs for the whole session, which a
 * pooler in transaction mode would hand on to others: ask `requireSession` first.
 */
export function pgPool(url: string, options: ConnectOptions = {}): Promise<pg.Pool> {
  return new Pools(url, { ...options, settings: { ...settings, ...options.settings } }).arrive();
}

// --- What is on the other side --------------------------------------------------------------------------

const oldestVersion = 15;

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
  const pools = new Pools(url, { max: 2 });
  const begin = async (client: pg.PoolClient) => {
    await client.query(modes.write);
    return (await client.query("select pg_backend_pid() as pid")).rows[0].pid;
  };
  const isSteady = async (first: pg.PoolClient, second: pg.PoolClient, order: pg.PoolClient[]) => {
    const before = [await begin(first), await begin(second)];
    for (const client of order) await client.query("commit");
    const after = await begin(first);
    await first.query("commit");
    return after === before[0];
  };
  const check = (async () => {
    const [first, second] = [await pools.client(), await pools.client()];
    return (
      (await isSteady(first, second, [first, second])) &&
      (await isSteady(first, second, [second, first]))
    );
  })();
  try {
    // A pooler with one connection to the server never lets the second begin.
    if (await Promise.race([check, sleep(10_000, false, { ref: false })])) return;
  } catch (error) {
    throw explainConnection(error, url);
  } finally {
    check.catch(() => {});
    await pools.end(0);
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
