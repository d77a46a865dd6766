// Entry of a reader thread, which piscina starts and feeds one read at a time. It does nothing else, so the store may
// block it.

import { move, transferableSymbol, valueSymbol, workerData } from 'piscina';
import { openStore } from './client.ts';
import { handleRead, type ReadAnswer, type ReadRequest } from './queries/handle.ts';
import type { StoreTarget } from './store.ts';

/** What the thread is started with. */
export interface ReadWorkerData {
  readonly target: StoreTarget;
  /** Limit of one read, ms. */
  readonly timeoutMs: number;
}

/** Below this a copy is cheaper than handing the memory over. Bytes. */
const transferBytesMin = 64 * 1024;

// Piscina passes on what it was given as `workerData`; only the engine starts this file.
const { target, timeoutMs }: ReadWorkerData = workerData;
const store = await openStore(target, { blocking: true });

/** Gives a ReadAnswer, or one that piscina unwraps on its way to the caller. */
export default async function read(request: ReadRequest): Promise<unknown> {
  const answer: ReadAnswer = await handleRead(store, request, { timeoutMs, nowMs: Date.now() });
  const { body } = answer;
  if (typeof body === 'string' || body.length < transferBytesMin) return answer;
  return move({ [transferableSymbol]: [body.buffer], [valueSymbol]: answer });
}
