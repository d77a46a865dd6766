// What the threads of the stats tests are told to do, and the way to run them.
import { Worker } from 'node:worker_threads';

export type TortureTask =
  | { readonly type: 'record'; readonly seed: number; readonly times: number }
  | { readonly type: 'count'; readonly shared: SharedArrayBuffer; readonly times: number }
  | {
      readonly type: 'raise';
      readonly shared: SharedArrayBuffer;
      readonly times: number;
      readonly thread: number;
      readonly threads: number;
    };

export const tortureCounterNames = ['one', 'many', 'level'] as const;

/** The same durations for the same seed: log-uniform over 1 us .. about 1 h. */
export function* tortureValues(seed: number, times: number): Generator<number> {
  let state = seed >>> 0;
  for (let i = 0; i < times; i += 1) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    yield Math.floor(2 ** ((state / 2 ** 32) * 31.7));
  }
}

/** Runs a thread to its end and gives its answer. */
export function runTask(task: TortureTask): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL('./stats_torture.worker.js', import.meta.url), { workerData: task });
    let answer: unknown;
    worker.on('message', (message: unknown) => {
      answer = message;
    });
    worker.on('error', reject);
    worker.on('exit', () => resolve(answer));
  });
}
