// CPU time and memory of another process, as Linux tells them under /proc. Elsewhere there are no figures, and the
// benches do not run.

import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';

let ticksPerSecond = 0;

/** CPU seconds of all threads so far, user and system; NaN once the process is gone. Resolution 10 ms. */
export function cpuSeconds(pid: number): number {
  ticksPerSecond ||= Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }));
  // utime and stime are the 12th and 13th field behind the name.
  const fields = statFields(pid);
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
}

/** CPU seconds of a process's main thread alone; NaN once it is gone. To the microsecond where the kernel tells. */
export function mainThreadSeconds(pid: number): number {
  const [nanoseconds = ''] = tryRead(pid, 'schedstat').split(' ');
  if (Number(nanoseconds) > 0) return Number(nanoseconds) / 1e9;
  ticksPerSecond ||= Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }));
  const text = tryRead(pid, `task/${pid}/stat`);
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
}

/** CPU seconds of several processes together; one that is gone counts nothing. */
export function cpuSecondsOf(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => sum + (cpuSeconds(pid) || 0), 0);
}

/** The process and all that it started, directly or not, as far as they run now. */
export function processTree(root: number): number[] {
  const parents = new Map<number, number>();
  for (const name of readdirSync('/proc')) {
    const pid = Number(name);
    // The parent is the second field behind the name.
    if (pid > 0) parents.set(pid, Number(statFields(pid)[1]));
  }
  const tree = parents.has(root) ? [root] : [];
  // Grows while it is walked.
  for (const member of tree) for (const [pid, parent] of parents) if (parent === member) tree.push(pid);
  return tree;
}

/** A process's command line, words separated by spaces; empty if it is gone. */
export function commandLine(pid: number): string {
  return tryRead(pid, 'cmdline').replaceAll('\0', ' ').trim();
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
  for (let before = cpuSecondsOf(pids); Date.now() < untilMs; ) {
    await new Promise((resolve) => setTimeout(resolve, quietWindowMs));
    const now = cpuSecondsOf(pids);
    if (now - before < (quietShare * quietWindowMs) / 1000) return;
    before = now;
  }
}

function mebibytes(text: string, name: string): number | null {
  const found = new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text);
  return found === null ? null : Math.round(Number(found[1]) / 102.4) / 10;
}

/** The fields of /proc/PID/stat behind the name, which stands in parentheses and may hold anything. */
function statFields(pid: number): string[] {
  const text = tryRead(pid, 'stat');
  return text.slice(text.lastIndexOf(')') + 2).split(' ');
}

/** Empty if the process is gone or the file may not be read. */
function tryRead(pid: number, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8');
  } catch {
    return '';
  }
}
