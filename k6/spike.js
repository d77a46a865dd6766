// A calm rate, ten times of it at once, and calm again. Being told to come back is right in a spike: a user then waits as
// long as Retry-After says and sends the same event again; what fails is an event that is not taken in the end. For k6:
//   k6 run -e RATE=300 -e DURATION_SECONDS=120 k6/spike.js

import { check, sleep } from 'k6';
import http from 'k6/http';
import { Counter } from 'k6/metrics';
import { makeEvent, postEvent, tell } from './event.js';
import { begin, finish } from './report.js';
import { common, duration, durationSeconds, ratePerSecond, thresholds, vus as vusOf } from './settings.js';

const rate = ratePerSecond(300);
const spike = rate * 10;
const seconds = durationSeconds(120);
/** Most times that an event is sent. */
const attemptsMax = 20;

const retries = new Counter('ess_retries');

export const options = {
  ...common,
  scenarios: {
    spike: {
      executor: 'ramping-arrival-rate',
      startRate: rate,
      timeUnit: '1s',
      stages: [
        { duration: duration(seconds * 0.3), target: rate },
        { duration: duration(seconds * 0.02), target: spike },
        { duration: duration(seconds * 0.28), target: spike },
        { duration: duration(seconds * 0.02), target: rate },
        { duration: duration(seconds * 0.38), target: rate },
      ],
      preAllocatedVUs: vusOf(Math.max(20, spike)),
      gracefulStop: '60s',
    },
  },
  // 503 is no failure here, see above; everything else that is not 200 is.
  thresholds,
};

http.setResponseCallback(http.expectedStatuses(200, 503));

export const setup = begin;
export const teardown = finish;

export default function sendUntilTaken({ run }) {
  const event = makeEvent(run, __VU, __ITER);
  let response = postEvent(event);
  for (let attempt = 1; response.status === 503 && attempt < attemptsMax; attempt += 1) {
    retries.add(1);
    sleep(Number(response.headers['Retry-After']) || 1);
    response = postEvent(event);
  }
  if (!check(response, { 'taken in the end': ({ status }) => status === 200 })) tell(response);
}
