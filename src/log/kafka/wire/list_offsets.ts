// ListOffsets, version 4: where partitions of one topic begin and end. The first version that takes the leader epoch. Runs
// on sink workers and on producer workers that report the state of the log; must be sent to the partitions' leader.
// Fields: ListOffsetsRequest.json and ListOffsetsResponse.json of Apache Kafka; 3.7 and 4.1 both take version 4.

import { makeCall, type WireCall } from './call.ts';

const api = { key: 2, version: 4, name: 'ListOffsets', isFlexible: false } as const;
const consumerReplicaId = -1;
const readCommitted = 1;
const timestamps = { latest: -1, earliest: -2 } as const;

export interface ListOffsetsRequest {
  readonly topic: string;
  /**
   * 'earliest' is the first offset still held, 'latest' the last stable offset: what a fetch can reach. A number, epoch
   * ms, is the first record of that time or later: offset -1 if there is none.
   */
  readonly at: 'earliest' | 'latest' | number;
  readonly partitions: readonly {
    readonly partition: number;
    /** From the metadata, so that a leader that is not up to date refuses; -1 to leave that check out. */
    readonly leaderEpoch: number;
  }[];
}

export interface ListedOffset {
  readonly partition: number;
  /** 0, or a code of errors.ts. */
  readonly errorCode: number;
  /** -1 with an error, and where no record is as late as was asked for. */
  readonly offset: number;
}

export function listOffsetsCall(request: ListOffsetsRequest): WireCall<ListedOffset[]> {
  return makeCall(
    api,
    (body) => {
      body.int32(consumerReplicaId);
      body.int8(readCommitted);
      body.count(1);
      body.string(request.topic);
      body.count(request.partitions.length);
      for (const { partition, leaderEpoch } of request.partitions) {
        body.int32(partition);
        body.int32(leaderEpoch);
        body.int64(typeof request.at === 'number' ? request.at : timestamps[request.at]);
      }
    },
    (body) => {
      const clientSideThrottleTime = body.int32();
      const topics = body.array(() => {
        body.string();
        return body.array(() => {
          const partition = body.int32();
          const errorCode = body.int16();
          body.wideInt64(); // timestamp
          const offset = body.int64();
          body.int32(); // leader epoch of that offset
          return { partition, errorCode, offset };
        });
      });
      return { clientSideThrottleTime, answer: topics.flat() };
    },
  );
}
