// What a new user does first: `npm start`, `ess send` of real files, and statistics about them. Every figure is
// compared with one computed from the file alone.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { parse } from 'csv-parse/sync';

const patienceMs = 120_000;
const flightsFile = 'node_modules/vega-datasets/data/flights-20k.json';
const strikesFile = 'node_modules/vega-datasets/data/birdstrikes.csv';

interface Flight {
  readonly date: string;
  readonly delay: number;
  readonly distance: number;
  readonly origin: string;
}

interface ValueJson {
  readonly count: number;
  readonly sum: number;
  readonly avg: number;
  readonly min: number;
  readonly max: number;
}

interface StatisticsJson {
  readonly bucket_s: number;
  readonly total: { readonly count: number; readonly value?: ValueJson };
  readonly groups: readonly {
    readonly group: Readonly<Record<string, string | null>>;
    readonly count: number;
    readonly value?: ValueJson;
    readonly buckets: readonly { readonly t: string; readonly count: number }[];
  }[];
}

let service: ChildProcess;
let dataDir = '';
let url = '';
/** Everything that npm and the service wrote. */
let output = '';
/** Settles when nothing has their output open any more: when both have ended. */
let closed: Promise<unknown>;

before(async () => {
  dataDir = mkdtempSync(join(tmpdir(), 'ess-e2e-'));
  // In a process group of its own, so that npm and the service under it end together.
  service = spawn('npm', ['start', '--', '--port', '0', '--data-dir', dataDir], { detached: true });
  closed = once(service, 'close');
  url = await new Promise<string>((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`npm start did not get ready:\n${output}`)), patienceMs);
    const onOutput = (chunk: Buffer): void => {
      output += chunk.toString();
      const found = /"url":"(http:[^"]+)"/.exec(output);
      if (found?.[1] !== undefined) {
        clearTimeout(timer);
        resolve(found[1]);
      }
    };
    service.stdout?.on('data', onOutput);
    service.stderr?.on('data', onOutput);
  });
});

after(async () => {
  try {
    if (service.pid !== undefined) process.kill(-service.pid, 'SIGKILL');
  } catch {
    // Both have ended, as they should have.
  }
  await closed;
  rmSync(dataDir, { recursive: true, force: true });
});

/** Runs `ess send`; gives its exit code and what it wrote to standard output. */
function send(args: readonly string[]): Promise<{ readonly code: number | null; readonly output: string }> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, ['dist/ess.js', 'send', '--url', url, ...args]);
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => {
      output += chunk.toString();
    });
    child.once('exit', (code) => resolve({ code, output }));
  });
}

async function statistics(query: Readonly<Record<string, string>>): Promise<StatisticsJson> {
  const response = await fetch(`${url}/events/statistics?${new URLSearchParams(query)}`);
  assert.equal(response.status, 200, await response.clone().text());
  return (await response.json()) as StatisticsJson;
}

async function drained(): Promise<void> {
  const untilMs = Date.now() + patienceMs;
  for (;;) {
    const stats = (await (await fetch(`${url}/stats`)).json()) as {
      conservation: { in_flight: number; exact: boolean };
    };
    if (stats.conservation.in_flight === 0) {
      assert.equal(stats.conservation.exact, true);
      return;
    }
    assert.ok(Date.now() < untilMs, JSON.stringify(stats.conservation));
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Groups by a key and folds each group's numbers. */
function expected<T>(
  rows: readonly T[],
  keyOf: (row: T) => string,
  numberOf: (row: T) => number,
): Map<string, number[]> {
  const groups = new Map<string, number[]>();
  for (const row of rows) {
    const values = groups.get(keyOf(row)) ?? [];
    values.push(numberOf(row));
    groups.set(keyOf(row), values);
  }
  return groups;
}

function assertValues(actual: ValueJson | undefined, values: readonly number[]): void {
  const sum = values.reduce((a, b) => a + b, 0);
  assert.equal(actual?.count, values.length);
  assert.equal(actual?.sum, sum);
  assert.ok(Math.abs((actual?.avg ?? 0) - sum / values.length) < 1e-9);
  assert.equal(actual?.min, Math.min(...values));
  assert.equal(actual?.max, Math.max(...values));
}

test('20,000 flights sent twice are 20,000 events with the right statistics', {
  timeout: patienceMs,
}, async () => {
  const flights = JSON.parse(readFileSync(flightsFile, 'utf8')) as Flight[];
  const args = ['--id-from-content', '--time', 'date', '--set', 'type=flight', '--json', flightsFile];
  for (let round = 0; round < 2; round += 1) {
    const { code, output } = await send(args);
    assert.equal(code, 0, output);
    const summary = JSON.parse(output) as { accepted: number; rejected: number };
    assert.equal(summary.accepted, flights.length);
    assert.equal(summary.rejected, 0);
  }
  await drained();
  const stats = await statistics({ type: 'unused' }).catch(() => null);
  assert.equal(stats, null, 'an unknown parameter is refused');
  const byOrigin = await statistics({
    where: 'type:flight',
    group_by: 'origin',
    value: 'delay',
    bucket: '1d',
    limit: '1000',
  });
  assert.equal(byOrigin.total.count, flights.length);
  const groups = expected(
    flights,
    (flight) => flight.origin,
    (flight) => flight.delay,
  );
  assert.equal(byOrigin.groups.length, groups.size);
  for (const { group, count, value } of byOrigin.groups) {
    const values = groups.get(group['origin'] ?? '') ?? [];
    assert.equal(count, values.length);
    assertValues(value, values);
  }
  const byDay = await statistics({ where: 'type:flight', bucket: '1d' });
  const days = expected(
    flights,
    (flight) => flight.date.slice(0, 10).replaceAll('/', '-'),
    () => 1,
  );
  const buckets = (byDay.groups[0]?.buckets ?? []).filter((bucket) => bucket.count > 0);
  assert.deepEqual(
    new Map(buckets.map(({ t, count }) => [t.slice(0, 10), count])),
    new Map([...days].map(([day, ones]) => [day, ones.length])),
  );
});

test('10,000 bird strikes from CSV have the right statistics', { timeout: patienceMs }, async () => {
  const rows = parse(readFileSync(strikesFile), { columns: true }) as Record<string, string>[];
  const { code, output } = await send([
    '--id-from-content',
    '--time',
    'Flight Date',
    '--subject',
    'Wildlife Species',
    '--set',
    'type=strike',
    '--json',
    strikesFile,
  ]);
  assert.equal(code, 0, output);
  await drained();
  const byState = await statistics({
    where: 'type:strike',
    group_by: 'Origin State,Phase of flight',
    value: 'Cost Total $',
    limit: '10000',
    bucket: '1d',
    from: '1990-01-01T00:00:00Z',
    to: '1990-02-01T00:00:00Z',
  });
  const january = rows.filter((row) => row['Flight Date']?.startsWith('1990-01'));
  const keyOf = (state: string | null | undefined, phase: string | null | undefined): string =>
    `${state}|${phase}`;
  const groups = expected(
    january,
    (row) => keyOf(row['Origin State'], row['Phase of flight']),
    (row) => Number(row['Cost Total $']),
  );
  assert.equal(byState.total.count, january.length);
  assert.equal(byState.groups.length, groups.size);
  for (const { group, count, value } of byState.groups) {
    const values = groups.get(keyOf(group['Origin State'], group['Phase of flight'])) ?? [];
    assert.equal(count, values.length);
    assertValues(value, values);
  }
  const all = await statistics({ where: 'type:strike' });
  assert.equal(all.total.count, rows.length);
});

// The last one: nothing runs after it.
test('SIGTERM to npm alone stops the service, in order', async () => {
  service.kill('SIGTERM');
  const timer = setTimeout(() => {
    if (service.pid !== undefined) process.kill(-service.pid, 'SIGKILL');
  }, patienceMs);
  await closed;
  clearTimeout(timer);
  assert.match(output, /"msg":"stopped"/);
});
