// Invariant: tables that are dropped under the running system lose nothing that was not in them, and the status says
// which command makes them again; tables that come with a newer ESS are made by it, where it is alone with them.

import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { pinEmbeddedEngine } from '../../src/store/chdb_engine.ts';
import { openStore } from '../../src/store/client.ts';
import { ensureSchema } from '../../src/store/migrate.ts';
import { schemaVersion } from '../../src/store/schema.ts';
import { ensureLayout, readLayouts } from '../../src/store/shard_layout.ts';
import type { Store } from '../../src/store/store.ts';
import { ClickHouseNode } from '../support/clickhouse_node.ts';
import { EssProcess } from '../support/ess_process.ts';

interface ReadyJson {
  readonly status: string;
  readonly reasons: readonly string[];
}

for (const table of ['events', 'ledger']) {
  test(`a dropped table of ${table} is named on /readyz with the command that makes it, and the events wait`, {
    timeout: 120_000,
  }, async () => {
    const node = await ClickHouseNode.start();
    const [target] = node.targets();
    assert.ok(target !== undefined);
    const direct = await openStore(target);
    await ensureSchema(direct);
    await ensureLayout(direct, { shard: 0, shards: 1 });
    const ess = await EssProcess.start({
      flags: { clickhouse: node.urls.join(','), producers: 1, sinks: 1, readers: 1, partitions: 1 },
    });
    try {
      const post = async (id: string): Promise<void> => {
        const response = await ess.post(JSON.stringify({ id }), '?ack=log');
        assert.equal(response.status, 200, await response.text());
      };
      await post('before');
      await ess.drained();
      await direct.command(`DROP TABLE ${table} SYNC`);
      await post('meanwhile');
      for (;;) {
        const { status, reasons } = await ess.getJson<ReadyJson>('/readyz');
        if (status === 'degraded' && reasons.some((reason) => /this mends it: ess init$/.test(reason))) break;
        await sleep(20);
      }
      const [left] = await direct.rows<{ n: string }>(
        'SELECT count() AS n FROM system.tables WHERE database = currentDatabase() AND name = {table:String}',
        { table },
      );
      assert.equal(left?.n, '0', 'it is not made by the sink');
      // As `ess init` does.
      await ensureSchema(direct);
      await ess.drained();
      const events = await direct.rows<{ id: string }>('SELECT id FROM events FINAL ORDER BY id');
      const expected = table === 'events' ? ['meanwhile'] : ['before', 'meanwhile'];
      assert.deepEqual(
        events.map(({ id }) => id),
        expected,
      );
      for (;;) {
        const { reasons } = await ess.getJson<ReadyJson>('/readyz');
        if (!reasons.some((reason) => reason.includes('ess init'))) break;
        await sleep(20);
      }
      assert.equal(await ess.end('SIGTERM'), 0);
    } finally {
      await ess.dispose();
      await direct.close();
      await node.dispose();
    }
  });
}

test('a data directory of format 2, without the layout of shards and the time in the log, goes on and gets both', {
  timeout: 120_000,
}, async () => {
  const first = await EssProcess.start({ flags: { partitions: 1 } });
  const { dataDir } = first;
  let second: EssProcess | null = null;
  try {
    assert.equal((await first.post('{"id":"before"}', '?ack=store')).status, 200);
    assert.equal(await first.end('SIGTERM'), 0);
    const look = async <T>(work: (store: Store) => Promise<T>): Promise<T> => {
      await pinEmbeddedEngine();
      const store = await openStore({ kind: 'embedded', path: join(dataDir, 'store') });
      try {
        return await work(store);
      } finally {
        await store.close();
      }
    };
    await look(async (store) => {
      await store.command('DROP TABLE layout SYNC');
      await store.command('ALTER TABLE events DROP COLUMN log_time SETTINGS mutations_sync = 2');
    });
    writeFileSync(join(dataDir, 'format.json'), '{"schema_version":2}\n');
    second = await EssProcess.start({ dataDir, flags: { partitions: 1 } });
    assert.equal((await second.post('{"id":"before"}', '?ack=store')).status, 200);
    assert.equal((await second.post('{"id":"after"}', '?ack=store')).status, 200);
    const { conservation } = await second.drained();
    assert.deepEqual([conservation.stored, conservation.duplicates, conservation.exact], [2, 1, true]);
    assert.equal(await second.end('SIGTERM'), 0);
    assert.equal(readFileSync(join(dataDir, 'format.json'), 'utf8'), `{"schema_version":${schemaVersion}}\n`);
    const known = await look((store) =>
      store.rows("SELECT id, log_time > '2000-01-01 00:00:00' AS is_known FROM events FINAL ORDER BY id"),
    );
    assert.deepEqual(known, [
      { id: 'after', is_known: 1 },
      { id: 'before', is_known: 0 },
    ]);
    const [layout, ...others] = await look(readLayouts);
    assert.deepEqual([layout?.version, layout?.shard, layout?.shards, others], [1, 0, 1, []]);
  } finally {
    await first.dispose();
    await second?.dispose();
  }
});
