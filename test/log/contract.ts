// What every driver of the log must do, as one suite. A driver's own test file runs it with a way to make a fixture.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { EssError } from '../../src/errors.ts';
import type { LetterState } from '../../src/log/letter_state.ts';
import type {
  AppendBatch,
  AppendResult,
  AssignmentListener,
  DeadLetter,
  DeadLetterReader,
  LogAppender,
  LogConsumer,
  LogPosition,
} from '../../src/log/log.ts';
import { until } from './eventually.ts';
import { idsOf, packed } from './records.ts';

/** A new, empty log with at least 4 partitions, and any number of handles on it. */
export interface LogFixture {
  openAppender(): Promise<LogAppender>;
  /** A consumer that comes to own every partition. At most one is open at a time. */
  openConsumer(): Promise<LogConsumer>;
  /** Closes what is still open and removes the log. */
  dispose(): Promise<void>;
}

/** A started consumer that knows its positions. */
export interface Started {
  readonly consumer: LogConsumer;
  readonly positions: Map<number, LogPosition>;
}

/** Starts a consumer and waits until it owns every partition. */
export async function started(consumer: LogConsumer): Promise<Started> {
  const positions = new Map<number, LogPosition>();
  const listener: AssignmentListener = {
    assigned: (partition, position) => positions.set(partition, position),
    revoked: (partition) => positions.delete(partition),
    dataArrived: () => {},
    changed: () => {},
  };
  await consumer.start(listener);
  await until(() => positions.size === consumer.partitions);
  return { consumer, positions };
}

/** The ids in [from, end) of a partition, in order; checks that the visits are contiguous and as long as they say. */
export async function readIds(
  consumer: LogConsumer,
  partition: number,
  from: number,
  end: number,
  maxBytes = 1 << 20,
): Promise<string[]> {
  const ids: string[] = [];
  let next = from;
  await until(() => {
    while (next < end) {
      let expected = next;
      const after = consumer.read(partition, next, maxBytes, (baseOffset, count, bytes) => {
        assert.equal(baseOffset, expected);
        const visited = idsOf(bytes);
        assert.equal(visited.length, count);
        ids.push(...visited);
        expected += count;
      });
      assert.equal(after, expected);
      if (after === next) return false;
      next = after;
    }
    return true;
  });
  assert.equal(next, end);
  return ids;
}

/** The offset in the result of an append that must have worked. */
export function offsetOf(result: AppendResult | undefined): number {
  assert.equal(typeof result, 'number');
  return typeof result === 'number' ? result : Number.NaN;
}

const isInternal = (error: unknown) => error instanceof EssError && error.code === 'internal';

/** Waits until a read throws `internal`: that an offset is not there may have to be asked first. */
async function rejectsToRead(consumer: LogConsumer, partition: number, from: number): Promise<void> {
  const never = () => assert.fail('nothing is there to visit');
  let thrown: unknown;
  await until(() => {
    try {
      assert.equal(consumer.read(partition, from, 1000, never), from);
    } catch (error) {
      thrown = error;
    }
    return thrown !== undefined;
  });
  assert.ok(isInternal(thrown), String(thrown));
}

/** A position that nobody has committed is 0 or -1. */
function isNone(position: LogPosition | undefined): boolean {
  return position !== undefined && position.offset <= 0 && position.metadata === '';
}

function batchOf(partition: number, ids: readonly string[], bodyBytes = 10): AppendBatch {
  return { partition, count: ids.length, bytes: packed(ids, bodyBytes) };
}

function letterOf(partition: number, offset: number, reason: string): DeadLetter {
  return { partition, offset, timeMs: 1_700_000_000_123, code: '27', reason, record: packed([reason], 20) };
}

/** Runs the suite; `name` is the driver's. */
export function logContract(name: string, make: () => Promise<LogFixture>): void {
  const withLog = (run: (fixture: LogFixture) => Promise<void>) => async () => {
    const fixture = await make();
    try {
      await run(fixture);
    } finally {
      await fixture.dispose();
    }
  };

  describe(`${name} log`, () => {
    it(
      'keeps order and gives contiguous offsets to appenders that interleave',
      withLog(async (fixture) => {
        const appenders = [
          await fixture.openAppender(),
          await fixture.openAppender(),
          await fixture.openAppender(),
        ];
        const [first] = appenders;
        assert.ok(first);
        const expected: string[][] = Array.from({ length: first.partitions }, () => []);
        let serial = 0;
        const nextId = () => {
          serial += 1;
          return `id-${serial}`;
        };
        const batch = fc.record({ partition: fc.nat(3), count: fc.integer({ min: 1, max: 20 }) });
        const call = fc.record({
          appender: fc.nat(appenders.length - 1),
          batches: fc.array(batch, { minLength: 1, maxLength: 5 }),
        });
        await fc.assert(
          fc.asyncProperty(fc.array(call, { maxLength: 12 }), async (calls) => {
            const settled = calls.map(async ({ appender, batches }) => {
              const made = batches.map(({ partition, count }) =>
                batchOf(
                  partition,
                  Array.from({ length: count }, () => nextId()),
                ),
              );
              const offsets = await appenders[appender]?.append(made);
              return { made, offsets };
            });
            for (const { made, offsets } of await Promise.all(settled)) {
              assert.equal(offsets?.length, made.length);
              for (const [i, { partition, bytes }] of made.entries()) {
                for (const [j, id] of idsOf(bytes).entries()) {
                  const offset: number = offsetOf(offsets?.[i]) + j;
                  const ids = expected[partition];
                  assert.ok(ids);
                  assert.equal(ids[offset], undefined);
                  ids[offset] = id;
                }
              }
            }
          }),
          { numRuns: 25 },
        );
        const { consumer } = await started(await fixture.openConsumer());
        for (const [partition, ids] of expected.entries()) {
          assert.deepEqual(await readIds(consumer, partition, 0, ids.length), [...ids]);
        }
        const states = await first.states();
        assert.deepEqual(
          states.map(({ start, end }) => ({ start, end })),
          expected.map((ids) => ({ start: 0, end: ids.length })),
        );
      }),
    );

    it(
      'reads from any offset, also from the middle of what was appended at once',
      withLog(async (fixture) => {
        const appender = await fixture.openAppender();
        const ids = Array.from({ length: 30 }, (_, i) => `id-${i}`);
        await appender.append([batchOf(1, ids.slice(0, 10))]);
        await appender.append([batchOf(1, ids.slice(10, 11)), batchOf(1, ids.slice(11))]);
        const { consumer } = await started(await fixture.openConsumer());
        for (let from = 0; from < ids.length; from += 1) {
          assert.deepEqual(await readIds(consumer, 1, from, ids.length), ids.slice(from));
        }
      }),
    );

    it(
      'stops near maxBytes, after one stored batch at least',
      withLog(async (fixture) => {
        const appender = await fixture.openAppender();
        const batch = packed(['x'], 5000);
        for (let i = 0; i < 20; i += 1) {
          await appender.append([{ partition: 0, count: 1, bytes: batch }]);
        }
        const { consumer } = await started(await fixture.openConsumer());
        await readIds(consumer, 0, 0, 20);
        let visited = 0;
        const visit = (_base: number, _count: number, bytes: Buffer) => {
          visited += bytes.length;
        };
        await until(() => consumer.read(0, 0, 1, visit) > 0);
        assert.equal(visited, batch.length);
        visited = 0;
        await until(() => consumer.read(0, 0, 5 * batch.length, visit) > 0);
        assert.ok(visited <= 6 * batch.length);
      }),
    );

    it(
      'refuses to read before the start and beyond the end, and reads nothing at the end',
      withLog(async (fixture) => {
        const appender = await fixture.openAppender();
        await appender.append([batchOf(2, ['a', 'b', 'c'])]);
        const { consumer } = await started(await fixture.openConsumer());
        await readIds(consumer, 2, 0, 3);
        const never = () => assert.fail('nothing is there to visit');
        assert.equal(consumer.read(2, 3, 1000, never), 3);
        assert.equal(consumer.read(0, 0, 1000, never), 0);
        for (const [partition, from] of [
          [2, 4],
          [0, 1],
          [2, -1],
        ] as const) {
          await rejectsToRead(consumer, partition, from);
        }
      }),
    );

    it(
      'keeps a position and its metadata for the next consumer',
      withLog(async (fixture) => {
        const appender = await fixture.openAppender();
        await appender.append([batchOf(0, ['a', 'b', 'c']), batchOf(3, ['d'])]);
        const one = await started(await fixture.openConsumer());
        assert.deepEqual([...one.positions.keys()].sort(), [...Array(appender.partitions).keys()]);
        for (const position of one.positions.values()) assert.ok(isNone(position));
        await Promise.all([
          one.consumer.commit(0, 1, 'intent 1'),
          one.consumer.commit(3, 1, '{"letter":"\u00e4"}'),
          one.consumer.commit(0, 2, 'intent 2'),
        ]);
        await one.consumer.commit(0, 2, 'intent 3');
        await one.consumer.close();
        const two = await started(await fixture.openConsumer());
        assert.deepEqual(two.positions.get(0), { offset: 2, metadata: 'intent 3' });
        assert.deepEqual(two.positions.get(3), { offset: 1, metadata: '{"letter":"\u00e4"}' });
        assert.ok(isNone(two.positions.get(1)));
        const committed = (await two.consumer.states()).map((state) => state.committed);
        assert.deepEqual(committed.slice(0, 4), [2, 0, 0, 1]);
        assert.deepEqual(await appender.committed([3, 1, 0]), [1, 0, 2]);
      }),
    );

    it(
      'lets a consumer own what it was assigned',
      withLog(async (fixture) => {
        const { consumer } = await started(await fixture.openConsumer());
        for (let partition = 0; partition < consumer.partitions; partition += 1)
          assert.equal(consumer.isOwned(partition), true);
        assert.equal(consumer.isOwned(consumer.partitions), false);
      }),
    );

    it(
      'tells the consumer when data arrives, and of what was there before it started',
      withLog(async (fixture) => {
        const appender = await fixture.openAppender();
        await appender.append([batchOf(0, ['a'])]);
        const consumer = await fixture.openConsumer();
        const next = Array.from({ length: consumer.partitions }, () => 0);
        const ids: string[] = [];
        await consumer.start({
          assigned: (partition, position) => {
            next[partition] = Math.max(position.offset, 0);
          },
          revoked: () => {},
          dataArrived: () => {
            for (const [partition, from] of next.entries()) {
              next[partition] = consumer.read(partition, from, 1 << 20, (_base, _count, bytes) => {
                ids.push(...idsOf(bytes));
              });
            }
          },
          changed: () => {},
        });
        await until(() => ids.length === 1);
        await appender.append([batchOf(3, ['b'])]);
        await until(() => ids.length === 2);
        await appender.append([batchOf(3, ['c'])]);
        await until(() => ids.length === 3);
        assert.deepEqual(ids, ['a', 'b', 'c']);
      }),
    );

    it(
      'lets a visitor ask for dead letters without losing what it visits',
      withLog(async (fixture) => {
        const appender = await fixture.openAppender();
        await appender.append([batchOf(0, ['a', 'b'], 300)]);
        const { consumer } = await started(await fixture.openConsumer());
        await consumer.park([letterOf(0, 0, 'a reason that is as long as a record header and more')]);
        let pending: Promise<boolean> | undefined;
        let ids: string[] = [];
        await until(
          () =>
            consumer.read(0, 0, 1000, (_base, _count, bytes) => {
              pending = consumer.isParked(0, 0);
              ids = idsOf(bytes);
            }) > 0,
        );
        assert.deepEqual(ids, ['a', 'b']);
        assert.equal(await pending, true);
      }),
    );

    it(
      'keeps dead letters in order, replaces a repeated one, and has them after a restart',
      withLog(async (fixture) => {
        const appender = await fixture.openAppender();
        const { consumer } = await started(await fixture.openConsumer());
        assert.equal(await consumer.deadLetterCount(), 0);
        assert.deepEqual(await consumer.deadLetters(10), []);
        const letters = [letterOf(0, 7, 'one'), letterOf(0, 300, 'two'), letterOf(2, 0, 'three')];
        await consumer.park([...letters].reverse());
        await consumer.park([]);
        await consumer.park([letterOf(0, 300, 'two')]);
        assert.equal(await consumer.deadLetterCount(), 3);
        assert.deepEqual(await consumer.deadLetters(10), letters);
        assert.deepEqual(await consumer.deadLetters(2), letters.slice(0, 2));
        assert.deepEqual(await consumer.deadLetters(10, { partition: 0, offset: 7 }), letters.slice(1));
        assert.deepEqual(await consumer.deadLetters(10, { partition: 1, offset: 9 }), letters.slice(2));
        assert.deepEqual(await consumer.deadLetters(10, { partition: 2, offset: 0 }), []);
        await consumer.close();
        const again = await started(await fixture.openConsumer());
        for (const reader of [again.consumer, appender]) {
          await until(async () => (await reader.deadLetterCount()) === 3);
          assert.deepEqual(await reader.deadLetters(10), letters);
          assert.equal(await reader.isParked(0, 300), true);
          assert.equal(await reader.isParked(0, 301), false);
          assert.equal(await reader.isParked(1, 300), false);
        }
      }),
    );

    it(
      'tells the dead letters that were parked last',
      withLog(async (fixture) => {
        const appender = await fixture.openAppender();
        assert.deepEqual(await appender.latestDeadLetters(5), []);
        const { consumer } = await started(await fixture.openConsumer());
        // Not in the order of partitions, and offset 0 too.
        const places = [
          [2, 5],
          [0, 0],
          [1, 7],
          [0, 9],
          [2, 6],
        ] as const;
        const letters: DeadLetter[] = [];
        for (const [i, [partition, offset]] of places.entries()) {
          const letter = { ...letterOf(partition, offset, `reason ${i}`), timeMs: 1_700_000_000_000 + i };
          letters.push(letter);
          await consumer.park([letter]);
        }
        await until(async () => (await appender.deadLetterCount()) === places.length);
        const newestFirst = letters.toReversed();
        assert.deepEqual(await appender.latestDeadLetters(1), newestFirst.slice(0, 1));
        assert.deepEqual(await appender.latestDeadLetters(3), newestFirst.slice(0, 3));
        assert.deepEqual(await appender.latestDeadLetters(10), newestFirst);
      }),
    );

    it(
      'keeps what was done about a dead letter, whoever parks it again, and counts by it',
      withLog(async (fixture) => {
        const appender = await fixture.openAppender();
        const { consumer } = await started(await fixture.openConsumer());
        const letters = [letterOf(0, 1, 'one'), letterOf(0, 2, 'two'), letterOf(2, 3, 'three')];
        const [one, two, three] = letters;
        assert.ok(one !== undefined && two !== undefined && three !== undefined);
        await consumer.park(letters);
        const identity = { id: 'an id', source: 'ä', digest: 'f'.repeat(64) };
        const replaying: LetterState = { type: 'replaying', timeMs: 1, partition: 2, from: 17, ...identity };
        const replayed: LetterState = { type: 'replayed', timeMs: 2, partition: 2, offset: 18 };
        const discarded: LetterState = { type: 'discarded', timeMs: 3, reason: 'by me: of no use' };
        const counts = (reader: DeadLetterReader): Promise<number[]> =>
          Promise.all(
            (['parked', 'replayed', 'discarded', 'all'] as const).map((which) =>
              reader.deadLetterCount(which),
            ),
          );
        await appender.setLetterStates([{ partition: 0, offset: 1, state: replaying }]);
        assert.deepEqual(await counts(appender), [3, 0, 0, 3]);
        assert.deepEqual(await appender.deadLetter(one), { ...one, state: replaying });
        await appender.setLetterStates([
          { partition: 0, offset: 1, state: replayed },
          { partition: 2, offset: 3, state: discarded },
        ]);
        // The sink had not come past it: it parks the same record once more.
        await consumer.park([one]);
        const late = await fixture.openAppender();
        for (const reader of [appender, consumer, late]) {
          await until(async () => (await reader.deadLetterCount('replayed')) === 1);
          assert.deepEqual(await counts(reader), [1, 1, 1, 3]);
          assert.deepEqual(await reader.deadLetters(9), [
            { ...one, state: replayed },
            two,
            { ...three, state: discarded },
          ]);
          assert.deepEqual(await reader.deadLetters(9, undefined, 'parked'), [two]);
          assert.deepEqual(await reader.deadLetters(9, two, 'discarded'), [{ ...three, state: discarded }]);
          assert.deepEqual(await reader.deadLetters(9, one, 'replayed'), []);
          assert.equal(await reader.isParked(0, 1), true);
          assert.equal(await reader.isParked(2, 3), true);
        }
        assert.deepEqual(await late.latestDeadLetters(9), [two]);
        assert.equal(await late.deadLetter({ partition: 1, offset: 1 }), null);
      }),
    );

    it(
      'never trims past a committed position',
      withLog(async (fixture) => {
        const appender = await fixture.openAppender();
        const ids = Array.from({ length: 40 }, (_, i) => `id-${i}`);
        for (const id of ids) await appender.append([batchOf(0, [id]), batchOf(1, [id])]);
        const { consumer } = await started(await fixture.openConsumer());
        await readIds(consumer, 0, 0, 40);
        await consumer.commit(0, 25, '');
        while ((await appender.trim()) > 0);
        const states = await appender.states();
        assert.ok((states[0]?.start ?? Number.NaN) <= 25);
        assert.equal(states[1]?.start, 0);
        assert.deepEqual(await readIds(consumer, 0, 25, 40), ids.slice(25));
        assert.deepEqual(await readIds(consumer, 1, 0, 40), ids);
      }),
    );

    it(
      'keeps partitions apart in one append over all of them',
      withLog(async (fixture) => {
        const appender = await fixture.openAppender();
        const partitions = [...Array(appender.partitions).keys()];
        const idsIn = (partition: number) =>
          Array.from({ length: partition + 1 }, (_, i) => `p${partition}-${i}`);
        for (let round = 0; round < 3; round += 1) {
          const offsets = await appender.append(
            partitions.map((partition) => batchOf(partition, idsIn(partition))),
          );
          assert.deepEqual(
            offsets,
            partitions.map((partition) => round * (partition + 1)),
          );
        }
        const { consumer } = await started(await fixture.openConsumer());
        for (const partition of partitions) {
          const ids = await readIds(consumer, partition, 0, 3 * (partition + 1));
          assert.deepEqual(ids, [...idsIn(partition), ...idsIn(partition), ...idsIn(partition)]);
        }
      }),
    );

    it(
      'appends nothing, a record of 1 MB and a group of 8 MB',
      withLog(async (fixture) => {
        const appender = await fixture.openAppender();
        assert.deepEqual(await appender.append([]), []);
        const large = packed(['large'], 1_000_000);
        assert.deepEqual(await appender.append([{ partition: 0, count: 1, bytes: large }]), [0]);
        const ids = Array.from({ length: 8000 }, (_, i) => `id-${i}`);
        const group = batchOf(0, ids, 1000);
        assert.ok(group.bytes.length > 8_000_000);
        assert.deepEqual(await appender.append([group]), [1]);
        const { consumer } = await started(await fixture.openConsumer());
        const received: Buffer[] = [];
        let next = 0;
        await until(() => {
          next = consumer.read(0, next, 1 << 20, (_base, _count, bytes) => {
            received.push(Buffer.from(bytes));
          });
          return next === 8001;
        });
        assert.ok(Buffer.concat(received).equals(Buffer.concat([large, group.bytes])));
      }),
    );
  });
}
