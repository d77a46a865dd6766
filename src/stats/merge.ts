// Merges the snapshots of all threads into what /stats shows. Runs on the main thread, once per read.
import { EssError } from '../errors.ts';
import { encodeHdr } from './hdr_encoding.ts';
import type { StageSnapshot } from './recorder.ts';
import { type Stage, type StatsWindow, stages } from './stages.ts';
import { emptyCounts, type HistogramCounts, Tally, valueAtPerMille } from './tally.ts';

/** One stage in /stats. Times are milliseconds with microsecond resolution; all 0 when nothing was recorded. */
export interface StageJson {
  readonly count: number;
  readonly p50_ms: number;
  readonly p90_ms: number;
  readonly p95_ms: number;
  readonly p99_ms: number;
  readonly p999_ms: number;
  /** Largest value, exactly, where percentiles are exact to 1/1024. */
  readonly max_ms: number;
  /** Sum of all values: with `count`, the mean. */
  readonly sum_ms: number;
  /** HdrHistogram, compressed V2 in base64, in microseconds: mergeable with any other. */
  readonly hdr: string;
}

/** The place in which sums are made; one thread uses it, and never across an await. */
const sum = new Tally();

/** One stage's counts over all snapshots. */
function sumStage(stage: Stage, snapshots: readonly StageSnapshot[]): HistogramCounts {
  sum.clear();
  for (const snapshot of snapshots) sum.addCounts(snapshot.stages[stage] ?? emptyCounts);
  return sum.toCounts();
}

/**
 * Several snapshots as one. The engine keeps the sum of ended workers' last `all` snapshots in the same way, so that
 * totals do not fall when a worker dies: Prometheus would take the fall for a restart and count everything twice.
 * Throws `internal` if a snapshot is of another window.
 */
export function sumSnapshots(window: StatsWindow, snapshots: readonly StageSnapshot[]): StageSnapshot {
  if (snapshots.some((snapshot) => snapshot.window !== window)) {
    throw new EssError('internal', `snapshots of different windows cannot be summed into ${window}`);
  }
  const summed: { [S in Stage]?: HistogramCounts } = {};
  for (const stage of stages) {
    const counts = sumStage(stage, snapshots);
    if (counts.count > 0) summed[stage] = counts;
  }
  return { window, stages: summed };
}

function stageJson(counts: HistogramCounts): StageJson {
  const atPerMille = (perMille: number): number => valueAtPerMille(counts, perMille) / 1000;
  return {
    count: counts.count,
    p50_ms: atPerMille(500),
    p90_ms: atPerMille(900),
    p95_ms: atPerMille(950),
    p99_ms: atPerMille(990),
    p999_ms: atPerMille(999),
    max_ms: counts.max / 1000,
    sum_ms: counts.sum / 1000,
    hdr: encodeHdr(counts),
  };
}

/** One stage in a few figures. Times are milliseconds with microsecond resolution; all 0 when nothing was recorded. */
export type StageFigures = Pick<StageJson, 'count' | 'p50_ms' | 'p95_ms' | 'p99_ms' | 'max_ms'>;

/** One stage over all snapshots (of the same window), without the encoded histogram, which costs a compression. */
export function stageFigures(stage: Stage, snapshots: readonly StageSnapshot[]): StageFigures {
  const counts = sumStage(stage, snapshots);
  const atPerMille = (perMille: number): number => valueAtPerMille(counts, perMille) / 1000;
  return {
    count: counts.count,
    p50_ms: atPerMille(500),
    p95_ms: atPerMille(950),
    p99_ms: atPerMille(990),
    max_ms: counts.max / 1000,
  };
}

/** Every stage over all snapshots (of the same window), also those in which nothing was recorded. */
export function mergeSnapshots(snapshots: readonly StageSnapshot[]): Record<Stage, StageJson> {
  const merged = (stage: Stage): StageJson => stageJson(sumStage(stage, snapshots));
  return {
    receive: merged('receive'),
    ring: merged('ring'),
    produce: merged('produce'),
    log_wait: merged('log_wait'),
    insert: merged('insert'),
    end_to_end: merged('end_to_end'),
    event_loop_delay: merged('event_loop_delay'),
  };
}
