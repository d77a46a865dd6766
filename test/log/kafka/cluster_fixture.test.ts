// Checks the fixture that other tests of Kafka stand on (test/support/kafka_cluster.ts and kcat.ts): what it says of
// the cluster is so, and the faults it makes are the ones it names.

import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { Kafka, logLevel } from 'kafkajs';
import {
  KafkaCluster,
  type KafkaClusterOptions,
  type KafkaVersion,
  needsKafka,
} from '../../support/kafka_cluster.ts';
import { kcat, needsKcat } from '../../support/kcat.ts';

const needs = (version: KafkaVersion): { readonly skip: string | false } => {
  const kafka = needsKafka(version);
  return kafka.skip === false ? needsKcat() : kafka;
};

const codecs = ['none', 'gzip', 'snappy', 'lz4', 'zstd'] as const;

describe('a cluster of three nodes', needs('3.7.0'), () => {
  let cluster: KafkaCluster;
  const topic = 'fixture';

  before(async () => {
    cluster = await KafkaCluster.start();
  });
  after(() => cluster?.dispose());

  it('makes a topic with its id on every node, and knows who leads what', async () => {
    const id = await cluster.createTopic({ topic, partitions: 2, config: { 'min.insync.replicas': '2' } });
    assert.match(id, /^[0-9a-f]{32}$/);
    assert.equal(await cluster.topicId(topic), id);
    assert.equal(await cluster.topicId('nowhere'), undefined);
    const { leader, replicas, inSync } = await cluster.partition(topic, 0);
    assert.deepEqual([...replicas].sort(), [0, 1, 2]);
    assert.deepEqual([...inSync].sort(), [0, 1, 2]);
    assert.equal(await cluster.leaderOf(topic, 0), leader);
    assert.ok([0, 1, 2].includes(await cluster.controller()));
    assert.ok([0, 1, 2].includes(await cluster.coordinatorOf('group')));
    await assert.rejects(cluster.createTopic({ topic }), { name: 'KafkaRefusal', code: 36 });
  });

  it('takes records from kcat in every codec, and gives them back byte for byte', async () => {
    for (const codec of codecs) {
      const lines = Array.from({ length: 200 }, (_, i) => `${codec}-${i}\t{"n":${i},"text":"ä\\u0000"}`);
      await kcat.produce(cluster.brokers, topic, lines, {
        partition: 0,
        codec,
        keyDelimiter: '\t',
        headers: { codec },
      });
    }
    const records = await kcat.consume(cluster.brokers, topic, { partition: 0, count: 1000 });
    assert.deepEqual(
      records.map((record) => record.offset),
      Array.from({ length: 1000 }, (_, i) => i),
    );
    for (const [at, codec] of codecs.entries()) {
      const record = records[at * 200 + 7];
      assert.equal(record?.key?.toString(), `${codec}-7`);
      assert.equal(record?.value?.toString(), '{"n":7,"text":"ä\\u0000"}');
      assert.deepEqual(record?.headers, [{ name: 'codec', value: Buffer.from(codec) }]);
      assert.ok(Math.abs((record?.timestampMs ?? 0) - Date.now()) < 3_600_000);
    }
    assert.deepEqual(await cluster.offsets(topic, 0), { start: 0, end: 1000 });
    assert.deepEqual(
      (await kcat.consume(cluster.brokers, topic, { partition: 0, offset: 998 })).map(({ offset }) => offset),
      [998, 999],
    );
  });

  it('gives any byte of keys, values and headers back, nulls included', async () => {
    const every = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
    const producer = new Kafka({ brokers: cluster.brokers, logLevel: logLevel.NOTHING }).producer();
    await cluster.createTopic({ topic: 'bytes' });
    await producer.connect();
    try {
      await producer.send({
        topic: 'bytes',
        messages: [
          { key: every, value: every, headers: { ess: every }, timestamp: '1234567890123' },
          { key: null, value: null },
          { key: '', value: '' },
        ],
      });
    } finally {
      await producer.disconnect();
    }
    const records = await kcat.consume(cluster.brokers, 'bytes');
    assert.deepEqual(records[0], {
      partition: 0,
      offset: 0,
      timestampMs: 1234567890123,
      key: every,
      value: every,
      headers: [{ name: 'ess', value: every }],
    });
    assert.deepEqual([records[1]?.key, records[1]?.value], [null, null]);
    assert.deepEqual([records[2]?.key?.length, records[2]?.value?.length], [0, 0]);
    await cluster.deleteTopic('bytes');
    assert.equal(await cluster.topicId('bytes'), undefined);
  });

  it('cuts records, sets offsets of groups, and raises the number of partitions', async () => {
    assert.equal(await cluster.deleteRecords(topic, 0, 10), 10);
    assert.deepEqual(await cluster.offsets(topic, 0), { start: 10, end: 1000 });
    assert.deepEqual(await cluster.groupOffset('group', topic, 0), { offset: -1, metadata: '' });
    await cluster.setGroupOffset('group', topic, 0, 42, 'why');
    assert.deepEqual(await cluster.groupOffset('group', topic, 0), { offset: 42, metadata: 'why' });
    const id = await cluster.topicId(topic);
    await cluster.createPartitions(topic, 4);
    assert.equal(await cluster.topicId(topic), id);
    assert.ok((await cluster.leaderOf(topic, 3)) >= 0);
  });

  it('moves a leader where it is told', async () => {
    const from = await cluster.leaderOf(topic, 1);
    const to = (from + 1) % 3;
    await cluster.moveLeader(topic, 1, to);
    assert.equal(await cluster.leaderOf(topic, 1), to);
  });

  it('gives a killed leader a successor, counts replicas in sync, and heals when the node is back', async () => {
    await cluster.createTopic({ topic: 'strict', config: { 'min.insync.replicas': '3' } });
    const killed = cluster.node(await cluster.leaderOf(topic, 0));
    await killed.kill();
    assert.equal(killed.isRunning, false);
    // As if the kill had come just after the topic was made; nothing is in it yet.
    rmSync(join(killed.folder, 'strict-0/partition.metadata'), { force: true });
    assert.notEqual(await cluster.untilLeaderMoved(topic, 0, killed.index), killed.index);
    assert.notEqual(await cluster.controller(), killed.index);
    await kcat.produce(cluster.brokers, topic, ['after the kill'], { partition: 0 });
    assert.equal((await cluster.offsets(topic, 0)).end, 1001);
    const soon = { 'message.timeout.ms': '2000' };
    await assert.rejects(kcat.produce(cluster.brokers, 'strict', ['lost'], { properties: soon }));
    await cluster.setConfig('strict', { 'min.insync.replicas': '2' });
    await kcat.produce(cluster.brokers, 'strict', ['kept']);
    await killed.restart();
    await cluster.untilHealthy(topic);
    await cluster.untilHealthy('strict');
    assert.equal((await cluster.partition(topic, 0)).inSync.length, 3);
    const [record] = await kcat.consume([killed.broker], 'strict', { count: 1 });
    assert.equal(record?.value?.toString(), 'kept');
  });

  it('gives a paused leader a successor, and takes it back when it goes on', async () => {
    const paused = cluster.node(await cluster.leaderOf(topic, 2));
    paused.pause();
    assert.ok(paused.isRunning && paused.isPaused);
    await cluster.untilLeaderMoved(topic, 2, paused.index);
    paused.resume();
    assert.equal(paused.isPaused, false);
    await cluster.untilHealthy(topic);
  });

  it('gives the partitions of a stopped leader away', async () => {
    const stopped = cluster.node(await cluster.leaderOf(topic, 3));
    await stopped.stop();
    assert.equal(stopped.isRunning, false);
    assert.notEqual(await cluster.untilLeaderMoved(topic, 3, stopped.index), stopped.index);
  });
});

/** One node, one topic, one record there and back by kcat. */
async function takesOneRecord(options: KafkaClusterOptions): Promise<void> {
  const cluster = await KafkaCluster.start({ nodes: 1, ...options });
  try {
    await cluster.createTopic({ topic: 'one' });
    await kcat.produce(cluster.brokers, 'one', ['record'], { codec: 'zstd' });
    const [record] = await kcat.consume(cluster.brokers, 'one', { count: 1 });
    assert.equal(record?.value?.toString(), 'record');
    const { sasl, tls, sasl_tls: both } = cluster.listeners;
    if (options.sasl === undefined || sasl === undefined) return;
    assert.ok(tls !== undefined && both !== undefined && cluster.certificates !== null);
    const { ca, cert, key } = cluster.certificates.files;
    const certificate = { 'ssl.ca.location': ca, 'ssl.certificate.location': cert, 'ssl.key.location': key };
    const login = (mechanism: string, password: string): Record<string, string> => ({
      'sasl.mechanism': mechanism,
      'sasl.username': options.sasl?.username ?? '',
      'sasl.password': password,
    });
    const { password } = options.sasl;
    const ways: readonly (readonly [readonly string[], Readonly<Record<string, string>>])[] = [
      [sasl, { 'security.protocol': 'sasl_plaintext', ...login('PLAIN', password) }],
      [sasl, { 'security.protocol': 'sasl_plaintext', ...login('SCRAM-SHA-256', password) }],
      [sasl, { 'security.protocol': 'sasl_plaintext', ...login('SCRAM-SHA-512', password) }],
      [tls, { 'security.protocol': 'ssl', ...certificate }],
      [both, { 'security.protocol': 'sasl_ssl', ...certificate, ...login('SCRAM-SHA-512', password) }],
    ];
    for (const [brokers, properties] of ways) {
      await kcat.produce(brokers, 'one', ['again'], { properties });
    }
    assert.equal((await cluster.offsets('one', 0)).end, 1 + ways.length);
    const refused: typeof ways = [
      [sasl, { 'security.protocol': 'sasl_plaintext', ...login('SCRAM-SHA-256', `${password}2`) }],
      [tls, { 'security.protocol': 'ssl', 'ssl.ca.location': ca }],
    ];
    for (const [brokers, properties] of refused) {
      const soon = { ...properties, 'message.timeout.ms': '2000' };
      await assert.rejects(kcat.produce(brokers, 'one', ['never'], { properties: soon }));
    }
    assert.equal((await cluster.offsets('one', 0)).end, 1 + ways.length);
  } finally {
    await cluster.dispose();
  }
}

it('a single node of Kafka 4.1 starts and takes a record', needs('4.1.0'), async () => {
  await takesOneRecord({ version: '4.1.0' });
});

it('a node takes whom it should by TLS and SASL, and nobody else', needs('3.7.0'), async () => {
  await takesOneRecord({
    sasl: { username: 'alice', password: 'alice-secret' },
    tls: { clientAuth: 'required' },
  });
});
