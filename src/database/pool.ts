/** Connections to whichever server a URL leads to. Nothing is sent before the first query. */
import { setTimeout as sleep } from "node:timers/promises";
import postgres from "postgres";
import { errorCode, UserError } from "./errors.js";
import { type ConnectOptions, Session } from "./session.js";
import { type Attempt, readUrl } from "./url.js";

/** Sessions, made as needed in the way that worked last, or else in the next that the URL gives. */
export class Pool {
  readonly #options: ConnectOptions;
  readonly #attempts: Attempt[];
  #usual = 0;
  readonly #sessions = new Set<Session>();
  readonly #idle: Session[] = [];
  readonly #waiting: (() => void)[] = [];
  #taken = 0;
  #ended = false;

  constructor(url: string, options: ConnectOptions) {
    const { attempts, applicationName = options.applicationName } = readUrl(url);
    this.#options = { ...options, ...(applicationName && { applicationName }) };
    this.#attempts = attempts;
  }

  async use<T>(work: (session: Session) => Promise<T>): Promise<T> {
    const { max = 4 } = this.#options;
    while (this.#taken >= max) await new Promise<void>((free) => this.#waiting.push(free));
    this.#taken++;
    let session: Session | undefined;
    try {
      session = await this.#session();
      return await work(session);
    } finally {
      this.#taken--;
      if (session !== undefined) this.#idle.push(session);
      this.#waiting.shift()?.();
    }
  }

  /** What is under way may take `timeout` seconds. */
  async end(timeout: number): Promise<void> {
    this.#ended = true;
    const deadline = Date.now() + timeout * 1000;
    while (this.#taken > 0 && Date.now() < deadline) await sleep(10);
    await Promise.all([...this.#sessions].map((session) => session.end()));
  }

  async #session(): Promise<Session> {
    for (let idle = this.#idle.pop(); idle !== undefined; idle = this.#idle.pop()) {
      if (idle.lost === undefined) return idle;
    }
    let reason: unknown;
    for (let tried = 1; ; tried++) {
      const usual = this.#usual;
      try {
        return await this.#open(this.#attempts[usual] as Attempt);
      } catch (error) {
        // That the other way, with or without TLS, is closed tells less than what went wrong on the open one.
        if (reason === undefined || isWrongWay(reason) || !isWrongWay(error)) reason = error;
        if (!isElsewhere(error)) throw reason;
        // Another may have moved on already.
        if (this.#usual === usual) this.#usual = (usual + 1) % this.#attempts.length;
        if (tried >= this.#attempts.length) throw reason;
      }
    }
  }

  async #open(attempt: Attempt): Promise<Session> {
    if (this.#ended) throw Object.assign(new Error("it is ended"), { code: "CONNECTION_ENDED" });
    const session = new Session(attempt, this.#options, () => this.#sessions.delete(session));
    this.#sessions.add(session);
    try {
      await session.begin(this.#options.settings ?? {});
      return session;
    } catch (error) {
      await session.end();
      throw error;
    }
  }
}

function isWrongWay(error: unknown): boolean {
  return ["28000", "NO_TLS"].includes(errorCode(error) ?? "");
}

/** Whether another host, or the same with or without TLS, may take us: not if a server has refused us for good. */
function isElsewhere(error: unknown): boolean {
  if (!(error instanceof postgres.PostgresError)) return !(error instanceof UserError);
  return error.code.startsWith("57P0") || error.code === "28000";
}
