// A consumer against a real cluster: every record once and in order, whatever became of its leader, its neighbours in
// the log, or its writer.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { Kafka, logLevel } from 'kafkajs';
import { EssError } from '../../../src/errors.ts';
import { recordFlags } from '../../../src/event/record.ts';
import { openKafkaAppender } from '../../../src/log/kafka/appender.ts';
import { KafkaCluster, needsKafka } from '../../support/kafka_cluster.ts';
import { kcat, needsKcat } from '../../support/kcat.ts';
import { until } from '../eventually.ts';
import { packed } from '../records.ts';
import { Reader } from './reader.ts';
import { targetOf } from './target.ts';

const needs = needsKafka().skip === false ? needsKcat() : needsKafka();
const place = { shard: 0, shards: 1 };

describe('a Kafka consumer', needs, () => {
  let cluster: KafkaCluster;
  before(async () => {
    cluster = await KafkaCluster.start({ properties: { 'log.cleaner.backoff.ms': '300' } });
  });
  after(() => cluster?.dispose());

  it('misses nothing and has nothing twice when the leader is killed while it reads', async () => {
    await cluster.createTopic({ topic: 'killed', partitions: 3, config: { 'min.insync.replicas': '2' } });
    const target = targetOf(cluster.brokers, 'killed', { sessionTimeoutMs: 30_000, compression: 'gzip' });
    const appender = await openKafkaAppender(target);
    const reader = await Reader.start(target);
    const written = new Map<number, string[]>([0, 1, 2].map((partition) => [partition, []]));
    const append = async (call: number) => {
      const ids = Array.from({ length: 50 }, (_, i) => `${call}-${i}`);
      const batches = [0, 1, 2].map((partition) => ({
        partition,
        count: ids.length,
        bytes: packed(ids, 50),
      }));
      const results = await appender.append(batches).catch(() => []);
      for (const [partition, base] of results.entries()) {
        if (typeof base !== 'number') continue;
        for (const [i, id] of ids.entries()) {
          const list = written.get(partition);
          if (list !== undefined) list[base + i] = id;
        }
      }
    };
    for (let call = 0; call < 20; call += 1) await append(call);
    await until(() => reader.count >= 1000);
    const leader = cluster.node(await cluster.leaderOf('killed', 0));
    await Promise.all([leader.kill(), append(20), append(21)]);
    await cluster.untilLeaderMoved('killed', 0, leader.index);
    for (let call = 22; call < 40; call += 1) await append(call);
    const { length: last } = written.get(0) ?? [];
    assert.ok(last > 22 * 50);
    for (const [partition, ids] of written) {
      await until(() => (reader.next.get(partition) ?? 0) >= ids.length);
      const offsets = reader.offsetsOf(partition);
      assert.deepEqual(offsets, [...offsets.keys()], `partition ${partition}: each offset once and in order`);
      // What was answered with an offset lies there; what was not may lie anywhere.
      for (const [offset, id] of ids.entries())
        if (id !== undefined) assert.equal(reader.idsOf(partition)[offset], id);
    }
    await leader.restart();
    await cluster.untilHealthy('killed');
    await Promise.all([reader.close(), appender.close()]);
  });

  it('goes past what was compacted away and what was aborted, and to the end of what can be read', async () => {
    await cluster.createTopic({
      topic: 'holes',
      config: { 'cleanup.policy': 'compact', 'segment.ms': '200', 'min.cleanable.dirty.ratio': '0.01' },
    });
    const kafka = new Kafka({ brokers: cluster.brokers, logLevel: logLevel.NOTHING });
    const producer = kafka.producer({ transactionalId: 'holes', idempotent: true, maxInFlightRequests: 1 });
    await producer.connect();
    const values = (name: string, count: number) =>
      Array.from({ length: count }, (_, i) => ({
        key: `${name}-${i}`,
        value: `{"id":"${name}-${i}"}`,
        partition: 0,
      }));
    const expected: string[] = [];
    for (let round = 0; round < 6; round += 1) {
      const name = `${round % 2 === 0 ? 'kept' : 'gone'}-${round}`;
      const transaction = await producer.transaction();
      await transaction.send({ topic: 'holes', messages: values(name, 5) });
      if (round % 2 === 0) await transaction.commit();
      else await transaction.abort();
      if (round % 2 === 0) expected.push(...values(name, 5).map(({ key }) => key));
    }
    const target = targetOf(cluster.brokers, 'holes');
    const reader = await Reader.start(target);
    const { end } = await cluster.offsets('holes', 0);
    await until(() => reader.next.get(0) === end);
    assert.deepEqual(reader.idsOf(0), expected);
    const [state] = await reader.consumer.states();
    assert.deepEqual(state, { start: 0, end, bytes: 0, committed: 0 });
    await reader.close();

    // The same keys again and again: of the older segments only the last of each stays.
    const lines = Array.from({ length: 10 }, (_, i) => `again-${i}\t{"id":"again-${i}"}`);
    const compacted = async () => {
      await kcat.produce(cluster.brokers, 'holes', lines, { partition: 0, keyDelimiter: '\t' });
      const fresh = await Reader.start({ ...target, group: `${Math.random()}` });
      const { end: last } = await cluster.offsets('holes', 0);
      await until(() => fresh.next.get(0) === last);
      await fresh.close();
      return { fresh, last };
    };
    let count = Number.POSITIVE_INFINITY;
    await until(async () => {
      const { fresh, last } = await compacted();
      count = fresh.count;
      const offsets = fresh.offsetsOf(0);
      assert.deepEqual(
        offsets,
        [...new Set(offsets)].sort((a, b) => a - b),
      );
      assert.deepEqual(
        new Set(fresh.idsOf(0)),
        new Set([...expected, ...lines.map((line) => line.split('\t')[0])]),
      );
      return last > 100 && count < last - 40;
    });
    await producer.disconnect();
  });

  it('takes what others write, in every codec, and keeps what is no event as broken', async () => {
    await cluster.createTopic({ topic: 'foreign' });
    for (const codec of ['none', 'gzip', 'snappy', 'lz4', 'zstd'] as const) {
      await kcat.produce(cluster.brokers, 'foreign', [`{"id":"${codec}"}`, `no event in ${codec}`, '{}'], {
        partition: 0,
        codec,
      });
    }
    const reader = await Reader.start(targetOf(cluster.brokers, 'foreign'));
    await until(() => reader.count === 15);
    const { epoch } = reader.consumer;
    for (const [i, codec] of ['none', 'gzip', 'snappy', 'lz4', 'zstd'].entries()) {
      const [whole, broken, empty] = (reader.records.get(0) ?? []).slice(3 * i);
      assert.equal(whole?.id, codec);
      assert.equal(broken?.type, 'malformed_json');
      assert.equal((broken?.flags ?? 0) & recordFlags.isBroken, recordFlags.isBroken);
      assert.equal(empty?.id, `${epoch}:0:${3 * i + 2}`);
    }
    await reader.close();
  });

  it('names what is gone and does not step over it', async () => {
    await cluster.createTopic({ topic: 'cut' });
    const target = targetOf(cluster.brokers, 'cut');
    const appender = await openKafkaAppender(target);
    const bytes = packed(['a', 'b', 'c', 'd'], 10);
    await appender.append([{ partition: 0, count: 4, bytes }]);
    assert.equal(await cluster.deleteRecords('cut', 0, 2), 2);
    const reader = await Reader.start(target, { ...place, isReading: false });
    await until(() => reader.owned.size === 1);
    const read = (from: number) => {
      try {
        return reader.consumer.read(0, from, 1000, () => {});
      } catch (error) {
        return error;
      }
    };
    await until(() => read(0) instanceof EssError);
    const error = read(0);
    assert.ok(error instanceof EssError && error.code === 'internal');
    await until(() => read(2) === 4);
    const [state] = await reader.consumer.states();
    assert.deepEqual(state, { start: 2, end: 4, bytes: 0, committed: 0 });
    await Promise.all([reader.close(), appender.close()]);
  });

  it('tells the state of partitions that others own', async () => {
    await cluster.createTopic({ topic: 'states', partitions: 2 });
    const target = targetOf(cluster.brokers, 'states');
    const appender = await openKafkaAppender(target);
    const bytes = packed(['a', 'b', 'c'], 10);
    await appender.append([0, 1].map((partition) => ({ partition, count: 3, bytes })));
    const a = await Reader.start(target);
    const b = await Reader.start(target);
    await until(() => a.owned.size === 1 && b.owned.size === 1);
    const [ofB = -1] = b.owned.keys();
    await b.consumer.commit(ofB, 2, '');
    const wanted = { start: 0, end: 3, bytes: 0, committed: 2 };
    await until(async () => (await a.consumer.states())[ofB]?.committed === 2);
    assert.deepEqual((await a.consumer.states())[ofB], wanted);
    assert.deepEqual((await b.consumer.states())[ofB], wanted);
    await Promise.all([a.close(), b.close(), appender.close()]);
  });

  it('gives everything back and says so when the topic is made anew or gets more partitions', async () => {
    for (const change of [
      async (topic: string) => {
        await cluster.deleteTopic(topic);
        await cluster.createTopic({ topic, partitions: 2 });
      },
      (topic: string) => cluster.createPartitions(topic, 4),
    ]) {
      const topic = `changed-${Math.floor(Math.random() * 1e9)}`;
      await cluster.createTopic({ topic, partitions: 2 });
      const reader = await Reader.start(targetOf(cluster.brokers, topic));
      await until(() => reader.owned.size === 2);
      await change(topic);
      await until(() => reader.changes.length === 1);
      assert.equal(reader.owned.size, 0);
      assert.equal(reader.consumer.isOwned(0), false);
      await assert.rejects(
        reader.consumer.commit(0, 1, ''),
        (error) => error instanceof EssError && error.code === 'outcome_unknown',
      );
      await reader.close();
      const again = await Reader.start(targetOf(cluster.brokers, topic));
      await until(() => again.owned.size === again.consumer.partitions);
      await again.close();
    }
  });
});

describe('a Kafka consumer of a newer cluster', needsKafka('4.1.0'), () => {
  it('joins, reads, commits and comes back to its position', async () => {
    const cluster = await KafkaCluster.start({ nodes: 1, version: '4.1.0' });
    try {
      await cluster.createTopic({ topic: 'newer', partitions: 2 });
      const target = targetOf(cluster.brokers, 'newer', { minInsyncReplicas: 1 });
      const appender = await openKafkaAppender(target);
      const batches = [0, 1].map((partition) => ({ partition, count: 3, bytes: packed(['a', 'b', 'c'], 9) }));
      await appender.append(batches);
      const one = await Reader.start(target);
      await until(() => one.count === 6);
      await one.consumer.commit(1, 2, 'intent');
      const two = await Reader.start(target);
      await until(() => one.owned.size === 1 && two.owned.size === 1);
      await one.close();
      await until(() => two.owned.size === 2);
      assert.deepEqual(two.owned.get(1), { offset: 2, metadata: 'intent' });
      assert.deepEqual(two.owned.get(0), { offset: -1, metadata: '' });
      await Promise.all([two.close(), appender.close()]);
    } finally {
      await cluster.dispose();
    }
  });
});
