// Writers and readers at the same time: a reader sends an event with ack=store, must find it by its id at once, and asks
// for the latest events and the statistics of the last hour. A quarter of the users read. For k6:
//   k6 run -e VUS=40 -e DURATION_SECONDS=60 k6/read_mix.js
// Where the roles are separate, -e STATS_URL= names the process that answers reads.
import { check } from 'k6';
import http from 'k6/http';
import { isTaken, makeEvent, postEvent, tell } from './event.js';
import { begin, finish } from './report.js';
import { common, duration, durationSeconds, statsUrl, thresholds, vus as vusOf } from './settings.js';

const vus = vusOf(40);
const readers = Math.max(1, Math.round(vus / 4));
const readP95Ms = Number(__ENV.READ_P95_MS) || 2000;
const users = { executor: 'constant-vus', duration: duration(durationSeconds(60)), gracefulStop: '30s' };

export const options = {
  ...common,
  scenarios: {
    writers: { ...users, vus: Math.max(1, vus - readers), exec: 'write' },
    readers: { ...users, vus: readers, exec: 'read' },
  },
  thresholds: { ...thresholds, 'http_req_duration{kind:read}': [`p(95)<${readP95Ms}`] },
};

export const setup = begin;
export const teardown = finish;

const params = { tags: { kind: 'read' } };

function get(path, what, isRight) {
  const response = http.get(`${statsUrl}${path}`, params);
  const isGood = check(response, { [what]: ({ status }) => status === 200 && isRight(response.json()) });
  if (!isGood) tell(response);
}

export function write({ run }) {
  isTaken(postEvent(makeEvent(run, __VU, __ITER)));
}

export function read({ run }) {
  // Of its own kind of id: users of both scenarios count their iterations from 0.
  const event = makeEvent(run, __VU, __ITER, '-read');
  if (!isTaken(postEvent(event, '?ack=store'))) return;
  const source = encodeURIComponent(run);
  get(
    `/events/${event.id}?source=${source}`,
    'an event is there after ack=store',
    ({ id }) => id === event.id,
  );
  get(
    `/events/?limit=20&source=${source}`,
    'the latest events are listed',
    ({ events }) => events.length > 0,
  );
  const hour = `from=${Date.now() - 3_600_000}&to=${Date.now() + 60_000}&group_by=type`;
  get(`/events/statistics?${hour}`, 'statistics count events', ({ total }) => total.count > 0);
}
