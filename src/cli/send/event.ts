// Makes the event that is sent out of a row: the row's members as they are, with the members that the options name
// put in front. Numbers keep their digits, since the text is cut and joined, not parsed and written again.

import { createHash } from 'node:crypto';
import { eventTimeMs } from '../../event/time.ts';
import { uuidV7 } from '../../event/uuid.ts';
import { memberRanges, memberText } from './json_text.ts';
import { Occurrences } from './occurrences.ts';
import { type EventMember, eventMembers, type SendOptions } from './options.ts';
import type { CsvHeader, Place, Row, RowCode } from './row.ts';
import { parseTime } from './time.ts';

/** An event ready to be sent. */
export interface OutgoingEvent {
  readonly type: 'event';
  readonly place: Place;
  /** One line of NDJSON, without the line feed. */
  readonly text: string;
}

/** A row that is not sent. */
export interface RefusedRow {
  readonly type: 'refused';
  readonly place: Place;
  readonly code: RowCode;
  readonly message: string;
}

type BuilderOptions = Pick<
  SendOptions,
  'fields' | 'constants' | 'isIdFromContent' | 'hasNumbers' | 'timeFormat' | 'timeZone'
>;

/** A JSON number, exactly. */
const jsonNumber = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/;
/** Deepest nesting of a row whose content is hashed: the deepest that a service can be configured to take. */
const depthMax = 1000;
/** Members of the event that ESS reads: a CSV column of this name is never turned into a number. */
const memberNames: ReadonlySet<string> = new Set(eventMembers);

/** Within this file: one of the steps below found the row unfit. */
class Refusal extends Error {
  readonly code: RowCode;

  constructor(code: RowCode, message: string) {
    super(message);
    this.code = code;
  }
}

/** Builds events one after the other; repeated rows are counted over all of them. */
export class EventBuilder {
  readonly #options: BuilderOptions;
  readonly #occurrences: Occurrences;

  constructor(options: BuilderOptions, occurrences = new Occurrences()) {
    this.#options = options;
    this.#occurrences = occurrences;
  }

  build(row: Row): OutgoingEvent | RefusedRow {
    const { place } = row;
    if (row.type === 'bad') return { type: 'refused', place, code: row.code, message: row.message };
    try {
      const content =
        row.type === 'json'
          ? new JsonContent(row.text)
          : new CsvContent(row.header, row.fields, this.#options.hasNumbers);
      return { type: 'event', place, text: this.#text(content) };
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      return { type: 'refused', place, code: error.code, message: error.message };
    }
  }

  #text(row: Content): string {
    const { fields, constants, isIdFromContent } = this.#options;
    /** What is put in place of the row's members: JSON text, or null for a member that is only taken away. */
    const own = new Map<string, string | null>();
    // An id is given before the first attempt: a batch that is sent again must have the same ids.
    if (isIdFromContent) own.set('id', JSON.stringify(this.#contentId(row)));
    else if (!fields.has('id') && isNone(row.value('id'))) own.set('id', JSON.stringify(uuidV7(Date.now())));
    for (const member of eventMembers) {
      const field = fields.get(member);
      if (member === 'time') {
        const time = constants.has('time') ? null : this.#time(row, field);
        if (time !== null) own.set('time', JSON.stringify(time));
      } else if (field !== undefined) {
        const text = memberValue(row, member, field);
        own.set(member, text === '' ? null : JSON.stringify(text));
      }
    }
    for (const [name, text] of constants) own.set(name, text);
    const parts: string[] = [];
    for (const [name, text] of own) if (text !== null) parts.push(`${JSON.stringify(name)}:${text}`);
    const members = row.membersWithout(own);
    if (members !== '') parts.push(members);
    return `{${parts.join(',')}}`;
  }

  /** RFC 3339 text for the event's time, or null if the row has none or its own can stay as it is. */
  #time(row: Content, field: string | undefined): string | null {
    const name = field ?? 'time';
    const value = row.value(name);
    if (field === undefined && isNone(value)) return null;
    if (value === undefined)
      throw new Refusal('bad_field', `the field ${JSON.stringify(name)} (--time) is missing`);
    if (typeof value !== 'string' && typeof value !== 'number') {
      throw new Refusal('bad_time', `the time ${JSON.stringify(name)} is neither text nor a number`);
    }
    const text = String(value);
    const ms = parseTime(text, this.#options.timeFormat, this.#options.timeZone);
    if (typeof ms === 'string') throw new Refusal('bad_time', `${JSON.stringify(text.slice(0, 64))}: ${ms}`);
    // What the service reads as the same moment stays byte for byte.
    return name === 'time' && eventTimeMs(value) === ms ? null : new Date(ms).toISOString();
  }

  #contentId(row: Content): string {
    const digest = createHash('sha256').update(row.canonical()).digest();
    const occurrence = this.#occurrences.count(digest);
    if (occurrence === 0) {
      throw new Refusal('bad_row', 'the input has too many different rows for --id-from-content: split it');
    }
    const id = digest.toString('hex', 0, 16);
    return occurrence === 1 ? id : `${id}-${occurrence}`;
  }
}

/** The text of a field for a member of the event; empty for a field without a value. */
function memberValue(row: Content, member: EventMember, field: string): string {
  const value = row.value(field);
  let text = '';
  if (typeof value === 'string' || typeof value === 'boolean') text = String(value);
  // Beyond 2^53 only the row's text has all the digits.
  else if (typeof value === 'number')
    text = Number.isSafeInteger(value) ? String(value) : row.numberText(field);
  else if (value !== null) {
    const problem = value === undefined ? 'is missing' : 'is an object or an array';
    throw new Refusal('bad_field', `the field ${JSON.stringify(field)} (--${member}) ${problem}`);
  }
  if (text === '' && member === 'id') {
    throw new Refusal('bad_field', `the field ${JSON.stringify(field)} (--id) is empty`);
  }
  return text;
}

function isNone(value: unknown): boolean {
  return value === undefined || value === null;
}

/** What the builder needs to know of a row, whatever format it came in. */
interface Content {
  /** The value of a field, as JSON.parse would give it; undefined if the row has no such field. */
  value(field: string): unknown;
  /** The digits of a field whose value is a number. */
  numberText(field: string): string;
  /** The same text for every row of the same content. */
  canonical(): string;
  /** The members as JSON text without braces, except those that are replaced. */
  membersWithout(replaced: ReadonlyMap<string, unknown>): string;
}

type JsonObject = Readonly<Record<string, unknown>>;

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

class JsonContent implements Content {
  readonly #text: string;
  readonly #object: JsonObject;

  constructor(text: string) {
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch (error) {
      throw new Refusal('bad_row', `not valid JSON: ${error instanceof Error ? error.message : error}`);
    }
    if (!isObject(value)) throw new Refusal('bad_row', 'the row is not a JSON object');
    this.#object = value;
    // In valid JSON, line feeds stand only between its parts, and so does the indentation around them.
    this.#text = (/[\r\n]/.test(text) ? text.replace(/[ \t]*[\r\n][ \t\r\n]*/g, '') : text).trim();
  }

  value(field: string): unknown {
    let value: unknown = this.#object;
    for (const name of this.#path(field)) {
      if (!isObject(value) || !Object.hasOwn(value, name)) return undefined;
      value = value[name];
    }
    return value;
  }

  numberText(field: string): string {
    return memberText(this.#text, this.#path(field));
  }

  canonical(): string {
    return canonical(this.#object, 1);
  }

  membersWithout(replaced: ReadonlyMap<string, unknown>): string {
    let isCut = false;
    for (const name of replaced.keys()) isCut ||= Object.hasOwn(this.#object, name);
    if (!isCut) return this.#text.slice(1, -1).trim();
    return memberRanges(this.#text)
      .filter(({ name }) => !replaced.has(name))
      .map(({ start, end }) => this.#text.slice(start, end))
      .join(',');
  }

  /** A member whose name has dots in it goes before a path. */
  #path(field: string): readonly string[] {
    return Object.hasOwn(this.#object, field) ? [field] : field.split('.');
  }
}

class CsvContent implements Content {
  readonly #header: CsvHeader;
  readonly #fields: readonly string[];
  readonly #hasNumbers: boolean;

  constructor(header: CsvHeader, fields: readonly string[], hasNumbers: boolean) {
    this.#header = header;
    this.#fields = fields;
    this.#hasNumbers = hasNumbers;
  }

  value(field: string): string | undefined {
    const index = this.#header.indexByName.get(field);
    return index === undefined ? undefined : this.#fields[index];
  }

  numberText(field: string): string {
    return this.value(field) ?? '';
  }

  canonical(): string {
    // Object.fromEntries, unlike assignment, makes a column called __proto__ a member like any other.
    return canonical(Object.fromEntries(this.#header.names.map((name, i) => [name, this.#fields[i]])), 1);
  }

  membersWithout(replaced: ReadonlyMap<string, unknown>): string {
    const parts: string[] = [];
    this.#header.names.forEach((name, i) => {
      if (replaced.has(name)) return;
      const field = this.#fields[i] ?? '';
      const isNumber = this.#hasNumbers && !memberNames.has(name) && jsonNumber.test(field);
      parts.push(`${JSON.stringify(name)}:${isNumber ? field : JSON.stringify(field)}`);
    });
    return parts.join(',');
  }
}

/** JSON text with the members of every object in the order of their names. */
function canonical(value: unknown, depth: number): string {
  if (depth > depthMax) throw new Refusal('bad_row', `the row nests more than ${depthMax} levels deep`);
  if (Array.isArray(value)) return `[${value.map((item) => canonical(item, depth + 1)).join(',')}]`;
  if (!isObject(value)) return JSON.stringify(value);
  const members = Object.keys(value)
    .sort()
    .map((name) => `${JSON.stringify(name)}:${canonical(value[name], depth + 1)}`);
  return `{${members.join(',')}}`;
}
