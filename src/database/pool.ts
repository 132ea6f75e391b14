/** Connections to whichever server a URL leads to. Nothing is sent before the first query. */
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
export class Pool extends pg.Pool {
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

export const wrongAttributes = "WRONG_SESSION_ATTRIBUTES";

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

export const noTls = "The server does not support SSL connections";

function isWrongWay(error: unknown): boolean {
  return errorCode(error) === "28000" || (error as Error).message === noTls;
}

export function isWithoutPassword(error: unknown): boolean {
  return error instanceof Error && /^SASL: .*password must be/.test(error.message);
}

/** Whether another host, or the same with or without TLS, may take us: not if a server has refused us for good. */
function isElsewhere(error: unknown): boolean {
  if (error instanceof UserError || isWithoutPassword(error)) return false;
  const code = errorCode(error) ?? "";
  return !/^[0-9A-Z]{5}$/.test(code) || code.startsWith("57P0") || code === "28000";
}
