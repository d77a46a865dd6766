// The events that every scenario sends, and how it sends them: those of the load test that ESS was born from, with ids
// event-<user>-<iteration>. Runs in k6.
import { check } from 'k6';
import http from 'k6/http';
import { url } from './settings.js';

const types = ['click', 'view', 'purchase', 'signup', 'search', 'scroll'];

/**
 * `run` is what setup gave: the source. Without `time`, as the old clients sent them: it is the ingest time then. `suffix`
 * tells the events of a batch apart.
 */
export function makeEvent(run, user, iteration, suffix = '') {
  return {
    id: `event-${user}-${iteration}${suffix}`,
    source: run,
    type: types[(user + iteration) % types.length],
    subject: `user-${(user * 7919 + iteration) % 100_000}`,
    ingest_time: new Date().toISOString(),
    data: { page: `/products/${iteration % 10_000}`, amount: 1000 + (iteration % 9000) },
  };
}

/** `kind` is what the thresholds look at: reads and figures are not to count as writes. */
const json = { headers: { 'Content-Type': 'application/json' }, tags: { kind: 'write' } };
const ndjson = { headers: { 'Content-Type': 'application/x-ndjson' }, tags: { kind: 'write' } };

/** POST /events/ of one event; the answer is not judged. */
export function postEvent(event, query = '') {
  return http.post(`${url}/events/${query}`, JSON.stringify(event), json);
}

/** POST /events/ of several, one a line. */
export function postBatch(events) {
  return http.post(`${url}/events/`, events.map((event) => JSON.stringify(event)).join('\n'), ndjson);
}

/** Failures that a user tells of: the first ones say what is wrong, thousands more would cost time. */
const toldMax = 3;
let told = 0;

/** Checks that the answer is 200, and says on the console what the first other ones were. */
export function isTaken(response) {
  if (check(response, { 'status equals 200': ({ status }) => status === 200 })) return true;
  tell(response);
  return false;
}

/** Says once in a while what an answer was that should have been another. */
export function tell(response) {
  if (told === toldMax) return;
  told += 1;
  const code = /"code":"(\w+)"/.exec(response.body || '');
  console.error(`FAILURE ${response.status} ${code === null ? response.error : code[1]}`);
}
