// Walks over the record batches of a fetch answer. Every batch is given either with its records or with the reason
// why it has none, and its place in the log is told from its header alone, so that one bad batch never hides the ones
// beside it. Runs on sink workers.

import { BatchRecords } from './batch_records.ts';
import { expand } from './compression.ts';
import { crc32c } from './crc32c.ts';
import { readInt64 } from './int64.ts';
import {
  attributeBits,
  batchAt,
  controlKey,
  entryBytesMin,
  lengthEnd,
  magicVersion,
} from './record_batch.ts';

/** Why a batch has no records to give. */
export type BatchDefect = 'crc_mismatch' | 'unknown_compression' | 'corrupt' | 'unknown_magic';

export interface Batch {
  readonly baseOffset: number;
  /**
   * Last offset that the batch stands for, at least `baseOffset`: the next batch begins above it. Of a batch whose
   * header cannot be trusted it is the most that is certain.
   */
  readonly lastOffset: number;
  readonly isTransactional: boolean;
  /** It holds no record of a client but marks the end of a transaction. */
  readonly isControl: boolean;
  /** What a control batch marks; null in any other, and in one that compaction has emptied. */
  readonly marker: 'abort' | 'commit' | 'other' | null;
  /** -1 if the producer was not idempotent. */
  readonly producerId: bigint;
  /** The batch as it came, compressed: a view. */
  readonly bytes: Buffer;
}

export interface BatchVisitor {
  /** `records` is before the first record, and valid within the call only, in which no other batch may be visited. */
  records(batch: Batch, records: BatchRecords): void;
  /**
   * With 'unknown_compression' all of the batch is known but `marker`; with the others only its offsets and bytes.
   */
  defect(batch: Batch, defect: BatchDefect): void;
}

/**
 * How a walk ended. 'whole': with the last byte. 'cut': before a batch that is not there in full, which is how every
 * full answer ends; if nothing was visited at all, the size that was asked for is too small. 'unreadable': before
 * bytes that cannot be a batch, so that nothing can be told about what follows.
 */
export type BatchesEnd = 'whole' | 'cut' | 'unreadable';

const opened = new BatchRecords();

/**
 * Visits the batches in `bytes` in order. The first may begin below the offset that was fetched. Never throws because
 * of what the bytes are. Message sets of before Kafka 0.11 are 'unknown_magic': brokers of today convert what old
 * clients send.
 */
export function visitBatches(bytes: Buffer, visitor: BatchVisitor): BatchesEnd {
  let position = 0;
  let offsetMin = 0;
  while (position < bytes.length) {
    if (bytes.length - position < lengthEnd) return 'cut';
    const baseOffset = readInt64(bytes, position + batchAt.baseOffset);
    const end = position + lengthEnd + bytes.readInt32BE(position + batchAt.length);
    if (!Number.isSafeInteger(baseOffset) || baseOffset < offsetMin) return 'unreadable';
    if (end < position + entryBytesMin) return 'unreadable';
    if (end > bytes.length) return 'cut';
    const { batch, defect } = openBatch(bytes.subarray(position, end), baseOffset, nextOffset(bytes, end));
    if (!Number.isSafeInteger(batch.lastOffset)) return 'unreadable';
    if (defect === null) visitor.records(batch, opened);
    else visitor.defect(batch, defect);
    offsetMin = batch.lastOffset + 1;
    position = end;
  }
  return 'whole';
}

/** Where the batch after this one begins; -1 if that is not there to be seen. */
function nextOffset(bytes: Buffer, position: number): number {
  return bytes.length - position < lengthEnd ? -1 : readInt64(bytes, position + batchAt.baseOffset);
}

/** Reads the header and, if all is well, opens the records. */
function openBatch(
  bytes: Buffer,
  baseOffset: number,
  next: number,
): { readonly batch: Batch; readonly defect: BatchDefect | null } {
  const unknown = {
    baseOffset,
    isTransactional: false,
    isControl: false,
    marker: null,
    producerId: -1n,
    bytes,
  };
  if (bytes.readInt8(batchAt.magic) !== magicVersion)
    return { batch: { ...unknown, lastOffset: Math.max(baseOffset, next - 1) }, defect: 'unknown_magic' };
  if (bytes.length < batchAt.records)
    return { batch: { ...unknown, lastOffset: Math.max(baseOffset, next - 1) }, defect: 'corrupt' };
  const lastOffsetDelta = bytes.readInt32BE(batchAt.lastOffsetDelta);
  const count = bytes.readInt32BE(batchAt.count);
  if (crc32c(bytes, batchAt.attributes, bytes.length) !== bytes.readUInt32BE(batchAt.crc)) {
    const lastOffset = lastOffsetOfDamaged(baseOffset, lastOffsetDelta, count, next);
    return { batch: { ...unknown, lastOffset }, defect: 'crc_mismatch' };
  }
  const attributes = bytes.readInt16BE(batchAt.attributes);
  const isControl = (attributes & attributeBits.isControl) !== 0;
  const batch = {
    baseOffset,
    lastOffset: baseOffset + Math.max(lastOffsetDelta, 0),
    isTransactional: (attributes & attributeBits.isTransactional) !== 0,
    isControl,
    marker: null,
    producerId: bytes.readBigInt64BE(batchAt.producerId),
    bytes,
  };
  const records = expand(bytes.subarray(batchAt.records), attributes & attributeBits.compression);
  if (typeof records === 'string') return { batch, defect: records };
  const maxTimestampMs = readInt64(bytes, batchAt.maxTimestampMs);
  const isLogAppendTime = (attributes & attributeBits.isLogAppendTime) !== 0;
  const isOpen = opened.tryOpen(records, 0, records.length, {
    baseOffset,
    lastOffsetDelta,
    count,
    baseTimestampMs: readInt64(bytes, batchAt.baseTimestampMs),
    logAppendTimeMs: isLogAppendTime ? maxTimestampMs : null,
  });
  if (!isOpen) return { batch, defect: 'corrupt' };
  return { batch: isControl ? { ...batch, marker: markerOf(opened) } : batch, defect: null };
}

/**
 * The header may be what is damaged, and a last offset that is too high would skip records for good. It is believed
 * if the next batch begins above it, or, where no next batch is seen, if the number of records says the same. Else
 * only the first offset is certain, and the caller meets the rest of the batch again when it fetches on from there.
 */
function lastOffsetOfDamaged(baseOffset: number, delta: number, count: number, next: number): number {
  const claimed = baseOffset + Math.max(delta, 0);
  if (next > baseOffset) return Math.min(claimed, next - 1);
  return next === -1 && delta === count - 1 ? claimed : baseOffset;
}

function markerOf(records: BatchRecords): Batch['marker'] {
  if (!records.next()) return null;
  const { buffer, keyStart, keyEnd } = records;
  records.rewind();
  if (keyStart < 0 || keyEnd - keyStart < controlKey.bytes) return 'other';
  const type = buffer.readInt16BE(keyStart + controlKey.typeAt);
  if (type === controlKey.abort) return 'abort';
  return type === controlKey.commit ? 'commit' : 'other';
}
