// Measures how late this thread's timers run, which is how long its event loop was held up by something else. The
// main thread runs one; its timer never keeps the process alive.
import { highestMicroseconds } from './buckets.ts';
import type { StageRecorder } from './recorder.ts';

/** Time between ticks, milliseconds: 50 ticks a second, less than 0.1 % of a core. */
export const loopDelayPeriodMs = 20;

export class LoopDelay {
  readonly #recorder: Pick<StageRecorder, 'record'>;
  readonly #nowMs: () => number;
  #timer: NodeJS.Timeout | undefined;
  /** When the next tick is due. */
  #dueMs = 0;

  /** @param nowMs milliseconds of a monotonic clock with microsecond resolution */
  constructor(recorder: Pick<StageRecorder, 'record'>, nowMs: () => number = () => performance.now()) {
    this.#recorder = recorder;
    this.#nowMs = nowMs;
  }

  /** Starts ticking; no effect if it does already. */
  start(): void {
    if (this.#timer === undefined) this.#schedule();
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #schedule(): void {
    this.#dueMs = this.#nowMs() + loopDelayPeriodMs;
    this.#timer = setTimeout(() => this.#tick(), loopDelayPeriodMs);
    this.#timer.unref();
  }

  #tick(): void {
    const lateUs = (this.#nowMs() - this.#dueMs) * 1000;
    recordLateness(this.#recorder, lateUs);
    this.#schedule();
  }
}

/**
 * Records a tick that was late, and also the ticks which could not run meanwhile, each late by what was left then: a
 * loop that stands still half of the time shows at the median, not as a few ticks among many punctual ones (the
 * correction that HdrHistogram makes for an expected interval). At most 180,000 of them, for one hour.
 */
export function recordLateness(recorder: Pick<StageRecorder, 'record'>, lateUs: number): void {
  const bounded = Math.min(lateUs, highestMicroseconds);
  recorder.record('event_loop_delay', bounded);
  const periodUs = loopDelayPeriodMs * 1000;
  for (let left = bounded - periodUs; left >= periodUs; left -= periodUs) {
    recorder.record('event_loop_delay', left);
  }
}
