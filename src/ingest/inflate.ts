// Decompression of request bodies on a producer worker. It stops at the bound, so that a small bomb cannot become a
// large buffer.

import zlib from 'node:zlib';
import { EssError } from '../errors.ts';
import type { Encoding } from './wire.ts';

type Inflate = (body: Uint8Array, options: { readonly maxOutputLength: number }) => Buffer;

// zstd came to node:zlib with 22.15 and 23.8; older ones do not have the function.
const zstdDecompressSync = (zlib as { readonly zstdDecompressSync?: Inflate }).zstdDecompressSync;

const inflaters: Readonly<Record<Exclude<Encoding, 'identity'>, Inflate | undefined>> = {
  gzip: zlib.gunzipSync,
  br: zlib.brotliDecompressSync,
  // RFC 9110 says that deflate is the zlib format, but some clients send the raw one.
  deflate: (body, options) =>
    ((body[0] ?? 0) & 0x0f) === 0x08 ? zlib.inflateSync(body, options) : zlib.inflateRawSync(body, options),
  zstd: zstdDecompressSync,
};

/** Encodings that this Node.js can decompress, for Accept-Encoding. */
export const supportedEncodings: readonly Encoding[] = (['gzip', 'br', 'deflate', 'zstd'] as const).filter(
  (encoding) => inflaters[encoding] !== undefined,
);

/** The decompressed body. Throws EssError `too_large` past the bound, `malformed_encoding` for broken bytes. */
export function inflate(body: Uint8Array, encoding: Exclude<Encoding, 'identity'>, bytesMax: number): Buffer {
  const run = inflaters[encoding];
  if (run === undefined) throw new EssError('unsupported_media_type', `${encoding} is not supported here`);
  try {
    return run(body, { maxOutputLength: bytesMax });
  } catch (error) {
    if (error instanceof RangeError) {
      throw new EssError(
        'too_large',
        `the body has more than ${bytesMax} bytes after decompression (http_decompressed_bytes_max)`,
      );
    }
    throw new EssError('malformed_encoding', `the body is not valid ${encoding}`, { cause: error });
  }
}
