// What the plots remember: ten minutes, with holes where snapshots were missed, and no line across them.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { LiveSnapshot, LiveStage } from '../../src/live/snapshot.ts';
import { History, historySeconds } from '../../src/page/history.ts';

const nothing: LiveStage = { count: 0, p50_ms: 0, p95_ms: 0, p99_ms: 0, max_ms: 0 };
const some: LiveStage = { count: 3, p50_ms: 1, p95_ms: 2, p99_ms: 3, max_ms: 4 };

type Part = Pick<LiveSnapshot, 'time_ms' | 'started_ms' | 'events_per_s' | 'stored_per_s' | 'stages'>;

function add(history: History, second: number, changes: Partial<Part> = {}): void {
  const part: Part = {
    time_ms: second * 1000,
    started_ms: 1,
    events_per_s: second,
    stored_per_s: null,
    stages: {
      receive: nothing,
      ring: nothing,
      produce: some,
      log_wait: nothing,
      insert: nothing,
      end_to_end: nothing,
      event_loop_delay: nothing,
    },
    ...changes,
  };
  // It reads these members and no other.
  history.add(part as LiveSnapshot);
}

test('keeps ten minutes in order, and the percentile of nothing is no number', () => {
  const history = new History();
  for (let second = 1; second <= historySeconds + 50; second += 1) add(history, second);
  assert.equal(history.times[0], 50);
  assert.equal(history.times.at(-1), historySeconds + 50);
  assert.deepEqual(history.column('events_per_s'), history.times);
  assert.ok(history.column('produce_p99').every((value) => value === 3));
  assert.ok(history.column('end_to_end_p99').every((value) => value === null));
});

test('has a hole where snapshots were missed and where the server began anew', () => {
  const history = new History();
  for (const second of [1, 2, 5, 6]) add(history, second);
  add(history, 7, { started_ms: 2 });
  assert.deepEqual(history.times, [1, 2, 3.5, 5, 6, 6.5, 7]);
  assert.deepEqual(history.column('events_per_s'), [1, 2, null, 5, 6, null, 7]);
});

test('begins anew where the clock was set back', () => {
  const history = new History();
  for (const second of [10, 11, 4, 5]) add(history, second);
  assert.deepEqual(history.times, [4, 5]);
});
