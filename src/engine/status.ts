// What the process says of itself: /stats, /metrics, /healthz, /readyz. Read on demand from shared memory and from
// the threads' histograms; nothing here is on an event's way.

import { EssError } from '../errors.ts';
import type { EventsRoute } from '../http/events_route.ts';
import type { Lane } from '../http/lanes.ts';
import type { Answer, GetRequest } from '../http/server.ts';
import type { AckLevel } from '../ingest/wire.ts';
import type { LedgerTotals } from '../sink/ledger.ts';
import type { PartitionBoard } from '../stats/board.ts';
import { counterNames, type EngineCounters } from '../stats/counters.ts';
import { mergeSnapshots } from '../stats/merge.ts';
import { type MetricsInput, PrometheusText } from '../stats/prometheus.ts';
import type { StageRecorder, StageSnapshot } from '../stats/recorder.ts';
import { type StatsWindow, statsWindows } from '../stats/stages.ts';
import type { Conditions } from './conditions.ts';
import type { Session } from './session.ts';
import type { LogWatch } from './watch.ts';

/** Lag past which the status is degraded, seconds: the alert of the load-test log that ESS comes from. */
export const lagDegradedSeconds = 60;

export interface StatusParts {
  readonly role: 'all' | 'ingest' | 'sink';
  readonly version: string;
  readonly ack: AckLevel;
  /** What lives on the log as it is now; another one after the log has changed. */
  readonly session: () => { readonly session: Session; readonly watch: LogWatch };
  readonly counters: EngineCounters;
  readonly recorder: StageRecorder;
  readonly conditions: Conditions;
  /** The engine's own list, by producer index. */
  readonly lanes: readonly (Lane | null)[];
  readonly events: EventsRoute | null;
  readonly isStopping: () => boolean;
}

/** Where one partition stands. Null: this role cannot know it. */
interface PartitionStatus {
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

interface ConservationStatus {
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

type OwnTotals = Pick<LedgerTotals, 'rows' | 'duplicates' | 'parked' | 'holes' | 'next'>;

const totalsReadsMax = 100;

export class Status {
  readonly #parts: StatusParts;
  readonly #startedMs = Date.now();
  readonly #prometheus = new PrometheusText();

  constructor(parts: StatusParts) {
    this.#parts = parts;
  }

  // ---- probes ---------------------------------------------------------------------------------------------------

  healthz(): Answer {
    return json(200, { status: 'ok', uptime_s: this.#uptimeSeconds() });
  }

  /** 503 only if the default ack cannot be kept here; everything else that is wrong makes it `degraded`. */
  readyz(): Answer {
    const reasons = this.#allReasons();
    if (this.#blockers().length > 0) return json(503, { status: 'unready', reasons });
    return json(200, { status: reasons.length > 0 ? 'degraded' : 'ready', reasons });
  }

  /** What blocks first, then the rest; what blocks is a reason too, and is said once. */
  #allReasons(): string[] {
    return [...new Set([...this.#blockers(), ...this.#reasons()])];
  }

  #logTroubles(): string[] {
    return this.#parts.conditions.of('log').map((text) => `log: ${text}`);
  }

  #blockers(): string[] {
    const { role, ack, conditions, isStopping } = this.#parts;
    const { producers } = this.#session;
    const blockers: string[] = [];
    if (isStopping()) blockers.push('this process is stopping');
    if (role === 'sink') return blockers;
    if (!producers.some((thread) => thread.isAlive)) blockers.push('log: no producer worker is running');
    if (ack !== 'memory') blockers.push(...this.#logTroubles());
    if (ack === 'store') blockers.push(...conditions.of('partition'));
    return blockers;
  }

  #reasons(): string[] {
    const { conditions } = this.#parts;
    const { producers, sinks } = this.#session;
    const reasons = [...this.#logTroubles(), ...conditions.list('log')];
    for (const thread of [...producers, ...sinks])
      if (!thread.isAlive) reasons.push(`${thread.name} is not running`);
    const partitions = this.#partitions();
    const lag = lagSeconds(partitions);
    if (lag > lagDegradedSeconds) reasons.push(`lag: the oldest event waits for ${Math.round(lag)} s`);
    if (this.#conservation(partitions).exact === false)
      reasons.push('conservation: the figures do not add up');
    return reasons;
  }

  // ---- figures --------------------------------------------------------------------------------------------------

  async stats(request: GetRequest): Promise<Answer> {
    const { role, counters, lanes, events } = this.#parts;
    const { producers, sinks, log } = this.#session;
    const window = windowOf(request.query);
    const stages = mergeSnapshots(await this.#snapshots(window));
    const partitions = this.#partitions();
    const reasons = this.#allReasons();
    return json(200, {
      role,
      version: this.#parts.version,
      uptime_s: this.#uptimeSeconds(),
      epoch: log.epoch,
      window,
      status: reasons.length > 0 ? 'degraded' : 'ready',
      reasons,
      stages,
      conservation: this.#conservation(partitions),
      lag: {
        events: sum(partitions, (partition) => partition.in_flight),
        seconds: lagSeconds(partitions),
      },
      slots:
        events === null
          ? null
          : {
              used: events.slots.used,
              store_used: events.slots.storeUsed,
              max: events.slots.max,
              pending_bytes: events.pendingBytes,
            },
      counters: Object.fromEntries(counterNames.map((name) => [name, counters.get(name)])),
      partitions,
      threads: [
        {
          name: 'main',
          alive: true,
          restarts: 0,
          utilization: round(performance.eventLoopUtilization().utilization),
        },
        ...[...producers, ...sinks].map((thread, i) => {
          const lane = lanes[i] ?? null;
          return {
            name: thread.name,
            alive: thread.isAlive,
            restarts: thread.restarts,
            utilization: round(thread.utilization),
            ...(i < producers.length && lane !== null
              ? { ring_used_bytes: lane.requests.usedBytes, ring_bytes: lane.requests.capacityBytes }
              : {}),
          };
        }),
      ],
      memory: process.memoryUsage(),
    });
  }

  async metrics(): Promise<Answer> {
    const { role, version, counters, lanes, events } = this.#parts;
    const { producers, sinks } = this.#session;
    const partitions = this.#partitions();
    const conservation = this.#conservation(partitions);
    const isLedgerKnown = conservation.exact !== null;
    const input: MetricsInput = {
      version,
      role,
      uptimeSeconds: this.#uptimeSeconds(),
      readiness: { ready: this.#blockers().length === 0, degraded: this.#reasons().length > 0 },
      stages: await this.#snapshots('all'),
      counters,
      conservation: isLedgerKnown
        ? {
            holds: conservation.exact === true,
            records: conservation.accepted,
            rows: conservation.stored ?? 0,
            duplicates: conservation.duplicates ?? 0,
            parked: conservation.parked ?? 0,
            holes: conservation.holes ?? 0,
            inFlight: conservation.in_flight,
          }
        : null,
      lag: { seconds: lagSeconds(partitions), records: sum(partitions, (partition) => partition.in_flight) },
      partitions: partitions.map((partition) => ({
        partition: partition.partition,
        start: partition.start,
        end: partition.end,
        committed: partition.committed,
        stored: partition.stored ?? partition.committed,
        rows: partition.rows ?? 0,
        duplicates: partition.duplicates ?? 0,
        parked: partition.parked ?? 0,
        bytes: partition.bytes,
        lagSeconds: partition.lag_seconds,
      })),
      threads: [...producers, ...sinks].map((thread, i) => {
        const lane = i < producers.length ? (lanes[i] ?? null) : null;
        return {
          name: thread.name,
          alive: thread.isAlive,
          restarts: thread.restarts,
          ring:
            lane === null
              ? null
              : { usedBytes: lane.requests.usedBytes, capacityBytes: lane.requests.capacityBytes },
          heapUsedBytes: null,
        };
      }),
      slots: events === null ? null : { used: events.slots.used, max: events.slots.max },
    };
    return {
      status: 200,
      contentType: this.#prometheus.contentType,
      body: await this.#prometheus.render(input),
    };
  }

  async #snapshots(window: StatsWindow): Promise<StageSnapshot[]> {
    const { recorder } = this.#parts;
    const { producers, sinks } = this.#session;
    const others = await Promise.all([...producers, ...sinks].map((thread) => thread.snapshots(window)));
    return [recorder.snapshot(window), ...others.flat()];
  }

  get #session(): Session {
    return this.#parts.session().session;
  }

  #partitions(): PartitionStatus[] {
    const { session, watch } = this.#parts.session();
    const { board } = session;
    const nowMs = Date.now();
    return Array.from({ length: board.partitions }, (_, partition): PartitionStatus => {
      const owner = board.get(partition, 'owner');
      const totals = owner > 0 ? ownTotals(board, partition) : watch.totals(partition);
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

  #conservation(partitions: readonly PartitionStatus[]): ConservationStatus {
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

  #uptimeSeconds(): number {
    return Math.round((Date.now() - this.#startedMs) / 1000);
  }
}

function windowOf(query: string): StatsWindow {
  let asked: StatsWindow | null = null;
  for (const [name, value] of new URLSearchParams(query)) {
    const window = statsWindows.find((candidate) => candidate === value);
    if (name !== 'window' || window === undefined || asked !== null) {
      const detail = `/stats takes one window=${statsWindows.join('|')}, not "${name}=${value}"`;
      throw new EssError('invalid_parameter', detail);
    }
    asked = window;
  }
  return asked ?? 'all';
}

/** A partition's totals as its sink keeps them on the board. */
function ownTotals(board: PartitionBoard, partition: number): OwnTotals {
  // The ledger's position and its totals are five words: read them until they did not move meanwhile.
  let next = board.get(partition, 'ledger');
  let totals = { rows: 0, duplicates: 0, parked: 0, holes: 0 };
  for (let i = 0; i < totalsReadsMax; i += 1) {
    totals = {
      rows: board.get(partition, 'rows'),
      duplicates: board.get(partition, 'duplicates'),
      parked: board.get(partition, 'parked'),
      holes: board.get(partition, 'holes'),
    };
    const again = board.get(partition, 'ledger');
    const sumNow = totals.rows + totals.duplicates + totals.parked + totals.holes;
    if (again === next && sumNow === next) break;
    next = again;
  }
  return { ...totals, next };
}

function lagSeconds(partitions: readonly PartitionStatus[]): number {
  return partitions.reduce((longest, partition) => Math.max(longest, partition.lag_seconds), 0);
}

function sum<T>(items: readonly T[], of: (item: T) => number): number {
  return items.reduce((total, item) => total + of(item), 0);
}

function round(share: number): number {
  return Math.round(share * 1000) / 1000;
}

function json(status: number, value: unknown): Answer {
  return { status, contentType: 'application/json', body: JSON.stringify(value) };
}
