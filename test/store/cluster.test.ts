// The list of ClickHouse nodes, as it is given on the command line.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { clusterTarget, layoutOf, parseCluster, shardOf } from '../../src/store/cluster.ts';
import type { StoreTarget } from '../../src/store/store.ts';

describe('the list of nodes', () => {
  test('semicolons separate shards and commas replicas', () => {
    const parsed = parseCluster(' http://a:8123 , https://b:8443/ ; http://[::1]:8123');
    assert.deepEqual(parsed, {
      shards: [[{ url: 'http://a:8123' }, { url: 'https://b:8443' }], [{ url: 'http://[::1]:8123' }]],
    });
    const access = { user: 'u', password: 'p', database: 'd', tls: null, isCompressed: false };
    const target = clusterTarget(parsed, access);
    assert.deepEqual(target.shards[1], [{ kind: 'http', url: 'http://[::1]:8123', ...access }]);
    assert.equal(layoutOf(target).shards.length, 2);
    const embedded: StoreTarget = { kind: 'embedded', path: '/x' };
    assert.deepEqual(layoutOf(embedded), { shards: [[embedded]] });
  });

  test('whatever is not a list of different origins is refused, and no password is repeated', () => {
    const wrong = [
      '',
      ';',
      'http://a:8123;',
      'http://a:8123,,http://b:8123',
      'a:8123',
      'http:a',
      'http://',
      'tcp://a:9000',
      'http://a:99999',
      'http://a:8123/db',
      'http://a:8123?user=x',
      'http://a:8123#x',
      'http://a:8123,http://b:8123;http://A:8123',
    ];
    for (const text of wrong) assert.throws(() => parseCluster(text), { code: 'bad_option' }, text);
    assert.throws(
      () => parseCluster('http://me:secret@a:8123'),
      (error) => error instanceof Error && !error.message.includes('secret'),
    );
  });

  test('every partition keeps its shard when partitions are added in multiples of the shards', () => {
    assert.deepEqual(
      [0, 1, 2, 3, 4, 5].map((partition) => shardOf(partition, 3)),
      [0, 1, 2, 0, 1, 2],
    );
  });
});
