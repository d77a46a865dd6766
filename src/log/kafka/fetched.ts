// What one fetch answer held of one partition: record batches, kept as they came (compressed, if they are) and unpacked
// when they are read. So what a consumer holds is what it fetched, however far it expands. Runs on sink threads.

import { EssError } from '../../errors.ts';
import type { RecordVisitor } from '../log.ts';
import type { BatchPacker } from './packer.ts';
import type { BatchRecords } from './wire/batch_records.ts';
import { type Batch, type BatchDefect, type BatchVisitor, visitBatches } from './wire/batch_visitor.ts';
import type { FetchedPartition } from './wire/fetch.ts';
import { readInt64 } from './wire/int64.ts';
import { batchAt, entryBytesMin, lengthEnd, magicVersion } from './wire/record_batch.ts';

/** What lies at the start of fetched bytes. */
export interface Extent {
  /** Bytes of the batches that are there in full. */
  readonly bytes: number;
  /** Offset after the last of them, as its header says: it is checked only when it is read. -1 if there is none. */
  readonly next: number;
  /** Bytes of the batch that is not there in full, as far as they are known; 0 if there is none. */
  readonly cutBytes: number;
}

/** Finds the whole batches by their headers. Bytes that cannot be a header end them. */
export function extentOf(records: Buffer): Extent {
  let position = 0;
  let next = -1;
  while (records.length - position >= lengthEnd) {
    const bytes = lengthEnd + records.readInt32BE(position + batchAt.length);
    if (bytes < entryBytesMin) break;
    if (bytes > records.length - position) return { bytes: position, next, cutBytes: bytes };
    const base = readInt64(records, position + batchAt.baseOffset);
    const isKnown = bytes >= batchAt.records && records.readInt8(position + batchAt.magic) === magicVersion;
    const delta = isKnown ? Math.max(records.readInt32BE(position + batchAt.lastOffsetDelta), 0) : 0;
    if (!Number.isSafeInteger(base + delta)) break;
    next = base + delta + 1;
    position += bytes;
  }
  return { bytes: position, next, cutBytes: 0 };
}

export class FetchedBatches implements BatchVisitor {
  /** Offset after its last batch, as that one's header says. */
  readonly next: number;
  readonly #partition: number;
  readonly #packer: BatchPacker;
  readonly #bytes: Buffer;
  /** By first offset. */
  readonly #aborted: FetchedPartition['aborted'];
  #abortedSeen = 0;
  /** Producers whose transaction is one that was aborted, up to where we read. */
  readonly #aborting = new Set<bigint>();
  #position = 0;
  // Of the batch being read.
  #from = 0;
  #after = 0;
  #visit: RecordVisitor = () => {};

  /** Takes the whole batches of `answer`, whose `extent` must not be empty; copies them. */
  constructor(answer: FetchedPartition, extent: Extent, packer: BatchPacker) {
    this.next = extent.next;
    this.#partition = answer.partition;
    this.#packer = packer;
    // A copy, because the bytes of the answer are held until every partition has read its part.
    this.#bytes = Buffer.allocUnsafeSlow(extent.bytes);
    this.#bytes.set(answer.records.subarray(0, extent.bytes));
    this.#aborted = [...answer.aborted].sort((a, b) => a.firstOffset - b.firstOffset);
  }

  /** Bytes that are not read yet; 0 when all is read. */
  get bytesLeft(): number {
    return this.#bytes.length - this.#position;
  }

  /**
   * Visits the records of the next batch from offset `from` on, and gives the offset to go on from. Throws `internal`
   * if the bytes are no batches, so that nobody can tell what they hold.
   */
  readBatch(from: number, visit: RecordVisitor): number {
    const start = this.#position;
    const end = start + lengthEnd + this.#bytes.readInt32BE(start + batchAt.length);
    this.#from = from;
    this.#after = -1;
    this.#visit = visit;
    // The first bytes of the next batch as well: its offset tells where a damaged one ends.
    visitBatches(this.#bytes.subarray(start, Math.min(end + lengthEnd, this.#bytes.length)), this);
    if (this.#after === -1) {
      const text = `the bytes of partition ${this.#partition} at offset ${from} are no record batch`;
      throw new EssError('internal', text);
    }
    this.#position = end;
    return this.#after;
  }

  /** Called by `visitBatches`. */
  records(batch: Batch, records: BatchRecords): void {
    if (!this.#isHole(batch)) this.#packer.pack(this.#partition, records, this.#from, this.#visit);
    this.#after = Math.max(batch.lastOffset + 1, this.#from);
  }

  /** Called by `visitBatches`. */
  defect(batch: Batch, defect: BatchDefect): void {
    // Of the other defects nothing is known but the offset, not even that it was aborted.
    if (defect === 'unknown_compression' && this.#isHole(batch)) {
      this.#after = Math.max(batch.lastOffset + 1, this.#from);
      return;
    }
    const offset = Math.max(batch.baseOffset, this.#from);
    this.#packer.packDefect(this.#partition, batch, defect, offset, this.#visit);
    this.#after = Math.max(batch.lastOffset, offset) + 1;
  }

  /** True if no record of the batch counts: it is a marker, or its transaction was aborted. */
  #isHole({ isControl, isTransactional, marker, producerId, lastOffset }: Batch): boolean {
    for (;;) {
      const aborted = this.#aborted[this.#abortedSeen];
      if (aborted === undefined || aborted.firstOffset > lastOffset) break;
      this.#aborting.add(aborted.producerId);
      this.#abortedSeen += 1;
    }
    if (isControl && marker === 'abort') this.#aborting.delete(producerId);
    return isControl || (isTransactional && this.#aborting.has(producerId));
  }
}
