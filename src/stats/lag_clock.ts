// How long records have been waiting, for partitions that another process consumes: from when the log's end was first
// seen past a position. Runs on the main thread; needs no record to be read.

interface Sample {
  readonly timeMs: number;
  readonly end: number;
}

/** Samples kept for each partition; when they are full every second one goes, so that old waits are told coarsely. */
const samplesMax = 512;

export class LagClock {
  readonly #samples: Sample[][];

  constructor(partitions: number) {
    this.#samples = Array.from({ length: partitions }, () => []);
  }

  /** Notes where a partition's log ends now, epoch milliseconds. */
  note(partition: number, end: number, nowMs: number): void {
    const samples = this.#samples[partition];
    if (samples === undefined || samples.at(-1)?.end === end) return;
    samples.push({ timeMs: nowMs, end });
    if (samples.length > samplesMax) this.#samples[partition] = samples.filter((_, i) => i % 2 === 0);
  }

  /**
   * Milliseconds since the record at `position` was first seen in the log, 0 if it was not; forgets what lies before
   * it. Records that were there before this process began count from its beginning.
   */
  waitMs(partition: number, position: number, nowMs: number): number {
    const samples = this.#samples[partition];
    if (samples === undefined) return 0;
    const past = samples.findIndex(({ end }) => end > position);
    if (past < 0) {
      // Everything seen is consumed: the latest sample stays, as what the next one is compared with.
      samples.splice(0, samples.length - 1);
      return 0;
    }
    samples.splice(0, past);
    return Math.max(0, nowMs - (samples[0]?.timeMs ?? nowMs));
  }
}
