// The one time limit that all statements of a read share, whichever shards they go to. Runs on reader threads.

import { EssError } from '../../errors.ts';

export class TimeLimit {
  /** Of the whole read, ms. */
  readonly timeoutMs: number;
  readonly #startMs = performance.now();

  /** `timeoutMs`: at least 1. The time runs from here. */
  constructor(timeoutMs: number) {
    this.timeoutMs = timeoutMs;
  }

  /** What is left for a statement, ms, at least 1. Throws EssError `query_timeout` where nothing is. */
  leftMs(): number {
    const leftMs = Math.ceil(this.timeoutMs - (performance.now() - this.#startMs));
    if (leftMs > 0) return leftMs;
    throw new EssError('query_timeout', `the read took longer than ${this.timeoutMs} ms`);
  }
}
