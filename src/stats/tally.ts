// A histogram under way: a fixed array of counts that is recorded into, added to and cleared, never reallocated.
// `HistogramCounts` is the same content without the empty buckets, as it crosses threads. One Tally belongs to one
// thread.
import { bucketCount, bucketOf, highestOf } from './buckets.ts';

/** The filled buckets of a histogram; plain data that structuredClone and postMessage carry. */
export interface HistogramCounts {
  /** Values recorded. */
  readonly count: number;
  /** Sum of the values, microseconds. Exact to 2^53, then rounded as doubles are. */
  readonly sum: number;
  /** Largest value, microseconds, exactly; 0 when nothing was recorded. */
  readonly max: number;
  /** Indices (buckets.ts) of the buckets that are not empty, ascending. */
  readonly buckets: Uint16Array;
  /** Count of each bucket in `buckets`; whole numbers beyond 2^32, which is why they are doubles. */
  readonly counts: Float64Array;
}

export const emptyCounts: HistogramCounts = {
  count: 0,
  sum: 0,
  max: 0,
  buckets: new Uint16Array(0),
  counts: new Float64Array(0),
};

/** Bytes of one Tally's counts. Pages that no value has touched stay unused by the operating system. */
export const tallyBytes = bucketCount * Float64Array.BYTES_PER_ELEMENT;

export class Tally {
  readonly #perBucket = new Float64Array(bucketCount);
  count = 0;
  sum = 0;
  max = 0;
  /** First and last bucket that may be filled: what is walked instead of the whole array. */
  #first = bucketCount;
  #last = -1;

  /** Counts `count` values of `microseconds`, which are whole and in range (clampMicroseconds). */
  record(microseconds: number, count: number): void {
    const bucket = bucketOf(microseconds);
    this.#perBucket[bucket] = (this.#perBucket[bucket] ?? 0) + count;
    this.count += count;
    this.sum += microseconds * count;
    if (microseconds > this.max) this.max = microseconds;
    if (bucket < this.#first) this.#first = bucket;
    if (bucket > this.#last) this.#last = bucket;
  }

  /** Adds another tally's values. */
  addTally(other: Tally): void {
    for (let bucket = other.#first; bucket <= other.#last; bucket += 1) {
      this.#perBucket[bucket] = (this.#perBucket[bucket] ?? 0) + (other.#perBucket[bucket] ?? 0);
    }
    this.#addFigures(other.#first, other.#last, other);
  }

  /** Adds the values of `length` filled buckets. */
  addCounts(other: HistogramCounts, length = other.buckets.length): void {
    for (let i = 0; i < length; i += 1) {
      const bucket = other.buckets[i] ?? 0;
      this.#perBucket[bucket] = (this.#perBucket[bucket] ?? 0) + (other.counts[i] ?? 0);
    }
    if (length > 0) this.#addFigures(other.buckets[0] ?? 0, other.buckets[length - 1] ?? 0, other);
  }

  clear(): void {
    if (this.#last >= this.#first) this.#perBucket.fill(0, this.#first, this.#last + 1);
    this.count = 0;
    this.sum = 0;
    this.max = 0;
    this.#first = bucketCount;
    this.#last = -1;
  }

  /** Number of buckets that are not empty. */
  filled(): number {
    let filled = 0;
    for (let bucket = this.#first; bucket <= this.#last; bucket += 1) {
      if (this.#perBucket[bucket] !== 0) filled += 1;
    }
    return filled;
  }

  /** Writes the filled buckets to the front of two arrays that have room for them. */
  copyFilled(buckets: Uint16Array, counts: Float64Array): void {
    let i = 0;
    for (let bucket = this.#first; bucket <= this.#last; bucket += 1) {
      const count = this.#perBucket[bucket] ?? 0;
      if (count === 0) continue;
      buckets[i] = bucket;
      counts[i] = count;
      i += 1;
    }
  }

  /** A copy of the content. */
  toCounts(): HistogramCounts {
    if (this.count === 0) return emptyCounts;
    const filled = this.filled();
    const buckets = new Uint16Array(filled);
    const counts = new Float64Array(filled);
    this.copyFilled(buckets, counts);
    return { count: this.count, sum: this.sum, max: this.max, buckets, counts };
  }

  #addFigures(first: number, last: number, other: { count: number; sum: number; max: number }): void {
    this.count += other.count;
    this.sum += other.sum;
    if (other.max > this.max) this.max = other.max;
    if (first < this.#first) this.#first = first;
    if (last > this.#last) this.#last = last;
  }
}

/**
 * The smallest time that at least `perMille` / 1000 of the values do not exceed, microseconds, as HdrHistogram
 * reports it: the upper end of its bucket, though never beyond the largest value. 0 when nothing was recorded.
 */
export function valueAtPerMille(counts: HistogramCounts, perMille: number): number {
  // Whole numbers are multiplied before the division, so that an exact rank is never rounded up by one.
  const rank = Math.max(1, Math.ceil((counts.count * perMille) / 1000));
  let seen = 0;
  for (let i = 0; i < counts.buckets.length; i += 1) {
    seen += counts.counts[i] ?? 0;
    if (seen >= rank) return Math.min(highestOf(counts.buckets[i] ?? 0), counts.max);
  }
  return 0;
}
