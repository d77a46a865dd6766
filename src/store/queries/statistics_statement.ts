// The SQL of GET /events/statistics. Runs on reader threads.
//
//   events FINAL -> one row per event -> one cell per group and bucket, as aggregate states
//                -> states merged per group and over all -> the largest groups with their buckets
//
// One statement reads the table once, because a member of the JSON costs a parse of every event: merging the cells'
// states afterwards costs next to nothing, and quantiles and distinct counts cannot be added up outside.
// FINAL counts an event once however many physical copies it has; it merges only the hours in the range.

import { quoteLiteral } from '../query_params.ts';
import { msPerHour } from '../schema.ts';
import type { Bindings } from './bindings.ts';
import { pathCondition, pathExpression } from './member_path.ts';
import type { StatisticsRequest } from './statistics_request.ts';
import { answerBucketsMax, bucketsMax } from './time_bucket.ts';

const lagLevels = '0.5, 0.9, 0.95, 0.99';
const valueLevels = '0.5, 0.95, 0.99';

/** What the statements are about: the request with its range and its buckets settled. */
export interface StatisticsScope {
  readonly request: StatisticsRequest;
  /** Inclusive, epoch ms. */
  readonly fromMs: number;
  /** Exclusive, epoch ms, above `fromMs`. */
  readonly toMs: number;
  /** Length of a bucket, ms. */
  readonly bucketMs: number;
}

/** Names of the columns that hold the values of the group_by paths. */
function groupColumns(request: StatisticsRequest): string[] {
  return request.groupBy.map((_, i) => `g${i}`);
}

/** The aggregate functions, which decide between exact and estimated. */
function functionsOf(request: StatisticsRequest): { readonly distinct: string; readonly quantiles: string } {
  return request.isExact
    ? { distinct: 'uniqExact', quantiles: 'quantilesExactInclusive' }
    : { distinct: 'uniq', quantiles: 'quantiles' };
}

/** One row per group and bucket that has events; `condition` narrows the groups. */
function cellsStatement(scope: StatisticsScope, bindings: Bindings, condition = ''): string {
  const { request } = scope;
  const groupKeys = groupColumns(request)
    .map((name) => `${name}, `)
    .join('');
  const { distinct, quantiles } = functionsOf(request);
  return `
    SELECT ${groupKeys}t, count() AS n, ${distinct}StateIf(subject, subject != '') AS subjects,
      sum(lag) AS lag_sum, ${quantiles}State(${lagLevels})(lag) AS lag_quantiles
      ${
        request.value === null
          ? ''
          : `, countIf(is_number) AS value_n, sumKahanIf(number, is_number) AS value_sum,
      minIf(number, is_number) AS value_min, maxIf(number, is_number) AS value_max,
      ${quantiles}StateIf(${valueLevels})(number, is_number) AS value_quantiles`
      }
    FROM (${eventsStatement(scope, bindings)}) ${condition}
    GROUP BY ${groupKeys}t`;
}

/** For one store: one row for the total, then the largest groups. All text of the client is in `bindings`. */
export function groupsStatement(scope: StatisticsScope, bindings: Bindings): string {
  const { request } = scope;
  const names = groupColumns(request);
  const groupKeys = names.map((name) => `${name}, `).join('');
  const { distinct, quantiles } = functionsOf(request);
  const hasValue = request.value !== null;

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
    FROM (${cellsStatement(scope, bindings)}) ${groupBy}
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

/**
 * For one shard of several, in RowBinary for shard_groups.ts: a row for the total, then the largest groups, at most
 * `shardGroupsMax` + 1 of them: one more tells that there are others. The total and the first `groupsMax` groups come
 * with their summary and their cells, each with the states that it can be merged by; the others with their counts
 * alone. Too many cells for an answer are left out. `only`: just these groups, as `groupKey` writes them.
 */
export function shardStatement(
  scope: StatisticsScope,
  only: readonly string[] | null,
  bindings: Bindings,
): string {
  const { request } = scope;
  const names = groupColumns(request);
  const groupKeys = names.map((name) => `${name}, `).join('');
  const { distinct, quantiles } = functionsOf(request);
  const hasValue = request.value !== null;
  const condition =
    only === null ? '' : `WHERE ${keyExpression(names)} IN ${bindings.bindList('Array(String)', only)}`;

  // In the order in which shard_groups.ts reads it: of a cell, and of a group under the same names.
  const summary = `(toInt64(t), toUInt64(n), toUInt64(finalizeAggregation(subjects)), CAST(subjects AS String),
      toInt64(lag_sum), finalizeAggregation(lag_quantiles), CAST(lag_quantiles AS String)${
        hasValue
          ? `, toUInt64(value_n), value_sum, value_min, value_max, finalizeAggregation(value_quantiles),
      CAST(value_quantiles AS String)`
          : ''
      })`;
  const isTotal = names.length === 0 ? '1' : 'grouping(g0)';
  const groupBy = names.length === 0 ? '' : `GROUP BY GROUPING SETS ((), (${names.join(', ')}))`;
  // The aggregates have names of their own, or they would be found inside each other.
  const groups = `
    SELECT ${groupKeys}${isTotal} AS is_total, groupArray(${bucketsMax})(cell) AS cells, sum(n) AS group_n,
      ${distinct}MergeState(subjects) AS group_subjects, sum(lag_sum) AS group_lag_sum,
      ${quantiles}MergeState(${lagLevels})(lag_quantiles) AS group_lag_quantiles
      ${
        hasValue
          ? `, sum(value_n) AS group_value_n, sumKahan(value_sum) AS group_value_sum,
      minIf(value_min, value_n > 0) AS group_value_min, maxIf(value_max, value_n > 0) AS group_value_max,
      ${quantiles}MergeState(${valueLevels})(value_quantiles) AS group_value_quantiles`
          : ''
      }
    FROM (SELECT *, ${summary} AS cell FROM (${cellsStatement(scope, bindings, condition)})) ${groupBy}
    ORDER BY is_total DESC, group_n DESC${names.map((name) => `, ${name}`).join('')}
    LIMIT ${names.length === 0 ? 1 : shardGroupsMax + 2}`;
  const members = ['n', 'subjects', 'lag_sum', 'lag_quantiles'];
  if (hasValue) members.push('value_n', 'value_sum', 'value_min', 'value_max', 'value_quantiles');
  const ranked = `
    SELECT ${groupKeys}is_total, cells, 0 AS t, ${members.map((name) => `group_${name} AS ${name}`).join(', ')},
      row_number() OVER (ORDER BY is_total DESC, group_n DESC${names.map((name) => `, ${name}`).join('')}) AS rank
    FROM (${groups})`;

  const groupsMax = bindings.bind('UInt64', request.groupsMax);
  const sentCells =
    names.length === 0
      ? 'cells'
      : `if(is_total = 0 AND is_detailed AND cells_of_all <= ${answerBucketsMax}, cells, [])`;
  return `
    SELECT toUInt8(is_total), [${names.join(', ')}]::Array(Nullable(String)), toUInt64(n),
      if(is_detailed, [${summary}], []), toUInt64(cells_of_all), ${sentCells}
    FROM (
      SELECT *, is_total = 1 OR rank <= ${groupsMax} + 1 AS is_detailed,
        sum(if(is_total = 0 AND rank <= ${groupsMax} + 1, length(cells), 0)) OVER () AS cells_of_all
      FROM (${ranked})
    )
    ORDER BY rank
    FORMAT RowBinary`;
}

/** Most groups that a shard names in its answer: what the largest groups of all shards are chosen from. */
export const shardGroupsMax = 10_000;

/** A group's values as one text, which no other group has. */
export function groupKey(values: readonly (string | null)[]): string {
  return values.map((value) => (value === null ? 'n' : `s${Buffer.byteLength(value)}:${value}`)).join('');
}

/** `groupKey` in SQL. */
function keyExpression(names: readonly string[]): string {
  const parts = names.map(
    (name) =>
      `if(isNull(${name}), 'n', concat('s', toString(length(ifNull(${name}, ''))), ':', ifNull(${name}, '')))`,
  );
  return `concat('', ${parts.join(', ')})`;
}

/**
 * Merges states of several shards. `rows`: separated by commas, in each, separated by dots, a slot and the base64 of its
 * subjects, lag and, if a value was asked for, value states; they stand in the statement, since a parameter would be
 * too long for a node (see bindings.ts), and base64 has no character that could end a literal. One row a slot, in
 * RowBinary: the slot, the number of subjects, the lag quantiles, and the value quantiles.
 */
export function mergeStatement(request: StatisticsRequest, rows: string): string {
  const { distinct, quantiles } = functionsOf(request);
  const state = (i: number, type: string): string =>
    `CAST(base64Decode(parts[${i}]) AS AggregateFunction(${type}))`;
  const merged = [
    `toUInt64(${distinct}Merge(${state(2, `${distinct}, String`)}))`,
    `${quantiles}Merge(${lagLevels})(${state(3, `${quantiles}(${lagLevels}), Int64`)})`,
  ];
  if (request.value !== null)
    merged.push(`${quantiles}Merge(${valueLevels})(${state(4, `${quantiles}(${valueLevels}), Float64`)})`);
  return `
    SELECT toUInt32(parts[1]) AS slot, ${merged.join(', ')}
    FROM (SELECT splitByChar('.', arrayJoin(splitByChar(',', ${quoteLiteral(rows)}))) AS parts)
    GROUP BY slot FORMAT RowBinary`;
}

/** One row per event in the range. */
function eventsStatement(scope: StatisticsScope, bindings: Bindings): string {
  const { request, fromMs, toMs, bucketMs } = scope;
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
