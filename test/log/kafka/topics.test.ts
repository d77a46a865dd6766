// What ESS says of a topic that does not keep its promises, and that the topics which it makes do. Against the newest
// broker version, since this is where versions differ.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { KafkaClient } from '../../../src/log/kafka/client.ts';
import type { KafkaTarget } from '../../../src/log/kafka/target.ts';
import {
  compareTopic,
  createTopic,
  maxMessageBytesDefault,
  readTopic,
  type TopicFound,
  type TopicWanted,
  topicConfigNames,
  wantedConfigs,
} from '../../../src/log/kafka/topics.ts';
import { KafkaCluster, needsKafka } from '../../support/kafka_cluster.ts';
import { until } from '../eventually.ts';

const wanted: TopicWanted = {
  name: 'events',
  partitions: 12,
  replicationFactor: 3,
  minInsyncReplicas: 2,
  isCompacted: false,
  maxMessageBytes: maxMessageBytesDefault,
};

/** A topic that is as it should be, but for what is given. */
function found(more: Partial<TopicFound> = {}, configs: Readonly<Record<string, string>> = {}): TopicFound {
  const all = new Map([...wantedConfigs(wanted), ...Object.entries(configs)]);
  return {
    name: 'events',
    topicId: '0'.repeat(32),
    partitions: 12,
    replicationFactor: 3,
    configs: all,
    ownConfigs: all,
    ...more,
  };
}

const whats = (topic: TopicFound, want: TopicWanted = wanted): string[] =>
  compareTopic(topic, want).map(({ what }) => what);

describe('the comparison of a topic', () => {
  it('finds nothing wrong with what was wanted, or with more of it', () => {
    assert.deepEqual(compareTopic(found(), wanted), []);
    const better = found(
      { replicationFactor: 5 },
      { 'min.insync.replicas': '3', 'max.message.bytes': '99999999', 'compression.type': 'gzip' },
    );
    assert.deepEqual(compareTopic(better, wanted), []);
  });

  it('names each broken promise, with what to run', () => {
    const cases: readonly (readonly [TopicFound, string])[] = [
      [found({ partitions: 6 }), 'events: partitions'],
      [found({ partitions: 24 }), 'events: partitions'],
      [found({ replicationFactor: 2 }), 'events: replicas'],
      [found({}, { 'min.insync.replicas': '1' }), 'events: min.insync.replicas'],
      [found({}, { 'cleanup.policy': 'compact' }), 'events: cleanup.policy'],
      [found({}, { 'cleanup.policy': 'compact,delete' }), 'events: cleanup.policy'],
      [found({}, { 'message.timestamp.type': 'LogAppendTime' }), 'events: message.timestamp.type'],
      [found({}, { 'unclean.leader.election.enable': 'true' }), 'events: unclean.leader.election.enable'],
      [found({}, { 'max.message.bytes': '1048588' }), 'events: max.message.bytes'],
    ];
    for (const [topic, what] of cases) {
      const differences = compareTopic(topic, wanted);
      assert.deepEqual(
        differences.map((difference) => difference.what),
        [what],
      );
      for (const { found: is, wanted: want, breaks, mend } of differences)
        for (const text of [is, want, breaks, mend]) assert.notEqual(text, '');
    }
    const letters = { ...wanted, isCompacted: true };
    assert.deepEqual(whats(found(), letters), ['events: cleanup.policy']);
    assert.deepEqual(whats(found({}, { 'cleanup.policy': 'compact' }), letters), []);
  });

  it('does not speak of settings that it may not read', () => {
    const hidden = found({ partitions: 3, configs: null, ownConfigs: new Map() });
    assert.deepEqual(whats(hidden), ['events: partitions']);
  });
});

describe('topics of a cluster', needsKafka('4.1.0'), () => {
  let cluster: KafkaCluster;
  let client: KafkaClient;

  before(async () => {
    cluster = await KafkaCluster.start({ version: '4.1.0' });
    const target: KafkaTarget = {
      kind: 'kafka',
      brokers: cluster.brokers,
      topic: 'events',
      deadLetterTopic: 'letters',
      group: 'group',
      tls: null,
      sasl: null,
      compression: 'none',
      minInsyncReplicas: 2,
      appendDeadlineMs: 8000,
      sessionTimeoutMs: 6000,
      fetchBytesMax: 1 << 20,
      eventBytesMax: 1 << 20,
      eventDepthMax: 50,
    };
    client = new KafkaClient(target, { name: 'ess-test', requestTimeoutMs: 30_000 });
  });
  after(async () => {
    await client?.close();
    await cluster?.dispose();
  });

  it('are made as wanted, and a second time nothing is changed', async () => {
    for (const want of [wanted, { ...wanted, name: 'letters', partitions: 1, isCompacted: true }]) {
      assert.equal(await readTopic(client, want.name), null);
      await createTopic(client, want);
      const made = await readTopic(client, want.name);
      assert.ok(made !== null);
      assert.deepEqual(compareTopic(made, want), []);
      assert.equal(made.topicId, await cluster.topicId(want.name));
      assert.deepEqual([...made.ownConfigs].sort(), [...wantedConfigs(want)].sort());
      await createTopic(client, { ...want, partitions: 7 });
      assert.deepEqual(await readTopic(client, want.name), made);
    }
  });

  it('are seen as they are when somebody made them otherwise', async () => {
    const topic = 'careless';
    await cluster.createTopic({ topic, partitions: 2, replicationFactor: 2 });
    await cluster.setConfig(topic, { [topicConfigNames.cleanupPolicy]: 'compact', 'retention.ms': '1000' });
    await until(async () => {
      const made = await readTopic(client, topic);
      assert.ok(made !== null);
      assert.equal(made.partitions, 2);
      assert.equal(made.replicationFactor, 2);
      assert.equal(made.configs?.get(topicConfigNames.minInsyncReplicas), '2');
      return made.configs?.get(topicConfigNames.retentionMs) === '1000' && made.ownConfigs.size === 2;
    });
    const made = await readTopic(client, topic);
    assert.ok(made !== null);
    assert.deepEqual(whats(made, { ...wanted, name: topic }), [
      'careless: partitions',
      'careless: replicas',
      'careless: max.message.bytes',
      'careless: cleanup.policy',
    ]);
  });

  it('are refused with the code of the broker if they cannot be made', async () => {
    await assert.rejects(createTopic(client, { ...wanted, name: 'wide', replicationFactor: 4 }), {
      kind: 'protocol',
      protocolCode: 38,
    });
    await assert.rejects(createTopic(client, { ...wanted, name: 'no such name!' }), {
      kind: 'protocol',
      protocolCode: 17,
    });
  });
});
