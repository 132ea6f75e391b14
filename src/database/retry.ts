/** Going on when the server is away: a lost connection, a restart, a failover. */
import { setTimeout as sleep } from "node:timers/promises";
import { isLostConnection } from "./errors.js";

/** Pauses for `milliseconds`, or until the signal is aborted. */
export async function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  await sleep(milliseconds, undefined, { signal }).catch(() => {});
}

export interface LoopOptions {
  signal: AbortSignal;
  /** Between the end of one round and the beginning of the next, in milliseconds. */
  every: number;
  /** Told of every round that failed. */
  failed: (error: unknown) => void;
}

/** Does `work` again and again until the signal is aborted; after failures at growing intervals, up to ten seconds. */
export async function repeatedly(work: () => Promise<unknown>, options: LoopOptions) {
  const { signal, every, failed } = options;
  let failures = 0;
  while (!signal.aborted) {
    try {
      await work();
      failures = 0;
    } catch (error) {
      if (!signal.aborted) failed(error);
      failures++;
    }
    const backoff = failures === 0 ? 0 : Math.min(250 * 2 ** failures, 10_000);
    await pause(Math.max(every, backoff), signal);
  }
}

export interface PersistOptions {
  signal: AbortSignal;
  /** Told once when the connection is lost. */
  lost?: (() => void) | undefined;
}

/** Does `work`, and does it again while the connection is lost, at growing intervals, until the signal is aborted. */
export async function persistently<T>(
  work: () => PromiseLike<T>,
  { signal, lost }: PersistOptions,
): Promise<T | undefined> {
  for (let attempt = 0; !signal.aborted; attempt++) {
    try {
      return await work();
    } catch (error) {
      if (!isLostConnection(error)) throw error;
      // The first attempt may only have met a connection that had been idle.
      if (attempt === 1) lost?.();
      await pause(Math.min(250 * 2 ** attempt, 10_000), signal);
    }
  }
  return undefined;
}
