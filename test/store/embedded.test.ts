// The embedded store: the contract of the seam on chDB, in both ways to run statements, and what only it promises.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { TupleParam } from '@clickhouse/client';
import fc from 'fast-check';
import { pinEmbeddedEngine, whileEngineIdle } from '../../src/store/chdb_engine.ts';
import { openStore } from '../../src/store/client.ts';
import { formatQueryParam } from '../../src/store/query_params.ts';
import { Spool } from '../../src/store/spool.ts';
import { type Store, StoreError } from '../../src/store/store.ts';
import { storeContract } from './contract.ts';

await pinEmbeddedEngine();

const folder = (): string => mkdtempSync(join(tmpdir(), 'ess-store-'));
const remove = (path: string): void => rmSync(path, { recursive: true, force: true });

for (const blocking of [false, true]) {
  storeContract(blocking ? 'chDB, blocking' : 'chDB', async () => {
    const path = folder();
    return {
      open: () => openStore({ kind: 'embedded', path: join(path, 'db') }, { blocking }),
      remove: async () => remove(path),
    };
  });
}

describe('embedded store', () => {
  let path: string;
  let store: Store;
  before(async () => {
    path = folder();
    store = await openStore({ kind: 'embedded', path });
  });
  after(async () => {
    await store.close();
    remove(path);
  });

  const spooled = (): string[] => {
    const found: string[] = [];
    for (const place of ['/dev/shm', tmpdir()]) {
      if (!existsSync(place)) continue;
      for (const name of readdirSync(place))
        if (name.startsWith('ess-spool-') && name.includes(`-${process.pid}-`)) found.push(name);
    }
    return found;
  };

  test('a parameter of one mebibyte of hostile text comes back as it went in', async () => {
    const text = "it's \\ \n\n \0 \u{1F600}|".repeat(2 ** 20 / 16);
    for (const blocking of [false, true]) {
      const other = await openStore({ kind: 'embedded', path }, { blocking });
      assert.deepEqual(await other.rows('SELECT {text:String} AS text', { text }), [{ text }]);
      await other.close();
    }
  });

  test('a name that is not a name is not taken for a parameter or a setting', async () => {
    const names = ["x = 1, param_y = '2'", 'x-y', '', '1x'];
    for (const name of names) {
      await assert.rejects(store.rows('SELECT 1', { [name]: 1 }), StoreError);
      await assert.rejects(store.rows('SELECT 1', {}, { settings: { [name]: 1 } }), StoreError);
    }
  });

  test('one directory may be opened several times in a process, and stays open until the last is closed', async () => {
    const other = await openStore({ kind: 'embedded', path });
    await other.close();
    assert.deepEqual(await store.rows('SELECT 1 AS x'), [{ x: 1 }]);
  });

  test('a closed store refuses, and may be closed again', async () => {
    const other = await openStore({ kind: 'embedded', path });
    await other.close();
    await other.close();
    await assert.rejects(other.rows('SELECT 1'), { name: 'StoreError', code: 0, outcome: 'refused' });
  });

  test('close waits for statements that nobody waits for any more', async () => {
    await store.command('CREATE TABLE slow (n UInt64) ENGINE = MergeTree ORDER BY n');
    const other = await openStore({ kind: 'embedded', path });
    const giveUp = new AbortController();
    const insert = other.command(
      'INSERT INTO slow SELECT number + sleepEachRow(0.01) FROM numbers(20) SETTINGS max_block_size = 1',
      {},
      { signal: giveUp.signal },
    );
    giveUp.abort();
    await assert.rejects(insert, { code: 0, outcome: 'unknown' });
    await other.close();
    assert.deepEqual(await store.rows('SELECT count() AS n FROM slow'), [{ n: '20' }]);
  });

  test('no spool file is left behind by inserts, whether they succeed or fail', async () => {
    await store.command('CREATE TABLE t (n UInt8) ENGINE = MergeTree ORDER BY n');
    const block = [Buffer.from('0101016e0555496e743801', 'hex')];
    await store.insertNative('t', ['n'], block, { token: 'a' });
    await assert.rejects(store.insertNative('missing', ['n'], block, { token: 'a' }), StoreError);
    assert.deepEqual(await store.rows('SELECT n FROM t'), [{ n: 1 }]);
    assert.deepEqual(spooled(), []);
  });

  test('spool files of earlier processes are removed at opening, files in use and of others are not', () => {
    const spool = new Spool(path);
    const inUse = spool.write([Buffer.from('in use')]);
    // As a process with our id would have left it before we began, and one with another id at any time.
    const before = spool.write([Buffer.from('before us')]);
    utimesSync(before, new Date(0), new Date(0));
    const stranger = spool.write([Buffer.from('x')]).replace(`-${process.pid}-`, `-${process.pid + 1}-`);
    writeFileSync(stranger, 'other process');
    const elsewhere = mkdtempSync(join(realpathSync(tmpdir()), 'ess-store-'));
    const others = new Spool(elsewhere).write([Buffer.from('other directory')]);
    utimesSync(others, new Date(0), new Date(0));
    spool.removeStale();
    assert.deepEqual([inUse, before, stranger, others].map(existsSync), [true, false, false, true]);
    new Spool(elsewhere).removeStale();
    assert.equal(existsSync(others), false);
    for (const name of spooled()) spool.remove(join(dirname(inUse), name));
    remove(elsewhere);
  });

  test('two workers insert at once, nothing is lost, and both end cleanly', async () => {
    await store.command(
      `CREATE TABLE shared (worker UInt8, n UInt32) ENGINE = MergeTree ORDER BY (worker, n)
       SETTINGS non_replicated_deduplication_window = 100`,
    );
    const blocks = 10;
    const rows = 500;
    const codes = await Promise.all(
      [1, 2].map(async (worker) => {
        const thread = new Worker(new URL('./inserts.worker.js', import.meta.url), {
          workerData: { path, worker, blocks, rows },
        });
        const [code] = await once(thread, 'exit');
        return code;
      }),
    );
    assert.deepEqual(codes, [0, 0]);
    const total = blocks * rows;
    const each = { rows: String(total), distinct: String(total), sum: String((total * (total - 1)) / 2) };
    assert.deepEqual(
      await store.rows(
        'SELECT worker, count() AS rows, uniqExact(n) AS distinct, sum(n) AS sum FROM shared GROUP BY worker ORDER BY worker',
      ),
      [
        { worker: 1, ...each },
        { worker: 2, ...each },
      ],
    );
  });

  test('workers may end in every way while others are in the middle of statements', async () => {
    const start = (ending: string): Worker =>
      new Worker(new URL('./reads.worker.js', import.meta.url), {
        workerData: { path, ending },
        stderr: true,
      });
    const exitOf = (worker: Worker): Promise<number> =>
      new Promise((resolve) => worker.once('exit', resolve));
    const steady = start('when told');
    const steadyCode = exitOf(steady);
    let isOver = false;
    const ownReads = (async () => {
      while (!isOver)
        assert.deepEqual(await store.rows('SELECT sum(number) AS s FROM numbers(100000)'), [
          { s: '4999950000' },
        ]);
    })();
    try {
      for (let round = 0; round < 2; round += 1) {
        for (const ending of ['by itself, store open', 'closed', 'process.exit'])
          assert.equal(await exitOf(start(ending)), 0, ending);
        const failing = start('uncaught error');
        const failed = once(failing, 'error');
        assert.equal(await exitOf(failing), 1);
        assert.equal((await failed)[0].code, 'thrown on purpose');
        const endless = start('when told');
        await once(endless, 'message');
        await whileEngineIdle(() => endless.terminate());
      }
    } finally {
      isOver = true;
      steady.postMessage('end');
      await ownReads;
    }
    assert.equal(await steadyCode, 0);
    assert.deepEqual(await store.rows('SELECT 1 AS x'), [{ x: 1 }]);
  });

  test('parameters are written exactly as the client writes them into a URL', () => {
    // The client does not export this function; it is pinned to one version, and this test tells when it changes.
    const require = createRequire(import.meta.url);
    const file = join(
      dirname(require.resolve('@clickhouse/client')),
      'common/data_formatter/format_query_params.js',
    );
    const { formatQueryParams } = require(file) as {
      formatQueryParams: (from: { value: unknown }) => string;
    };
    const value = fc.letrec((tie) => ({
      any: fc.oneof(
        { depthSize: 'small', withCrossShrink: true },
        fc.string({ unit: 'binary' }),
        fc.constantFrom('\t', '\n', "'", '\\', '\r', '\\N', null, undefined),
        fc.double(),
        fc.bigInt(),
        fc.boolean(),
        fc.date({ noInvalidDate: true }),
        fc.array(tie('any')),
        fc.array(tie('any')).map((values) => new TupleParam(values)),
        fc.dictionary(fc.string(), tie('any')),
        fc.array(fc.tuple(fc.string(), tie('any'))).map((entries) => new Map(entries)),
      ),
    })).any;
    fc.assert(
      fc.property(value, (any) => assert.equal(formatQueryParam(any), formatQueryParams({ value: any }))),
      { numRuns: 2000 },
    );
  });
});
