// One monotonic clock for all threads of the process. performance.now() alone counts from each thread's own start.

const originUs = Number(process.hrtime.bigint() / 1000n) - performance.now() * 1000;

/** Microseconds on a clock that is the same in every thread of this process and never goes back. */
export function nowUs(): number {
  return originUs + performance.now() * 1000;
}
