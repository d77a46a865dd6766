import { after, before, describe } from 'node:test';
import { openKafkaAppender } from '../../../src/log/kafka/appender.ts';
import { openKafkaConsumer } from '../../../src/log/kafka/consumer.ts';
import { KafkaCluster, needsKafka } from '../../support/kafka_cluster.ts';
import { logContract } from '../contract.ts';
import { targetOf } from './target.ts';

describe('with Kafka', needsKafka(), () => {
  let cluster: KafkaCluster;
  let topics = 0;
  before(async () => {
    cluster = await KafkaCluster.start();
  });
  after(() => cluster?.dispose());

  logContract('kafka', async () => {
    topics += 1;
    const topic = `contract-${topics}`;
    // As `ess init` makes them: the suite appends groups of 8 MB.
    await cluster.createTopic({ topic, partitions: 4, config: { 'max.message.bytes': '16777216' } });
    await cluster.createTopic({
      topic: `${topic}-dead-letters`,
      partitions: 1,
      config: { 'cleanup.policy': 'compact' },
    });
    const target = targetOf(cluster.brokers, topic);
    const handles: { close(): Promise<void> }[] = [];
    const keep = <T extends { close(): Promise<void> }>(handle: T): T => {
      handles.push(handle);
      return handle;
    };
    return {
      openAppender: async () => keep(await openKafkaAppender(target)),
      openConsumer: async () =>
        keep(await openKafkaConsumer(target, { index: 0, count: 1, shard: 0, shards: 1, node: 'test' })),
      dispose: async () => {
        await Promise.all(handles.map((handle) => handle.close()));
      },
    };
  });
});
