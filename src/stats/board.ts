// The partition board: where every partition stands, in shared memory. Workers write it as they go; the main thread
// reads it for /stats, /metrics, readiness and the waiters of ack=store, without asking anybody.
//
//    row of a partition (128 bytes, so that two partitions never share a cache line or its prefetched neighbour)
//    +-----+-------+-----------+--------+------+------------+--------+-----------------+-------+--------+-------+-------+
//    | end | start | committed | stored | rows | duplicates | parked | pendingIngestMs | bytes | ledger | holes | owner |
//    +-----+-------+-----------+--------+------+------------+--------+-----------------+-------+--------+-------+-------+
//      0     1       2           3        4      5            6        7                 8       9        10      11
//    int64 each; 12 to 15 are unused
//
// Each field is atomic by itself; two fields read one after the other may come from different moments.
import { EssError } from '../errors.ts';

const fieldAt = {
  /** Log end offset: the offset that the next appended record gets. */
  end: 0,
  /** First offset that the log still holds. */
  start: 1,
  /** Committed consumer position. */
  committed: 2,
  /** First offset that is not yet readable in the store. */
  stored: 3,
  /** Rows stored since the epoch began. */
  rows: 4,
  /** Records recognised as duplicates since the epoch began. */
  duplicates: 5,
  /** Records parked since the epoch began. */
  parked: 6,
  /** Ingest time of the first record not yet stored, epoch milliseconds; 0 if there is none. */
  pendingIngestMs: 7,
  /** Bytes that the log holds, consumed ones included. */
  bytes: 8,
  /** First offset that the ledger does not cover; set after the four totals were added. */
  ledger: 9,
  /** Offsets without a record since the epoch began: compacted away, transaction markers, aborted, gone before us. */
  holes: 10,
  /** Sink thread of this process that owns the partition, counted from 1; 0 if none does. */
  owner: 11,
} as const;

export type BoardField = keyof typeof fieldAt;

const rowWords = 16;
const rowBytes = rowWords * BigInt64Array.BYTES_PER_ELEMENT;

/** Memory for this many partitions (at least 1), all fields 0. 128 KiB at the most partitions that are allowed. */
export function createBoard(partitions: number): SharedArrayBuffer {
  if (!Number.isInteger(partitions) || partitions < 1) {
    throw new EssError('internal', `a board cannot have ${partitions} partitions`);
  }
  return new SharedArrayBuffer(partitions * rowBytes);
}

function toWord(value: number): bigint {
  if (!Number.isSafeInteger(value)) throw new EssError('internal', `${value} is not a safe integer`);
  return BigInt(value);
}

/** A thread's view of the board. Values are safe integers; anything else throws `internal`. */
export class PartitionBoard {
  readonly partitions: number;
  readonly #words: BigInt64Array;

  /** @param shared what createBoard gave */
  constructor(shared: SharedArrayBuffer) {
    this.#words = new BigInt64Array(shared);
    this.partitions = this.#words.length / rowWords;
    if (!Number.isInteger(this.partitions)) throw new EssError('internal', 'this memory is not a board');
  }

  get(partition: number, field: BoardField): number {
    return Number(Atomics.load(this.#words, this.#index(partition, field)));
  }

  set(partition: number, field: BoardField, value: number): void {
    Atomics.store(this.#words, this.#index(partition, field), toWord(value));
  }

  /** Sets the field unless it is higher already. Whoever raises last, readers never see it fall. */
  raise(partition: number, field: BoardField, value: number): void {
    const index = this.#index(partition, field);
    const wanted = toWord(value);
    let seen = Atomics.load(this.#words, index);
    while (seen < wanted) {
      const found = Atomics.compareExchange(this.#words, index, seen, wanted);
      if (found === seen) return;
      // Another thread was first: its value may be the higher one.
      seen = found;
    }
  }

  /** Adds to the field; a negative delta lowers it. */
  add(partition: number, field: BoardField, delta: number): void {
    Atomics.add(this.#words, this.#index(partition, field), toWord(delta));
  }

  #index(partition: number, field: BoardField): number {
    if (!Number.isInteger(partition) || partition < 0 || partition >= this.partitions) {
      throw new EssError('internal', `partition ${partition} is not on this board`);
    }
    return partition * rowWords + fieldAt[field];
  }
}
