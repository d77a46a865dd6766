// Starting log_actor.worker.ts as a thread or as a process, and hearing its reports.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import type { ActorReport, ActorTask } from './log_actor.worker.ts';

const actorUrl = new URL('./log_actor.worker.js', import.meta.url);

export interface ActorProcess {
  readonly child: ChildProcess;
  /** Every report so far. */
  readonly reports: ActorReport[];
  /** Settles when the process has ended and all of its reports were read. */
  readonly ended: Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>;
}

/** Runs a task in another process. `shellPrefix` is run by the same shell before, as in `ulimit -f 100`. */
export function actorProcess(
  task: ActorTask,
  settings: { readonly env?: NodeJS.ProcessEnv; readonly shellPrefix?: string } = {},
): ActorProcess {
  const { env = {}, shellPrefix } = settings;
  const program = [process.execPath, '--enable-source-maps', fileURLToPath(actorUrl), JSON.stringify(task)];
  const [command, ...args] =
    shellPrefix === undefined ? program : ['sh', '-c', `${shellPrefix}; exec "$@"`, 'sh', ...program];
  const child = spawn(command ?? '', args, {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const reports: ActorReport[] = [];
  const lines = createInterface({ input: child.stdout });
  lines.on('line', (line) => {
    // A process that is killed may leave half a line.
    if (line.endsWith('}')) reports.push(JSON.parse(line));
  });
  const ended = Promise.all([once(child, 'exit'), once(lines, 'close')]).then(([[code, signal]]) => ({
    code,
    signal,
  }));
  return { child, reports, ended };
}

export interface ActorThread {
  readonly worker: Worker;
  /** Every report so far. */
  readonly reports: ActorReport[];
  /** Settles when the thread has ended, rejects if it failed. */
  readonly ended: Promise<void>;
}

/** Runs a task in another thread. */
export function actorThread(task: ActorTask): ActorThread {
  const worker = new Worker(actorUrl, { workerData: task });
  const reports: ActorReport[] = [];
  worker.on('message', (message: ActorReport) => reports.push(message));
  const ended = new Promise<void>((resolve, reject) => {
    worker.on('error', reject);
    worker.on('exit', () => resolve());
  });
  return { worker, reports, ended };
}
