// The query string of a read, taken apart strictly: a parameter that is misspelt, repeated or out of range is refused
// by name instead of being ignored, since an ignored filter gives a wrong answer. Runs on reader threads.

import { EssError } from '../../errors.ts';
import { parseRfc3339, timeMsMax, timeMsMin } from '../../event/time.ts';

/** A refused parameter: EssError `invalid_parameter` that also carries its name. */
export class ParameterError extends EssError {
  readonly parameter: string;

  /** `problem` says what is wrong, `valid` what would be right. */
  constructor(parameter: string, problem: string, valid: string) {
    super('invalid_parameter', `${parameter}: ${problem}. Valid: ${valid}.`);
    this.parameter = parameter;
  }
}

/** Longest piece of a refused value that is repeated in the answer, UTF-16 units. */
const quotedMax = 100;

/** A refused value as it is shown in an answer. */
export function quoted(text: string): string {
  return JSON.stringify(text.length <= quotedMax ? text : `${text.slice(0, quotedMax)}...`);
}

/** Decodes one percent-encoded piece; throws ParameterError in the name of `parameter` if it is not UTF-8. */
export function decodePiece(piece: string, parameter: string): string {
  try {
    return decodeURIComponent(piece);
  } catch {
    throw new ParameterError(
      parameter,
      `${quoted(piece)} is not percent-encoded UTF-8`,
      'percent-encoded UTF-8',
    );
  }
}

/** Epoch milliseconds written as a number; RFC 3339 is tried otherwise. */
const epochMs = /^-?\d{1,16}$/;
/** An unescaped `+` of a UTC offset arrives as a space. */
const offsetAfterSpace = / (?=\d\d:\d\d$)/;

/** Epoch milliseconds (integer, timeMsMin to timeMsMax + 1) of an RFC 3339 text or of a number. */
export function parseTimeMs(name: string, text: string): number {
  const ms = epochMs.test(text) ? Number(text) : parseRfc3339(text.replace(offsetAfterSpace, '+'));
  // One more than the last valid time, because upper bounds are exclusive.
  if (ms >= timeMsMin && ms <= timeMsMax + 1) return ms;
  throw new ParameterError(
    name,
    `${quoted(text)} is not such a time`,
    `RFC 3339 (2026-11-01T12:00:00Z) or epoch milliseconds, ${new Date(timeMsMin).toISOString()} to ${new Date(timeMsMax + 1).toISOString()}`,
  );
}

/** The parameters of one request, by name. */
export class Parameters {
  readonly #values = new Map<string, string[]>();

  /** Takes a raw query string without `?` apart. Throws ParameterError for a name that is not in `known`. */
  constructor(query: string, known: readonly string[]) {
    for (const pair of query.split('&')) {
      if (pair === '') continue;
      const equals = pair.indexOf('=');
      const rawName = equals < 0 ? pair : pair.slice(0, equals);
      const name = decodePiece(rawName.replaceAll('+', ' '), rawName);
      if (!known.includes(name))
        throw new ParameterError(name, 'there is no such parameter here', known.join(', '));
      const value = equals < 0 ? '' : decodePiece(pair.slice(equals + 1).replaceAll('+', ' '), name);
      const values = this.#values.get(name);
      if (values === undefined) this.#values.set(name, [value]);
      else values.push(value);
    }
  }

  /** The value, or null if the parameter is absent. Throws ParameterError if it is there more than once. */
  text(name: string): string | null {
    const values = this.#values.get(name) ?? [];
    if (values.length > 1)
      throw new ParameterError(name, `it is given ${values.length} times`, 'at most once');
    return values[0] ?? null;
  }

  /** All values of a parameter that may be repeated. */
  texts(name: string): readonly string[] {
    return this.#values.get(name) ?? [];
  }

  /** One of `choices`, or null if absent. */
  choice<C extends string>(name: string, choices: readonly C[]): C | null {
    const text = this.text(name);
    if (text === null) return null;
    const choice = choices.find((candidate) => candidate === text);
    if (choice === undefined)
      throw new ParameterError(name, `${quoted(text)} is none of them`, choices.join(', '));
    return choice;
  }

  /** A decimal integer from `min` to `max`, or null if absent. */
  integer(name: string, min: number, max: number): number | null {
    const text = this.text(name);
    if (text === null) return null;
    const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
    if (value >= min && value <= max) return value;
    throw new ParameterError(
      name,
      `${quoted(text)} is not such a number`,
      `an integer from ${min} to ${max}`,
    );
  }

  /** Epoch milliseconds, or null if absent. */
  timeMs(name: string): number | null {
    const text = this.text(name);
    return text === null ? null : parseTimeMs(name, text);
  }
}

/** Refuses a range in which nothing can be. */
export function checkRange(fromMs: number | null, toMs: number | null): void {
  if (fromMs === null || toMs === null || fromMs < toMs) return;
  throw new ParameterError(
    'to',
    `${new Date(toMs).toISOString()} is not after from, ${new Date(fromMs).toISOString()}`,
    'a time after from (from is inclusive, to is exclusive)',
  );
}
