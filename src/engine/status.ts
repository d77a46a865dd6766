// What the process says of itself: /stats, /metrics, /healthz, /readyz. Read on demand from shared memory and from
// the threads' histograms; nothing here is on an event's way.

import { EssError } from '../errors.ts';
import type { EventsRoute } from '../http/events_route.ts';
import type { Lane } from '../http/lanes.ts';
import type { Answer, GetRequest } from '../http/server.ts';
import type { AckLevel } from '../ingest/wire.ts';
import type { PartitionBoard } from '../stats/board.ts';
import { counterNames, type EngineCounters } from '../stats/counters.ts';
import { mergeSnapshots } from '../stats/merge.ts';
import { type MetricsInput, PrometheusText } from '../stats/prometheus.ts';
import type { StageRecorder, StageSnapshot } from '../stats/recorder.ts';
import { type StatsWindow, statsWindows } from '../stats/stages.ts';
import type { Conditions } from './conditions.ts';
import type { Thread } from './threads.ts';

/** Lag past which the status is degraded, seconds: the alert of the load-test log that ESS comes from. */
export const lagDegradedSeconds = 60;

export interface StatusParts {
  readonly role: 'all' | 'ingest' | 'sink';
  readonly version: string;
  readonly epoch: string;
  readonly ack: AckLevel;
  readonly board: PartitionBoard;
  readonly counters: EngineCounters;
  readonly recorder: StageRecorder;
  readonly conditions: Conditions;
  readonly producers: readonly Thread[];
  readonly sinks: readonly Thread[];
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
  readonly in_flight: number;
  readonly lag_seconds: number;
  readonly bytes: number;
}

interface ConservationStatus {
  readonly accepted: number;
  readonly stored: number | null;
  readonly duplicates: number | null;
  readonly parked: number | null;
  readonly in_flight: number;
  /** accepted = stored + duplicates + parked + in_flight holds for every partition; null where no sink runs. */
  readonly exact: boolean | null;
  readonly memory_pending: number;
}

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
    const blockers = this.#blockers();
    const reasons = this.#reasons();
    if (blockers.length > 0) return json(503, { status: 'unready', reasons: [...blockers, ...reasons] });
    return json(200, { status: reasons.length > 0 ? 'degraded' : 'ready', reasons });
  }

  #blockers(): string[] {
    const { role, producers, ack, conditions, isStopping } = this.#parts;
    const blockers: string[] = [];
    if (isStopping()) blockers.push('this process is stopping');
    if (role === 'sink') return blockers;
    if (!producers.some((thread) => thread.isAlive)) blockers.push('log: no producer worker is running');
    const logTrouble = conditions.get('log');
    if (logTrouble !== null && ack !== 'memory') blockers.push(`log: ${logTrouble}`);
    if (ack === 'store') blockers.push(...conditions.list().filter((text) => text.startsWith('partition ')));
    return blockers;
  }

  #reasons(): string[] {
    const { conditions, producers, sinks } = this.#parts;
    const reasons = conditions.list();
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
    const { role, counters, producers, sinks, lanes, events, epoch } = this.#parts;
    const window = windowOf(request.query);
    const stages = mergeSnapshots(await this.#snapshots(window));
    const partitions = this.#partitions();
    const reasons = [...this.#blockers(), ...this.#reasons()];
    return json(200, {
      role,
      version: this.#parts.version,
      uptime_s: this.#uptimeSeconds(),
      epoch,
      window,
      status: reasons.length > 0 ? 'degraded' : 'ready',
      reasons,
      stages,
      conservation: this.#conservation(partitions),
      // Without a sink here nobody knows the age of what waits.
      lag: {
        events: sum(partitions, (partition) => partition.in_flight),
        seconds: sinks.length > 0 ? lagSeconds(partitions) : null,
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
    const { role, version, counters, producers, sinks, lanes, events } = this.#parts;
    const partitions = this.#partitions();
    const conservation = this.#conservation(partitions);
    const isSinkHere = conservation.exact !== null;
    const input: MetricsInput = {
      version,
      role,
      uptimeSeconds: this.#uptimeSeconds(),
      readiness: { ready: this.#blockers().length === 0, degraded: this.#reasons().length > 0 },
      stages: await this.#snapshots('all'),
      counters,
      conservation: isSinkHere
        ? {
            holds: conservation.exact === true,
            records: conservation.accepted,
            rows: conservation.stored ?? 0,
            duplicates: conservation.duplicates ?? 0,
            parked: conservation.parked ?? 0,
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
    const { producers, sinks, recorder } = this.#parts;
    const others = await Promise.all([...producers, ...sinks].map((thread) => thread.snapshots(window)));
    return [recorder.snapshot(window), ...others.flat()];
  }

  #partitions(): PartitionStatus[] {
    const { board, sinks } = this.#parts;
    const isSinkHere = sinks.length > 0;
    const nowMs = Date.now();
    return Array.from({ length: board.partitions }, (_, partition) => {
      // The ledger's position and its totals are four words: read them until they did not move meanwhile.
      let ledger = board.get(partition, 'ledger');
      let rows = 0;
      let duplicates = 0;
      let parked = 0;
      for (let i = 0; i < totalsReadsMax; i += 1) {
        rows = board.get(partition, 'rows');
        duplicates = board.get(partition, 'duplicates');
        parked = board.get(partition, 'parked');
        const again = board.get(partition, 'ledger');
        if (again === ledger && rows + duplicates + parked === ledger) break;
        ledger = again;
      }
      const committed = board.get(partition, 'committed');
      const pendingMs = board.get(partition, 'pendingIngestMs');
      // Read last: it only grows, so that it is never behind what was read before.
      const end = board.get(partition, 'end');
      return {
        partition,
        start: board.get(partition, 'start'),
        end,
        committed,
        stored: isSinkHere ? ledger : null,
        rows: isSinkHere ? rows : null,
        duplicates: isSinkHere ? duplicates : null,
        parked: isSinkHere ? parked : null,
        in_flight: end - (isSinkHere ? ledger : committed),
        lag_seconds: pendingMs > 0 && end > ledger ? Math.max(0, nowMs - pendingMs) / 1000 : 0,
        bytes: board.get(partition, 'bytes'),
      };
    });
  }

  #conservation(partitions: readonly PartitionStatus[]): ConservationStatus {
    const { sinks, counters } = this.#parts;
    const isSinkHere = sinks.length > 0;
    const isExact = partitions.every(
      ({ rows, duplicates, parked, stored, end }) =>
        (rows ?? 0) + (duplicates ?? 0) + (parked ?? 0) === stored && stored <= end,
    );
    return {
      accepted: sum(partitions, (partition) => partition.end),
      stored: isSinkHere ? sum(partitions, (partition) => partition.rows ?? 0) : null,
      duplicates: isSinkHere ? sum(partitions, (partition) => partition.duplicates ?? 0) : null,
      parked: isSinkHere ? sum(partitions, (partition) => partition.parked ?? 0) : null,
      in_flight: sum(partitions, (partition) => partition.in_flight),
      exact: isSinkHere ? isExact : null,
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
