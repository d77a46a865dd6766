// Trimming the embedded log: removing batches that are consumed and past retention, oldest first. Run by whichever
// thread holds an appender, in transactions of bounded work, because every other writer waits meanwhile. It may never
// touch a batch that reaches past a committed position.

import { EssError } from '../../errors.ts';
import type { LogEnvironment } from './environment.ts';
import {
  type BatchHead,
  batchesEnd,
  batchKey,
  batchPrefix,
  heldBytes,
  type StoredPartition,
} from './layout.ts';

/** Batches removed in one transaction. One costs about 20 us: this is some 6 ms of write lock, a few appends' time. */
export const trimBatchesMax = 256;

/** Bytes removed in one transaction: each page becomes an entry of lmdb's free list, 16 thousand of them here. */
export const trimBytesMax = 64 * 1024 * 1024;

/** Batches looked at in one transaction to find out which are consumed, at about 1 us each. */
export const countBatchesMax = 4096;

/** What may go, of what is consumed. */
export interface TrimBounds {
  /** Batches appended at or before this moment may go, epoch milliseconds. */
  readonly beforeMs: number;
  /** Bytes beyond this many may go, all partitions together. */
  readonly bytesKept: number;
}

/** A partition that has consumed batches, with the oldest of them. */
interface Candidate {
  readonly state: StoredPartition;
  head: BatchHead;
}

/** Removes at most one transaction's worth and gives the bytes freed; 0 when nothing may go. Durable. */
export function trimOnce(environment: LogEnvironment, bounds: TrimBounds): number {
  return environment.transact(() => {
    const totals = environment.totals();
    const candidates: Candidate[] = [];
    let countsLeft = countBatchesMax;
    let countedBytes = 0;
    for (let partition = 0; partition < environment.identity.partitions; partition += 1) {
      const committed = environment.position(partition).offset;
      const state = environment.partition(partition);
      if (state.start >= committed) continue;
      const before = state.countedBytes;
      countsLeft -= countConsumed(environment, partition, state, committed, countsLeft);
      countedBytes += state.countedBytes - before;
      const head = firstConsumed(environment, partition, state);
      if (head !== undefined) candidates.push({ state, head });
    }
    totals.countedBytes += countedBytes;

    let freed = 0;
    const changed = new Set<Candidate>();
    for (let removed = 0; removed < trimBatchesMax && freed < trimBytesMax; removed += 1) {
      const oldest = oldestOf(candidates);
      if (oldest === undefined) break;
      const { head, state } = oldest;
      if (head.timeMs > bounds.beforeMs && totals.countedBytes <= bounds.bytesKept) break;
      if (!environment.batches.removeSync(batchKey(head))) {
        throw new EssError('internal', `the log lost a batch of partition ${head.partition} at ${head.base}`);
      }
      const bytes = heldBytes(head.bytes);
      state.start = head.base + head.count;
      state.bytes -= bytes;
      state.countedBytes -= bytes;
      totals.bytes -= bytes;
      totals.countedBytes -= bytes;
      freed += bytes;
      changed.add(oldest);
      const next = firstConsumed(environment, head.partition, state);
      if (next === undefined) candidates.splice(candidates.indexOf(oldest), 1);
      else oldest.head = next;
    }
    // A transaction that wrote nothing costs no fsync.
    if (freed === 0 && countedBytes === 0) return 0;
    for (const candidate of candidates) changed.add(candidate);
    for (const { head, state } of changed) environment.putPartition(head.partition, state);
    environment.putTotals(totals);
    return freed;
  });
}

/** Moves the partition's counted offset towards the committed position, by at most `limit` batches; gives how many. */
function countConsumed(
  environment: LogEnvironment,
  partition: number,
  state: StoredPartition,
  committed: number,
  limit: number,
): number {
  if (limit <= 0 || state.countedOffset >= committed) return 0;
  const heads = environment.heads({
    start: batchPrefix(partition, state.countedOffset),
    end: batchPrefix(partition, committed),
    limit,
  });
  for (const head of heads) {
    // Consumed in part: its records are still needed if the consumer starts again.
    if (head.base + head.count > committed) break;
    state.countedOffset = head.base + head.count;
    state.countedBytes += heldBytes(head.bytes);
  }
  return heads.length;
}

/** The first batch of the partition, if it is known to be consumed. */
function firstConsumed(
  environment: LogEnvironment,
  partition: number,
  state: StoredPartition,
): BatchHead | undefined {
  if (state.start >= state.countedOffset) return undefined;
  const [head] = environment.heads({
    start: batchPrefix(partition, state.start),
    end: batchesEnd(partition),
    limit: 1,
  });
  if (head === undefined) {
    throw new EssError('internal', `partition ${partition} of the log has lost its start`);
  }
  if (head.base !== state.start || head.base + head.count > state.countedOffset) {
    throw new EssError('internal', `partition ${partition} of the log does not begin at ${state.start}`);
  }
  return head;
}

function oldestOf(candidates: readonly Candidate[]): Candidate | undefined {
  let oldest: Candidate | undefined;
  for (const candidate of candidates) {
    if (oldest === undefined || candidate.head.timeMs < oldest.head.timeMs) oldest = candidate;
  }
  return oldest;
}
