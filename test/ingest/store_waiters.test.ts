// Waiting for the store: a request is answered once, when all its events are stored, or at its deadline.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { EssError } from '../../src/errors.ts';
import type { BatchRequest, SingleRequest } from '../../src/ingest/requests.ts';
import { StoreWaiters } from '../../src/ingest/store_waiters.ts';
import type { DeadLetterReader } from '../../src/log/log.ts';
import { createBoard, PartitionBoard } from '../../src/stats/board.ts';
import { AnswerBox } from './answer_box.ts';

const partitions = 3;

interface Outcome {
  readonly resolve: (count: number) => void;
  readonly reject: (error: EssError) => void;
}

/** Dead letters at these places, as partition:offset. */
function lettersAt(places: readonly string[]): DeadLetterReader {
  return {
    isParked: async (partition, offset) => places.includes(`${partition}:${offset}`),
    deadLetters: async () => [],
    deadLetterCount: async () => places.length,
  };
}

function singleOf(slot: number, partition: number): SingleRequest {
  return {
    kind: 'single',
    slot,
    generation: slot,
    ack: 'store',
    takenUs: 0,
    startedUs: 0,
    id: `id-${slot}`,
    partition,
    index: 0,
  };
}

function batchOf(slot: number, places: readonly number[]): BatchRequest {
  return {
    kind: 'batch',
    slot,
    generation: slot,
    ack: 'store',
    takenUs: 0,
    startedUs: 0,
    wantsIds: true,
    errors: [],
    indexes: places.map((_, i) => i),
    ids: places.map((_, i) => `id-${slot}-${i}`),
    partitions: [...places],
    positions: places.map(() => 0),
  };
}

function setUp(
  parked: readonly string[] = [],
  countMax = 1000,
): {
  readonly board: PartitionBoard;
  readonly box: AnswerBox;
  readonly waiters: StoreWaiters;
} {
  const board = new PartitionBoard(createBoard(partitions));
  const box = new AnswerBox(1 << 20);
  return {
    board,
    box,
    waiters: new StoreWaiters(partitions, board, box.answers, lettersAt(parked), countMax),
  };
}

describe('requests that wait for the store', () => {
  test('past their bound they are answered at once, with what was reached', async () => {
    const { box, waiters } = setUp([], 2);
    for (let slot = 1; slot <= 3; slot += 1) waiters.add(singleOf(slot, 0), [slot - 1], 1000);
    const answers = box.take();
    assert.deepEqual(
      answers.map(({ slot, status }) => [slot, status]),
      [[3, 503]],
    );
    assert.equal(waiters.count, 2);
  });

  test('each is answered once: when its last event is stored, or at its deadline, whichever is seen first', async () => {
    const request = fc.record({
      places: fc.array(fc.nat({ max: partitions - 1 }), { minLength: 1, maxLength: 4 }),
      isBatch: fc.boolean(),
      waitUs: fc.constant(50),
    });
    const step = fc.oneof(
      fc.record({ kind: fc.constant('add' as const), request }),
      fc.record({
        kind: fc.constant('store' as const),
        partition: fc.nat({ max: partitions - 1 }),
        count: fc.integer({ min: 1, max: 3 }),
      }),
      fc.record({ kind: fc.constant('pass' as const), us: fc.integer({ min: 1, max: 40 }) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
        const { board, box, waiters } = setUp();
        const ends = Array<number>(partitions).fill(0);
        const stored = Array<number>(partitions).fill(0);
        let nowUs = 0;
        /** What must still be answered: the offsets by partition, and the deadline. */
        const open = new Map<number, { readonly offsets: [number, number][]; readonly deadlineUs: number }>();
        let slot = 0;
        for (const action of steps) {
          if (action.kind === 'add') {
            slot += 1;
            const { isBatch, waitUs } = action.request;
            const places = isBatch ? action.request.places : action.request.places.slice(0, 1);
            const offsets = places.map((partition): [number, number] => {
              const offset = ends[partition] ?? 0;
              ends[partition] = offset + 1;
              return [partition, offset];
            });
            const waiting = isBatch ? batchOf(slot, places) : singleOf(slot, places[0] ?? 0);
            waiters.add(
              waiting,
              offsets.map(([, offset]) => offset),
              nowUs + waitUs,
            );
            open.set(slot, { offsets, deadlineUs: nowUs + waitUs });
          } else if (action.kind === 'store') {
            const { partition, count } = action;
            stored[partition] = Math.min(ends[partition] ?? 0, (stored[partition] ?? 0) + count);
            board.set(partition, 'stored', stored[partition]);
          } else nowUs += action.us;
          await waiters.settle(nowUs);
          box.answers.flush();
          const expected = new Map<number, number>();
          for (const [waiting, { offsets, deadlineUs }] of open) {
            const isStored = offsets.every(([partition, offset]) => offset < (stored[partition] ?? 0));
            if (isStored) expected.set(waiting, 200);
            else if (deadlineUs <= nowUs) expected.set(waiting, 503);
          }
          const answered = new Map(box.take().map(({ slot: waiting, status }) => [waiting, status]));
          assert.deepEqual(answered, expected);
          for (const waiting of answered.keys()) open.delete(waiting);
          assert.equal(waiters.count, open.size);
          assert.equal(waiters.hasProgress(), false);
        }
        waiters.abandon();
        box.answers.flush();
        assert.deepEqual(new Set(box.take().map(({ slot: waiting }) => waiting)), new Set(open.keys()));
        assert.equal(waiters.count, 0);
      }),
    );
  });

  test('an event that was parked is answered so, alone and within a batch', async () => {
    const { board, box, waiters } = setUp(['1:7']);
    waiters.add(singleOf(1, 1), [7], 1000);
    waiters.add(singleOf(2, 1), [8], 1000);
    waiters.add(batchOf(3, [0, 1, 1]), [0, 7, 8], 1000);
    assert.equal(waiters.hasProgress(), false);
    board.set(0, 'stored', 1);
    board.set(1, 'stored', 9);
    assert.equal(waiters.hasProgress(), true);
    await waiters.settle(0);
    box.answers.flush();
    const bySlot = new Map(box.take().map((answer) => [answer.slot, answer]));
    const bodyOf = (slot: number): Record<string, unknown> =>
      JSON.parse(bySlot.get(slot)?.body ?? '') as Record<string, unknown>;
    assert.equal(bySlot.get(1)?.status, 422);
    assert.deepEqual(
      [bodyOf(1)['code'], bodyOf(1)['partition'], bodyOf(1)['offset'], bodyOf(1)['id']],
      ['parked', 1, 7, 'id-1'],
    );
    assert.equal(bySlot.get(2)?.status, 200);
    assert.deepEqual(bodyOf(2), { id: 'id-2', ack: 'store', partition: 1, offset: 8 });
    assert.equal(bySlot.get(3)?.status, 200);
    assert.deepEqual(
      [bodyOf(3)['accepted'], bodyOf(3)['rejected'], bodyOf(3)['ids']],
      [2, 1, ['id-3-0', null, 'id-3-2']],
    );
  });

  test('a log that does not tell of its dead letters holds up nobody, and is asked again', async () => {
    const board = new PartitionBoard(createBoard(partitions));
    const box = new AnswerBox(1 << 20);
    const counts: Outcome[] = [];
    const letters: DeadLetterReader = {
      ...lettersAt([]),
      deadLetterCount: () => {
        return new Promise((resolve, reject) => {
          counts.push({ resolve, reject });
        });
      },
    };
    const waiters = new StoreWaiters(partitions, board, box.answers, letters, 1000);
    const told = (): number[][] => {
      box.answers.flush();
      return box.take().map(({ slot, status }) => [slot, status]);
    };
    waiters.add(singleOf(1, 0), [0], 100);
    waiters.add(batchOf(2, [0, 1]), [1, 0], 200);
    board.set(0, 'stored', 2);
    board.set(1, 'stored', 1);
    const first = waiters.settle(0);
    waiters.add(singleOf(3, 2), [0], 300);
    board.set(2, 'stored', 1);
    const second = waiters.settle(50);
    assert.deepEqual(told(), []);
    // Stored, but perhaps as a dead letter: at its deadline that is still not known.
    const third = waiters.settle(150);
    assert.deepEqual(told(), [[1, 503]]);
    counts[0]?.reject(new EssError('log_unavailable', 'no broker answers'));
    counts[1]?.resolve(0);
    await Promise.all([first, second, third]);
    assert.deepEqual(told(), [[3, 200]]);
    assert.equal(waiters.count, 1);
    const fourth = waiters.settle(160);
    counts[2]?.resolve(0);
    await fourth;
    assert.deepEqual(told(), [[2, 200]]);
    assert.equal(waiters.count, 0);
  });

  test('a late single event says where it is, a late batch lists its events, and both say when to come back', async () => {
    const { box, waiters } = setUp();
    waiters.add(singleOf(1, 2), [5], 100);
    waiters.add(batchOf(2, [0, 1]), [3, 4], 100);
    await waiters.settle(100);
    box.answers.flush();
    const [single, batch] = box.take();
    const { code, reached, id, partition, offset } = JSON.parse(single?.body ?? '') as Record<
      string,
      unknown
    >;
    assert.deepEqual([code, reached, id, partition, offset], ['outcome_unknown', 'log', 'id-1', 2, 5]);
    const { errors } = JSON.parse(batch?.body ?? '') as {
      readonly errors: readonly { readonly code: string; readonly id: string }[];
    };
    assert.deepEqual(
      errors.map((error) => [error.code, error.id]),
      [
        ['outcome_unknown', 'id-2-0'],
        ['outcome_unknown', 'id-2-1'],
      ],
    );
    for (const answer of [single, batch]) {
      assert.equal(answer?.status, 503);
      assert.ok((answer?.retryAfterS ?? 0) > 0);
    }
  });
});
