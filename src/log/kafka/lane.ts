// The way from one producer thread to one broker: how many requests may be unanswered on it, and who waits for it.

import { performance } from 'node:perf_hooks';
import { Trouble } from './trouble.ts';

/**
 * Requests unanswered on one connection. A broker works on one request of a connection at a time and takes the next
 * when that is answered, so the second is there to be taken at once. With answers after 3 ms and four appends under
 * way, one gave half to two thirds of the throughput of two; three and four gave no more than two.
 */
const laneInFlightMax = 2;
/** How often who waits for a broker looks whether that still makes sense, ms. */
const laneLookMs = 100;

/** The way to one broker: what is unanswered on it and who waits for it. */
export class Lane {
  readonly nodeId: number;
  readonly trouble = new Trouble();
  isPinging = false;
  isProbing = false;
  /** When each unanswered request was sent, oldest first. */
  readonly #sentMs: number[] = [];
  #inFlight = 0;
  readonly #waiting: ((isEntered: boolean) => void)[] = [];

  constructor(nodeId: number) {
    this.nodeId = nodeId;
  }

  /** When the oldest unanswered request was sent; infinity if there is none. */
  get oldestMs(): number {
    return this.#sentMs[0] ?? Number.POSITIVE_INFINITY;
  }

  /**
   * True once there is room for a request; false if there is none in `waitMs`, or as soon as the oldest request has
   * been unanswered for `patienceMs`.
   */
  enter(waitMs: number, patienceMs: number): Promise<boolean> | true {
    if (this.#inFlight < laneInFlightMax) {
      this.#inFlight += 1;
      return true;
    }
    return new Promise((resolve) => {
      const untilMs = performance.now() + waitMs;
      const enter = (isEntered: boolean) => {
        clearTimeout(timer);
        resolve(isEntered);
      };
      const look = () => {
        const nowMs = performance.now();
        if (nowMs < untilMs && nowMs - this.oldestMs < patienceMs) {
          timer = setTimeout(look, laneLookMs);
          return;
        }
        this.#waiting.splice(this.#waiting.indexOf(enter), 1);
        resolve(false);
      };
      let timer = setTimeout(look, laneLookMs);
      this.#waiting.push(enter);
    });
  }

  leave(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#inFlight -= 1;
    else next(true);
  }

  sent(nowMs: number): void {
    this.#sentMs.push(nowMs);
  }

  answered(sentMs: number): void {
    this.#sentMs.splice(this.#sentMs.indexOf(sentMs), 1);
  }

  /** Turns everybody away. */
  close(): void {
    for (const enter of this.#waiting.splice(0)) enter(false);
  }
}
