// The answer of GET /events/statistics as the page reads it, checked where it comes in, and put in order for the plot.
// Runs in the browser.

import { isObject } from '../api.ts';
import type { PlotColumn, PlotSeries } from '../plot.ts';
import type { Measure } from './question.ts';

export interface Summary {
  readonly count: number;
  readonly unique_subjects: number;
  readonly rate_per_s: number | null;
  readonly lag_ms: { readonly p95: number | null };
  readonly value?: Readonly<Record<ValueFigure, number | null>>;
}

export const valueFigures = ['count', 'sum', 'avg', 'min', 'max', 'p50', 'p95', 'p99'] as const;
export type ValueFigure = (typeof valueFigures)[number];

export interface Group extends Summary {
  readonly group: Readonly<Record<string, string | null>>;
  readonly buckets: readonly (Summary & { readonly t: string })[];
}

export interface Statistics {
  /** RFC 3339. */
  readonly from: string;
  readonly to: string;
  readonly bucket_s: number;
  readonly total: Summary;
  /** Largest first. */
  readonly groups: readonly Group[];
  readonly partial?: boolean;
  readonly missing_shards?: readonly number[];
  readonly stale_shards?: readonly number[];
  readonly groups_uncertain?: boolean;
}

/** True if it is what /events/statistics answers. */
export function isStatistics(value: unknown): value is Statistics {
  return (
    isObject(value) &&
    typeof value['from'] === 'string' &&
    typeof value['bucket_s'] === 'number' &&
    isObject(value['total']) &&
    Array.isArray(value['groups'])
  );
}

export interface PlotData {
  readonly series: readonly PlotSeries[];
  readonly times: readonly number[];
  readonly columns: readonly PlotColumn[];
  /** What the axis shows, epoch seconds. */
  readonly range: readonly [number, number];
  /** Groups that are drawn by themselves. */
  readonly drawn: number;
}

/** Groups that are drawn by themselves; those after them are the rest. */
export const drawnMax = 10;

/** What adds up, and is nothing where there are no events. */
const summable: readonly Measure[] = ['count', 'value_sum'];

export function measureOf(summary: Summary, measure: Measure): number | null {
  switch (measure) {
    case 'count':
      return summary.count;
    case 'unique_subjects':
      return summary.unique_subjects;
    case 'lag_p95':
      return summary.lag_ms.p95;
    case 'value_sum':
      return summary.value?.sum ?? null;
    case 'value_avg':
      return summary.value?.avg ?? null;
    case 'value_p95':
      return summary.value?.p95 ?? null;
  }
}

/** A group's values in a few words. */
export function groupLabel(group: Group): string {
  const values = Object.values(group.group).map((value) =>
    value === null ? '(none)' : value === '' ? '(empty)' : value,
  );
  return values.length === 0 ? 'all events' : values.join(' · ');
}

/** Null if there is nothing to draw. */
export function plotData(answer: Statistics, measure: Measure): PlotData | null {
  const bucketMs = answer.bucket_s * 1000;
  const starts = answer.groups.flatMap(({ buckets }) => buckets.map(({ t }) => Date.parse(t)));
  if (starts.length === 0) return null;
  const first = Math.floor(Date.parse(answer.from) / bucketMs) * bucketMs;
  const last = starts.reduce((most, at) => Math.max(most, at), first);
  const end = Math.max(last, Date.parse(answer.to) - 1);
  const times: number[] = [];
  for (let at = first; at <= end; at += bucketMs) times.push(at / 1000);
  // A step needs an end.
  times.push(end / 1000 + 0.001);
  const isSummable = summable.includes(measure);
  const columnOf = (groups: readonly Group[]): (number | null)[] => {
    const column: (number | null)[] = times.map(() => (isSummable ? 0 : null));
    for (const bucket of groups.flatMap(({ buckets }) => buckets)) {
      const i = Math.round((Date.parse(bucket.t) - first) / bucketMs);
      const value = measureOf(bucket, measure);
      if (value !== null) column[i] = isSummable ? (column[i] ?? 0) + value : value;
    }
    column[times.length - 1] = column[times.length - 2] ?? null;
    return column;
  };
  const drawn = answer.groups.slice(0, drawnMax);
  const rest = answer.groups.slice(drawnMax);
  const series: PlotSeries[] = drawn.map((group) => ({ label: groupLabel(group) }));
  const columns = drawn.map((group) => columnOf([group]));
  if (rest.length > 0 && isSummable) {
    series.push({ label: `the other ${rest.length} listed`, isRest: true });
    columns.push(columnOf(rest));
  }
  return { series, times, columns, range: [first / 1000, end / 1000], drawn: drawn.length };
}
