/**
 * Connections. A statement of ours runs in a transaction that sets what it needs for itself: nothing depends on what a role,
 * a database or a pooler has set, and nothing is left behind in a session that a pooler gives to others.
 */
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { errorCode, isClosed, UserError } from "./errors.js";
import { type Attempt, readUrl, type SessionAttributes } from "./url.js";

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

export interface ConnectOptions {
  /** Connections at most. */
  max?: number;
  applicationName?: string;
  /** Receives notices and warnings; without it they are dropped. */
  onNotice?: (notice: { message?: string | undefined }) => void;
  /** Settings of the session itself, for a client that needs one: see `requireSession`. */
  settings?: Record<string, string>;
}

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

/** A day is not an instant: JavaScript's Date would move it with the machine's zone. */
const asText = new Set([1082, 1083, 1114, 1184, 1186, 1266]);
const arraysOfText = new Set([1115, 1182, 1183, 1185, 1187, 1270]);

const types: pg.CustomTypesConfig = {
  getTypeParser: (oid: number, format?: "text" | "binary") => {
    if (asText.has(oid)) return (value: string) => value;
    return pg.types.getTypeParser(arraysOfText.has(oid) ? 1009 : oid, format);
  },
};

/** Tries the ways to connect that a URL gives in turn, beginning with the one that worked last. */
class Pool extends pg.Pool {
  readonly #attempts: Attempt[];
  readonly #clients = new Set<pg.PoolClient>();
  #usual = 0;
  #closed: Promise<void> | undefined;

  constructor(url: string, options: ConnectOptions, session: Record<string, string>) {
    const { attempts, applicationName, requireChannelBinding } = readUrl(url);
    super({
      ...(attempts[0] as Attempt).config,
      max: options.max ?? 4,
      application_name: applicationName ?? options.applicationName ?? "reporting-rollup",
      types,
      // By default it would end and replace connections, and with them the locks of their sessions.
      idleTimeoutMillis: 0,
      onConnect: (async (client: Client) => {
        if (requireChannelBinding && !client.channelBound) {
          throw new UserError("The server does not offer channel binding, which the URL requires.");
        }
        await requireAttributes(client, (this.#attempts[this.#usual] as Attempt).attributes);
        await prepareSession(client, session);
      }) as unknown as (client: pg.ClientBase) => void,
      Client: Client as unknown as new () => pg.ClientBase,
    });
    this.#attempts = attempts;
    this.on("error", () => {});
    this.on("connect", (client) => {
      this.#clients.add(client);
      client.on("error", () => {});
      client.on("notice", (notice) => options.onNotice?.(notice));
    });
    this.on("remove", (client) => this.#clients.delete(client));
  }

  override connect(): Promise<pg.PoolClient>;
  override connect(callback: Callback): void;
  override connect(callback?: Callback): Promise<pg.PoolClient> | undefined {
    const connected = this.#connect();
    if (callback === undefined) return connected;
    connected.then(
      (client) => callback(undefined, client, (error) => client.release(error)),
      (error) => callback(error, undefined, () => {}),
    );
    return undefined;
  }

  async #connect(): Promise<pg.PoolClient> {
    let reason: unknown;
    for (let tried = 1; ; tried++) {
      const usual = this.#usual;
      try {
        return await super.connect();
      } catch (error) {
        // That the other way, with or without TLS, is closed tells less than what went wrong on the open one.
        if (reason === undefined || isWrongWay(reason) || !isWrongWay(error)) reason = error;
        if (tried >= this.#attempts.length || !isElsewhere(error)) throw reason;
        // Another may have moved on already.
        if (this.#usual === usual) this.#use((usual + 1) % this.#attempts.length);
      }
    }
  }

  #use(index: number): void {
    this.#usual = index;
    const { options } = this as unknown as { options: pg.PoolConfig };
    Object.assign(options, this.#attempts[index]?.config);
  }

  close(timeout: number): Promise<void> {
    this.#closed ??= Promise.race([
      this.end(),
      sleep(timeout * 1000, undefined, { ref: false }).then(() => {
        for (const client of this.#clients) (client as unknown as pg.Client).end();
      }),
    ]);
    return this.#closed;
  }
}

type Callback = (
  error: Error | undefined,
  client: pg.PoolClient | undefined,
  done: (release?: boolean | Error) => void,
) => void;

class Client extends pg.Client {
  /** Whether the password was proven over this very TLS connection. */
  channelBound = false;

  constructor(config: pg.ClientConfig) {
    super(config);
    const { connection } = this as unknown as { connection: NodeJS.EventEmitter };
    connection.on("authenticationSASL", ({ mechanisms }: { mechanisms: string[] }) => {
      this.channelBound = mechanisms.includes("SCRAM-SHA-256-PLUS");
    });
  }
}

const wrongAttributes = "WRONG_SESSION_ATTRIBUTES";

async function requireAttributes(client: pg.ClientBase, wanted: SessionAttributes): Promise<void> {
  if (wanted === "any") return;
  const { rows } = await client.query(
    `select pg_catalog.pg_is_in_recovery() as standby,
            pg_catalog.current_setting('transaction_read_only') as read_only`,
  );
  const { standby, read_only } = rows[0] as { standby: boolean; read_only: string };
  const found: SessionAttributes[] = [
    standby ? "standby" : "primary",
    standby || read_only === "on" ? "read-only" : "read-write",
  ];
  if (found.includes(wanted)) return;
  throw Object.assign(new Error(`no server that is ${wanted}, only ${found.join(" and ")}`), {
    code: wrongAttributes,
  });
}

async function prepareSession(
  client: pg.ClientBase,
  session: Record<string, string>,
): Promise<void> {
  const values = Object.entries(session).flat();
  if (values.length === 0) return;
  const calls = values
    .map((_, index) =>
      index % 2 ? "" : `pg_catalog.set_config($${index + 1}, $${index + 2}, false)`,
    )
    .filter(Boolean);
  await client.query(`select ${calls.join(", ")}`, values);
}

const noTls = "The server does not support SSL connections";

function isWrongWay(error: unknown): boolean {
  return errorCode(error) === "28000" || (error as Error).message === noTls;
}

function isWithoutPassword(error: unknown): boolean {
  return error instanceof Error && /^SASL: .*password must be/.test(error.message);
}

/** Whether another host, or the same with or without TLS, may take us: not if a server has refused us for good. */
function isElsewhere(error: unknown): boolean {
  if (error instanceof UserError || isWithoutPassword(error)) return false;
  const code = errorCode(error) ?? "";
  return !/^[0-9A-Z]{5}$/.test(code) || code.startsWith("57P0") || code === "28000";
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

/** Where a URL leads, without the password. */
export function target(url: string): {
  host: string;
  port: string;
  user: string;
  database: string;
} {
  const { host, port, user, database } = readUrl(url);
  return { host, port, user, database };
}

/** Turns a failure to connect into a message with a remedy; other errors are returned as they are. */
export function explainConnection(error: unknown, url: string): unknown {
  if (error instanceof UserError) return error;
  const { host, port, user, database } = target(url);
  const where = `${host}:${port}`;
  const message = error instanceof Error ? error.message : String(error);
  const explained = (text: string, hint: string) => new UserError(text, { hint, cause: error });
  if (isClosed(error)) {
    return explained(
      `No PostgreSQL server answers at ${where}.`,
      "Is it running, and do host and port in DATABASE_URL lead to it?",
    );
  }
  if (isWithoutPassword(error)) {
    return explained(
      `The server at ${where} wants a password of user ${user}, and there is none.`,
      "Put it into DATABASE_URL, PGPASSWORD or ~/.pgpass.",
    );
  }
  const code = errorCode(error) ?? "";
  if (message === noTls || /CERT|TLS|SSL/.test(code)) {
    return explained(
      `There is no secure connection to the server at ${where}: ${message}.`,
      "sslmode=require encrypts without verifying the certificate; verify-ca and verify-full need sslrootcert.",
    );
  }
  switch (code) {
    case "ECONNREFUSED":
    case "ECONNRESET":
    case "EHOSTUNREACH":
    case "ENETUNREACH":
    case "ETIMEDOUT":
    case "ENOENT":
      return explained(
        `No PostgreSQL server answers at ${where}.`,
        "Is it running, and do host and port in DATABASE_URL lead to it?",
      );
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return explained(
        `The host ${host} is not known.`,
        "Check the host name in DATABASE_URL; a special character in the password must be percent-encoded.",
      );
    case wrongAttributes:
      return explained(
        `There is ${message} at ${where}.`,
        "Check target_session_attrs in DATABASE_URL.",
      );
    case "28P01":
      return explained(
        `The server at ${where} refuses the password of user ${user}.`,
        "Check user and password in DATABASE_URL; special characters must be percent-encoded.",
      );
    case "28000":
      return explained(
        `The server at ${where} does not let user ${user} in: ${message}.`,
        "Check the user in DATABASE_URL, the server's pg_hba.conf, and whether it wants SSL (?sslmode=require).",
      );
    case "3D000":
      return explained(
        `There is no database ${database} on the server at ${where}.`,
        "Check the database name in DATABASE_URL, or create the database first.",
      );
    case "53300":
      return explained(
        `The server at ${where} has no connection left.`,
        "Close some of its clients, or raise max_connections.",
      );
    case "57P03":
      return explained(
        `The server at ${where} is not ready: ${message}.`,
        "Try again in a moment.",
      );
    default:
      return error;
  }
}
