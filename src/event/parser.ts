// Turns the bytes of one event into what ESS needs of it: identity, type, source, subject, key and time. Runs on
// producer workers (and on sinks for foreign records). It never changes the bytes: they are stored as received.

import { isUtf8 } from 'node:buffer';
import type { ErrorCode } from '../errors.ts';
import { countMembers, findJsonError, type JsonMeasure, measureJson } from './json_scan.ts';
import { recordFlags } from './record.ts';
import { eventTimeMs } from './time.ts';
import { uuidV7 } from './uuid.ts';

/** Longest `id` and `type`, bytes of UTF-8. */
export const idBytesMax = 256;
/** Longest `source`, `subject` and `key`, bytes of UTF-8. */
export const nameBytesMax = 1024;

/** Why an event was not taken. */
export interface EventFault {
  readonly code: Extract<ErrorCode, 'malformed_json' | 'invalid_event' | 'too_large'>;
  readonly message: string;
  /** The member at fault, if it is one. */
  readonly field?: string;
  /** Byte position, for malformed JSON: in the event, or from where the caller counts. */
  readonly position?: number;
}

/** Bounds of a single event. */
export interface EventLimits {
  readonly eventBytesMax: number;
  readonly eventDepthMax: number;
}

/** Parses one event after the other; the fields describe the latest one that `parse` took. */
export class EventParser {
  id = '';
  type = '';
  source = '';
  subject = '';
  /** Null when the event has no key of its own: the id is the key. */
  key: string | null = null;
  /** Epoch milliseconds: the event's own time, else the ingest time. */
  timeMs = 0;
  /** Bits of recordFlags. */
  flags = 0;
  readonly #limits: EventLimits;
  readonly #measure: JsonMeasure = { depth: 0, members: 0 };

  constructor(limits: EventLimits) {
    this.#limits = limits;
  }

  /**
   * Parses `bytes` from `start` to `end`; null when it is a valid event, which the fields then describe. Positions in
   * faults are counted from `origin`.
   */
  parse(
    bytes: Buffer,
    start: number,
    end: number,
    ingestTimeMs: number,
    origin: number = start,
  ): EventFault | null {
    if (end - start > this.#limits.eventBytesMax) {
      return {
        code: 'too_large',
        message: `the event has ${end - start} bytes, the limit event_bytes_max is ${this.#limits.eventBytesMax}`,
      };
    }
    measureJson(bytes, start, end, this.#measure);
    if (this.#measure.depth > this.#limits.eventDepthMax) {
      return {
        code: 'too_large',
        message: `the event nests ${this.#measure.depth} levels deep, the limit event_depth_max is ${this.#limits.eventDepthMax}`,
      };
    }
    const text = bytes.toString('utf8', start, end);
    // Bytes that are not UTF-8 become U+FFFD, which may also have been sent: only then they must be looked at.
    if (text.includes('\ufffd')) {
      const slice = bytes.subarray(start, end);
      if (!isUtf8(slice)) {
        const position = start - origin + utf8ErrorAt(slice);
        return { code: 'malformed_json', message: 'the event is not valid UTF-8', position };
      }
    }
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch {
      const position = start - origin + Math.max(0, findJsonError(bytes, start, end));
      return { code: 'malformed_json', message: `not valid JSON at byte ${position}`, position };
    }
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      return { code: 'invalid_event', message: 'an event must be a JSON object' };
    }
    if (countMembers(value) !== this.#measure.members) {
      return { code: 'invalid_event', message: 'a member name is used twice in one object' };
    }
    return this.#take(value as Readonly<Record<string, unknown>>, ingestTimeMs);
  }

  #take(event: Readonly<Record<string, unknown>>, ingestTimeMs: number): EventFault | null {
    const { id = null, type = null, source = null, subject = null, key = null, time = null } = event;
    const fault =
      checkText('id', id, 1, idBytesMax) ??
      checkText('type', type, 1, idBytesMax) ??
      checkText('source', source, 0, nameBytesMax) ??
      checkText('subject', subject, 0, nameBytesMax) ??
      checkText('key', key, 1, nameBytesMax);
    if (fault !== null) return fault;
    let flags = 0;
    if (time === null) {
      this.timeMs = ingestTimeMs;
    } else {
      const timeMs = eventTimeMs(time);
      if (Number.isNaN(timeMs)) {
        return {
          code: 'invalid_event',
          field: 'time',
          message: 'time must be RFC 3339 text or epoch milliseconds, from 1900 to 2299',
        };
      }
      this.timeMs = timeMs;
      flags |= recordFlags.hasTime;
    }
    if (typeof id === 'string') {
      this.id = id;
    } else {
      this.id = uuidV7(ingestTimeMs);
      flags |= recordFlags.isIdGenerated;
    }
    this.type = typeof type === 'string' ? type : 'event';
    this.source = typeof source === 'string' ? source : '';
    this.subject = typeof subject === 'string' ? subject : '';
    this.key = typeof key === 'string' && key !== id ? key : null;
    this.flags = flags;
    return null;
  }
}

/** Null if the member is absent (or null) or a well-formed text within its bounds. */
function checkText(field: string, value: unknown, bytesMin: number, bytesMax: number): EventFault | null {
  if (value === null) return null;
  if (typeof value !== 'string') {
    return { code: 'invalid_event', field, message: `${field} must be a string` };
  }
  // A UTF-16 unit is at most 3 bytes of UTF-8, so that short texts need no counting.
  const isShort = value.length * 3 <= bytesMax;
  if (value.length < bytesMin || (!isShort && Buffer.byteLength(value) > bytesMax)) {
    return { code: 'invalid_event', field, message: `${field} must have ${bytesMin} to ${bytesMax} bytes` };
  }
  // Two different lone surrogates would become the same replacement character, and two events one identity.
  if (!value.isWellFormed()) {
    return { code: 'invalid_event', field, message: `${field} holds a lone surrogate` };
  }
  return null;
}

/** Position of the first byte that is not part of valid UTF-8. */
function utf8ErrorAt(bytes: Buffer): number {
  let low = 0;
  let high = bytes.length;
  // The longest valid prefix by bisection: a prefix may end inside a character, so allow for up to 3 bytes of it.
  const isPrefixValid = (length: number): boolean => {
    for (let cut = 0; cut < 4 && cut <= length; cut += 1)
      if (isUtf8(bytes.subarray(0, length - cut))) return true;
    return false;
  };
  while (low + 1 < high) {
    const middle = (low + high) >>> 1;
    if (isPrefixValid(middle)) low = middle;
    else high = middle;
  }
  // That allowance also let up to 3 bytes of the broken character pass: step back before it.
  while (!isUtf8(bytes.subarray(0, low))) low -= 1;
  return low;
}
