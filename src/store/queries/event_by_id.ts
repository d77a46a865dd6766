// GET /events/{id}: one event by its identity. Runs on reader threads.
//
// No FINAL: the id's bloom filter leaves a few granules, and among the physical copies found there the highest version
// is the event. That also holds for copies in different hours, which FINAL would show as two, and for what the shards
// have found: which of them has an event depends on its key, which is not known here, so all of them are asked.

import { EssError } from '../../errors.ts';
import { Bindings } from './bindings.ts';
import { type EventRow, eventRowColumns, readEventRow } from './event_row.ts';
import type { FanOut } from './fan_out.ts';
import type { Journey } from './journey.ts';
import type { ReadSession } from './read_session.ts';
import { RowBinaryCursor } from './row_binary.ts';
import { compareText } from './text_order.ts';

/** Sources that a 409 lists; a client that meets more of them knows its own. */
export const listedSourcesMax = 100;

/** Several sources use the id. */
export class AmbiguousIdError extends EssError {
  /** In order of their bytes, at most `listedSourcesMax`. */
  readonly sources: readonly string[];

  constructor(id: string, sources: readonly string[]) {
    super('ambiguous_id', `the id ${JSON.stringify(id)} is used by several sources`);
    this.sources = sources;
  }
}

/** An event, and how it came to where it is. */
export interface FoundEvent {
  readonly row: EventRow;
  readonly journey: Journey;
}

/**
 * Rejects with EssError `not_found` or, where `source` is null, AmbiguousIdError. What was not found may be in a shard
 * that `fanOut.missing` or `fanOut.stale` names.
 */
export async function findEvent(fanOut: FanOut, id: string, source: string | null): Promise<FoundEvent> {
  const found = await fanOut.each((session) => findCopies(session, id, source));
  const bySource = new Map<string, FoundEvent>();
  for (const { session, answer } of found) {
    for (const { row, ...stored } of answer) {
      const other = bySource.get(row.source);
      if (other !== undefined && row.version <= other.row.version) continue;
      bySource.set(row.source, { row, journey: { ...stored, shard: session.shard } });
    }
  }
  const [event] = bySource.values();
  if (event === undefined) {
    const of = source === null ? '' : ` of the source ${JSON.stringify(source)}`;
    throw new EssError('not_found', `there is no event ${JSON.stringify(id)}${of}`);
  }
  if (bySource.size === 1) return event;
  throw new AmbiguousIdError(id, await sourcesOf(fanOut, id));
}

/** The first copies of at most two sources: more would be as ambiguous. */
async function findCopies(
  session: ReadSession,
  id: string,
  source: string | null,
): Promise<(Omit<Journey, 'shard'> & { readonly row: EventRow })[]> {
  const bindings = new Bindings();
  const where = [`id = ${bindings.bind('String', id)}`];
  if (source !== null) where.push(`source = ${bindings.bind('String', source)}`);
  const bytes = await session.bytes(
    `SELECT ${eventRowColumns}, toUnixTimestamp64Milli(log_time), epoch, _part FROM events WHERE ${where.join(' AND ')}
     ORDER BY version DESC LIMIT 1 BY source LIMIT 2 FORMAT RowBinary`,
    bindings,
  );
  const copies: (Omit<Journey, 'shard'> & { readonly row: EventRow })[] = [];
  for (const cursor = new RowBinaryCursor(bytes); !cursor.isAtEnd; ) {
    const row = readEventRow(cursor);
    copies.push({ row, logTimeMs: Number(cursor.int64()), epoch: cursor.text(), part: cursor.text() });
  }
  return copies;
}

async function sourcesOf(fanOut: FanOut, id: string): Promise<string[]> {
  const found = await fanOut.each((session) => {
    const bindings = new Bindings();
    return session.rows<{ source: string }>(
      `SELECT DISTINCT source FROM events WHERE id = ${bindings.bind('String', id)}
       ORDER BY source LIMIT ${listedSourcesMax}`,
      bindings,
    );
  });
  const sources = new Set(found.flatMap(({ answer }) => answer.map((row) => row.source)));
  return [...sources].sort(compareText).slice(0, listedSourcesMax);
}
