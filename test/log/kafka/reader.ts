// A sink for tests: starts a consumer, reads whatever it owns as it arrives, and keeps what it was told.

import assert from 'node:assert/strict';
import { RecordCursor } from '../../../src/event/record.ts';
import { openKafkaConsumer } from '../../../src/log/kafka/consumer.ts';
import type { KafkaTarget } from '../../../src/log/kafka/target.ts';
import type { LogConsumer, LogPosition } from '../../../src/log/log.ts';

export interface ReadRecord {
  readonly offset: number;
  readonly id: string;
  readonly type: string;
  readonly flags: number;
}

export class Reader {
  readonly consumer: LogConsumer;
  /** Positions of what is owned now. */
  readonly owned = new Map<number, LogPosition>();
  /** By partition: everything that was read, in the order in which it came. */
  readonly records = new Map<number, ReadRecord[]>();
  /** By partition: the next offset to be read. */
  readonly next = new Map<number, number>();
  readonly changes: string[] = [];
  /** Rounds of assignment, each of which may be of several partitions. */
  assignments = 0;
  revocations = 0;
  #isInRound = false;
  readonly #cursor = new RecordCursor();

  private constructor(consumer: LogConsumer) {
    this.consumer = consumer;
  }

  /** As the only sink thread of its process. `isReading` false: it only owns and commits. */
  static async start(
    target: KafkaTarget,
    settings: { shard?: number; shards?: number; isReading?: boolean } = {},
  ): Promise<Reader> {
    const { shard = 0, shards = 1, isReading = true } = settings;
    const reader = new Reader(
      await openKafkaConsumer(target, { index: 0, count: 1, shard, shards, node: `node-${shard}` }),
    );
    await reader.consumer.start({
      assigned: (partition, position) => {
        if (!reader.#isInRound) reader.assignments += 1;
        reader.#isInRound = true;
        reader.owned.set(partition, position);
        if (!reader.next.has(partition)) reader.next.set(partition, Math.max(position.offset, 0));
      },
      revoked: (partition) => {
        if (reader.#isInRound) reader.revocations += 1;
        reader.#isInRound = false;
        assert.equal(reader.owned.delete(partition), true);
      },
      dataArrived: () => {
        if (isReading) reader.#read();
      },
      changed: (reason) => reader.changes.push(reason),
    });
    return reader;
  }

  get partitions(): number[] {
    return [...this.owned.keys()].sort((a, b) => a - b);
  }

  /** Records read, all partitions together. */
  get count(): number {
    let count = 0;
    for (const records of this.records.values()) count += records.length;
    return count;
  }

  idsOf(partition: number): string[] {
    return (this.records.get(partition) ?? []).map(({ id }) => id);
  }

  offsetsOf(partition: number): number[] {
    return (this.records.get(partition) ?? []).map(({ offset }) => offset);
  }

  close(): Promise<void> {
    return this.consumer.close();
  }

  #read(): void {
    for (const partition of this.owned.keys()) {
      const records = this.records.get(partition) ?? [];
      this.records.set(partition, records);
      for (;;) {
        const from = this.next.get(partition) ?? 0;
        const after = this.consumer.read(partition, from, 1 << 20, (base, count, bytes) => {
          const cursor = this.#cursor;
          cursor.open(bytes);
          for (let offset = base; cursor.next(); offset += 1) {
            const id = bytes.toString('utf8', cursor.idStart, cursor.typeStart);
            const type = bytes.toString('utf8', cursor.typeStart, cursor.sourceStart);
            records.push({ offset, id, type, flags: cursor.flags });
            assert.ok(offset < base + count);
          }
        });
        assert.ok(after >= from);
        this.next.set(partition, after);
        if (after === from) break;
      }
    }
  }
}
