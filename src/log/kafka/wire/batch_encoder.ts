// Makes Kafka record batches (record_batch.ts): of packed records, which is what producer workers send, and of plain
// ones, which are dead letters. Nothing is allocated for a record: they are written one after the other into a buffer
// that stays, and copied out once.

import { EssError } from '../../../errors.ts';
import { RecordCursor, recordFlags } from '../../../event/record.ts';
import { compress, type WrittenCompression } from './compression.ts';
import { copyBytes } from './copy.ts';
import { crc32c } from './crc32c.ts';
import { essHeader } from './ess_header.ts';
import { writeInt64 } from './int64.ts';
import { batchAt, compressionIds, lengthEnd, magicVersion } from './record_batch.ts';
import { varintBytes, varintBytesMax, varlongBytes, writeVarint, writeVarlong } from './varint.ts';

/** A record of which nothing is known. */
export interface PlainRecord {
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  /** Epoch milliseconds, whole. */
  readonly timestampMs: number;
  readonly headers: readonly { readonly name: string; readonly value: Buffer }[];
}

const initialBytes = 256 * 1024;
/** A buffer that had to grow beyond this is let go after the batch. */
const keptBytesMax = 4 * 1024 * 1024;
/** Producer id, producer epoch, base sequence and leader epoch of a producer that is not idempotent. */
const none = -1;

/** Length of a key or value that is null. */
const nullLength = -1;
/** What every record has before the value of its header: one header, and the header's name. */
const essHeaderStart = encodedHeaderStart();

let scratch = Buffer.allocUnsafeSlow(initialBytes);
const cursor = new RecordCursor();

/**
 * One batch of `count` packed records, which are all of `packed`; the buffer is the caller's. Throws `internal` if
 * they are not, and `platform_unsupported` if this Node.js does not write the compression (see `canCompress`).
 */
export function encodeBatch(packed: Buffer, count: number, compression: WrittenCompression): Buffer {
  cursor.open(packed);
  let end: number = batchAt.records;
  let written = 0;
  let baseTimestampMs = 0;
  let maxTimestampMs = 0;
  while (cursor.next()) {
    const timestampMs = Math.floor(cursor.ingestTimeMs);
    if (written === 0) {
      baseTimestampMs = timestampMs;
      maxTimestampMs = timestampMs;
    } else if (timestampMs > maxTimestampMs) maxTimestampMs = timestampMs;
    end = writePacked(end, written, timestampMs - baseTimestampMs);
    written += 1;
  }
  if (written !== count) throw new EssError('internal', `a batch of ${written} records, not ${count}`);
  return finish(end, count, baseTimestampMs, maxTimestampMs, compression);
}

/** One batch of any records, at least one. For low rates. */
export function encodePlainBatch(
  records: readonly PlainRecord[],
  compression: WrittenCompression = 'none',
): Buffer {
  const [first] = records;
  if (first === undefined) throw new EssError('internal', 'a batch of no records');
  const baseTimestampMs = first.timestampMs;
  let maxTimestampMs = baseTimestampMs;
  let end: number = batchAt.records;
  let written = 0;
  for (const record of records) {
    maxTimestampMs = Math.max(maxTimestampMs, record.timestampMs);
    end = writePlain(end, written, record.timestampMs - baseTimestampMs, record);
    written += 1;
  }
  return finish(end, written, baseTimestampMs, maxTimestampMs, compression);
}

function encodedHeaderStart(): Buffer {
  const start = Buffer.alloc(varintBytesMax * 2 + essHeader.name.length);
  const nameEnd = writePart(start, essHeader.name, writeVarint(start, 1, 0));
  return start.subarray(0, nameEnd);
}

/** Writes the cursor's record at `position` of `scratch`; gives the position after it. */
function writePacked(position: number, offsetDelta: number, timeDeltaMs: number): number {
  const { buffer, start, idStart, typeStart, keyStart, bodyStart, end } = cursor;
  const isKeyId = (cursor.flags & recordFlags.isKeyId) !== 0;
  const nameStart = isKeyId ? idStart : keyStart;
  const nameEnd = isKeyId ? typeStart : bodyStart;
  const keyBytes = nameEnd - nameStart;
  const valueBytes = end - bodyStart;
  const headBytes = essHeader.versionBytes + keyStart - start;
  const bytes =
    1 +
    varlongBytes(timeDeltaMs) +
    varintBytes(offsetDelta) +
    varintBytes(keyBytes) +
    keyBytes +
    varintBytes(valueBytes) +
    valueBytes +
    essHeaderStart.length +
    varintBytes(headBytes) +
    headBytes;
  const target = room(position, bytes + varintBytesMax);
  let at = writeVarint(target, bytes, position);
  target[at] = 0; // attributes
  at = writeVarlong(target, timeDeltaMs, at + 1);
  at = writeVarint(target, offsetDelta, at);
  at = copyBytes(buffer, nameStart, nameEnd, target, writeVarint(target, keyBytes, at));
  at = copyBytes(buffer, bodyStart, end, target, writeVarint(target, valueBytes, at));
  at = copyBytes(essHeaderStart, 0, essHeaderStart.length, target, at);
  at = writeVarint(target, headBytes, at);
  target[at] = essHeader.version;
  return copyBytes(buffer, start, keyStart, target, at + essHeader.versionBytes);
}

/** The same for a plain record. */
function writePlain(position: number, offsetDelta: number, timeDeltaMs: number, record: PlainRecord): number {
  const { key, value } = record;
  const headers = record.headers.map((header) => ({ name: Buffer.from(header.name), value: header.value }));
  const bytes =
    1 +
    varlongBytes(timeDeltaMs) +
    varintBytes(offsetDelta) +
    partBytes(key) +
    partBytes(value) +
    varintBytes(headers.length) +
    headers.reduce((sum, header) => sum + partBytes(header.name) + partBytes(header.value), 0);
  const target = room(position, bytes + varintBytesMax);
  let at = writeVarint(target, bytes, position);
  target[at] = 0; // attributes
  at = writeVarlong(target, timeDeltaMs, at + 1);
  at = writeVarint(target, offsetDelta, at);
  at = writePart(target, key, at);
  at = writePart(target, value, at);
  at = writeVarint(target, headers.length, at);
  for (const header of headers) at = writePart(target, header.value, writePart(target, header.name, at));
  return at;
}

function partBytes(part: Buffer | null): number {
  return part === null ? varintBytes(nullLength) : varintBytes(part.length) + part.length;
}

function writePart(target: Buffer, part: Buffer | null, position: number): number {
  if (part === null) return writeVarint(target, nullLength, position);
  return copyBytes(part, 0, part.length, target, writeVarint(target, part.length, position));
}

/** `scratch`, with room for `bytes` from `position` on. */
function room(position: number, bytes: number): Buffer {
  if (position + bytes > scratch.length) {
    const larger = Buffer.allocUnsafeSlow(Math.max(position + bytes, scratch.length * 2));
    larger.set(scratch.subarray(0, position));
    scratch = larger;
  }
  return scratch;
}

/** Copies the records, which end at `end` of `scratch`, behind a header of their own. */
function finish(
  end: number,
  count: number,
  baseTimestampMs: number,
  maxTimestampMs: number,
  compression: WrittenCompression,
): Buffer {
  const plain = scratch.subarray(batchAt.records, end);
  const records = compression === 'none' ? plain : compress(plain, compression);
  const batch = Buffer.allocUnsafe(batchAt.records + records.length);
  batch.set(records, batchAt.records);
  writeInt64(batch, 0, batchAt.baseOffset);
  batch.writeInt32BE(batch.length - lengthEnd, batchAt.length);
  batch.writeInt32BE(none, batchAt.leaderEpoch);
  batch.writeInt8(magicVersion, batchAt.magic);
  batch.writeInt16BE(compressionIds[compression], batchAt.attributes);
  batch.writeInt32BE(count - 1, batchAt.lastOffsetDelta);
  writeInt64(batch, baseTimestampMs, batchAt.baseTimestampMs);
  writeInt64(batch, maxTimestampMs, batchAt.maxTimestampMs);
  writeInt64(batch, none, batchAt.producerId);
  batch.writeInt16BE(none, batchAt.producerEpoch);
  batch.writeInt32BE(none, batchAt.baseSequence);
  batch.writeInt32BE(count, batchAt.count);
  batch.writeUInt32BE(crc32c(batch, batchAt.attributes, batch.length), batchAt.crc);
  if (scratch.length > keptBytesMax) scratch = Buffer.allocUnsafeSlow(initialBytes);
  return batch;
}
