// AlterPartitionReassignments and ListPartitionReassignments, version 0 both: which brokers are to hold the replicas of
// partitions, and what of that is under way. Runs on the main thread of `ess topics`; KRaft brokers pass both on to the
// controller. Fields: the *Request.json and *Response.json of Apache Kafka; 3.7 and 4.1 both take version 0.

import { makeCall, type WireCall } from './call.ts';
import {
  type PartitionOutcome,
  readOutcomes,
  readTopicPartitions,
  writeTopicPartitions,
} from './topic_partitions.ts';

const alterApi = { key: 45, version: 0, name: 'AlterPartitionReassignments', isFlexible: true } as const;
const listApi = { key: 46, version: 0, name: 'ListPartitionReassignments', isFlexible: true } as const;

/** How a null array is written. */
const nullLength = -1;

/** What one partition is to become. */
export interface Reassignment {
  readonly topic: string;
  readonly partition: number;
  /** Node ids, the preferred leader first; null cancels what is under way. */
  readonly replicas: readonly number[] | null;
}

export interface AlterReassignmentsAnswer {
  /** Of the whole answer. */
  readonly errorCode: number;
  readonly errorMessage: string | null;
  readonly partitions: readonly PartitionOutcome[];
}

/** `timeoutMs`: the controller may take so long. */
export function alterReassignmentsCall(
  reassignments: readonly Reassignment[],
  timeoutMs: number,
): WireCall<AlterReassignmentsAnswer> {
  return makeCall(
    alterApi,
    (body) => {
      const topics = new Set(reassignments.map(({ topic }) => topic));
      body.int32(timeoutMs);
      body.compactCount(topics.size);
      for (const name of topics) {
        const ofTopic = reassignments.filter(({ topic }) => topic === name);
        body.compactString(name);
        body.compactCount(ofTopic.length);
        for (const { partition, replicas } of ofTopic) {
          body.int32(partition);
          body.compactCount(replicas?.length ?? nullLength);
          for (const node of replicas ?? []) body.int32(node);
          body.noTags();
        }
        body.noTags();
      }
      body.noTags();
    },
    (body) => {
      const clientSideThrottleTime = body.int32();
      const errorCode = body.int16();
      const errorMessage = body.compactNullableString();
      const partitions = readOutcomes(body);
      body.skipTags();
      return { clientSideThrottleTime, answer: { errorCode, errorMessage, partitions } };
    },
  );
}

/** A partition whose replicas are on their way. */
export interface OngoingReassignment {
  readonly topic: string;
  readonly partition: number;
  /** Node ids: those that stay, come and go, all together. */
  readonly replicas: readonly number[];
  readonly adding: readonly number[];
  readonly removing: readonly number[];
}

export interface ListReassignmentsAnswer {
  readonly errorCode: number;
  readonly errorMessage: string | null;
  readonly ongoing: readonly OngoingReassignment[];
}

/** What is under way of these partitions, by topic. */
export function listReassignmentsCall(
  topics: ReadonlyMap<string, readonly number[]>,
  timeoutMs: number,
): WireCall<ListReassignmentsAnswer> {
  return makeCall(
    listApi,
    (body) => {
      body.int32(timeoutMs);
      writeTopicPartitions(body, topics);
      body.noTags();
    },
    (body) => {
      const clientSideThrottleTime = body.int32();
      const errorCode = body.int16();
      const errorMessage = body.compactNullableString();
      const nodes = () => body.compactArray(() => body.int32());
      const ongoing = readTopicPartitions(
        body,
        (topic): OngoingReassignment => ({
          topic,
          partition: body.int32(),
          replicas: nodes(),
          adding: nodes(),
          removing: nodes(),
        }),
      );
      body.skipTags();
      return { clientSideThrottleTime, answer: { errorCode, errorMessage, ongoing } };
    },
  );
}
