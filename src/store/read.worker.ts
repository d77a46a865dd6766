// Entry of a reader thread, which piscina starts and feeds one read at a time. It does nothing else, so the embedded
// store may block it.

import { threadId } from 'node:worker_threads';
import { move, transferableSymbol, valueSymbol, workerData } from 'piscina';
import { offerProfiler } from '../profile/offer.ts';
import { handleRead, type ReadAnswer, type ReadRequest } from './queries/handle.ts';
import { openShards } from './queries/shards.ts';
import type { StoreLayout, StoreTarget } from './store.ts';

/** What the thread is started with. */
export interface ReadWorkerData {
  /** One node that holds everything, or the nodes by shard and replica. */
  readonly target: StoreTarget | StoreLayout;
  /** Limit of one read, ms. */
  readonly timeoutMs: number;
  /** Whether this thread offers its profiler. */
  readonly isProfiled: boolean;
}

/** Below this a copy is cheaper than handing the memory over. Bytes. */
const transferBytesMin = 64 * 1024;

// Piscina passes on what it was given as `workerData`; only the engine starts this file.
const { target, timeoutMs, isProfiled }: ReadWorkerData = workerData;
if (isProfiled) await offerProfiler();
// Threads have consecutive numbers, so that they begin with different replicas.
const shards = await openShards('shards' in target ? target : { shards: [[target]] }, threadId);

/** Gives a ReadAnswer, or one that piscina unwraps on its way to the caller. */
export default async function read(request: ReadRequest): Promise<unknown> {
  const answer: ReadAnswer = await handleRead(shards, request, { timeoutMs, nowMs: Date.now() });
  const { body } = answer;
  if (typeof body === 'string' || body.length < transferBytesMin) return answer;
  return move({ [transferableSymbol]: [body.buffer], [valueSymbol]: answer });
}
