// What worker threads and the main thread say to each other by postMessage: rare things only. Requests, answers,
// positions and counters travel through shared memory.

import type { Trouble } from '../live/troubles.ts';
import type { StageSnapshot } from '../stats/recorder.ts';
import type { StatsWindow } from '../stats/stages.ts';

/** Main thread to worker. */
export type ToWorker =
  /** Finish what is open, then answer `stopped`. */
  | { readonly type: 'stop' }
  /** The time to stop is nearly over: give up waiting for others, answer what waits. */
  | { readonly type: 'abandon' }
  | { readonly type: 'snapshot'; readonly request: number; readonly window: StatsWindow };

/** Worker to main thread. */
export type FromWorker =
  | { readonly type: 'ready' }
  | { readonly type: 'stopped' }
  | { readonly type: 'snapshot'; readonly request: number; readonly snapshot: StageSnapshot }
  | {
      readonly type: 'log';
      readonly level: 'debug' | 'info' | 'warn' | 'error';
      readonly message: string;
      readonly fields: Readonly<Record<string, unknown>>;
    }
  /** The log is not the one that was opened: the engine has to open it anew, in all threads. */
  | { readonly type: 'log_changed'; readonly reason: string }
  /** Something that makes the service less than healthy, or null when it is over. */
  | { readonly type: 'condition'; readonly key: string; readonly trouble: Trouble | null }
  /** The partitions of the group were dealt out anew, this thread's share too; epoch ms. */
  | { readonly type: 'dealt'; readonly timeMs: number };
