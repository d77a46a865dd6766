// The last ten minutes of what the plots show, gathered while the page is open. Runs in the browser. Where snapshots
// were missed there is a hole, never a line drawn across it.

import type { LiveSnapshot, LiveStage } from '../live/snapshot.ts';

export const historySeconds = 600;
/** Snapshots come every second: a longer pause than this is a hole, s. */
const holeSeconds = 2.5;

export const historyColumns = [
  'events_per_s',
  'stored_per_s',
  'produce_p50',
  'produce_p95',
  'produce_p99',
  'end_to_end_p50',
  'end_to_end_p95',
  'end_to_end_p99',
] as const;

export type HistoryColumn = (typeof historyColumns)[number];

type Value = number | null;

export class History {
  /** The server's clock, epoch seconds, rising. */
  readonly times: number[] = [];
  readonly #columns = new Map<HistoryColumn, Value[]>(historyColumns.map((name) => [name, []]));
  #startedMs: number | null = null;

  column(name: HistoryColumn): readonly Value[] {
    return this.#columns.get(name) ?? [];
  }

  add(snapshot: LiveSnapshot): void {
    const time = snapshot.time_ms / 1000;
    const last = this.times.at(-1);
    const isRestart = this.#startedMs !== null && this.#startedMs !== snapshot.started_ms;
    this.#startedMs = snapshot.started_ms;
    if (last !== undefined && time <= last) {
      // The server's clock was set back: what was gathered cannot be put in order with what comes.
      this.#drop(this.times.length);
    } else if (last !== undefined && (isRestart || time - last > holeSeconds)) {
      this.#push((last + time) / 2, () => null);
    }
    const { produce, end_to_end: endToEnd } = snapshot.stages;
    const values: Readonly<Record<HistoryColumn, Value>> = {
      events_per_s: snapshot.events_per_s,
      stored_per_s: snapshot.stored_per_s,
      produce_p50: known(produce, 'p50_ms'),
      produce_p95: known(produce, 'p95_ms'),
      produce_p99: known(produce, 'p99_ms'),
      end_to_end_p50: known(endToEnd, 'p50_ms'),
      end_to_end_p95: known(endToEnd, 'p95_ms'),
      end_to_end_p99: known(endToEnd, 'p99_ms'),
    };
    this.#push(time, (name) => values[name]);
    const old = this.times.findIndex((at) => at >= time - historySeconds);
    if (old > 0) this.#drop(old);
  }

  #push(time: number, of: (name: HistoryColumn) => Value): void {
    this.times.push(time);
    for (const [name, values] of this.#columns) values.push(of(name));
  }

  #drop(count: number): void {
    this.times.splice(0, count);
    for (const values of this.#columns.values()) values.splice(0, count);
  }
}

/** A percentile of nothing is not zero. */
function known(stage: LiveStage, name: 'p50_ms' | 'p95_ms' | 'p99_ms'): Value {
  return stage.count > 0 ? stage[name] : null;
}
