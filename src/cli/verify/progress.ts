// Shows how far `ess verify` has come: a bar on standard error, on a terminal only, and only if it takes a while.

import type { Writable } from 'node:stream';
import type { SingleBar } from 'cli-progress';

/** Before that nothing is shown, ms. */
const quietMs = 1_000;

export class Progress {
  readonly #stderr: Writable;
  readonly #timer: NodeJS.Timeout;
  #bar: SingleBar | null = null;
  #done = 0;
  #total = 1;
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
    this.#bar?.update(done);
  };

  stop(): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
    this.#bar?.stop();
  }

  async #begin(): Promise<void> {
    // Imported here because the bundle would load it at the start of every command.
    const { default: cliProgress } = await import('cli-progress');
    if (this.#isOver) return;
    this.#bar = new cliProgress.SingleBar({
      format: '{bar} {percentage}% | {value} of {total} offsets',
      stream: this.#stderr,
      hideCursor: true,
      gracefulExit: false,
      barCompleteChar: '#',
      barIncompleteChar: '.',
      clearOnComplete: true,
    });
    this.#bar.start(this.#total, this.#done);
  }
}
