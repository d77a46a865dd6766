// A contiguous range of one partition on its way to become a block: what was read, what was left out, and when.

import type { EventBlock } from '../store/native/event_block.ts';

/** An event of which ClickHouse must be asked whether an older copy exists. */
export interface OpenQuestion {
  readonly offset: number;
  readonly source: string;
  readonly id: string;
  readonly ingestTimeMs: number;
}

/** A record of which no event can be made; it becomes a dead letter when its range is stored. */
export interface BrokenRecord {
  readonly offset: number;
  readonly code: string;
  readonly reason: string;
  /** The packed record. */
  readonly record: Buffer;
}

export class SinkRange {
  readonly block: EventBlock;
  /** First offset. */
  first = 0;
  /** Offset after the last one so far. */
  next = 0;
  /** Records read, duplicates and broken ones included. */
  records = 0;
  /** Offsets that hold no record: compacted away, transaction markers, aborted. */
  holes = 0;
  /** Offset of the latest record. */
  recordOffset = -1;
  duplicates = 0;
  /** Bytes of the packed records of the rows: near enough to the block's own size, and cheaper to keep. */
  bytes = 0;
  /** Identities that were added while this range was read. */
  identitiesAdded = 0;
  /** Ingest time of the first record, epoch ms. */
  firstIngestMs = 0;
  /** When the first offset was taken in, epoch ms. */
  openedMs = 0;
  /** All records have their ingest time in this month: [from, to), epoch ms. */
  monthStartMs = 0;
  monthEndMs = 0;
  /** No further record may come in. */
  isClosed = false;
  readonly questions: OpenQuestion[] = [];
  readonly broken: BrokenRecord[] = [];
  /** Ingest times of the stored rows as runs: rows that follow each other mostly share the millisecond. */
  readonly runTimesMs: number[] = [];
  readonly runCounts: number[] = [];

  constructor(block: EventBlock) {
    this.block = block;
  }

  get last(): number {
    return this.next - 1;
  }

  /** True if no offset was taken in yet. */
  get isEmpty(): boolean {
    return this.next === this.first;
  }

  /** Empties the range; its first record will be the one at `first`. */
  reset(first: number): void {
    this.block.reset();
    this.first = first;
    this.next = first;
    this.records = 0;
    this.holes = 0;
    this.recordOffset = -1;
    this.broken.length = 0;
    this.duplicates = 0;
    this.bytes = 0;
    this.identitiesAdded = 0;
    this.firstIngestMs = 0;
    this.openedMs = 0;
    this.monthStartMs = 0;
    this.monthEndMs = 0;
    this.isClosed = false;
    this.questions.length = 0;
    this.runTimesMs.length = 0;
    this.runCounts.length = 0;
  }

  /** Sets the month that the range belongs to: ClickHouse splits a block at the month of ingest_time. */
  openMonth(ingestTimeMs: number): void {
    const date = new Date(ingestTimeMs);
    this.monthStartMs = Date.UTC(date.getUTCFullYear(), date.getUTCMonth(), 1);
    this.monthEndMs = Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 1);
  }

  /** Notes the ingest time of a stored row. */
  noteRow(ingestTimeMs: number): void {
    const lastRun = this.runTimesMs.length - 1;
    if (lastRun >= 0 && this.runTimesMs[lastRun] === ingestTimeMs) {
      this.runCounts[lastRun] = (this.runCounts[lastRun] ?? 0) + 1;
    } else {
      this.runTimesMs.push(ingestTimeMs);
      this.runCounts.push(1);
    }
  }
}
