// CPU time and memory of another process, as Linux tells them under /proc. Elsewhere there are no figures, and the
// benches do not run.

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

let ticksPerSecond = 0;

/** CPU seconds of all threads so far, user and system; NaN once the process is gone. Resolution 10 ms. */
export function cpuSeconds(pid: number): number {
  ticksPerSecond ||= Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }));
  const text = tryRead(pid, 'stat');
  // The name, in parentheses, may hold anything; utime and stime are the 12th and 13th field behind it.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
}

/** Memory of a process, MiB. */
export interface MemoryUsage {
  /** Resident now: anonymous (heaps, rings, the engine's memory) + file-backed (programs, lmdb's map) + shared. */
  readonly rss: number;
  readonly anonymous: number;
  readonly file: number;
  readonly shared: number;
  /** Largest RSS so far. */
  readonly peak: number;
  /** RSS with pages of several processes counted in parts; null where it may not be read. */
  readonly pss: number | null;
}

export function memoryUsage(pid: number): MemoryUsage {
  const status = tryRead(pid, 'status');
  const rollup = tryRead(pid, 'smaps_rollup');
  return {
    rss: mebibytes(status, 'VmRSS') ?? Number.NaN,
    anonymous: mebibytes(status, 'RssAnon') ?? Number.NaN,
    file: mebibytes(status, 'RssFile') ?? Number.NaN,
    shared: mebibytes(status, 'RssShmem') ?? Number.NaN,
    peak: mebibytes(status, 'VmHWM') ?? Number.NaN,
    pss: mebibytes(rollup, 'Pss'),
  };
}

/** Time over which the use of CPU is looked at, ms. */
const quietWindowMs = 250;
/** Share of one core below which a process counts as quiet. */
const quietShare = 0.08;

/** Waits until the processes are nearly idle (merges done, garbage collected), but at most `secondsMax`. */
export async function untilQuiet(pids: readonly number[], secondsMax: number): Promise<void> {
  const untilMs = Date.now() + secondsMax * 1000;
  const used = (): number => pids.reduce((sum, pid) => sum + (cpuSeconds(pid) || 0), 0);
  for (let before = used(); Date.now() < untilMs; ) {
    await new Promise((resolve) => setTimeout(resolve, quietWindowMs));
    const now = used();
    if (now - before < (quietShare * quietWindowMs) / 1000) return;
    before = now;
  }
}

function mebibytes(text: string, name: string): number | null {
  const found = new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text);
  return found === null ? null : Math.round(Number(found[1]) / 102.4) / 10;
}

/** Empty if the process is gone or the file may not be read. */
function tryRead(pid: number, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8');
  } catch {
    return '';
  }
}
