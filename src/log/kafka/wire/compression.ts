// The codecs of Kafka batches: what ESS writes (none, gzip, zstd) and what it reads, which is all that any client
// writes. Runs on producer and sink workers, synchronously: these threads have nothing else to do meanwhile.

import * as zlib from 'node:zlib';
import { Decompress } from 'fzstd';
import { EssError } from '../../../errors.ts';
import { Expanded, expandedBytesMax } from './expanded.ts';
import { expandLz4 } from './lz4.ts';
import { compressionIds } from './record_batch.ts';
import { expandSnappy } from './snappy.ts';

export type WrittenCompression = 'none' | 'gzip' | 'zstd';

// Node has zstd since 22.15 and 23.8. Before, a package decompresses it and nothing compresses it.
const nativeZstd: { readonly compress: unknown; readonly expand: unknown } = {
  compress: Reflect.get(zlib, 'zstdCompressSync'),
  expand: Reflect.get(zlib, 'zstdDecompressSync'),
};

const expanded = new Expanded();

/** Whether this Node.js can write batches with this compression; every one can be read. */
export function canCompress(compression: WrittenCompression): boolean {
  return compression !== 'zstd' || typeof nativeZstd.compress === 'function';
}

/** Compresses the records of a batch. Throws `platform_unsupported` where `canCompress` is false. */
export function compress(records: Buffer, compression: Exclude<WrittenCompression, 'none'>): Buffer {
  if (compression === 'gzip') return zlib.gzipSync(records);
  const result: unknown =
    typeof nativeZstd.compress === 'function' ? nativeZstd.compress(records) : undefined;
  if (!Buffer.isBuffer(result))
    throw new EssError('platform_unsupported', 'zstd is written by Node.js 22.15 and later');
  return result;
}

/**
 * The decompressed records of a batch, valid until the next call. 'unknown_compression' if no codec has this id,
 * 'corrupt' if the bytes are not what the codec makes, or more than `expandedBytesMax` of them come out.
 */
export function expand(records: Buffer, compressionId: number): Buffer | 'unknown_compression' | 'corrupt' {
  expanded.reset();
  switch (compressionId) {
    case compressionIds.none:
      return records;
    case compressionIds.gzip:
      return attempt(() => zlib.gunzipSync(records, { maxOutputLength: expandedBytesMax }));
    case compressionIds.snappy:
      return expandSnappy(records, expanded) ? expanded.bytes : 'corrupt';
    case compressionIds.lz4:
      return expandLz4(records, expanded) ? expanded.bytes : 'corrupt';
    case compressionIds.zstd:
      return attempt(() => expandZstd(records));
    default:
      return 'unknown_compression';
  }
}

/** Both codecs that are not ours report by throwing. */
function attempt(decompress: () => Buffer | 'corrupt'): Buffer | 'corrupt' {
  try {
    return decompress();
  } catch {
    return 'corrupt';
  }
}

function expandZstd(records: Buffer): Buffer | 'corrupt' {
  if (typeof nativeZstd.expand === 'function') {
    const result: unknown = nativeZstd.expand(records, { maxOutputLength: expandedBytesMax });
    return Buffer.isBuffer(result) ? result : 'corrupt';
  }
  let isWithinBound = true;
  // In a stream, what comes out is seen piece by piece: the size that a frame claims for itself is not allocated.
  const stream = new Decompress((piece) => {
    if (isWithinBound) isWithinBound = expanded.tryAppend(piece);
  });
  stream.push(records, true);
  return isWithinBound ? expanded.bytes : 'corrupt';
}
