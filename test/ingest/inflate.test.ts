// Decompression: every supported encoding, and no byte further than the bound.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import zlib from 'node:zlib';
import fc from 'fast-check';
import { EssError } from '../../src/errors.ts';
import { inflate, supportedEncodings } from '../../src/ingest/inflate.ts';

const { zstdCompressSync } = zlib as { readonly zstdCompressSync?: (body: Uint8Array) => Buffer };

const packers = {
  gzip: [(body: Uint8Array) => zlib.gzipSync(body), (body: Uint8Array) => zlib.gzipSync(body, { level: 0 })],
  br: [
    (body: Uint8Array) =>
      zlib.brotliCompressSync(body, { params: { [zlib.constants.BROTLI_PARAM_QUALITY]: 2 } }),
  ],
  deflate: [
    (body: Uint8Array) => zlib.deflateSync(body),
    (body: Uint8Array) => zlib.deflateSync(body, { windowBits: 9 }),
    (body: Uint8Array) => zlib.deflateRawSync(body),
    (body: Uint8Array) => zlib.deflateRawSync(body, { level: 0 }),
    (body: Uint8Array) => zlib.deflateRawSync(body, { strategy: zlib.constants.Z_FIXED }),
  ],
  zstd: zstdCompressSync === undefined ? [] : [zstdCompressSync],
};

const hasCode =
  (code: string) =>
  (error: unknown): boolean =>
    error instanceof EssError && error.code === code;

describe('decompression', () => {
  test('what was packed comes out again, up to exactly the bound, also from shared memory', () => {
    fc.assert(
      fc.property(
        fc.constantFrom('gzip' as const, 'br' as const, 'deflate' as const, 'zstd' as const),
        fc.oneof(
          fc.uint8Array({ maxLength: 500 }),
          fc.integer({ min: 1, max: 100_000 }).map((n) => new Uint8Array(n).fill(32)),
        ),
        (encoding, body) => {
          for (const pack of packers[encoding]) {
            const packed = pack(body);
            const shared = new Uint8Array(new SharedArrayBuffer(packed.length));
            shared.set(packed);
            const bound = Math.max(1, body.length);
            assert.ok(inflate(shared, encoding, bound).equals(body));
            if (body.length > 1)
              assert.throws(() => inflate(packed, encoding, body.length - 1), hasCode('too_large'));
          }
        },
      ),
    );
  });

  test('a bomb is left alone at the bound: whatever comes after it is not even looked at', () => {
    const bomb = Buffer.alloc(50_000_000);
    for (const encoding of ['gzip', 'br', 'deflate'] as const) {
      for (const pack of packers[encoding].slice(0, 1)) {
        const packed = pack(bomb);
        const cut = packed.subarray(0, packed.length - 20);
        assert.throws(() => inflate(cut, encoding, 100_000), hasCode('too_large'));
        assert.throws(() => inflate(cut, encoding, 60_000_000), hasCode('malformed_encoding'));
      }
    }
  });

  test('any bytes give a body or one of two errors', () => {
    fc.assert(
      fc.property(
        fc.constantFrom('gzip' as const, 'br' as const, 'deflate' as const),
        fc.uint8Array(),
        (encoding, bytes) => {
          try {
            assert.ok(inflate(bytes, encoding, 1000).length <= 1000);
          } catch (error) {
            assert.ok(hasCode('too_large')(error) || hasCode('malformed_encoding')(error));
          }
        },
      ),
      { numRuns: 500 },
    );
  });

  test('an encoding is supported exactly if it can be undone here', () => {
    assert.deepEqual(
      supportedEncodings,
      zstdCompressSync === undefined ? ['gzip', 'br', 'deflate'] : ['gzip', 'br', 'deflate', 'zstd'],
    );
    if (zstdCompressSync === undefined) {
      assert.throws(() => inflate(new Uint8Array(1), 'zstd', 1000), hasCode('unsupported_media_type'));
    }
  });
});
