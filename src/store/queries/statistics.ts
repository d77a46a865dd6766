// GET /events/statistics: counts, delays and values of events, in all, by group and by bucket of time. Runs on reader
// threads.
//
//   events FINAL -> one row per event -> one cell per group and bucket, as aggregate states
//                -> states merged per group and over all -> the largest groups with their buckets
//
// One statement reads the table once, because a member of the JSON costs a parse of every event: merging the cells'
// states afterwards costs next to nothing, and quantiles and distinct counts cannot be added up outside.
// FINAL counts an event once however many physical copies it has; it merges only the hours in the range.

import { timeMsMax } from '../../event/time.ts';
import { msPerHour } from '../schema.ts';
import { Bindings } from './bindings.ts';
import { pathCondition, pathExpression } from './member_path.ts';
import { ParameterError } from './parameters.ts';
import type { ReadSession } from './read_session.ts';
import type { StatisticsRequest } from './statistics_request.ts';
import { answerBucketsMax, bucketsMax, chooseBucketMs } from './time_bucket.ts';

/** Of the time from arrival to being readable, ms; null where there are no events. */
export interface LagSummary {
  readonly avg: number | null;
  readonly p50: number | null;
  readonly p90: number | null;
  readonly p95: number | null;
  readonly p99: number | null;
}

/** Of the numbers at the `value` path; null where there are none. */
export interface ValueSummary {
  readonly count: number;
  readonly sum: number | null;
  readonly avg: number | null;
  readonly min: number | null;
  readonly max: number | null;
  readonly p50: number | null;
  readonly p95: number | null;
  readonly p99: number | null;
}

export interface Summary {
  /** Exact: an event that was sent twice counts once. */
  readonly count: number;
  /**
   * Subjects that differ; events without one do not count. Exact up to 65,536 subjects and with exact=1, beyond that
   * estimated from a sample of 65,536 hashes: standard error 0.4 %.
   */
  readonly unique_subjects: number;
  /** Events per second of the range, or of the part of the bucket that is in the range. */
  readonly rate_per_s: number;
  /**
   * Quantiles are exact up to 8,192 events and with exact=1, beyond that estimated from a random sample of so many:
   * the rank of the p50 then has a standard error of 0.6 %, that of the p99 one of 0.1 %.
   */
  readonly lag_ms: LagSummary;
  /** There if a value was asked for. The same holds for its quantiles. */
  readonly value?: ValueSummary;
}

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
}

const lagLevels = '0.5, 0.9, 0.95, 0.99';
const valueLevels = '0.5, 0.95, 0.99';

/** Integers of 64 bits come as text. */
type Integer = string | number;
/** A cell as a tuple without names; the last five only where a value was asked for. */
type CellRow = readonly [
  t: Integer,
  count: Integer,
  subjects: Integer,
  lagSum: Integer,
  lagQuantiles: readonly (number | null)[],
  valueCount?: Integer,
  valueSum?: number | null,
  valueMin?: number | null,
  valueMax?: number | null,
  valueQuantiles?: readonly (number | null)[],
];
interface GroupRow {
  readonly is_total: Integer;
  readonly group_values: readonly (string | null)[];
  readonly summary: CellRow;
  readonly cells: readonly CellRow[];
  readonly cells_of_all: Integer;
}

/** Rejects with ParameterError, if the answer would have too many buckets, or with StoreError. */
export async function readStatistics(
  session: ReadSession,
  request: StatisticsRequest,
  nowMs: number,
): Promise<Statistics> {
  const { fromMs, toMs } = await findRange(session, request, nowMs);
  const isGrouped = request.groupBy.length > 0;
  const bucketMs = chooseBucketMs(request.bucket, fromMs, toMs, isGrouped ? request.groupsMax : 1);
  const rangeMs = toMs - fromMs;
  const hasValue = request.value !== null;
  const nothing = summarize([0, 0, 0, 0, [], 0, 0, null, null, []], rangeMs, hasValue);
  if (rangeMs <= 0) return { fromMs, toMs, bucketMs, total: nothing, groups: [] };

  const bindings = new Bindings();
  const rows = await session.rows<GroupRow>(
    groupsStatement(request, fromMs, toMs, bucketMs, bindings),
    bindings,
  );
  const first = rows[0];
  if (first === undefined || Number(first.summary[1]) === 0)
    return { fromMs, toMs, bucketMs, total: nothing, groups: [] };
  const bucketsOfAll = Number(first.cells_of_all);
  if (isGrouped && bucketsOfAll > answerBucketsMax)
    throw new ParameterError(
      'bucket',
      `the groups have ${bucketsOfAll} buckets together`,
      `at most ${answerBucketsMax}: a longer bucket, auto, a smaller limit or a narrower range`,
    );
  const groups: Group[] = [];
  for (const row of rows) {
    if (isGrouped && Number(row.is_total) === 1) continue;
    const cells = [...row.cells].sort((a, b) => Number(a[0]) - Number(b[0]));
    groups.push({
      values: row.group_values,
      ...summarize(row.summary, rangeMs, hasValue),
      buckets: cells.map((cell) => {
        const tMs = Number(cell[0]);
        const coveredMs = Math.min(tMs + bucketMs, toMs) - Math.max(tMs, fromMs);
        return { tMs, ...summarize(cell, coveredMs, hasValue) };
      }),
    });
  }
  return { fromMs, toMs, bucketMs, total: summarize(first.summary, rangeMs, hasValue), groups };
}

/** The range that is meant; empty (from = to) where there are no events to begin with. */
async function findRange(
  session: ReadSession,
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
  const [ends] = await session.rows<Ends>(statement, new Bindings());
  const pastLatestMs = ends === undefined || ends.latest === null ? nowMs : Number(ends.latest) + 1;
  let toMs = request.toMs ?? Math.min(Math.max(nowMs, pastLatestMs), timeMsMax + 1);
  if (request.toMs === null && request.fromMs !== null) toMs = Math.max(toMs, request.fromMs);
  const earliestMs = ends === undefined || ends.earliest === null ? toMs : Number(ends.earliest);
  return { fromMs: request.fromMs ?? Math.min(earliestMs, toMs), toMs };
}

/** One row for the total, then the largest groups. All text of the client is in `bindings`. */
function groupsStatement(
  request: StatisticsRequest,
  fromMs: number,
  toMs: number,
  bucketMs: number,
  bindings: Bindings,
): string {
  const names = request.groupBy.map((_, i) => `g${i}`);
  const groupKeys = names.map((name) => `${name}, `).join('');
  const distinct = request.isExact ? 'uniqExact' : 'uniq';
  const quantiles = request.isExact ? 'quantilesExactInclusive' : 'quantiles';
  const hasValue = request.value !== null;

  const cells = `
    SELECT ${groupKeys}t, count() AS n, ${distinct}StateIf(subject, subject != '') AS subjects,
      sum(lag) AS lag_sum, ${quantiles}State(${lagLevels})(lag) AS lag_quantiles
      ${
        hasValue
          ? `, countIf(is_number) AS value_n, sumKahanIf(number, is_number) AS value_sum,
      minIf(number, is_number) AS value_min, maxIf(number, is_number) AS value_max,
      ${quantiles}StateIf(${valueLevels})(number, is_number) AS value_quantiles`
          : ''
      }
    FROM (${eventsStatement(request, fromMs, toMs, bucketMs, bindings)})
    GROUP BY ${groupKeys}t`;

  // The same tuple twice: of one cell, and of all cells of a group.
  const ofCell = `(t, n, finalizeAggregation(subjects), lag_sum, finalizeAggregation(lag_quantiles)${
    hasValue ? ', value_n, value_sum, value_min, value_max, finalizeAggregation(value_quantiles)' : ''
  })`;
  const ofGroup = `(toInt64(0), sum(n) AS group_n, ${distinct}Merge(subjects), sum(lag_sum),
      ${quantiles}Merge(${lagLevels})(lag_quantiles)${
        hasValue
          ? `, sum(value_n), sumKahan(value_sum), minIf(value_min, value_n > 0), maxIf(value_max, value_n > 0),
      ${quantiles}MergeIf(${valueLevels})(value_quantiles, value_n > 0)`
          : ''
      })`;
  const isTotal = names.length === 0 ? '1' : 'grouping(g0)';
  const groupBy = names.length === 0 ? '' : `GROUP BY GROUPING SETS ((), (${names.join(', ')}))`;
  const groups = `
    SELECT ${groupKeys}${isTotal} AS is_total, ${ofGroup} AS summary,
      groupArray(${bucketsMax})(${ofCell}) AS cells
    FROM (${cells}) ${groupBy}
    ORDER BY is_total DESC, group_n DESC${names.map((name) => `, ${name}`).join('')}
    LIMIT ${bindings.bind('UInt64', names.length === 0 ? 1 : request.groupsMax + 1)}`;

  // An answer that is refused for its size is not even sent here.
  const order = ['is_total DESC', 'summary.2 DESC', ...names].join(', ');
  const isSent = names.length === 0 ? '1' : `is_total = 0 AND cells_of_all <= ${answerBucketsMax}`;
  return `
    SELECT is_total, [${names.join(', ')}]::Array(Nullable(String)) AS group_values, summary,
      if(${isSent}, all_cells, []) AS cells, cells_of_all
    FROM (
      SELECT ${groupKeys}is_total, summary, cells AS all_cells,
        sum(if(is_total = 1, 0, length(cells))) OVER () AS cells_of_all
      FROM (${groups})
    )
    ORDER BY ${order}`;
}

/** One row per event in the range. */
function eventsStatement(
  request: StatisticsRequest,
  fromMs: number,
  toMs: number,
  bucketMs: number,
  bindings: Bindings,
): string {
  const timeMs = `toUnixTimestamp64Milli(${request.clock === 'time' ? 'time' : 'ingest_time'})`;
  const from = bindings.bind('Int64', fromMs);
  const last = bindings.bind('Int64', toMs - 1);
  const where: string[] = [];
  if (request.clock === 'time') {
    const firstHour = bindings.bind('Int32', Math.floor(fromMs / msPerHour));
    const lastHour = bindings.bind('Int32', Math.floor((toMs - 1) / msPerHour));
    where.push(`hour BETWEEN ${firstHour} AND ${lastHour}`, `${timeMs} BETWEEN ${from} AND ${last}`);
  } else {
    // The bare column, for its index; both ends are valid times, whereas `to` itself may lie past the last one.
    where.push(
      `ingest_time BETWEEN fromUnixTimestamp64Milli(${from}, 'UTC') AND fromUnixTimestamp64Milli(${last}, 'UTC')`,
    );
  }
  for (const { path, value } of request.where) where.push(pathCondition(path, value, bindings));

  const bucket = bindings.bind('Int64', bucketMs);
  // positiveModulo: the remainder rounds down before 1970 too.
  const columns = request.groupBy.map((path, i) => `${pathExpression(path, bindings)} AS g${i}`);
  columns.push(
    `${timeMs} - positiveModulo(${timeMs}, ${bucket}) AS t`,
    'toUnixTimestamp64Milli(store_time) - toUnixTimestamp64Milli(ingest_time) AS lag',
    'subject',
  );
  if (request.value !== null) {
    // Numbers, and text that is a number as a whole (events that come from CSV have only text); true is neither.
    columns.push(
      `ifNull(toFloat64OrNull(${pathExpression(request.value, bindings)}), nan) AS number`,
      'isFinite(number) AS is_number',
    );
  }
  return `SELECT ${columns.join(', ')} FROM events FINAL WHERE ${where.join(' AND ')}`;
}

function summarize(cell: CellRow, coveredMs: number, hasValue: boolean): Summary {
  const [, countText, subjects, lagSum, lagQuantiles] = cell;
  const count = Number(countText);
  const lag = (i: number): number | null => (count === 0 ? null : (lagQuantiles[i] ?? null));
  const summary: Summary = {
    count,
    unique_subjects: Number(subjects),
    rate_per_s: coveredMs <= 0 ? 0 : (count * 1000) / coveredMs,
    lag_ms: {
      avg: count === 0 ? null : Number(lagSum) / count,
      p50: lag(0),
      p90: lag(1),
      p95: lag(2),
      p99: lag(3),
    },
  };
  return hasValue ? { ...summary, value: summarizeValue(cell) } : summary;
}

function summarizeValue(cell: CellRow): ValueSummary {
  const [, , , , , countText = 0, sum = null, min = null, max = null, quantiles = []] = cell;
  const count = Number(countText);
  if (count === 0) return { count, sum: 0, avg: null, min: null, max: null, p50: null, p95: null, p99: null };
  return {
    count,
    // Null if it left the range of doubles.
    sum,
    avg: sum === null ? null : sum / count,
    min,
    max,
    p50: quantiles[0] ?? null,
    p95: quantiles[1] ?? null,
    p99: quantiles[2] ?? null,
  };
}
