/**
 * One connection to a server. A statement of ours runs in a transaction that sets what it needs for itself: nothing depends on
 * what a role, a database or a pooler has set, and nothing is left behind in a session that a pooler gives to others.
 */
import { createRequire } from "node:module";
import type { Socket } from "node:net";
import type pg from "pg";
import postgres from "postgres";
import { dial } from "./dial.js";
import type { Attempt, SessionAttributes } from "./url.js";

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

export interface ConnectOptions {
  /** Connections at most. */
  max?: number;
  applicationName?: string;
  /** Receives notices and warnings; without it they are dropped. */
  onNotice?: (notice: { message?: string | undefined }) => void;
  /** Settings of the session itself, set with each transaction, for a client that needs one: see `requireSession`. */
  settings?: Record<string, string>;
}

/** What our statements need, whatever role, database or server say. The path is the first, for what follows it. */
export const settings: Record<string, string> = {
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

export const modes = {
  /** Each statement sees what was committed before it. */
  write: `begin isolation level read committed; ${setLocally}`,
  /** All statements see the same state of the database. */
  snapshot: `begin isolation level repeatable read, read only; ${setLocally}`,
};

/** One connection. The driver may not make another: statements would go on outside of their transaction. */
export class Session {
  readonly attempt: Attempt;
  readonly #driver: postgres.Sql;
  readonly #cut = new AbortController();
  readonly #ended: () => void;
  #dialled = false;
  /** Why it is no more. */
  lost: unknown;

  constructor(attempt: Attempt, options: ConnectOptions, ended: () => void) {
    this.attempt = attempt;
    this.#ended = ended;
    this.#driver = driverOf(attempt, options, () => this.#dial());
  }

  async begin(settings: Record<string, string>): Promise<void> {
    const set = Object.entries(settings).map(([name, value]) => `set ${name} to '${value}'`);
    await this.script(set.join("; ") || "select");
    await requireAttributes(this.ask, this.attempt.attributes);
  }

  readonly ask: Queries = (text, ...values) =>
    this.#unlessLost(() => this.#driver(text, ...(values as string[])) as never);

  script(text: string): Promise<{ count: number }> {
    return this.#unlessLost(() => this.#driver.unsafe(text) as never);
  }

  async transaction<T>(
    work: (transaction: Transaction) => Promise<T>,
    mode: keyof typeof modes,
  ): Promise<T> {
    try {
      await this.script(modes[mode]);
      const own: Queries = (text, ...values) => this.ask(text, ...values);
      const result = await work(
        Object.assign(own, { script: (text: string) => this.script(text) }),
      );
      await this.script("commit");
      return result;
    } catch (error) {
      await this.script("rollback").catch((failed) => this.#lose(failed));
      throw error;
    }
  }

  async end(): Promise<void> {
    await this.#driver.end({ timeout: 0 });
    this.#lose(new Error("it is ended"));
  }

  async #dial(): Promise<Socket> {
    if (this.#dialled) throw this.lost;
    this.#dialled = true;
    try {
      const socket = await dial(this.attempt, this.#cut.signal);
      const lose = (error: unknown) => this.#lose(error);
      return socket.on("error", lose).on("close", () => lose(closed()));
    } catch (error) {
      this.#lose(error);
      throw error;
    }
  }

  async #unlessLost<T>(ask: () => Promise<T>): Promise<T> {
    if (this.lost !== undefined) throw this.lost;
    return ask();
  }

  #lose(error: unknown): void {
    this.lost ??= error;
    this.#ended();
    this.#cut.abort();
  }
}

const closed = () =>
  Object.assign(new Error("the connection is closed"), { code: "CONNECTION_CLOSED" });

function driverOf(
  attempt: Attempt,
  options: ConnectOptions,
  socket: () => Promise<Socket>,
): postgres.Sql {
  const { address, port, user, database, password = "", keepAlive, timeout } = attempt;
  const parts = {
    // For its messages.
    ...{ host: address, port },
    ...{ user, database, password },
    socket,
    ssl: false,
    connect_timeout: timeout,
    keep_alive: keepAlive,
    max: 1,
    // By default it would end connections, and with them the locks of their sessions.
    max_lifetime: null,
    // Statements and types of a session would be lost behind a pooler.
    prepare: false,
    fetch_types: false,
    onnotice: options.onNotice ?? (() => {}),
    connection: {
      application_name: options.applicationName ?? "reporting-rollup",
      ...(attempt.options !== undefined && { options: attempt.options }),
    },
    types,
  };
  return withoutVariables(() => postgres(parts)) as unknown as postgres.Sql;
}

/** The driver completes its options from PG… variables, which are read already, with libpq's meaning. */
function withoutVariables<T>(work: () => T): T {
  const { env } = process;
  process.env = {};
  try {
    return work();
  } finally {
    process.env = env;
  }
}

const itself = (value: string) => value;

/** Loaded when an array arrives: the command line shall not wait for a second driver. */
function arrayParser(): (value: string) => string[] {
  const { types } = createRequire(import.meta.url)("pg") as typeof pg;
  return types.getTypeParser(1009 as number, "text");
}

const types = {
  /** A day is not an instant: JavaScript's Date would move it with the machine's zone. */
  days: { to: 1184, from: [1082, 1114, 1184], serialize: itself, parse: itself },
  texts: {
    to: 1009,
    from: [1009, 1115, 1182, 1185],
    serialize: (values: string[]) =>
      `{${values.map((value) => `"${value.replace(/["\\]/g, "\\$&")}"`).join(",")}}`,
    parse: (value: string) => arrayParser()(value),
  },
};

async function requireAttributes(sql: Queries, wanted: SessionAttributes): Promise<void> {
  if (wanted === "any") return;
  const [row] = await sql<{ standby: boolean; read_only: string }[]>`
    select pg_catalog.pg_is_in_recovery() as standby,
           pg_catalog.current_setting('default_transaction_read_only') as read_only`;
  const found: SessionAttributes[] = [
    row?.standby ? "standby" : "primary",
    row?.standby || row?.read_only === "on" ? "read-only" : "read-write",
  ];
  if (found.includes(wanted)) return;
  throw Object.assign(new Error(`no server that is ${wanted}, only ${found.join(" and ")}`), {
    code: wrongAttributes,
  });
}

export const wrongAttributes = "WRONG_SESSION_ATTRIBUTES";
