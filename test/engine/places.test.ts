// Which node each sink thread owns. Invariant: processes that are numbered one after the other leave no node without an
// owner as soon as they have as many threads as there are nodes, and spread over the nodes as evenly as can be.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { automaticOrdinal } from '../../src/config/ordinal.ts';
import { sinkPlaces } from '../../src/engine/places.ts';
import type { StoreLayout } from '../../src/store/store.ts';

const layoutOf = (replicas: readonly number[]): StoreLayout => ({
  shards: replicas.map((count) => Array.from({ length: count }, () => ({ kind: 'embedded', path: '' }))),
});

/** How many threads own each node, by "shard/replica". */
function ownersOf(layout: StoreLayout, ordinals: readonly number[], count: number): Map<string, number> {
  const owners = new Map(
    layout.shards.flatMap((targets, shard) =>
      targets.map((_, replica): [string, number] => [`${shard}/${replica}`, 0]),
    ),
  );
  for (const ordinal of ordinals)
    for (const { shard, replica } of sinkPlaces(layout, ordinal, count)) {
      const name = `${shard}/${replica}`;
      assert.ok(owners.has(name), `there is a node ${name}`);
      owners.set(name, (owners.get(name) ?? 0) + 1);
    }
  return owners;
}

const consecutive = (from: number, count: number): number[] =>
  Array.from({ length: count }, (_, i) => from + i);

test('processes that are numbered one after the other spread over all nodes evenly', () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 3 }), { minLength: 1, maxLength: 8 }),
      fc.integer({ min: 1, max: 8 }),
      fc.integer({ min: 1, max: 20 }),
      fc.integer({ min: 0, max: 70_000 }),
      (replicas, count, processes, from) => {
        const owners = [...ownersOf(layoutOf(replicas), consecutive(from, processes), count).values()];
        assert.ok(Math.max(...owners) - Math.min(...owners) <= 1);
      },
    ),
  );
});

test('four processes of one thread own the four nodes of two shards of two replicas, shards first', () => {
  const layout = layoutOf([2, 2]);
  const places = [0, 1, 2, 3].flatMap((ordinal) => sinkPlaces(layout, ordinal, 1));
  assert.deepEqual(
    places.map(({ shard, replica }) => [shard, replica]),
    [
      [0, 0],
      [1, 0],
      [0, 1],
      [1, 1],
    ],
  );
});

test('a process has the same places for as long as it lives', () => {
  const layout = layoutOf([2, 2, 2]);
  assert.deepEqual(sinkPlaces(layout, 41, 3), sinkPlaces(layout, 41, 3));
});

test('hosts and ports that follow each other make numbers that do', () => {
  assert.deepEqual(
    ['ess-sink-0', 'ess-sink-1', 'ess-sink-2'].map((host) => automaticOrdinal(host, 8080) - 8080),
    [0, 1, 2],
  );
  assert.deepEqual(
    [9001, 9002].map((port) => automaticOrdinal('box', port) - automaticOrdinal('box', 9000)),
    [1, 2],
  );
});

test('whatever the hosts are called, the number is one that the option takes, and a few dozen of them own every node', () => {
  fc.assert(
    fc.property(fc.string(), fc.nat(65_535), (host, port) => {
      const ordinal = automaticOrdinal(host, port);
      assert.ok(Number.isInteger(ordinal) && ordinal >= 0 && ordinal <= 65_535);
    }),
  );
  // As a Deployment of Kubernetes names its pods.
  const ordinals = Array.from({ length: 36 }, (_, i) =>
    automaticOrdinal(`ess-sink-7d9f-${(i * 7919 + 4242).toString(36)}q`, 8080),
  );
  for (const owners of ownersOf(layoutOf([2, 2]), ordinals, 1).values()) assert.ok(owners > 0);
});
