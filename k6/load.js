// The load test that ESS was born from (see the stages below): virtual users who send single events as fast as they are
// answered, more and more of them. For k6; `npm run bench:lag` runs it, or by hand against a running service:
//   k6 run -e URL=http://127.0.0.1:8080 -e VUS=3500 -e RAMP_SECONDS=210 k6/load.js
import { check } from 'k6';
import http from 'k6/http';

const url = `${__ENV.URL || 'http://127.0.0.1:8080'}/events/`;
/** Virtual users at the end. */
const vus = Number(__ENV.VUS || 3500);
/** Duration of the whole ramp, seconds. */
const rampSeconds = Number(__ENV.RAMP_SECONDS || 210);
/** Goes into every event as its source, so that two runs have no event in common. */
const run = __ENV.RUN || String(Date.now());

/** Share of the time, and of the users that are there at its end: a steady climb in four stages of 3.5 minutes. */
const stages = [
  [30 / 210, 500 / 3500],
  [60 / 210, 1500 / 3500],
  [60 / 210, 2500 / 3500],
  [60 / 210, 1],
];

export const options = {
  scenarios: {
    ramp: {
      executor: 'ramping-vus',
      startVUs: 1,
      stages: stages.map(([time, users]) => ({
        duration: `${Math.round(time * rampSeconds * 1000)}ms`,
        target: Math.max(1, Math.round(users * vus)),
      })),
      gracefulRampDown: '30s',
      gracefulStop: '30s',
    },
  },
  thresholds: { http_reqs: [`count>=${vus}`], checks: ['rate==1'] },
  summaryTrendStats: ['min', 'med', 'avg', 'p(90)', 'p(95)', 'p(99)', 'max'],
  // What nobody looks at is not kept: k6 is on the machine that it measures.
  systemTags: ['status'],
};

const headers = { 'Content-Type': 'application/json' };
/** Failures that a user tells of: the first ones say what is wrong, thousands more would cost time. */
const toldMax = 3;
let told = 0;

const types = ['click', 'view', 'purchase', 'signup', 'search', 'scroll'];

export default function sendEvent() {
  const event = {
    id: `event-${__VU}-${__ITER}`,
    source: run,
    type: types[(__VU + __ITER) % types.length],
    subject: `user-${(__VU * 7919 + __ITER) % 100_000}`,
    ingest_time: new Date().toISOString(),
    data: { page: `/products/${__ITER % 10_000}`, amount: 1000 + (__ITER % 9000) },
  };
  const response = http.post(url, JSON.stringify(event), { headers });
  const isTaken = check(response, { 'status equals 200': ({ status }) => status === 200 });
  if (isTaken || told === toldMax) return;
  told += 1;
  const code = /"code":"(\w+)"/.exec(response.body || '');
  console.error(`FAILURE ${response.status} ${code === null ? response.error : code[1]}`);
}
