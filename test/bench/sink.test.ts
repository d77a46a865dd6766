// The bench of draining a topic, run very small. It finds faults by itself: rows that are missing or there twice.

import { test } from 'node:test';
import { figure, runBench, skipReason } from './run_bench.ts';

test('the sink bench drains a topic into a node exactly once', { skip: skipReason('kafka') }, async () => {
  const result = await runBench('sink', [...['--events', '5000', '--rounds', '1', '--settle-seconds', '0']]);
  for (const drainer of Object.keys(result.medians)) figure(result, drainer, 'events_per_second');
  figure(result, 'ess', 'events_per_second');
});
