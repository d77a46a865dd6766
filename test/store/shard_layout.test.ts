// What a node has recorded of the shards: invariant: whoever counts other shards, or takes the node for another one, is
// refused, and what is recorded is never changed.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import fc from 'fast-check';
import { pinEmbeddedEngine } from '../../src/store/chdb_engine.ts';
import { openStore } from '../../src/store/client.ts';
import { ensureSchema } from '../../src/store/migrate.ts';
import {
  checkLayout,
  ensureLayout,
  formerShards,
  type LayoutVersion,
  readLayouts,
  recordLayouts,
} from '../../src/store/shard_layout.ts';
import { type Store, shardOf } from '../../src/store/store.ts';

const recordedMs = Date.UTC(2026, 10, 22);
const one: LayoutVersion = { version: 1, shards: 2, shard: 1, recordedMs };
const two: LayoutVersion = { version: 2, shards: 3, shard: 1, recordedMs: recordedMs + 1 };

describe('the recorded layout', () => {
  let folder: string;
  let store: Store;
  before(async () => {
    await pinEmbeddedEngine();
    folder = mkdtempSync(join(tmpdir(), 'ess-layout-'));
    store = await openStore({ kind: 'embedded', path: folder });
  });
  beforeEach(async () => {
    await ensureSchema(store);
    await store.command('TRUNCATE TABLE layout');
  });
  after(async () => {
    await store.close();
    rmSync(folder, { recursive: true, force: true });
  });

  test('versions are told in their order, also if one was written twice', async () => {
    assert.deepEqual(await readLayouts(store), []);
    await recordLayouts(store, [one, two]);
    await recordLayouts(store, [one]);
    assert.deepEqual(await readLayouts(store), [one, two]);
    assert.deepEqual(await checkLayout(store, { shard: 1, shards: 3 }), [one, two]);
  });

  test('without a table nothing is recorded', async () => {
    await store.command('DROP TABLE layout SYNC');
    assert.deepEqual(await readLayouts(store), []);
    await assert.rejects(checkLayout(store, { shard: 0, shards: 1 }), { code: 'bad_option' });
  });

  test('another number of shards or another shard is refused, with both and with what mends it', async () => {
    await recordLayouts(store, [one, two]);
    for (const [place, advice] of [
      [{ shard: 1, shards: 2 }, /shard 1 of 3 \(layout version 2\).*shard 1 of 2.*all 3 shards/],
      [{ shard: 1, shards: 4 }, /shard 1 of 3.*shard 1 of 4.*ess init --apply/],
      [{ shard: 2, shards: 3 }, /shard 1 of 3.*shard 2 of 3.*order/],
    ] as const) {
      await assert.rejects(checkLayout(store, place), (error) => {
        assert.ok(error instanceof Error && 'code' in error);
        assert.equal(error.code, 'bad_option');
        assert.match(error.message, advice);
        assert.ok(error.message.startsWith(store.name));
        return true;
      });
    }
    assert.deepEqual(await readLayouts(store), [one, two]);
  });

  test('a store that stands alone records itself once and stays what it is', async () => {
    await ensureLayout(store, { shard: 0, shards: 1 });
    const [recorded] = await readLayouts(store);
    await ensureLayout(store, { shard: 0, shards: 1 });
    assert.deepEqual(await readLayouts(store), [recorded]);
    await assert.rejects(ensureLayout(store, { shard: 0, shards: 2 }), { code: 'bad_option' });
  });

  test('rows that contradict each other are refused', async () => {
    const contradictions: readonly (readonly LayoutVersion[])[] = [
      [two],
      [one, { ...two, version: 3 }],
      [one, { ...two, shards: 2 }],
      [one, { ...two, shard: 0 }],
      [one, { ...one, shards: 4 }],
      [{ ...one, shard: 2 }],
    ];
    for (const versions of contradictions) {
      await store.command('TRUNCATE TABLE layout');
      await recordLayouts(store, versions);
      await assert.rejects(readLayouts(store), { code: 'format_unknown' }, JSON.stringify(versions));
    }
  });
});

test('former shards are those of the earlier versions, without the one that has the partition now', () => {
  const history = fc
    .uniqueArray(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 6 })
    .map((counts) => counts.sort((a, b) => a - b).map((shards) => ({ shard: 0, shards })));
  fc.assert(
    fc.property(history, fc.nat(1023), (versions, partition) => {
      const now = shardOf(partition, versions.at(-1)?.shards ?? 1);
      const former = formerShards(versions, partition);
      assert.ok(!former.includes(now));
      assert.equal(new Set(former).size, former.length);
      const all = new Set(versions.map(({ shards }) => shardOf(partition, shards)));
      assert.deepEqual(new Set([now, ...former]), all);
    }),
  );
  assert.deepEqual(formerShards([{ shard: 0, shards: 2 }], 7), []);
  const grown = [2, 3, 4].map((shards) => ({ shard: 0, shards }));
  assert.deepEqual(formerShards(grown, 2), [0]);
  assert.deepEqual(formerShards(grown, 7), [1]);
  assert.deepEqual(formerShards(grown, 11), [2, 1]);
});
