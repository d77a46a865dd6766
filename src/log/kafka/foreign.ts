// Makes packed records of what ESS did not write: records of other producers, and bytes that nobody can read. Runs on
// sink threads. The result follows from the record, its offset and the configured limits alone, so that it is the same
// whenever and by whomever the record is read again. Nothing is refused here: what cannot be an event becomes a broken
// record, which the sink keeps among the dead letters.

import { isUtf8 } from 'node:buffer';
import type { ErrorCode } from '../../errors.ts';
import { type EventLimits, EventParser, nameBytesMax } from '../../event/parser.ts';
import { RecordWriter, recordFlags } from '../../event/record.ts';
import { timeMsMax, timeMsMin } from '../../event/time.ts';
import type { BatchDefect } from './wire/batch_visitor.ts';

/** Why something in the log is no event; the `type` of its packed record. */
export type BrokenCode =
  | Extract<ErrorCode, 'malformed_json' | 'invalid_event' | 'too_large'>
  | 'no_value'
  | BatchDefect;

/** The parts of a record of another producer, as positions in `buffer`. */
export interface ForeignRecord {
  readonly buffer: Buffer;
  readonly offset: number;
  /** As the record has it: not checked. */
  readonly timestampMs: number;
  /** -1 where there is no key. */
  readonly keyStart: number;
  readonly keyEnd: number;
  /** -1 where there is no value. */
  readonly valueStart: number;
  readonly valueEnd: number;
}

/** Longest reason, UTF-16 units; reasons may quote what came from outside. */
const reasonUnitsMax = 500;

/**
 * A record's timestamp as an ingest time: whole milliseconds, moved to the nearest end of 1900-2299 if it lies
 * outside, which is all that the store can hold; 1970 if it is no number.
 */
export function ingestTimeOf(timestampMs: number): number {
  if (Number.isNaN(timestampMs)) return 0;
  return Math.min(Math.max(Math.trunc(timestampMs), timeMsMin), timeMsMax);
}

export class ForeignPacker {
  readonly #epoch: string;
  readonly #limits: EventLimits;
  readonly #parser: EventParser;
  readonly #writer = new RecordWriter();

  constructor(epoch: string, limits: EventLimits) {
    this.#epoch = epoch;
    this.#limits = limits;
    this.#parser = new EventParser(limits);
  }

  /**
   * The packed record of a Kafka record without a valid `ess` header; valid until the next call. An event without an
   * id gets its place in the log as one. The record's key is the event's, if it can be one, since it is what decided
   * about the partition; else the event's own.
   */
  pack(partition: number, record: ForeignRecord): Buffer {
    const { buffer, offset, valueStart, valueEnd, timestampMs } = record;
    if (valueStart < 0)
      return this.broken(partition, offset, timestampMs, 'no_value', 'the record has no value', buffer, 0, 0);
    const parser = this.#parser;
    const ingestTimeMs = ingestTimeOf(timestampMs);
    const fault = parser.parse(buffer, valueStart, valueEnd, ingestTimeMs);
    if (fault !== null) {
      const { code, message } = fault;
      return this.broken(partition, offset, timestampMs, code, message, buffer, valueStart, valueEnd);
    }
    const isIdMade = (parser.flags & recordFlags.isIdGenerated) !== 0;
    const id = isIdMade ? this.#placeOf(partition, offset) : parser.id;
    const key = keyOf(record) ?? parser.key;
    this.#writer.reset();
    this.#writer.append(
      parser.flags | recordFlags.isForeign,
      id,
      parser.type,
      parser.source,
      parser.subject,
      key === id ? null : key,
      ingestTimeMs,
      parser.timeMs,
      buffer,
      valueStart,
      valueEnd,
    );
    return this.#writer.bytes;
  }

  /**
   * The packed record of something that is no event; valid until the next call. Its body is the bytes from `start` to
   * `end`, cut off at the size of the largest event: as much as the dead letters can take.
   */
  broken(
    partition: number,
    offset: number,
    timestampMs: number,
    code: BrokenCode,
    reason: string,
    bytes: Buffer,
    start: number,
    end: number,
  ): Buffer {
    const bodyEnd = Math.min(end, start + this.#limits.eventBytesMax);
    const ingestTimeMs = ingestTimeOf(timestampMs);
    const cut = bodyEnd < end ? `; kept are the first ${bodyEnd - start} of ${end - start} bytes` : '';
    this.#writer.reset();
    this.#writer.append(
      recordFlags.isForeign | recordFlags.isBroken,
      this.#placeOf(partition, offset),
      code,
      '',
      `${reason.slice(0, reasonUnitsMax).toWellFormed()}${cut}`,
      null,
      ingestTimeMs,
      ingestTimeMs,
      bytes,
      start,
      bodyEnd,
    );
    return this.#writer.bytes;
  }

  #placeOf(partition: number, offset: number): string {
    return `${this.#epoch}:${partition}:${offset}`;
  }
}

/** The record's key as a text; null if it has none that ESS could have taken. */
function keyOf({ buffer, keyStart, keyEnd }: ForeignRecord): string | null {
  const bytes = keyEnd - keyStart;
  if (keyStart < 0 || bytes < 1 || bytes > nameBytesMax) return null;
  return isUtf8(buffer.subarray(keyStart, keyEnd)) ? buffer.toString('utf8', keyStart, keyEnd) : null;
}
