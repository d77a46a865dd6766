// Makes what the page is sent out of figures that only grow: rates and shares are differences between two looks. Pure,
// so that it can be tested without a clock; runs on the main thread.

import type { Stage } from '../stats/stages.ts';
import {
  type LiveGroup,
  type LiveNode,
  type LivePartition,
  type LiveSnapshot,
  type LiveStage,
  type LiveThread,
  snapshotFormat,
} from './snapshot.ts';
import type { Trouble } from './troubles.ts';

/** How an event loop has spent its time since its thread began, ms. */
export interface LoopTime {
  readonly busyMs: number;
  readonly idleMs: number;
}

/** A thread at one moment. */
export interface ThreadFigures extends Omit<LiveThread, 'utilization'> {
  /** Null while it does not run. */
  readonly loop: LoopTime | null;
}

/** Everything at one moment. */
export interface LiveFigures
  extends Omit<
    LiveSnapshot,
    | 'format'
    | 'events_per_s'
    | 'stored_per_s'
    | 'requests_per_s'
    | 'refused_per_s'
    | 'stages'
    | 'threads'
    | 'group'
    | 'nodes'
    | 'troubles'
  > {
  /** Requests that post events, and requests answered with an error, since the process began. */
  readonly requests: number;
  readonly refused: number;
  readonly stages: Readonly<Record<Stage, LiveStage>>;
  readonly threads: readonly ThreadFigures[];
  readonly troubles: readonly Trouble[];
  readonly group: LiveGroup | null;
  readonly nodes: readonly LiveNode[];
}

/**
 * The snapshot of this moment. `before` is an earlier moment of the same process, whose distance the rates are over; null
 * leaves them out.
 */
export function buildSnapshot(now: LiveFigures, before: LiveFigures | null): LiveSnapshot {
  const { requests, refused, threads, ...same } = now;
  const elapsedMs = before === null ? 0 : now.time_ms - before.time_ms;
  const rate = (difference: number | null): number | null => ratePerSecond(difference, elapsedMs);
  const isSameLog = before !== null && before.epoch === now.epoch;
  return {
    format: snapshotFormat,
    ...same,
    events_per_s: rate(isSameLog ? growth(before.partitions, now.partitions, ({ end }) => end) : null),
    stored_per_s: rate(isSameLog ? growth(before.partitions, now.partitions, ({ rows }) => rows) : null),
    requests_per_s: rate(before === null ? null : requests - before.requests),
    refused_per_s: rate(before === null ? null : refused - before.refused),
    threads: threads.map(({ loop, ...thread }) => {
      const earlier = before?.threads.find(({ name }) => name === thread.name)?.loop ?? null;
      return { ...thread, utilization: loop === null ? 0 : busyShare(loop, earlier) };
    }),
  };
}

/** Per second with one decimal, never below 0; null without a difference or without time in which it came about. */
export function ratePerSecond(difference: number | null, elapsedMs: number): number | null {
  if (difference === null || elapsedMs <= 0) return null;
  return Math.max(0, Math.round((difference * 10_000) / elapsedMs) / 10);
}

/** Share of the time between two looks in which the loop was busy, 0..1; of its whole life if there is no first look. */
export function busyShare(now: LoopTime, before: LoopTime | null): number {
  // A thread that was replaced meanwhile counts from its own beginning.
  const isSameThread = before !== null && before.busyMs <= now.busyMs && before.idleMs <= now.idleMs;
  const busyMs = now.busyMs - (isSameThread ? before.busyMs : 0);
  const idleMs = now.idleMs - (isSameThread ? before.idleMs : 0);
  if (busyMs + idleMs <= 0) return 0;
  return Math.round((busyMs / (busyMs + idleMs)) * 1000) / 1000;
}

/** Growth over the partitions that are known at both moments: one that becomes known is no burst. Null if none is. */
function growth(
  before: readonly LivePartition[],
  now: readonly LivePartition[],
  of: (partition: LivePartition) => number | null,
): number | null {
  let total: number | null = null;
  for (const [index, partition] of now.entries()) {
    const earlier = before[index];
    const from = earlier === undefined ? null : of(earlier);
    const to = of(partition);
    if (from === null || to === null) continue;
    // A store that was put back to an older state has lost rows; that is not a rate.
    total = (total ?? 0) + Math.max(0, to - from);
  }
  return total;
}
