// Lists of ClickHouse nodes.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { parseShards, shardsFault } from '../../src/config/shards.ts';

test('semicolons separate shards and commas replicas, in the order given', () => {
  assert.deepEqual(parseShards('http://a:8123'), [['http://a:8123']]);
  assert.deepEqual(parseShards('http://a:8123,http://b:8123;http://c:8123'), [
    ['http://a:8123', 'http://b:8123'],
    ['http://c:8123'],
  ]);
  assert.deepEqual(parseShards(' HTTP://A:8123/ ; https://[::1]:8443 '), [
    ['http://a:8123'],
    ['https://[::1]:8443'],
  ]);
  assert.deepEqual(parseShards('https://a'), [['https://a']]);
});

test('what is no list of plain http or https addresses is a fault', () => {
  const faulty = [
    '',
    ';',
    ',',
    'http://a:1;',
    'http://a:1,',
    ';http://a:1',
    'a:8123',
    '//a:8123',
    'http:a:8123',
  ];
  const others = [
    'tcp://a:9000',
    'clickhouse://a:8123',
    'http://',
    'http:///x',
    'http://a:x',
    'http://a:70000',
  ];
  const more = [
    'http://a:1/x',
    'http://a:1/?database=x',
    'http://a:1?x',
    'http://a:1#x',
    'http://a:1 http://b:1',
  ];
  const users = ['http://u@a:1', 'http://u:p@a:1', 'http://:p@a:1', 'http://@a:1', 'http:\\\\a:1'];
  for (const text of [...faulty, ...others, ...more, ...users]) {
    assert.notEqual(shardsFault(text), null, text);
  }
});

test('the same node twice is a fault, as replicas and as shards, however it is written', () => {
  const twice = [
    'http://a:1,http://a:1',
    'http://a:1;http://A:1/',
    'http://a,http://a:80',
    'http://a:1;http://b:1,http://a:1',
  ];
  for (const text of twice) assert.notEqual(shardsFault(text), null, text);
  assert.equal(shardsFault('http://a:1,http://a:2'), null);
});

test('there are at most as many shards as partitions can be', () => {
  const list = (count: number): string =>
    Array.from({ length: count }, (_, i) => `http://a:${i + 1}`).join(';');
  assert.equal(shardsFault(list(1024)), null);
  assert.notEqual(shardsFault(list(1025)), null);
});

test('no text makes the parser throw, and a list that it made it takes again', () => {
  const pieces = fc.array(
    fc.constantFrom('http://', 'https://', 'a', ':', '81', ',', ';', '/', '@', '?', '[::1]', ' '),
  );
  fc.assert(
    fc.property(
      fc.oneof(
        pieces.map((parts) => parts.join('')),
        fc.string(),
      ),
      (text) => {
        const shards = parseShards(text);
        if (typeof shards === 'string') return;
        assert.deepEqual(parseShards(shards.map((replicas) => replicas.join(',')).join(';')), shards);
      },
    ),
  );
});
