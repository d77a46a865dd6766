// A ClickHouse node over HTTP: the contract of the store seam, and what can only happen with a network in between.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream';
import { after, afterEach, before, describe, test } from 'node:test';
import { createServer } from 'node:tls';
import { type OpenOptions, openStore } from '../../src/store/client.ts';
import { type ColumnSpec, NativeBlock } from '../../src/store/native/block.ts';
import { type HttpTarget, type Store, StoreError, type StoreOutcome } from '../../src/store/store.ts';
import { ClickHouseNode } from '../support/clickhouse_node.ts';
import { storeContract } from './contract.ts';

function firstTarget(node: ClickHouseNode, database = 'default'): HttpTarget {
  const [target] = node.targets(database);
  assert.ok(target !== undefined);
  return target;
}

storeContract('ClickHouse over HTTP', async () => {
  const node = await ClickHouseNode.start();
  return { open: () => openStore(firstTarget(node)), remove: () => node.dispose() };
});

storeContract('ClickHouse over HTTP, with a password, a database of its own and compression', async () => {
  const node = await ClickHouseNode.start({ user: 'ess', password: 'p:ss "word"' });
  const admin = await openStore(firstTarget(node));
  await admin.command('CREATE DATABASE `own-db`');
  await admin.close();
  return {
    open: () => openStore({ ...firstTarget(node, 'own-db'), isCompressed: true }),
    remove: () => node.dispose(),
  };
});

const columns = [{ name: 'n', type: 'UInt32' }] as const satisfies readonly ColumnSpec[];

function numbers(from: number, count: number): Uint8Array[] {
  const block = new NativeBlock(columns);
  for (let i = 0; i < count; i += 1) block.column('n').append(from + i);
  return block.pieces();
}

/** Certificates are made by openssl. */
const noOpenssl = spawnSync('openssl', ['version']).status === 0 ? false : 'there is no openssl';

async function rejectsWith(promise: Promise<unknown>, code: number, outcome: StoreOutcome): Promise<void> {
  await assert.rejects(promise, (error) => {
    assert.ok(error instanceof StoreError, String(error));
    assert.deepEqual([error.code, error.outcome], [code, outcome], error.message);
    return true;
  });
}

describe('a node behind a network', () => {
  let node: ClickHouseNode;
  let store: Store;
  before(async () => {
    node = await ClickHouseNode.start();
    store = await openStore(firstTarget(node));
    await store.command(
      'CREATE TABLE t (n UInt32) ENGINE = MergeTree ORDER BY n SETTINGS non_replicated_deduplication_window = 100',
    );
  });
  after(async () => {
    await store.close();
    await node.dispose();
  });
  afterEach(async () => {
    await node.setFault(0, 'none');
    await store.command('TRUNCATE TABLE t');
  });

  const insert = (into: Store, token: string, from = 0, count = 3): Promise<void> =>
    into.insertNative('t', ['n'], numbers(from, count), { token });
  const count = async (): Promise<unknown> => (await store.rows('SELECT count() AS n FROM t'))[0];
  const withStore = async (options: OpenOptions, work: (other: Store) => Promise<void>): Promise<void> => {
    const other = await openStore(firstTarget(node), options);
    try {
      await work(other);
    } finally {
      await other.close();
    }
  };

  test('an insert whose answer is lost is stored, has an unknown outcome, and repeated is stored once', async () => {
    await node.setFault(0, 'drop_after', 1);
    await rejectsWith(insert(store, 'answer lost'), 0, 'unknown');
    assert.deepEqual(await count(), { n: '3' });
    await insert(store, 'answer lost');
    assert.deepEqual(await count(), { n: '3' });
  });

  test('an insert that was cut off before it was executed has an unknown outcome and can be repeated', async () => {
    await node.setFault(0, 'drop_before', 1);
    await rejectsWith(insert(store, 'cut off'), 0, 'unknown');
    assert.deepEqual(await count(), { n: '0' });
    await insert(store, 'cut off');
    assert.deepEqual(await count(), { n: '3' });
  });

  test('an insert without an answer is given up at the deadline and can be repeated', async () => {
    await withStore({ requestTimeoutMs: 200 }, async (impatient) => {
      await node.setFault(0, 'hang', 1);
      await rejectsWith(insert(impatient, 'no answer'), 0, 'unknown');
    });
    await insert(store, 'no answer');
    assert.deepEqual(await count(), { n: '3' });
  });

  test('an insert that is executed after its deadline and repeated meanwhile is stored once', async () => {
    await withStore({ requestTimeoutMs: 200 }, async (impatient) => {
      await node.setFault(0, { delay: 1500 }, 1);
      await rejectsWith(insert(impatient, 'late'), 0, 'unknown');
    });
    await insert(store, 'late');
    while ((await node.inserts(0)).filter(({ token, isDone }) => token === 'late' && isDone).length < 2)
      await new Promise((resolve) => setTimeout(resolve, 50));
    assert.deepEqual(await count(), { n: '3' });
  });

  test('a refusal carries the number of ClickHouse and says whether the block may be stored', async () => {
    for (const code of [241, 252, 243, 285, 469]) {
      await node.setFault(0, { reject: code }, 1);
      await rejectsWith(insert(store, `refused ${code}`), code, 'refused');
    }
    for (const code of [159, 209, 242, 319, 999]) {
      await node.setFault(0, { reject: code }, 1);
      await rejectsWith(insert(store, `unclear ${code}`), code, 'unknown');
    }
    assert.deepEqual(await count(), { n: '0' });
  });

  test('a request that could not be sent was refused', async () => {
    await node.setFault(0, 'down');
    // Without sockets from before: what is sent on one that the node has closed may have arrived.
    await withStore({}, async (fresh) => {
      await rejectsWith(insert(fresh, 'nobody there'), 0, 'refused');
      await rejectsWith(fresh.rows('SELECT 1'), 0, 'refused');
    });
    const lost = await openStore({ ...firstTarget(node), url: 'http://no-such-host.invalid:8123' });
    await rejectsWith(insert(lost, 'nowhere'), 0, 'refused');
    await lost.close();
  });

  test('a node that is killed and comes back knows its rows and its tokens', async () => {
    await insert(store, 'before the kill');
    await node.restart();
    await insert(store, 'before the kill');
    await insert(store, 'after the kill', 3);
    assert.deepEqual(await count(), { n: '6' });
  });

  test('a wrong password is refused', async () => {
    const stranger = await openStore({ ...firstTarget(node), password: 'wrong' });
    await rejectsWith(stranger.rows('SELECT 1'), 516, 'refused');
    await rejectsWith(insert(stranger, 'stranger'), 516, 'refused');
    await stranger.close();
  });

  test('parameters that are too long for a URL reach the node whole', async () => {
    const text = "it's \\ \r\n\n \t \0 \u{1F600}|".repeat(2 ** 20 / 16);
    assert.deepEqual(await store.rows('SELECT {text:String} AS text', { text }), [{ text }]);
  });

  test('a node behind TLS is reached by its authority, and by no other', { skip: noOpenssl }, async () => {
    const folder = mkdtempSync(join(tmpdir(), 'ess-tls-'));
    const files = ['-keyout', join(folder, 'key.pem'), '-out', join(folder, 'cert.pem')];
    const subject = ['-subj', '/CN=node', '-addext', 'subjectAltName=IP:127.0.0.1'];
    const kind = ['-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];
    spawnSync('openssl', ['req', ...kind, ...subject, ...files]);
    const cert = readFileSync(join(folder, 'cert.pem'), 'utf8');
    const plain = new URL(firstTarget(node).url);
    const front = createServer({ key: readFileSync(join(folder, 'key.pem')), cert }, (socket) => {
      const inner = connect(Number(plain.port), plain.hostname);
      pipeline(socket, inner, socket, () => {});
    });
    front.listen(0, '127.0.0.1');
    await once(front, 'listening');
    const address = front.address();
    assert.ok(address !== null && typeof address === 'object');
    const target = { ...firstTarget(node), url: `https://127.0.0.1:${address.port}` };
    const trusting = await openStore({ ...target, tls: { ca: cert } });
    const strict = await openStore(target);
    try {
      await insert(trusting, 'encrypted');
      assert.deepEqual(await trusting.rows('SELECT count() AS n FROM t'), [{ n: '3' }]);
      await assert.rejects(strict.rows('SELECT 1'), StoreError);
    } finally {
      await trusting.close();
      await strict.close();
      front.close();
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
