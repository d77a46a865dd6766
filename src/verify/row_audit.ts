// The ledger rows that one shard has of a partition held against the shard's rows of `events`. The rows are counted in the
// store, by segments between the ends of ledger rows; what is compared here is figures. Runs where the proof does.

import type { Finding } from './findings.ts';
import type { LedgerRange } from './ledger_audit.ts';

/** Rows in the offsets from `start` to the next segment's start. */
export interface SegmentCount {
  readonly start: number;
  readonly rows: number;
  /** Distinct offsets among them. */
  readonly offsets: number;
}

/** Where the rows are; of one shard and one partition. Both ends of `from` to `to`: the latter is not among them. */
export interface RowSource {
  /** Counts by segment: `starts` ascending, the first of them is the first offset counted. Empty segments may be left out. */
  count(starts: readonly number[], to: number): Promise<SegmentCount[]>;
  /** Some offsets that have several rows. */
  doubled(from: number, to: number): Promise<number[]>;
  /** Some offsets without a row. */
  absent(from: number, to: number): Promise<number[]>;
  /** Some offsets with a row. */
  present(from: number, to: number): Promise<number[]>;
}

/** Ledger rows that are compared with one statement, and the rows that they may be about: what the store holds in memory. */
const batchRangesMax = 1_000;
const batchRowsMax = 1_000_000;

export class RowAudit {
  readonly #partition: number;
  readonly #shard: number;
  readonly #source: RowSource;
  readonly #report: (finding: Finding) => void;
  #batch: LedgerRange[] = [];
  #batchRows = 0;
  /** Everything before it is compared. */
  #from = 0;
  /** Offset after the furthest range of the batch. */
  #next = 0;

  constructor(partition: number, shard: number, source: RowSource, report: (finding: Finding) => void) {
    this.#partition = partition;
    this.#shard = shard;
    this.#source = source;
    this.#report = report;
  }

  /** The shard's next range, in (first, last) order. */
  async take(range: LedgerRange): Promise<void> {
    const isFull = this.#batch.length >= batchRangesMax || this.#batchRows + range.rows > batchRowsMax;
    // Never between ranges that overlap: each is counted whole.
    if (isFull && range.first >= this.#next) await this.#compare(range.first);
    this.#batch.push(range);
    this.#batchRows += range.rows;
    this.#next = Math.max(this.#next, range.last + 1);
  }

  /** After the last range: up to here nothing else may have a row. */
  async end(to: number): Promise<void> {
    await this.#compare(Math.max(to, this.#next));
  }

  async #compare(to: number): Promise<void> {
    const from = this.#from;
    const ranges = this.#batch;
    this.#batch = [];
    this.#batchRows = 0;
    this.#from = to;
    if (to <= from) return;
    const ends = new Set([from]);
    for (const { first, last } of ranges) {
      ends.add(first);
      if (last + 1 < to) ends.add(last + 1);
    }
    const starts = [...ends].sort((a, b) => a - b);
    const counts = new Map((await this.#source.count(starts, to)).map((count) => [count.start, count]));
    const stopOf = new Map(starts.map((start, i) => [start, starts[i + 1] ?? to]));
    await this.#compareRanges(ranges, starts, counts);
    let at = 0;
    /** Last offset that ranges cover which begin at the segment or before. */
    let reach = -1;
    for (const [start, { rows, offsets }] of [...counts].sort(([a], [b]) => a - b)) {
      for (; (ranges[at]?.first ?? Number.POSITIVE_INFINITY) <= start; at += 1)
        reach = Math.max(reach, ranges[at]?.last ?? -1);
      const stop = stopOf.get(start) ?? to;
      if (rows > offsets) {
        const examples = await this.#source.doubled(start, stop);
        const detail = `${rows} rows of ${offsets} offsets`;
        this.#find('rows_doubled', start, stop - 1, rows - offsets, detail, examples);
      }
      if (reach < start) {
        const examples = await this.#source.present(start, stop);
        this.#find('rows_outside', start, stop - 1, rows, `${rows} rows without a ledger row`, examples);
      }
    }
  }

  async #compareRanges(
    ranges: readonly LedgerRange[],
    starts: readonly number[],
    counts: ReadonlyMap<number, SegmentCount>,
  ): Promise<void> {
    let at = 0;
    for (const { first, last, rows } of ranges) {
      // Ranges come in the order of their first offsets, and each one's first is a start.
      while ((starts[at] ?? Number.POSITIVE_INFINITY) < first) at += 1;
      let found = 0;
      for (let i = at; (starts[i] ?? Number.POSITIVE_INFINITY) <= last; i += 1)
        found += counts.get(starts[i] ?? -1)?.offsets ?? 0;
      if (found === rows) continue;
      const detail = `${found} rows, but the ledger says ${rows}`;
      if (found < rows) {
        const examples = await this.#source.absent(first, last + 1);
        this.#find('rows_missing', first, last, rows - found, detail, examples);
      } else {
        this.#find('rows_surplus', first, last, found - rows, detail, []);
      }
    }
  }

  #find(
    kind: Finding['kind'],
    first: number,
    last: number,
    count: number,
    detail: string,
    offsets: readonly number[],
  ): void {
    const examples = offsets.map((offset) => `${this.#partition}:${offset}`);
    const { partition, shard } = { partition: this.#partition, shard: this.#shard };
    this.#report({ kind, partition, shard, first, last, count, detail, examples });
  }
}
