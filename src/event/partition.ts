// Which partition a key belongs to: Kafka's own rule (murmur2 of the key's bytes, sign bit cleared, modulo the
// number of partitions), so that any Kafka client computes the same one. The algorithm is that of
// org.apache.kafka.common.utils.Utils.murmur2; test/event/partition.test.ts holds its vectors.

import { writeText } from './text.ts';

const scratch = Buffer.alloc(3 * 65_536);

/** Kafka's murmur2 of bytes, as a signed 32-bit number. */
export function murmur2(bytes: Uint8Array, start = 0, end = bytes.length): number {
  const length = end - start;
  const m = 0x5bd1e995;
  let h = 0x9747b28c ^ length;
  let i = start;
  for (const last = end - 3; i < last; i += 4) {
    let k =
      (bytes[i] ?? 0) |
      ((bytes[i + 1] ?? 0) << 8) |
      ((bytes[i + 2] ?? 0) << 16) |
      ((bytes[i + 3] ?? 0) << 24);
    k = Math.imul(k, m);
    k ^= k >>> 24;
    h = Math.imul(h, m) ^ Math.imul(k, m);
  }
  const rest = length & 3;
  if (rest === 3) h ^= (bytes[i + 2] ?? 0) << 16;
  if (rest >= 2) h ^= (bytes[i + 1] ?? 0) << 8;
  if (rest >= 1) h = Math.imul(h ^ (bytes[i] ?? 0), m);
  h ^= h >>> 13;
  h = Math.imul(h, m);
  return h ^ (h >>> 15);
}

/** The partition of a key of at most 65,535 UTF-16 units, in 0..partitions-1. */
export function partitionOf(key: string, partitions: number): number {
  const length = writeText(scratch, key, 0);
  return (murmur2(scratch, 0, length) & 0x7fffffff) % partitions;
}
