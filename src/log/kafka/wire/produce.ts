// Produce, version 7: record batches for several partitions of one topic, acknowledged by all in-sync replicas. Runs
// on producer workers (events) and sink workers (dead letters).
// Fields: ProduceRequest.json and ProduceResponse.json of Apache Kafka. 3.7 and 4.1 both take version 7, which is the
// first that allows zstd.

import { makeCall, type WireCall } from './call.ts';
import { kafkaError, kafkaErrors, type ProduceVerdict } from './errors.ts';

const api = { key: 0, version: 7, name: 'Produce', isFlexible: false } as const;
const acksAll = -1;
const unknownOffset = -1;
/** The answer of a broker that took exactly its time still has to travel. */
const answerMarginMs = 1_000;

export interface ProduceRequest {
  readonly topic: string;
  /** Time within which the in-sync replicas must have the batch, ms. */
  readonly timeoutMs: number;
  /** One batch (batch_encoder.ts) a partition. Copied before `produceCall` returns. */
  readonly batches: readonly { readonly partition: number; readonly records: Buffer }[];
}

/** What became of one partition's batch. */
export interface ProduceAnswer {
  readonly partition: number;
  /** 0, or a code of errors.ts. */
  readonly errorCode: number;
  /** Offset of the batch's first record, also with an error that arose after it was appended; else -1. */
  readonly baseOffset: number;
}

/**
 * What an answer proves. A leader that has appended the batch and then loses its leadership, or the topic, while it
 * waits for the other replicas answers with the very codes that it uses for what it never took, NOT_LEADER_OR_FOLLOWER
 * above all, and its successor may have the batch. But it still tells the base offset (DelayedProduce.scala changes
 * the error only), which is -1 if nothing was appended (LogAppendInfo.UNKNOWN_LOG_APPEND_INFO).
 */
export function produceOutcome(answer: ProduceAnswer): 'written' | ProduceVerdict {
  if (answer.errorCode === kafkaErrors.NONE.code) return answer.baseOffset >= 0 ? 'written' : 'unknown';
  return answer.baseOffset === unknownOffset ? kafkaError(answer.errorCode).produce : 'unknown';
}

/** The answer may be in another order than the request, and a partition may be missing from a broker's odd answer. */
export function produceCall(request: ProduceRequest): WireCall<ProduceAnswer[]> {
  return makeCall(
    api,
    (body) => {
      body.nullString(); // transactional id
      body.int16(acksAll);
      body.int32(request.timeoutMs);
      body.count(1);
      body.string(request.topic);
      body.count(request.batches.length);
      for (const { partition, records } of request.batches) {
        body.int32(partition);
        body.blob(records);
      }
    },
    (body) => {
      const topics = body.array(() => {
        body.string();
        return body.array(() => {
          const partition = body.int32();
          const errorCode = body.int16();
          const baseOffset = body.int64();
          body.wideInt64(); // log append time
          body.int64(); // log start offset
          return { partition, errorCode, baseOffset };
        });
      });
      return { clientSideThrottleTime: body.int32(), answer: topics.flat() };
    },
    request.timeoutMs + answerMarginMs,
  );
}
