// Fetch, without a fetch session: record batches of several partitions of one topic from their leader. Version 13 names
// the topic by its id (KIP-516; brokers take it since 3.1), version 11 by its name, for older brokers. Runs on sink workers
// and on whoever reads dead letters.
// Fields: FetchRequest.json and FetchResponse.json of Apache Kafka; 3.7 and 4.1 take both versions.

import { makeCall, type WireCall } from './call.ts';
import { noTopicId } from './metadata.ts';
import type { RequestWriter } from './request_writer.ts';
import type { ResponseReader } from './response_reader.ts';

const byId = { key: 1, version: 13, name: 'Fetch', isFlexible: true } as const;
const byName = { key: 1, version: 11, name: 'Fetch', isFlexible: false } as const;
const consumerReplicaId = -1;
const readCommitted = 1;
/** Session 0 with epoch -1: a full fetch that makes no session (KIP-227). */
const noSession = { id: 0, epoch: -1 } as const;
const unknownOffset = -1;
const unknownEpoch = -1;
/** The answer of a broker that waited exactly its time still has to travel. */
const answerMarginMs = 5_000;

export interface FetchRequest {
  readonly topic: string;
  /** 32 hex digits. */
  readonly topicId: string;
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

/**
 * Asks by the topic's id where the broker takes that, so that it never gives records of another topic of the same name:
 * it answers UNKNOWN_TOPIC_ID or INCONSISTENT_TOPIC_ID then. Else, or if the topic has no id, asks by its name.
 */
export function fetchCall(request: FetchRequest): WireCall<FetchAnswer> {
  if (request.topicId === noTopicId) return fetchByName(request);
  return { ...fetchById(request), older: () => fetchByName(request) };
}

function fetchById(request: FetchRequest): WireCall<FetchAnswer> {
  return makeCall(
    byId,
    (body) => {
      writeHead(body, request);
      body.compactCount(1);
      body.uuid(request.topicId);
      body.compactCount(request.partitions.length);
      for (const { partition, offset, maxBytes, leaderEpoch } of request.partitions) {
        body.int32(partition);
        body.int32(leaderEpoch);
        body.int64(offset);
        body.int32(unknownEpoch); // last fetched epoch, of followers only
        body.int64(unknownOffset); // log start offset, of followers only
        body.int32(maxBytes);
        body.noTags();
      }
      body.noTags();
      body.compactCount(0); // forgotten topics, of sessions only
      body.compactString(''); // rack
      body.noTags();
    },
    (body) => {
      const clientSideThrottleTime = body.int32();
      const errorCode = body.int16();
      body.int32(); // session id
      const topics = body.compactArray(() => {
        body.uuid();
        const partitions = body.compactArray(() => {
          const state = readState(body);
          const aborted = body.compactArray(() => {
            const transaction = readAborted(body);
            body.skipTags();
            return transaction;
          });
          body.int32(); // preferred read replica: none without a rack
          const records = body.compactBlob();
          body.skipTags();
          return { ...state, aborted, records };
        });
        body.skipTags();
        return partitions;
      });
      body.skipTags();
      return { clientSideThrottleTime, answer: { errorCode, partitions: topics.flat() } };
    },
    request.maxWaitMs + answerMarginMs,
  );
}

function fetchByName(request: FetchRequest): WireCall<FetchAnswer> {
  return makeCall(
    byName,
    (body) => {
      writeHead(body, request);
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
          const state = readState(body);
          const aborted = body.array(() => readAborted(body));
          body.int32(); // preferred read replica: none without a rack
          return { ...state, aborted, records: body.blob() };
        });
      });
      return { clientSideThrottleTime, answer: { errorCode, partitions: topics.flat() } };
    },
    request.maxWaitMs + answerMarginMs,
  );
}

/** What comes before the topics, in both versions. */
function writeHead(body: RequestWriter, { maxWaitMs, minBytes, maxBytes }: FetchRequest): void {
  body.int32(consumerReplicaId);
  body.int32(maxWaitMs);
  body.int32(minBytes);
  body.int32(maxBytes);
  body.int8(readCommitted);
  body.int32(noSession.id);
  body.int32(noSession.epoch);
}

/** What an answer says of a partition before its records, in both versions. */
function readState(body: ResponseReader): Omit<FetchedPartition, 'aborted' | 'records'> {
  return {
    partition: body.int32(),
    errorCode: body.int16(),
    highWatermark: body.int64(),
    lastStableOffset: body.int64(),
    logStartOffset: body.int64(),
  };
}

function readAborted(body: ResponseReader): FetchedPartition['aborted'][number] {
  return { producerId: body.wideInt64(), firstOffset: body.int64() };
}
