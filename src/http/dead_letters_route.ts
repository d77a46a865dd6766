// GET /dead-letters: what the store refused, with the reason, the event and what was done about it, in (partition,
// offset) order. Main thread only.

import { EssError } from '../errors.ts';
import { RecordCursor, recordFlags } from '../event/record.ts';
import { type LetterFilter, type LetterState, letterStandings } from '../log/letter_state.ts';
import type { DeadLetter, LetterPlace, LogAppender } from '../log/log.ts';
import type { Answer, GetRequest } from './server.ts';

const limitDefault = 100;
const limitMax = 1000;
const filters: readonly LetterFilter[] = [...letterStandings, 'all'];

/** What is needed of the log. */
export type LetterSource = Pick<LogAppender, 'deadLetter' | 'deadLetters' | 'deadLetterCount'>;

/**
 * `limit`, `cursor` (the last answer's next_cursor) and `state` are the parameters, or `position` (3:17) for one letter
 * alone, whatever its state: `not_found` if there is none.
 */
export async function deadLettersAnswer(letters: LetterSource, request: GetRequest): Promise<Answer> {
  let limit = limitDefault;
  let after: LetterPlace | undefined;
  let which: LetterFilter = 'parked';
  let position: LetterPlace | null = null;
  for (const [name, value] of new URLSearchParams(request.query)) {
    if (name === 'limit') {
      limit = Number(value);
      if (!Number.isInteger(limit) || limit < 1 || limit > limitMax) {
        throw new EssError(
          'invalid_parameter',
          `limit must be a whole number from 1 to ${limitMax}, not "${value}"`,
        );
      }
    } else if (name === 'cursor') after = parseCursor(value);
    else if (name === 'state') {
      const found = filters.find((filter) => filter === value);
      if (found === undefined)
        throw new EssError('invalid_parameter', `state must be one of ${filters.join(', ')}, not "${value}"`);
      which = found;
    } else if (name === 'position') {
      const parts = /^(\d{1,4}):(\d{1,15})$/.exec(value);
      if (parts === null)
        throw new EssError(
          'invalid_parameter',
          `position must be like 3:17 (partition:offset), not "${value}"`,
        );
      position = { partition: Number(parts[1]), offset: Number(parts[2]) };
    } else {
      throw new EssError(
        'invalid_parameter',
        `unknown parameter "${name}"; there are limit, cursor, state and position`,
      );
    }
  }
  if (position !== null) {
    const letter = await letters.deadLetter(position);
    if (letter === null)
      throw new EssError('not_found', `there is no dead letter at ${position.partition}:${position.offset}`);
    return { status: 200, contentType: 'application/json', body: letterJson(letter) };
  }
  const found = await letters.deadLetters(limit, after, which);
  const last = found.at(-1);
  const cursor = found.length < limit || last === undefined ? null : cursorAfter(last);
  const total = await letters.deadLetterCount(which);
  const items = found.map(letterJson).join(',');
  return {
    status: 200,
    contentType: 'application/json',
    body: `{"total":${total},"dead_letters":[${items}],"next_cursor":${JSON.stringify(cursor)}}`,
  };
}

export function cursorAfter({ partition, offset }: LetterPlace): string {
  return `${partition}-${offset}`;
}

/** Throws `invalid_parameter`. */
export function parseCursor(value: string): LetterPlace {
  const parts = /^(\d{1,4})-(\d{1,15})$/.exec(value);
  if (parts === null)
    throw new EssError('invalid_parameter', `cursor "${value}" is not one that was given out`);
  return { partition: Number(parts[1]), offset: Number(parts[2]) };
}

function letterJson(letter: DeadLetter): string {
  const cursor = new RecordCursor();
  cursor.open(letter.record);
  const hasRecord = cursor.next();
  const text = (start: number, end: number): string => cursor.buffer.toString('utf8', start, end);
  const head = {
    partition: letter.partition,
    offset: letter.offset,
    time: new Date(letter.timeMs).toISOString(),
    code: letter.code,
    reason: letter.reason,
    id: hasRecord ? text(cursor.idStart, cursor.typeStart) : null,
    source: hasRecord ? text(cursor.sourceStart, cursor.subjectStart) : null,
    ...stateMembers(letter.state),
  };
  if (hasRecord && (cursor.flags & recordFlags.isBroken) !== 0) {
    // Never was an event: it may be any bytes.
    const raw = cursor.buffer.toString('base64', cursor.bodyStart, cursor.end);
    return JSON.stringify({ ...head, event: null, raw });
  }
  // The event is JSON already: it goes in as it was received.
  const event = hasRecord ? text(cursor.bodyStart, cursor.end) : 'null';
  return `${JSON.stringify(head).slice(0, -1)},"event":${event}}`;
}

function stateMembers(state: LetterState | undefined): Readonly<Record<string, unknown>> {
  if (state === undefined) return { state: 'parked' };
  const members = { state: state.type, state_time: new Date(state.timeMs).toISOString() };
  if (state.type === 'discarded') return { ...members, discard_reason: state.reason };
  if (state.type === 'replaying') return members;
  return { ...members, replayed_to: { partition: state.partition, offset: state.offset } };
}
