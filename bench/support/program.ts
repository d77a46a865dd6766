// A server that is not ours, as a process to be measured: it is started, waited for until it answers, and ended with
// everything that it started itself.

import { type ChildProcess, spawn } from 'node:child_process';
import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { processTree } from './process_usage.ts';

/** How long a start or an end may take on a slow, busy machine, ms. */
const patienceMs = 60_000;
const lookEveryMs = 50;
/** Of its output, for failure messages. */
const outputCharactersMax = 8000;

export interface ProgramOptions {
  readonly file: string;
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** @default the bench's own */
  readonly cwd?: string;
}

export class Program {
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;
  #output = '';
  #failure: Error | null = null;

  constructor({ file, argv, env, cwd = process.cwd() }: ProgramOptions) {
    this.#child = spawn(file, argv, {
      cwd,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.setEncoding('utf8').on('data', (chunk: string) => {
        this.#output = (this.#output + chunk).slice(-outputCharactersMax);
      });
    }
    this.#ended = new Promise((resolve) => {
      this.#child.once('error', (error) => {
        this.#failure = error;
        resolve();
      });
      this.#child.once('exit', (code, signal) => {
        this.#failure = new Error(`${file} ended with ${code ?? signal}`);
        resolve();
      });
    });
  }

  /** What it wrote last. */
  get output(): string {
    return this.#output;
  }

  /** Its own process and those that it started. */
  get pids(): number[] {
    return this.#failure === null && this.#child.pid !== undefined ? processTree(this.#child.pid) : [];
  }

  /** Waits until `isReady` gives something, and gives that; rejects with the output if the program ends before. */
  async until<T>(isReady: () => Promise<T | null> | T | null, waitMs = patienceMs): Promise<T> {
    const untilMs = Date.now() + waitMs;
    for (;;) {
      const ready = await isReady();
      if (ready !== null) return ready;
      if (this.#failure !== null) throw new Error(`${this.#failure.message}:\n${this.#output}`);
      if (Date.now() > untilMs)
        throw new Error(`${this.#child.spawnfile} was waited for in vain:\n${this.#output}`);
      await sleep(lookEveryMs);
    }
  }

  /** Waits until the address answers at all, whatever it says. */
  async untilAnswers(url: string): Promise<void> {
    await this.until(async () => {
      try {
        await (await fetch(url)).arrayBuffer();
        return true;
      } catch {
        return null;
      }
    });
  }

  /** SIGTERM, and SIGKILL for what is left after a while. */
  async end(): Promise<void> {
    const pids = this.pids;
    const timer = setTimeout(() => {
      for (const pid of pids) if (processTree(pid).length > 0) process.kill(pid, 'SIGKILL');
    }, patienceMs);
    this.#child.kill('SIGTERM');
    await this.#ended;
    clearTimeout(timer);
  }
}

/**
 * Below the range from which Linux takes the local ports of outgoing connections: a load with thousands of them would
 * else take the port between our look and the program's start.
 */
const ports = { first: 20_000, count: 12_000 } as const;

/** A port of the loopback address that is free now. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = ports.first + Math.floor(Math.random() * ports.count);
    const server = createServer();
    const isFree = await new Promise<boolean>((settle) => {
      server.once('error', () => settle(false));
      server.listen(port, '127.0.0.1', () => settle(true));
    });
    if (!isFree) continue;
    await new Promise((settle) => server.close(settle));
    return port;
  }
}
