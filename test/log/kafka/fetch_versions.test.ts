// Fetching by the topic's id and by its name, against real brokers of both versions. Invariant: who asks for a topic by its
// id never gets a record of another topic of the same name.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { Kafka, logLevel } from 'kafkajs';
import { openKafkaAppender } from '../../../src/log/kafka/appender.ts';
import { KafkaClient } from '../../../src/log/kafka/client.ts';
import { extentOf } from '../../../src/log/kafka/fetched.ts';
import type { WireCall } from '../../../src/log/kafka/wire/call.ts';
import { kafkaErrors } from '../../../src/log/kafka/wire/errors.ts';
import { type FetchAnswer, fetchCall } from '../../../src/log/kafka/wire/fetch.ts';
import { listOffsetsCall } from '../../../src/log/kafka/wire/list_offsets.ts';
import { noTopicId } from '../../../src/log/kafka/wire/metadata.ts';
import { KafkaCluster, type KafkaVersion, needsKafka } from '../../support/kafka_cluster.ts';
import { until } from '../eventually.ts';
import { packed } from '../records.ts';
import { targetOf } from './target.ts';

/** Far longer than anything here takes. */
const longMs = 30_000;
const versions: readonly KafkaVersion[] = ['3.7.0', '4.1.0'];

/** Asks for the first records of partition 0, and for a partition that is not there. */
function askFor(topic: string, topicId: string, leaderEpoch = -1): WireCall<FetchAnswer> {
  return fetchCall({
    topic,
    topicId,
    maxWaitMs: 0,
    minBytes: 0,
    maxBytes: 1 << 20,
    isCommittedOnly: true,
    partitions: [0, 7].map((partition) => ({ partition, offset: 0, maxBytes: 1 << 20, leaderEpoch })),
  });
}

/** The error of partition 0. */
const errorOf = (answer: FetchAnswer): number | undefined =>
  answer.partitions.find(({ partition }) => partition === 0)?.errorCode;

for (const version of versions) {
  describe(`a fetch from Kafka ${version}`, needsKafka(version), () => {
    let cluster: KafkaCluster;
    let client: KafkaClient;
    before(async () => {
      cluster = await KafkaCluster.start({ nodes: 1, version });
      client = new KafkaClient(targetOf(cluster.brokers, 'any'), { name: 'test', requestTimeoutMs: longMs });
      await cluster.createTopic({ topic: 'any' });
    });
    after(async () => {
      await client?.close();
      await cluster?.dispose();
    });

    const filled = async (topic: string): Promise<void> => {
      const appender = await openKafkaAppender(targetOf(cluster.brokers, topic, { minInsyncReplicas: 1 }));
      await appender.append([{ partition: 0, count: 3, bytes: packed(['a', 'b', 'c'], 10) }]);
      await appender.close();
    };

    it('gives the same by the id, which it is asked for first, and by the name', async () => {
      const topicId = await cluster.createTopic({ topic: 'both' });
      const kafka = new Kafka({ brokers: cluster.brokers, logLevel: logLevel.NOTHING });
      const producer = kafka.producer({ transactionalId: 'both', idempotent: true, maxInFlightRequests: 1 });
      await producer.connect();
      const aborted = await producer.transaction();
      await aborted.send({ topic: 'both', messages: [{ key: 'gone', value: 'gone', partition: 0 }] });
      await aborted.abort();
      await producer.disconnect();
      await filled('both');
      const call = askFor('both', topicId);
      assert.equal(call.request.apiVersion, 13);
      const byName = askFor('both', noTopicId);
      assert.equal(byName.request.apiVersion, 11);
      const [first, second] = await Promise.all([
        client.send(0, call, longMs),
        client.send(0, byName, longMs),
      ]);
      assert.deepEqual(first, second);
      const [found, absent] = [...first.partitions].sort((a, b) => a.partition - b.partition);
      assert.ok(found !== undefined && found.errorCode === 0);
      // The aborted record, its marker, and three of ours.
      assert.deepEqual([found.logStartOffset, found.lastStableOffset], [0, 5]);
      assert.deepEqual(
        found.aborted.map(({ firstOffset }) => firstOffset),
        [0],
      );
      assert.equal(extentOf(found.records).next, 5);
      assert.equal(absent?.errorCode, kafkaErrors.UNKNOWN_TOPIC_OR_PARTITION.code);
    });

    it('is refused in a leader epoch that the broker has not heard of, and so is a question about offsets', async () => {
      const topic = 'epochs';
      const topicId = await cluster.createTopic({ topic });
      await filled(topic);
      const view = await client.metadata(0, undefined, topic);
      const now = view.partitions[0]?.leaderEpoch ?? Number.NaN;
      const errorsIn = async (leaderEpoch: number): Promise<readonly (number | undefined)[]> => {
        const [first, second] = await Promise.all(
          [topicId, noTopicId].map((id) => client.send(0, askFor(topic, id, leaderEpoch), longMs)),
        );
        const partitions = [{ partition: 0, leaderEpoch }];
        const [listed] = await client.send(0, listOffsetsCall({ topic, at: 'latest', partitions }), longMs);
        return [first && errorOf(first), second && errorOf(second), listed?.errorCode];
      };
      assert.deepEqual(await errorsIn(now), [0, 0, 0]);
      const { code } = kafkaErrors.UNKNOWN_LEADER_EPOCH;
      assert.deepEqual(await errorsIn(now + 1), [code, code, code]);
    });

    it('by the id of a topic that was made anew gives nothing, though there is something at that offset', async () => {
      const topicId = await cluster.createTopic({ topic: 'anew' });
      await filled('anew');
      assert.equal(errorOf(await client.send(0, askFor('anew', topicId), longMs)), 0);
      await cluster.deleteTopic('anew');
      const made = await cluster.createTopic({ topic: 'anew' });
      await filled('anew');
      await until(async () => errorOf(await client.send(0, askFor('anew', made), longMs)) === 0);
      const answer = await client.send(0, askFor('anew', topicId), longMs);
      assert.equal(errorOf(answer), kafkaErrors.UNKNOWN_TOPIC_ID.code);
      for (const { records } of answer.partitions) assert.equal(records.length, 0);
      // What asks by the name cannot tell.
      assert.equal(errorOf(await client.send(0, askFor('anew', noTopicId), longMs)), 0);
    });
  });
}
