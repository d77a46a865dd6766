// GET /metrics: the figures of /stats in Prometheus' text format. Runs on the main thread, once per scrape. All names
// begin with ess_; units are seconds and bytes.
import { Counter, Gauge, Registry } from 'prom-client';
import { bucketOf } from './buckets.ts';
import { type CounterName, counterKinds } from './counters.ts';
import { sumSnapshots } from './merge.ts';
import type { StageSnapshot } from './recorder.ts';
import { stages } from './stages.ts';
import { emptyCounts, type HistogramCounts } from './tally.ts';

/** All partitions together: records = rows + duplicates + parked + holes + inFlight, or there is a bug. */
export interface ConservationFigures {
  readonly holds: boolean;
  /** Records in the log since the epoch began. */
  readonly records: number;
  readonly rows: number;
  readonly duplicates: number;
  readonly parked: number;
  readonly holes: number;
  readonly inFlight: number;
}

export interface PartitionFigures {
  readonly partition: number;
  readonly start: number;
  readonly end: number;
  readonly committed: number;
  /** First offset not yet readable in the store. */
  readonly stored: number;
  readonly rows: number;
  readonly duplicates: number;
  readonly parked: number;
  readonly bytes: number;
  /** Age of the first record not yet stored, seconds; 0 if there is none. */
  readonly lagSeconds: number;
  /** Leader's node id (-1: none), and numbers of copies; null for a log without copies. */
  readonly copies: { readonly leader: number; readonly replicas: number; readonly inSync: number } | null;
}

/** What lies around the process, as it was seen last. Null leaves a series out. */
export interface ClusterFigures {
  readonly brokers: readonly { readonly id: number; readonly isUp: boolean }[];
  readonly minInSync: number | null;
  readonly group: { readonly members: number; readonly isStable: boolean } | null;
  readonly nodes: readonly NodeFigures[];
  readonly dataDir: { readonly freeBytes: number; readonly totalBytes: number } | null;
  /** Letters that are there now. */
  readonly deadLetters: number | null;
}

/** A ClickHouse node. */
export interface NodeFigures {
  /** "host:port", or "chdb". */
  readonly name: string;
  readonly shard: number;
  readonly replica: number;
  readonly isUp: boolean;
  readonly rows: number | null;
  readonly parts: number | null;
  readonly partsMax: number | null;
  readonly diskFreeBytes: number | null;
  readonly diskTotalBytes: number | null;
}

export interface ThreadFigures {
  /** Unique: it is the label. */
  readonly name: string;
  readonly alive: boolean;
  /** Times that it was replaced. */
  readonly restarts: number;
  /** The thread's ingest ring; null for threads without one. */
  readonly ring: { readonly usedBytes: number; readonly capacityBytes: number } | null;
  /** Null when the thread has not reported it. */
  readonly heapUsedBytes: number | null;
}

/** Everything that /metrics shows. Null leaves a group out, where this role cannot know it. */
export interface MetricsInput {
  readonly version: string;
  readonly role: string;
  readonly uptimeSeconds: number;
  readonly readiness: { readonly ready: boolean; readonly degraded: boolean };
  /** The `all` snapshots of every thread, ended ones included (see sumSnapshots). */
  readonly stages: readonly StageSnapshot[];
  readonly counters: { get(name: CounterName): number };
  readonly conservation: ConservationFigures | null;
  readonly lag: { readonly seconds: number; readonly records: number } | null;
  readonly partitions: readonly PartitionFigures[];
  readonly threads: readonly ThreadFigures[];
  readonly slots: { readonly used: number; readonly max: number } | null;
  readonly cluster: ClusterFigures;
  /** Share of the time since the last scrape in which each thread's event loop was busy, 0..1. */
  readonly loops: readonly { readonly thread: string; readonly utilization: number }[];
}

/**
 * Upper bounds of the stage histograms, microseconds: 50 us to 10 minutes, closest where targets are set, with the
 * lag alert's 60 s among them. 21 bounds times 7 stages are 168 series.
 */
export const stageBoundsMicroseconds: readonly number[] = [
  50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
  2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000, 300_000_000, 600_000_000,
];

const stageMetric = 'ess_stage_duration_seconds';

/** One stage's lines: cumulative buckets, +Inf, sum, count. A bound counts all of the HDR bucket that it lies in. */
function stageLines(stage: string, histogram: HistogramCounts): string[] {
  const lines: string[] = [];
  let below = 0;
  let i = 0;
  for (const bound of stageBoundsMicroseconds) {
    const lastBucket = bucketOf(bound);
    while (i < histogram.buckets.length && (histogram.buckets[i] ?? 0) <= lastBucket) {
      below += histogram.counts[i] ?? 0;
      i += 1;
    }
    lines.push(`${stageMetric}_bucket{stage="${stage}",le="${bound / 1_000_000}"} ${below}`);
  }
  lines.push(`${stageMetric}_bucket{stage="${stage}",le="+Inf"} ${histogram.count}`);
  lines.push(`${stageMetric}_sum{stage="${stage}"} ${histogram.sum / 1_000_000}`);
  lines.push(`${stageMetric}_count{stage="${stage}"} ${histogram.count}`);
  return lines;
}

/** The stage histograms. prom-client has no way to set a histogram's buckets, only to observe value by value. */
function stageText(snapshots: readonly StageSnapshot[]): string {
  const merged = sumSnapshots('all', snapshots);
  const lines = [
    `# HELP ${stageMetric} Duration of each stage of an event; see the API for what each stage measures`,
    `# TYPE ${stageMetric} histogram`,
  ];
  for (const stage of stages) lines.push(...stageLines(stage, merged.stages[stage] ?? emptyCounts));
  return `${lines.join('\n')}\n`;
}

type Labels = Readonly<Record<string, string>>;

/**
 * The metrics of one scrape. They are made anew for each, because a partition or a thread that is gone must leave no
 * series behind, and two scrapes at once must not see each other's half.
 */
class Scrape {
  readonly registry = new Registry();
  readonly #metrics = new Map<string, Counter | Gauge>();

  gauge(name: string, help: string, value: number, labels: Labels = {}): void {
    this.#metric(name, help, labels, Gauge).inc(labels, value);
  }

  /** `name` without `_total`. */
  counter(name: string, help: string, value: number, labels: Labels = {}): void {
    // A counter cannot be negative, and prom-client throws: a scrape should rather show a wrong 0 than nothing.
    this.#metric(`${name}_total`, help, labels, Counter).inc(labels, Math.max(0, value));
  }

  #metric(name: string, help: string, labels: Labels, Kind: typeof Counter | typeof Gauge): Counter | Gauge {
    const known = this.#metrics.get(name);
    if (known !== undefined) return known;
    const metric = new Kind({
      name: `ess_${name}`,
      help,
      labelNames: Object.keys(labels),
      registers: [this.registry],
    });
    this.#metrics.set(name, metric);
    return metric;
  }
}

function addProcess(scrape: Scrape, input: MetricsInput): void {
  const { version, role, readiness } = input;
  scrape.gauge('build_info', 'Always 1; the labels say what runs', 1, {
    version,
    role,
    node: process.version,
  });
  scrape.gauge('uptime_seconds', 'Time since the process started', input.uptimeSeconds);
  scrape.gauge('ready', '1 if the default ack can be kept, as on /readyz', Number(readiness.ready));
  scrape.gauge('degraded', '1 if /readyz says degraded, with the reason there', Number(readiness.degraded));
  const { user, system } = process.cpuUsage();
  scrape.counter('process_cpu_seconds', 'CPU time of all threads', (user + system) / 1_000_000);
  scrape.gauge('process_resident_memory_bytes', 'Resident memory', process.memoryUsage.rss());
}

function addTotals(scrape: Scrape, { conservation, lag, slots }: MetricsInput): void {
  if (conservation !== null) {
    const { holds, records, rows, duplicates, parked, holes, inFlight } = conservation;
    scrape.gauge(
      'conservation_holds',
      '1 if records = rows + duplicates + parked + holes + in flight; 0 is a bug',
      Number(holds),
    );
    const help = 'Records of the log since the epoch began, and what became of them';
    const parts = {
      logged: records,
      stored: rows,
      duplicate: duplicates,
      parked,
      hole: holes,
      in_flight: inFlight,
    };
    for (const [state, value] of Object.entries(parts)) {
      scrape.gauge('conservation_records', help, value, { state });
    }
  }
  if (lag !== null) {
    scrape.gauge(
      'lag_seconds',
      'Age of the oldest record that is not yet readable in the store',
      lag.seconds,
    );
    scrape.gauge('lag_records', 'Records in the log that are not yet readable in the store', lag.records);
  }
  if (slots !== null) {
    scrape.gauge('slots_used', 'Requests in progress', slots.used);
    scrape.gauge('slots', 'Requests that may be in progress at once', slots.max);
  }
}

function addPartition(scrape: Scrape, figures: PartitionFigures): void {
  const labels = { partition: String(figures.partition) };
  const gauge = (name: string, help: string, value: number): void =>
    scrape.gauge(`partition_${name}`, help, value, labels);
  const counter = (name: string, help: string, value: number): void =>
    scrape.counter(`partition_${name}`, help, value, labels);
  gauge('start_offset', 'First offset that the log holds', figures.start);
  gauge('end_offset', 'Offset that the next record gets', figures.end);
  gauge('committed_offset', 'Committed position of the sink', figures.committed);
  gauge('stored_offset', 'First offset that is not yet readable in the store', figures.stored);
  gauge('lag_seconds', 'Age of the first record that is not yet readable in the store', figures.lagSeconds);
  gauge('log_bytes', 'Bytes that the log holds, consumed ones included', figures.bytes);
  if (figures.copies !== null) {
    const { leader, replicas, inSync } = figures.copies;
    gauge('leader', 'Id of the broker that leads the partition, -1 if none does', leader);
    gauge('replicas', 'Copies of the partition that there should be', replicas);
    gauge('in_sync_replicas', 'Copies of the partition that are in sync', inSync);
  }
  counter('rows', 'Rows stored since the epoch began', figures.rows);
  counter('duplicates', 'Records recognised as duplicates since the epoch began', figures.duplicates);
  counter('parked', 'Records parked since the epoch began', figures.parked);
}

function addThread(scrape: Scrape, { name, alive, restarts, ring, heapUsedBytes }: ThreadFigures): void {
  const labels = { thread: name };
  scrape.gauge('thread_up', '1 if the thread runs', Number(alive), labels);
  scrape.counter('thread_restarts', 'Times that the thread was replaced', restarts, labels);
  if (heapUsedBytes !== null) {
    scrape.gauge('thread_heap_used_bytes', 'JavaScript heap in use', heapUsedBytes, labels);
  }
  if (ring !== null) {
    scrape.gauge('ring_used_bytes', 'Bytes waiting in the ingest ring', ring.usedBytes, labels);
    scrape.gauge('ring_capacity_bytes', 'Size of the ingest ring', ring.capacityBytes, labels);
  }
}

function addCluster(
  scrape: Scrape,
  { brokers, minInSync, group, dataDir, deadLetters, nodes }: ClusterFigures,
): void {
  const gauge = (name: string, help: string, value: number | null, labels: Labels = {}): void => {
    if (value !== null) scrape.gauge(name, help, value, labels);
  };
  for (const { id, isUp } of brokers)
    gauge('broker_up', '1 if the broker answers', Number(isUp), { broker: String(id) });
  gauge('min_in_sync_replicas', 'In-sync replicas below which a partition takes no events', minInSync);
  if (group !== null) {
    gauge('group_members', 'Members of the consumer group, of all processes', group.members);
    gauge('group_stable', '1 if the consumer group is Stable', Number(group.isStable));
  }
  for (const node of nodes) {
    const labels = { node: node.name, shard: String(node.shard), replica: String(node.replica) };
    const ofNode = (name: string, help: string, value: number | null): void =>
      gauge(`store_node_${name}`, help, value, labels);
    ofNode('up', '1 if the ClickHouse node answers', Number(node.isUp));
    ofNode('rows', 'Rows in its events table, copies not yet merged included', node.rows);
    ofNode('parts', 'Active parts in the table partition of events that has most of them', node.parts);
    ofNode('parts_limit', 'Number of them at which it refuses inserts', node.partsMax);
    ofNode('disk_free_bytes', 'Free space on its fullest disk', node.diskFreeBytes);
    ofNode('disk_total_bytes', 'Size of its fullest disk', node.diskTotalBytes);
  }
  gauge('data_dir_free_bytes', 'Free space where the data directory lies', dataDir?.freeBytes ?? null);
  gauge(
    'data_dir_total_bytes',
    'Size of the disk where the data directory lies',
    dataDir?.totalBytes ?? null,
  );
  gauge('dead_letters', 'Dead letters that nobody has replayed or discarded', deadLetters);
}

function addCounters(scrape: Scrape, { counters }: MetricsInput): void {
  for (const [name, { type, metric, help, labels }] of counterKinds) {
    if (type === 'counter') scrape.counter(metric, help, counters.get(name), labels);
    else scrape.gauge(metric, help, counters.get(name), labels);
  }
}

export class PrometheusText {
  /** Content-Type of what `render` gives. */
  readonly contentType: string = Registry.PROMETHEUS_CONTENT_TYPE;

  /** The whole answer. Throws `internal` if a snapshot in `stages` is not of the window `all`. */
  async render(input: MetricsInput): Promise<string> {
    const scrape = new Scrape();
    addProcess(scrape, input);
    addTotals(scrape, input);
    addCounters(scrape, input);
    for (const figures of input.partitions) addPartition(scrape, figures);
    for (const figures of input.threads) addThread(scrape, figures);
    addCluster(scrape, input.cluster);
    for (const { thread, utilization } of input.loops)
      scrape.gauge(
        'event_loop_utilization',
        'Share of the time since the last scrape in which the event loop was busy',
        utilization,
        { thread },
      );
    const text = await scrape.registry.metrics();
    return `${text}\n${stageText(input.stages)}`;
  }
}
