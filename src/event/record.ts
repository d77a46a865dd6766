// The packed record: how one accepted event travels from the producer worker through the log to the sink.
// Producer workers write it once; the sink copies its parts straight into columns, without making objects of it.
// This file is the only one that knows the byte layout.
//
//    0         4      6      8      10       12       14      16            24        32
//    +---------+------+------+------+--------+--------+-------+-------------+---------+----------------------
//    | bytes   |flags | id   | type | source | subject| key   | ingest_time | time    | id type source subject
//    | u32     |u16   | u16  | u16  | u16    | u16    | u16   | f64 ms      | f64 ms  | key body (bytes, no gap)
//    +---------+------+------+------+--------+--------+-------+-------------+---------+----------------------
//    bytes: the whole record, header included. id..key: lengths in bytes. All little-endian, unaligned.
//    The body is what remains: the event's JSON as received, byte for byte.

import { EssError } from '../errors.ts';
import { writeText } from './text.ts';

/** Bytes before the first variable part. */
export const recordHeaderBytes = 32;

/** Bits of the flags field. */
export const recordFlags = {
  /** The event carried its own `time`; otherwise `time` is the ingest time. */
  hasTime: 1,
  /** ESS made the id, since the event had none. */
  isIdGenerated: 2,
  /** The key is the id and is not stored a second time. */
  isKeyId: 4,
  /** The record was not written by ESS: its parts were derived from foreign bytes. */
  isForeign: 8,
  /**
   * No event could be made of it: `type` is the code of the reason, `subject` the reason, and the body the raw bytes.
   * The sink keeps it among the dead letters.
   */
  isBroken: 16,
} as const;

const at = {
  bytes: 0,
  flags: 4,
  idBytes: 6,
  typeBytes: 8,
  sourceBytes: 10,
  subjectBytes: 12,
  keyBytes: 14,
  ingestTimeMs: 16,
  timeMs: 24,
} as const;

/** A growing run of packed records of one partition. */
export class RecordWriter {
  #buffer: Buffer;
  #used = 0;
  #count = 0;

  constructor(initialBytes = 16 * 1024) {
    this.#buffer = Buffer.allocUnsafeSlow(initialBytes);
  }

  /** Records written since the last `reset`. */
  get count(): number {
    return this.#count;
  }

  /** Bytes written since the last `reset`. */
  get usedBytes(): number {
    return this.#used;
  }

  /** The packed records; valid until the next `append` or `reset`. */
  get bytes(): Buffer {
    return this.#buffer.subarray(0, this.#used);
  }

  reset(): void {
    this.#used = 0;
    this.#count = 0;
  }

  /** Cuts back to an earlier state, given by the `usedBytes` and `count` read then. */
  truncate(usedBytes: number, count: number): void {
    this.#used = usedBytes;
    this.#count = count;
  }

  /**
   * Appends one record. `key` null means that the key is the id. Strings must be well-formed and at most
   * 65,535 bytes of UTF-8 each; `body` is copied from `bodyStart` to `bodyEnd`.
   */
  append(
    flags: number,
    id: string,
    type: string,
    source: string,
    subject: string,
    key: string | null,
    ingestTimeMs: number,
    timeMs: number,
    body: Uint8Array,
    bodyStart: number,
    bodyEnd: number,
  ): void {
    const bodyBytes = bodyEnd - bodyStart;
    const worst =
      recordHeaderBytes +
      3 * (id.length + type.length + source.length + subject.length + (key === null ? 0 : key.length)) +
      bodyBytes;
    if (this.#used + worst > this.#buffer.length) this.#grow(worst);
    const buffer = this.#buffer;
    const start = this.#used;
    let end = start + recordHeaderBytes;
    const idBytes = writeText(buffer, id, end);
    end += idBytes;
    const typeBytes = writeText(buffer, type, end);
    end += typeBytes;
    const sourceBytes = writeText(buffer, source, end);
    end += sourceBytes;
    const subjectBytes = writeText(buffer, subject, end);
    end += subjectBytes;
    const keyBytes = key === null ? 0 : writeText(buffer, key, end);
    end += keyBytes;
    buffer.set(bodyStart === 0 && bodyEnd === body.length ? body : body.subarray(bodyStart, bodyEnd), end);
    end += bodyBytes;
    buffer.writeUInt32LE(end - start, start + at.bytes);
    buffer.writeUInt16LE(key === null ? flags | recordFlags.isKeyId : flags, start + at.flags);
    buffer.writeUInt16LE(idBytes, start + at.idBytes);
    buffer.writeUInt16LE(typeBytes, start + at.typeBytes);
    buffer.writeUInt16LE(sourceBytes, start + at.sourceBytes);
    buffer.writeUInt16LE(subjectBytes, start + at.subjectBytes);
    buffer.writeUInt16LE(keyBytes, start + at.keyBytes);
    buffer.writeDoubleLE(ingestTimeMs, start + at.ingestTimeMs);
    buffer.writeDoubleLE(timeMs, start + at.timeMs);
    this.#used = end;
    this.#count += 1;
  }

  #grow(neededBytes: number): void {
    let size = this.#buffer.length * 2;
    while (size < this.#used + neededBytes) size *= 2;
    const larger = Buffer.allocUnsafeSlow(size);
    larger.set(this.#buffer.subarray(0, this.#used));
    this.#buffer = larger;
  }
}

/**
 * A cursor over packed records. `next` moves to the following record and sets the fields; the parts are given as
 * byte positions in `buffer`, in the order id, type, source, subject, key, body, so that nothing is decoded that
 * nobody reads.
 */
export class RecordCursor {
  buffer: Buffer = Buffer.alloc(0);
  flags = 0;
  ingestTimeMs = 0;
  timeMs = 0;
  /** Start of the current record. */
  start = 0;
  /** End of the current record, which is the end of its body. */
  end = 0;
  idStart = 0;
  typeStart = 0;
  sourceStart = 0;
  subjectStart = 0;
  keyStart = 0;
  bodyStart = 0;

  /** Starts at the first record of `buffer`. */
  open(buffer: Buffer): void {
    this.buffer = buffer;
    this.start = 0;
    this.end = 0;
  }

  /** Moves to the next record; false at the end. A record that does not fit its buffer throws `internal`. */
  next(): boolean {
    const buffer = this.buffer;
    const start = this.end;
    if (start === buffer.length) return false;
    if (start + recordHeaderBytes > buffer.length) throw new EssError('internal', 'packed record cut short');
    const end = start + buffer.readUInt32LE(start + at.bytes);
    this.start = start;
    this.flags = buffer.readUInt16LE(start + at.flags);
    this.ingestTimeMs = buffer.readDoubleLE(start + at.ingestTimeMs);
    this.timeMs = buffer.readDoubleLE(start + at.timeMs);
    this.idStart = start + recordHeaderBytes;
    this.typeStart = this.idStart + buffer.readUInt16LE(start + at.idBytes);
    this.sourceStart = this.typeStart + buffer.readUInt16LE(start + at.typeBytes);
    this.subjectStart = this.sourceStart + buffer.readUInt16LE(start + at.sourceBytes);
    this.keyStart = this.subjectStart + buffer.readUInt16LE(start + at.subjectBytes);
    this.bodyStart = this.keyStart + buffer.readUInt16LE(start + at.keyBytes);
    if (this.bodyStart > end || end > buffer.length)
      throw new EssError('internal', 'packed record cut short');
    this.end = end;
    return true;
  }
}

/** Position in `bytes` after skipping `count` packed records. */
export function skipRecords(bytes: Buffer, count: number): number {
  let position = 0;
  for (let i = 0; i < count; i += 1) position += bytes.readUInt32LE(position + at.bytes);
  return position;
}
