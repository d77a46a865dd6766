// Trying again, for as long as it takes: what a partition's steps share when a dependency does not answer. Runs on
// sink threads. Everything given to it is safe to repeat.

import { EssError } from '../errors.ts';
import { mendingCommand } from '../store/failure.ts';
import { StoreError } from '../store/store.ts';
import { retryPauseMsMax, retryPauseMsMin } from './failure.ts';

/** Thrown inside when the partition stops while something is being tried again: the intent stays for the next owner. */
export class Stopped extends Error {}

/** ClickHouse's messages may hold half a block. */
const messageCharsMax = 300;

/** How often a pause looks whether it should end, ms. */
const pauseStepMs = 100;

export class Patience {
  readonly #onTrouble: (text: string) => void;
  #isOver = false;

  /** `onTrouble` hears of every failure that is tried again. */
  constructor(onTrouble: (text: string) => void) {
    this.#onTrouble = onTrouble;
  }

  /** From now on pauses reject with Stopped, and so does what would be tried again. */
  end(): void {
    this.#isOver = true;
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /** Repeats until it works; rejects with Stopped at the end, and with what cannot be cured by trying. */
  async untilAnswered<T>(work: () => Promise<T>): Promise<T> {
    let pauseMs = retryPauseMsMin;
    for (;;) {
      try {
        return await work();
      } catch (error) {
        if (error instanceof Stopped || (error instanceof EssError && error.code === 'internal')) throw error;
        this.#onTrouble(describe(error));
        await this.pause(pauseMs);
        pauseMs = Math.min(pauseMs * 2, retryPauseMsMax);
      }
    }
  }

  async pause(ms: number): Promise<void> {
    const untilMs = Date.now() + ms;
    while (Date.now() < untilMs) {
      if (this.#isOver) throw new Stopped();
      await sleep(Math.min(pauseStepMs, untilMs - Date.now()));
    }
    if (this.#isOver) throw new Stopped();
  }
}

/** An error in one line, for conditions. */
export function describe(error: unknown): string {
  if (!(error instanceof StoreError)) return error instanceof Error ? error.message : String(error);
  // 0: no answer of ClickHouse, or words of our own.
  const text = error.message.slice(0, messageCharsMax);
  const mend = mendingCommand(error);
  return `${error.code === 0 ? '' : `ClickHouse error ${error.code}: `}${text}${mend === null ? '' : `; this mends it: ${mend}`}`;
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, Math.max(0, ms)));
}
