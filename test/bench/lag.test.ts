// The bench of the lag under a ramp of users, run very small. It finds faults by itself: rows that are missing or there
// twice.

import { test } from 'node:test';
import { figure, runBench, skipReason } from './run_bench.ts';

test('the lag bench sends a ramp of users through Kafka to a node and reads the lag', {
  skip: skipReason('kafka', 'k6'),
}, async () => {
  const result = await runBench('lag', [
    ...['--vus', '10', '--ramp-seconds', '3', '--rounds', '1', '--settle-seconds', '0'],
  ]);
  figure(result, 'ramp', 'requests');
  figure(result, 'ramp', 'end_to_end_p99_ms');
});
