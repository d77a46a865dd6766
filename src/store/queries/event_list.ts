// GET /events/: one page of events in (time, source, id) order. Runs on reader threads.
//
// The table is sorted by hour, so a page is looked for in windows of hours, beginning at the end where the order
// begins and four times as wide each time: the last 100 of any number of events touch an hour or two. No FINAL, which
// would merge whole hours for the sake of a page: the page's keys are read first, then every physical copy of just
// these keys; a row that is not the first copy of its event (highest version) is left out.
//
// With several shards each one's keys are read ahead and merged in the same order, so that a page and its cursor are
// what one store with all the events would give.

import { EssError } from '../../errors.ts';
import { msPerHour } from '../schema.ts';
import { Bindings } from './bindings.ts';
import type { ListFilter, ListPosition } from './cursor.ts';
import { type EventRow, eventRowColumns, readEventRow } from './event_row.ts';
import type { FanOut } from './fan_out.ts';
import type { ReadSession } from './read_session.ts';
import { RowBinaryCursor } from './row_binary.ts';
import { compareText } from './text_order.ts';

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
  /** Where it was found and where its event is to be read. */
  readonly session: ReadSession;
  readonly hour: number;
  readonly version: bigint;
}

/** Up to `limit` events after `position`, or from the beginning of the order where it is null. */
export async function listEvents(
  fanOut: FanOut,
  filter: ListFilter,
  position: ListPosition | null,
  limit: number,
): Promise<EventPage> {
  const candidates = new CandidateMerge(fanOut, filter, position);
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
      for (const row of await fetchEvents(fanOut, some)) {
        // A retry under another key may have made the event a second one on another shard. At one place in the order
        // it is shown once, since the next page would begin behind both.
        const last = events.at(-1);
        if (last !== undefined && isSamePlace(last, row)) continue;
        if (events.length === limit || bytes >= pageBytesMax) return { events, next: last ?? null };
        events.push(row);
        bytes += row.body.length;
      }
    }
  }
}

function isSamePlace(a: ListPosition, b: ListPosition): boolean {
  return a.timeMs === b.timeMs && a.source === b.source && a.id === b.id;
}

/** Those candidates that are the first copies of their events, in the same order. */
async function fetchEvents(fanOut: FanOut, candidates: readonly Candidate[]): Promise<EventRow[]> {
  const sessions = [...new Set(candidates.map(({ session }) => session))];
  const found = await fanOut.each(
    (session) =>
      fetchFirstCopies(
        session,
        candidates.filter((candidate) => candidate.session === session),
      ),
    sessions,
  );
  const firstCopies = new Map(found.map(({ session, answer }) => [session, answer]));
  const events: EventRow[] = [];
  for (const candidate of candidates) {
    // Nothing from a shard that has stopped answering meanwhile: the page says that it is missing.
    const copies = firstCopies.get(candidate.session);
    const key = keyOf(candidate);
    const row = copies?.get(key);
    if (row === undefined || row.version !== candidate.version || row.timeMs !== candidate.timeMs) continue;
    events.push(row);
    copies?.delete(key);
  }
  return events;
}

/** The first copies of the candidates' events, by `keyOf`. */
async function fetchFirstCopies(
  session: ReadSession,
  candidates: readonly Candidate[],
): Promise<Map<string, EventRow>> {
  const bindings = new Bindings(session.isRemote);
  const keys = candidates.map(({ hour, source, id }) => [hour, source, id]);
  const ids = candidates.map(({ id }) => id);
  // The ids once more, alone: the bloom filter does not look into tuples.
  const bytes = await session.bytes(
    `SELECT ${eventRowColumns} FROM events
     WHERE (hour, source, id) IN ${bindings.bindList('Array(Tuple(Int32, String, String))', keys)}
       AND id IN ${bindings.bindList('Array(String)', ids)}
     ORDER BY version DESC LIMIT 1 BY hour, source, id FORMAT RowBinary`,
    bindings,
  );
  const firstCopies = new Map<string, EventRow>();
  for (const cursor = new RowBinaryCursor(bytes); !cursor.isAtEnd; ) {
    const row = readEventRow(cursor);
    firstCopies.set(keyOf(row), row);
  }
  return firstCopies;
}

function keyOf({ hour, source, id }: { hour: number; source: string; id: string }): string {
  return JSON.stringify([hour, source, id]);
}

/** Rows that one shard has found and that the page has not come to yet. */
interface ReadAhead {
  readonly reader: CandidateReader;
  rows: Candidate[];
  /** Rows before this one have been taken. */
  next: number;
}

/** Reads physical rows of all shards in the order of the listing, each one once. */
class CandidateMerge {
  readonly #fanOut: FanOut;
  readonly #isDescending: boolean;
  readonly #shards: ReadonlyMap<ReadSession, ReadAhead>;

  constructor(fanOut: FanOut, filter: ListFilter, position: ListPosition | null) {
    this.#fanOut = fanOut;
    this.#isDescending = filter.order === 'desc';
    this.#shards = new Map(
      fanOut.alive.map((session) => [
        session,
        { reader: new CandidateReader(session, filter, position), rows: [], next: 0 },
      ]),
    );
  }

  /** The next rows, `count` of them unless the end comes sooner. At most `count` of each shard are held beside. */
  async read(count: number): Promise<Candidate[]> {
    const answers = await this.#fanOut.each((session) => this.#readAhead(session, count));
    const merged: Candidate[] = [];
    while (merged.length < count) {
      let best: { readonly ahead: ReadAhead; readonly row: Candidate } | null = null;
      for (const { answer: ahead } of answers) {
        const row = ahead.rows[ahead.next];
        if (row !== undefined && (best === null || this.#compare(row, best.row) < 0)) best = { ahead, row };
      }
      if (best === null) break;
      merged.push(best.row);
      best.ahead.next += 1;
    }
    return merged;
  }

  /** Sees to it that the shard's next `count` rows are there, or all that it has. */
  async #readAhead(session: ReadSession, count: number): Promise<ReadAhead> {
    const ahead = this.#shards.get(session);
    if (ahead === undefined) throw new EssError('internal', `shard ${session.shard} joined during a read`);
    const rows = ahead.rows.slice(ahead.next);
    const lacking = count - rows.length;
    if (lacking > 0) rows.push(...(await ahead.reader.read(lacking)));
    ahead.rows = rows;
    ahead.next = 0;
    return ahead;
  }

  /** As the statement of CandidateReader orders. */
  #compare(a: Candidate, b: Candidate): number {
    const order = a.timeMs - b.timeMs || compareText(a.source, b.source) || compareText(a.id, b.id);
    if (order !== 0) return this.#isDescending ? -order : order;
    return a.version > b.version ? -1 : a.version < b.version ? 1 : 0;
  }
}

/** Reads one shard's physical rows in the order of the listing, each one once. */
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
        session: this.#session,
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
