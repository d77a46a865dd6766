// Shows how far `ess verify` has come: a bar on standard error, on a terminal only, and only if it takes a while.

import type { Writable } from 'node:stream';
import type { SingleBar } from 'cli-progress';
import { startBar } from '../bar.ts';

/** Before that nothing is shown, ms. */
const quietMs = 1_000;

export class Progress {
  readonly #stderr: Writable;
  readonly #timer: NodeJS.Timeout;
  #bar: SingleBar | null = null;
  #done = 0;
  /** 0: not known yet. */
  #total = 0;
  #isOver = false;

  /** `afterMs`: before that nothing is shown. */
  constructor(stderr: Writable, afterMs = quietMs) {
    this.#stderr = stderr;
    this.#timer = setTimeout(() => void this.#begin(), afterMs);
  }

  readonly onProgress = (done: number, total: number): void => {
    this.#done = done;
    this.#total = total;
    this.#bar?.setTotal(total);
    this.#bar?.update(done, { text: `${done} of ${total} offsets` });
  };

  stop(): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
    this.#bar?.stop();
  }

  async #begin(): Promise<void> {
    const bar = await startBar(this.#stderr, {
      format: '{bar} {percentage}% | {text}',
      total: Math.max(this.#total, 1),
      done: this.#done,
      text: this.#total === 0 ? 'waiting for the first answer' : `${this.#done} of ${this.#total} offsets`,
      isClearedAtEnd: true,
    });
    if (this.#isOver) bar.stop();
    else this.#bar = bar;
  }
}
