// The load test that ESS was born from (see the stages below): virtual users who send single events as fast as they are
// answered, more and more of them. For k6; `npm run bench:lag` runs it, or by hand against a running service:
//   k6 run -e URL=http://127.0.0.1:8080 -e VUS=3500 -e RAMP_SECONDS=210 k6/load.js
import { isTaken, makeEvent, postEvent } from './event.js';
import { begin, finish } from './report.js';
import { common, duration, durationSeconds, thresholds, vus as vusOf } from './settings.js';

/** Virtual users at the end. */
const vus = vusOf(3500);
/** Of the whole ramp. */
const rampSeconds = Number(__ENV.RAMP_SECONDS) || durationSeconds(210);

/** Share of the time, and of the users that are there at its end: a steady climb in four stages of 3.5 minutes. */
const stages = [
  [30 / 210, 500 / 3500],
  [60 / 210, 1500 / 3500],
  [60 / 210, 2500 / 3500],
  [60 / 210, 1],
];

export const options = {
  ...common,
  scenarios: {
    ramp: {
      executor: 'ramping-vus',
      startVUs: 1,
      stages: stages.map(([time, users]) => ({
        duration: duration(time * rampSeconds),
        target: Math.max(1, Math.round(users * vus)),
      })),
      gracefulRampDown: '30s',
      gracefulStop: '30s',
    },
  },
  thresholds: { ...thresholds, http_reqs: [`count>=${vus}`] },
};

export const setup = begin;
export const teardown = finish;

export default function sendEvent({ run }) {
  isTaken(postEvent(makeEvent(run, __VU, __ITER)));
}
