// The opaque cursor of a listing: where the page ended, and the query that it belongs to, so that a cursor never
// continues another query. Base64url of a JSON array. Runs on reader threads.

import { timeMsMax, timeMsMin } from '../../event/time.ts';
import { ParameterError } from './parameters.ts';

export type Order = 'asc' | 'desc';

/** What a listing is about, apart from where it stands. */
export interface ListFilter {
  readonly order: Order;
  /** Inclusive, epoch ms. */
  readonly fromMs: number | null;
  /** Exclusive, epoch ms. */
  readonly toMs: number | null;
  readonly type: string | null;
  readonly source: string | null;
  readonly subject: string | null;
}

/** A place between events in (time, source, id) order: just past this one. */
export interface ListPosition {
  readonly timeMs: number;
  readonly source: string;
  readonly id: string;
}

export interface Cursor {
  readonly filter: ListFilter;
  readonly position: ListPosition;
}

const cursorVersion = 1;

export function encodeCursor({ filter, position }: Cursor): string {
  const { order, fromMs, toMs, type, source, subject } = filter;
  const fields = [cursorVersion, order, fromMs, toMs, type, source, subject];
  return Buffer.from(JSON.stringify([...fields, position.timeMs, position.source, position.id])).toString(
    'base64url',
  );
}

/** Throws ParameterError for anything that `encodeCursor` has not made. */
export function decodeCursor(text: string): Cursor {
  const refused = new ParameterError('cursor', 'it is not one of ours', 'next_cursor of the page before');
  if (!/^[\w-]+$/.test(text)) throw refused;
  let fields: unknown;
  try {
    fields = JSON.parse(Buffer.from(text, 'base64url').toString('utf8'));
  } catch {
    throw refused;
  }
  if (!Array.isArray(fields) || fields.length !== 10) throw refused;
  const [version, order, fromMs, toMs, type, source, subject, timeMs, positionSource, id]: unknown[] = fields;
  if (
    version !== cursorVersion ||
    (order !== 'asc' && order !== 'desc') ||
    !isTimeOrNull(fromMs) ||
    !isTimeOrNull(toMs) ||
    !isTextOrNull(type) ||
    !isTextOrNull(source) ||
    !isTextOrNull(subject) ||
    !isTime(timeMs) ||
    typeof positionSource !== 'string' ||
    typeof id !== 'string'
  )
    throw refused;
  return {
    filter: { order, fromMs, toMs, type, source, subject },
    position: { timeMs, source: positionSource, id },
  };
}

function isTime(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= timeMsMin && value <= timeMsMax + 1;
}

function isTimeOrNull(value: unknown): value is number | null {
  return value === null || isTime(value);
}

function isTextOrNull(value: unknown): value is string | null {
  return value === null || typeof value === 'string';
}
