// Requests that a producer worker has parsed and not yet answered, and the JSON of their answers.

import { type ErrorCode, errorKinds } from '../errors.ts';
import type { AckLevel } from './wire.ts';

/** Faults listed in a batch's answer; further ones are only counted. */
export const batchErrorsListedMax = 1000;

/** A request for one event, which was parsed and appended to a group. */
export interface SingleRequest {
  readonly kind: 'single';
  readonly slot: number;
  readonly generation: number;
  readonly ack: AckLevel;
  /** Shared clock, microseconds: when the main thread had the whole request, and when this worker took it. */
  readonly takenUs: number;
  readonly startedUs: number;
  readonly id: string;
  readonly partition: number;
  /** Position within the group's records of that partition. */
  readonly index: number;
}

/** One event of a batch that is not stored, or not known to be. */
export interface BatchError {
  readonly index: number;
  readonly code: ErrorCode;
  readonly message: string;
  readonly id?: string;
}

/** A request for several events. */
export interface BatchRequest {
  readonly kind: 'batch';
  readonly slot: number;
  readonly generation: number;
  readonly ack: AckLevel;
  readonly takenUs: number;
  readonly startedUs: number;
  readonly wantsIds: boolean;
  readonly errors: BatchError[];
  /** Of each accepted event: its index in the request, id, partition and position in the group's partition. */
  readonly indexes: number[];
  readonly ids: string[];
  readonly partitions: number[];
  readonly positions: number[];
}

export type PendingRequest = SingleRequest | BatchRequest;

// Texts without these need no escaping in JSON.
const needsEscape = /["\\\p{Cc}\u2028\u2029]/u;

/** A JSON string literal. */
export function jsonText(text: string): string {
  return needsEscape.test(text) ? JSON.stringify(text) : `"${text}"`;
}

/** The answer to a single event that reached its stage. `partition` and `offset` are null for ack=memory. */
export function singleAnswer(
  id: string,
  ack: AckLevel,
  partition: number | null,
  offset: number | null,
): string {
  return `{"id":${jsonText(id)},"ack":"${ack}","partition":${partition},"offset":${offset}}`;
}

/** Status and body of the answer to a batch. Every retriable fault is listed, of the others a bounded number. */
export function batchAnswer(batch: BatchRequest): { readonly status: number; readonly body: string } {
  const accepted = batch.indexes.length;
  const retriable = batch.errors.find(isRetriable);
  const status = retriable !== undefined ? errorKinds[retriable.code].status : accepted > 0 ? 200 : 422;
  const listed =
    batch.errors.length <= batchErrorsListedMax
      ? batch.errors
      : batch.errors.filter((error, i) => i < batchErrorsListedMax || isRetriable(error));
  const answer: Record<string, unknown> = { accepted, rejected: batch.errors.length, errors: listed };
  if (listed.length < batch.errors.length) answer['errors_omitted'] = batch.errors.length - listed.length;
  if (batch.wantsIds) {
    // Every event of the request is either accepted or among the errors.
    const ids = Array.from({ length: accepted + batch.errors.length }, (): string | null => null);
    for (const [i, index] of batch.indexes.entries()) ids[index] = batch.ids[i] ?? null;
    answer['ids'] = ids;
  }
  return { status, body: JSON.stringify(answer) };
}

function isRetriable(error: BatchError): boolean {
  return errorKinds[error.code].canRetry;
}

/** Turns every accepted event of a batch into a fault of its own, for example when the log did not take them. */
export function failAccepted(batch: BatchRequest, code: ErrorCode, message: string): void {
  failSome(batch, () => ({ code, message }));
}

/** Why one event of a batch failed; null if it did not. */
export type EventFailure = { readonly code: ErrorCode; readonly message: string } | null;

/** Turns those accepted events of a batch into faults for which `failureOf`, given their place in the lists, says why. */
export function failSome(batch: BatchRequest, failureOf: (i: number) => EventFailure): void {
  let kept = 0;
  for (const [i, index] of batch.indexes.entries()) {
    const failure = failureOf(i);
    if (failure !== null) {
      batch.errors.push({ index, ...failure, id: batch.ids[i] ?? '' });
      continue;
    }
    batch.indexes[kept] = index;
    batch.ids[kept] = batch.ids[i] ?? '';
    batch.partitions[kept] = batch.partitions[i] ?? 0;
    batch.positions[kept] = batch.positions[i] ?? 0;
    kept += 1;
  }
  batch.indexes.length = kept;
  batch.ids.length = kept;
  batch.partitions.length = kept;
  batch.positions.length = kept;
}
