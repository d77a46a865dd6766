// Decompression: the forms of each codec that the fixtures do not have, and the bounds.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { canCompress, compress, expand } from '../../../src/log/kafka/wire/compression.ts';
import { Expanded, expandedBytesMax } from '../../../src/log/kafka/wire/expanded.ts';
import { expandLz4 } from '../../../src/log/kafka/wire/lz4.ts';
import { compressionIds } from '../../../src/log/kafka/wire/record_batch.ts';
import { expandSnappy } from '../../../src/log/kafka/wire/snappy.ts';

const { gzip, snappy, lz4, zstd } = compressionIds;
const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');
const int32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return bytes;
};
const uint32LE = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};

function assertExpands(id: number, source: Buffer, expected: string): void {
  const result = expand(source, id);
  assert.ok(Buffer.isBuffer(result));
  assert.equal(result.toString('latin1'), expected);
}

describe('snappy', () => {
  const header = Buffer.concat([Buffer.from('\x82SNAPPY\0', 'latin1'), int32(1), int32(1)]);
  const block = hex('05 10 68656c6c6f');

  test('is read in every kind of element', () => {
    assertExpands(snappy, block, 'hello');
    assertExpands(snappy, hex('00'), '');
    // A literal "ab", then copies of 4 with offsets of 11, 16 and 32 bits.
    assertExpands(snappy, hex('0e 04 6162 01 02 0e 0200 0f 02000000'), 'ababababababab');
    // A literal whose length takes a byte of its own.
    assertExpands(snappy, Buffer.concat([hex('46 f0 45'), Buffer.alloc(70, 'x')]), 'x'.repeat(70));
  });

  test('is read as a stream of blocks', () => {
    assertExpands(snappy, Buffer.concat([header, int32(7), block, int32(7), block]), 'hellohello');
    assertExpands(snappy, header, '');
  });

  test('is refused where it does not add up', () => {
    const refused = [
      hex(''),
      hex('ffffffff 7f'), // more than the bound
      hex('05'), // nothing of what is announced
      hex('06 10 68656c6c6f'), // less than announced
      hex('04 10 68656c6c6f'), // more than announced
      hex('05 10 68656c'), // literal cut short
      hex('05 f4 6868'), // length of a literal cut short
      hex('05 01 01'), // copy of what is not there yet
      hex('06 04 6162 01 00'), // copy from here
      hex('06 04 6162 0e 02'), // offset cut short
      hex('05 04 6162 01 02'), // copy beyond the end
      Buffer.concat([header, int32(8), block]),
      Buffer.concat([header, int32(-1), block]),
      Buffer.concat([header, int32(7), block, Buffer.from([0])]),
      // A copy may not reach back into the block before.
      Buffer.concat([header, int32(7), block, int32(3), hex('04 01 05')]),
    ];
    for (const source of refused) assert.equal(expand(source, snappy), 'corrupt', source.toString('hex'));
  });
});

describe('lz4', () => {
  const magic = hex('04224d18');
  const start = Buffer.concat([magic, hex('60 40 82')]);
  const end = uint32LE(0);
  const frame = (...blocks: readonly Buffer[]): Buffer =>
    Buffer.concat([start, ...blocks.flatMap((block) => [uint32LE(block.length), block]), end]);
  const stored = (text: string): Buffer =>
    Buffer.concat([start, uint32LE(0x8000_0000 + text.length), Buffer.from(text), end]);

  test('is read with its optional fields and blocks that are not compressed', () => {
    assertExpands(lz4, stored('hello'), 'hello');
    assertExpands(lz4, frame(), '');
    assertExpands(lz4, frame(hex('50 68656c6c6f')), 'hello');
    const withSize = Buffer.concat([
      magic,
      hex('68 40'),
      Buffer.alloc(8),
      hex('00'),
      uint32LE(6),
      hex('50 68656c6c6f'),
      end,
    ]);
    assertExpands(lz4, withSize, 'hello');
    const withChecks = Buffer.concat([
      magic,
      hex('74 40 00'),
      uint32LE(6),
      hex('50 68656c6c6f'),
      uint32LE(1),
      end,
      uint32LE(2),
    ]);
    assertExpands(lz4, withChecks, 'hello');
  });

  test('is read with long lengths and matches that overlap or reach into the block before', () => {
    // Literal "ab", a match of 4 + 15 + 5 bytes two back, and a last sequence of one literal.
    assertExpands(lz4, frame(hex('2f 6162 0200 05 10 63')), `${'ab'.repeat(13)}c`);
    assertExpands(lz4, frame(hex('50 68656c6c6f'), hex('01 0500 10 21')), 'hellohello!');
    const long = Buffer.concat([hex('f0 ff ff 0a'), Buffer.alloc(535, 'x')]);
    assertExpands(lz4, frame(long), 'x'.repeat(535));
  });

  test('is refused where it does not add up', () => {
    const refused = [
      hex(''),
      magic,
      start, // neither block nor end
      stored('hello').subarray(0, -4),
      stored('hello').subarray(0, -5),
      Buffer.concat([hex('02214c18 60 40 82'), end]), // the frame of before version 1.4
      Buffer.concat([magic, hex('20 40 82'), end]), // version
      Buffer.concat([magic, hex('61 40 82'), end]), // dictionary
      frame(hex('50 6865')), // literals cut short
      frame(hex('f0')), // length cut short
      frame(hex('f0 ff')),
      frame(hex('2f 6162 02')), // offset cut short
      frame(hex('2f 6162 0200')), // length of a match cut short
      frame(hex('20 6162 0000 10 63')), // match from here
      frame(hex('20 6162 0300 10 63')), // match before the start
      frame(hex('20 6162 0200')), // no last sequence
    ];
    for (const source of refused) assert.equal(expand(source, lz4), 'corrupt', source.toString('hex'));
  });
});

test('a run is repeated however far back and however often', () => {
  const seed = fc.uint8Array({ minLength: 1, maxLength: 90 });
  fc.assert(
    fc.property(seed, fc.nat(), fc.nat(400), (bytes, back, length) => {
      const target = new Expanded();
      const expected = [...bytes];
      const distance = 1 + (back % bytes.length);
      for (let i = 0; i < length; i += 1) expected.push(expected[expected.length - distance] ?? -1);
      assert.ok(target.tryAppend(bytes) && target.tryRoom(length));
      target.repeat(distance, length);
      assert.deepEqual([...target.bytes], expected);
    }),
  );
});

describe('a batch that would fill the memory', () => {
  test('is refused, whatever the codec', () => {
    const many = Buffer.alloc(expandedBytesMax + 1);
    assert.equal(expand(gzipSync(many, { level: 1 }), gzip), 'corrupt');
    // One zero byte, repeated by a match of 4 + 15 + 255 * n + 0 bytes.
    const repeats = Math.ceil(expandedBytesMax / 255);
    const bomb = Buffer.concat([hex('1f 00 0100'), Buffer.alloc(repeats, 0xff), hex('00 10 00')]);
    const frame = Buffer.concat([hex('04224d18 60 40 82'), uint32LE(bomb.length), bomb, uint32LE(0)]);
    assert.equal(expand(frame, lz4), 'corrupt');
    // A zstd frame of blocks that repeat one byte 128 KiB times, the last marked as such.
    const count = expandedBytesMax / 131_072;
    const blocks = Buffer.alloc((count + 1) * 4);
    for (let i = 0; i <= count; i += 1)
      blocks.writeUIntLE((131_072 << 3) | 2 | (i === count ? 1 : 0), i * 4, 3);
    assert.equal(expand(Buffer.concat([hex('28b52ffd 00 38'), blocks]), zstd), 'corrupt');
  });

  test('is expanded up to the bound and no further', () => {
    const literals = Buffer.concat([
      hex('04224d18 60 40 82'),
      uint32LE(0x8000_0000 + 100),
      Buffer.alloc(100),
      uint32LE(0),
    ]);
    assert.equal(expandLz4(literals, new Expanded(200_000)), true);
    const snapped = Buffer.concat([
      hex('a08d06'),
      Buffer.concat([hex('fc 9f860100'), Buffer.alloc(100_000)]),
    ]);
    assert.equal(expandSnappy(snapped, new Expanded(100_000)), true);
    assert.equal(expandSnappy(snapped, new Expanded(99_999)), false);
  });
});

describe('what ESS writes', () => {
  for (const codec of ['gzip', 'zstd'] as const) {
    test(`with ${codec} comes back`, { skip: !canCompress(codec) }, () => {
      fc.assert(
        fc.property(fc.uint8Array({ maxLength: 2000 }), (bytes) => {
          const result = expand(compress(Buffer.from(bytes), codec), compressionIds[codec]);
          assert.deepEqual(result, Buffer.from(bytes));
        }),
      );
    });
  }

  test('is not compressed by a codec that this Node.js lacks', { skip: canCompress('zstd') }, () => {
    assert.throws(() => compress(Buffer.alloc(1), 'zstd'), { code: 'platform_unsupported' });
  });
});

test('an id of no codec is told, and bytes of none are given as they are', () => {
  const bytes = Buffer.from('x');
  for (const id of [5, 6, 7]) assert.equal(expand(bytes, id), 'unknown_compression');
  assert.equal(expand(bytes, compressionIds.none), bytes);
  for (const id of [gzip, snappy, lz4, zstd]) assert.equal(expand(bytes, id), 'corrupt');
});
