// What a figure depends on beside our code: the machine, its load, the disk, the versions.

import { execFileSync } from 'node:child_process';
import { statfsSync } from 'node:fs';
import { availableParallelism, cpus, loadavg, release, totalmem } from 'node:os';

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memory_gib: number;
  readonly kernel: string;
  readonly node: string;
  /** 1, 5 and 15 minutes, when the bench began: anything near the number of cores spoils the figures. */
  readonly load_average: readonly number[];
  /** File system of the data directories; on tmpfs an fsync costs nothing. */
  readonly data_on: string;
  /** Commit of the sources, with "+" if they were changed since; null where git does not say. */
  readonly commit: string | null;
}

const fileSystems: Readonly<Record<number, string>> = {
  61267: 'ext4',
  16914836: 'tmpfs',
  1481003842: 'xfs',
  2435016766: 'btrfs',
  2035054128: 'overlayfs',
};

/** Looked at before a bench starts anything. */
export function describeMachine(dataDir: string): Machine {
  const { type } = statfsSync(dataDir);
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: availableParallelism(),
    memory_gib: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    node: process.version,
    load_average: loadavg().map((load) => Math.round(load * 100) / 100),
    data_on: fileSystems[type] ?? `file system ${type}`,
    commit: commitNow(),
  };
}

function commitNow(): string | null {
  const git = (...args: string[]): string =>
    execFileSync('git', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  try {
    return git('rev-parse', '--short', 'HEAD') + (git('status', '--porcelain') === '' ? '' : '+');
  } catch {
    return null;
  }
}
