// The stages of an event's life that are timed, and the windows over which they are reported. The names are a
// contract: /stats, /metrics, the page and the benches show them as they stand here. Any thread may import this.

/**
 * What is timed, each in microseconds:
 *
 * - `receive`: first byte of a request seen -> its whole body is in the ingest ring (main thread; per request)
 * - `ring`: in the ingest ring -> taken by the producer worker (per request)
 * - `produce`: taken by the producer worker -> durable in the log (per request)
 * - `log_wait`: durable in the log -> taken by the sink (per event)
 * - `insert`: one block's insert, as seen by the sink (per block)
 * - `end_to_end`: ingest_time -> readable in the store (per event)
 * - `event_loop_delay`: how late a timer of the main thread ran (per tick)
 */
export const stages = [
  'receive',
  'ring',
  'produce',
  'log_wait',
  'insert',
  'end_to_end',
  'event_loop_delay',
] as const;

export type Stage = (typeof stages)[number];

/**
 * Spans of time that can be asked for. `10s` and `1m` reach back at least that long and up to one interval of
 * `intervalMs` longer; `all` is everything since the thread started.
 */
export const statsWindows = ['10s', '1m', 'all'] as const;

export type StatsWindow = (typeof statsWindows)[number];

/** Length of one rotating interval, milliseconds. Two of them make the shortest window. */
export const intervalMs = 5_000;

/** Closed intervals that belong to each rotating window, beside the one still open. */
export const closedIntervals: Readonly<Record<Exclude<StatsWindow, 'all'>, number>> = {
  '10s': 10_000 / intervalMs,
  '1m': 60_000 / intervalMs,
};
