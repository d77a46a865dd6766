// What the service says of itself: /stats, /metrics, /healthz, /readyz, /dead-letters.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { decodeFromCompressedBase64 } from 'hdr-histogram-js';
import { errorKinds } from '../../src/errors.ts';
import { stages } from '../../src/stats/stages.ts';
import { EssProcess, type StatsJson } from '../support/ess_process.ts';
import { atRest, jsonOf, problemOf } from './answers.ts';

const events = 50;

/** Name{labels} value, as Prometheus' text format has it. */
const sampleForm =
  /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\]|\\.)*",?)*)\})? (\S+)$/;

describe('what the service says of itself', () => {
  let ess: EssProcess;
  before(async () => {
    ess = await EssProcess.start();
    for (let i = 0; i < events; i += 1) await jsonOf(ess.post(`{"id":"status-${i}"}`));
    await problemOf(ess.post('{'), 'malformed_json');
    await atRest(ess);
  });
  after(() => ess.dispose());

  test('/stats has every stage with percentiles in order', async () => {
    const stats = await jsonOf<StatsJson & { readonly window: string }>(fetch(`${ess.url}/stats`));
    assert.deepEqual(Object.keys(stats.stages).toSorted(), [...stages].toSorted());
    assert.equal(stats.window, 'all');
    const all = stats.stages as unknown as Readonly<Record<string, Readonly<Record<string, number>>>>;
    for (const [name, stage] of Object.entries(all)) {
      const { p50_ms = -1, p90_ms = -1, p95_ms = -1, p99_ms = -1, p999_ms = -1, max_ms = -1 } = stage;
      const inOrder = [p50_ms, p90_ms, p95_ms, p99_ms, p999_ms, max_ms];
      assert.deepEqual(
        inOrder.toSorted((a, b) => a - b),
        inOrder,
        name,
      );
    }
    for (const name of ['receive', 'ring'] as const)
      assert.equal(stats.stages[name]?.count, events + 1, name);
    for (const name of ['produce', 'log_wait', 'end_to_end'] as const)
      assert.equal(stats.stages[name]?.count, events, name);
    assert.equal(stats.status, 'ready');
    assert.deepEqual(stats.reasons, []);
  });

  test('the histograms of /stats are read by an HdrHistogram of somebody else', async () => {
    const { stages: found } = await ess.getJson<StatsJson>('/stats');
    const { count = -1, hdr = '', p99_ms = -1 } = found['end_to_end'] ?? {};
    const histogram = decodeFromCompressedBase64(hdr);
    assert.equal(histogram.totalCount, count);
    // Both round to the buckets of three digits.
    assert.ok(Math.abs(histogram.getValueAtPercentile(99) / 1000 - p99_ms) <= p99_ms / 100);
  });

  test('/stats knows its windows and no other parameter', async () => {
    for (const window of ['10s', '1m', 'all']) {
      const stats = await jsonOf<{ readonly window: string }>(fetch(`${ess.url}/stats?window=${window}`));
      assert.equal(stats.window, window);
    }
    for (const query of ['?window=5m', '?window=', '?x=1', '?windows=10s']) {
      await problemOf(fetch(`${ess.url}/stats${query}`), 'invalid_parameter');
    }
  });

  test('/stats counts what happened', async () => {
    const { counters, conservation, slots, partitions, threads, lag } =
      await ess.getJson<StatsJson>('/stats');
    assert.equal(counters['requests'], events + 1);
    assert.equal(counters['requests_taken'], events + 1);
    assert.equal(counters['events_accepted'], events);
    assert.equal(counters['events_rejected'], 1);
    assert.equal(counters['requests_rejected_malformed_json'], 1);
    assert.equal(conservation.accepted, events);
    assert.equal(conservation.stored, events);
    assert.equal(conservation.exact, true);
    assert.equal(lag.events, 0);
    assert.deepEqual([slots.used, slots.store_used, slots.pending_bytes], [0, 0, 0]);
    assert.equal(
      partitions.reduce((total, { end }) => total + end, 0),
      events,
    );
    for (const { end, committed, stored } of partitions)
      assert.deepEqual([stored, committed <= end], [end, true]);
    for (const { name, alive, restarts } of threads) assert.deepEqual([alive, restarts], [true, 0], name);
  });

  test('/metrics is in the format of Prometheus and agrees with /stats', async () => {
    const response = await fetch(`${ess.url}/metrics`);
    assert.match(response.headers.get('content-type') ?? '', /^text\/plain; version=0\.0\.4/);
    const types = new Map<string, string>();
    const samples = new Map<string, number>();
    for (const line of (await response.text()).split('\n')) {
      const [, kind, name = '', rest = ''] = /^# (HELP|TYPE) (\S+) (.+)$/.exec(line) ?? [];
      if (kind === 'TYPE') types.set(name, rest);
      if (line === '' || line.startsWith('#')) continue;
      const sample = sampleForm.exec(line);
      assert.ok(sample !== null, line);
      const key = line.slice(0, line.lastIndexOf(' '));
      assert.ok(!samples.has(key), `twice: ${key}`);
      samples.set(key, Number(sample[3]));
      const family = (sample[1] ?? '').replace(/_(bucket|sum|count)$/, '');
      assert.ok(types.has(family) || types.has(sample[1] ?? ''), `no type: ${line}`);
    }
    assert.equal(samples.get('ess_events_accepted_total'), events);
    assert.equal(samples.get('ess_requests_total'), events + 1);
    for (const code of Object.keys(errorKinds)) {
      const expected = code === 'malformed_json' ? 1 : 0;
      assert.equal(samples.get(`ess_requests_rejected_total{code="${code}"}`), expected, code);
    }
  });

  test('/healthz and /readyz are 200 while all is well', async () => {
    assert.equal((await jsonOf<{ readonly status: string }>(fetch(`${ess.url}/healthz`))).status, 'ok');
    assert.deepEqual(await jsonOf(fetch(`${ess.url}/readyz`)), { status: 'ready', reasons: [] });
  });

  test('/dead-letters is empty, and checks its parameters', async () => {
    for (const query of ['', '?limit=1', '?limit=1000', '?cursor=3-17', '?limit=5&cursor=0-0']) {
      const found = await jsonOf(fetch(`${ess.url}/dead-letters${query}`));
      assert.deepEqual(found, { total: 0, dead_letters: [], next_cursor: null });
    }
    for (const query of [
      '?limit=0',
      '?limit=1001',
      '?limit=x',
      '?limit=1.5',
      '?limit=',
      '?cursor=',
      '?cursor=1',
      '?cursor=a-b',
      '?x=1',
      '?limit=1&x=1',
    ]) {
      await problemOf(fetch(`${ess.url}/dead-letters${query}`), 'invalid_parameter');
    }
  });
});
