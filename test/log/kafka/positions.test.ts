// What a group's committed positions prove, against a real broker. Invariant: a position that was not committed for the
// topic as it is now is never believed, neither by who waits for the store nor by who goes on from it.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { EssError } from '../../../src/errors.ts';
import { openKafkaAppender } from '../../../src/log/kafka/appender.ts';
import { stampText, textBytesMax } from '../../../src/log/kafka/position_stamp.ts';
import type { KafkaTarget } from '../../../src/log/kafka/target.ts';
import type { LogAppender } from '../../../src/log/log.ts';
import { KafkaCluster, needsKafka } from '../../support/kafka_cluster.ts';
import { until } from '../eventually.ts';
import { packed } from '../records.ts';
import { Reader } from './reader.ts';
import { targetOf } from './target.ts';

const idle = { isReading: false };
const none = { offset: -1, metadata: '' };

describe('positions in Kafka', needsKafka(), () => {
  let cluster: KafkaCluster;
  before(async () => {
    cluster = await KafkaCluster.start({ nodes: 1 });
  });
  after(() => cluster?.dispose());

  const target = (topic: string): KafkaTarget => targetOf(cluster.brokers, topic, { minInsyncReplicas: 1 });

  /** Four records in each of two partitions. */
  async function filled(topic: string): Promise<LogAppender> {
    const appender = await openKafkaAppender(target(topic));
    const bytes = packed(['a', 'b', 'c', 'd'], 10);
    await appender.append([0, 1].map((partition) => ({ partition, count: 4, bytes })));
    return appender;
  }

  const lag = async (log: { states: LogAppender['states'] }): Promise<number[]> =>
    (await log.states()).map(({ end, committed }) => end - committed);

  it('carry the epoch, and come back without it', async () => {
    const topic = 'stamped';
    const epoch = await cluster.createTopic({ topic, partitions: 2 });
    const appender = await filled(topic);
    const reader = await Reader.start(target(topic), idle);
    await until(() => reader.owned.size === 2);
    const longest = 'x'.repeat(textBytesMax);
    await reader.consumer.commit(0, 3, '');
    await reader.consumer.commit(1, 2, longest);
    await assert.rejects(
      reader.consumer.commit(1, 2, `${longest}x`),
      (error) => error instanceof EssError && error.code === 'internal',
    );
    const { group } = target(topic);
    assert.deepEqual(await cluster.groupOffset(group, topic, 0), {
      offset: 3,
      metadata: stampText(epoch, ''),
    });
    assert.deepEqual(await appender.committed([1, 0]), [2, 3]);
    assert.deepEqual(await lag(appender), [1, 2]);
    await reader.close();
    const next = await Reader.start(target(topic), idle);
    await until(() => next.owned.size === 2);
    assert.deepEqual(next.owned.get(0), { offset: 3, metadata: '' });
    assert.deepEqual(next.owned.get(1), { offset: 2, metadata: longest });
    await Promise.all([next.close(), appender.close()]);
  });

  it('of a topic that was deleted and made anew are none', async () => {
    const topic = 'anew';
    const { group } = target(topic);
    const before = await cluster.createTopic({ topic, partitions: 2 });
    const old = await filled(topic);
    const sink = await Reader.start(target(topic), idle);
    await until(() => sink.owned.size === 2);
    await sink.consumer.commit(0, 4, '');
    await sink.consumer.commit(1, 2, 'intent');
    assert.deepEqual(await old.committed([0, 1]), [4, 2]);
    await Promise.all([sink.close(), old.close()]);
    await cluster.deleteTopic(topic);
    const now = await cluster.createTopic({ topic, partitions: 2 });
    assert.notEqual(now, before);
    // As they are if the coordinator did not hear of the deletion, or a sink of before was late.
    await cluster.setGroupOffset(group, topic, 0, 4, stampText(before, ''));
    await cluster.setGroupOffset(group, topic, 1, 2, stampText(before, 'intent'));

    const appender = await filled(topic);
    assert.deepEqual(await appender.committed([0, 1]), [0, 0]);
    assert.deepEqual(await lag(appender), [4, 4]);
    const reader = await Reader.start(target(topic), idle);
    await until(() => reader.owned.size === 2);
    assert.deepEqual([reader.owned.get(0), reader.owned.get(1)], [none, none]);
    assert.deepEqual(await lag(reader.consumer), [4, 4]);
    await reader.consumer.commit(1, 4, '');
    assert.deepEqual(await appender.committed([0, 1]), [0, 4]);
    assert.deepEqual(await lag(appender), [4, 0]);
    await Promise.all([reader.close(), appender.close()]);
  });

  it('that were moved by hand are told as they are and prove nothing, until they are committed anew', async () => {
    const topic = 'moved';
    const { group } = target(topic);
    await cluster.createTopic({ topic, partitions: 2 });
    const appender = await filled(topic);
    await cluster.setGroupOffset(group, topic, 0, 4);
    await cluster.setGroupOffset(group, topic, 1, 99, 'a note');
    assert.deepEqual(await appender.committed([0, 1]), [0, 0]);
    assert.deepEqual(await lag(appender), [0, 0]);
    const reader = await Reader.start(target(topic), idle);
    await until(() => reader.owned.size === 2);
    assert.deepEqual(reader.owned.get(0), { offset: 4, metadata: '', isForeign: true });
    assert.deepEqual(reader.owned.get(1), { offset: 99, metadata: 'a note', isForeign: true });
    assert.deepEqual(await lag(reader.consumer), [0, 0]);
    await reader.consumer.commit(0, 4, '');
    await reader.consumer.commit(1, 3, '');
    assert.deepEqual(await appender.committed([0, 1]), [4, 3]);
    assert.deepEqual(await lag(appender), [0, 1]);
    await Promise.all([reader.close(), appender.close()]);
  });
});
