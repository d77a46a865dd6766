// What the options make of ClickHouse: their combinations, and how each node is reached.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { type ClickhouseNode, clickhouseNodes } from '../../src/config/clickhouse.ts';
import { loadConfig } from '../../src/config/load.ts';
import { certificate } from './certificates.ts';
import { file, folder, refusesOption } from './files.ts';

const secret = 'correct horse battery staple';
const two = ['--clickhouse', 'http://a:8123,http://b:8123;http://c:8123'];
const secure = ['--clickhouse', 'https://a:8443'];

function nodes(argv: readonly string[], env: NodeJS.ProcessEnv = {}): ClickhouseNode[][] {
  const made = clickhouseNodes(loadConfig(argv, env, 8));
  assert.ok(made !== null);
  return made;
}

function refuses(argv: readonly string[], env: NodeJS.ProcessEnv, ...parts: readonly string[]): void {
  refusesOption(() => clickhouseNodes(loadConfig(argv, env, 8)), parts, secret);
}

test('without nodes the store is embedded, whatever the other options say', () => {
  assert.equal(clickhouseNodes(loadConfig([], {}, 8)), null);
  assert.equal(clickhouseNodes(loadConfig(['--clickhouse='], { ESS_CLICKHOUSE: 'http://a' }, 8)), null);
  const argv = ['--clickhouse-tls-ca-file', 'nowhere', '--clickhouse-password-file', 'nowhere'];
  assert.equal(clickhouseNodes(loadConfig(argv, { ESS_CLICKHOUSE_PASSWORD: secret }, 8)), null);
});

test('every node has its address and what is common to all, with the defaults', () => {
  const node = (url: string): ClickhouseNode => ({
    url,
    user: 'default',
    password: '',
    database: 'default',
    tlsCa: '',
    compression: 'none',
    requestTimeoutMs: 30_000,
  });
  assert.deepEqual(nodes(two), [[node('http://a:8123'), node('http://b:8123')], [node('http://c:8123')]]);
});

test('user, password, database, authorities, compression and time-out get into every node', () => {
  const options = [
    '--clickhouse-user',
    'ess',
    '--clickhouse-database',
    'stats',
    '--clickhouse-compression',
    'gzip',
  ];
  const more = ['--clickhouse-tls-ca-file', file(certificate), '--clickhouse-request-timeout-ms', '1000'];
  const expected = {
    url: 'https://a:8443',
    user: 'ess',
    password: secret,
    database: 'stats',
    tlsCa: certificate,
    compression: 'gzip',
    requestTimeoutMs: 1000,
  };
  const argv = [...secure, ...options, ...more];
  assert.deepEqual(nodes(argv, { ESS_CLICKHOUSE_PASSWORD: secret }), [[expected]]);
  assert.deepEqual(nodes([...argv, '--clickhouse-password-file', file(`${secret}\n`)]), [[expected]]);
});

test('partitions are a multiple of the shards: a number that is not is refused, the automatic one is raised', () => {
  refuses([...two, '--partitions', '5'], {}, '--partitions', '5', '--clickhouse', '2 shards');
  assert.equal(loadConfig([...two, '--partitions', '6'], {}, 8).partitions, 6);
  const shards = (count: number, ...argv: string[]): number => {
    const list = Array.from({ length: count }, (_, i) => `http://ch-${i}:8123`).join(';');
    return loadConfig(['--clickhouse', list, ...argv], {}, 8).partitions;
  };
  assert.deepEqual(
    [1, 2, 3, 5, 1024].map((count) => shards(count)),
    [4, 4, 6, 5, 1024],
  );
  assert.deepEqual(
    [1, 2, 3, 5].map((count) => shards(count, '--kafka-brokers', 'a:1')),
    [12, 12, 12, 15],
  );
});

test('a list of nodes or a database that cannot be is refused with its option and origin', () => {
  refuses(['--clickhouse', 'a:8123'], {}, '--clickhouse', 'the command line', 'a:8123');
  refuses([], { ESS_CLICKHOUSE: 'http://a:1/x' }, '--clickhouse', 'ESS_CLICKHOUSE', 'http://a:1/x');
  const path = file({ clickhouse: 'http://a:1,http://a:1' });
  refuses(['--config', path], {}, '--clickhouse', path, 'http://a:1');
  for (const name of ['', 'a b', 'a/b', '{shard}', 'x'.repeat(65)]) {
    refuses([...two, `--clickhouse-database=${name}`], {}, '--clickhouse-database');
  }
});

test('a password in a URL is refused, and not repeated, with what to do instead', () => {
  for (const list of [
    `http://u:${secret}@a:1`,
    `http://b:1;http://u:${secret}@a:1`,
    `http://${secret}@a:1/x`,
  ]) {
    refuses(['--clickhouse', list], {}, '--clickhouse');
    refuses([], { ESS_CLICKHOUSE: list }, '--clickhouse', 'ESS_CLICKHOUSE');
    refuses(['--config', file({ clickhouse: [list] })], {}, '--clickhouse');
  }
  refuses(['--clickhouse', 'http://u:x@a:1'], {}, '--clickhouse-password-file', 'ESS_CLICKHOUSE_PASSWORD');
});

test('a file that cannot be read or used is refused with its option and its name', () => {
  const missing = join(folder, 'none');
  refuses([...two, '--clickhouse-password-file', missing], {}, '--clickhouse-password-file', missing);
  refuses([...secure, '--clickhouse-tls-ca-file', missing], {}, '--clickhouse-tls-ca-file', missing);
  const text = file(secret);
  refuses([...secure, '--clickhouse-tls-ca-file', text], {}, '--clickhouse-tls-ca-file', text);
  const env = { ESS_CLICKHOUSE_PASSWORD: secret };
  refuses(
    [...two, '--clickhouse-password-file', text],
    env,
    '--clickhouse-password-file',
    'ESS_CLICKHOUSE_PASSWORD',
  );
});

test('authorities for connections that are not encrypted are refused', () => {
  refuses([...two, '--clickhouse-tls-ca-file', file(certificate)], {}, '--clickhouse-tls-ca-file', 'https');
});
