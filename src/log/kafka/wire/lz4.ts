// Decompression of LZ4 frames, as Java and librdkafka write them into Kafka batches. Runs on sink workers. The checks
// of the frame are left out: the batch has a checksum of its own. Dictionaries are not supported: no Kafka client
// has any.
// Formats: lz4_Frame_format.md and lz4_Block_format.md of lz4/lz4.
//
//    frame: magic u32, flags u8, block size u8, [content size u64], header check u8, blocks, end mark u32 = 0,
//    [check u32]
//    block: size u32, the top bit set if it is not compressed, then the bytes, [check u32]
//    a compressed block is sequences: token u8 (literal length and match length, 4 bits each, of which 15 goes on in
//    further bytes), literals, distance u16; the last has literals only. All little-endian.

import type { Expanded } from './expanded.ts';

const frameMagic = 0x184d2204;
const frameHeaderBytesMin = 7;
const flagBits = { version: 0xc0, blockCheck: 0x10, contentSize: 0x08, dictionary: 0x01 } as const;
const frameVersion = 0x40;
const isStoredBit = 0x8000_0000;
const lengthGoesOn = 15;
const matchBytesMin = 4;

/** Appends the decompressed bytes to `target`; false if the bytes are not an LZ4 frame, or too many. */
export function expandLz4(source: Buffer, target: Expanded): boolean {
  if (source.length < frameHeaderBytesMin || source.readUInt32LE(0) !== frameMagic) return false;
  const flags = source.readUInt8(4);
  if ((flags & flagBits.version) !== frameVersion || (flags & flagBits.dictionary) !== 0) return false;
  const checkBytes = (flags & flagBits.blockCheck) === 0 ? 0 : 4;
  const frameStart = target.used;
  let position = frameHeaderBytesMin + ((flags & flagBits.contentSize) === 0 ? 0 : 8);
  while (position + 4 <= source.length) {
    const word = source.readUInt32LE(position);
    position += 4;
    if (word === 0) return true;
    const isStored = word >= isStoredBit;
    const end = position + (isStored ? word - isStoredBit : word);
    if (end + checkBytes > source.length) return false;
    const isExpanded = isStored
      ? target.tryAppend(source.subarray(position, end))
      : expandBlock(source, position, end, target, frameStart);
    if (!isExpanded) return false;
    position = end + checkBytes;
  }
  return false;
}

/** Matches may reach back into earlier blocks of the frame: whether they do is the writer's choice. */
function expandBlock(
  source: Buffer,
  start: number,
  end: number,
  target: Expanded,
  frameStart: number,
): boolean {
  let position = start;
  while (position < end) {
    const token = source[position] ?? 0;
    position += 1;
    let literalBytes = token >>> 4;
    if (literalBytes === lengthGoesOn) {
      for (let byte = 255; byte === 255; position += 1) {
        if (position >= end) return false;
        byte = source[position] ?? 0;
        literalBytes += byte;
      }
    }
    if (literalBytes > end - position || !target.tryRoom(literalBytes)) return false;
    source.copy(target.buffer, target.used, position, position + literalBytes);
    target.used += literalBytes;
    position += literalBytes;
    if (position === end) return true;
    if (position + 2 > end) return false;
    const distance = source.readUInt16LE(position);
    position += 2;
    let matchBytes = token & lengthGoesOn;
    if (matchBytes === lengthGoesOn) {
      for (let byte = 255; byte === 255; position += 1) {
        if (position >= end) return false;
        byte = source[position] ?? 0;
        matchBytes += byte;
      }
    }
    matchBytes += matchBytesMin;
    if (distance === 0 || distance > target.used - frameStart || !target.tryRoom(matchBytes)) return false;
    target.repeat(distance, matchBytes);
  }
  return false;
}
