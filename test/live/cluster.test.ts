// What is wrong with brokers, group, nodes and disks, as far as a view of them tells.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ClusterNode, type ClusterView, clusterTroubles } from '../../src/live/cluster.ts';
import { troubleAnchor, troubleKinds } from '../../src/live/troubles.ts';

const GiB = 1024 ** 3;

const well: ClusterView = {
  kind: 'kafka',
  brokers: [1, 2, 3].map((id) => ({
    id,
    address: `kafka-${id}:9092`,
    is_up: true,
    is_controller: id === 1,
  })),
  min_in_sync_replicas: 2,
  partitions: [0, 1].map(() => ({ leader: 1, replicas: [1, 2, 3], in_sync: [1, 2, 3] })),
  group: { id: 'ess', state: 'Stable', members: [], unstable_ms: 0 },
  nodes: [nodeOf({}), nodeOf({ name: 'ch-2:8123', replica: 1 })],
  log_disk: null,
  data_dir: { free_bytes: 50 * GiB, total_bytes: 100 * GiB },
  is_data_dir_used: true,
  dead_letters: { total: 0, latest: [] },
};

function nodeOf(changes: Partial<ClusterNode>): ClusterNode {
  return {
    name: 'ch-1:8123',
    shard: 0,
    replica: 0,
    is_up: true,
    error: null,
    rows: 5,
    rows_per_s: 0,
    parts: 10,
    parts_max: 3000,
    disk_free_bytes: 50 * GiB,
    disk_total_bytes: 100 * GiB,
    ...changes,
  };
}

const kindsOf = (changes: Partial<ClusterView>, hasSinks = true): string[] =>
  clusterTroubles({ ...well, ...changes }, hasSinks).map(({ kind }) => kind);

function textOf(changes: Partial<ClusterView>): string {
  const [trouble, ...more] = clusterTroubles({ ...well, ...changes }, true);
  assert.ok(trouble !== undefined && more.length === 0);
  return trouble.text;
}

test('nothing is wrong with what is well, nor with what is not known yet', () => {
  assert.deepEqual(kindsOf({}), []);
  const unknown = {
    brokers: [],
    partitions: [],
    min_in_sync_replicas: null,
    group: null,
    nodes: [],
    data_dir: null,
    dead_letters: { total: null, latest: [] },
  };
  assert.deepEqual(kindsOf(unknown), []);
});

test('a broker that does not answer is named', () => {
  const brokers = well.brokers.map((broker) => ({ ...broker, is_up: broker.id !== 2 }));
  assert.deepEqual(kindsOf({ brokers }), ['broker_down']);
  assert.match(textOf({ brokers }), /broker 2 \(kafka-2:9092\)/);
});

test('partitions without enough replicas in sync, or without a leader, are named, and many are counted', () => {
  const short = { leader: 1, replicas: [1, 2, 3], in_sync: [1] };
  assert.match(
    textOf({ partitions: [short, ...well.partitions] }),
    /fewer than 2 replicas .* partition 0 \(1\)/,
  );
  assert.match(textOf({ partitions: Array.from({ length: 20 }, () => short) }), /7 \(1\) and 12 more$/);
  const leaderless = { leader: -1, replicas: [1, 2, 3], in_sync: [2, 3] };
  assert.match(textOf({ partitions: [leaderless] }), /no broker leads partition 0$/);
});

test('a rebalance is no trouble, a group that does not settle is, where this process consumes', () => {
  const group = (ms: number) => ({
    id: 'ess',
    state: 'PreparingRebalance',
    members: [],
    unstable_ms: ms,
  });
  assert.deepEqual(kindsOf({ group: group(9_000) }), []);
  assert.deepEqual(kindsOf({ group: group(12_000) }), ['group_unstable']);
  assert.deepEqual(kindsOf({ group: group(12_000) }, false), []);
  assert.match(textOf({ group: group(12_000) }), /PreparingRebalance for 12 s/);
});

test('a node that is down, has many parts, or a full disk is named', () => {
  assert.match(
    textOf({ nodes: [nodeOf({ is_up: false, error: 'ECONNREFUSED' })] }),
    /ch-1:8123 \(shard 0, replica 0\): ECONNREFUSED/,
  );
  assert.deepEqual(kindsOf({ nodes: [nodeOf({ is_up: false, error: 'x' })] }), ['store_node_down']);
  assert.deepEqual(kindsOf({ nodes: [nodeOf({ parts: 1500 })] }), []);
  assert.deepEqual(kindsOf({ nodes: [nodeOf({ parts: 1501 })] }), ['store_parts']);
  assert.deepEqual(kindsOf({ nodes: [nodeOf({ parts: 9999, parts_max: null })] }), []);
  assert.deepEqual(kindsOf({ nodes: [nodeOf({ disk_free_bytes: 9 * GiB })] }), ['disk']);
  assert.deepEqual(kindsOf({ nodes: [nodeOf({ disk_free_bytes: null, disk_total_bytes: null })] }), []);
});

test('a disk is nearly full below a tenth or below a gibibyte, and is told once where the store is in it', () => {
  const disk = (free: number, total: number) => ({ free_bytes: free * GiB, total_bytes: total * GiB });
  assert.deepEqual(kindsOf({ data_dir: disk(11, 100) }), []);
  assert.deepEqual(kindsOf({ data_dir: disk(9, 100) }), ['disk']);
  assert.deepEqual(kindsOf({ data_dir: disk(0.9, 4) }), ['disk']);
  assert.deepEqual(kindsOf({ data_dir: disk(0.9, 4), is_data_dir_used: false }), []);
  const chdb = nodeOf({ name: 'chdb', disk_free_bytes: 9 * GiB });
  assert.deepEqual(kindsOf({ data_dir: disk(9, 100), nodes: [chdb] }), ['disk']);
  assert.match(textOf({ data_dir: disk(9, 100) }), /the data directory: 9.0 of 100.0 GiB are free/);
});

test('dead letters are counted', () => {
  assert.match(textOf({ dead_letters: { total: 1, latest: [] } }), /^1 event is a dead letter$/);
  assert.match(textOf({ dead_letters: { total: 12, latest: [] } }), /^12 events are/);
});

test('every kind of trouble has an anchor of its own', () => {
  const anchors = Object.keys(troubleKinds).map((kind) => troubleAnchor(kind as keyof typeof troubleKinds));
  assert.equal(new Set(anchors).size, anchors.length);
  for (const anchor of anchors) assert.match(anchor, /^[a-z]+(-[a-z]+)*$/);
});
