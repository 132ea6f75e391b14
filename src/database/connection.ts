import postgres from "postgres";
import { errorCode, UserError } from "./errors.js";

/** A pool of connections; bigint, numeric, dates and timestamps arrive as the text the database gives them. */
export type Sql = postgres.Sql;

export interface ConnectOptions {
  /** Connections at most. */
  max?: number;
  applicationName?: string;
  /** Receives notices and warnings; without it they are dropped. */
  onNotice?: (notice: postgres.Notice) => void;
  /** Session settings, such as `default_transaction_isolation`. */
  settings?: Record<string, string>;
}

const oldestVersion = 15;

/** The one place where connections are made. Nothing is sent before the first query. */
export function connect(url: string, options: ConnectOptions = {}): Sql {
  return postgres(url, {
    max: options.max ?? 4,
    connect_timeout: 10,
    // By default it would end and replace connections now and then, and with them the locks of their sessions.
    max_lifetime: null,
    onnotice: options.onNotice ?? (() => {}),
    connection: {
      application_name: options.applicationName ?? "reporting-rollup",
      ...options.settings,
    },
    types: {
      // A day is not an instant: JavaScript's Date would move it with the machine's zone.
      date: {
        to: 1184,
        from: [1082, 1114, 1184],
        serialize: (value: string | Date) => (value instanceof Date ? value.toISOString() : value),
        parse: (value: string) => value,
      },
    },
  });
}

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
export async function checkVersion(sql: Sql): Promise<void> {
  const [row] = await sql<{ server_version: string; server_version_num: string }[]>`
    select current_setting('server_version') as server_version,
           current_setting('server_version_num') as server_version_num`;
  if (Number(row?.server_version_num) >= oldestVersion * 10000) return;
  throw new UserError(
    `The server runs PostgreSQL ${row?.server_version}; reporting-rollup needs ${oldestVersion} or newer.`,
    { hint: "Upgrade the server, or leave DATABASE_URL unset to try it on an embedded one." },
  );
}

/** Where a URL leads, without user or password. */
export function target(url: string): {
  host: string;
  port: string;
  user: string;
  database: string;
} {
  const options = postgres(url, { max: 1 }).options;
  return {
    host: options.host.join(","),
    port: options.port.join(","),
    user: String(options.user),
    database: options.database,
  };
}

/** Turns a failure to connect into a message with a remedy; other errors are returned as they are. */
export function explainConnection(error: unknown, url: string): unknown {
  if (error instanceof UserError) return error;
  const { host, port, user, database } = target(url);
  const where = `${host}:${port}`;
  const message = error instanceof Error ? error.message : String(error);
  const explained = (text: string, hint: string) => new UserError(text, { hint, cause: error });
  switch (errorCode(error)) {
    case "ECONNREFUSED":
    case "ECONNRESET":
    case "EHOSTUNREACH":
    case "ENETUNREACH":
    case "ETIMEDOUT":
    case "ENOENT":
    case "CONNECT_TIMEOUT":
    case "CONNECTION_CLOSED":
    case "CONNECTION_DESTROYED":
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
