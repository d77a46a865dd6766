// The plan of `ess topics move`: even, keeps what a partition has, and moves no more than it must.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { copiesOf, type PlacedPartition, planMoves } from '../../src/cli/topics/plan.ts';

/** Partitions as any history may have left them, and brokers to be named: at least as many as replicas. */
const cases = (partitionsMax: number, brokersMax: number) =>
  fc.integer({ min: 1, max: 3 }).chain((replicas) =>
    fc.record({
      moving: fc
        .array(
          fc.shuffledSubarray(
            Array.from({ length: brokersMax + 1 }, (_, node) => node),
            {
              minLength: replicas,
              maxLength: replicas,
            },
          ),
          { minLength: 1, maxLength: partitionsMax },
        )
        .map((all) =>
          all.map((nodes, partition): PlacedPartition => ({ topic: 't', partition, replicas: nodes })),
        ),
      brokers: fc.shuffledSubarray(
        Array.from({ length: brokersMax + 1 }, (_, node) => node),
        { minLength: replicas },
      ),
    }),
  );

/** What the partitions have after the plan. */
function after(moving: readonly PlacedPartition[], brokers: readonly number[]): (readonly number[])[] {
  const moves = planMoves(moving, brokers);
  return moving.map(
    ({ partition, replicas }) => moves.find((move) => move.partition === partition)?.wanted ?? replicas,
  );
}

function spreadOf(brokers: readonly number[], nodes: readonly number[]): number {
  const counts = brokers.map((broker) => nodes.filter((node) => node === broker).length);
  return Math.max(...counts) - Math.min(...counts);
}

test('every partition keeps as many replicas, all different and on the brokers named', () => {
  fc.assert(
    fc.property(cases(24, 6), ({ moving, brokers }) => {
      for (const [index, wanted] of after(moving, brokers).entries()) {
        assert.equal(wanted.length, moving[index]?.replicas.length);
        assert.equal(new Set(wanted).size, wanted.length);
        assert.ok(wanted.every((node) => brokers.includes(node)));
      }
    }),
  );
});

test('no broker has two replicas more than another', () => {
  fc.assert(
    fc.property(cases(24, 6), ({ moving, brokers }) => {
      assert.ok(spreadOf(brokers, after(moving, brokers).flat()) <= 1);
    }),
  );
});

test('where every broker has all partitions, no broker leads two more than another', () => {
  fc.assert(
    fc.property(fc.array(fc.shuffledSubarray([0, 1, 2], { minLength: 3 }), { minLength: 1 }), (all) => {
      const moving = all.map((replicas, partition) => ({ topic: 't', partition, replicas }));
      const leaders = after(moving, [0, 1, 2]).map(([leader]) => leader ?? -1);
      assert.ok(spreadOf([0, 1, 2], leaders) <= 1);
      assert.equal(copiesOf(planMoves(moving, [0, 1, 2])), 0);
    }),
  );
});

test('what was carried out leaves nothing to be done', () => {
  fc.assert(
    fc.property(cases(16, 5), ({ moving, brokers }) => {
      const done = after(moving, brokers).map((replicas, partition) => ({ topic: 't', partition, replicas }));
      assert.deepEqual(planMoves(done, brokers), []);
    }),
  );
});

/** The fewest copies of all even assignments, by trying every one. */
function fewestCopies(moving: readonly PlacedPartition[], brokers: readonly number[]): number {
  const subsets = (count: number, start = 0): number[][] =>
    count === 0
      ? [[]]
      : brokers.flatMap((node, at) =>
          at < start ? [] : subsets(count - 1, at + 1).map((rest) => [node, ...rest]),
        );
  let fewest = Infinity;
  const load = new Map(brokers.map((node) => [node, 0]));
  const visit = (index: number, copies: number): void => {
    const placed = moving[index];
    if (placed === undefined) {
      const counts = [...load.values()];
      if (Math.max(...counts) - Math.min(...counts) <= 1) fewest = Math.min(fewest, copies);
      return;
    }
    for (const nodes of subsets(placed.replicas.length)) {
      for (const node of nodes) load.set(node, (load.get(node) ?? 0) + 1);
      visit(index + 1, copies + nodes.filter((node) => !placed.replicas.includes(node)).length);
      for (const node of nodes) load.set(node, (load.get(node) ?? 0) - 1);
    }
  };
  visit(0, 0);
  return fewest;
}

test('no even assignment moves fewer replicas', () => {
  fc.assert(
    fc.property(cases(4, 4), ({ moving, brokers }) => {
      assert.equal(copiesOf(planMoves(moving, brokers)), fewestCopies(moving, brokers));
    }),
  );
});

test('a plan for some partitions counts what the others have', () => {
  const staying = [0, 1, 2, 3].map((partition) => ({ topic: 't', partition, replicas: [0] }));
  const moving = [4, 5].map((partition) => ({ topic: 't', partition, replicas: [0] }));
  const moves = planMoves(moving, [0, 1], staying);
  assert.deepEqual(
    moves.map(({ wanted }) => wanted),
    [[1], [1]],
  );
});

test('a broker that comes takes its share, and one that goes gives all', () => {
  const moving = Array.from({ length: 12 }, (_, partition) => ({
    topic: 't',
    partition,
    replicas: [partition % 3, (partition + 1) % 3],
  }));
  assert.equal(copiesOf(planMoves(moving, [0, 1, 2])), 0);
  assert.equal(copiesOf(planMoves(moving, [0, 1, 2, 3])), 6);
  assert.equal(copiesOf(planMoves(moving, [0, 1])), 8);
});
