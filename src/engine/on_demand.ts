// A figure that is fetched only while somebody wants it, not more often than its interval, one fetch at a time; what was
// fetched last is there without waiting. Main thread only; has no timers of its own.

export interface Known<T> {
  readonly value: T;
  /** By the monotonic clock, ms. */
  readonly atMs: number;
}

export class OnDemand<T> {
  readonly #fetch: () => Promise<T>;
  readonly #everyMs: number;
  readonly #nowMs: () => number;
  #known: Known<T> | null = null;
  #startedMs = Number.NEGATIVE_INFINITY;
  #underWay: Promise<void> | null = null;

  /** A fetch that rejects leaves what is known as it is, which then grows old. */
  constructor(fetch: () => Promise<T>, everyMs: number, nowMs: () => number = () => performance.now()) {
    this.#fetch = fetch;
    this.#everyMs = everyMs;
    this.#nowMs = nowMs;
  }

  /** What was fetched last; null before. */
  get known(): Known<T> | null {
    return this.#known;
  }

  /** How old that is, ms; null before. */
  get ageMs(): number | null {
    return this.#known === null ? null : this.#nowMs() - this.#known.atMs;
  }

  /** Fetches if it is time to. Settles when the fetch under way, if there is one, has ended; never rejects. */
  refresh(): Promise<void> {
    if (this.#underWay === null && this.#nowMs() - this.#startedMs >= this.#everyMs) {
      this.#startedMs = this.#nowMs();
      this.#underWay = this.#run();
    }
    return this.settled();
  }

  /** Settles when the fetch under way, if there is one, has ended; never rejects. Starts none. */
  settled(): Promise<void> {
    return this.#underWay ?? Promise.resolve();
  }

  async #run(): Promise<void> {
    try {
      const value = await this.#fetch();
      this.#known = { value, atMs: this.#nowMs() };
    } catch {
      // It shows by its age.
    } finally {
      this.#underWay = null;
    }
  }
}
