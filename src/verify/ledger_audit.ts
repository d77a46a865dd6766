// The ledger of one partition held against itself, against the dead letters and against the log's ends. Pure: it is given
// the ranges in order, one at a time, so that a ledger of any length costs no memory.

import type { Finding } from './findings.ts';

/** A ledger row, and the shard that it is on. */
export interface LedgerRange {
  readonly shard: number;
  /** Offsets, both ends inclusive. */
  readonly first: number;
  readonly last: number;
  readonly rows: number;
  readonly duplicates: number;
  readonly parked: number;
  readonly holes: number;
}

/** Where the log of the partition stands; read after the ledger. */
export interface LogEnds {
  readonly start: number;
  readonly end: number;
  /** 0 if no position was committed. */
  readonly committed: number;
}

/** What the ledger of a partition adds up to. */
export interface PartitionTotals {
  readonly ranges: number;
  readonly rows: number;
  readonly duplicates: number;
  readonly parked: number;
  readonly holes: number;
  /** Distinct offsets that the ranges cover. */
  readonly covered: number;
  /** First offset after the last range. */
  readonly ledgerEnd: number;
  /** Offsets of the log from there on. */
  readonly inFlight: number;
}

export class LedgerAudit {
  readonly #partition: number;
  readonly #letters: readonly number[] | null;
  readonly #isOwner: (shard: number) => boolean;
  readonly #report: (finding: Finding) => void;
  #next = 0;
  #ranges = 0;
  #rows = 0;
  #duplicates = 0;
  #parked = 0;
  #holes = 0;
  #covered = 0;

  /**
   * `letters`: offsets of the partition's dead letters, ascending; null where they are not compared. `isOwner`: whether
   * the partition is or was on a shard.
   */
  constructor(
    partition: number,
    letters: readonly number[] | null,
    isOwner: (shard: number) => boolean,
    report: (finding: Finding) => void,
  ) {
    this.#partition = partition;
    this.#letters = letters;
    this.#isOwner = isOwner;
    this.#report = report;
  }

  /** The next range, in (first, last) order over all shards. */
  take(range: LedgerRange): void {
    const { shard, first, last, rows, duplicates, parked, holes } = range;
    const next = this.#next;
    const offsets = last - first + 1;
    const isOverlapping = first < next;
    if (first > next)
      this.#find(
        'ledger_gap',
        null,
        next,
        first - 1,
        first - next,
        `${first - next} offsets without a ledger row`,
      );
    if (isOverlapping) {
      const end = Math.min(last, next - 1);
      const detail = `the ledger row ${first}-${last} begins before offset ${next}, where the one before it ends`;
      this.#find('ledger_overlap', shard, first, end, end - first + 1, detail);
    }
    const counted = rows + duplicates + parked + holes;
    if (counted !== offsets) {
      const detail = `${rows} rows + ${duplicates} duplicates + ${parked} parked + ${holes} holes = ${counted}, not ${offsets}`;
      this.#find('range_miscounted', shard, first, last, Math.abs(counted - offsets), detail);
    }
    if (!this.#isOwner(shard))
      this.#find('range_misplaced', shard, first, last, offsets, `a ledger row on shard ${shard}`);
    // Where two rows cover a letter, the overlap is what is wrong.
    if (!isOverlapping && this.#letters !== null) {
      const found = countWithin(this.#letters, first, last);
      const detail = `${found} dead letters, but the ledger says ${parked} parked`;
      if (found < parked) this.#find('letters_missing', null, first, last, parked - found, detail);
      if (found > parked) this.#find('letters_unclaimed', null, first, last, found - parked, detail);
    }
    this.#ranges += 1;
    this.#rows += rows;
    this.#duplicates += duplicates;
    this.#parked += parked;
    this.#holes += holes;
    if (last >= next) {
      this.#covered += last + 1 - Math.max(first, next);
      this.#next = last + 1;
    }
  }

  /** After the last range. */
  end({ start, end, committed }: LogEnds): PartitionTotals {
    const next = this.#next;
    // What was gone before ESS first came is no loss of ours: the first sink writes it down as holes.
    const hasBegun = next > 0 || committed > 0;
    if (start > next && hasBegun) {
      const detail = `the ledger ends at offset ${next}, and the log holds ${start} to ${end}`;
      this.#find('records_gone', null, next, start - 1, start - next, detail);
    }
    if (next > end) {
      const detail = `the ledger ends at offset ${next}, and the log at ${end}`;
      this.#find('ledger_beyond_log', null, end, next - 1, next - end, detail);
    }
    return {
      ranges: this.#ranges,
      rows: this.#rows,
      duplicates: this.#duplicates,
      parked: this.#parked,
      holes: this.#holes,
      covered: this.#covered,
      ledgerEnd: next,
      inFlight: Math.max(0, end - next),
    };
  }

  #find(
    kind: Finding['kind'],
    shard: number | null,
    first: number,
    last: number,
    count: number,
    detail: string,
  ): void {
    this.#report({ kind, partition: this.#partition, shard, first, last, count, detail, examples: [] });
  }
}

/** How many of the ascending numbers are within both ends. */
function countWithin(ascending: readonly number[], first: number, last: number): number {
  return indexFrom(ascending, last + 1) - indexFrom(ascending, first);
}

/** Index of the first number that is not below `least`. */
function indexFrom(ascending: readonly number[], least: number): number {
  let low = 0;
  let high = ascending.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((ascending[middle] ?? Number.POSITIVE_INFINITY) < least) low = middle + 1;
    else high = middle;
  }
  return low;
}
