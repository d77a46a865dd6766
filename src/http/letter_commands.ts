// POST /dead-letters/replay and /dead-letters/discard: what a person wants done about letters, read from JSON, and what
// became of each. Who does it is given. Main thread only.

import { type ErrorCode, EssError } from '../errors.ts';
import { discardReasonMax } from '../log/letter_state.ts';
import type { LetterPlace } from '../log/log.ts';
import { jsonType } from './answer.ts';
import type { CommandRoute } from './command_route.ts';
import { cursorAfter, parseCursor } from './dead_letters_route.ts';
import type { Answer } from './server.ts';

/** Letters in one request: a bad mend must not flood the log with what will be refused again. */
export const lettersPerRequestMax = 100;
/** Beside an event that is given, bytes of a body: a hundred positions, or a reason. */
const bodyBytesBeside = 64 * 1024;

/** What became of one letter. */
export interface LetterOutcome extends LetterPlace {
  /** Its state now; null if there is no such letter. */
  readonly state: 'parked' | 'replaying' | 'replayed' | 'discarded' | null;
  /** `already_*`: somebody had done it before. `refused`: nothing was changed. `unknown`: to be tried again. */
  readonly outcome:
    | 'replayed'
    | 'already_replayed'
    | 'discarded'
    | 'already_discarded'
    | 'refused'
    | 'unknown';
  /** The record that counts for the event now. */
  readonly replayedTo?: LetterPlace;
  /** How far that has come: `parked` means that the store refused it again. */
  readonly stage?: 'log' | 'store' | 'parked';
  readonly code?: ErrorCode;
  readonly detail?: string;
}

/** Who replays and discards letters. All reject with EssError if nothing at all could be done. */
export interface LetterDesk {
  /** `event`: the JSON text of another event in the place of the letter's own; only for one letter. */
  replay(places: readonly LetterPlace[], event: string | null): Promise<LetterOutcome[]>;
  discard(places: readonly LetterPlace[], reason: string): Promise<LetterOutcome[]>;
  /** The first letters that still need a person, after this one; `code`: only those with it. */
  open(limit: number, after: LetterPlace | undefined, code: string | null): Promise<LetterPlace[]>;
  /** How many there are. */
  openCount(): Promise<number>;
}

/** By path. */
export function letterCommands(desk: LetterDesk, eventBytesMax: number): [string, CommandRoute][] {
  return [
    [
      '/dead-letters/replay',
      {
        // The event is a JSON string within JSON: a quotation mark takes two bytes.
        bodyBytesMax: 2 * eventBytesMax + bodyBytesBeside,
        run: (body) => answer(desk, body, 'event', (members) => replay(desk, members)),
      },
    ],
    [
      '/dead-letters/discard',
      {
        bodyBytesMax: bodyBytesBeside,
        run: (body) => answer(desk, body, 'reason', (members) => discard(desk, members)),
      },
    ],
  ];
}

type Members = Readonly<Record<string, unknown>>;
type Work = (places: readonly LetterPlace[]) => Promise<LetterOutcome[]>;

function replay(desk: LetterDesk, { event = null, partition }: Members): Work {
  if (event === null) return (places) => desk.replay(places, null);
  if (typeof event !== 'string')
    refuse('event must be a string: the JSON text of the event to store instead');
  if (partition === undefined) refuse('event is for one letter, given by partition and offset');
  return (places) => desk.replay(places, event);
}

function discard(desk: LetterDesk, { reason }: Members): Work {
  if (typeof reason !== 'string' || reason.trim() === '' || reason.length > discardReasonMax)
    refuse(`reason must say why, and by whom, in 1 to ${discardReasonMax} characters`);
  return (places) => desk.discard(places, reason);
}

async function answer(
  desk: LetterDesk,
  body: Buffer,
  own: string,
  prepare: (members: Members) => Work,
): Promise<Answer> {
  const members = membersOf(body, ['partition', 'offset', 'letters', 'all', 'code', 'cursor', own]);
  // Everything that can be wrong with a request is said before anything is done.
  const work = prepare(members);
  const places = await placesOf(desk, members);
  const outcomes = places.length === 0 ? [] : await work(places);
  const last = members['all'] === true && places.length === lettersPerRequestMax ? places.at(-1) : undefined;
  return {
    status: 200,
    contentType: jsonType,
    body: JSON.stringify({
      results: outcomes.map(outcomeJson),
      parked: await desk.openCount(),
      next_cursor: last === undefined ? null : cursorAfter(last),
    }),
  };
}

function outcomeJson({ replayedTo, ...outcome }: LetterOutcome): Readonly<Record<string, unknown>> {
  return replayedTo === undefined ? outcome : { ...outcome, replayed_to: replayedTo };
}

/** The letters that are meant: one, some, or the next ones of all. */
async function placesOf(desk: LetterDesk, members: Members): Promise<readonly LetterPlace[]> {
  const { partition, offset, letters, all, code = null, cursor = null } = members;
  const ways = [partition ?? offset, letters, all].filter((way) => way !== undefined);
  if (ways.length !== 1) refuse('give partition and offset, or letters, or all: true');
  if (all !== undefined) {
    if (all !== true) refuse('all must be true');
    if (code !== null && typeof code !== 'string')
      refuse('code must be a string, as GET /dead-letters has it');
    if (cursor !== null && typeof cursor !== 'string') refuse('cursor must be a next_cursor');
    return desk.open(lettersPerRequestMax, cursor === null ? undefined : parseCursor(cursor), code);
  }
  if (code !== null || cursor !== null) refuse('code and cursor go with all: true');
  if (letters === undefined) return [placeOf({ partition, offset })];
  if (!Array.isArray(letters) || letters.length < 1 || letters.length > lettersPerRequestMax)
    refuse(`letters must be an array of 1 to ${lettersPerRequestMax} positions`);
  const places = letters.map(placeOf);
  if (new Set(places.map(cursorAfter)).size < places.length) refuse('letters names a position twice');
  return places;
}

function placeOf(value: unknown): LetterPlace {
  if (typeof value === 'object' && value !== null && 'partition' in value && 'offset' in value) {
    const { partition, offset } = value;
    if (isCount(partition) && isCount(offset)) return { partition, offset };
  }
  return refuse('a letter is given by partition and offset, whole numbers from 0 on');
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

function membersOf(body: Buffer, known: readonly string[]): Members {
  let value: unknown;
  try {
    value = JSON.parse(body.toString());
  } catch {
    throw new EssError('malformed_json', 'the body is not JSON');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    refuse('the body must be an object');
  const members: Members = { ...value };
  const unknown = Object.keys(members).find((name) => !known.includes(name));
  if (unknown !== undefined) refuse(`unknown member "${unknown}"; there are ${known.join(', ')}`);
  return members;
}

function refuse(detail: string): never {
  throw new EssError('invalid_parameter', detail);
}
