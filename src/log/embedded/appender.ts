// The producer worker's handle on the embedded log. It blocks its thread for the time of an fsync (about 0.6 ms),
// which is what groups commits: requests gather in the ring meanwhile and become the next append.

import { EssError } from '../../errors.ts';
import { RecordCursor, skipRecords } from '../../event/record.ts';
import { faultPoint } from '../../faults.ts';
import type { LetterChange, LetterFilter } from '../letter_state.ts';
import type { AppendBatch, DeadLetter, LetterPlace, LogAppender, PartitionState } from '../log.ts';
import { EmbeddedDeadLetters, setLetterStates } from './dead_letters.ts';
import type { EmbeddedLogOptions, LogEnvironment } from './environment.ts';
import { batchKey, heldBytes, type StoredPartition, valueBytesMax } from './layout.ts';
import { type TrimBounds, trimOnce } from './trim.ts';

/** Pages are filled by half at worst, and those above them are written anew. */
const growthFactor = 2;
/**
 * What an append leaves free on the disk beside what it may take itself. One that goes into pages which were trimmed just
 * before may take of it: as a rule it does not make the file larger.
 */
const freshSpareBytes = 4 * 1024 * 1024;

/** A run of whole records that becomes one value. */
interface Piece {
  readonly count: number;
  readonly bytes: Buffer;
}

export class EmbeddedAppender implements LogAppender {
  readonly epoch: string;
  readonly partitions: number;
  /** One transaction at a time writes to an environment. */
  readonly appendsMax = 1;
  readonly #environment: LogEnvironment;
  readonly #options: EmbeddedLogOptions;
  readonly #letters: EmbeddedDeadLetters;

  constructor(environment: LogEnvironment, options: EmbeddedLogOptions) {
    this.#environment = environment;
    this.#options = options;
    this.#letters = new EmbeddedDeadLetters(environment);
    this.epoch = environment.identity.epoch;
    this.partitions = environment.identity.partitions;
  }

  async append(batches: readonly AppendBatch[]): Promise<number[]> {
    if (batches.length === 0) return [];
    const pieces = batches.map((batch) => this.#pieces(batch));
    let needed = 0;
    for (const run of pieces) for (const piece of run) needed += heldBytes(piece.bytes.length);
    const offsets = this.#appendOrMakeRoom(batches, pieces, needed);
    if (offsets !== undefined) return offsets;
    throw new EssError(
      'log_unavailable',
      `the log holds its ${this.#options.bytesMax} bytes of unconsumed events`,
    );
  }

  async states(): Promise<PartitionState[]> {
    return this.#environment.states();
  }

  async committed(partitions: readonly number[]): Promise<number[]> {
    const states = this.#environment.states();
    return partitions.map((partition) => states[partition]?.committed ?? 0);
  }

  async trim(): Promise<number> {
    // Another process may have been killed while it read; its snapshot would keep everything freed since.
    this.#environment.expireReaders();
    return trimOnce(this.#environment, {
      beforeMs: Date.now() - this.#options.retentionMs,
      bytesKept: this.#options.retentionBytes,
    });
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

  deadLetter(place: LetterPlace): Promise<DeadLetter | null> {
    return this.#letters.deadLetter(place);
  }

  async setLetterStates(changes: readonly LetterChange[]): Promise<void> {
    setLetterStates(this.#environment, changes);
  }

  latestDeadLetters(limit: number): Promise<DeadLetter[]> {
    return this.#letters.latest(limit);
  }

  close(): Promise<void> {
    return this.#environment.close();
  }

  /** Appends, and where there is no room once more after trimming what is consumed; undefined at the byte bound. */
  #appendOrMakeRoom(
    batches: readonly AppendBatch[],
    pieces: readonly (readonly Piece[])[],
    needed: number,
  ): number[] | undefined {
    let hasTrimmed: boolean;
    try {
      const offsets = this.#tryAppend(batches, pieces, needed, freshSpareBytes);
      if (offsets !== undefined) return offsets;
      const held = this.#environment.snapshot(() => this.#environment.totals().bytes);
      hasTrimmed = this.#makeRoom(held + needed - this.#options.bytesMax);
    } catch (error) {
      if (!(error instanceof EssError && error.code === 'log_unavailable')) throw error;
      // Most likely the disk is full, or nearly so. lmdb may write to pages that are free since the transaction before the last
      // one, so what was freed last is not usable until something is committed after it; and no append could be.
      hasTrimmed = this.#makeRoom(needed);
      this.#environment.transact(() => this.#environment.putTotals(this.#environment.totals()));
    }
    return this.#tryAppend(batches, pieces, needed, hasTrimmed ? 0 : freshSpareBytes);
  }

  /** Appends everything in one transaction, or gives undefined if it does not fit under the byte bound. */
  #tryAppend(
    batches: readonly AppendBatch[],
    pieces: readonly (readonly Piece[])[],
    needed: number,
    spare: number,
  ): number[] | undefined {
    const environment = this.#environment;
    const timeMs = Date.now();
    const offsets = environment.transact(
      () => {
        const totals = environment.totals();
        if (totals.bytes + needed > this.#options.bytesMax) return undefined;
        const states = new Map<number, StoredPartition>();
        const assigned = batches.map(({ partition, count }, index) => {
          const state = states.get(partition) ?? environment.partition(partition);
          states.set(partition, state);
          const first = state.end;
          for (const piece of pieces[index] ?? []) {
            const bytes = piece.bytes.length;
            const key = batchKey({ partition, base: state.end, count: piece.count, bytes, timeMs });
            environment.batches.putSync(key, piece.bytes);
            state.end += piece.count;
            state.bytes += heldBytes(bytes);
          }
          if (state.end !== first + count) throw new EssError('internal', 'a batch was cut wrongly');
          totals.appended += count;
          return first;
        });
        totals.bytes += needed;
        for (const [partition, state] of states) environment.putPartition(partition, state);
        environment.putTotals(totals);
        faultPoint('log.append.written');
        return assigned;
      },
      spare + growthFactor * needed,
    );
    faultPoint('log.append.durable');
    return offsets;
  }

  /**
   * Trims this many bytes of what is consumed before its time, or all of it: better than refusing events. False if there
   * was nothing to trim.
   */
  #makeRoom(bytes: number): boolean {
    const bounds: TrimBounds = { beforeMs: Number.POSITIVE_INFINITY, bytesKept: 0 };
    let missing = bytes;
    while (missing > 0) {
      const freed = trimOnce(this.#environment, bounds);
      if (freed === 0) break;
      missing -= freed;
    }
    return missing < bytes;
  }

  /** Cuts a batch into values between records, and checks that it holds as many records as it says. */
  #pieces({ partition, count, bytes }: AppendBatch): Piece[] {
    this.#environment.assertPartition(partition);
    if (bytes.length <= valueBytesMax) {
      if (count < 1 || recordsEnd(bytes, count) !== bytes.length) throw miscounted(count);
      return [{ count, bytes }];
    }
    const pieces: Piece[] = [];
    const cursor = new RecordCursor();
    cursor.open(bytes);
    let start = 0;
    let held = 0;
    let counted = 0;
    while (cursor.next()) {
      if (cursor.end - start > valueBytesMax && held > 0) {
        pieces.push({ count: held, bytes: bytes.subarray(start, cursor.start) });
        start = cursor.start;
        held = 0;
      }
      held += 1;
      counted += 1;
    }
    if (counted !== count) throw miscounted(count);
    pieces.push({ count: held, bytes: bytes.subarray(start) });
    return pieces;
  }
}

/** Where `count` packed records end; -1 if there are fewer. */
function recordsEnd(bytes: Buffer, count: number): number {
  try {
    return skipRecords(bytes, count);
  } catch (error) {
    if (error instanceof RangeError) return -1;
    throw error;
  }
}

function miscounted(count: number): EssError {
  return new EssError('internal', `a batch does not hold the ${count} records that it says`);
}
