// Looks at a loaded service's /stats once a second: is it keeping up?

import type { EssProcess, StatsJson } from '../../test/support/ess_process.ts';

export interface Sample {
  /** Seconds since the sampling began. */
  readonly at_s: number;
  /** From arrival to readable in the store, over the last 10 to 15 s. */
  readonly end_to_end_p99_ms: number;
  readonly lag_s: number;
  readonly lag_events: number;
}

const everyMs = 1000;

export class StatsSampler {
  readonly #service: EssProcess;
  readonly #samples: Sample[] = [];
  readonly #startedMs = performance.now();
  readonly #timer: NodeJS.Timeout;
  #running: Promise<void> = Promise.resolve();
  #isAsking = false;
  #lastStages: Readonly<Record<string, number>> = {};

  constructor(service: EssProcess) {
    this.#service = service;
    this.#timer = setInterval(() => {
      if (!this.#isAsking) this.#running = this.#ask();
    }, everyMs);
  }

  /** Ends the sampling and gives the samples in order. */
  async stop(): Promise<readonly Sample[]> {
    clearInterval(this.#timer);
    await this.#running;
    return this.#samples;
  }

  /** p99 of every stage at the last sample, ms. */
  get lastStages(): Readonly<Record<string, number>> {
    return this.#lastStages;
  }

  async #ask(): Promise<void> {
    this.#isAsking = true;
    try {
      const stats = await this.#service.getJson<StatsJson>('/stats?window=10s');
      this.#samples.push({
        at_s: Math.round((performance.now() - this.#startedMs) / 100) / 10,
        end_to_end_p99_ms: stats.stages['end_to_end']?.p99_ms ?? 0,
        lag_s: stats.lag.seconds,
        lag_events: stats.lag.events,
      });
      this.#lastStages = Object.fromEntries(
        Object.entries(stats.stages).map(([name, { p99_ms }]) => [name, p99_ms]),
      );
    } finally {
      this.#isAsking = false;
    }
  }
}

/**
 * True if the backlog grew by more than one second's events from the first third of the samples to the last third:
 * then the store did not keep up, and the lag would have gone on growing.
 */
export function hasLagGrown(samples: readonly Sample[], eventsPerSecond: number): boolean {
  const third = Math.max(1, Math.floor(samples.length / 3));
  const mean = (part: readonly Sample[]): number =>
    part.reduce((sum, sample) => sum + sample.lag_events, 0) / Math.max(1, part.length);
  return mean(samples.slice(-third)) - mean(samples.slice(0, third)) > eventsPerSecond;
}
