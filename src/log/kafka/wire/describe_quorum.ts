// DescribeQuorum, version 1: which controller leads a KRaft cluster, how far the others have come, and what time it is
// there. Brokers pass it on to the controller. The first version with times (Kafka 3.3). Runs on the main thread of
// `ess doctor`. Fields: DescribeQuorumRequest.json and DescribeQuorumResponse.json of Apache Kafka.

import { makeCall, type WireCall } from './call.ts';

const api = { key: 55, version: 1, name: 'DescribeQuorum', isFlexible: true } as const;
/** The one topic and partition in which a KRaft cluster keeps what it knows of itself. */
const metadataTopic = '__cluster_metadata';
const metadataPartition = 0;

export interface Voter {
  /** Node id of a controller. */
  readonly nodeId: number;
  /** When it last had everything, epoch ms by the leader's clock; of the leader itself: now. -1 if that is not known. */
  readonly caughtUpMs: number;
}

export interface QuorumAnswer {
  /** 0, or the first code of errors.ts in the answer. */
  readonly errorCode: number;
  /** Node id; -1 if there is none. */
  readonly leader: number;
  readonly voters: readonly Voter[];
}

export function describeQuorumCall(): WireCall<QuorumAnswer> {
  return makeCall(
    api,
    (body) => {
      body.compactCount(1);
      body.compactString(metadataTopic);
      body.compactCount(1);
      body.int32(metadataPartition);
      body.noTags();
      body.noTags();
      body.noTags();
    },
    (body) => {
      const errorCode = body.int16();
      const replicas = () =>
        body.compactArray((): Voter => {
          const nodeId = body.int32();
          body.int64(); // end of its log
          body.int64(); // when it last asked
          const caughtUpMs = body.int64();
          body.skipTags();
          return { nodeId, caughtUpMs };
        });
      const topics = body.compactArray(() => {
        body.compactString();
        const partitions = body.compactArray(() => {
          body.int32(); // the partition
          const partitionError = body.int16();
          const leader = body.int32();
          body.int32(); // leader epoch
          body.int64(); // high watermark
          const voters = replicas();
          replicas(); // observers: brokers that are no controllers
          body.skipTags();
          return { errorCode: partitionError, leader, voters };
        });
        body.skipTags();
        return partitions;
      });
      body.skipTags();
      const [found = { errorCode: 0, leader: -1, voters: [] }] = topics.flat();
      const answer = { ...found, errorCode: errorCode === 0 ? found.errorCode : errorCode };
      // This answer has no throttle time.
      return { clientSideThrottleTime: 0, answer };
    },
  );
}
