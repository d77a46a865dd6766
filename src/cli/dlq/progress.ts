// Shows how far `ess dlq` has come with many letters, on standard error: a bar on a terminal, a line every few seconds
// elsewhere. Runs on the main thread of a command's process.

import type { Writable } from 'node:stream';
import { startBar } from '../bar.ts';

/** Between two lines where there is no terminal. */
const lineIntervalMs = 5000;

export interface Progress {
  update(done: number): void;
  stop(): void;
}

/** `total`: letters. Nothing is shown for so few that they are done at once. */
export async function startProgress(
  stderr: Writable & { readonly isTTY?: boolean },
  total: number,
  isShown: boolean,
): Promise<Progress> {
  if (!isShown) return { update: () => {}, stop: () => {} };
  if (stderr.isTTY !== true) {
    let saidMs = Date.now();
    const update = (done: number): void => {
      if (Date.now() - saidMs < lineIntervalMs) return;
      saidMs = Date.now();
      stderr.write(`${done} of ${total} letters\n`);
    };
    return { update, stop: () => {} };
  }
  const bar = await startBar(stderr, { format: '{bar} {percentage}% | {value} of {total} letters', total });
  return { update: (done) => bar.update(done), stop: () => bar.stop() };
}
