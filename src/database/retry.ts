/** Going on when the server is away: a lost connection, a restart, a failover. */
import { setTimeout as sleep } from "node:timers/promises";
import { isLostConnection } from "./errors.js";

/** Pauses for `milliseconds`, or until the signal is aborted. */
export async function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  await sleep(milliseconds, undefined, { signal }).catch(() => {});
}

const longest = 10_000;

/**
 * Does `work`, and again `every` so many milliseconds after its end, until the signal is aborted; after failures, of which
 * `failed` is told, at growing intervals.
 */
export async function repeatedly(
  work: () => Promise<unknown>,
  options: { signal: AbortSignal; every: number; failed: (error: unknown) => void },
): Promise<void> {
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
    const backoff = failures === 0 ? 0 : Math.min(250 * 2 ** failures, longest);
    await pause(Math.max(every, backoff), signal);
  }
}

/** Does `work`, and again while the connection is lost, of which `lost` is told once, until the signal is aborted. */
export async function persistently<T>(
  work: () => PromiseLike<T>,
  { signal, lost }: { signal: AbortSignal; lost?: (() => void) | undefined },
): Promise<T | undefined> {
  for (let attempt = 0; !signal.aborted; attempt++) {
    try {
      return await work();
    } catch (error) {
      if (!isLostConnection(error)) throw error;
      // The first attempt may only have met a connection that had been idle.
      if (attempt === 1) lost?.();
      await pause(Math.min(250 * 2 ** attempt, longest), signal);
    }
  }
  return undefined;
}
