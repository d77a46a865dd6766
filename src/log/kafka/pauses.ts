// Waits that end when the handle that waits is closed, so that a closed handle leaves no timer behind. One thread's.

/** Pause before something that failed is tried again, ms: doubled each time up to the bound. */
const retryFirstMs = 20;
const retryMaxMs = 320;

/** How long to wait before attempt number `attempt` (from 0) is repeated, ms. It varies by half, so that callers who
 * failed together do not come back together. */
export const retryPauseMs = (attempt: number): number =>
  Math.min(retryFirstMs * 2 ** attempt, retryMaxMs) * (0.75 + Math.random() / 2);

export class Pauses {
  /** What ends each pause under way. */
  readonly #ends = new Set<() => void>();

  /** Settles after `ms`, or at `end`. */
  pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const end = () => {
        clearTimeout(timer);
        this.#ends.delete(end);
        resolve();
      };
      const timer = setTimeout(end, Math.max(ms, 0));
      this.#ends.add(end);
    });
  }

  /** Ends every pause under way. */
  end(): void {
    for (const end of [...this.#ends]) end();
  }
}
