// A group: what one append makes durable together. It holds packed records for each partition and the requests that
// wait for them. A producer worker fills one group while others are being appended (pipeline.ts).

import type { EventParser } from '../event/parser.ts';
import { RecordWriter } from '../event/record.ts';
import type { AppendBatch } from '../log/log.ts';
import { nowUs } from '../stats/clock.ts';
import type { PendingRequest } from './requests.ts';

export class Group {
  readonly requests: PendingRequest[] = [];
  readonly #writers: RecordWriter[];
  /** Partitions with records, in the order in which they got their first one. */
  #touched: number[] = [];
  #openedUs = 0;
  #bytes = 0;
  #count = 0;

  constructor(partitions: number) {
    this.#writers = Array.from({ length: partitions }, () => new RecordWriter(4096));
  }

  /** Bytes of packed records. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Number of records. */
  get count(): number {
    return this.#count;
  }

  get isEmpty(): boolean {
    return this.#count === 0;
  }

  /** When the first record came in, shared clock, microseconds. */
  get openedUs(): number {
    return this.#openedUs;
  }

  /** Number of records of one partition. */
  countOf(partition: number): number {
    return this.#writers[partition]?.count ?? 0;
  }

  /** Bytes of packed records of one partition. */
  bytesOf(partition: number): number {
    return this.#writers[partition]?.usedBytes ?? 0;
  }

  /** Adds the event that `parser` holds; gives its position among the group's records of that partition. */
  add(
    partition: number,
    parser: EventParser,
    ingestTimeMs: number,
    body: Buffer,
    start: number,
    end: number,
  ): number {
    const writer = this.#writers[partition];
    if (writer === undefined) throw new RangeError(`partition ${partition}`);
    const position = writer.count;
    if (position === 0) this.#touched.push(partition);
    if (this.#count === 0) this.#openedUs = nowUs();
    const before = writer.usedBytes;
    writer.append(
      parser.flags,
      parser.id,
      parser.type,
      parser.source,
      parser.subject,
      parser.key,
      ingestTimeMs,
      parser.timeMs,
      body,
      start,
      end,
    );
    this.#bytes += writer.usedBytes - before;
    this.#count += 1;
    return position;
  }

  /** What the log appends; the bytes stay valid until the next `add` or `reset`. */
  batches(): AppendBatch[] {
    const batches: AppendBatch[] = [];
    for (const partition of this.#touched) {
      const writer = this.#writers[partition];
      if (writer !== undefined) batches.push({ partition, count: writer.count, bytes: writer.bytes });
    }
    return batches;
  }

  /** Takes out the records of one partition, for example because they are durable. */
  drop(partition: number): void {
    const writer = this.#writers[partition];
    if (writer === undefined) return;
    this.#bytes -= writer.usedBytes;
    this.#count -= writer.count;
    writer.reset();
    this.#touched = this.#touched.filter((touched) => touched !== partition);
  }

  reset(): void {
    for (const partition of this.#touched) this.#writers[partition]?.reset();
    this.#touched.length = 0;
    this.requests.length = 0;
    this.#bytes = 0;
    this.#count = 0;
  }
}
