// ElectLeaders, version 2: makes the preferred replica of partitions, the first of each, their leader. Runs on the main
// thread of `ess topics`; KRaft brokers pass it on to the controller.
// Fields: ElectLeadersRequest.json and ElectLeadersResponse.json of Apache Kafka; 3.7 and 4.1 both take version 2.

import { makeCall, type WireCall } from './call.ts';
import { type PartitionOutcome, readOutcomes, writeTopicPartitions } from './topic_partitions.ts';

const api = { key: 43, version: 2, name: 'ElectLeaders', isFlexible: true } as const;
const preferredElection = 0;

export interface ElectLeadersAnswer {
  /** Of the whole answer. */
  readonly errorCode: number;
  /** ELECTION_NOT_NEEDED where the preferred replica leads already; a broker may leave such partitions out. */
  readonly partitions: readonly PartitionOutcome[];
}

/** Partitions by topic. `timeoutMs`: the controller may take so long. */
export function electLeadersCall(
  topics: ReadonlyMap<string, readonly number[]>,
  timeoutMs: number,
): WireCall<ElectLeadersAnswer> {
  return makeCall(
    api,
    (body) => {
      body.int8(preferredElection);
      writeTopicPartitions(body, topics);
      body.int32(timeoutMs);
      body.noTags();
    },
    (body) => {
      const clientSideThrottleTime = body.int32();
      const errorCode = body.int16();
      const partitions = readOutcomes(body);
      body.skipTags();
      return { clientSideThrottleTime, answer: { errorCode, partitions } };
    },
  );
}
