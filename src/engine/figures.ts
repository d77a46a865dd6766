// Where the process stands, read on demand from shared memory: partitions, conservation, threads, slots. What /stats,
// /metrics, /readyz and the live page show comes from here, so that they never disagree. Main thread only.

import type { EventsRoute } from '../http/events_route.ts';
import type { Lane } from '../http/lanes.ts';
import type { ThreadFigures } from '../live/builder.ts';
import type { EngineCounters } from '../stats/counters.ts';
import type { StageRecorder, StageSnapshot } from '../stats/recorder.ts';
import type { StatsWindow } from '../stats/stages.ts';
import { OwnTotalsReader } from './own_totals.ts';
import type { Session } from './session.ts';
import type { LogWatch } from './watch.ts';

export interface FiguresParts {
  /** What lives on the log as it is now; another one after the log has changed. */
  readonly session: () => { readonly session: Session; readonly watch: LogWatch };
  readonly counters: EngineCounters;
  readonly recorder: StageRecorder;
  /** The engine's own list, by producer index. */
  readonly lanes: readonly (Lane | null)[];
  readonly events: EventsRoute | null;
}

/** Where one partition stands. Null: this role cannot know it. */
export interface PartitionStatus {
  readonly partition: number;
  readonly start: number;
  readonly end: number;
  readonly committed: number;
  readonly stored: number | null;
  readonly rows: number | null;
  readonly duplicates: number | null;
  readonly parked: number | null;
  /** Offsets without a record: compacted away, transaction markers, aborted, gone before ESS first came. */
  readonly holes: number | null;
  readonly in_flight: number;
  readonly lag_seconds: number;
  readonly bytes: number;
  /** Sink thread of this process that owns the partition; null if none does. */
  readonly owner: string | null;
}

export interface ConservationStatus {
  readonly accepted: number;
  readonly stored: number | null;
  readonly duplicates: number | null;
  readonly parked: number | null;
  readonly holes: number | null;
  readonly in_flight: number;
  /**
   * accepted = stored + duplicates + parked + holes + in_flight holds for every partition whose ledger is known; null
   * where none is.
   */
  readonly exact: boolean | null;
  readonly memory_pending: number;
}

export interface SlotsStatus {
  readonly used: number;
  readonly store_used: number;
  readonly max: number;
  readonly pending_bytes: number;
}

export class Figures {
  readonly startedMs = Date.now();
  readonly #parts: FiguresParts;
  #own: OwnTotalsReader | null = null;

  constructor(parts: FiguresParts) {
    this.#parts = parts;
  }

  get session(): Session {
    return this.#parts.session().session;
  }

  get counters(): EngineCounters {
    return this.#parts.counters;
  }

  get uptimeSeconds(): number {
    return Math.round((Date.now() - this.startedMs) / 1000);
  }

  /** Null where no events are taken. */
  slots(): SlotsStatus | null {
    const { events } = this.#parts;
    if (events === null) return null;
    const { used, storeUsed, max } = events.slots;
    return { used, store_used: storeUsed, max, pending_bytes: events.pendingBytes };
  }

  /** The main thread, the producers, the sinks. */
  threads(): ThreadFigures[] {
    const { lanes } = this.#parts;
    const { producers, sinks } = this.session;
    const { active, idle } = performance.eventLoopUtilization();
    const main = { name: 'main', alive: true, restarts: 0, ring_used_bytes: null, ring_bytes: null };
    return [
      { ...main, loop: { busyMs: active, idleMs: idle } },
      ...[...producers, ...sinks].map((thread, i): ThreadFigures => {
        const requests = i < producers.length ? (lanes[i]?.requests ?? null) : null;
        return {
          name: thread.name,
          alive: thread.isAlive,
          restarts: thread.restarts,
          loop: thread.loop,
          ring_used_bytes: requests?.usedBytes ?? null,
          ring_bytes: requests?.capacityBytes ?? null,
        };
      }),
    ];
  }

  /** What every thread recorded within the window; takes as long as the slowest thread, at most a second. */
  async snapshots(window: StatsWindow): Promise<StageSnapshot[]> {
    const { producers, sinks } = this.session;
    const others = await Promise.all([...producers, ...sinks].map((thread) => thread.snapshots(window)));
    return [this.ownSnapshot(window), ...others.flat()];
  }

  /** What the main thread recorded within the window. */
  ownSnapshot(window: StatsWindow): StageSnapshot {
    return this.#parts.recorder.snapshot(window);
  }

  partitions(): PartitionStatus[] {
    const { session, watch } = this.#parts.session();
    const { board } = session;
    if (this.#own?.board !== board) this.#own = new OwnTotalsReader(board);
    const own = this.#own;
    const nowMs = Date.now();
    return Array.from({ length: board.partitions }, (_, partition): PartitionStatus => {
      const owner = board.get(partition, 'owner');
      const totals = owner > 0 ? own.read(partition, nowMs) : own.further(partition, watch.totals(partition));
      const committed = board.get(partition, 'committed');
      const position = totals?.next ?? committed;
      const pendingMs = board.get(partition, 'pendingIngestMs');
      // Read last: it only grows, so that it is never behind what was read before.
      const end = board.get(partition, 'end');
      const ownWaitMs = pendingMs > 0 ? Math.max(0, nowMs - pendingMs) : 0;
      const waitMs = owner > 0 ? ownWaitMs : watch.waitMs(partition, position);
      return {
        partition,
        start: board.get(partition, 'start'),
        end,
        committed,
        stored: totals?.next ?? null,
        rows: totals?.rows ?? null,
        duplicates: totals?.duplicates ?? null,
        parked: totals?.parked ?? null,
        holes: totals?.holes ?? null,
        in_flight: Math.max(0, end - position),
        lag_seconds: end > position ? waitMs / 1000 : 0,
        bytes: board.get(partition, 'bytes'),
        owner: session.sinks[owner - 1]?.name ?? null,
      };
    });
  }

  conservation(partitions: readonly PartitionStatus[]): ConservationStatus {
    const { counters } = this.#parts;
    const known = partitions.filter(({ stored }) => stored !== null);
    const isExact = known.every(
      ({ rows, duplicates, parked, holes, stored, end, owner }) =>
        (rows ?? 0) + (duplicates ?? 0) + (parked ?? 0) + (holes ?? 0) === stored &&
        // The end of a partition that another process consumes may be older news than its ledger.
        (owner === null || stored <= end),
    );
    const isKnown = known.length > 0;
    return {
      accepted: sum(partitions, (partition) => partition.end),
      stored: isKnown ? sum(partitions, (partition) => partition.rows ?? 0) : null,
      duplicates: isKnown ? sum(partitions, (partition) => partition.duplicates ?? 0) : null,
      parked: isKnown ? sum(partitions, (partition) => partition.parked ?? 0) : null,
      holes: isKnown ? sum(partitions, (partition) => partition.holes ?? 0) : null,
      in_flight: sum(partitions, (partition) => partition.in_flight),
      exact: isKnown ? isExact : null,
      memory_pending: counters.get('events_memory_pending'),
    };
  }
}

/** Events that are not stored yet, and how long the oldest of them has been waiting. */
export function lagOf(partitions: readonly PartitionStatus[]): {
  readonly events: number;
  readonly seconds: number;
} {
  return {
    events: sum(partitions, (partition) => partition.in_flight),
    seconds: partitions.reduce((longest, partition) => Math.max(longest, partition.lag_seconds), 0),
  };
}

function sum<T>(items: readonly T[], of: (item: T) => number): number {
  return items.reduce((total, item) => total + of(item), 0);
}
