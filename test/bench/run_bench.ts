// Runs a bench as a user runs it but very small, and holds what it saved against what every bench promises. How large
// the figures are is not looked at: this machine may be busy.

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import { fileURLToPath } from 'node:url';
import { k6Version } from '../../bench/support/k6.ts';
import { kafkaAvailable } from '../support/kafka_cluster.ts';

const mustRun = process.env['ESS_REQUIRE_ALL'] === '1';
const folder = mkdtempSync(join(tmpdir(), 'ess-bench-test-'));
after(() => rmSync(folder, { recursive: true, force: true }));

export interface SavedResult {
  readonly date: string;
  readonly machine: Readonly<Record<string, unknown>>;
  readonly rounds: readonly unknown[];
  readonly medians: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  readonly ratios: Readonly<Record<string, number | null>>;
  readonly faults: readonly string[];
}

/** What a bench needs beside the build. */
export type Need = 'wrk' | 'kafka' | 'k6';

const needs: Readonly<Record<Need, { readonly isThere: () => boolean; readonly hint: string }>> = {
  wrk: { isThere: () => spawnSync('wrk', ['-v']).error === undefined, hint: 'node scripts/tools.mjs' },
  kafka: { isThere: () => kafkaAvailable(), hint: 'node scripts/kafka.mjs' },
  k6: { isThere: () => k6Version() !== null, hint: 'node scripts/tools.mjs k6, which needs Go' },
};

/** Why a bench cannot run here, or false. Said loudly, since a skipped test is easily taken for one that passed. */
export function skipReason(...needed: readonly Need[]): string | false {
  // A build of some of the tests (build.mjs --only) has no entries to start.
  const unbuilt = ['ess', 'bench.ingest'].filter((entry) => !existsSync(entryOf(entry)));
  const lacking = needed.filter((need) => !needs[need].isThere());
  const missing = [
    ...unbuilt.map((entry) => `${entry}.js`),
    ...lacking.map((need) => `${need} (${needs[need].hint})`),
  ];
  if (missing.length === 0 || mustRun) return false;
  const reason = `NOT RUN: missing ${missing.join(', ')}`;
  console.error(reason);
  return reason;
}

/** The file of a built entry. */
export function entryOf(name: string): string {
  return fileURLToPath(new URL(`./${name}.js`, import.meta.url));
}

/** Runs it to its end and gives what it saved. `argv` must set whatever --save would make large. */
export async function runBench(name: string, argv: readonly string[]): Promise<SavedResult> {
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

/** A median that must be there and above zero. */
export function figure(result: SavedResult, of: string, name: string): number {
  const value = result.medians[of]?.[name];
  assert.ok(typeof value === 'number' && value > 0, `${of}, ${name}: ${value}`);
  return value;
}
