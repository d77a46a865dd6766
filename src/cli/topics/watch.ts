// Watches replicas that are on their way until they are in sync where they belong: a bar on a terminal, elsewhere a line
// when something changes. Only looks; runs on the main thread of `ess topics move`.

import type { Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { EssError } from '../../errors.ts';
import { startBar } from '../bar.ts';
import type { TopicsCluster } from './cluster.ts';
import { comers, type Move } from './plan.ts';

const pollMs = 500;
/** What is neither under way nor as it should be for so long has been cancelled by somebody, ms. */
const lostAfterMs = 15_000;

/** `lost`: no longer under way, and not as planned. */
export type WatchOutcome = 'done' | 'timeout' | 'interrupted' | 'lost';

/** Settles when all is as the moves want it, or after `waitMs`, or when the signal says so. */
export async function watchMoves(
  cluster: TopicsCluster,
  moves: readonly Move[],
  waitMs: number,
  signal: AbortSignal,
  stderr: Writable & { readonly isTTY?: boolean },
): Promise<WatchOutcome> {
  const total = moves.reduce((sum, { replicas, wanted }) => sum + comers(replicas, wanted).length, 0);
  const look = { format: '{bar} {value} of {total} replicas in sync | {text}', total };
  const bar = stderr.isTTY === true && total > 0 ? await startBar(stderr, look) : null;
  const startedMs = Date.now();
  let idleSinceMs: number | null = null;
  let shown = -1;
  try {
    for (;;) {
      if (signal.aborted) return 'interrupted';
      const view = await cluster.view();
      const ongoing = await cluster.ongoing(view);
      const states = moves.map(({ topic, partition, replicas, wanted }) => {
        const now = view.topics.find(({ name }) => name === topic)?.partitions[partition];
        const inSync = comers(replicas, wanted).filter((node) => now?.inSync.includes(node)).length;
        const isPlaced =
          now !== undefined &&
          wanted.length === now.replicas.length &&
          wanted.every((node, at) => node === now.replicas[at]);
        return {
          inSync,
          isDone: isPlaced && wanted.every((node) => now.inSync.includes(node)),
          isOngoing: ongoing.some((other) => other.topic === topic && other.partition === partition),
          isPlaced,
        };
      });
      const done = states.reduce((sum, { inSync }) => sum + inSync, 0);
      if (bar !== null) bar.update(done, { text: `${left(states)} partitions left` });
      else if (done !== shown && total > 0)
        stderr.write(`${done} of ${total} replicas in sync, ${left(states)} partitions left\n`);
      shown = done;
      if (states.every(({ isDone }) => isDone)) return 'done';
      const isIdle = states.every(({ isDone, isOngoing, isPlaced }) => isDone || (!isOngoing && !isPlaced));
      if (!isIdle) idleSinceMs = null;
      idleSinceMs ??= isIdle ? Date.now() : null;
      if (idleSinceMs !== null && Date.now() - idleSinceMs > lostAfterMs) return 'lost';
      if (Date.now() - startedMs >= waitMs) return 'timeout';
      await sleep(pollMs, undefined, { signal }).catch(() => {});
    }
  } catch (error) {
    if (error instanceof EssError && signal.aborted) return 'interrupted';
    throw error;
  } finally {
    bar?.stop();
  }
}

function left(states: readonly { readonly isDone: boolean }[]): number {
  return states.filter(({ isDone }) => !isDone).length;
}
