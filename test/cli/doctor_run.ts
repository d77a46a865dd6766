// Runs `ess doctor` for its tests, in this process or with another clock, and looks lines up in its report.

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { Writable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { CheckId } from '../../src/cli/doctor/checks.ts';
import type { Verdict } from '../../src/cli/doctor/report.ts';
import { type DoctorIo, runDoctor } from '../../src/cli/doctor.ts';

/** A line of --json. */
export interface ReportLine {
  readonly check: CheckId;
  readonly group: string;
  readonly subject: string;
  readonly verdict: Verdict;
  readonly found: string;
  readonly why: string;
  readonly mend: string;
}

export interface Outcome {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

class Sink extends Writable {
  text = '';
  override _write(chunk: Buffer, _encoding: string, callback: () => void): void {
    this.text += chunk.toString();
    callback();
  }
}

export type Surroundings = Partial<Pick<DoctorIo, 'env' | 'machine'>>;

export async function runText(argv: readonly string[], around: Surroundings = {}): Promise<Outcome> {
  const stdout = new Sink();
  const stderr = new Sink();
  const machine = { checkPlatform: async () => {} };
  const code = await runDoctor(argv, { env: {}, cores: 8, stdout, stderr, machine, ...around });
  return { code, out: stdout.text, err: stderr.text };
}

export interface Report {
  readonly code: number;
  readonly verdict: Verdict;
  readonly lines: readonly ReportLine[];
}

/** The report of --json, of which every line is complete. */
export async function examine(argv: readonly string[], around: Surroundings = {}): Promise<Report> {
  return reportOf(await runText(['--json', ...argv], around));
}

/** The report of a process of its own, on a machine whose clock is off by this much: "-10s", "+2h". */
export async function examineAtOffset(offset: string, argv: readonly string[]): Promise<Report> {
  const entry = fileURLToPath(new URL('./ess.js', import.meta.url));
  const child = spawn('faketime', ['-f', offset, process.execPath, entry, 'doctor', '--json', ...argv], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const [out, err, code] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    new Promise<number>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (status) => resolve(status ?? -1));
    }),
  ]);
  return reportOf({ code, out, err });
}

function reportOf({ code, out, err }: Outcome): Report {
  assert.equal(err, '');
  const { verdict, checks }: { verdict: Verdict; checks: readonly ReportLine[] } = JSON.parse(out);
  for (const line of checks) {
    assert.notEqual(line.found, '', JSON.stringify(line));
    assert.notEqual(line.why, '', JSON.stringify(line));
    const isBad = line.verdict === 'error' || line.verdict === 'warning';
    if (isBad) assert.notEqual(line.mend, '', JSON.stringify(line));
  }
  assert.equal(code, verdict === 'error' ? 1 : 0);
  return { code, verdict, lines: checks };
}

/** For tests that change a clock: skipped, and said so, where faketime is missing; with ESS_REQUIRE_ALL=1 they fail. */
export function needsFaketime(): { readonly skip: string | false } {
  if (spawnSync('faketime', ['--version'], { stdio: 'ignore' }).error === undefined) return { skip: false };
  const why = 'faketime is not on PATH (node scripts/tools.mjs faketime installs it)';
  assert.notEqual(process.env['ESS_REQUIRE_ALL'], '1', `${why}, and ESS_REQUIRE_ALL=1`);
  console.error(`SKIPPED: ${why}`);
  return { skip: why };
}

/** What is wrong: "check verdict". */
export function faults({ lines }: Report): string[] {
  return lines
    .filter(({ verdict }) => verdict === 'error' || verdict === 'warning')
    .map(({ check, verdict }) => `${check} ${verdict}`);
}

export function has(report: Report, check: CheckId, verdict: Verdict, text = ''): boolean {
  return report.lines.some(
    (line) =>
      line.check === check &&
      line.verdict === verdict &&
      `${line.subject} ${line.found} ${line.mend}`.includes(text),
  );
}

export function assertHas(report: Report, check: CheckId, verdict: Verdict, text = ''): void {
  const own = report.lines.filter((line) => line.check === check);
  assert.ok(has(report, check, verdict, text), `${check} ${verdict} ${text}: ${JSON.stringify(own)}`);
}

/** Examines again until all of these are there: what was changed is known to one broker after the other. */
export async function untilHas(
  argv: readonly string[],
  expected: readonly (readonly [CheckId, Verdict, string?])[],
  around: Surroundings = {},
): Promise<Report> {
  const untilMs = Date.now() + 60_000;
  for (;;) {
    const report = await examine(argv, around);
    const isThere = expected.every(([check, verdict, text]) => has(report, check, verdict, text));
    if (!isThere && Date.now() < untilMs) {
      await sleep(500);
      continue;
    }
    for (const [check, verdict, text] of expected) assertHas(report, check, verdict, text);
    return report;
  }
}
