// What a statistic says of a set of events: all of them, a group or a bucket. Runs on reader threads.

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

/** Integers of 64 bits come as text. */
export type Integer = string | number;
/** A cell as a tuple without names; the last five only where a value was asked for. */
export type CellRow = readonly [
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

/** The numbers before they are made into an answer. */
export interface StatisticsCells {
  readonly total: CellRow;
  /** Largest first. The cells are in any order. */
  readonly groups: readonly {
    readonly values: readonly (string | null)[];
    readonly summary: CellRow;
    readonly cells: readonly CellRow[];
  }[];
  readonly isGroupChoiceUncertain: boolean;
}

/** The cell of no events. */
export const emptyCell: CellRow = [0, 0, 0, 0, [], 0, 0, null, null, []];

/** `coveredMs`: the part of the range that the cell is about, ms. */
export function summarize(cell: CellRow, coveredMs: number, hasValue: boolean): Summary {
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
