// An `ess` to be measured, in a new data directory that goes away with it.

import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { EssProcess, type StatsJson } from '../../test/support/ess_process.ts';
import type { BenchOptions } from './options.ts';

const services = new Set<EssProcess>();
const dataDirs = new Set<string>();

// However the bench ends, an interrupt included: no service goes on alone, and no gigabytes stay behind.
process.once('exit', () => {
  for (const service of services) service.child.kill('SIGKILL');
  for (const dir of dataDirs) rmSync(dir, { recursive: true, force: true });
});

export function newDataDir(options: BenchOptions<string>): string {
  const dir = mkdtempSync(join(options.dir, 'ess-bench-'));
  dataDirs.add(dir);
  return dir;
}

/** Starts `ess --role ROLE` with the bench's further flags; `endService` ends it. */
export async function startService(
  role: 'all' | 'ingest' | 'sink',
  options: BenchOptions<string>,
  flags: Readonly<Record<string, string | number>> = {},
  dataDir: string = newDataDir(options),
): Promise<EssProcess> {
  const service = await EssProcess.start({ flags: { role, ...flags, ...options.ess }, dataDir });
  services.add(service);
  return service;
}

export function pidOf(service: EssProcess): number {
  return service.child.pid ?? -1;
}

/** Stops it in order, so that nothing stays in memory files either, and removes its data. */
export async function endService(service: EssProcess): Promise<void> {
  try {
    await service.end('SIGTERM');
  } finally {
    await service.dispose();
    services.delete(service);
  }
}

/** How often the store's progress is looked at, ms: the resolution of a drain's end. */
const lookEveryMs = 20;

/** Waits until everything in the log is stored; gives the last /stats, or null when the time is over. */
export async function untilStored(service: EssProcess, secondsMax: number): Promise<StatsJson | null> {
  const untilMs = Date.now() + secondsMax * 1000;
  for (;;) {
    const stats = await service.getJson<StatsJson>('/stats?window=10s');
    if (stats.conservation.in_flight === 0 && stats.conservation.memory_pending === 0) return stats;
    if (Date.now() > untilMs) return null;
    await new Promise((resolve) => setTimeout(resolve, lookEveryMs));
  }
}
