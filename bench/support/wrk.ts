// Runs wrk with our script and reads what it measured. wrk is a closed loop: each connection sends its next request
// when the last one is answered, so that a slow answer also delays what would have been measured next.

import { spawn, spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { EventShape } from './event_batch.ts';
import { cpuSeconds } from './process_usage.ts';

export interface WrkOptions {
  /** Of the server: http://127.0.0.1:port */
  readonly url: string;
  readonly connections: number;
  readonly seconds: number;
  /** Goes into every id; 0 to 9,999,999. */
  readonly run: number;
  /** Shape of the events, as in event_batch.ts. @default ours */
  readonly shape?: EventShape;
  /** A longer answer counts as an error and is left out of the percentiles, seconds. @default 2, as wrk's own */
  readonly timeoutSeconds?: number;
}

export interface WrkResult {
  /** Answers that came, whatever their status. Up to one a connection is cut off at the end without being counted. */
  readonly requests: number;
  readonly seconds: number;
  readonly p50_ms: number;
  readonly p95_ms: number;
  readonly p99_ms: number;
  readonly max_ms: number;
  /** Answers with a status of 400 and more. */
  readonly non_2xx: number;
  readonly connect_errors: number;
  readonly read_errors: number;
  readonly write_errors: number;
  readonly timeouts: number;
  /** Share of one core that wrk used: near 1 it is wrk that was measured, and the server could do more. */
  readonly generator_core_share: number;
}

/** wrk's version, or null where it is not installed. */
export function wrkVersion(): string | null {
  const { stdout, error } = spawnSync('wrk', ['-v'], { encoding: 'utf8' });
  return error === undefined ? (stdout.split('\n')[0] ?? '').replace(/ Copyright.*/, '') : null;
}

const script = fileURLToPath(new URL('./bench.post_events.lua', import.meta.url));
/** How often its CPU time is looked at: the last look counts, since a process that ended has none. */
const lookEveryMs = 100;

/** One thread, POST /events/. Rejects if wrk cannot run. */
export async function runWrk(options: WrkOptions): Promise<WrkResult> {
  const { url, connections, seconds, run, shape = 'ours', timeoutSeconds = 2 } = options;
  const argv = [
    '-t1',
    `-c${connections}`,
    `-d${seconds}s`,
    `--timeout=${timeoutSeconds}s`,
    '-s',
    script,
    `${url}/events/`,
    '--',
    String(run),
    shape,
  ];
  const child = spawn('wrk', argv, { stdio: ['ignore', 'pipe', 'inherit'] });
  const startedMs = performance.now();
  let share = 0;
  const timer = setInterval(() => {
    const used = cpuSeconds(child.pid ?? -1);
    if (used > 0) share = used / ((performance.now() - startedMs) / 1000);
  }, lookEveryMs);
  const output: string[] = [];
  child.stdout.on('data', (chunk: Buffer) => output.push(chunk.toString()));
  try {
    await new Promise<void>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', () => resolve());
    });
  } finally {
    clearInterval(timer);
  }
  const found = /^RESULT (\{.*\})$/m.exec(output.join(''));
  if (found?.[1] === undefined) throw new Error(`wrk gave no result:\n${output.join('')}`);
  const read = JSON.parse(found[1]) as Omit<WrkResult, 'generator_core_share'>;
  return { ...read, generator_core_share: Math.round(share * 100) / 100 };
}
