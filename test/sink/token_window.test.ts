// For how long a token is taken to be known. Invariant: in that time nothing can push it out of the window.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type BlockRateLimits, blocksPerSecondMax, tokenKnownMs } from '../../src/sink/token_window.ts';
import { deduplicationWindowBlocks, deduplicationWindowSeconds } from '../../src/store/schema.ts';

const byDefault: BlockRateLimits = {
  partitions: 12,
  shards: 1,
  insertsPerSecond: 5,
  batchRowsMax: 100_000,
  batchBytesMax: 32 * 1024 * 1024,
};

const limits = fc.record({
  partitions: fc.integer({ min: 1, max: 1024 }),
  shards: fc.integer({ min: 1, max: 64 }),
  insertsPerSecond: fc.integer({ min: 1, max: 1000 }),
  batchRowsMax: fc.integer({ min: 1, max: 1_000_000 }),
  batchBytesMax: fc.integer({ min: 4096, max: 1024 ** 3 }),
});

test('while a token is taken to be known, all sinks together cannot store as many blocks as the window has', () => {
  fc.assert(
    fc.property(limits, (rate) => {
      const knownMs = tokenKnownMs(rate);
      assert.ok(Number.isInteger(knownMs) && knownMs >= 1);
      if (knownMs === 1) return;
      assert.ok((blocksPerSecondMax(rate) * knownMs) / 1000 <= deduplicationWindowBlocks / 2);
      assert.ok(knownMs <= deduplicationWindowSeconds * 500);
    }),
  );
});

test('each partition of a shard may be a process of its own, which spends its whole budget on it', () => {
  const perShard = (partitions: number, shards: number): number =>
    blocksPerSecondMax({ ...byDefault, partitions, shards });
  assert.equal(perShard(24, 1) - perShard(12, 1), 12 * byDefault.insertsPerSecond);
  assert.equal(perShard(24, 2), perShard(12, 1));
  assert.equal(perShard(13, 2), perShard(14, 2));
});

test('at the highest rate of inserts the time is far below the 30 s in which the window may turn over', () => {
  assert.ok(tokenKnownMs({ ...byDefault, insertsPerSecond: 1000 }) < 1000);
  assert.ok(tokenKnownMs({ ...byDefault, partitions: 1, insertsPerSecond: 1000 }) < 5000);
});

test('by default an insert that gets no answer within its 30 s is still offered to the sibling blindly', () => {
  assert.ok(tokenKnownMs(byDefault) > 30_000);
});
