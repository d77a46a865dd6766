// A command line that bash runs, with all the processes that it starts: for the tests of this folder.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';

/** How long one command, or what a command waits for, may take on a slow, busy machine, ms. */
export const runMsMax = 180_000;

export interface Ended {
  readonly code: number | null;
  /** Standard output. */
  readonly out: string;
  /** Standard output and standard error, as they came. */
  readonly output: string;
}

/** A process group of its own, since a shell and npm stand between us and the process that is meant. */
export class Running {
  readonly #child: ChildProcess;
  readonly #closed: Promise<number | null>;
  #out = '';
  output = '';

  constructor(command: string, folder: string, env: NodeJS.ProcessEnv) {
    this.#child = spawn('bash', ['-c', command], {
      cwd: folder,
      env,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.on('data', (chunk: Buffer) => {
        this.output += chunk.toString();
      });
    }
    this.#child.stdout?.on('data', (chunk: Buffer) => {
      this.#out += chunk.toString();
    });
    this.#closed = new Promise((settle) => this.#child.once('close', settle));
  }

  get isOver(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  signal(signal: NodeJS.Signals): void {
    const { pid } = this.#child;
    if (pid === undefined) return;
    try {
      process.kill(-pid, signal);
    } catch {
      // All of the group have ended.
    }
  }

  /** Waits for the end, of those that it started, too; kills what takes too long. Gives the exit code. */
  async ended(): Promise<Ended> {
    const timer = setTimeout(() => this.signal('SIGKILL'), runMsMax);
    const code = await this.#closed;
    clearTimeout(timer);
    return { code, out: this.#out, output: this.output };
  }

  /** The first group of the expression in its output, as soon as it is there. */
  async says(expected: RegExp): Promise<string> {
    const untilMs = Date.now() + runMsMax;
    for (;;) {
      const found = expected.exec(this.output);
      if (found !== null) return found[1] ?? '';
      assert.ok(!this.isOver && Date.now() < untilMs, `${expected} was not said:\n${this.output}`);
      await sleep(50);
    }
  }
}
