// The reader thread as piscina runs it.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Piscina } from 'piscina';
import type { Trouble } from '../../../src/live/troubles.ts';
import { pinEmbeddedEngine } from '../../../src/store/chdb_engine.ts';
import { openStore } from '../../../src/store/client.ts';
import { ensureSchema } from '../../../src/store/migrate.ts';
import type { ReadAnswer, ReadRequest } from '../../../src/store/queries/handle.ts';
import { bodyText, Fixture, type ListJson, problemOf } from './fixture.ts';
import { ShardedFixture } from './sharded_fixture.ts';

describe('a reader thread', () => {
  let fixture: Fixture;
  let readers: Piscina<ReadRequest, ReadAnswer>;
  before(async () => {
    fixture = await Fixture.open();
    readers = new Piscina({
      filename: fileURLToPath(new URL('./read.worker.js', import.meta.url)),
      minThreads: 2,
      maxThreads: 2,
      workerData: { target: fixture.target, timeoutMs: 60_000 },
    });
  });
  after(async () => {
    await readers.close();
    await fixture.close();
  });

  const read = async (path: string, query = '', accept = ''): Promise<ReadAnswer> =>
    readers.run({ path, query, accept });

  test('answers small and large reads while rows come in on another thread', async () => {
    const filler = 'é'.repeat(5000);
    for (let part = 0; part < 5; part += 1) {
      const rows = Array.from({ length: 100 }, (_, i) => ({
        id: `${part}-${i}`,
        body: JSON.stringify({ id: `${part}-${i}`, filler }),
      }));
      await fixture.insert(rows);
      const answers = await Promise.all([
        read('/events/', 'limit=10000'),
        read(`/events/${part}-7`),
        read('/events/statistics', 'group_by=id&limit=1000'),
        read('/events/', 'limit=10000', 'application/x-ndjson'),
        read('/events/statistics', 'group_by=id&limit=1000', 'text/csv'),
      ]);
      assert.deepEqual(
        answers.map((answer) => answer.status),
        [200, 200, 200, 200, 200],
      );
      const [list, one, statistics, lines, table] = answers.map(bodyText);
      const { events } = JSON.parse(list ?? '') as ListJson;
      assert.equal(events.length, (part + 1) * 100);
      assert.deepEqual(
        new Set(events.map((event) => (event.event as { filler: string }).filler)),
        new Set([filler]),
      );
      assert.equal((JSON.parse(one ?? '') as { id: string }).id, `${part}-7`);
      assert.equal((JSON.parse(statistics ?? '') as { total: { count: number } }).total.count, events.length);
      assert.equal(lines?.split('\n').length, events.length + 1);
      assert.equal(table?.split('\r\n').length, events.length + 2);
    }
  });

  test('answers bad requests like any other', async () => {
    assert.equal(problemOf(await read('/events/nobody')).code, 'not_found');
    assert.equal(problemOf(await read('/events/', 'limit=x')).parameter, 'limit');
  });
});

test('a reader thread takes shards as well, and says when one is missing', async () => {
  const fixture = await ShardedFixture.open();
  const readers = new Piscina<ReadRequest, ReadAnswer>({
    filename: fileURLToPath(new URL('./read.worker.js', import.meta.url)),
    minThreads: 2,
    maxThreads: 2,
    workerData: { target: { shards: fixture.targets }, timeoutMs: 60_000 },
  });
  try {
    const filler = 'é'.repeat(5000);
    const rows = Array.from({ length: 40 }, (_, i) => ({ id: `${i}`, body: JSON.stringify({ filler }) }));
    await fixture.insert(rows);
    const list = async (): Promise<ReadAnswer> => readers.run({ path: '/events/', query: '', accept: '' });
    const { events } = JSON.parse(bodyText(await list())) as ListJson;
    assert.equal(events.length, 40);
    await fixture.nodes[1]?.kill();
    const answer = await list();
    assert.equal(answer.headers?.['ess-partial'], 'shards=1');
    const rest = JSON.parse(bodyText(answer)) as ListJson;
    assert.equal(rest.events.length, rows.filter((row) => fixture.shardOf(row) === 0).length);
  } finally {
    await readers.close();
    await fixture.close();
  }
});

test('a reader thread whose store cannot be opened says so in every answer, and opens it as soon as it can', async () => {
  await pinEmbeddedEngine();
  const folder = mkdtempSync(join(tmpdir(), 'ess-reader-'));
  const path = join(folder, 'store');
  // No directory can be made where a file is.
  writeFileSync(path, '');
  const conditions: (string | null)[] = [];
  const readers = new Piscina<ReadRequest, ReadAnswer>({
    filename: fileURLToPath(new URL('./read.worker.js', import.meta.url)),
    minThreads: 1,
    maxThreads: 1,
    atomics: 'disabled',
    workerData: { target: { kind: 'embedded', path }, timeoutMs: 60_000 },
  });
  readers.on('message', ({ trouble }: { readonly trouble: Trouble | null }) =>
    conditions.push(trouble?.text ?? null),
  );
  const list = (): Promise<ReadAnswer> => readers.run({ path: '/events/', query: '', accept: '' });
  try {
    const [thread] = readers.threads;
    for (let i = 0; i < 3; i += 1) assert.equal(problemOf(await list()).code, 'store_unavailable');
    assert.equal(conditions.length, 1);
    assert.match(conditions[0] ?? '', /cannot be opened/);
    rmSync(path);
    const store = await openStore({ kind: 'embedded', path });
    await ensureSchema(store);
    while ((await list()).status !== 200) await new Promise((resolve) => setTimeout(resolve, 20));
    assert.equal(conditions.at(-1), null);
    assert.deepEqual(readers.threads, [thread]);
    await store.close();
  } finally {
    await readers.close();
    rmSync(folder, { recursive: true, force: true });
  }
});
