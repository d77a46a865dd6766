// Fetch, version 11, without a fetch session: record batches of several partitions of one topic from their leader.
// Runs on sink workers. Fields: FetchRequest.json and FetchResponse.json of Apache Kafka; 3.7 and 4.1 take version 11.

import { makeCall, type WireCall } from './call.ts';

const api = { key: 1, version: 11, name: 'Fetch', isFlexible: false } as const;
const consumerReplicaId = -1;
const readCommitted = 1;
/** Session 0 with epoch -1: a full fetch that makes no session (KIP-227). */
const noSession = { id: 0, epoch: -1 } as const;
const unknownOffset = -1;
/** The answer of a broker that waited exactly its time still has to travel. */
const answerMarginMs = 5_000;

export interface FetchRequest {
  readonly topic: string;
  /** How long the broker may wait for `minBytes`, ms. */
  readonly maxWaitMs: number;
  readonly minBytes: number;
  /** Of all partitions together. The first batch of the first partition that has any comes whole even if larger. */
  readonly maxBytes: number;
  /** Records of open transactions are not given, and aborted ones are named in the answer. */
  readonly isCommittedOnly: true;
  readonly partitions: readonly {
    readonly partition: number;
    readonly offset: number;
    readonly maxBytes: number;
    /** From the metadata, so that a leader that is not up to date refuses; -1 to leave that check out. */
    readonly leaderEpoch: number;
  }[];
}

export interface FetchedPartition {
  readonly partition: number;
  /** 0, or a code of errors.ts. */
  readonly errorCode: number;
  /** Offset after the last record that all in-sync replicas have; -1 with an error. */
  readonly highWatermark: number;
  /** Offset before which no transaction is open: nothing at or after it is given. -1 with an error. */
  readonly lastStableOffset: number;
  /** First offset still held; -1 with an error. */
  readonly logStartOffset: number;
  /** Transactions whose records must be left out, from their first offset on up to their abort marker. */
  readonly aborted: readonly { readonly producerId: bigint; readonly firstOffset: number }[];
  /** Record batches for `visitBatches`: a view of the answer's bytes. */
  readonly records: Buffer;
}

export interface FetchAnswer {
  /** Of the whole answer; 0 if none. */
  readonly errorCode: number;
  readonly partitions: readonly FetchedPartition[];
}

export function fetchCall(request: FetchRequest): WireCall<FetchAnswer> {
  return makeCall(
    api,
    (body) => {
      body.int32(consumerReplicaId);
      body.int32(request.maxWaitMs);
      body.int32(request.minBytes);
      body.int32(request.maxBytes);
      body.int8(readCommitted);
      body.int32(noSession.id);
      body.int32(noSession.epoch);
      body.count(1);
      body.string(request.topic);
      body.count(request.partitions.length);
      for (const { partition, offset, maxBytes, leaderEpoch } of request.partitions) {
        body.int32(partition);
        body.int32(leaderEpoch);
        body.int64(offset);
        body.int64(unknownOffset); // log start offset, of followers only
        body.int32(maxBytes);
      }
      body.count(0); // forgotten topics, of sessions only
      body.string(''); // rack
    },
    (body) => {
      const clientSideThrottleTime = body.int32();
      const errorCode = body.int16();
      body.int32(); // session id
      const topics = body.array(() => {
        body.string();
        return body.array(() => {
          const partition = body.int32();
          const partitionError = body.int16();
          const highWatermark = body.int64();
          const lastStableOffset = body.int64();
          const logStartOffset = body.int64();
          const aborted = body.array(() => ({ producerId: body.wideInt64(), firstOffset: body.int64() }));
          body.int32(); // preferred read replica: none without a rack
          const records = body.blob();
          return {
            partition,
            errorCode: partitionError,
            highWatermark,
            lastStableOffset,
            logStartOffset,
            aborted,
            records,
          };
        });
      });
      return { clientSideThrottleTime, answer: { errorCode, partitions: topics.flat() } };
    },
    request.maxWaitMs + answerMarginMs,
  );
}
