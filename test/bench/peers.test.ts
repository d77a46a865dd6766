// The bench beside other servers, run very small. Which peers there are depends on the machine: ESS is always loaded.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { figure, runBench, skipReason } from './run_bench.ts';

test('the peers bench loads every server that is there, and each writes what it answers to Kafka', {
  skip: skipReason('wrk', 'kafka'),
}, async () => {
  const result = await runBench('peers', [
    ...['--seconds', '1', '--warmup-seconds', '1', '--broker-warmup-seconds', '1', '--rounds', '1'],
    ...['--connections', '16', '--many-connections', '16', '--second-lines', '0', '--settle-seconds', '0'],
  ]);
  const servers = Object.keys(result.medians);
  assert.ok(servers.includes('ESS, 16 connections'));
  for (const server of servers) {
    figure(result, server, 'requests_per_second');
    figure(result, server, 'server_peak_rss_mib');
    assert.equal(result.medians[server]?.['errors'], 0, server);
  }
  assert.equal(result.rounds.length, servers.length);
  assert.equal(Object.keys(result.ratios).length, servers.length - 1);
});
