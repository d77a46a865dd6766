// GET /events/statistics: counts, delays and values of events, in all, by group and by bucket of time. Runs on reader
// threads. The embedded store answers with one statement (statistics_statement.ts); the answers of several shards are
// put together in sharded_statistics.ts.

import { timeMsMax } from '../../event/time.ts';
import { Bindings } from './bindings.ts';
import type { FanOut } from './fan_out.ts';
import type { ReadSession } from './read_session.ts';
import { readShardedCells } from './sharded_statistics.ts';
import type { StatisticsRequest } from './statistics_request.ts';
import { groupsStatement, type StatisticsScope } from './statistics_statement.ts';
import {
  type CellRow,
  emptyCell,
  type Integer,
  type StatisticsCells,
  type Summary,
  summarize,
} from './summary.ts';
import { checkBuckets, chooseBucketMs } from './time_bucket.ts';

export interface Bucket extends Summary {
  /** Start, epoch ms, a multiple of the length; it may lie before the range. */
  readonly tMs: number;
}

export interface Group extends Summary {
  /** Values of the group_by paths, in their order. */
  readonly values: readonly (string | null)[];
  /** In order of time; buckets without events are left out. */
  readonly buckets: readonly Bucket[];
}

export interface Statistics {
  /** The range that was used, epoch ms. */
  readonly fromMs: number;
  readonly toMs: number;
  readonly bucketMs: number;
  readonly total: Summary;
  /** Largest first, then by their values. */
  readonly groups: readonly Group[];
  /**
   * A shard has more groups than it names, and a group that is left out may be as large as the smallest one that is
   * not. The numbers of those that are there are right all the same.
   */
  readonly isGroupChoiceUncertain: boolean;
}

interface GroupRow {
  readonly is_total: Integer;
  readonly group_values: readonly (string | null)[];
  readonly summary: CellRow;
  readonly cells: readonly CellRow[];
  readonly cells_of_all: Integer;
}

/**
 * Rejects with ParameterError, if the answer would have too many buckets, or as `FanOut.each`. Shards that did not
 * answer are left out; `fanOut.missing` names them.
 */
export async function readStatistics(
  fanOut: FanOut,
  request: StatisticsRequest,
  nowMs: number,
): Promise<Statistics> {
  const { fromMs, toMs } = await findRange(fanOut, request, nowMs);
  const isGrouped = request.groupBy.length > 0;
  const bucketMs = chooseBucketMs(request.bucket, fromMs, toMs, isGrouped ? request.groupsMax : 1);
  const rangeMs = toMs - fromMs;
  const hasValue = request.value !== null;
  const range = { fromMs, toMs, bucketMs };
  const nothing = {
    ...range,
    total: summarize(emptyCell, rangeMs, hasValue),
    groups: [],
    isGroupChoiceUncertain: false,
  };
  if (rangeMs <= 0) return nothing;

  const scope: StatisticsScope = { request, ...range };
  const { single } = fanOut;
  const { total, groups, isGroupChoiceUncertain } =
    single === null
      ? await readShardedCells(fanOut, scope)
      : ((await fanOut.each((session) => readCells(session, scope)))[0]?.answer ?? noCells);
  if (Number(total[1]) === 0) return nothing;
  return {
    ...range,
    total: summarize(total, rangeMs, hasValue),
    groups: groups.map(({ values, summary, cells }) => ({
      values,
      ...summarize(summary, rangeMs, hasValue),
      buckets: [...cells]
        .sort((a, b) => Number(a[0]) - Number(b[0]))
        .map((cell) => {
          const tMs = Number(cell[0]);
          const coveredMs = Math.min(tMs + bucketMs, toMs) - Math.max(tMs, fromMs);
          return { tMs, ...summarize(cell, coveredMs, hasValue) };
        }),
    })),
    isGroupChoiceUncertain,
  };
}

const noCells: StatisticsCells = { total: emptyCell, groups: [], isGroupChoiceUncertain: false };

/** The numbers of a store that has all events. */
async function readCells(session: ReadSession, scope: StatisticsScope): Promise<StatisticsCells> {
  const bindings = new Bindings();
  const rows = await session.rows<GroupRow>(groupsStatement(scope, bindings), bindings);
  const first = rows[0];
  if (first === undefined) return noCells;
  const isGrouped = scope.request.groupBy.length > 0;
  if (isGrouped) checkBuckets(Number(first.cells_of_all));
  return {
    total: first.summary,
    groups: rows
      .filter((row) => !isGrouped || Number(row.is_total) === 0)
      .map(({ group_values, summary, cells }) => ({ values: group_values, summary, cells })),
    isGroupChoiceUncertain: false,
  };
}

/** The range that is meant; empty (from = to) where there are no events to begin with. */
async function findRange(
  fanOut: FanOut,
  request: StatisticsRequest,
  nowMs: number,
): Promise<{ fromMs: number; toMs: number }> {
  if (request.fromMs !== null && request.toMs !== null) return { fromMs: request.fromMs, toMs: request.toMs };
  // The minima and maxima of hour and ingest_time are known for each part; only one hour's times are read.
  const statement =
    request.clock === 'ingest'
      ? `SELECT toUnixTimestamp64Milli(minOrNull(ingest_time)) AS earliest,
                toUnixTimestamp64Milli(maxOrNull(ingest_time)) AS latest FROM events`
      : `SELECT (SELECT toUnixTimestamp64Milli(minOrNull(time)) FROM events
                 WHERE hour = (SELECT min(hour) FROM events)) AS earliest,
                (SELECT toUnixTimestamp64Milli(maxOrNull(time)) FROM events
                 WHERE hour = (SELECT max(hour) FROM events)) AS latest`;
  interface Ends {
    readonly earliest: Integer | null;
    readonly latest: Integer | null;
  }
  const answers = await fanOut.each((session) => session.rows<Ends>(statement, new Bindings()));
  let earliestMs = Number.POSITIVE_INFINITY;
  let pastLatestMs = nowMs;
  for (const { earliest, latest } of answers.flatMap(({ answer }) => answer)) {
    if (earliest !== null) earliestMs = Math.min(earliestMs, Number(earliest));
    if (latest !== null) pastLatestMs = Math.max(pastLatestMs, Number(latest) + 1);
  }
  let toMs = request.toMs ?? Math.min(pastLatestMs, timeMsMax + 1);
  if (request.toMs === null && request.fromMs !== null) toMs = Math.max(toMs, request.fromMs);
  return { fromMs: request.fromMs ?? Math.min(earliestMs, toMs), toMs };
}
