// Decompression of snappy, in both forms in which it stands in Kafka batches: as librdkafka writes it (one block) and
// as Java does (snappy-java's stream of blocks). Runs on sink workers.
// Formats: google/snappy format_description.txt; SnappyCodec.java of xerial/snappy-java for the stream.
//
//    block:   uncompressed length (unsigned varint), then elements
//    element: tag byte, whose lower two bits are 0 literal, 1..3 copy with an offset of 11, 16 or 32 bits
//    stream:  0x82 "SNAPPY" 0x00, version i32, lowest compatible version i32, then blocks, each after its length i32

import type { Expanded } from './expanded.ts';
import { VarintReader } from './varint.ts';

const streamMagic = Buffer.from('\x82SNAPPY\0', 'latin1');
const streamHeaderBytes = 16;
/** A literal's length up to this stands in its tag; above it says how many bytes the length takes. */
const shortLiteralMax = 60;

const varints = new VarintReader();

/** Appends the decompressed bytes to `target`; false if the bytes are not snappy, or too many. */
export function expandSnappy(source: Buffer, target: Expanded): boolean {
  if (!source.subarray(0, streamMagic.length).equals(streamMagic))
    return expandBlock(source, 0, source.length, target);
  let position = streamHeaderBytes;
  while (position + 4 <= source.length) {
    const bytes = source.readInt32BE(position);
    position += 4;
    if (bytes < 0 || bytes > source.length - position) return false;
    if (!expandBlock(source, position, position + bytes, target)) return false;
    position += bytes;
  }
  return position === source.length;
}

function expandBlock(source: Buffer, start: number, end: number, target: Expanded): boolean {
  varints.open(source, start, end);
  const expandedBytes = varints.unsigned();
  if (varints.isBroken || !target.tryRoom(expandedBytes)) return false;
  const blockStart = target.used;
  const blockEnd = blockStart + expandedBytes;
  let { position } = varints;
  while (position < end) {
    const tag = source[position] ?? 0;
    position += 1;
    const kind = tag & 3;
    if (kind === 0) {
      let bytes = (tag >>> 2) + 1;
      if (bytes > shortLiteralMax) {
        const lengthBytes = bytes - shortLiteralMax;
        if (lengthBytes > end - position) return false;
        bytes = source.readUIntLE(position, lengthBytes) + 1;
        position += lengthBytes;
      }
      if (bytes > end - position || bytes > blockEnd - target.used) return false;
      source.copy(target.buffer, target.used, position, position + bytes);
      target.used += bytes;
      position += bytes;
      continue;
    }
    const offsetBytes = kind === 3 ? 4 : kind;
    if (offsetBytes > end - position) return false;
    const bytes = kind === 1 ? ((tag >>> 2) & 7) + 4 : (tag >>> 2) + 1;
    const upper = kind === 1 ? (tag >>> 5) << 8 : 0;
    const distance = upper + source.readUIntLE(position, offsetBytes);
    position += offsetBytes;
    if (distance === 0 || distance > target.used - blockStart || bytes > blockEnd - target.used) return false;
    target.repeat(distance, bytes);
  }
  return target.used === blockEnd;
}
