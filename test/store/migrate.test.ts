// The tables on several nodes: what is made, what is found to differ, and which nodes may stand for each other.

import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { openStore } from '../../src/store/client.ts';
import {
  compareReplicas,
  compareSchema,
  ensureSchema,
  ensureSchemas,
  tableNames,
} from '../../src/store/migrate.ts';
import { type LedgerRow, ledgerBlock } from '../../src/store/native/ledger_block.ts';
import { ledgerColumns } from '../../src/store/schema.ts';
import { ensureLayout } from '../../src/store/shard_layout.ts';
import { ShardStore } from '../../src/store/shard_store.ts';
import { type Store, StoreError } from '../../src/store/store.ts';
import { ClickHouseNode } from '../support/clickhouse_node.ts';

const columnNames = ledgerColumns.map(({ name }) => name);

const row: LedgerRow = {
  epoch: 'e',
  partition: 0,
  first: 0,
  last: 9,
  rows: 10,
  duplicates: 0,
  parked: 0,
  holes: 0,
  storeTimeMs: Date.UTC(2026, 10, 22),
};

describe('the tables of several nodes', () => {
  let node: ClickHouseNode;
  let stores: Store[] = [];
  before(async () => {
    node = await ClickHouseNode.start({ replicas: 2, isReplicated: true });
    stores = await Promise.all(node.targets().map((target) => openStore(target)));
  });
  after(async () => {
    for (const store of stores) await store.close();
    await node.dispose();
  });
  afterEach(async () => {
    for (const replica of [0, 1]) await node.setFault(replica, 'none');
    for (const table of tableNames) await first().command(`DROP TABLE IF EXISTS ${table} SYNC`);
  });
  const first = (): Store => {
    const [store] = stores;
    assert.ok(store !== undefined);
    return store;
  };

  test('replicated tables are made on every replica and then have no differences', async () => {
    assert.deepEqual(await ensureSchemas([stores]), []);
    for (const store of stores) assert.deepEqual(await compareSchema(store, 'replicated'), []);
    assert.deepEqual(await ensureSchemas([stores]), []);
    const [engine] = await first().rows<{ engine_full: string }>(
      "SELECT engine_full FROM system.tables WHERE name = 'events'",
    );
    assert.match(
      engine?.engine_full ?? '',
      /^ReplicatedReplacingMergeTree\('.*\{shard\}.*', '\{replica\}', version\)/,
    );
  });

  test('a shard of one node may keep replicated tables', async () => {
    await ensureSchema(first(), 'replicated');
    assert.deepEqual(await compareSchema(first(), 'plain'), []);
  });

  test('plain tables are refused where there are several replicas, and left alone', async () => {
    await ensureSchema(first(), 'plain');
    const differences = await compareSchema(first(), 'replicated');
    assert.deepEqual(
      differences.filter(({ what }) => what === 'engine').map(({ table, mend }) => [table, mend]),
      [
        ['events', null],
        ['ledger', null],
        ['layout', null],
      ],
    );
    await assert.rejects(ensureSchemas([stores]), { code: 'format_unknown' });
    const shard = new ShardStore(stores, { shard: 0, shards: 1, preferred: 0 });
    await assert.rejects(
      shard.insertNative('ledger', columnNames, ledgerBlock([row]), { token: 'x' }),
      (error) => error instanceof StoreError && error.outcome === 'refused',
    );
  });

  test('each difference is named, with the statement that mends it', async () => {
    await ensureSchema(first(), 'replicated');
    for (const change of [
      'ALTER TABLE events MODIFY SETTING replicated_deduplication_window = 5',
      'ALTER TABLE events MODIFY SETTING replicated_deduplication_window_seconds = 5',
      'ALTER TABLE ledger MODIFY SETTING fsync_after_insert = 0',
      'ALTER TABLE ledger DROP COLUMN parked',
      "ALTER TABLE events MODIFY COLUMN subject String DEFAULT 'x'",
    ])
      await first().command(change);
    const differences = await compareSchema(first(), 'replicated');
    assert.deepEqual(
      differences.map(({ table, what, found }) => [table, what, found]),
      [
        ['events', 'replicated_deduplication_window', '5'],
        ['events', 'replicated_deduplication_window_seconds', '5'],
        ['events', 'column subject', 'DEFAULT'],
        ['ledger', 'fsync_after_insert', '0'],
        ['ledger', 'column parked', 'missing'],
      ],
    );
    for (const { mend } of differences) await first().command(mend ?? '');
    assert.deepEqual(await compareSchema(first(), 'replicated'), []);
  });

  test('what only a person can mend has no statement', async () => {
    await first().command('CREATE TABLE events (epoch String) ENGINE = MergeTree ORDER BY epoch');
    await ensureSchema(first(), 'plain').catch(() => {});
    await first().command('ALTER TABLE events ADD COLUMN tenant String');
    const differences = await compareSchema(first(), 'plain');
    const mends = new Map(differences.map(({ table, what, mend }) => [`${table} ${what}`, mend !== null]));
    assert.equal(mends.get('events engine'), false);
    assert.equal(mends.get('events column hour'), false);
    assert.equal(mends.get('events column tenant'), false);
    assert.equal(mends.get('events column body'), true);
    assert.equal(mends.get('ledger table'), true);
  });

  test('a replica that does not answer is left out, unless its whole shard does not', async () => {
    await node.setFault(1, 'down');
    const left = await ensureSchemas([stores]);
    assert.deepEqual(
      left.map(({ name }) => name),
      [stores[1]?.name],
    );
    await node.setFault(0, 'down');
    await assert.rejects(ensureSchemas([stores]), StoreError);
  });

  test('macros that are missing are named before anything is made', async () => {
    const plain = await ClickHouseNode.start();
    const [target] = plain.targets();
    assert.ok(target !== undefined);
    const store = await openStore(target);
    try {
      const differences = await compareSchema(store, 'replicated');
      assert.deepEqual(
        differences.map(({ what }) => what),
        ['macro shard', 'macro replica', 'table', 'table', 'table'],
      );
      await assert.rejects(ensureSchema(store, 'replicated'), { code: 'format_unknown' });
      assert.deepEqual(await store.rows('SHOW TABLES'), []);
    } finally {
      await store.close();
      await plain.dispose();
    }
  });

  test('nodes that are not replicas of each other, or two shards in one place, are refused', async () => {
    const other = await ClickHouseNode.start({ replicas: 2, isReplicated: true, shard: '02' });
    const [a, b, c, d] = [
      ...stores,
      ...(await Promise.all(other.targets().map((target) => openStore(target)))),
    ];
    assert.ok(a !== undefined && b !== undefined && c !== undefined && d !== undefined);
    try {
      assert.deepEqual(
        await ensureSchemas([
          [a, b],
          [c, d],
        ]),
        [],
      );
      const wrong = [
        [
          [a, c],
          [b, d],
        ],
        [[a], [b]],
        [[a, a]],
      ];
      for (const shards of wrong) assert.notDeepEqual(await compareReplicas(shards), []);
      await assert.rejects(
        ensureSchemas([
          [a, d],
          [c, b],
        ]),
        { code: 'format_unknown' },
      );
    } finally {
      await c.close();
      await d.close();
      await other.dispose();
    }
  });

  test('a replica without tables gets them before its first insert, which waits until its shard is recorded', async () => {
    const shard = new ShardStore(stores, { shard: 0, shards: 1, preferred: 0 });
    await assert.rejects(
      shard.insertNative('ledger', columnNames, ledgerBlock([row]), { token: 'too early' }),
      (error) => error instanceof StoreError && error.outcome === 'refused',
    );
    await ensureLayout(first(), { shard: 0, shards: 1 });
    await shard.insertNative('ledger', columnNames, ledgerBlock([row]), { token: 'first ever' });
    assert.deepEqual(await first().rows('SELECT count() AS n FROM ledger'), [{ n: '1' }]);
  });
});
