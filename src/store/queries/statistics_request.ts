// What GET /events/statistics is asked for, checked. Runs on reader threads.

import { type MemberPath, parsePath, splitUnescaped } from './member_path.ts';
import { checkRange, ParameterError, Parameters, quoted } from './parameters.ts';
import { type BucketName, bucketNames } from './time_bucket.ts';

export interface Condition {
  readonly path: MemberPath;
  readonly value: string;
}

export interface StatisticsRequest {
  /** Inclusive, epoch ms; null: the earliest event. */
  readonly fromMs: number | null;
  /** Exclusive, epoch ms; null: now, or just past the latest event if that is later. */
  readonly toMs: number | null;
  /** Which time the range and the buckets are about: the events' own or that of their arrival. */
  readonly clock: 'time' | 'ingest';
  readonly bucket: BucketName;
  readonly groupBy: readonly MemberPath[];
  /** A path to numbers. */
  readonly value: MemberPath | null;
  /** All have to hold. */
  readonly where: readonly Condition[];
  /** Exact numbers of subjects and exact quantiles, at the price of memory for every value. */
  readonly isExact: boolean;
  /** Most groups, largest first. */
  readonly groupsMax: number;
}

const known = ['from', 'to', 'bucket', 'group_by', 'value', 'where', 'clock', 'exact', 'limit'] as const;

const groupsDefault = 100;
const groupsMaxMax = 10_000;
/** Each path into the JSON costs a parse of every event. */
const groupPathsMax = 8;
const conditionsMax = 16;

/** Throws ParameterError. */
export function parseStatisticsRequest(query: string): StatisticsRequest {
  const parameters = new Parameters(query, known);
  const fromMs = parameters.timeMs('from');
  const toMs = parameters.timeMs('to');
  checkRange(fromMs, toMs);
  const value = parameters.text('value');
  return {
    fromMs,
    toMs,
    clock: parameters.choice('clock', ['time', 'ingest']) ?? 'time',
    bucket: parameters.choice('bucket', bucketNames) ?? 'auto',
    groupBy: parseGroupBy(parameters.text('group_by')),
    value: value === null ? null : parsePath('value', value),
    where: parseWhere(parameters.texts('where')),
    isExact: parameters.choice('exact', ['0', '1']) === '1',
    groupsMax: parameters.integer('limit', 1, groupsMaxMax) ?? groupsDefault,
  };
}

function parseGroupBy(text: string | null): MemberPath[] {
  if (text === null) return [];
  const paths = splitUnescaped(text, ',').map((piece) => parsePath('group_by', piece));
  if (paths.length > groupPathsMax)
    throw new ParameterError('group_by', `it has ${paths.length} paths`, `at most ${groupPathsMax} paths`);
  const repeated = paths.find((path, i) => paths.findIndex((other) => other.text === path.text) !== i);
  if (repeated !== undefined)
    throw new ParameterError('group_by', `${quoted(repeated.text)} is there twice`, 'each path once');
  return paths;
}

function parseWhere(texts: readonly string[]): Condition[] {
  if (texts.length > conditionsMax)
    throw new ParameterError('where', `it is given ${texts.length} times`, `at most ${conditionsMax} times`);
  return texts.map((text) => {
    const [path = ''] = splitUnescaped(text, ':');
    if (path.length === text.length)
      throw new ParameterError('where', `${quoted(text)} has no colon`, 'path:value, such as origin:SEA');
    return { path: parsePath('where', path), value: text.slice(path.length + 1) };
  });
}
