// What a partition's own sink has written down on the board, read so that it adds up. A sink writes five words one after
// the other, and may be put to sleep between two of them for as long as the machine likes: what was read in such a moment
// is no lost event. Main thread only.

import type { LedgerTotals } from '../sink/ledger.ts';
import type { PartitionBoard } from '../stats/board.ts';

export type OwnTotals = Pick<LedgerTotals, 'rows' | 'duplicates' | 'parked' | 'holes' | 'next'>;

/** Readings in a row before the sink is taken to stand still half-way: it writes its words within a microsecond. */
const readingsMax = 10;
/** Totals that have not added up for so long are told as they are: that is a bug, and must be seen. ms. */
const toldAfterMs = 1_000;

const none: OwnTotals = { rows: 0, duplicates: 0, parked: 0, holes: 0, next: 0 };

/** A board's totals; another session has another board, and an object of its own. */
export class OwnTotalsReader {
  readonly board: PartitionBoard;
  /** By partition: the last totals that added up. */
  readonly #last: (OwnTotals | undefined)[] = [];
  /** By partition: since when they do not, epoch ms; undefined while they do. */
  readonly #oddSinceMs: (number | undefined)[] = [];

  constructor(board: PartitionBoard) {
    this.board = board;
  }

  /** Totals that add up, if need be those of a moment ago; all 0 while a sink has only begun to write them. */
  read(partition: number, nowMs: number): OwnTotals {
    let totals = this.#readOnce(partition);
    for (let i = 1; totals === null && i < readingsMax; i += 1) totals = this.#readOnce(partition);
    if (totals !== null) {
      this.#last[partition] = totals;
      this.#oddSinceMs[partition] = undefined;
      return totals;
    }
    const sinceMs = this.#oddSinceMs[partition] ?? nowMs;
    this.#oddSinceMs[partition] = sinceMs;
    if (nowMs - sinceMs < toldAfterMs) return this.#last[partition] ?? none;
    return { ...this.#words(partition), next: this.board.get(partition, 'ledger') };
  }

  /**
   * Of a partition that no thread here owns: what the last one left, which was in the ledger; `known` if that is further, or
   * is all there is. Without it a process that is cut off from the log would count what it stored itself as waiting.
   */
  further(partition: number, known: LedgerTotals | null): OwnTotals | null {
    const left = this.#readOnce(partition);
    return left !== null && left.next > (known?.next ?? 0) ? left : known;
  }

  /** Null if the words changed meanwhile, or do not add up. */
  #readOnce(partition: number): OwnTotals | null {
    const next = this.board.get(partition, 'ledger');
    const words = this.#words(partition);
    // The ledger's position is written last.
    const isSettled = this.board.get(partition, 'ledger') === next;
    const { rows, duplicates, parked, holes } = words;
    return isSettled && rows + duplicates + parked + holes === next ? { ...words, next } : null;
  }

  #words(partition: number): Omit<OwnTotals, 'next'> {
    return {
      rows: this.board.get(partition, 'rows'),
      duplicates: this.board.get(partition, 'duplicates'),
      parked: this.board.get(partition, 'parked'),
      holes: this.board.get(partition, 'holes'),
    };
  }
}
