// Dead letters of the embedded log: records that the store refused, kept under epoch:partition:offset, with what was
// done about each. Written by sink threads, and by the main thread for a person; read by any thread that has the log open.

import { EssError } from '../../errors.ts';
import {
  decodeLetterState,
  encodeLetterState,
  type LetterChange,
  type LetterFilter,
  standingOf,
} from '../letter_state.ts';
import type { DeadLetter, DeadLetterReader, LetterPlace } from '../log.ts';
import type { LogEnvironment } from './environment.ts';
import {
  letterKey,
  lettersEnd,
  lettersStart,
  metaKeys,
  readCount,
  readLetter,
  writeCount,
  writeLetter,
} from './layout.ts';

/** Keys taken from the cursor before their letters are read. */
const keysAtATime = 256;
/** Of each partition, when the latest letters are looked for: among so many someone may have dealt with all. */
const latestLookedAtMax = 1000;

/** Reads letters through a thread's environment. The promises are the seam's: here every answer is immediate. */
export class EmbeddedDeadLetters implements DeadLetterReader {
  readonly #environment: LogEnvironment;

  constructor(environment: LogEnvironment) {
    this.#environment = environment;
  }

  async isParked(partition: number, offset: number): Promise<boolean> {
    const { letters, identity } = this.#environment;
    const key = letterKey(identity.epoch, partition, offset);
    return this.#environment.snapshot(() => letters.getBinaryFast(key) !== undefined);
  }

  async deadLetters(limit: number, after?: LetterPlace, which: LetterFilter = 'all'): Promise<DeadLetter[]> {
    const { letters, identity } = this.#environment;
    const { epoch } = identity;
    const start =
      after === undefined
        ? letterKey(epoch, 0, 0)
        : letterKey(epoch, after.partition, Math.min(after.offset + 1, Number.MAX_SAFE_INTEGER));
    return this.#environment.snapshot(() =>
      this.#take(letters.getKeys({ start, end: lettersEnd(epoch) }), limit, which),
    );
  }

  async deadLetter({ partition, offset }: LetterPlace): Promise<DeadLetter | null> {
    const key = letterKey(this.#environment.identity.epoch, partition, offset);
    return this.#environment.snapshot(() => this.#take([key], 1, 'all')[0] ?? null);
  }

  /** Those that were parked last and are still, the newest first: each partition parks in the order of its offsets. */
  async latest(limit: number): Promise<DeadLetter[]> {
    const { letters, identity } = this.#environment;
    const { epoch, partitions } = identity;
    const found = this.#environment.snapshot(() => {
      const newest: DeadLetter[] = [];
      for (let partition = 0; partition < partitions; partition += 1) {
        const start = letterKey(epoch, partition, Number.MAX_SAFE_INTEGER);
        const end = lettersStart(epoch, partition);
        const keys = letters.getKeys({ start, end, reverse: true, limit: latestLookedAtMax });
        newest.push(...this.#take(keys, limit, 'parked'));
      }
      return newest;
    });
    return found.sort((a, b) => b.timeMs - a.timeMs).slice(0, limit);
  }

  async deadLetterCount(which: LetterFilter = 'all'): Promise<number> {
    const { meta } = this.#environment;
    return this.#environment.snapshot(() => {
      const count = (key: Buffer): number => readCount(meta.getBinaryFast(key));
      if (which === 'all') return count(metaKeys.letters);
      if (which !== 'parked') return count(metaKeys[which]);
      return count(metaKeys.letters) - count(metaKeys.replayed) - count(metaKeys.discarded);
    });
  }

  /** The first `limit` letters of these keys that stand as asked. Within a snapshot. */
  #take(keys: Iterable<Uint8Array>, limit: number, which: LetterFilter): DeadLetter[] {
    const { letters, letterStates } = this.#environment;
    const found: DeadLetter[] = [];
    let some: Uint8Array[] = [];
    const read = (): void => {
      for (const key of some) {
        if (found.length >= limit) return;
        const written = letterStates.getBinaryFast(key);
        const state = written === undefined ? undefined : decodeLetterState(written);
        if (which !== 'all' && standingOf(state) !== which) continue;
        const value = letters.getBinaryFast(key);
        if (value === undefined) continue;
        const letter = readLetter(key, value);
        found.push(state === undefined ? letter : { ...letter, state });
      }
      some = [];
    };
    // Keys first, some at a time: the cursor writes its keys where a read writes the one that it looks for.
    for (const key of keys) {
      some.push(Buffer.from(key));
      if (some.length < keysAtATime) continue;
      read();
      if (found.length >= limit) return found;
    }
    read();
    return found;
  }
}

/** Stores letters durably, all or none; a letter of the same partition and offset is replaced. */
export function parkLetters(environment: LogEnvironment, parked: readonly DeadLetter[]): void {
  if (parked.length === 0) return;
  const { letters, meta, identity } = environment;
  const growthBytes = parked.reduce((sum, { record }) => sum + 2 * record.length, 0);
  environment.transact(() => {
    let count = readCount(meta.getBinaryFast(metaKeys.letters));
    for (const letter of parked) {
      environment.assertPartition(letter.partition);
      const key = letterKey(identity.epoch, letter.partition, letter.offset);
      if (letters.getBinaryFast(key) === undefined) count += 1;
      letters.putSync(key, writeLetter(letter));
    }
    meta.putSync(metaKeys.letters, writeCount(count));
  }, growthBytes);
}

/** Writes down what becomes of letters, durably, all or none. Throws `internal` for a letter that is not there. */
export function setLetterStates(environment: LogEnvironment, changes: readonly LetterChange[]): void {
  if (changes.length === 0) return;
  const { letters, letterStates, meta, identity } = environment;
  environment.transact(() => {
    for (const { partition, offset, state } of changes) {
      const key = letterKey(identity.epoch, partition, offset);
      if (letters.getBinaryFast(key) === undefined)
        throw new EssError('internal', `there is no dead letter at ${partition}:${offset}`);
      const written = letterStates.getBinaryFast(key);
      const before = standingOf(written === undefined ? undefined : decodeLetterState(written));
      const after = standingOf(state);
      letterStates.putSync(key, encodeLetterState(state));
      if (before === after) continue;
      for (const [standing, step] of [[before, -1] as const, [after, 1] as const]) {
        if (standing === 'parked') continue;
        const count = readCount(meta.getBinaryFast(metaKeys[standing]));
        meta.putSync(metaKeys[standing], writeCount(count + step));
      }
    }
  });
}
