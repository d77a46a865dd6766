// The byte layout of the embedded log: what lies under which key in lmdb, and nothing about how it gets there.
// Used by every thread that opens the log; this file is the only one that knows a byte position.
//
// One lmdb environment (data.mdb and lock.mdb in one directory) with five named databases:
//
//   meta       "log"               JSON {"format":1,"epoch":"<32 hex>","partitions":4}, written once
//              "totals"            totals, below
//              "p" partition u16   state of one partition, below; absent: all zero
//   batches    batch key, below    exactly the packed records (event/record.ts), nothing around them
//   positions  partition u16       offset f64, then the metadata as UTF-8; absent: offset 0, no metadata
//   letters    letter key, below   letter, below
//   states     letter key          what was done about the letter (log/letter_state.ts); absent: it is parked
//
//   batch key, all big-endian, so that lmdb's order of bytes is the order of (partition, offset):
//    0           2             10        14        18             26       27
//    +-----------+-------------+---------+---------+--------------+--------+
//    | partition | base offset | count   | bytes   | append time  | format |
//    | u16       | u64         | u32     | u32     | u64 ms       | u8     |
//    +-----------+-------------+---------+---------+--------------+--------+
//    The first 10 bytes identify a batch and are what is searched for. The rest would usually be a header of the
//    value; it is part of the key so that trimming reads no value (a cold one would come from disk, and lmdb copies
//    every value it hands out), and so that a value is appended and read without another copy to attach a header.
//    lmdb has no checksums: `bytes` against the value's length is the check that key and value belong together.
//
//   state of a partition, f64 little-endian: start, end, bytes, counted offset, counted bytes
//   totals, f64 little-endian: appended records (ever), bytes, counted bytes
//    "Counted" is what trimming knows to be consumed: batches wholly below the counted offset, which follows the
//    committed position. Bytes are what `heldBytes` gives, that is, disk space.
//
//   letter key:  epoch (16 bytes), partition u16 big-endian, offset u64 big-endian
//   letter:      time f64, code bytes u16, reason bytes u32 (little-endian), code, reason, packed record
//   The number of letters is under "letters" in meta, f64; of those replayed under "replayed", discarded under "discarded".

import { EssError } from '../../errors.ts';
import type { DeadLetter, LogPosition } from '../log.ts';

/** Format of everything above. A log with a higher number was written by a newer ESS and is refused. */
export const logFormat = 1;

export const databaseNames = {
  meta: 'meta',
  batches: 'batches',
  positions: 'positions',
  letters: 'letters',
  states: 'states',
} as const;

export const metaKeys = {
  log: Buffer.from('log'),
  totals: Buffer.from('totals'),
  letters: Buffer.from('letters'),
  replayed: Buffer.from('replayed'),
  discarded: Buffer.from('discarded'),
} as const;

/**
 * Batches are stored in values of at most this size, cut between records; only a single larger record makes a larger
 * value. lmdb needs contiguous pages for a value, which a file that has been in use for long finds only if values
 * are small; and a reader's `maxBytes` can be kept to within one value. Below 16 MiB lmdb also hands out copies
 * and not views of its map, see environment.ts.
 */
export const valueBytesMax = 1024 * 1024;

const pageBytes = 4096;
const pageHeaderBytes = 24;
const nodeHeaderBytes = 8;
const batchAt = { partition: 0, base: 2, count: 10, bytes: 14, timeMs: 18, format: 26 } as const;
const batchKeyBytes = 27;
const batchPrefixBytes = 10;
const stateAt = { start: 0, end: 8, bytes: 16, countedOffset: 24, countedBytes: 32 } as const;
const stateBytes = 40;
const totalsAt = { appended: 0, bytes: 8, countedBytes: 16 } as const;
const totalsBytes = 24;
const letterKeyAt = { epoch: 0, partition: 16, offset: 18 } as const;
const letterKeyBytes = 26;
const letterAt = { timeMs: 0, codeBytes: 8, reasonBytes: 10, code: 14 } as const;

/** Disk space that lmdb takes for a batch: beyond half a page a value gets whole pages of its own. */
export function heldBytes(valueBytes: number): number {
  const node = nodeHeaderBytes + batchKeyBytes;
  if (node + valueBytes <= (pageBytes - pageHeaderBytes) / 2) return node + valueBytes;
  return node + Math.ceil((pageHeaderBytes + valueBytes) / pageBytes) * pageBytes;
}

/** What a batch's key says. */
export interface BatchHead {
  readonly partition: number;
  readonly base: number;
  readonly count: number;
  /** Length of the value. */
  readonly bytes: number;
  readonly timeMs: number;
}

const two32 = 2 ** 32;

function writeU64(target: Buffer, value: number, position: number): void {
  target.writeUInt32BE(Math.floor(value / two32), position);
  target.writeUInt32BE(value % two32, position + 4);
}

function readU64(source: Buffer, position: number): number {
  return source.readUInt32BE(position) * two32 + source.readUInt32BE(position + 4);
}

/** The key under which a batch is stored. */
export function batchKey(head: BatchHead): Buffer {
  const key = Buffer.allocUnsafe(batchKeyBytes);
  key.writeUInt16BE(head.partition, batchAt.partition);
  writeU64(key, head.base, batchAt.base);
  key.writeUInt32BE(head.count, batchAt.count);
  key.writeUInt32BE(head.bytes, batchAt.bytes);
  writeU64(key, head.timeMs, batchAt.timeMs);
  key.writeUInt8(logFormat, batchAt.format);
  return key;
}

/** Sorts at or before the batch that starts at this offset, and after every batch that starts below it. */
export function batchPrefix(partition: number, base: number): Buffer {
  const key = Buffer.allocUnsafe(batchPrefixBytes);
  key.writeUInt16BE(partition, batchAt.partition);
  writeU64(key, base, batchAt.base);
  return key;
}

/** Sorts after every batch of the partition. */
export function batchesEnd(partition: number): Buffer {
  return batchPrefix(partition, Number.MAX_SAFE_INTEGER);
}

export function readBatchKey(bytes: Uint8Array): BatchHead {
  const key = asBuffer(bytes);
  if (key.length !== batchKeyBytes) throw new EssError('internal', 'a batch key of the log has a wrong size');
  if (key.readUInt8(batchAt.format) !== logFormat) {
    throw new EssError('format_unknown', `a batch of the log has format ${key.readUInt8(batchAt.format)}`);
  }
  return {
    partition: key.readUInt16BE(batchAt.partition),
    base: readU64(key, batchAt.base),
    count: key.readUInt32BE(batchAt.count),
    bytes: key.readUInt32BE(batchAt.bytes),
    timeMs: readU64(key, batchAt.timeMs),
  };
}

/** A partition as stored; mutable, because a transaction reads it, changes it and writes it back. */
export interface StoredPartition {
  start: number;
  end: number;
  bytes: number;
  /** Everything below was found to be consumed and is counted in `countedBytes`; at a batch's edge. */
  countedOffset: number;
  countedBytes: number;
}

export function partitionKey(partition: number): Buffer {
  const key = Buffer.allocUnsafe(3);
  key.write('p', 0, 'latin1');
  key.writeUInt16BE(partition, 1);
  return key;
}

export function writePartition(state: StoredPartition): Buffer {
  const value = Buffer.allocUnsafe(stateBytes);
  value.writeDoubleLE(state.start, stateAt.start);
  value.writeDoubleLE(state.end, stateAt.end);
  value.writeDoubleLE(state.bytes, stateAt.bytes);
  value.writeDoubleLE(state.countedOffset, stateAt.countedOffset);
  value.writeDoubleLE(state.countedBytes, stateAt.countedBytes);
  return value;
}

export function readPartition(value: Uint8Array | undefined): StoredPartition {
  if (value === undefined) return { start: 0, end: 0, bytes: 0, countedOffset: 0, countedBytes: 0 };
  const buffer = asBuffer(value);
  return {
    start: buffer.readDoubleLE(stateAt.start),
    end: buffer.readDoubleLE(stateAt.end),
    bytes: buffer.readDoubleLE(stateAt.bytes),
    countedOffset: buffer.readDoubleLE(stateAt.countedOffset),
    countedBytes: buffer.readDoubleLE(stateAt.countedBytes),
  };
}

/** Sums over all partitions. */
export interface StoredTotals {
  /** Records ever appended: changes with every append, so that one read tells whether there is anything new. */
  appended: number;
  bytes: number;
  countedBytes: number;
}

export function writeTotals(totals: StoredTotals): Buffer {
  const value = Buffer.allocUnsafe(totalsBytes);
  value.writeDoubleLE(totals.appended, totalsAt.appended);
  value.writeDoubleLE(totals.bytes, totalsAt.bytes);
  value.writeDoubleLE(totals.countedBytes, totalsAt.countedBytes);
  return value;
}

export function readTotals(value: Uint8Array | undefined): StoredTotals {
  if (value === undefined) return { appended: 0, bytes: 0, countedBytes: 0 };
  const buffer = asBuffer(value);
  return {
    appended: buffer.readDoubleLE(totalsAt.appended),
    bytes: buffer.readDoubleLE(totalsAt.bytes),
    countedBytes: buffer.readDoubleLE(totalsAt.countedBytes),
  };
}

export function positionKey(partition: number): Buffer {
  const key = Buffer.allocUnsafe(2);
  key.writeUInt16BE(partition, 0);
  return key;
}

export function writePosition(position: LogPosition): Buffer {
  const value = Buffer.allocUnsafe(8 + Buffer.byteLength(position.metadata));
  value.writeDoubleLE(position.offset, 0);
  value.write(position.metadata, 8);
  return value;
}

export function readPosition(value: Uint8Array | undefined): LogPosition {
  if (value === undefined) return { offset: 0, metadata: '' };
  const buffer = asBuffer(value);
  return { offset: buffer.readDoubleLE(0), metadata: buffer.toString('utf8', 8) };
}

export function writeCount(count: number): Buffer {
  const value = Buffer.allocUnsafe(8);
  value.writeDoubleLE(count, 0);
  return value;
}

export function readCount(value: Uint8Array | undefined): number {
  return value === undefined ? 0 : asBuffer(value).readDoubleLE(0);
}

export function letterKey(epoch: string, partition: number, offset: number): Buffer {
  const key = Buffer.allocUnsafe(letterKeyBytes);
  key.write(epoch, letterKeyAt.epoch, 'hex');
  key.writeUInt16BE(partition, letterKeyAt.partition);
  writeU64(key, offset, letterKeyAt.offset);
  return key;
}

/** Sorts before every letter of the partition, and after those of the one before. */
export function lettersStart(epoch: string, partition: number): Buffer {
  return letterKey(epoch, partition, 0).subarray(0, letterKeyAt.offset);
}

/** Sorts after every letter of the epoch. */
export function lettersEnd(epoch: string): Buffer {
  return letterKey(epoch, 0xffff, Number.MAX_SAFE_INTEGER);
}

export function writeLetter(letter: DeadLetter): Buffer {
  const codeBytes = Buffer.byteLength(letter.code);
  const reasonBytes = Buffer.byteLength(letter.reason);
  if (codeBytes > 0xffff) throw new EssError('internal', 'the code of a dead letter is too long');
  const value = Buffer.allocUnsafe(letterAt.code + codeBytes + reasonBytes + letter.record.length);
  value.writeDoubleLE(letter.timeMs, letterAt.timeMs);
  value.writeUInt16LE(codeBytes, letterAt.codeBytes);
  value.writeUInt32LE(reasonBytes, letterAt.reasonBytes);
  value.write(letter.code, letterAt.code);
  value.write(letter.reason, letterAt.code + codeBytes);
  value.set(letter.record, letterAt.code + codeBytes + reasonBytes);
  return value;
}

/** Where the letter of a key is. */
export function letterPlace(keyBytes: Uint8Array): { readonly partition: number; readonly offset: number } {
  const key = asBuffer(keyBytes);
  return {
    partition: key.readUInt16BE(letterKeyAt.partition),
    offset: readU64(key, letterKeyAt.offset),
  };
}

/** The letter's parts are copies: `value` may be reused afterwards. */
export function readLetter(keyBytes: Uint8Array, value: Uint8Array): DeadLetter {
  const buffer = asBuffer(value);
  const codeEnd = letterAt.code + buffer.readUInt16LE(letterAt.codeBytes);
  const reasonEnd = codeEnd + buffer.readUInt32LE(letterAt.reasonBytes);
  return {
    ...letterPlace(keyBytes),
    timeMs: buffer.readDoubleLE(letterAt.timeMs),
    code: buffer.toString('utf8', letterAt.code, codeEnd),
    reason: buffer.toString('utf8', codeEnd, reasonEnd),
    record: Buffer.from(buffer.subarray(reasonEnd)),
  };
}

/** What is stored under `metaKeys.log`. */
export interface LogIdentity {
  /** 32 hex digits, random, made with the log. */
  readonly epoch: string;
  readonly partitions: number;
}

export function writeIdentity(identity: LogIdentity): Buffer {
  return Buffer.from(
    JSON.stringify({ format: logFormat, epoch: identity.epoch, partitions: identity.partitions }),
  );
}

/** Throws `format_unknown` if a newer ESS wrote it, `internal` if it is not readable. */
export function readIdentity(value: Uint8Array): LogIdentity {
  const parsed: unknown = parseJson(asBuffer(value).toString());
  if (typeof parsed !== 'object' || parsed === null || !('format' in parsed))
    throw new EssError('internal', 'the description of the log is damaged');
  // The format is looked at first: a newer one may keep everything else in another shape.
  if (typeof parsed.format === 'number' && parsed.format > logFormat) {
    throw new EssError(
      'format_unknown',
      `the log has format ${parsed.format}, this ESS knows ${logFormat} at most`,
    );
  }
  if (
    !('epoch' in parsed && 'partitions' in parsed) ||
    typeof parsed.epoch !== 'string' ||
    !/^[0-9a-f]{32}$/.test(parsed.epoch) ||
    typeof parsed.partitions !== 'number' ||
    !Number.isInteger(parsed.partitions) ||
    parsed.partitions < 1
  ) {
    throw new EssError('internal', 'the description of the log is damaged');
  }
  return { epoch: parsed.epoch, partitions: parsed.partitions };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}
