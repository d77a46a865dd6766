// Dead letters of the embedded log: records that the store refused, kept under epoch:partition:offset until they are
// dealt with. Written by sink threads, read by any thread that has the log open.

import type { DeadLetter, DeadLetterReader } from '../log.ts';
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

  async deadLetters(
    limit: number,
    after?: { readonly partition: number; readonly offset: number },
  ): Promise<DeadLetter[]> {
    const { letters, identity } = this.#environment;
    const { epoch } = identity;
    const start =
      after === undefined
        ? letterKey(epoch, 0, 0)
        : letterKey(epoch, after.partition, Math.min(after.offset + 1, Number.MAX_SAFE_INTEGER));
    return this.#environment.snapshot(() => {
      // All keys first: the cursor writes its keys where a read writes the one that it looks for.
      const keys = [...letters.getKeys({ start, end: lettersEnd(epoch), limit })];
      const found: DeadLetter[] = [];
      for (const key of keys) {
        const value = letters.getBinaryFast(key);
        if (value !== undefined) found.push(readLetter(key, value));
      }
      return found;
    });
  }

  /** Those that were parked last, the newest first: each partition parks in the order of its offsets. */
  async latest(limit: number): Promise<DeadLetter[]> {
    const { letters, identity } = this.#environment;
    const { epoch, partitions } = identity;
    const found = this.#environment.snapshot(() => {
      const newest: DeadLetter[] = [];
      for (let partition = 0; partition < partitions; partition += 1) {
        const start = letterKey(epoch, partition, Number.MAX_SAFE_INTEGER);
        const end = lettersStart(epoch, partition);
        for (const key of [...letters.getKeys({ start, end, reverse: true, limit })]) {
          const value = letters.getBinaryFast(key);
          if (value !== undefined) newest.push(readLetter(key, value));
        }
      }
      return newest;
    });
    return found.sort((a, b) => b.timeMs - a.timeMs).slice(0, limit);
  }

  async deadLetterCount(): Promise<number> {
    const { meta } = this.#environment;
    return this.#environment.snapshot(() => readCount(meta.getBinaryFast(metaKeys.letters)));
  }
}

/** Stores letters durably, all or none; a letter of the same partition and offset is replaced. */
export function parkLetters(environment: LogEnvironment, parked: readonly DeadLetter[]): void {
  if (parked.length === 0) return;
  const { letters, meta, identity } = environment;
  environment.transact(() => {
    let count = readCount(meta.getBinaryFast(metaKeys.letters));
    for (const letter of parked) {
      environment.assertPartition(letter.partition);
      const key = letterKey(identity.epoch, letter.partition, letter.offset);
      if (letters.getBinaryFast(key) === undefined) count += 1;
      letters.putSync(key, writeLetter(letter));
    }
    meta.putSync(metaKeys.letters, writeCount(count));
  });
}
