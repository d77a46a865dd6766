// Turns the records of one Kafka batch into runs of packed records with consecutive offsets. Runs on sink threads, for
// every record that is stored: what ESS wrote is copied together without being looked into, anything else is parsed.

import type { EventLimits } from '../../event/parser.ts';
import { RecordCursor } from '../../event/record.ts';
import { timeMsMax, timeMsMin } from '../../event/time.ts';
import type { RecordVisitor } from '../log.ts';
import { ForeignPacker } from './foreign.ts';
import type { BatchRecords } from './wire/batch_records.ts';
import type { Batch, BatchDefect } from './wire/batch_visitor.ts';
import { readInt64 } from './wire/int64.ts';
import { copyPackedRecord, packedBytesMax } from './wire/packed_record.ts';
import { batchAt } from './wire/record_batch.ts';

/** A run is handed over when it has this many bytes, so that a batch that expands greatly takes no more memory. */
const runBytesMax = 1024 * 1024;
const initialBytes = 64 * 1024;

/** One thread's packer; its buffer is reused from run to run. */
export class BatchPacker {
  readonly #foreign: ForeignPacker;
  readonly #cursor = new RecordCursor();
  #buffer = Buffer.allocUnsafeSlow(initialBytes);
  #used = 0;
  #base = 0;
  #count = 0;

  constructor(epoch: string, limits: EventLimits) {
    this.#foreign = new ForeignPacker(epoch, limits);
  }

  /** Visits the records from offset `from` on; gives their packed bytes. */
  pack(partition: number, records: BatchRecords, from: number, visit: RecordVisitor): number {
    let visited = 0;
    this.#used = 0;
    this.#count = 0;
    while (records.next()) {
      const { offset } = records;
      if (offset < from) continue;
      if (this.#count > 0 && (offset !== this.#base + this.#count || this.#used >= runBytesMax))
        visited += this.#flush(visit);
      if (this.#count === 0) this.#base = offset;
      if (!this.#tryCopy(records)) this.#add(this.#foreign.pack(partition, records));
      this.#count += 1;
    }
    return visited + this.#flush(visit);
  }

  /** Visits one broken record at `offset`, which stands for the whole batch; gives its packed bytes. */
  packDefect(
    partition: number,
    { bytes, baseOffset, lastOffset }: Batch,
    defect: BatchDefect,
    offset: number,
    visit: RecordVisitor,
  ): number {
    // The header may be damaged, too, but the time that it gives is the same each time it is read.
    const timestampMs =
      bytes.length >= batchAt.records ? readInt64(bytes, batchAt.maxTimestampMs) : Number.NaN;
    const reason = `the batch of offsets ${baseOffset} to ${lastOffset} cannot be read: ${defect}`;
    this.#used = 0;
    this.#count = 0;
    this.#add(this.#foreign.broken(partition, offset, timestampMs, defect, reason, bytes, 0, bytes.length));
    this.#base = offset;
    this.#count = 1;
    return this.#flush(visit);
  }

  /** Adds a record that ESS wrote; false if it is foreign. */
  #tryCopy(records: BatchRecords): boolean {
    const bytesMax = packedBytesMax(records);
    if (bytesMax === 0) return false;
    const target = this.#room(bytesMax);
    const end = copyPackedRecord(records, target, this.#used);
    if (end === -1) return false;
    const cursor = this.#cursor;
    if (cursor.buffer !== target) cursor.open(target);
    cursor.end = this.#used;
    // No error can come: the lengths were checked. Times that the store cannot hold are not of our making.
    cursor.next();
    if (!isTime(cursor.ingestTimeMs) || !isTime(cursor.timeMs)) return false;
    this.#used = end;
    return true;
  }

  #add(record: Buffer): void {
    this.#room(record.length).set(record, this.#used);
    this.#used += record.length;
  }

  #flush(visit: RecordVisitor): number {
    if (this.#count === 0) return 0;
    const bytes = this.#used;
    const count = this.#count;
    this.#used = 0;
    this.#count = 0;
    visit(this.#base, count, this.#buffer.subarray(0, bytes));
    return bytes;
  }

  #room(bytes: number): Buffer {
    const needed = this.#used + bytes;
    if (needed > this.#buffer.length) {
      const larger = Buffer.allocUnsafeSlow(Math.max(needed, this.#buffer.length * 2));
      larger.set(this.#buffer.subarray(0, this.#used));
      this.#buffer = larger;
    }
    return this.#buffer;
  }
}

function isTime(ms: number): boolean {
  return ms >= timeMsMin && ms <= timeMsMax;
}
