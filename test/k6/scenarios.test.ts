// Every scenario of k6/ against a real service, very small: k6 must end well, with its thresholds held, and must tell of
// the lag and of conservation. How fast it was is not looked at: this machine may be busy.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { k6Path, k6Version } from '../../bench/support/k6.ts';
import { EssProcess, type StatsJson } from '../support/ess_process.ts';

/** Files of k6/ that others import; all else there is a scenario. */
const shared = ['settings.js', 'event.js', 'report.js'];

/** What makes each of them small. Nobody's speed is judged here, hence the bounds on percentiles. */
const small: Readonly<Record<string, Readonly<Record<string, string | number>>>> = {
  'load.js': { VUS: 4, RAMP_SECONDS: 2 },
  'batch.js': { VUS: 2, BATCH_EVENTS: 50, DURATION_SECONDS: 2 },
  'read_mix.js': { VUS: 4, DURATION_SECONDS: 2, READ_P95_MS: 60_000 },
  'soak.js': { RATE: 20, VUS: 40, DURATION_SECONDS: 2, LOOK_SECONDS: 0.5 },
  'spike.js': { RATE: 10, VUS: 50, DURATION_SECONDS: 2 },
};

function skipReason(): string | false {
  if (k6Version() !== null || process.env['ESS_REQUIRE_ALL'] === '1') return false;
  const reason = 'NOT RUN: needs k6 (node scripts/tools.mjs k6, which needs Go)';
  console.error(reason);
  return reason;
}

interface Ended {
  readonly code: number | null;
  readonly output: string;
  /** Names of the metrics in the summary, with their figures. */
  readonly metrics: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
}

async function runScript(name: string, settings: Readonly<Record<string, string | number>>): Promise<Ended> {
  const folder = mkdtempSync(join(tmpdir(), 'ess-k6-'));
  const file = join(folder, 'summary.json');
  const argv = [
    ...['run', '--no-usage-report', '--no-color', '--quiet', '--summary-export', file],
    ...Object.entries(settings).flatMap(([key, value]) => ['-e', `${key}=${value}`]),
    resolve('k6', name),
  ];
  const child = spawn('k6', argv, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, PATH: k6Path },
  });
  let output = '';
  const take = (chunk: Buffer): void => {
    output += chunk.toString();
  };
  child.stdout.on('data', take);
  child.stderr.on('data', take);
  try {
    const code = await new Promise<number | null>((settle, reject) => {
      child.once('error', reject);
      child.once('close', settle);
    });
    const { metrics } = JSON.parse(readFileSync(file, 'utf8')) as Pick<Ended, 'metrics'>;
    return { code, output, metrics };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

test('k6/README.md names every scenario and every variable', () => {
  const readme = readFileSync('k6/README.md', 'utf8');
  for (const name of readdirSync('k6').filter((file) => file.endsWith('.js'))) {
    const text = readFileSync(join('k6', name), 'utf8');
    for (const [, byProperty, byText] of text.matchAll(/__ENV\.(\w+)|number\('(\w+)'/g)) {
      const variable = byProperty ?? byText ?? '';
      assert.ok(readme.includes(`\`${variable}`), `${variable} of ${name}`);
    }
    assert.ok(shared.includes(name) || readme.includes(`\`${name}\``), name);
  }
});

describe('the scenarios of k6/', { skip: skipReason() }, () => {
  let ess: EssProcess;
  before(async () => {
    ess = await EssProcess.start();
  });
  after(() => ess?.dispose());

  test('are all run here', () => {
    const scenarios = readdirSync('k6').filter((name) => name.endsWith('.js') && !shared.includes(name));
    assert.deepEqual(scenarios.toSorted(), Object.keys(small).toSorted());
  });

  for (const [name, settings] of Object.entries(small)) {
    test(`${name} ends well and tells of the lag and of conservation`, async () => {
      const before = await ess.getJson<StatsJson>('/stats');
      const ended = await runScript(name, {
        URL: ess.url,
        // One is given the source of its events, the others make one.
        ...(name === 'batch.js' ? { RUN: 'a run' } : {}),
        P95_MS: 60_000,
        DRAIN_SECONDS: 30,
        ...settings,
      });
      assert.equal(ended.code, 0, ended.output);
      assert.match(ended.output, /conservation: [1-9]\d* accepted = .* 0 in flight; exact: true/);
      assert.match(ended.output, /end to end, all since the process started: p50 [\d.]+ ms, .*max [\d.]+ ms/);
      assert.match(ended.output, /end to end, events of this run: p50 .* \([1-9]\d* events\)/);
      assert.equal(ended.metrics['ess_conservation_exact']?.['fails'], 0);
      assert.equal(typeof ended.metrics['ess_end_to_end_p99_ms']?.['value'], 'number');
      // Everything that k6 was told is in the store is there.
      const { conservation } = await ess.getJson<StatsJson>('/stats');
      const [told = 0] = [...ended.output.matchAll(/\((\d+) events\)/g)].map(([, count]) => Number(count));
      assert.equal(conservation.stored - before.conservation.stored, told);
    });
  }

  test('fail where events are not taken, and say what the answer was', async () => {
    const settings = { URL: ess.url, RUN: 'refused', VUS: 1, DURATION_SECONDS: 1, BATCH_EVENTS: 100_001 };
    const ended = await runScript('batch.js', { ...settings, P95_MS: 60_000, DRAIN_SECONDS: 30 });
    assert.equal(ended.code, 99, ended.output);
    assert.match(ended.output, /FAILURE (413 too_large|422 \w+)/);
  });

  test('fail at once where nobody is there', async () => {
    const ended = await runScript('load.js', { URL: 'http://127.0.0.1:9', VUS: 1, RAMP_SECONDS: 1 });
    assert.notEqual(ended.code, 0);
    assert.match(ended.output, /healthz: 0/);
  });
});
