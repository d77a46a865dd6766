// What a run is told by environment variables (k6 run -e NAME=VALUE): every scenario beside this file imports it. Runs in
// k6, which is not Node.js: only relative imports and the k6 modules are there.

const number = (name, fallback) => {
  const text = __ENV[name];
  if (text === undefined || text === '') return fallback;
  const value = Number(text);
  if (!Number.isFinite(value) || value < 0) throw new Error(`${name} must be a number and is ${text}`);
  return value;
};

/** Of the process that takes events, without a slash at the end. */
export const url = __ENV.URL || 'http://127.0.0.1:8080';
/** Of the process that is asked for figures and reads: the sink's, where the roles are separate. */
export const statsUrl = __ENV.STATS_URL || url;
/** False where somebody else waits for the store and reads the figures (bench:lag). */
export const isReported = __ENV.REPORT !== '0';
/** Longest wait after the load until everything is stored, s. */
export const drainSeconds = number('DRAIN_SECONDS', 600);

/** Virtual users; each scenario has its own default. */
export const vus = (fallback) => Math.max(1, Math.round(number('VUS', fallback)));
/** Length of the whole load, s; each scenario has its own default. */
export const durationSeconds = (fallback) => number('DURATION_SECONDS', fallback);
/** Requests a second of the scenarios with a fixed rate. */
export const ratePerSecond = (fallback) => Math.max(1, Math.round(number('RATE', fallback)));
/** Events in a request of batch.js. */
export const batchEvents = Math.max(1, Math.round(number('BATCH_EVENTS', 500)));

/** k6 takes whole milliseconds. */
export const duration = (seconds) => `${Math.max(1, Math.round(seconds * 1000))}ms`;

/** 95 % of the answers to events are to be faster than this, ms. */
const writeP95Ms = number('P95_MS', 1000);

/** What every scenario must keep: no request fails, no answer is wrong, nothing is lost or doubled on the way. */
export const thresholds = {
  checks: ['rate==1'],
  http_req_failed: ['rate==0'],
  'http_req_duration{kind:write}': [`p(95)<${writeP95Ms}`],
  ...(isReported ? { ess_conservation_exact: ['rate==1'] } : {}),
};

/** Options that all scenarios share. */
export const common = {
  summaryTrendStats: ['min', 'med', 'avg', 'p(90)', 'p(95)', 'p(99)', 'max'],
  // What nobody looks at is not kept: k6 is often on the machine that it measures.
  systemTags: ['status'],
  setupTimeout: '60s',
  teardownTimeout: duration(drainSeconds + 60),
};
