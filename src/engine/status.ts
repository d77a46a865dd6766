// What the process says of itself: /stats, /metrics, /healthz, /readyz. Read on demand from shared memory and from
// the threads' histograms; nothing here is on an event's way.

import { EssError } from '../errors.ts';
import type { Answer, GetRequest } from '../http/server.ts';
import { busyShare } from '../live/builder.ts';
import { troubleAnchor } from '../live/troubles.ts';
import { counterNames } from '../stats/counters.ts';
import { mergeSnapshots } from '../stats/merge.ts';
import { type MetricsInput, PrometheusText } from '../stats/prometheus.ts';
import { type StatsWindow, statsWindows } from '../stats/stages.ts';
import { type Figures, lagOf } from './figures.ts';
import { type Health, statusOf, textsOf, troublesOf } from './health.ts';

export interface StatusParts {
  readonly role: 'all' | 'ingest' | 'sink';
  readonly version: string;
  readonly figures: Figures;
  readonly health: Health;
}

export class Status {
  readonly #parts: StatusParts;
  readonly #prometheus = new PrometheusText();

  constructor(parts: StatusParts) {
    this.#parts = parts;
  }

  // ---- probes ---------------------------------------------------------------------------------------------------

  healthz(): Answer {
    return json(200, { status: 'ok', uptime_s: this.#parts.figures.uptimeSeconds });
  }

  /** 503 only if the default ack cannot be kept here; everything else that is wrong makes it `degraded`. */
  readyz(): Answer {
    const findings = this.#parts.health.find();
    const status = statusOf(findings);
    return json(status === 'unready' ? 503 : 200, { status, reasons: textsOf(findings) });
  }

  // ---- figures --------------------------------------------------------------------------------------------------

  async stats(request: GetRequest): Promise<Answer> {
    const { role, version, figures, health } = this.#parts;
    const window = windowOf(request.query);
    const stages = mergeSnapshots(await figures.snapshots(window));
    const partitions = figures.partitions();
    const findings = health.find(partitions);
    const reasons = textsOf(findings);
    return json(200, {
      role,
      version,
      uptime_s: figures.uptimeSeconds,
      epoch: figures.session.log.epoch,
      window,
      status: reasons.length > 0 ? 'degraded' : 'ready',
      reasons,
      troubles: troublesOf(findings).map(({ kind, text }) => ({
        kind,
        text,
        help: `/operations#${troubleAnchor(kind)}`,
      })),
      stages,
      conservation: figures.conservation(partitions),
      lag: lagOf(partitions),
      slots: figures.slots(),
      counters: Object.fromEntries(counterNames.map((name) => [name, figures.counters.get(name)])),
      partitions,
      threads: figures.threads().map(({ loop, ring_used_bytes, ring_bytes, ...thread }) => ({
        ...thread,
        // Of its whole life: /metrics and the live page tell of the time since they were last asked.
        utilization: loop === null ? 0 : busyShare(loop, null),
        ...(ring_bytes === null ? {} : { ring_used_bytes, ring_bytes }),
      })),
      memory: process.memoryUsage(),
    });
  }

  async metrics(): Promise<Answer> {
    const { role, version, figures, health } = this.#parts;
    const partitions = figures.partitions();
    const conservation = figures.conservation(partitions);
    const isLedgerKnown = conservation.exact !== null;
    const findings = health.find(partitions);
    const lag = lagOf(partitions);
    const slots = figures.slots();
    const input: MetricsInput = {
      version,
      role,
      uptimeSeconds: figures.uptimeSeconds,
      readiness: { ready: findings.blockers.length === 0, degraded: findings.reasons.length > 0 },
      stages: await figures.snapshots('all'),
      counters: figures.counters,
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
      lag: { seconds: lag.seconds, records: lag.events },
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
      threads: figures
        .threads()
        .filter(({ name }) => name !== 'main')
        .map(({ name, alive, restarts, ring_used_bytes, ring_bytes }) => ({
          name,
          alive,
          restarts,
          ring: ring_bytes === null ? null : { usedBytes: ring_used_bytes ?? 0, capacityBytes: ring_bytes },
          heapUsedBytes: null,
        })),
      slots: slots === null ? null : { used: slots.used, max: slots.max },
    };
    return {
      status: 200,
      contentType: this.#prometheus.contentType,
      body: await this.#prometheus.render(input),
    };
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

function json(status: number, value: unknown): Answer {
  return { status, contentType: 'application/json', body: JSON.stringify(value) };
}
