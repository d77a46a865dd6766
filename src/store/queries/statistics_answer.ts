// A statistic as JSON or CSV. Runs on reader threads.

import { timeText } from './event_row.ts';
import type { PartialMembers } from './partial.ts';
import type { Statistics } from './statistics.ts';
import type { StatisticsRequest } from './statistics_request.ts';
import type { Summary } from './summary.ts';

export function statisticsJson(
  request: StatisticsRequest,
  statistics: Statistics,
  partial: PartialMembers,
): string {
  const { fromMs, toMs, bucketMs, total, groups } = statistics;
  return JSON.stringify({
    from: timeText(fromMs),
    to: timeText(toMs),
    bucket_s: bucketMs / 1000,
    total,
    groups: groups.map(({ values, buckets, ...summary }) => ({
      // A member may be called __proto__: fromEntries defines it, an assignment would not.
      group: Object.fromEntries(request.groupBy.map((path, i) => [path.text, values[i] ?? null])),
      ...summary,
      buckets: buckets.map(({ tMs, ...bucket }) => ({ t: timeText(tMs), ...bucket })),
    })),
    ...(statistics.isGroupChoiceUncertain ? { groups_uncertain: true } : {}),
    ...partial,
  });
}

const summaryColumns = [
  'count',
  'unique_subjects',
  'rate_per_s',
  'lag_ms_avg',
  'lag_ms_p50',
  'lag_ms_p90',
  'lag_ms_p95',
  'lag_ms_p99',
];
const valueColumns = [
  'value_count',
  'value_sum',
  'value_avg',
  'value_min',
  'value_max',
  'value_p50',
  'value_p95',
  'value_p99',
];

type Field = string | number | null;

function summaryFields(summary: Summary): Field[] {
  const { count, unique_subjects, rate_per_s, lag_ms, value } = summary;
  const fields: Field[] = [count, unique_subjects, rate_per_s];
  fields.push(lag_ms.avg, lag_ms.p50, lag_ms.p90, lag_ms.p95, lag_ms.p99);
  if (value !== undefined)
    fields.push(value.count, value.sum, value.avg, value.min, value.max, value.p50, value.p95, value.p99);
  return fields;
}

/**
 * RFC 4180 with a header: the group_by paths, `t`, then the numbers; a row for each group and bucket. Null is empty,
 * an empty text is "".
 */
export function statisticsCsv(request: StatisticsRequest, statistics: Statistics): string {
  const header = [...request.groupBy.map((path) => path.text), 't', ...summaryColumns];
  if (request.value !== null) header.push(...valueColumns);
  const lines = [header.map(csvField).join(',')];
  for (const group of statistics.groups) {
    const values = group.values.map(csvField);
    for (const bucket of group.buckets)
      lines.push([...values, timeText(bucket.tMs), ...summaryFields(bucket).map(csvField)].join(','));
  }
  return `${lines.join('\r\n')}\r\n`;
}

function csvField(field: Field): string {
  if (field === null) return '';
  if (typeof field === 'number') return String(field);
  return field === '' || /[",\r\n]/.test(field) ? `"${field.replaceAll('"', '""')}"` : field;
}
