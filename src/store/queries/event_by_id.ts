// GET /events/{id}: one event by its identity. Runs on reader threads.
//
// No FINAL: the id's bloom filter leaves a few granules, and among the physical copies found there the highest version
// is the event. That also holds for copies in different hours, which FINAL would show as two.

import { EssError } from '../../errors.ts';
import { Bindings } from './bindings.ts';
import { type EventRow, eventRowColumns, readEventRow } from './event_row.ts';
import type { ReadSession } from './read_session.ts';
import { RowBinaryCursor } from './row_binary.ts';

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

/** Rejects with EssError `not_found` or, where `source` is null, AmbiguousIdError. */
export async function findEvent(session: ReadSession, id: string, source: string | null): Promise<EventRow> {
  const bindings = new Bindings();
  const where = [`id = ${bindings.bind('String', id)}`];
  if (source !== null) where.push(`source = ${bindings.bind('String', source)}`);
  const bytes = await session.bytes(
    `SELECT ${eventRowColumns} FROM events WHERE ${where.join(' AND ')}
     ORDER BY version DESC LIMIT 1 BY source LIMIT 2 FORMAT RowBinary`,
    bindings,
  );
  const cursor = new RowBinaryCursor(bytes);
  if (cursor.isAtEnd) {
    const of = source === null ? '' : ` of the source ${JSON.stringify(source)}`;
    throw new EssError('not_found', `there is no event ${JSON.stringify(id)}${of}`);
  }
  const row = readEventRow(cursor);
  if (cursor.isAtEnd) return row;
  throw new AmbiguousIdError(id, await sourcesOf(session, id));
}

async function sourcesOf(session: ReadSession, id: string): Promise<string[]> {
  const bindings = new Bindings();
  const rows = await session.rows<{ source: string }>(
    `SELECT DISTINCT source FROM events WHERE id = ${bindings.bind('String', id)}
     ORDER BY source LIMIT ${listedSourcesMax}`,
    bindings,
  );
  return rows.map((row) => row.source);
}
