// Makes the live page's snapshots, one a second for all viewers together, and only while there is one: without viewers
// no timer runs and nothing is asked of anybody. Main thread only.

import type { Logger } from 'pino';
import type { LiveSource } from '../http/live_route.ts';
import { snapshotEveryMs } from '../live/bounds.ts';
import { buildSnapshot, type LiveFigures } from '../live/builder.ts';
import type { EngineCounters } from '../stats/counters.ts';

/** Rates over a longer time would tell of the past: the first snapshot after a pause has none. ms */
const ratesOverMsMax = 10_000;

interface Run {
  timer: NodeJS.Timeout | undefined;
}

export class LiveStream implements LiveSource {
  readonly #gather: () => Promise<LiveFigures>;
  readonly #counters: EngineCounters;
  readonly #log: Logger;
  #before: LiveFigures | null = null;
  #text: string | null = null;
  #textAtMs = 0;
  /** The run under way; another one is another object, so that one that was stopped knows it. */
  #run: Run | null = null;
  #hasFailed = false;

  /** `gather` rejects with whatever is wrong with it; the next second is another try. */
  constructor(gather: () => Promise<LiveFigures>, counters: EngineCounters, log: Logger) {
    this.#gather = gather;
    this.#counters = counters;
    this.#log = log;
  }

  start(publish: (text: string) => void): void {
    this.stop();
    const run: Run = { timer: undefined };
    this.#run = run;
    // Viewers who come and go in quick succession do not make it work faster.
    const freshMs = snapshotEveryMs - (performance.now() - this.#textAtMs);
    if (this.#text === null || freshMs <= 0) void this.#tick(run, publish);
    else run.timer = setTimeout(() => void this.#tick(run, publish), freshMs);
  }

  stop(): void {
    clearTimeout(this.#run?.timer);
    this.#run = null;
  }

  latest(): string | null {
    return performance.now() - this.#textAtMs < snapshotEveryMs ? this.#text : null;
  }

  async #tick(run: Run, publish: (text: string) => void): Promise<void> {
    const startMs = performance.now();
    try {
      const figures = await this.#gather();
      if (this.#run !== run) return;
      publish(this.#textOf(figures));
      this.#hasFailed = false;
    } catch (error) {
      if (!this.#hasFailed) this.#log.warn({ err: error }, 'no snapshot for the live page');
      this.#hasFailed = true;
    }
    if (this.#run !== run) return;
    const restMs = Math.max(0, snapshotEveryMs - (performance.now() - startMs));
    run.timer = setTimeout(() => void this.#tick(run, publish), restMs);
  }

  #textOf(figures: LiveFigures): string {
    const before = this.#before;
    const isRecent = before !== null && figures.time_ms - before.time_ms <= ratesOverMsMax;
    const text = JSON.stringify(buildSnapshot(figures, isRecent ? before : null));
    this.#before = figures;
    this.#text = text;
    this.#textAtMs = performance.now();
    this.#counters.add('live_snapshots');
    return text;
  }
}
