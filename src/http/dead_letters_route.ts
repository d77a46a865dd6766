// GET /dead-letters: what the store refused, with the reason and the event, in (partition, offset) order.

import { EssError } from '../errors.ts';
import { RecordCursor, recordFlags } from '../event/record.ts';
import type { DeadLetter, DeadLetterReader } from '../log/log.ts';
import type { Answer, GetRequest } from './server.ts';

const limitDefault = 100;
const limitMax = 1000;

/** `limit` and `cursor` (the last answer's next_cursor) are the parameters. */
export async function deadLettersAnswer(letters: DeadLetterReader, request: GetRequest): Promise<Answer> {
  let limit = limitDefault;
  let after: { readonly partition: number; readonly offset: number } | undefined;
  for (const [name, value] of new URLSearchParams(request.query)) {
    if (name === 'limit') {
      limit = Number(value);
      if (!Number.isInteger(limit) || limit < 1 || limit > limitMax) {
        throw new EssError(
          'invalid_parameter',
          `limit must be a whole number from 1 to ${limitMax}, not "${value}"`,
        );
      }
    } else if (name === 'cursor') {
      const parts = /^(\d{1,4})-(\d{1,15})$/.exec(value);
      if (parts === null)
        throw new EssError('invalid_parameter', `cursor "${value}" is not one that was given out`);
      after = { partition: Number(parts[1]), offset: Number(parts[2]) };
    } else throw new EssError('invalid_parameter', `unknown parameter "${name}"; there are limit and cursor`);
  }
  const found = await letters.deadLetters(limit, after);
  const last = found.at(-1);
  const cursor = found.length < limit || last === undefined ? null : `${last.partition}-${last.offset}`;
  const total = await letters.deadLetterCount();
  const items = found.map(letterJson).join(',');
  return {
    status: 200,
    contentType: 'application/json',
    body: `{"total":${total},"dead_letters":[${items}],"next_cursor":${JSON.stringify(cursor)}}`,
  };
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
