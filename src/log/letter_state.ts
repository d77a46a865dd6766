// What a person did about a dead letter, and how that is written down: JSON beside the letter, under the letter's own
// key, in every driver. Runs wherever letters are read; a letter of which nothing is written is parked.

import { EssError } from '../errors.ts';

/**
 * A replay is announced before it is made: where a letter is found so, the event may be in the log, at or after offset
 * `from` of `partition`, or not.
 */
export interface LetterReplaying {
  readonly type: 'replaying';
  /** Epoch ms. */
  readonly timeMs: number;
  /** Where the event is appended: another try goes there, too, where copies are recognised. */
  readonly partition: number;
  /** The end of that partition before the first try. */
  readonly from: number;
  /** Identity of the event, which is another than the letter's where a person gave another event. */
  readonly id: string;
  readonly source: string;
  /** SHA-256 of the packed record, hex: another try must append the same. */
  readonly digest: string;
}

/** The event is in the log again, and this record of it is what counts. */
export interface LetterReplayed {
  readonly type: 'replayed';
  readonly timeMs: number;
  readonly partition: number;
  readonly offset: number;
}

export interface LetterDiscarded {
  readonly type: 'discarded';
  readonly timeMs: number;
  /** By whom and why, as the person said it. */
  readonly reason: string;
}

export type LetterState = LetterReplaying | LetterReplayed | LetterDiscarded;

/** Where a letter stands for people: one that is being replayed still needs them. */
export const letterStandings = ['parked', 'replayed', 'discarded'] as const;
export type LetterStanding = (typeof letterStandings)[number];
export type LetterFilter = LetterStanding | 'all';

export function standingOf(state: LetterState | undefined): LetterStanding {
  return state === undefined || state.type === 'replaying' ? 'parked' : state.type;
}

/** Longest reason for a discard, UTF-16 units. */
export const discardReasonMax = 1000;

/** A state on its way to the log. */
export interface LetterChange {
  readonly partition: number;
  readonly offset: number;
  readonly state: LetterState;
}

export function encodeLetterState(state: LetterState): Buffer {
  return Buffer.from(JSON.stringify(state));
}

/** Throws `format_unknown` for what this ESS did not write: taken for parked, the event might be stored twice. */
export function decodeLetterState(bytes: Uint8Array): LetterState {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString();
  const value = objectOf(text);
  const { type, timeMs, partition, offset, from, id, source, digest, reason } = value;
  if (typeof timeMs === 'number') {
    if (type === 'discarded' && typeof reason === 'string') return { type, timeMs, reason };
    if (typeof partition === 'number') {
      if (type === 'replayed' && typeof offset === 'number') return { type, timeMs, partition, offset };
      const isWhole =
        typeof from === 'number' &&
        typeof id === 'string' &&
        typeof source === 'string' &&
        typeof digest === 'string';
      if (type === 'replaying' && isWhole) return { type, timeMs, partition, from, id, source, digest };
    }
  }
  throw new EssError(
    'format_unknown',
    `the state of a dead letter is of a newer format: ${text.slice(0, 200)}`,
  );
}

function objectOf(text: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null) return { ...value };
  } catch {
    // Named below, with its text.
  }
  return {};
}
