// Metadata, version 10: the brokers of the cluster, and the identity, partitions and leaders of topics. The first
// version with the topic's id. Runs on any thread that talks to Kafka; asking for a topic never creates it.
// Fields: MetadataRequest.json and MetadataResponse.json of Apache Kafka.

import { makeCall, type WireCall } from './call.ts';

const api = { key: 3, version: 10, name: 'Metadata', isFlexible: true } as const;

/** The topic id of a topic that has none: its cluster has never been upgraded to what Kafka 2.8 stores. */
export const noTopicId = '0'.repeat(32);

export interface BrokerMetadata {
  readonly nodeId: number;
  readonly host: string;
  readonly port: number;
  readonly rack: string | null;
}

export interface PartitionMetadata {
  readonly partition: number;
  /** 0, or a code of errors.ts: LEADER_NOT_AVAILABLE with leader -1. */
  readonly errorCode: number;
  /** Node id; -1 if there is none now. */
  readonly leader: number;
  readonly leaderEpoch: number;
  /** Node ids. */
  readonly replicas: readonly number[];
  readonly inSync: readonly number[];
  readonly offline: readonly number[];
}

export interface TopicMetadata {
  readonly name: string;
  /** 0, or a code of errors.ts: UNKNOWN_TOPIC_OR_PARTITION if there is no such topic (yet, on this broker). */
  readonly errorCode: number;
  /** 32 hex digits: another topic of the same name has another one. All zero if unknown. */
  readonly topicId: string;
  /** By partition number, ascending. */
  readonly partitions: readonly PartitionMetadata[];
}

export interface ClusterMetadata {
  readonly brokers: readonly BrokerMetadata[];
  /** Node id; -1 if unknown. */
  readonly controllerId: number;
  readonly clusterId: string | null;
  readonly topics: readonly TopicMetadata[];
}

/** No topics gives the brokers only. */
export function metadataCall(topics: readonly string[]): WireCall<ClusterMetadata> {
  return makeCall(
    api,
    (body) => {
      body.compactCount(topics.length);
      for (const topic of topics) {
        body.zeroUuid();
        body.compactString(topic);
        body.noTags();
      }
      body.boolean(false); // allow auto topic creation
      body.boolean(false); // include the cluster's authorized operations
      body.boolean(false); // include the topics' authorized operations
      body.noTags();
    },
    (body) => {
      const clientSideThrottleTime = body.int32();
      const brokers = body.compactArray(() => {
        const nodeId = body.int32();
        const host = body.compactString();
        const port = body.int32();
        const rack = body.compactNullableString();
        body.skipTags();
        return { nodeId, host, port, rack };
      });
      const clusterId = body.compactNullableString();
      const controllerId = body.int32();
      const nodes = () => body.compactArray(() => body.int32());
      const found = body.compactArray(() => {
        const errorCode = body.int16();
        const name = body.compactString();
        const topicId = body.uuid();
        body.boolean(); // is internal
        const partitions = body.compactArray(() => {
          const partitionError = body.int16();
          const partition = body.int32();
          const leader = body.int32();
          const leaderEpoch = body.int32();
          const replicas = nodes();
          const inSync = nodes();
          const offline = nodes();
          body.skipTags();
          return { partition, errorCode: partitionError, leader, leaderEpoch, replicas, inSync, offline };
        });
        body.int32(); // the topic's authorized operations
        body.skipTags();
        partitions.sort((left, right) => left.partition - right.partition);
        return { name, errorCode, topicId, partitions };
      });
      body.int32(); // the cluster's authorized operations
      body.skipTags();
      return { clientSideThrottleTime, answer: { brokers, controllerId, clusterId, topics: found } };
    },
  );
}
