// Runs k6 with k6/load.js and reads what it measured. Like wrk it is a closed loop: a user sends the next event when the
// last one is answered.

import { spawn, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { cpuSeconds } from './process_usage.ts';

export interface K6Options {
  /** Of the service: http://127.0.0.1:port */
  readonly url: string;
  /** Users at the end of the ramp. */
  readonly vus: number;
  readonly rampSeconds: number;
  /** The events' source. */
  readonly run: string;
  /** Where its summary may be written. */
  readonly folder: string;
}

export interface K6Result {
  readonly requests: number;
  /** Mean over the whole ramp. */
  readonly requests_per_second: number;
  readonly p50_ms: number;
  readonly p95_ms: number;
  readonly p99_ms: number;
  readonly max_ms: number;
  /** Requests that were answered 200, and all others, those without any answer included. */
  readonly answered: number;
  readonly failures: number;
  /** How often the first failures of each user were of a kind: status and code, or the error of the connection. */
  readonly failure_kinds: Readonly<Record<string, number>>;
  /** Cores that k6 used. */
  readonly generator_core_share: number;
}

/** The PATH that finds it: scripts/tools.mjs puts it there; one that is installed serves as well. */
export const k6Path = `${resolve('.cache/tools/usr/bin')}:${process.env['PATH'] ?? ''}`;
const script = resolve('k6/load.js');
/** How often its CPU time is looked at: the last look counts, since a process that ended has none. */
const lookEveryMs = 100;

/** k6's version, or null where there is none. */
export function k6Version(): string | null {
  const { stdout, status } = spawnSync('k6', ['--version'], {
    encoding: 'utf8',
    env: { ...process.env, PATH: k6Path },
  });
  return status === 0 ? (/v[\d.]+/.exec(stdout)?.[0] ?? '') : null;
}

/** What --summary-export writes of it. */
interface Summary {
  readonly metrics: {
    readonly http_reqs: { readonly count: number; readonly rate: number };
    readonly http_req_duration: Readonly<Record<'med' | 'p(95)' | 'p(99)' | 'max', number>>;
    readonly checks: { readonly passes: number; readonly fails: number };
  };
}

/** Rejects with what k6 says if it cannot run. */
export async function runK6({ url, vus, rampSeconds, run, folder }: K6Options): Promise<K6Result> {
  const file = join(folder, `k6-${run}.json`);
  const settings = { URL: url, VUS: vus, RAMP_SECONDS: rampSeconds, RUN: run, REPORT: 0 };
  const argv = [
    ...['run', '--quiet', '--no-usage-report', '--no-color', '--summary-export', file],
    ...Object.entries(settings).flatMap(([name, value]) => ['-e', `${name}=${value}`]),
    script,
  ];
  const child = spawn('k6', argv, {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, PATH: k6Path },
  });
  const startedMs = performance.now();
  let share = 0;
  const timer = setInterval(() => {
    const used = cpuSeconds(child.pid ?? -1);
    if (used > 0) share = used / ((performance.now() - startedMs) / 1000);
  }, lookEveryMs);
  let said = '';
  const kinds: Record<string, number> = {};
  createInterface(child.stderr).on('line', (line) => {
    const kind = /msg="FAILURE (.*?)"/.exec(line)?.[1];
    if (kind === undefined) said = `${said}${line}\n`.slice(-4000);
    else kinds[kind] = (kinds[kind] ?? 0) + 1;
  });
  let code: number | null;
  try {
    code = await new Promise((settle, reject) => {
      child.once('error', reject);
      child.once('close', settle);
    });
  } finally {
    clearInterval(timer);
  }
  // 99: it ran to the end, but a threshold was crossed, which the figures show too.
  if (code !== 0 && code !== 99) throw new Error(`k6 ended with ${code}:\n${said}`);
  const { metrics } = JSON.parse(readFileSync(file, 'utf8')) as Summary;
  const { http_reqs: requests, http_req_duration: duration, checks } = metrics;
  return {
    requests: requests.count,
    requests_per_second: Math.round(requests.rate),
    p50_ms: duration.med,
    p95_ms: duration['p(95)'],
    p99_ms: duration['p(99)'],
    max_ms: duration.max,
    answered: checks.passes,
    failures: checks.fails,
    failure_kinds: kinds,
    generator_core_share: Math.round(share * 100) / 100,
  };
}
