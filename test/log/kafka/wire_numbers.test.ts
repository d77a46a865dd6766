// The numbers of the Kafka protocol: checksums, variable-length integers and 64-bit integers.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import fc from 'fast-check';
import { crc32c } from '../../../src/log/kafka/wire/crc32c.ts';
import { readInt64, writeInt64 } from '../../../src/log/kafka/wire/int64.ts';
import {
  unsignedVarintBytes,
  VarintReader,
  varintBytes,
  varlongBytes,
  writeUnsignedVarint,
  writeVarint,
  writeVarlong,
} from '../../../src/log/kafka/wire/varint.ts';

interface KafkajsEncoder {
  readonly buffer: Buffer;
  writeVarInt(value: number): KafkajsEncoder;
  writeVarLong(value: number): KafkajsEncoder;
  writeUVarInt(value: number): KafkajsEncoder;
}
const require = createRequire(import.meta.url);
const Encoder: new () => KafkajsEncoder = require('kafkajs/src/protocol/encoder');
const kafkajsCrc32c: (bytes: Buffer) => number = require('kafkajs/src/protocol/recordBatch/crc32C');

const int32 = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
const uint32 = fc.integer({ min: 0, max: 2 ** 32 - 1 });
const edges = [0, 1, -1, 63, 64, -64, -65, 8191, 8192, 2 ** 31 - 1, -(2 ** 31)];
const wideEdges = [
  ...edges,
  2 ** 31,
  -(2 ** 31) - 1,
  2 ** 40,
  Number.MAX_SAFE_INTEGER,
  Number.MIN_SAFE_INTEGER,
];

function readerOf(bytes: Buffer): VarintReader {
  const reader = new VarintReader();
  reader.open(bytes, 0, bytes.length);
  return reader;
}

/** What was written, checked against the size that was announced. */
function written(write: (buffer: Buffer) => number, announced: number): Buffer {
  const buffer = Buffer.alloc(20, 0xff);
  const end = write(buffer);
  assert.equal(end, announced);
  return buffer.subarray(0, end);
}

test('the checksum of the standard text is the one in the standard', () => {
  assert.equal(crc32c(Buffer.from('123456789'), 0, 9), 0xe3069283);
  assert.equal(crc32c(Buffer.alloc(32), 0, 32), 0x8a9136aa);
  assert.equal(crc32c(Buffer.alloc(0), 0, 0), 0);
});

test('the checksum of any part of any bytes is that of kafkajs', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(40), fc.nat(40), (bytes, before, after) => {
      const whole = Buffer.concat([Buffer.alloc(before, 1), bytes, Buffer.alloc(after, 2)]);
      const part = Buffer.from(bytes);
      assert.equal(crc32c(whole, before, before + bytes.length), kafkajsCrc32c(part) >>> 0);
    }),
  );
});

test('a varint is what kafkajs writes, and is read back', () => {
  const check = (value: number): void => {
    const bytes = written((buffer) => writeVarint(buffer, value, 0), varintBytes(value));
    assert.deepEqual(bytes, new Encoder().writeVarInt(value).buffer);
    const reader = readerOf(bytes);
    assert.equal(reader.int(), value);
    assert.equal(reader.position, bytes.length);
    assert.equal(reader.isBroken, false);
  };
  edges.forEach(check);
  fc.assert(fc.property(int32, check));
});

test('an unsigned varint is what kafkajs writes, and is read back', () => {
  fc.assert(
    fc.property(uint32, (value) => {
      const bytes = written((buffer) => writeUnsignedVarint(buffer, value, 0), unsignedVarintBytes(value));
      // kafkajs takes its argument as a signed number.
      assert.deepEqual(bytes, new Encoder().writeUVarInt(value | 0).buffer);
      assert.equal(readerOf(bytes).unsigned(), value);
    }),
  );
});

test('a varlong is what kafkajs writes, and is read back', () => {
  const check = (value: number): void => {
    const bytes = written((buffer) => writeVarlong(buffer, value, 0), varlongBytes(value));
    if (Number.isSafeInteger(value * 2)) assert.deepEqual(bytes, new Encoder().writeVarLong(value).buffer);
    const reader = readerOf(bytes);
    assert.equal(reader.long(), value);
    assert.equal(reader.position, bytes.length);
  };
  wideEdges.forEach(check);
  fc.assert(fc.property(fc.maxSafeInteger(), check));
});

test('a varint that runs past the end or is too long is broken, and so is all after it', () => {
  for (const bytes of [[], [0x80], [0xff, 0xff, 0xff, 0xff, 0x1f], [0x80, 0x80, 0x80, 0x80, 0x80, 0]]) {
    const reader = readerOf(Buffer.from(bytes));
    assert.equal(reader.int(), 0);
    assert.equal(reader.isBroken, true);
  }
  for (const bytes of [[], [0x80], [0x80, 0x80], [...Array(10).fill(0x80), 0], [...Array(9).fill(0xff), 2]]) {
    const reader = readerOf(Buffer.from(bytes));
    assert.equal(reader.long(), 0);
    assert.equal(reader.isBroken, true);
  }
});

test('a 64-bit integer is read as it was written, and those of others are rounded', () => {
  fc.assert(
    fc.property(fc.maxSafeInteger(), (value) => {
      const buffer = Buffer.alloc(8);
      writeInt64(buffer, value, 0);
      assert.equal(buffer.readBigInt64BE(), BigInt(value));
      assert.equal(readInt64(buffer, 0), value);
    }),
  );
  const wide = Buffer.from('7fffffffffffffff', 'hex');
  assert.equal(Number.isSafeInteger(readInt64(wide, 0)), false);
});
