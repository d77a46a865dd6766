// A steady rate of single events for a long time, while /stats is watched: lag must stay below a minute and the
// conservation line exact all the while, not only at the end. For k6:
//   k6 run -e RATE=500 -e DURATION_SECONDS=3600 k6/soak.js

import { check, sleep } from 'k6';
import http from 'k6/http';
import { Trend } from 'k6/metrics';
import { isTaken, makeEvent, postEvent } from './event.js';
import { begin, finish } from './report.js';
import { common, duration, durationSeconds, ratePerSecond, statsUrl, thresholds, vus } from './settings.js';

const rate = ratePerSecond(500);
const length = duration(durationSeconds(3600));
/** Between two looks at /stats, s. */
const lookEverySeconds = Number(__ENV.LOOK_SECONDS) || 5;
/** The old service's own alert. */
const lagSecondsMax = 60;

const lag = new Trend('ess_lag_seconds');

export const options = {
  ...common,
  scenarios: {
    events: {
      executor: 'constant-arrival-rate',
      rate,
      timeUnit: '1s',
      duration: length,
      // A second's worth: with more than that unanswered the service does not keep up, and dropped_iterations says so.
      preAllocatedVUs: vus(Math.max(10, rate)),
      gracefulStop: '30s',
    },
    watch: { executor: 'constant-vus', vus: 1, duration: length, gracefulStop: '30s', exec: 'watch' },
  },
  thresholds: { ...thresholds, ess_lag_seconds: [`max<${lagSecondsMax}`], dropped_iterations: ['count==0'] },
};

export const setup = begin;
export const teardown = finish;

export default function sendEvent({ run }) {
  isTaken(postEvent(makeEvent(run, __VU, __ITER)));
}

export function watch() {
  const response = http.get(`${statsUrl}/stats?window=10s`, { tags: { kind: 'stats' } });
  const isThere = check(response, { 'the figures are there': ({ status }) => status === 200 });
  if (isThere) {
    const stats = response.json();
    lag.add(stats.lag.seconds);
    check(stats, { 'conservation is exact': ({ conservation }) => conservation.exact === true });
  }
  sleep(lookEverySeconds);
}
