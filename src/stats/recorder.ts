// A thread's own record of how long its stages take. Every thread that times something holds one StageRecorder; the
// main thread asks for snapshots and merges them (merge.ts). Recording allocates nothing and takes no lock, because
// nobody else touches these arrays.
//
// Memory per stage held: the open interval and the total, 184 KiB each (of which only the pages that values touched
// are in use), and at most 12 closed intervals that keep filled buckets only, 10 bytes each, with room in powers of
// two: 5 KiB for 500 filled buckets, 80 KiB for 5,000, 230 KiB if every bucket were filled. One more array of 184 KiB
// per recorder gathers snapshots. So a stage takes 0.4 MiB with 500 filled buckets in each interval, 1.3 MiB with
// 5,000 (measured), and 3.1 MiB at the very most.
//
// A record costs 18 ns and what the clock costs (performance.now: 56 ns more); closing an interval 20-50 us.
import { EssError } from '../errors.ts';
import { bucketCount, clampMicroseconds } from './buckets.ts';
import { closedIntervals, intervalMs, type Stage, type StatsWindow } from './stages.ts';
import { type HistogramCounts, Tally, tallyBytes } from './tally.ts';

/** What one thread, or several summed, recorded within a window. Plain data: it crosses postMessage as it is. */
export interface StageSnapshot {
  readonly window: StatsWindow;
  /** Only stages in which something was recorded. */
  readonly stages: { readonly [S in Stage]?: HistogramCounts };
}

/** The most memory that a recorder of this many stages can come to hold, bytes; it usually takes an eighth of it. */
export function recorderBytesMax(stagesHeld: number): number {
  const closedBytes = bucketCount * (Uint16Array.BYTES_PER_ELEMENT + Float64Array.BYTES_PER_ELEMENT);
  return stagesHeld * (2 * tallyBytes + closedIntervals['1m'] * closedBytes) + tallyBytes;
}

/** Buckets for which a closed interval first has room; it doubles when that is too few. */
const filledFirst = 256;

/** A closed interval: filled buckets only, in arrays that are kept when the slot is used again. */
class ClosedInterval {
  /** Number of the interval since the clock's zero. */
  interval = Number.NEGATIVE_INFINITY;
  /** Buckets in use at the front of the arrays. */
  length = 0;
  count = 0;
  sum = 0;
  max = 0;
  buckets = new Uint16Array(0);
  counts = new Float64Array(0);

  take(interval: number, tally: Tally): void {
    const filled = tally.filled();
    if (filled > this.buckets.length) {
      let room = filledFirst;
      while (room < filled) room *= 2;
      room = Math.min(room, bucketCount);
      this.buckets = new Uint16Array(room);
      this.counts = new Float64Array(room);
    }
    tally.copyFilled(this.buckets, this.counts);
    this.interval = interval;
    this.length = filled;
    this.count = tally.count;
    this.sum = tally.sum;
    this.max = tally.max;
  }
}

/** One stage's open interval, closed intervals and total. */
class StageHistory {
  readonly open = new Tally();
  /** Number of the open interval. */
  interval = Number.NEGATIVE_INFINITY;
  /** Values of all closed intervals, forgotten ones included. */
  readonly #total = new Tally();
  /** A ring: an interval in which nothing happened takes no slot, so this many always cover the longest window. */
  readonly #closed = Array.from({ length: closedIntervals['1m'] }, () => new ClosedInterval());
  #next = 0;

  /** Closes the open interval, if it holds anything, and opens another. */
  openInterval(interval: number): void {
    if (this.open.count > 0) {
      this.#closed[this.#next]?.take(this.interval, this.open);
      this.#next = (this.#next + 1) % this.#closed.length;
      this.#total.addTally(this.open);
      this.open.clear();
    }
    this.interval = interval;
  }

  /** Adds what the window holds, seen from interval `now`. Closes nothing: reading has no effect. */
  gather(window: StatsWindow, now: number, into: Tally): void {
    if (window === 'all') {
      into.addTally(this.#total);
      into.addTally(this.open);
      return;
    }
    const oldest = now - closedIntervals[window];
    for (const closed of this.#closed) if (closed.interval >= oldest) into.addCounts(closed, closed.length);
    if (this.interval >= oldest) into.addTally(this.open);
  }
}

export class StageRecorder {
  readonly #histories: ReadonlyMap<Stage, StageHistory>;
  readonly #nowMs: () => number;
  /** Where snapshots are gathered; made when first asked for. */
  #gathered: Tally | undefined;

  /**
   * @param stagesHeld the stages that this thread times
   * @param nowMs a clock in milliseconds that does not go back, such as `() => performance.now()`; where it does go
   *   back, values stay in the newest interval
   */
  constructor(stagesHeld: readonly Stage[], nowMs: () => number) {
    this.#histories = new Map(stagesHeld.map((stage) => [stage, new StageHistory()]));
    this.#nowMs = nowMs;
  }

  /**
   * Counts `count` occurrences of a duration, which is rounded to whole microseconds and bounded to 1 us .. 1 h
   * (negative and NaN: 1). A count that is not a whole number of at least 1 records nothing.
   * Throws `internal` for a stage that this recorder does not hold.
   */
  record(stage: Stage, microseconds: number, count = 1): void {
    const history = this.#histories.get(stage);
    if (history === undefined) throw new EssError('internal', `stage ${stage} is not held by this thread`);
    if (!Number.isSafeInteger(count) || count < 1) return;
    const interval = Math.floor(this.#nowMs() / intervalMs);
    if (interval > history.interval) history.openInterval(interval);
    history.open.record(clampMicroseconds(microseconds), count);
  }

  /** What was recorded within the window, as data of its own. */
  snapshot(window: StatsWindow): StageSnapshot {
    const now = Math.floor(this.#nowMs() / intervalMs);
    this.#gathered ??= new Tally();
    const gathered = this.#gathered;
    const stages: { [S in Stage]?: HistogramCounts } = {};
    for (const [stage, history] of this.#histories) {
      gathered.clear();
      history.gather(window, now, gathered);
      if (gathered.count > 0) stages[stage] = gathered.toCounts();
    }
    return { window, stages };
  }
}
