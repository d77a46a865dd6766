// How many inserts a second one sink thread gives its ClickHouse node. MergeTree pays for every part, so under load
// blocks wait for the budget and grow; an idle system has budget to spare and inserts at once.

export class InsertBudget {
  readonly #perSecond: number;
  readonly #burst: number;
  #available: number;
  #at: number;

  /** `perSecond` may be a fraction; `burst` inserts may be saved up. */
  constructor(perSecond: number, burst: number, nowMs: number) {
    this.#perSecond = perSecond;
    this.#burst = burst;
    this.#available = burst;
    this.#at = nowMs;
  }

  /** Milliseconds until an insert is within the budget; 0 if it is now. */
  waitMs(nowMs: number): number {
    this.#refill(nowMs);
    return this.#available >= 1 ? 0 : ((1 - this.#available) / this.#perSecond) * 1000;
  }

  /** Takes one insert; a full block may overdraw by as much as the burst. */
  spend(nowMs: number): void {
    this.#refill(nowMs);
    this.#available = Math.max(this.#available - 1, -this.#burst);
  }

  #refill(nowMs: number): void {
    this.#available = Math.min(this.#burst, this.#available + ((nowMs - this.#at) / 1000) * this.#perSecond);
    this.#at = nowMs;
  }
}
