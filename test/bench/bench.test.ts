// Every bench of ours, run as a user runs it but very small: it has to finish, find nothing broken, and report figures.
// How large the figures are is not looked at: this machine may be busy.

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const mustRun = process.env['ESS_REQUIRE_ALL'] === '1';
const folder = mkdtempSync(join(tmpdir(), 'ess-bench-test-'));
after(() => rmSync(folder, { recursive: true, force: true }));

interface SavedResult {
  readonly date: string;
  readonly machine: Readonly<Record<string, unknown>>;
  readonly rounds: readonly unknown[];
  readonly medians: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  readonly ratios: Readonly<Record<string, number | null>>;
  readonly faults: readonly string[];
}

/** Why a bench cannot run here, or false. Said loudly, since a skipped test is easily taken for one that passed. */
function skipReason(needsWrk: boolean): string | false {
  const missing: string[] = [];
  // A build of some of the tests (build.mjs --only) has no entries to start.
  for (const entry of ['ess', 'bench.ingest']) if (!existsSync(entryOf(entry))) missing.push(`${entry}.js`);
  if (needsWrk && spawnSync('wrk', ['-v']).error !== undefined) missing.push('wrk (node scripts/tools.mjs)');
  if (missing.length === 0 || mustRun) return false;
  const reason = `NOT RUN: missing ${missing.join(', ')}`;
  console.error(reason);
  return reason;
}

function entryOf(name: string): string {
  return fileURLToPath(new URL(`./${name}.js`, import.meta.url));
}

async function runBench(name: string, argv: readonly string[]): Promise<SavedResult> {
  const results = join(folder, 'results');
  const child = spawn(
    process.execPath,
    [
      '--enable-source-maps',
      entryOf(`bench.${name}`),
      ...argv,
      '--dir',
      folder,
      '--save',
      '--results',
      results,
    ],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  let output = '';
  const take = (chunk: Buffer): void => {
    output += chunk.toString();
  };
  child.stdout.on('data', take);
  child.stderr.on('data', take);
  const code = await new Promise((resolve) => child.on('close', resolve));
  assert.equal(code, 0, output);
  const lines = readFileSync(join(results, `${name}.jsonl`), 'utf8')
    .trimEnd()
    .split('\n');
  assert.equal(lines.length, 1);
  const result = JSON.parse(lines[0] ?? '') as SavedResult;
  assert.deepEqual(result.faults, []);
  assert.ok(result.rounds.length > 0);
  assert.ok(result.machine['cores'] !== undefined && !Number.isNaN(Date.parse(result.date)));
  assert.deepEqual(
    readdirSync(folder).filter((entry) => entry.startsWith('ess-bench-')),
    [],
    'data directories are removed',
  );
  return result;
}

function figure(result: SavedResult, of: string, name: string): number {
  const value = result.medians[of]?.[name];
  assert.ok(typeof value === 'number' && value > 0, `${of}, ${name}: ${value}`);
  return value;
}

test('the ingest bench loads both roles and the bare server and compares them', {
  skip: skipReason(true),
}, async () => {
  const result = await runBench('ingest', [
    ...['--seconds', '1', '--warmup-seconds', '1', '--rounds', '1', '--connections', '16'],
    ...['--settle-seconds', '0'],
  ]);
  for (const target of ['role all', 'role ingest', 'bare']) figure(result, target, 'requests_per_second');
  assert.equal(result.rounds.length, 3);
  assert.ok((result.ratios['role all / bare'] ?? 0) > 0);
});

test('the batch bench stores every event it sends and compares with inserts by hand', {
  skip: skipReason(false),
}, async () => {
  const result = await runBench('batch', [
    ...['--events', '4000', '--block-rows', '2000', '--rounds', '1', '--settle-seconds', '0'],
  ]);
  figure(result, 'ess', 'events_per_second');
  figure(result, 'direct', 'events_per_second');
  assert.ok((result.ratios['ess / direct'] ?? 0) > 0);
});

test('the drain bench works off a backlog and measures the parts of that work', {
  skip: skipReason(false),
}, async () => {
  const result = await runBench('drain', ['--events', '5000', '--rounds', '1', '--settle-seconds', '0']);
  for (const part of ['drain', 'read', 'encode', 'insert']) figure(result, part, 'rows_per_second');
});

test('the memory bench measures both roles', { skip: skipReason(false) }, async () => {
  const result = await runBench('memory', [
    ...['--events', '5000', '--connections', '50', '--requests', '2', '--settle-seconds', '0'],
  ]);
  for (const role of ['ingest', 'all']) figure(result, role, 'peak_rss');
});

test('a bench refuses a number that it does not know or cannot use', { skip: skipReason(false) }, () => {
  for (const argv of [
    ['--rouds', '1'],
    ['--rounds', '0'],
    ['--rounds', 'x'],
  ]) {
    const { status } = spawnSync(process.execPath, [entryOf('bench.drain'), ...argv]);
    assert.equal(status, 2, argv.join(' '));
  }
});
