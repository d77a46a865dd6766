// Users who send batches of events as NDJSON as fast as they are answered: how many events a second go in. For k6:
//   k6 run -e VUS=16 -e BATCH_EVENTS=500 -e DURATION_SECONDS=60 k6/batch.js
import { check } from 'k6';
import { Counter } from 'k6/metrics';
import { isTaken, makeEvent, postBatch } from './event.js';
import { begin, finish } from './report.js';
import { batchEvents, common, duration, durationSeconds, thresholds, vus } from './settings.js';

const accepted = new Counter('ess_events_accepted');

export const options = {
  ...common,
  scenarios: {
    batch: {
      executor: 'constant-vus',
      vus: vus(16),
      duration: duration(durationSeconds(60)),
      gracefulStop: '30s',
    },
  },
  thresholds: { ...thresholds, ess_events_accepted: [`count>=${batchEvents}`] },
};

export const setup = begin;
export const teardown = finish;

export default function sendBatch({ run }) {
  const events = Array.from({ length: batchEvents }, (_, index) => makeEvent(run, __VU, __ITER, `-${index}`));
  const response = postBatch(events);
  if (!isTaken(response)) return;
  const answer = response.json();
  accepted.add(answer.accepted);
  check(answer, {
    'every event was accepted': ({ accepted, rejected }) => accepted === batchEvents && rejected === 0,
  });
}
