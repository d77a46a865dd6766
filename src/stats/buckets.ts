// The one shape of every histogram here: which bucket counts which microseconds. It is HdrHistogram's shape for
// 1 us .. 1 h with 3 significant digits, so that our counts are its counts, index for index. Any thread may import it.
//
//   bucket        0 .. 2047   2048 .. 3071    3072 .. 4095    ...   22528 .. 23551
//   microseconds  0 .. 2047   2048 .. 4095    4096 .. 8191    ...   2^31 .. 2^32 - 1
//   width         1           2               4               ...   2^21
//
// Why not record into hdr-histogram-js itself: its recordValue took 150-190 ns (packed: 760 ns) where this index takes
// 10, and autoResize allocates while recording. Why 3 digits: with 2, a tally would take 26 KiB instead of 184, but
// percentiles would be off by up to 0.8 %; the memory (stated in recorder.ts) is small beside the rings.

/** Shortest time that is counted, microseconds; shorter and impossible ones are counted as this. */
export const lowestMicroseconds = 1;

/** Longest time that is counted, microseconds: one hour; longer ones are counted as this. */
export const highestMicroseconds = 3_600_000_000;

/** Significant decimal digits that a bucket keeps. A bucket is at most 1/1024 of its values wide. */
export const significantDigits = 3;

/** Buckets in a histogram. */
export const bucketCount = 23_552;

const halfMagnitude = 10;
const half = 1 << halfMagnitude;
const full = half * 2;

/** The bucket of a whole number of microseconds within 0 .. 2^32 - 1. */
export function bucketOf(microseconds: number): number {
  const shift = microseconds < full ? 0 : 31 - halfMagnitude - Math.clz32(microseconds);
  return shift * half + (microseconds >>> shift);
}

/** Width of a bucket in microseconds. */
function widthOf(bucket: number): number {
  return bucket < full ? 1 : 2 ** ((bucket >>> halfMagnitude) - 1);
}

/** Shortest time counted in this bucket, microseconds. */
export function lowestOf(bucket: number): number {
  return bucket < full ? bucket : ((bucket & (half - 1)) + half) * widthOf(bucket);
}

/** Longest time counted in this bucket, microseconds. */
export function highestOf(bucket: number): number {
  return lowestOf(bucket) + widthOf(bucket) - 1;
}

/** Rounds to whole microseconds and bounds to what is counted; NaN becomes the lowest. */
export function clampMicroseconds(microseconds: number): number {
  if (!(microseconds > lowestMicroseconds)) return lowestMicroseconds;
  return microseconds < highestMicroseconds ? (microseconds + 0.5) >>> 0 : highestMicroseconds;
}
