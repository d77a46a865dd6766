// Entry of a reader thread, which piscina starts and feeds one read at a time. It does nothing else, so the embedded
// store may block it. A store that cannot be opened is an answer like any other: a thread that died of it would only be
// replaced by one that dies of it too.

import { parentPort, threadId } from 'node:worker_threads';
import { move, transferableSymbol, valueSymbol, workerData } from 'piscina';
import { offerProfiler } from '../profile/offer.ts';
import type { FromWorker } from '../thread/protocol.ts';
import { handleRead, type ReadAnswer, type ReadRequest, unavailableAnswer } from './queries/handle.ts';
import { openShards, type Shards } from './queries/shards.ts';
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

/** A store that could not be opened is tried again no sooner than this; reads in between are told why not. ms. */
const reopenAfterMs = 1_000;

// Piscina passes on what it was given as `workerData`; only the engine starts this file.
const { target, timeoutMs, isProfiled }: ReadWorkerData = workerData;
let shards: Shards | null = null;
let triedAtMs = 0;
let failure: string | null = null;

/** Opens the store, if it is not open and it is time for another try. Never rejects. */
async function open(): Promise<void> {
  if (shards !== null || (failure !== null && performance.now() - triedAtMs < reopenAfterMs)) return;
  triedAtMs = performance.now();
  const before = failure;
  try {
    // Threads have consecutive numbers, so that they begin with different replicas.
    shards = await openShards('shards' in target ? target : { shards: [[target]] }, threadId);
    failure = null;
  } catch (error) {
    failure = `the store cannot be opened: ${error instanceof Error ? error.message : String(error)}`;
  }
  if (failure === before) return;
  // Piscina hands on what is not its own.
  const trouble = failure === null ? null : ({ kind: 'store_node_down', text: `reads: ${failure}` } as const);
  parentPort?.postMessage({ type: 'condition', key: `reader-${threadId}`, trouble } satisfies FromWorker);
}

if (isProfiled) await offerProfiler();
await open();

/** Gives a ReadAnswer, or one that piscina unwraps on its way to the caller. */
export default async function read(request: ReadRequest): Promise<unknown> {
  await open();
  if (shards === null) return unavailableAnswer(failure ?? 'the store is not open');
  const answer: ReadAnswer = await handleRead(shards, request, { timeoutMs, nowMs: Date.now() });
  const { body } = answer;
  if (typeof body === 'string' || body.length < transferBytesMin) return answer;
  return move({ [transferableSymbol]: [body.buffer], [valueSymbol]: answer });
}
