/** Connections to whichever server a URL leads to. Nothing is sent before the first query. */
import { Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { errorCode, UserError } from "./errors.js";
import { type Attempt, readUrl, type SessionAttributes } from "./url.js";

export interface ConnectOptions {
  /** Connections at most. */
  max?: number;
  applicationName?: string;
  /** Receives notices and warnings; without it they are dropped. */
  onNotice?: (notice: { message?: string | undefined }) => void;
  /** Settings of the session itself, for a client that needs one: see `requireSession`. */
  settings?: Record<string, string>;
}

/** A pool for each way to connect that a URL gives: the one that worked last is used, or else the next. */
export class Pools {
  readonly #pools: pg.Pool[];
  readonly #sockets = new Set<Socket>();
  #usual = 0;

  constructor(url: string, options: ConnectOptions) {
    const { attempts, applicationName = options.applicationName } = readUrl(url);
    const named = { ...options, ...(applicationName && { applicationName }) };
    this.#pools = attempts.map((attempt) => makePool(attempt, named, () => this.#socket()));
  }

  /** To be released. */
  async client(): Promise<pg.PoolClient> {
    let reason: unknown;
    for (let tried = 1; ; tried++) {
      const usual = this.#usual;
      try {
        return await this.#pool.connect();
      } catch (error) {
        // That the other way, with or without TLS, is closed tells less than what went wrong on the open one.
        if (reason === undefined || isWrongWay(reason) || !isWrongWay(error)) reason = error;
        if (!isElsewhere(error)) throw reason;
        // Another may have moved on already.
        if (this.#usual === usual) this.#usual = (usual + 1) % this.#pools.length;
        if (tried >= this.#pools.length) throw reason;
      }
    }
  }

  /** The pool of the way that works. */
  async arrive(): Promise<pg.Pool> {
    (await this.client()).release();
    return this.#pool;
  }

  /** What is under way may take `timeout` seconds. */
  async end(timeout: number): Promise<void> {
    for (const pool of this.#pools) pool.end().catch(() => {});
    const closed = [...this.#sockets].map(
      (socket) => new Promise((done) => socket.once("close", done)),
    );
    await Promise.race([Promise.all(closed), sleep(timeout * 1000, undefined, { ref: false })]);
    for (const socket of this.#sockets) socket.destroy();
  }

  get #pool(): pg.Pool {
    return this.#pools[this.#usual] as pg.Pool;
  }

  #socket(): Socket {
    const socket = new Socket();
    this.#sockets.add(socket);
    return socket.once("close", () => this.#sockets.delete(socket));
  }
}

function makePool(attempt: Attempt, options: ConnectOptions, stream: () => Socket): pg.Pool {
  const { address, port, user, database, tls, keepAlive, timeout } = attempt;
  const config: pg.ClientConfig = {
    ...{ host: address, port, user, database, stream },
    // A function, or it would go on to look for one itself.
    password: () => passwordOf(attempt),
    ssl: tls ?? false,
    sslnegotiation: attempt.direct ? "direct" : "postgres",
    ...(attempt.options !== undefined && { options: attempt.options }),
    keepAlive: keepAlive > 0,
    keepAliveInitialDelayMillis: keepAlive * 1000,
    connectionTimeoutMillis: timeout * 1000,
    application_name: options.applicationName ?? "reporting-rollup",
  };
  const pool = new pg.Pool({
    max: options.max ?? 4,
    // By default it would end connections, and with them the locks of their sessions.
    idleTimeoutMillis: 0,
    // The time for connecting is no limit to the wait for a free connection, which it would be as an option of the pool.
    Client: class extends pg.Client {
      constructor() {
        super(config);
      }
    },
    onConnect: (client) => begin(client, attempt.attributes, options),
  });
  return pool.on("error", () => {}).on("connect", (client) => client.on("error", () => {}));
}

function passwordOf({ password, address, port, user }: Attempt): string {
  if (password !== undefined) return password;
  throw new UserError(
    `The server at ${address}:${port} wants a password of user ${user}, and there is none.`,
    { hint: "Put it into DATABASE_URL, PGPASSWORD or ~/.pgpass." },
  );
}

async function begin(
  client: pg.ClientBase,
  attributes: SessionAttributes,
  { onNotice = () => {}, settings = {} }: ConnectOptions,
): Promise<void> {
  client.on("notice", onNotice);
  for (const setting of Object.entries(settings)) {
    await client.query("select pg_catalog.set_config($1, $2, false)", setting);
  }
  if (attributes !== "any") await requireAttributes(client, attributes);
}

export const wrongAttributes = "WRONG_SESSION_ATTRIBUTES";

async function requireAttributes(client: pg.ClientBase, wanted: SessionAttributes): Promise<void> {
  const { rows } = await client.query<{ standby: boolean; read_only: string }>(
    `select pg_catalog.pg_is_in_recovery() as standby,
            pg_catalog.current_setting('default_transaction_read_only') as read_only`,
  );
  const { standby, read_only } = rows[0] ?? {};
  const found: SessionAttributes[] = [
    standby ? "standby" : "primary",
    standby || read_only === "on" ? "read-only" : "read-write",
  ];
  if (found.includes(wanted)) return;
  throw Object.assign(new Error(`no server that is ${wanted}, only ${found.join(" and ")}`), {
    code: wrongAttributes,
  });
}

function isWrongWay(error: unknown): boolean {
  return errorCode(error) === "28000" || /not support SSL/.test(String(error));
}

/** Whether another host, or the same with or without TLS, may take us: not if a server has refused us for good. */
function isElsewhere(error: unknown): boolean {
  if (!(error instanceof pg.DatabaseError)) return !(error instanceof UserError);
  return /^57P0|^28000$/.test(error.code ?? "");
}
