// Fault points: places inside critical windows where a test makes the process die as if by `kill -9`, or one worker
// thread die of an error. They are compiled in by `build.mjs --test` only; in what users run they do nothing.

import { EssError } from './errors.ts';

const plan = __FAULTS__ ? /^([a-z_.]+):(\d+)(:throw)?$/.exec(process.env['ESS_FAULT'] ?? '') : null;
let left = plan === null ? 0 : Number(plan[2]);

/**
 * At the n-th passing of this point in this thread kills the whole process, when ESS_FAULT=`name:n` and this is a test
 * build; with ESS_FAULT=`name:n:throw` only the thread dies, by an error that nobody catches.
 */
export function faultPoint(name: string): void {
  if (!__FAULTS__ || plan === null || plan[1] !== name) return;
  left -= 1;
  if (left !== 0) return;
  if (plan[3] === undefined) process.kill(process.pid, 'SIGKILL');
  // From a timer, so that no catch of the code under test can turn it into something milder.
  setImmediate(() => {
    throw new EssError('internal', `fault point ${name}`);
  });
}
