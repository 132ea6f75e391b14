import type { Level, Log } from "../command_line/log.js";
import { isLostConnection, toUserError } from "../database/errors.js";

const lost = "connection lost; trying to connect again";

/** Tells what goes wrong at once, and again every minute for as long as it lasts. */
export class Trouble {
  readonly #log: Log;
  readonly #again: number;
  readonly #toldAt = new Map<string, number>();
  #lostAt: number | undefined;

  /** `again`: how long until the same is told again, in milliseconds. */
  constructor(log: Log, again = 60_000) {
    this.#log = log;
    this.#again = again;
  }

  /** A lost connection, which many notice, is one trouble whatever it keeps from being done. */
  tell(what: string, error: unknown, level: Level = "warn"): void {
    if (isLostConnection(error)) {
      this.#lostAt = performance.now();
      this.insist(lost, error);
    } else {
      this.insist(what, error, level);
    }
  }

  insist(what: string, error: unknown, level: Level = "warn"): void {
    const now = performance.now();
    const recently = now - (this.#toldAt.get(what) ?? Number.NEGATIVE_INFINITY) < this.#again;
    this.#log(recently ? "debug" : level, what, { error: toUserError(error).message });
    if (!recently) this.#toldAt.set(what, now);
  }

  /** Whether it had been told. */
  over(what: string): boolean {
    return this.#toldAt.delete(what);
  }

  /** The database answers. */
  connected(): void {
    // Others may still be about to notice.
    if (this.#lostAt === undefined || performance.now() - this.#lostAt < 1000) return;
    this.#lostAt = undefined;
    if (this.over(lost)) this.#log("info", "connected again");
  }
}
