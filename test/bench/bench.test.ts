// The benches of the embedded service and of its parts, run very small: each has to finish, find nothing broken, and
// report figures.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { entryOf, figure, runBench, skipReason } from './run_bench.ts';

test('the ingest bench loads both roles and the bare server and compares them', {
  skip: skipReason('wrk'),
}, async () => {
  const result = await runBench('ingest', [
    ...['--seconds', '1', '--warmup-seconds', '1', '--rounds', '1', '--connections', '16'],
    ...['--settle-seconds', '0'],
  ]);
  for (const target of ['role all', 'role ingest', 'bare']) figure(result, target, 'requests_per_second');
  assert.equal(result.rounds.length, 3);
  assert.ok((result.ratios['role all / bare'] ?? 0) > 0);
});

test('the batch bench stores every event it sends and compares with inserts by hand', {
  skip: skipReason(),
}, async () => {
  const result = await runBench('batch', [
    ...['--events', '4000', '--block-rows', '2000', '--rounds', '1', '--settle-seconds', '0'],
  ]);
  figure(result, 'ess', 'events_per_second');
  figure(result, 'direct', 'events_per_second');
  assert.ok((result.ratios['ess / direct'] ?? 0) > 0);
});

test('the drain bench works off a backlog and measures the parts of that work', {
  skip: skipReason(),
}, async () => {
  const result = await runBench('drain', ['--events', '5000', '--rounds', '1', '--settle-seconds', '0']);
  for (const part of ['drain', 'read', 'encode', 'insert']) figure(result, part, 'rows_per_second');
});

test('the memory bench measures both roles', { skip: skipReason() }, async () => {
  const result = await runBench('memory', [
    ...['--events', '5000', '--connections', '50', '--requests', '2', '--settle-seconds', '0'],
  ]);
  for (const role of ['ingest', 'all']) figure(result, role, 'peak_rss');
});

test('the live bench measures the main thread with and without viewers', { skip: skipReason() }, async () => {
  const result = await runBench('live', [
    ...['--seconds', '2', '--rounds', '1', '--viewers', '3', '--rate', '50', '--settle-seconds', '0'],
  ]);
  for (const load of ['idle', 'loaded']) {
    for (const viewers of [0, 1, 3]) figure(result, `${load}, ${viewers} viewers`, 'main_cpu_percent');
    figure(result, `${load}, 3 viewers`, 'snapshot_bytes');
  }
});

test('a bench refuses a number that it does not know or cannot use', { skip: skipReason() }, () => {
  for (const argv of [
    ['--rouds', '1'],
    ['--rounds', '0'],
    ['--rounds', 'x'],
  ]) {
    const { status } = spawnSync(process.execPath, [entryOf('bench.drain'), ...argv]);
    assert.equal(status, 2, argv.join(' '));
  }
});
