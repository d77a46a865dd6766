// The time that `ess doctor` has: one deadline for everything, so that whatever hangs costs only the checks that ask it.
// Runs on the main thread of a process of its own.

import { performance } from 'node:perf_hooks';
import { reasonOf } from '../init/patience.ts';
import type { CheckId } from './checks.ts';
import { type Line, unknown } from './report.ts';

/** One question to one dependency, ms: a good share of the whole, so that a second one can be asked after it. */
const questionShare = 0.3;
const questionMsMax = 5_000;

/** One piece of work: the checks that it answers, and how. */
export interface Task {
  readonly ids: readonly CheckId[];
  readonly subject: string;
  readonly run: () => Promise<readonly Line[]>;
}

export class Deadline {
  readonly #endMs: number;
  readonly waitMs: number;

  constructor(waitMs: number) {
    this.waitMs = waitMs;
    this.#endMs = performance.now() + waitMs;
  }

  /** For one question, ms. */
  get questionMs(): number {
    return Math.min(this.waitMs * questionShare, questionMsMax);
  }

  /**
   * The lines of a task. Never rejects: where the task fails, or is not done when the time is over, each of its checks
   * is unknown, with the reason. A task that is late goes on, unheard.
   */
  async settle({ ids, subject, run }: Task): Promise<readonly Line[]> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<readonly Line[]>((resolve) => {
      const reason = `no answer within ${this.waitMs} ms (--wait-ms)`;
      timer = setTimeout(
        () => resolve(ids.map((id) => unknown(id, subject, reason))),
        Math.max(this.#endMs - performance.now(), 0),
      );
    });
    try {
      return await Promise.race([run(), late]);
    } catch (error) {
      return ids.map((id) => unknown(id, subject, reasonOf(error)));
    } finally {
      clearTimeout(timer);
    }
  }
}
