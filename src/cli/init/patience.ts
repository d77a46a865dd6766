// Waiting for something that is still starting, up to a common deadline: it is tried again and again, and who looks on
// is told for what and why. Runs on the main thread.

import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';

/** One attempt gets at least and at most so long, ms: the least counts even where no time is left to wait. */
const attemptMsMin = 2000;
const attemptMsMax = 10_000;
/** Between two attempts, ms. */
const pauseMs = 500;

/** Told why `what` is not there yet; null once it is, or is given up. */
export type OnWaiting = (what: string, reason: string | null) => void;

export class Patience {
  readonly #endMs: number;
  readonly #onWaiting: OnWaiting;

  constructor(waitMs: number, onWaiting: OnWaiting = () => {}) {
    this.#endMs = performance.now() + waitMs;
    this.#onWaiting = onWaiting;
  }

  /**
   * Tries until it succeeds or the time is over, at least once; then rejects with the last error. Each attempt is
   * given a time-out in ms that it has to keep itself.
   */
  async until<T>(what: string, attempt: (timeoutMs: number) => Promise<T>): Promise<T> {
    try {
      for (;;) {
        try {
          return await attempt(Math.min(Math.max(this.#leftMs(), attemptMsMin), attemptMsMax));
        } catch (error) {
          if (this.#leftMs() <= pauseMs) throw error;
          this.#onWaiting(what, reasonOf(error));
        }
        await sleep(pauseMs);
      }
    } finally {
      this.#onWaiting(what, null);
    }
  }

  #leftMs(): number {
    return this.#endMs - performance.now();
  }
}

/** An error in the words of whoever made it. */
export function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
