// HdrHistogram's compressed V2 encoding in base64: what /stats gives out so that other processes, in any language
// that has an HdrHistogram, can merge it. Only the main thread encodes, when somebody asks.
//
//    0        4          8             12       16           24            32
//    +--------+----------+-------------+--------+------------+-------------+------------+---------------------
//    | cookie | payload  | normalizing | digits | lowest     | highest     | ratio      | payload: a ZigZag
//    | int32  | bytes    | offset: 0   | int32  | int64      | int64       | double 1.0 | LEB128 per bucket
//    +--------+----------+-------------+--------+------------+-------------+------------+---------------------
//
// All big-endian; a negative number in the payload is a run of that many empty buckets. Compressed: a cookie, the
// length, and the above through zlib's deflate.
//
// hdr-histogram-js 3.0.0 has an encoder too, but writes 1 as the normalizing offset and the integer 1 as the ratio:
// the Rust port refuses that, and the C port shifts every count by one bucket.
import { deflateSync } from 'node:zlib';
import { highestMicroseconds, lowestMicroseconds, significantDigits } from './buckets.ts';
import type { HistogramCounts } from './tally.ts';

// The last digit but one says that words are ZigZag LEB128.
const cookie = 0x1c849313;
const compressedCookie = 0x1c849314;
const at = {
  cookie: 0,
  payloadBytes: 4,
  normalizingOffset: 8,
  digits: 12,
  lowest: 16,
  highest: 24,
  ratio: 32,
};
const headerBytes = 40;
const compressedHeaderBytes = 8;
/** 7 bits a byte: counts and runs are below 2^53, doubled by ZigZag. */
const wordBytesMax = 8;

/** Writes a whole number within +-2^53 as ZigZag LEB128; gives the position behind it. */
function writeWord(target: Buffer, position: number, value: number): number {
  let rest = value >= 0 ? value * 2 : -value * 2 - 1;
  let end = position;
  while (rest >= 0x80) {
    target[end] = (rest % 0x80) + 0x80;
    rest = Math.floor(rest / 0x80);
    end += 1;
  }
  target[end] = rest;
  return end + 1;
}

/** The encoding of these counts. The exact sum and maximum are not in it: readers see the ends of buckets. */
export function encodeHdr(histogram: HistogramCounts): string {
  const { buckets, counts } = histogram;
  // At most one run of empty buckets before each filled one.
  const target = Buffer.allocUnsafe(headerBytes + wordBytesMax * 2 * Math.max(1, buckets.length));
  let end = headerBytes;
  let next = 0;
  for (let i = 0; i < buckets.length; i += 1) {
    const bucket = buckets[i] ?? 0;
    const empty = bucket - next;
    // A single empty bucket is a plain 0, as in the other encoders.
    if (empty === 1) end = writeWord(target, end, 0);
    if (empty > 1) end = writeWord(target, end, -empty);
    end = writeWord(target, end, counts[i] ?? 0);
    next = bucket + 1;
  }
  if (buckets.length === 0) end = writeWord(target, end, 0);

  target.writeInt32BE(cookie, at.cookie);
  target.writeInt32BE(end - headerBytes, at.payloadBytes);
  target.writeInt32BE(0, at.normalizingOffset);
  target.writeInt32BE(significantDigits, at.digits);
  target.writeBigInt64BE(BigInt(lowestMicroseconds), at.lowest);
  target.writeBigInt64BE(BigInt(highestMicroseconds), at.highest);
  target.writeDoubleBE(1, at.ratio);

  const deflated = deflateSync(target.subarray(0, end));
  const header = Buffer.allocUnsafe(compressedHeaderBytes);
  header.writeInt32BE(compressedCookie, 0);
  header.writeInt32BE(deflated.length, 4);
  return Buffer.concat([header, deflated]).toString('base64');
}
