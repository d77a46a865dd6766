// The test node itself: what other tests rely on when they blame ESS.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { ClickHouseNode, isKilledWithParent } from '../support/clickhouse_node.ts';

/** A request as any client would make it; gives its status, headers and text. */
async function ask(
  url: string,
  sql: string,
  parameters: Readonly<Record<string, string>> = {},
  body: string | Uint8Array | FormData = '',
  headers: Readonly<Record<string, string>> = {},
): Promise<{ readonly status: number; readonly code: string | null; readonly text: string }> {
  const query = new URLSearchParams({ query: sql, ...parameters });
  const response = await fetch(`${url}/?${query}`, { method: 'POST', body, headers });
  const code = response.headers.get('x-clickhouse-exception-code');
  return { status: response.status, code, text: await response.text() };
}

/** Whether a port takes connections. */
function isOpen(url: string): Promise<boolean> {
  const { port } = new URL(url);
  return new Promise((resolve) => {
    const socket = connect(Number(port), '127.0.0.1');
    socket.once('connect', () => resolve(true));
    socket.once('error', () => resolve(false));
    socket.once('close', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}

describe('the ClickHouse test node', () => {
  let node: ClickHouseNode;
  let a = '';
  let b = '';
  before(async () => {
    node = await ClickHouseNode.start({ replicas: 2 });
    [a = '', b = ''] = node.urls;
    const sql = `CREATE TABLE t (n UInt32, CONSTRAINT small CHECK n < 1000) ENGINE = MergeTree ORDER BY n
                 SETTINGS non_replicated_deduplication_window = 100`;
    assert.equal((await ask(a, sql)).text, '');
  });
  after(() => node.dispose());
  afterEach(async () => {
    await node.setFault(0, 'none');
    await node.setFault(1, 'none');
  });

  const put = (url: string, rows: string, token: string) =>
    ask(url, 'INSERT INTO t FORMAT TSV', { insert_deduplication_token: token }, rows);
  const countIn = async (url: string): Promise<number> =>
    Number((await ask(url, 'SELECT count() FROM t')).text);

  test('both ports see what was written through either, tokens included', async () => {
    await put(a, '1\n2\n', 'both');
    assert.equal(await countIn(b), 2);
    await put(b, '1\n2\n', 'both');
    assert.equal(await countIn(a), 2);
    const [one, two] = [await node.inserts(0), await node.inserts(1)];
    assert.deepEqual(one.at(-1), { table: 't', token: 'both', isDone: true });
    assert.deepEqual(two.at(-1), { table: 't', token: 'both', isDone: true });
  });

  test('errors have the status, the number and the text of a real node', async () => {
    assert.deepEqual(await ask(a, 'SELECT (1').then(({ status, code }) => [status, code]), [400, '62']);
    assert.deepEqual(await ask(a, 'SELECT 1 FROM none').then(({ status, code }) => [status, code]), [
      404,
      '60',
    ]);
    const unknown = await ask(a, 'SELECT 1', { no_such_setting: '1' });
    assert.deepEqual([unknown.status, unknown.code], [404, '115']);
    const refused = await put(a, '5000\n', 'refused');
    assert.equal(refused.code, '469');
    assert.match(refused.text, /^Code: 469\. DB::Exception: /);
    const denied = await ask(a, 'SELECT 1', {}, '', { 'x-clickhouse-user': 'somebody' });
    assert.deepEqual([denied.status, denied.code], [403, '516']);
  });

  test('settings, parameters and the database hold for one request', async () => {
    await ask(a, 'CREATE DATABASE other');
    const first = await ask(
      a,
      "SELECT getSetting('max_threads'), {x:String}, currentDatabase()",
      { max_threads: '3', param_x: 'a\\tb', database: 'other', wait_end_of_query: '1' },
      '',
    );
    assert.equal(first.text, '3\ta\\tb\tother\n');
    assert.equal((await ask(a, 'SELECT currentDatabase()')).text, 'default\n');
    assert.equal((await ask(a, 'SELECT {x:String}')).code, '456');
  });

  test('compressed bodies and multipart fields are understood', async () => {
    const zipped = gzipSync('7\n8\n9\n');
    const before = await countIn(a);
    await ask(a, 'INSERT INTO t FORMAT TSV', {}, zipped, { 'content-encoding': 'gzip' });
    assert.equal(await countIn(a), before + 3);
    const form = new FormData();
    form.set('query', 'SELECT {x:String}');
    form.set('param_x', "it's");
    const response = await fetch(a, { method: 'POST', body: form });
    assert.equal(await response.text(), "it\\'s\n");
    assert.equal((await ask(a, 'SELECT 1', {}, 'x', { 'content-encoding': 'lzma' })).code, '48');
  });

  test('a GET cannot write', async () => {
    const query = new URLSearchParams({ query: 'CREATE TABLE x (n UInt8) ENGINE = Memory' });
    const response = await fetch(`${a}/?${query}`);
    assert.equal(response.headers.get('x-clickhouse-exception-code'), '164');
  });

  test('faults strike one replica, and as many inserts as asked', async () => {
    await node.setFault(0, { reject: 252 }, 2);
    const before = await countIn(a);
    assert.equal((await put(a, '10\n', 'r1')).code, '252');
    assert.equal((await put(b, '11\n', 'r2')).code, null);
    assert.equal((await put(a, '10\n', 'r1')).code, '252');
    assert.equal((await put(a, '10\n', 'r1')).code, null);
    assert.equal(await countIn(a), before + 2);
  });

  test('a dropped connection is dropped before or after the insert, as asked', async () => {
    const before = await countIn(a);
    await node.setFault(0, 'drop_before', 1);
    await assert.rejects(put(a, '20\n', 'd1'));
    assert.equal(await countIn(a), before);
    await node.setFault(0, 'drop_after', 1);
    await assert.rejects(put(a, '20\n', 'd1'));
    assert.equal(await countIn(a), before + 1);
  });

  test('without a number of inserts every request is struck', async () => {
    await node.setFault(0, 'drop_before');
    await assert.rejects(fetch(`${a}/ping`));
    await assert.rejects(ask(a, 'SELECT 1'));
    assert.equal(await (await fetch(`${b}/ping`)).text(), 'Ok.\n');
    await node.setFault(0, 'hang');
    await assert.rejects(fetch(`${a}/ping`, { signal: AbortSignal.timeout(200) }));
  });

  test('a replica that is down takes no connections until it is up again', async () => {
    await node.setFault(0, 'down');
    assert.equal(await isOpen(a), false);
    assert.equal(await isOpen(b), true);
    await node.setFault(0, 'none');
    assert.equal((await ask(a, 'SELECT 1')).text, '1\n');
  });

  test('a killed node is gone, and comes back on its ports with its rows', async () => {
    await put(a, '30\n', 'kill');
    const before = await countIn(a);
    await node.kill();
    assert.deepEqual([await isOpen(a), await isOpen(b)], [false, false]);
    await node.restart();
    assert.deepEqual(node.urls, [a, b]);
    await put(b, '30\n', 'kill');
    assert.equal(await countIn(b), before);
  });

  test('a paused node answers nobody until it goes on', async () => {
    node.pause();
    const answer = ask(a, 'SELECT 1');
    const first = await Promise.race([answer, new Promise((resolve) => setTimeout(resolve, 300, 'silence'))]);
    assert.equal(first, 'silence');
    node.resume();
    assert.equal((await answer).text, '1\n');
  });
});

test('tables that are asked for as replicated look so, and are written once whichever replica takes them', async () => {
  const node = await ClickHouseNode.start({ replicas: 2, isReplicated: true, shard: '07' });
  try {
    const [a = '', b = ''] = node.urls;
    const create = `CREATE TABLE IF NOT EXISTS t (n UInt32, v UInt8)
      ENGINE = ReplicatedReplacingMergeTree('/tables/{database}/{shard}/t', '{replica}', v) ORDER BY n
      SETTINGS replicated_deduplication_window = 100, replicated_deduplication_window_seconds = 60`;
    for (const url of node.urls) assert.equal((await ask(url, create)).text, '');
    await ask(a, 'CREATE TABLE plain (n UInt32) ENGINE = ReplacingMergeTree ORDER BY n');
    const tables = await ask(
      a,
      'SELECT name, engine_full FROM system.tables WHERE database = currentDatabase() ORDER BY name',
    );
    const [plain = '', replicated = ''] = tables.text.split('\n');
    assert.match(plain, /^plain\tReplacingMergeTree ORDER BY n/);
    assert.match(
      replicated,
      /^t\tReplicatedReplacingMergeTree\(\\'\/tables\/\{database\}\/\{shard\}\/t\\', \\'\{replica\}\\', v\) ORDER BY n SETTINGS replicated_deduplication_window = 100/,
    );
    assert.equal((await ask(b, "SELECT getMacro('shard'), getMacro('replica')")).text, '07\tr2\n');
    const token = { insert_deduplication_token: 'one' };
    await ask(a, 'INSERT INTO t FORMAT TSV', token, '1\t1\n');
    await ask(b, 'INSERT INTO t FORMAT TSV', token, '1\t1\n');
    assert.equal((await ask(b, 'SELECT count() FROM t')).text, '1\n');
    const state =
      'SELECT table, zookeeper_path, replica_name, absolute_delay, is_readonly FROM system.replicas';
    assert.equal((await ask(a, state)).text, 't\t/tables/default/07/t\tr1\t0\t0\n');
    await node.setState(1, { absoluteDelay: 9, isReadonly: true });
    assert.equal((await ask(b, state)).text, 't\t/tables/default/07/t\tr2\t9\t1\n');
  } finally {
    await node.dispose();
  }
});

for (const state of ['running', 'paused']) {
  const skipped = state === 'paused' && !isKilledWithParent ? 'there is no setpriv' : false;
  test(`a ${state} node ends when the process that started it is killed`, { skip: skipped }, async () => {
    const folder = mkdtempSync(join(tmpdir(), 'ess-owner-'));
    const entry = fileURLToPath(new URL('./node_owner.worker.js', import.meta.url));
    const owner = spawn(process.execPath, [entry, state], {
      stdio: ['ignore', 'pipe', 'inherit'],
      // What it cannot remove any more goes with the folder.
      env: { ...process.env, TMPDIR: folder },
    });
    const [line] = await once(owner.stdout, 'data');
    const url = String(line).trim();
    assert.equal(await isOpen(url), true);
    owner.kill('SIGKILL');
    const untilMs = Date.now() + 30_000;
    while (await isOpen(url)) assert.ok(Date.now() < untilMs, 'it lives on');
    rmSync(folder, { recursive: true, force: true });
  });
}
