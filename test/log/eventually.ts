// Waiting for a condition, for tests of the log: long enough for a slow machine, without asserting any time.

import { setTimeout as sleep } from 'node:timers/promises';

const attemptsMax = 6000;

/** Tries until it holds; throws after about half a minute. */
export async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  for (let attempt = 0; attempt < attemptsMax; attempt += 1) {
    if (await holds()) return;
    await sleep(5);
  }
  throw new Error('the condition never held');
}
