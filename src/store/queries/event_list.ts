// GET /events/: one page of events in (time, source, id) order. Runs on reader threads.
//
// The table is sorted by hour, so a page is looked for in windows of hours, beginning at the end where the order
// begins and four times as wide each time: the last 100 of any number of events touch an hour or two. No FINAL, which
// would merge whole hours for the sake of a page: the page's keys are read first, then every physical copy of just
// these keys; a row that is not the first copy of its event (highest version) is left out.

import { TupleParam } from '@clickhouse/client';
import { msPerHour } from '../schema.ts';
import { Bindings } from './bindings.ts';
import type { ListFilter, ListPosition } from './cursor.ts';
import { type EventRow, eventRowColumns, readEventRow } from './event_row.ts';
import type { ReadSession } from './read_session.ts';
import { RowBinaryCursor } from './row_binary.ts';

/** A page ends early once its events' JSON has this many bytes; a client goes on with the cursor. */
export const pageBytesMax = 32 * 1024 * 1024;

/** Growth from one window of hours to the next: all of 1900-2299 (3.5 M hours) is through after twelve. */
const windowGrowth = 4;

/** Events that are fetched first; from their sizes follows how many at a time come after. */
const firstFetch = 128;
/** Most events fetched with one statement: about half a megabyte of keys. */
const fetchMax = 4000;

export interface EventPage {
  readonly events: readonly EventRow[];
  /** Where the next page begins; null if this is the last one. */
  readonly next: ListPosition | null;
}

/** A physical row, perhaps a later copy of its event. */
interface Candidate extends ListPosition {
  readonly hour: number;
  readonly version: bigint;
}

/** Up to `limit` events after `position`, or from the beginning of the order where it is null. */
export async function listEvents(
  session: ReadSession,
  filter: ListFilter,
  position: ListPosition | null,
  limit: number,
): Promise<EventPage> {
  const candidates = new CandidateReader(session, filter, position);
  const events: EventRow[] = [];
  let bytes = 0;
  for (;;) {
    // One more than needed tells whether there is a next page.
    const found = await candidates.read(limit + 1 - events.length);
    if (found.length === 0) return { events, next: null };
    for (let start = 0; start < found.length; ) {
      // What the page still takes by the average so far; at least one, which may be what is one too many.
      const fitting = bytes === 0 ? firstFetch : Math.ceil(((pageBytesMax - bytes) * events.length) / bytes);
      const count = Math.max(1, Math.min(fitting, fetchMax));
      const some = found.slice(start, start + count);
      start += some.length;
      for (const row of await fetchEvents(session, some)) {
        if (events.length === limit || bytes >= pageBytesMax) return { events, next: events.at(-1) ?? null };
        events.push(row);
        bytes += row.body.length;
      }
    }
  }
}

/** Those candidates that are the first copies of their events, in the same order. */
async function fetchEvents(session: ReadSession, candidates: readonly Candidate[]): Promise<EventRow[]> {
  const bindings = new Bindings();
  const keys = candidates.map(({ hour, source, id }) => new TupleParam([hour, source, id]));
  // The ids once more, alone: the bloom filter does not look into tuples.
  const bytes = await session.bytes(
    `SELECT ${eventRowColumns} FROM events
     WHERE (hour, source, id) IN ${bindings.bind('Array(Tuple(Int32, String, String))', keys)}
       AND id IN ${bindings.bind(
         'Array(String)',
         candidates.map(({ id }) => id),
       )}
     ORDER BY version DESC LIMIT 1 BY hour, source, id FORMAT RowBinary`,
    bindings,
  );
  const firstCopies = new Map<string, EventRow>();
  for (const cursor = new RowBinaryCursor(bytes); !cursor.isAtEnd; ) {
    const row = readEventRow(cursor);
    firstCopies.set(keyOf(row), row);
  }
  const events: EventRow[] = [];
  for (const candidate of candidates) {
    const key = keyOf(candidate);
    const row = firstCopies.get(key);
    if (row === undefined || row.version !== candidate.version || row.timeMs !== candidate.timeMs) continue;
    events.push(row);
    firstCopies.delete(key);
  }
  return events;
}

function keyOf({ hour, source, id }: { hour: number; source: string; id: string }): string {
  return JSON.stringify([hour, source, id]);
}

/** Reads physical rows in the order of the listing, each one once. */
class CandidateReader {
  readonly #session: ReadSession;
  readonly #filter: ListFilter;
  #position: ListPosition | null;
  /** The hours that have not been looked at, null before the first read. */
  #hours: { first: number; last: number } | null = null;
  #windowHours = 1;

  constructor(session: ReadSession, filter: ListFilter, position: ListPosition | null) {
    this.#session = session;
    this.#filter = filter;
    this.#position = position;
  }

  /** The next rows, `count` of them unless the end comes sooner. */
  async read(count: number): Promise<Candidate[]> {
    const hours = this.#hours ?? (await this.#findHours());
    this.#hours = hours;
    const found: Candidate[] = [];
    while (hours.first <= hours.last) {
      const isDescending = this.#filter.order === 'desc';
      const first = isDescending ? Math.max(hours.first, hours.last - this.#windowHours + 1) : hours.first;
      const last = isDescending ? hours.last : Math.min(hours.last, hours.first + this.#windowHours - 1);
      const wanted = count - found.length;
      const some = await this.#readWindow(first, last, wanted);
      found.push(...some);
      this.#position = some.at(-1) ?? this.#position;
      // There may be more in this window: the next read begins in it again, past the position.
      if (some.length === wanted) return found;
      if (isDescending) hours.last = first - 1;
      else hours.first = last + 1;
      this.#windowHours *= windowGrowth;
    }
    return found;
  }

  /** The hours that the filter, the position and the table leave. */
  async #findHours(): Promise<{ first: number; last: number }> {
    const { fromMs, toMs, order } = this.#filter;
    const rows = await this.#session.rows<{ first: number | null; last: number | null }>(
      'SELECT minOrNull(hour) AS first, maxOrNull(hour) AS last FROM events',
      new Bindings(),
    );
    let first = rows[0]?.first ?? 0;
    let last = rows[0]?.last ?? -1;
    if (fromMs !== null) first = Math.max(first, Math.floor(fromMs / msPerHour));
    if (toMs !== null) last = Math.min(last, Math.floor((toMs - 1) / msPerHour));
    if (this.#position !== null) {
      const hour = Math.floor(this.#position.timeMs / msPerHour);
      if (order === 'desc') last = Math.min(last, hour);
      else first = Math.max(first, hour);
    }
    return { first, last };
  }

  async #readWindow(firstHour: number, lastHour: number, count: number): Promise<Candidate[]> {
    const bindings = new Bindings();
    const { fromMs, toMs, type, source, subject, order } = this.#filter;
    const where = [
      `hour BETWEEN ${bindings.bind('Int32', firstHour)} AND ${bindings.bind('Int32', lastHour)}`,
    ];
    const timeMs = 'toUnixTimestamp64Milli(time)';
    if (fromMs !== null) where.push(`${timeMs} >= ${bindings.bind('Int64', fromMs)}`);
    if (toMs !== null) where.push(`${timeMs} < ${bindings.bind('Int64', toMs)}`);
    if (type !== null) where.push(`type = ${bindings.bind('String', type)}`);
    if (source !== null) where.push(`source = ${bindings.bind('String', source)}`);
    if (subject !== null) where.push(`subject = ${bindings.bind('String', subject)}`);
    const position = this.#position;
    if (position !== null) {
      const past = [
        bindings.bind('Int64', position.timeMs),
        bindings.bind('String', position.source),
        bindings.bind('String', position.id),
      ];
      where.push(`(${timeMs}, source, id) ${order === 'desc' ? '<' : '>'} (${past.join(', ')})`);
    }
    const direction = order === 'desc' ? 'DESC' : 'ASC';
    // Copies with the same time stand together with the first copy (highest version) in front, whichever the order:
    // past the position of one of them there is none that would be missed.
    const bytes = await this.#session.bytes(
      `SELECT hour, source, id, version, ${timeMs} FROM events WHERE ${where.join(' AND ')}
       ORDER BY time ${direction}, source ${direction}, id ${direction}, version DESC
       LIMIT ${bindings.bind('UInt64', count)} FORMAT RowBinary`,
      bindings,
    );
    const candidates: Candidate[] = [];
    for (const cursor = new RowBinaryCursor(bytes); !cursor.isAtEnd; ) {
      candidates.push({
        hour: cursor.int32(),
        source: cursor.text(),
        id: cursor.text(),
        version: cursor.uint64(),
        timeMs: Number(cursor.int64()),
      });
    }
    return candidates;
  }
}
