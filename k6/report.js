// What a run ends with: it waits until everything is stored, then prints how long events took to the store and the
// conservation line, and gives both to the summary, where a threshold holds the second. Runs in k6, once, in setup and
// teardown.
import { sleep } from 'k6';
import http from 'k6/http';
import { Gauge, Rate } from 'k6/metrics';
import { drainSeconds, isReported, statsUrl } from './settings.js';

const exact = new Rate('ess_conservation_exact');
const percentiles = ['p50', 'p90', 'p95', 'p99', 'max'];
const endToEnd = percentiles.map((name) => [name, new Gauge(`ess_end_to_end_${name}_ms`)]);

const params = { tags: { kind: 'stats' }, timeout: '30s' };

/**
 * Before the load: fails the run at once where nobody is there. Without a report no request is made but the load's own.
 * Gives every user `run`, the source of all events, so that two runs have none in common. Only here: each user loads the
 * files anew, and would get a time of its own.
 */
export function begin() {
  const startedMs = Date.now();
  const begun = { startedMs, run: __ENV.RUN || String(startedMs) };
  if (!isReported) return begun;
  const response = http.get(`${statsUrl}/healthz`, params);
  if (response.status !== 200) throw new Error(`${statsUrl}/healthz: ${response.status} ${response.error}`);
  return begun;
}

/** After the load. */
export function finish({ startedMs, run }) {
  if (!isReported) return;
  const stats = untilStored();
  if (stats === null) {
    exact.add(false);
    console.error(`${statsUrl}/stats does not answer`);
    return;
  }
  const stage = stats.stages.end_to_end;
  for (const [name, gauge] of endToEnd) if (stage) gauge.add(stage[`${name}_ms`]);
  if (stage)
    console.log(`end to end, all since the process started: ${figures(stage, (name) => `${name}_ms`)}`);
  console.log(`end to end, events of this run: ${lagOfRun(startedMs, run)}`);
  const { accepted, stored, duplicates, parked, holes, in_flight: inFlight } = stats.conservation;
  exact.add(stats.conservation.exact === true && inFlight === 0);
  console.log(
    `conservation: ${accepted} accepted = ${stored} stored + ${duplicates} duplicates + ${parked} parked + ` +
      `${holes} holes + ${inFlight} in flight; exact: ${stats.conservation.exact}`,
  );
}

const figures = (from, nameOf) =>
  percentiles
    .filter((name) => from[nameOf(name)] !== undefined)
    .map((name) => `${name} ${from[nameOf(name)]} ms`)
    .join(', ');

/** The figures when nothing is under way any more, or the last ones when the time is over; null without any. */
function untilStored() {
  const untilMs = Date.now() + drainSeconds * 1000;
  let last = null;
  for (;;) {
    const response = http.get(`${statsUrl}/stats`, params);
    if (response.status === 200) {
      last = response.json();
      const { in_flight: inFlight, memory_pending: pending } = last.conservation;
      if (inFlight === 0 && !pending) return last;
    }
    if (Date.now() >= untilMs) return last;
    sleep(0.5);
  }
}

/** From ingest to store of the rows themselves, as the old service asked it of its table. */
function lagOfRun(startedMs, run) {
  // A minute back: the clocks of two machines differ.
  const range = `clock=ingest&from=${startedMs - 60_000}&to=${Date.now() + 60_000}&bucket=1d`;
  const response = http.get(
    `${statsUrl}/events/statistics?${range}&where=source:${encodeURIComponent(run)}`,
    params,
  );
  if (response.status !== 200) return `not to be had from ${statsUrl} (${response.status})`;
  const { total } = response.json();
  if (total.count === 0) return 'none stored';
  return `${figures(total.lag_ms, (name) => name)} (${total.count} events)`;
}
