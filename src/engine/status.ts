// What the process says of itself: /stats, /metrics, /healthz, /readyz. Read on demand from shared memory and from
// the threads' histograms; nothing here is on an event's way.

import { EssError } from '../errors.ts';
import type { Answer, GetRequest } from '../http/server.ts';
import { busyShare, type LoopTime } from '../live/builder.ts';
import type { ClusterView, PartitionReplicas } from '../live/cluster.ts';
import { troubleAnchor } from '../live/troubles.ts';
import { counterNames } from '../stats/counters.ts';
import { mergeSnapshots } from '../stats/merge.ts';
import {
  type ClusterFigures,
  type MetricsInput,
  type PartitionFigures,
  PrometheusText,
} from '../stats/prometheus.ts';
import { type StatsWindow, statsWindows } from '../stats/stages.ts';
import type { ClusterWatch } from './cluster_watch.ts';
import { type Figures, lagOf } from './figures.ts';
import { type Health, statusOf, textsOf, troublesOf } from './health.ts';
import { groupOf, nodesOf } from './live_figures.ts';

export interface StatusParts {
  readonly role: 'all' | 'ingest' | 'sink';
  readonly version: string;
  readonly figures: Figures;
  readonly health: Health;
  readonly cluster: ClusterWatch;
}

/** How long an answer waits for brokers and nodes before it tells what was known of them, ms. */
const lookWaitMs = 700;

/** Where a log has no copies, or nobody could be asked for them. */
const unknownReplicas = { leader: null, replicas: null, in_sync: null };

export class Status {
  readonly #parts: StatusParts;
  readonly #prometheus = new PrometheusText();
  #loopsBefore: ReadonlyMap<string, LoopTime> = new Map();

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
    const { role, version, figures, health, cluster } = this.#parts;
    const window = windowOf(request.query);
    const { session } = figures;
    const [snapshots, bySink, view] = await Promise.all([
      figures.snapshots(window),
      Promise.all(session.sinks.map((thread) => thread.snapshots('10s'))),
      cluster.lookWithin(lookWaitMs),
    ]);
    const stages = mergeSnapshots(snapshots);
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
      partitions: partitions.map((partition) => ({
        ...partition,
        ...(view.partitions[partition.partition] ?? unknownReplicas),
      })),
      brokers: view.brokers,
      min_in_sync_replicas: view.min_in_sync_replicas,
      group: view.group === null ? null : groupOf(view.group, session, figures.counters),
      nodes: nodesOf(view, session, bySink),
      dead_letters: view.dead_letters.total,
      data_dir: view.data_dir,
      ages_s: cluster.ages(),
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
    const { role, version, figures, health, cluster } = this.#parts;
    const [stages, view] = await Promise.all([figures.snapshots('all'), cluster.lookWithin(lookWaitMs)]);
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
      stages,
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
        copies: copiesOf(view.partitions[partition.partition]),
      })),
      cluster: clusterFigures(view),
      loops: this.#loops(),
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

  /** Of the time since the last scrape. */
  #loops(): MetricsInput['loops'] {
    const before = this.#loopsBefore;
    const threads = this.#parts.figures.threads();
    this.#loopsBefore = new Map(threads.flatMap(({ name, loop }) => (loop === null ? [] : [[name, loop]])));
    return threads.flatMap(({ name, loop }) =>
      loop === null ? [] : [{ thread: name, utilization: busyShare(loop, before.get(name) ?? null) }],
    );
  }
}

function copiesOf(partition: PartitionReplicas | undefined): PartitionFigures['copies'] {
  if (partition === undefined) return null;
  const { leader, replicas, in_sync: inSync } = partition;
  return { leader, replicas: replicas.length, inSync: inSync.length };
}

function clusterFigures(view: ClusterView): ClusterFigures {
  const { brokers, group, nodes, data_dir: disk } = view;
  return {
    brokers: brokers.map(({ id, is_up: isUp }) => ({ id, isUp })),
    minInSync: view.min_in_sync_replicas,
    group: group === null ? null : { members: group.members.length, isStable: group.state === 'Stable' },
    nodes: nodes.map((node) => ({
      name: node.name,
      shard: node.shard,
      replica: node.replica,
      isUp: node.is_up,
      rows: node.rows,
      parts: node.parts,
      partsMax: node.parts_max,
      diskFreeBytes: node.disk_free_bytes,
      diskTotalBytes: node.disk_total_bytes,
    })),
    dataDir: disk === null ? null : { freeBytes: disk.free_bytes, totalBytes: disk.total_bytes },
    deadLetters: view.dead_letters.total,
  };
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
