// Runs the built service as a user does: its own process, its own data directory, real HTTP.

import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** How long a start or a stop may take on a slow, busy machine, ms. */
const patienceMs = 60_000;

export interface EssOptions {
  /** Flags without the dashes: { port: 0 } is always given. */
  readonly flags?: Readonly<Record<string, string | number>>;
  readonly env?: Readonly<Record<string, string>>;
  /** An existing data directory; a new one in the temporary folder by default. */
  readonly dataDir?: string;
  /** Another ess.js than the one beside this file. */
  readonly entry?: string;
  /** A command that runs another one: ip netns exec NAME. */
  readonly under?: readonly string[];
}

/** A running `ess serve`. */
export class EssProcess {
  readonly dataDir: string;
  /** http://127.0.0.1:port */
  readonly url: string;
  readonly child: ChildProcess;
  /** Everything it wrote. */
  readonly output: string[];

  private constructor(dataDir: string, url: string, child: ChildProcess, output: string[]) {
    this.dataDir = dataDir;
    this.url = url;
    this.child = child;
    this.output = output;
  }

  /** Starts it and waits until it listens. Rejects with its output if it ends before. */
  static async start(options: EssOptions = {}): Promise<EssProcess> {
    const dataDir = options.dataDir ?? mkdtempSync(join(tmpdir(), 'ess-test-'));
    const flags = { port: 0, 'data-dir': dataDir, ...options.flags };
    const argv = Object.entries(flags).flatMap(([name, value]) => [`--${name}`, String(value)]);
    const entry = options.entry ?? fileURLToPath(new URL('./ess.js', import.meta.url));
    const node = [process.execPath, '--enable-source-maps', entry, ...argv];
    const [file = '', ...args] = [...(options.under ?? []), ...node];
    const child = spawn(file, args, {
      env: { ...process.env, ...options.env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const output: string[] = [];
    const url = await new Promise<string>((resolve, reject) => {
      const timer = setTimeout(() => {
        child.kill('SIGKILL');
        reject(new Error(`ess did not start within ${patienceMs} ms:\n${output.join('')}`));
      }, patienceMs);
      const onOutput = (chunk: Buffer): void => {
        output.push(chunk.toString());
        const found = /"url":"(http:[^"]+)"/.exec(output.join(''));
        if (found?.[1] !== undefined) {
          clearTimeout(timer);
          resolve(found[1]);
        }
      };
      child.stdout.on('data', onOutput);
      child.stderr.on('data', onOutput);
      child.once('exit', (code, signal) => {
        clearTimeout(timer);
        reject(new Error(`ess ended with ${code ?? signal}:\n${output.join('')}`));
      });
    });
    return new EssProcess(dataDir, url, child, output);
  }

  get isRunning(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  /** Sends a signal and waits for the end; gives the exit code, or the signal that ended it. */
  async end(signal: 'SIGTERM' | 'SIGINT' | 'SIGKILL'): Promise<number | NodeJS.Signals | null> {
    if (this.isRunning) {
      const ended = this.ended();
      this.child.kill(signal);
      await ended;
    }
    return this.child.exitCode ?? this.child.signalCode;
  }

  /** Settles when it has ended, by whatever cause. */
  async ended(): Promise<number | NodeJS.Signals | null> {
    if (this.isRunning) {
      await new Promise<void>((resolve, reject) => {
        const timer = setTimeout(() => {
          this.child.kill('SIGKILL');
          reject(new Error(`ess did not end within ${patienceMs} ms:\n${this.output.join('').slice(-4000)}`));
        }, patienceMs);
        this.child.once('exit', () => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
    return this.child.exitCode ?? this.child.signalCode;
  }

  /** Kills what still runs and removes the data directory. */
  async dispose(): Promise<void> {
    await this.end('SIGKILL');
    rmSync(this.dataDir, { recursive: true, force: true });
  }

  async getJson<T>(path: string): Promise<T> {
    const response = await fetch(`${this.url}${path}`);
    return (await response.json()) as T;
  }

  post(
    body: string | Uint8Array,
    query = '',
    contentType = 'application/json',
    headers: Readonly<Record<string, string>> = {},
  ): Promise<Response> {
    const init = { method: 'POST', body, headers: { 'content-type': contentType, ...headers } };
    return fetch(`${this.url}/events/${query}`, init);
  }

  /** Waits until every record of the log is in the store, or throws after the time given (ms). */
  async drained(waitMs = patienceMs): Promise<StatsJson> {
    const untilMs = Date.now() + waitMs;
    for (;;) {
      const stats = await this.getJson<StatsJson>('/stats');
      if (stats.conservation.in_flight === 0 && stats.conservation.memory_pending === 0) return stats;
      if (Date.now() > untilMs)
        throw new Error(`not drained: ${JSON.stringify(stats.conservation)} ${stats.reasons}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

/** The part of /stats that tests look at. */
export interface StatsJson {
  readonly epoch: string;
  readonly status: string;
  readonly reasons: readonly string[];
  readonly troubles: readonly { readonly kind: string; readonly text: string; readonly help: string }[];
  readonly stages: Readonly<
    Record<string, { readonly count: number; readonly p99_ms: number; readonly hdr: string }>
  >;
  readonly conservation: {
    readonly accepted: number;
    readonly stored: number;
    readonly duplicates: number;
    readonly parked: number;
    readonly in_flight: number;
    readonly exact: boolean;
    readonly memory_pending: number;
  };
  readonly lag: { readonly events: number; readonly seconds: number };
  readonly slots: {
    readonly used: number;
    readonly store_used: number;
    readonly max: number;
    readonly pending_bytes: number;
  };
  readonly counters: Readonly<Record<string, number>>;
  readonly partitions: readonly {
    readonly partition: number;
    readonly end: number;
    readonly committed: number;
    readonly stored: number;
    readonly owner: string | null;
  }[];
  readonly threads: readonly { readonly name: string; readonly alive: boolean; readonly restarts: number }[];
}
