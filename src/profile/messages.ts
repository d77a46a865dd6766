// What the main thread and the profiler of another thread say to each other over a MessagePort of their own, which the
// thread offers when it starts. Piscina's threads speak it like all others: their own port is piscina's.

import type { MessagePort } from 'node:worker_threads';

/** Thread to main thread, over the thread's parent port, once: the way to its profiler. */
export interface ProfilerOffer {
  readonly type: 'profiler';
  readonly port: MessagePort;
}

/** Main thread to profiler. */
export type ToProfiler =
  /** Begin to sample where the time goes. */
  | { readonly type: 'start_time' }
  /** End that; what was seen is the answer. */
  | { readonly type: 'stop_time'; readonly request: number }
  /** End that; nobody wants it any more. */
  | { readonly type: 'drop_time' }
  /** The live allocations are the answer. */
  | { readonly type: 'heap'; readonly request: number };

/** Profiler to main thread: a profile as profile.proto, not compressed, with the names and places of the built code. */
export type FromProfiler =
  | { readonly type: 'profile'; readonly request: number; readonly bytes: Uint8Array<ArrayBuffer> }
  | { readonly type: 'failed'; readonly request: number; readonly why: string };
