// Fault points: places inside critical windows where a test makes the process die as if by `kill -9`.
// They are compiled in by `build.mjs --test` only; in what users run, `faultPoint` is empty.

const plan = __FAULTS__ ? /^([a-z_.]+):(\d+)$/.exec(process.env['ESS_FAULT'] ?? '') : null;
let left = plan === null ? 0 : Number(plan[2]);

/** Kills the whole process at the n-th passing of this point, when ESS_FAULT=`name:n` and this is a test build. */
export function faultPoint(name: string): void {
  if (!__FAULTS__ || plan === null || plan[1] !== name) return;
  left -= 1;
  if (left === 0) process.kill(process.pid, 'SIGKILL');
}
