// How long the buckets of a statistic are. Buckets are aligned to the epoch: a bucket of a day is a day in UTC. Runs
// on reader threads.

import { ParameterError } from './parameters.ts';

export const bucketNames = ['auto', '1s', '1m', '5m', '1h', '1d'] as const;
export type BucketName = (typeof bucketNames)[number];

const secondMs = 1000;
const minuteMs = 60 * secondMs;
const hourMs = 60 * minuteMs;
const dayMs = 24 * hourMs;

const namedMs: Readonly<Record<Exclude<BucketName, 'auto'>, number>> = {
  '1s': secondMs,
  '1m': minuteMs,
  '5m': 5 * minuteMs,
  '1h': hourMs,
  '1d': dayMs,
};

/** What `auto` chooses from; each is a multiple of the one before, up to one that holds all of 1900-2299. */
const ladderMs: readonly number[] = [
  secondMs,
  5 * secondMs,
  10 * secondMs,
  30 * secondMs,
  minuteMs,
  5 * minuteMs,
  10 * minuteMs,
  30 * minuteMs,
  hourMs,
  3 * hourMs,
  6 * hourMs,
  12 * hourMs,
  dayMs,
  7 * dayMs,
  28 * dayMs,
  364 * dayMs,
  1456 * dayMs,
  14_560 * dayMs,
  145_600 * dayMs,
];

/** `auto` makes at most so many buckets. */
const autoBucketsMax = 100;
/** Most buckets of one group: at 1s nearly three hours, at 1m a week. */
export const bucketsMax = 10_000;
/** Most buckets of all groups of one answer, about 30 MB of JSON. */
export const answerBucketsMax = 100_000;

/** Buckets that the range [fromMs, toMs) touches. */
function bucketCount(fromMs: number, toMs: number, bucketMs: number): number {
  return toMs <= fromMs ? 0 : Math.floor((toMs - 1) / bucketMs) - Math.floor(fromMs / bucketMs) + 1;
}

/** Length of the buckets, ms. `groupsMax` narrows what auto may choose; a named length with too many is refused. */
export function chooseBucketMs(name: BucketName, fromMs: number, toMs: number, groupsMax: number): number {
  if (name !== 'auto') {
    const count = bucketCount(fromMs, toMs, namedMs[name]);
    if (count <= bucketsMax) return namedMs[name];
    throw new ParameterError(
      'bucket',
      `${name} makes ${count} buckets from ${new Date(fromMs).toISOString()} to ${new Date(toMs).toISOString()}`,
      `at most ${bucketsMax} buckets: a longer bucket, auto, or a narrower range`,
    );
  }
  const most = Math.max(1, Math.min(autoBucketsMax, Math.floor(answerBucketsMax / groupsMax)));
  const fitting = ladderMs.find((ms) => bucketCount(fromMs, toMs, ms) <= most);
  return fitting ?? 145_600 * dayMs;
}

/** Refuses an answer whose groups have too many buckets together. */
export function checkBuckets(bucketsOfAll: number): void {
  if (bucketsOfAll <= answerBucketsMax) return;
  throw new ParameterError(
    'bucket',
    `the groups have ${bucketsOfAll} buckets together`,
    `at most ${answerBucketsMax}: a longer bucket, auto, a smaller limit or a narrower range`,
  );
}
