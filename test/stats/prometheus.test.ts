import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { describe, it } from 'node:test';
import { Counters, counterNames, createCounters, rejectedCounter } from '../../src/stats/counters.ts';
import { type MetricsInput, PrometheusText, stageBoundsMicroseconds } from '../../src/stats/prometheus.ts';
import { StageRecorder } from '../../src/stats/recorder.ts';
import { stages } from '../../src/stats/stages.ts';

interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}
interface Family {
  readonly type: string;
  readonly help: string;
  readonly samples: Sample[];
}

const namePattern = '[a-zA-Z_:][a-zA-Z0-9_:]*';
const labelPattern = '[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\\\\n]|\\\\["\\\\n])*"';
const samplePattern = new RegExp(
  `^(${namePattern})(?:\\{(${labelPattern}(?:,${labelPattern})*)\\})? (NaN|[+-]Inf|[+-]?[0-9.]+(?:e[+-]?[0-9]+)?)$`,
);

function parseLabels(text: string): Record<string, string> {
  const labels: Record<string, string> = {};
  for (const match of text.matchAll(/([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"/g)) {
    const [, name = '', escaped = ''] = match;
    assert.ok(!(name in labels), `label ${name} twice`);
    labels[name] = escaped.replaceAll(/\\(.)/g, (_, char: string) => (char === 'n' ? '\n' : char));
  }
  return labels;
}

/** A strict reader of the text format: HELP, TYPE, then that family's samples in one piece, no series twice. */
function parse(text: string): Map<string, Family> {
  assert.ok(text.endsWith('\n'));
  const families = new Map<string, Family>();
  const series = new Set<string>();
  let help: { name: string; text: string } | undefined;
  let current: { name: string; family: Family } | undefined;
  for (const line of text.split('\n')) {
    if (line === '') continue;
    if (line.startsWith('# HELP ')) {
      const match = new RegExp(`^# HELP (${namePattern}) (.+)$`).exec(line);
      assert.ok(match, line);
      help = { name: match[1] ?? '', text: match[2] ?? '' };
    } else if (line.startsWith('#')) {
      const match = new RegExp(`^# TYPE (${namePattern}) (counter|gauge|histogram)$`).exec(line);
      assert.ok(match, line);
      const name = match[1] ?? '';
      assert.equal(help?.name, name, 'HELP comes before TYPE');
      assert.ok(!families.has(name), `${name} twice`);
      current = { name, family: { type: match[2] ?? '', help: help?.text ?? '', samples: [] } };
      families.set(name, current.family);
    } else {
      const match = samplePattern.exec(line);
      assert.ok(match, line);
      const [, name = '', labels = '', value = ''] = match;
      assert.ok(current !== undefined, line);
      const plain = current.family.type === 'histogram' ? name.replace(/_(bucket|sum|count)$/, '') : name;
      assert.equal(plain, current.name, `${line} lies outside of its family`);
      const parsed = parseLabels(labels);
      const key = name + JSON.stringify(Object.entries(parsed).toSorted());
      assert.ok(!series.has(key), `${key} twice`);
      series.add(key);
      current.family.samples.push({ name, labels: parsed, value: Number(value.replace('Inf', 'Infinity')) });
    }
  }
  return families;
}

const everything: MetricsInput = {
  version: '1.2.3',
  role: 'all',
  uptimeSeconds: 12.5,
  readiness: { ready: true, degraded: false },
  stages: [],
  counters: { get: () => 0 },
  conservation: { holds: true, records: 100, rows: 60, duplicates: 20, parked: 4, holes: 1, inFlight: 15 },
  lag: { seconds: 0.25, records: 15 },
  partitions: [0, 1].map((partition) => ({
    partition,
    start: 10,
    end: 60,
    committed: 40,
    stored: 45,
    rows: 30,
    duplicates: 10,
    parked: 2,
    bytes: 4096,
    lagSeconds: 0.25,
    copies: { leader: 2, replicas: 3, inSync: 1 },
  })),
  threads: [
    { name: 'main', alive: true, restarts: 0, ring: null, heapUsedBytes: 1e7 },
    {
      name: 'producer-0 "quoted\\" \n',
      alive: false,
      restarts: 3,
      ring: { usedBytes: 100, capacityBytes: 65_536 },
      heapUsedBytes: null,
    },
  ],
  slots: { used: 3, max: 8192 },
  cluster: {
    brokers: [
      { id: 1, isUp: true },
      { id: 2, isUp: false },
    ],
    minInSync: 2,
    group: { members: 4, isStable: false },
    nodes: [
      {
        name: 'ch-1:8123',
        shard: 1,
        replica: 0,
        isUp: true,
        rows: 1e9,
        parts: 7,
        partsMax: 3000,
        diskFreeBytes: 5e9,
        diskTotalBytes: 1e10,
      },
      {
        name: 'ch-2:8123',
        shard: 1,
        replica: 1,
        isUp: false,
        rows: null,
        parts: null,
        partsMax: null,
        diskFreeBytes: null,
        diskTotalBytes: null,
      },
    ],
    dataDir: { freeBytes: 1e9, totalBytes: 4e9 },
    deadLetters: 3,
  },
  loops: [
    { thread: 'main', utilization: 0.25 },
    { thread: 'sink-0', utilization: 1 },
  ],
};

const render = (changes: Partial<MetricsInput> = {}): Promise<string> =>
  new PrometheusText().render({ ...everything, ...changes });

function sampleValue(
  families: Map<string, Family>,
  name: string,
  labels: Record<string, string> = {},
): number {
  const samples = families
    .get(name)
    ?.samples.filter((sample) =>
      Object.entries(labels).every(([label, value]) => sample.labels[label] === value),
    );
  assert.equal(samples?.length, 1, `${name} ${JSON.stringify(labels)}`);
  return samples[0]?.value ?? Number.NaN;
}

describe('PrometheusText', () => {
  it('gives text that a strict parser accepts, with ess_ names, and _total on counters and nothing else', async () => {
    const families = parse(await render());
    for (const [name, { type, help, samples }] of families) {
      assert.match(name, /^ess_[a-z0-9_]+$/);
      assert.equal(name.endsWith('_total'), type === 'counter', name);
      assert.ok(help.length > 0 && samples.length > 0, name);
    }
    assert.match(new PrometheusText().contentType, /^text\/plain; version=0\.0\.4/);
  });

  it('shows what it was given', async () => {
    const counters = new Counters(counterNames, createCounters(counterNames));
    counters.add('requests', 2 ** 40);
    counters.add('events_memory_pending', 7);
    counters.add(rejectedCounter('overloaded'), 4);
    const families = parse(await render({ counters }));
    assert.equal(sampleValue(families, 'ess_requests_total'), 2 ** 40);
    assert.equal(sampleValue(families, 'ess_events_memory_pending'), 7);
    assert.equal(sampleValue(families, 'ess_requests_rejected_total', { code: 'overloaded' }), 4);
    assert.equal(sampleValue(families, 'ess_requests_rejected_total', { code: 'stopping' }), 0);
    assert.equal(sampleValue(families, 'ess_build_info', { version: '1.2.3', role: 'all' }), 1);
    assert.equal(sampleValue(families, 'ess_conservation_holds'), 1);
    assert.equal(sampleValue(families, 'ess_conservation_records', { state: 'in_flight' }), 15);
    assert.equal(sampleValue(families, 'ess_lag_seconds'), 0.25);
    assert.equal(sampleValue(families, 'ess_partition_stored_offset', { partition: '1' }), 45);
    assert.equal(sampleValue(families, 'ess_partition_rows_total', { partition: '0' }), 30);
    assert.equal(sampleValue(families, 'ess_partition_leader', { partition: '0' }), 2);
    assert.equal(sampleValue(families, 'ess_partition_replicas', { partition: '0' }), 3);
    assert.equal(sampleValue(families, 'ess_partition_in_sync_replicas', { partition: '1' }), 1);
    assert.equal(sampleValue(families, 'ess_min_in_sync_replicas'), 2);
    assert.equal(sampleValue(families, 'ess_broker_up', { broker: '1' }), 1);
    assert.equal(sampleValue(families, 'ess_broker_up', { broker: '2' }), 0);
    assert.equal(sampleValue(families, 'ess_group_members'), 4);
    assert.equal(sampleValue(families, 'ess_group_stable'), 0);
    const node = { node: 'ch-1:8123', shard: '1', replica: '0' };
    assert.equal(sampleValue(families, 'ess_store_node_up', node), 1);
    assert.equal(sampleValue(families, 'ess_store_node_up', { ...node, node: 'ch-2:8123', replica: '1' }), 0);
    assert.equal(sampleValue(families, 'ess_store_node_rows', node), 1e9);
    assert.equal(sampleValue(families, 'ess_store_node_parts', node), 7);
    assert.equal(sampleValue(families, 'ess_store_node_parts_limit', node), 3000);
    assert.equal(sampleValue(families, 'ess_store_node_disk_free_bytes', node), 5e9);
    assert.equal(sampleValue(families, 'ess_store_node_disk_total_bytes', node), 1e10);
    assert.equal(families.get('ess_store_node_rows')?.samples.length, 1, 'what is not known is left out');
    assert.equal(sampleValue(families, 'ess_data_dir_free_bytes'), 1e9);
    assert.equal(sampleValue(families, 'ess_data_dir_total_bytes'), 4e9);
    assert.equal(sampleValue(families, 'ess_dead_letters'), 3);
    assert.equal(sampleValue(families, 'ess_event_loop_utilization', { thread: 'sink-0' }), 1);
    assert.equal(
      sampleValue(families, 'ess_thread_restarts_total', { thread: 'producer-0 "quoted\\" \n' }),
      3,
    );
    assert.equal(sampleValue(families, 'ess_thread_up', { thread: 'main' }), 1);
    assert.equal(sampleValue(families, 'ess_slots'), 8192);
    assert.ok(sampleValue(families, 'ess_process_resident_memory_bytes') > 1e6);
  });

  it('leaves out what a role cannot know', async () => {
    const families = parse(
      await render({ conservation: null, lag: null, slots: null, partitions: [], threads: [] }),
    );
    for (const name of families.keys())
      assert.doesNotMatch(name, /conservation|lag|slots|partition|thread|ring_/);
  });

  it('has cumulative buckets for every stage that agree with the values recorded', async () => {
    const one = new StageRecorder(['insert'], () => 0);
    const other = new StageRecorder(['insert', 'ring'], () => 0);
    const values = [1, 50, 51, 100, 5000, 1_000_000, 60_000_000, 59_000_000, 2_000_000_000];
    for (const [i, value] of values.entries()) (i % 2 === 0 ? one : other).record('insert', value);
    const families = parse(await render({ stages: [one.snapshot('all'), other.snapshot('all')] }));
    const samples = families.get('ess_stage_duration_seconds')?.samples ?? [];
    for (const stage of stages) {
      const ofStage = samples.filter((sample) => sample.labels['stage'] === stage);
      const buckets = ofStage.filter((sample) => sample.name.endsWith('_bucket'));
      assert.deepEqual(
        buckets.map((bucket) => bucket.labels['le']),
        [...stageBoundsMicroseconds.map((bound) => String(bound / 1e6)), '+Inf'],
      );
      const recorded = stage === 'insert' ? values : [];
      for (const bucket of buckets) {
        const boundUs = Number(bucket.labels['le']?.replace('+Inf', 'Infinity')) * 1e6;
        assert.equal(
          bucket.value,
          recorded.filter((value) => value <= boundUs + 0.5).length,
          JSON.stringify(bucket),
        );
      }
      const [sum, count] = ofStage.slice(-2);
      assert.equal(sum?.name, 'ess_stage_duration_seconds_sum');
      assert.equal(sum.value, recorded.reduce((total, value) => total + value, 0) / 1e6);
      assert.equal(count?.name, 'ess_stage_duration_seconds_count');
      assert.equal(count.value, recorded.length);
    }
  });

  it('has no series left of an earlier scrape', async () => {
    const text = new PrometheusText();
    await text.render(everything);
    const families = parse(await text.render({ ...everything, partitions: everything.partitions.slice(1) }));
    assert.equal(families.get('ess_partition_end_offset')?.samples.length, 1);
  });

  it('passes promtool check metrics', async (t) => {
    const recorder = new StageRecorder(stages, () => 0);
    for (const stage of stages) recorder.record(stage, 12_345);
    const input = await render({ stages: [recorder.snapshot('all')] });
    const promtool = spawnSync('promtool', ['check', 'metrics'], { input, encoding: 'utf8' });
    if (promtool.error !== undefined) {
      assert.notEqual(process.env['ESS_REQUIRE_ALL'], '1', 'promtool is not on PATH, and ESS_REQUIRE_ALL=1');
      t.diagnostic(
        'SKIPPED: promtool (Debian package prometheus) is not on PATH, so its rules were not checked',
      );
      t.skip('promtool is not on PATH');
      return;
    }
    assert.equal(promtool.status, 0, promtool.stdout + promtool.stderr);
    assert.equal(promtool.stdout + promtool.stderr, '');
  });
});
