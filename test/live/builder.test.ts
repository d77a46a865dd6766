// What is made of two looks at figures that only grow.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { buildSnapshot, busyShare, type LiveFigures, ratePerSecond } from '../../src/live/builder.ts';
import type { LivePartition, LiveStage } from '../../src/live/snapshot.ts';
import { type Stage, stages } from '../../src/stats/stages.ts';

const noStage: LiveStage = { count: 0, p50_ms: 0, p95_ms: 0, p99_ms: 0, max_ms: 0 };

function partition(number: number, end: number, rows: number | null): LivePartition {
  return {
    partition: number,
    start: 0,
    end,
    committed: 0,
    stored: rows,
    rows,
    in_flight: end - (rows ?? 0),
    lag_seconds: 0,
    leader: null,
    replicas: null,
    in_sync: null,
    owner: null,
  };
}

function figures(changes: Partial<LiveFigures> = {}): LiveFigures {
  return {
    time_ms: 1_000_000,
    started_ms: 900_000,
    version: '1.2.3',
    role: 'all',
    epoch: 'e1',
    status: 'ready',
    troubles: [],
    requests: 0,
    refused: 0,
    stages: Object.fromEntries(stages.map((stage) => [stage, noStage])) as Record<Stage, LiveStage>,
    slots: null,
    threads: [],
    rss_bytes: 1,
    conservation: {
      accepted: 0,
      stored: 0,
      duplicates: 0,
      parked: 0,
      holes: 0,
      in_flight: 0,
      exact: true,
      memory_pending: 0,
    },
    lag: { events: 0, seconds: 0 },
    log: {
      kind: 'embedded',
      brokers: [],
      min_in_sync_replicas: null,
      disk_free_bytes: null,
      disk_total_bytes: null,
    },
    partitions: [],
    group: null,
    nodes: [],
    dead_letters: { total: 0, latest: [] },
    ...changes,
  };
}

test('the first snapshot has no rates', () => {
  const first = buildSnapshot(figures({ requests: 100, partitions: [partition(0, 10, 5)] }), null);
  assert.deepEqual(
    [first.events_per_s, first.stored_per_s, first.requests_per_s, first.refused_per_s],
    [null, null, null, null],
  );
  assert.equal('requests' in first, false);
});

test('rates are differences over the time between, whatever that was', () => {
  const before = figures({
    requests: 100,
    refused: 7,
    partitions: [partition(0, 10, 5), partition(1, 20, 20)],
  });
  const now = figures({
    time_ms: before.time_ms + 2000,
    requests: 300,
    refused: 8,
    partitions: [partition(0, 40, 25), partition(1, 30, 23)],
  });
  const snapshot = buildSnapshot(now, before);
  assert.equal(snapshot.events_per_s, 20);
  assert.equal(snapshot.stored_per_s, 11.5);
  assert.equal(snapshot.requests_per_s, 100);
  assert.equal(snapshot.refused_per_s, 0.5);
});

test('a partition whose ledger answers for the first time is no burst', () => {
  const before = figures({ partitions: [partition(0, 10, 5), partition(1, 1_000_000, null)] });
  const partitions = [partition(0, 10, 6), partition(1, 1_000_000, 1_000_000)];
  const later = { time_ms: before.time_ms + 1000, partitions };
  assert.equal(buildSnapshot(figures(later), before).stored_per_s, 1);
  const unknown = figures({ partitions: [partition(0, 10, null)] });
  assert.equal(
    buildSnapshot(figures({ ...later, partitions: unknown.partitions }), unknown).stored_per_s,
    null,
  );
});

test('a store that was put back to an older state, or a clock that was, gives no rate below zero', () => {
  const before = figures({ partitions: [partition(0, 10, 500)] });
  const now = figures({ time_ms: before.time_ms + 1000, partitions: [partition(0, 10, 5)] });
  assert.equal(buildSnapshot(now, before).stored_per_s, 0);
  assert.equal(buildSnapshot({ ...now, time_ms: before.time_ms - 5 }, before).stored_per_s, null);
});

test('the figures of another log are not compared with those of this one', () => {
  const before = figures({ requests: 1, partitions: [partition(0, 1_000, 1_000)] });
  const now = figures({
    time_ms: before.time_ms + 1000,
    epoch: 'e2',
    requests: 2,
    partitions: [partition(0, 5_000, 0)],
  });
  const snapshot = buildSnapshot(now, before);
  assert.deepEqual([snapshot.events_per_s, snapshot.stored_per_s, snapshot.requests_per_s], [null, null, 1]);
});

test('a thread is as busy as it was since the last look, and one that was replaced since its beginning', () => {
  const thread = (busyMs: number, idleMs: number) => ({
    name: 'sink-0',
    alive: true,
    restarts: 0,
    loop: { busyMs, idleMs },
    ring_used_bytes: null,
    ring_bytes: null,
  });
  const before = figures({ threads: [thread(5000, 5000)] });
  const share = (busyMs: number, idleMs: number): number | undefined =>
    buildSnapshot(figures({ threads: [thread(busyMs, idleMs)] }), before).threads[0]?.utilization;
  assert.equal(share(5250, 5750), 0.25);
  assert.equal(share(30, 10), 0.75);
  assert.equal(busyShare({ busyMs: 1, idleMs: 3 }, null), 0.25);
  assert.equal(busyShare({ busyMs: 1, idleMs: 3 }, { busyMs: 1, idleMs: 3 }), 0);
  const dead = figures({ threads: [{ ...thread(0, 0), alive: false, loop: null }] });
  assert.equal(buildSnapshot(dead, before).threads[0]?.utilization, 0);
});

test('a rate has one decimal', () => {
  assert.equal(ratePerSecond(1, 3000), 0.3);
  assert.equal(ratePerSecond(null, 1000), null);
  assert.equal(ratePerSecond(5, 0), null);
});
