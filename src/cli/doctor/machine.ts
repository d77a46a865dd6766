// What `ess doctor` looks at where it runs itself: Node.js, limits of the process, and the data directory, if the log or
// the store is embedded. Runs on the main thread of a process of its own, which is to be the machine of the service.

import { constants } from 'node:fs';
import { access, open, readFile, rm, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import type { Config } from '../../config/options.ts';
import { reasonOf } from '../init/patience.ts';
import type { CheckId } from './checks.ts';
import { counted, durationText } from './names.ts';
import type { Task } from './patient.ts';
import { failure, type Line, ok, unknown, warning } from './report.ts';
import { spaceLine } from './space.ts';

/** Sockets to brokers and nodes, files of the log, native modules. */
const ownFiles = 256;
/** libuv's own default. */
const poolDefault = 4;
/** A group commit waits for one: above it ack=log is slow, and far above it clients give up. ms */
const fsyncCalmMs = 50;
const fsyncMaxMs = 1000;
const fsyncs = 5;
/** What one group of small events is like, bytes. */
const fsyncBytes = 4096;

/** What is asked of the machine; tests that cannot have a slow or full disk put their own in. */
export interface Machine {
  readonly checkPlatform: () => Promise<void>;
  /** Of the disk that a path is on. Default: statfs. */
  readonly space?: (path: string) => Promise<{ readonly freeBytes: number; readonly totalBytes: number }>;
  /** Times of a few fsyncs in a folder, ms. Default: measured with a file that is removed again. */
  readonly fsyncTimes?: (folder: string) => Promise<readonly number[]>;
}

export function machineTasks(
  config: Config,
  env: NodeJS.ProcessEnv,
  machine: Machine,
  isEmbedded: { readonly log: boolean; readonly store: boolean },
): Task[] {
  const task = (id: CheckId, run: () => Promise<readonly Line[]>): Task => ({ ids: [id], subject: '', run });
  const tasks = [
    task('platform', () => platformLines(machine)),
    task('file_descriptors', () => fileLines(config)),
  ];
  if (isEmbedded.store && config.role !== 'ingest')
    tasks.push(task('thread_pool', async () => poolLines(config, env)));
  if (isEmbedded.log || isEmbedded.store) {
    tasks.push(task('data_dir', () => dirLines(config.dataDir)));
    tasks.push(task('data_dir_space', () => spaceLines(config.dataDir, machine)));
  }
  if (isEmbedded.log) tasks.push(task('fsync_latency', () => fsyncLines(config.dataDir, machine)));
  return tasks;
}

async function platformLines({ checkPlatform }: Machine): Promise<Line[]> {
  try {
    await checkPlatform();
    return [ok('platform', '', `Node.js ${process.version} on ${process.platform}-${process.arch}`)];
  } catch (error) {
    return [
      failure('platform', '', reasonOf(error), 'install one of the versions of Node.js that are named'),
    ];
  }
}

async function fileLines({ slotsMax, role }: Config): Promise<Line[]> {
  const check = 'file_descriptors';
  let limits: string;
  try {
    limits = await readFile('/proc/self/limits', 'utf8');
  } catch (error) {
    return [unknown(check, '', `this system does not tell: ${reasonOf(error)}`)];
  }
  const text = /^Max open files +(\S+)/m.exec(limits)?.[1] ?? '';
  const limit = text === 'unlimited' ? Number.POSITIVE_INFINITY : Number(text);
  // A sink's process serves probes and reads, but no crowd of clients.
  const slots = role === 'sink' ? 0 : slotsMax;
  const needed = slots + ownFiles;
  const found = `${text} open files here, for ${counted(slots, 'slot')} and ${ownFiles} of its own`;
  if (limit >= needed) return [ok(check, '', found)];
  const mend = `LimitNOFILE=${needed} in the unit of systemd, or ulimit -n ${needed} before the start; or --slots-max ${Math.max(limit - ownFiles, 1)}`;
  return [warning(check, '', found, mend)];
}

function poolLines({ sinks }: Config, env: NodeJS.ProcessEnv): Line[] {
  const check = 'thread_pool';
  const threads = Number(env['UV_THREADPOOL_SIZE'] ?? poolDefault);
  const found = `${counted(threads, 'thread')} for ${counted(sinks, 'sink')} of the embedded store`;
  if (threads >= sinks) return [ok(check, '', found)];
  return [
    warning(check, '', found, `UV_THREADPOOL_SIZE=${sinks + 2} in the environment of ess, before it starts`),
  ];
}

async function dirLines(dataDir: string): Promise<Line[]> {
  const check = 'data_dir';
  if (!(await isThere(dataDir))) {
    return [
      warning(check, dataDir, 'not there', 'ess init (with the same --data-dir), or ess serve: both make it'),
    ];
  }
  try {
    await access(dataDir, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch (error) {
    return [failure(check, dataDir, reasonOf(error), `chown -R of ${dataDir} to the user that runs ess`)];
  }
  return [ok(check, dataDir, (await isThere(join(dataDir, 'format.json'))) ? 'in use' : 'empty')];
}

async function isThere(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

async function spaceLines(dataDir: string, { space = spaceOf }: Machine): Promise<Line[]> {
  const { freeBytes, totalBytes } = await space(dataDir);
  const mend = `make room on it: du -xsh ${join(dataDir, '*')} shows what ess holds of it (ess goes on by itself when there is room); or stop ess, cp -a ${dataDir} to a larger disk, and start it with that --data-dir`;
  return [spaceLine('data_dir_space', dataDir, freeBytes, totalBytes, mend)];
}

async function spaceOf(path: string): Promise<{ freeBytes: number; totalBytes: number }> {
  const { bavail, blocks, bsize } = await statfs(path);
  return { freeBytes: bavail * bsize, totalBytes: blocks * bsize };
}

async function fsyncLines(dataDir: string, { fsyncTimes = measureFsyncs }: Machine): Promise<Line[]> {
  const times = (await fsyncTimes(dataDir)).toSorted((a, b) => a - b);
  const median = times[Math.floor(times.length / 2)] ?? 0;
  const found = `median ${median.toFixed(1)} ms, worst ${(times.at(-1) ?? 0).toFixed(1)} ms of ${times.length}`;
  if (median < fsyncCalmMs) return [ok('fsync_latency', dataDir, found)];
  const mend = `--data-dir on a local SSD, with nothing else on it that writes (iostat -x 1 shows what does)`;
  const line = median < fsyncMaxMs ? warning : failure;
  return [line('fsync_latency', dataDir, `${found}: no ack=log is faster (${durationText(median)})`, mend)];
}

/** Not on this thread, so that a disk that hangs is given up as everything else. Rejects with what the system says. */
async function measureFsyncs(folder: string): Promise<number[]> {
  const path = join(folder, `doctor-${process.pid}.tmp`);
  const file = await open(path, 'wx');
  try {
    const block = Buffer.alloc(fsyncBytes, 1);
    const times: number[] = [];
    for (let i = 0; i < fsyncs; i += 1) {
      const startMs = performance.now();
      await file.write(block);
      await file.datasync();
      times.push(performance.now() - startMs);
    }
    return times;
  } finally {
    await file.close();
    await rm(path, { force: true });
  }
}
