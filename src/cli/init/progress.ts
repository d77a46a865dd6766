// Shows what `ess init` waits for, on standard error: a bar on a terminal, elsewhere a line when something changes and
// one every few seconds. Shows nothing as long as nothing is waited for.

import { performance } from 'node:perf_hooks';
import type { Writable } from 'node:stream';
import type { SingleBar } from 'cli-progress';
import { startBar } from '../bar.ts';
import type { OnWaiting } from './patience.ts';

/** Between two lines where there is no terminal, ms. */
const lineIntervalMs = 10_000;
const barIntervalMs = 500;

export class Progress {
  readonly #stderr: Writable & { readonly isTTY?: boolean };
  readonly #waitMs: number;
  readonly #startedMs = performance.now();
  /** Why each is not there yet. */
  readonly #waiting = new Map<string, string>();
  #timer: NodeJS.Timeout | null = null;
  #bar: SingleBar | null = null;
  #isOver = false;

  constructor(stderr: Writable & { readonly isTTY?: boolean }, waitMs: number) {
    this.#stderr = stderr;
    this.#waitMs = waitMs;
  }

  readonly onWaiting: OnWaiting = (what, reason) => {
    if (reason === null) {
      this.#waiting.delete(what);
      return;
    }
    const isNews = this.#waiting.get(what) !== reason;
    this.#waiting.set(what, reason);
    if (this.#stderr.isTTY === true) this.#showBar();
    else if (isNews) this.#writeLine(`waiting for ${what}: ${reason}`);
    const intervalMs = this.#stderr.isTTY === true ? barIntervalMs : lineIntervalMs;
    this.#timer ??= setInterval(() => this.#show(), intervalMs);
  };

  stop(): void {
    this.#isOver = true;
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#bar?.stop();
  }

  #show(): void {
    if (this.#bar !== null) this.#bar.update(this.#elapsedMs(), { text: this.#names() });
    else if (this.#waiting.size > 0 && this.#stderr.isTTY !== true)
      this.#writeLine(`still waiting for ${this.#names()}`);
  }

  #names(): string {
    return [...this.#waiting.keys()].join(', ');
  }

  #writeLine(text: string): void {
    const seconds = (ms: number): number => Math.round(ms / 1000);
    this.#stderr.write(`${seconds(this.#elapsedMs())} of ${seconds(this.#waitMs)} s: ${text}\n`);
  }

  #showBar(): void {
    if (this.#bar !== null || this.#timer !== null) return;
    const look = {
      format: '{bar} waiting for {text}',
      total: this.#waitMs,
      done: this.#elapsedMs(),
      text: this.#names(),
      isClearedAtEnd: true,
    };
    void startBar(this.#stderr, look).then((bar) => {
      if (this.#isOver) bar.stop();
      else this.#bar = bar;
    });
  }

  #elapsedMs(): number {
    return Math.min(performance.now() - this.#startedMs, this.#waitMs);
  }
}
