// The sink worker's handle on the embedded log. Partitions are dealt out by thread index and never move, so that
// there is nothing to rebalance; what is new is found by polling one number, or by being woken.

import { EssError } from '../../errors.ts';
import { skipRecords } from '../../event/record.ts';
import { faultPoint } from '../../faults.ts';
import type { LetterFilter } from '../letter_state.ts';
import type {
  AssignmentListener,
  DeadLetter,
  LetterPlace,
  LogConsumer,
  PartitionState,
  RecordVisitor,
} from '../log.ts';
import { EmbeddedDeadLetters, parkLetters } from './dead_letters.ts';
import type { LogEnvironment } from './environment.ts';
import { type BatchHead, batchesEnd, batchPrefix, positionKey, writePosition } from './layout.ts';

/** Batch keys fetched with one cursor: opening one costs as much as reading some tens of keys. */
const keysPerSeek = 64;

/** What the scratch buffer starts with; it grows to the largest value read. */
const scratchBytes = 64 * 1024;

interface PendingCommit {
  readonly partition: number;
  readonly offset: number;
  readonly metadata: string;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/** Which partitions a consumer owns, and how it hears of new records. */
export interface ConsumerPlacement {
  /** This thread's number, 0 to count - 1; it owns the partitions p with p % count === index. */
  readonly index: number;
  readonly count: number;
  /** Milliseconds between looks for new records; 0: only when woken. */
  readonly pollMs: number;
}

export class EmbeddedConsumer implements LogConsumer {
  readonly epoch: string;
  readonly partitions: number;
  readonly #environment: LogEnvironment;
  readonly #letters: EmbeddedDeadLetters;
  readonly #owned: number[] = [];
  /** End offset of each owned partition when it was last looked at. */
  readonly #seenEnds = new Map<number, number>();
  readonly #pollMs: number;
  #seenAppended = 0;
  #listener: AssignmentListener | undefined;
  #isNotifying = false;
  #timer: NodeJS.Timeout | undefined;
  #pendingCommits: PendingCommit[] = [];
  #isReading = false;
  #scratch = Buffer.allocUnsafeSlow(scratchBytes);

  constructor(environment: LogEnvironment, { index, count, pollMs }: ConsumerPlacement) {
    this.#environment = environment;
    this.#letters = new EmbeddedDeadLetters(environment);
    this.#pollMs = pollMs;
    this.epoch = environment.identity.epoch;
    this.partitions = environment.identity.partitions;
    for (let partition = index; partition < this.partitions; partition += count) this.#owned.push(partition);
  }

  async start(listener: AssignmentListener): Promise<void> {
    if (this.#listener !== undefined) throw new EssError('internal', 'the consumer was started twice');
    this.#listener = listener;
    const positions = this.#environment.snapshot(() => {
      this.#hasGrown();
      return this.#owned.map((partition) => this.#environment.position(partition));
    });
    const hasData = this.#owned.some(
      (partition, i) => (this.#seenEnds.get(partition) ?? 0) > (positions[i]?.offset ?? 0),
    );
    this.#notify(() => {
      for (const [i, partition] of this.#owned.entries()) {
        const position = positions[i];
        if (position !== undefined) listener.assigned(partition, position);
      }
      if (hasData) listener.dataArrived();
    });
    if (this.#pollMs > 0) this.#timer = setInterval(() => this.#poll(), this.#pollMs).unref();
  }

  /** Says that there may be new records: the listener hears of it at once. Does nothing before `start`. */
  wake(): void {
    const listener = this.#listener;
    if (listener === undefined) return;
    if (this.#isNotifying) {
      queueMicrotask(() => this.wake());
      return;
    }
    this.#notify(() => listener.dataArrived());
  }

  read(partition: number, from: number, maxBytes: number, visit: RecordVisitor): number {
    this.#environment.assertPartition(partition);
    if (this.#isReading) throw new EssError('internal', 'read was called by a visitor of read');
    this.#isReading = true;
    try {
      return this.#environment.snapshot(() => this.#visitBatches(partition, from, maxBytes, visit));
    } finally {
      this.#isReading = false;
    }
  }

  /** Partitions never move here: one process at a time holds the sink's place. */
  isOwned(partition: number): boolean {
    return this.#owned.includes(partition);
  }

  commit(partition: number, offset: number, metadata: string): Promise<void> {
    return new Promise((resolve, reject) => {
      // Commits of one turn, as after a round over several partitions, share one fsync.
      if (this.#pendingCommits.length === 0) queueMicrotask(() => this.#flushCommits());
      this.#pendingCommits.push({ partition, offset, metadata, resolve, reject });
    });
  }

  async park(letters: readonly DeadLetter[]): Promise<void> {
    parkLetters(this.#environment, letters);
    faultPoint('log.park.durable');
  }

  async states(): Promise<PartitionState[]> {
    return this.#environment.states();
  }

  isParked(partition: number, offset: number): Promise<boolean> {
    return this.#letters.isParked(partition, offset);
  }

  deadLetters(limit: number, after?: LetterPlace, which?: LetterFilter): Promise<DeadLetter[]> {
    return this.#letters.deadLetters(limit, after, which);
  }

  deadLetterCount(which?: LetterFilter): Promise<number> {
    return this.#letters.deadLetterCount(which);
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    this.#listener = undefined;
    this.#flushCommits();
    await this.#environment.close();
  }

  /** One get when nothing has changed. */
  #poll(): void {
    const listener = this.#listener;
    if (listener === undefined || this.#isNotifying) return;
    let hasGrown: boolean;
    try {
      hasGrown = this.#environment.snapshot(() => this.#hasGrown());
    } catch (error) {
      // Behind a closed gate this thread is about to be ended.
      if (error instanceof EssError && error.code === 'stopping') return;
      throw error;
    }
    if (hasGrown) this.#notify(() => listener.dataArrived());
  }

  /** Within a snapshot: true if the end of an owned partition has moved since this was asked last. */
  #hasGrown(): boolean {
    const { appended } = this.#environment.totals();
    if (appended === this.#seenAppended) return false;
    this.#seenAppended = appended;
    let hasGrown = false;
    for (const partition of this.#owned) {
      const { end } = this.#environment.partition(partition);
      if (end === this.#seenEnds.get(partition)) continue;
      this.#seenEnds.set(partition, end);
      hasGrown = true;
    }
    return hasGrown;
  }

  /** Calls the listener, keeping other calls away meanwhile. */
  #notify(call: () => void): void {
    this.#isNotifying = true;
    try {
      call();
    } finally {
      this.#isNotifying = false;
    }
  }

  #visitBatches(partition: number, from: number, maxBytes: number, visit: RecordVisitor): number {
    const { start, end } = this.#environment.partition(partition);
    if (from < start) {
      throw new EssError(
        'internal',
        `partition ${partition} starts at ${start}: offsets from ${from} are gone`,
      );
    }
    if (from > end) throw new EssError('internal', `partition ${partition} ends at ${end}, before ${from}`);
    let next = from;
    let visited = 0;
    while (next < end && visited < maxBytes) {
      for (const head of this.#heads(partition, next)) {
        const bytes = this.#load(head);
        const skipped = next - head.base;
        const view = skipped === 0 ? bytes : bytes.subarray(recordStart(bytes, skipped));
        visit(next, head.count - skipped, view);
        next = head.base + head.count;
        visited += view.length;
        // A visitor may have moved the snapshot on, and with it the end: the next read gets there.
        if (visited >= maxBytes || next >= end) break;
      }
    }
    return next;
  }

  /** The batch that holds offset `from` and some that follow it; checks that none is missing in between. */
  #heads(partition: number, from: number): BatchHead[] {
    const start = batchPrefix(partition, from);
    const heads = this.#environment.heads({ start, end: batchesEnd(partition), limit: keysPerSeek });
    if (heads[0]?.base !== from) {
      // `from` lies within a batch: the last one that begins below it.
      const end = batchPrefix(partition, 0);
      heads.unshift(...this.#environment.heads({ start, end, limit: 1, reverse: true }));
    }
    let expected = from;
    for (const [i, head] of heads.entries()) {
      const follows = i === 0 ? head.base <= from && from < head.base + head.count : head.base === expected;
      if (!follows) throw gap(partition, expected);
      expected = head.base + head.count;
    }
    if (heads.length === 0) throw gap(partition, from);
    return heads;
  }

  /** Copies a batch out of lmdb, so that the visitor may call anything. Valid until the next load. */
  #load(head: BatchHead): Buffer {
    const value = this.#environment.records(head);
    if (value === undefined) throw gap(head.partition, head.base);
    if (value.length !== head.bytes) {
      throw new EssError(
        'internal',
        `the batch of partition ${head.partition} at ${head.base} has ${value.length} bytes instead of ${head.bytes}`,
      );
    }
    if (this.#scratch.length < head.bytes) this.#scratch = Buffer.allocUnsafeSlow(head.bytes);
    this.#scratch.set(value);
    return this.#scratch.subarray(0, head.bytes);
  }

  #flushCommits(): void {
    const pending = this.#pendingCommits;
    if (pending.length === 0) return;
    this.#pendingCommits = [];
    const refused = new Map<PendingCommit, EssError>();
    try {
      this.#environment.transact(() => {
        for (const commit of pending) {
          const error = this.#putPosition(commit);
          if (error !== undefined) refused.set(commit, error);
        }
      });
    } catch (error) {
      for (const commit of pending) commit.reject(error);
      return;
    }
    faultPoint('log.commit.durable');
    for (const commit of pending) {
      const error = refused.get(commit);
      if (error === undefined) commit.resolve();
      else commit.reject(error);
    }
  }

  /** Within a transaction: sets the position, or says why not. */
  #putPosition({ partition, offset, metadata }: PendingCommit): EssError | undefined {
    if (!this.#owned.includes(partition)) {
      return new EssError('internal', `partition ${partition} is not owned by this consumer`);
    }
    const { start, end } = this.#environment.partition(partition);
    if (!Number.isSafeInteger(offset) || offset < start || offset > end) {
      return new EssError(
        'internal',
        `position ${offset} of partition ${partition} is not between ${start} and ${end}`,
      );
    }
    this.#environment.positions.putSync(positionKey(partition), writePosition({ offset, metadata }));
    return undefined;
  }
}

function recordStart(bytes: Buffer, skipped: number): number {
  try {
    return skipRecords(bytes, skipped);
  } catch (error) {
    throw new EssError('internal', 'a batch of the log is damaged', { cause: error });
  }
}

function gap(partition: number, offset: number): EssError {
  return new EssError('internal', `partition ${partition} has a gap at ${offset}`);
}
