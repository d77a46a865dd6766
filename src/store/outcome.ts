// What a failure says about an insert: refused (nothing was stored) or unknown. The sink bisects and parks only after
// `refused`; after `unknown` it repeats the same range under the same token, which is always safe. So in doubt a
// failure is unknown. Runs on any thread that has a store.

import { StoreError, type StoreOutcome } from './store.ts';

/**
 * ClickHouse's errors that do not prove that a block was not stored, with the reason. Everything else is an answer
 * given before a part of the table became active: one block is one part, and a part appears as a whole or not at all.
 * In particular 241 MEMORY_LIMIT_EXCEEDED, 243 NOT_ENOUGH_SPACE, 252 TOO_MANY_PARTS, 285 TOO_FEW_LIVE_REPLICAS and
 * 469 VIOLATED_CONSTRAINT are refusals.
 */
export const unknownOutcomes: Readonly<Record<number, string>> = {
  49: 'LOGICAL_ERROR: the node broke a promise of its own',
  74: 'CANNOT_READ_FROM_FILE_DESCRIPTOR: a disk error may strike while the part becomes active',
  75: 'CANNOT_WRITE_TO_FILE_DESCRIPTOR: as 74',
  76: 'CANNOT_OPEN_FILE: as 74',
  77: 'CANNOT_CLOSE_FILE: as 74, the flush included',
  159: 'TIMEOUT_EXCEEDED: the limit is also checked after the part was committed',
  209: 'SOCKET_TIMEOUT: between the node and its neighbours, at any stage',
  210: 'NETWORK_ERROR: as 209',
  225: 'NO_ZOOKEEPER: Keeper was lost, perhaps in mid-commit',
  236: 'ABORTED: the node is going down',
  242: 'TABLE_IS_READ_ONLY: also when the session with Keeper was lost in mid-commit',
  244: 'UNEXPECTED_ZOOKEEPER_ERROR: as 225',
  279: 'ALL_CONNECTION_TRIES_FAILED: as 209',
  286: 'UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE: the block may be the previous write',
  319: 'UNKNOWN_STATUS_OF_INSERT: it says so',
  394: 'QUERY_WAS_CANCELLED: at any stage',
  425: 'SYSTEM_ERROR: as 74',
  735: 'QUERY_WAS_CANCELLED_BY_CLIENT: at any stage',
  999: 'KEEPER_EXCEPTION: as 225',
  1000: 'POCO_EXCEPTION: a library failed, at any stage',
  1001: 'STD_EXCEPTION: as 1000',
  1002: 'UNKNOWN_EXCEPTION: as 1000',
};

/**
 * A materialized view that somebody has put on the table runs after the block itself may already be stored: whatever
 * the view's error is, it says nothing about the block. ClickHouse marks it in the text only.
 */
const failedInView = /while pushing to view/i;

/** The outcome of a failure; `code` is ClickHouse's error number, 0 where the node gave no answer. */
export function outcomeOf(code: number, text: string): StoreOutcome {
  return code === 0 || code in unknownOutcomes || failedInView.test(text) ? 'unknown' : 'refused';
}

/** ClickHouse's error number in an error of @clickhouse/client, of which a process may have several copies; 0 if none. */
function codeOf(error: Error): number {
  // `instanceof ClickHouseError` fails across copies; system errors have letters in their `code`.
  const code = 'code' in error && typeof error.code === 'string' ? error.code : '';
  return /^\d+$/.test(code) ? Number(code) : 0;
}

/** The system calls before a connection stands, and Node.js's codes for them where it tried several addresses. */
const connectingCalls: readonly unknown[] = ['connect', 'getaddrinfo'];
const connectingCodes: readonly unknown[] = ['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN'];

/** True if the request cannot have been sent: there was no connection to send it on. */
function wasNeverSent(error: Error): boolean {
  return (
    ('syscall' in error && connectingCalls.includes(error.syscall)) ||
    ('code' in error && connectingCodes.includes(error.code))
  );
}

/** Any failure as StoreError. */
export function toStoreError(error: unknown): StoreError {
  if (error instanceof StoreError) return error;
  if (!(error instanceof Error)) return new StoreError(0, 'unknown', String(error));
  if (wasNeverSent(error)) return new StoreError(0, 'refused', error.message, { cause: error });
  const code = codeOf(error);
  return new StoreError(code, outcomeOf(code, error.message), error.message, { cause: error });
}
