// Record batches: what ESS writes, kafkajs reads, and the other way round; a packed record comes back byte for byte;
// and damage of any kind is reported, never thrown.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { EssError } from '../../../src/errors.ts';
import { RecordCursor, RecordWriter, recordFlags } from '../../../src/event/record.ts';
import {
  encodeBatch,
  encodePlainBatch,
  type PlainRecord,
} from '../../../src/log/kafka/wire/batch_encoder.ts';
import type { BatchRecords } from '../../../src/log/kafka/wire/batch_records.ts';
import {
  type BatchDefect,
  type BatchesEnd,
  visitBatches,
} from '../../../src/log/kafka/wire/batch_visitor.ts';
import { canCompress } from '../../../src/log/kafka/wire/compression.ts';
import { crc32c } from '../../../src/log/kafka/wire/crc32c.ts';
import { writeInt64 } from '../../../src/log/kafka/wire/int64.ts';
import { copyPackedRecord, packedBytesMax } from '../../../src/log/kafka/wire/packed_record.ts';
import { attributeBits, batchAt } from '../../../src/log/kafka/wire/record_batch.ts';

interface KafkajsRecord {
  readonly offset: string;
  readonly timestamp: string;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly headers: Readonly<Record<string, Buffer | Buffer[]>>;
}
interface KafkajsBatch {
  readonly lastOffsetDelta: number;
  readonly maxTimestamp: string;
  readonly producerId: string;
  readonly records: readonly KafkajsRecord[];
}
interface KafkajsEncoder {
  readonly buffer: Buffer;
}
interface KafkajsPlain {
  readonly offsetDelta: number;
  readonly timestampDelta: number;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly headers: Readonly<Record<string, Buffer | Buffer[]>>;
}
interface KafkajsBatchOptions {
  readonly compression: number;
  readonly firstTimestamp: number;
  readonly maxTimestamp: number;
  readonly lastOffsetDelta: number;
  readonly records: readonly KafkajsEncoder[];
}
const require = createRequire(import.meta.url);
const Decoder: new (bytes: Buffer) => object = require('kafkajs/src/protocol/decoder');
const decodeWithKafkajs: (
  decoder: object,
) => Promise<KafkajsBatch> = require('kafkajs/src/protocol/recordBatch/v0/decoder');
const kafkajsRecord: (
  record: KafkajsPlain,
) => KafkajsEncoder = require('kafkajs/src/protocol/recordBatch/record/v0');
const kafkajsBatch: {
  RecordBatch(options: KafkajsBatchOptions): Promise<KafkajsEncoder>;
} = require('kafkajs/src/protocol/recordBatch/v0');

interface Sample {
  readonly flags: number;
  readonly id: string;
  readonly type: string;
  readonly key: string | null;
  readonly ingestTimeMs: number;
  readonly body: Uint8Array;
}
const text = fc.oneof(fc.string({ unit: 'binary', maxLength: 12 }), fc.string({ maxLength: 200 }));
const sample: fc.Arbitrary<Sample> = fc.record({
  flags: fc.constantFrom(0, recordFlags.hasTime, recordFlags.isIdGenerated),
  id: text,
  type: text,
  key: fc.option(text),
  ingestTimeMs: fc.oneof(
    fc.integer({ min: 0, max: 2 ** 42 }),
    fc.integer({ min: 1_700_000_000_000, max: 1_700_000_000_999 }),
  ),
  body: fc.uint8Array({ maxLength: 400 }),
});
const samples = fc.array(sample, { minLength: 1, maxLength: 20 });
const compression = fc.constantFrom(...(['none', 'gzip', 'zstd'] as const).filter(canCompress));

function pack(list: readonly Sample[]): Buffer {
  const writer = new RecordWriter();
  for (const { flags, id, type, key, ingestTimeMs, body } of list)
    writer.append(flags, id, type, 'a source', '', key, ingestTimeMs, 5, body, 0, body.length);
  return Buffer.from(writer.bytes);
}

/** What a visit told. */
interface Told {
  readonly baseOffset: number;
  readonly lastOffset: number;
  readonly defect: BatchDefect | null;
  readonly offsets: readonly number[];
  readonly timesMs: readonly number[];
  readonly keys: readonly (string | null)[];
  readonly values: readonly (string | null)[];
  readonly packed: readonly (Buffer | 'foreign')[];
}

function part(buffer: Buffer, start: number, end: number): string | null {
  return start < 0 ? null : buffer.toString('latin1', start, end);
}

function unpack(record: BatchRecords): Buffer | 'foreign' {
  // With a margin before, so that a position that is taken for 0 shows.
  const target = Buffer.alloc(7 + packedBytesMax(record), 0xee);
  const end = copyPackedRecord(record, target, 7);
  return end === -1 ? 'foreign' : target.subarray(7, end);
}

function visit(bytes: Buffer): { readonly told: readonly Told[]; readonly end: BatchesEnd } {
  const told: Told[] = [];
  const end = visitBatches(bytes, {
    records({ baseOffset, lastOffset }, records) {
      const one = {
        ...{ baseOffset, lastOffset, defect: null },
        offsets: [] as number[],
        timesMs: [] as number[],
        keys: [] as (string | null)[],
        values: [] as (string | null)[],
        packed: [] as (Buffer | 'foreign')[],
      };
      while (records.next()) {
        one.offsets.push(records.offset);
        one.timesMs.push(records.timestampMs);
        one.keys.push(part(records.buffer, records.keyStart, records.keyEnd));
        one.values.push(part(records.buffer, records.valueStart, records.valueEnd));
        one.packed.push(unpack(records));
      }
      assert.equal(one.offsets.length, records.count);
      told.push(one);
    },
    defect({ baseOffset, lastOffset }, defect) {
      told.push({
        baseOffset,
        lastOffset,
        defect,
        offsets: [],
        timesMs: [],
        keys: [],
        values: [],
        packed: [],
      });
    },
  });
  return { told, end };
}

/** A copy of the batch at another offset; not covered by the checksum, as brokers set it. */
function placed(batch: Buffer, baseOffset: number): Buffer {
  const copy = Buffer.from(batch);
  writeInt64(copy, baseOffset, batchAt.baseOffset);
  return copy;
}

/** A copy of the batch with other bytes in its header and a checksum that fits. */
function changed(batch: Buffer, change: (copy: Buffer) => void): Buffer {
  const copy = Buffer.from(batch);
  change(copy);
  copy.writeUInt32BE(crc32c(copy, batchAt.attributes, copy.length), batchAt.crc);
  return copy;
}

const three = encodeBatch(
  pack(
    ['a', 'b', 'c'].map((id) => ({
      flags: 0,
      id,
      type: 't',
      key: null,
      ingestTimeMs: 1000,
      body: Buffer.from('{}'),
    })),
  ),
  3,
  'none',
);

describe('a batch of packed records', () => {
  test('is read by kafkajs as key, value, time and one header', async () => {
    await fc.assert(
      fc.asyncProperty(samples, fc.constantFrom('none' as const, 'gzip' as const), async (list, codec) => {
        const packed = pack(list);
        const batch = encodeBatch(packed, list.length, codec);
        const read = await decodeWithKafkajs(new Decoder(batch));
        assert.equal(read.lastOffsetDelta, list.length - 1);
        assert.equal(read.producerId, '-1');
        assert.equal(Number(read.maxTimestamp), Math.max(...list.map((one) => one.ingestTimeMs)));
        const cursor = new RecordCursor();
        cursor.open(packed);
        for (const [index, record] of read.records.entries()) {
          const one = list[index];
          assert.ok(one !== undefined && cursor.next());
          assert.equal(Number(record.offset), index);
          assert.equal(Number(record.timestamp), one.ingestTimeMs);
          assert.deepEqual(record.key, Buffer.from(one.key ?? one.id));
          assert.deepEqual(record.value, Buffer.from(one.body));
          const head = packed.subarray(cursor.start, cursor.keyStart);
          assert.deepEqual(record.headers, { ess: Buffer.concat([Buffer.from([1]), head]) });
        }
        assert.equal(read.records.length, list.length);
      }),
    );
  });

  test('comes back byte for byte, wherever the broker put it', () => {
    fc.assert(
      fc.property(samples, compression, fc.nat(2 ** 48), (list, codec, baseOffset) => {
        const packed = pack(list);
        const batch = placed(encodeBatch(packed, list.length, codec), baseOffset);
        const { told, end } = visit(batch);
        assert.equal(end, 'whole');
        assert.equal(told.length, 1);
        const [one] = told;
        assert.ok(one !== undefined);
        assert.equal(one.defect, null);
        assert.equal(one.lastOffset, baseOffset + list.length - 1);
        assert.deepEqual(
          one.offsets,
          list.map((_, index) => baseOffset + index),
        );
        assert.deepEqual(
          one.timesMs,
          list.map((each) => each.ingestTimeMs),
        );
        assert.deepEqual(Buffer.concat(one.packed.map((each) => Buffer.from(each))), packed);
      }),
    );
  });

  test('may be larger than any buffer that is kept', () => {
    const body = Buffer.alloc(3_000_000, 'x');
    const list = [1, 2, 3].map((n) => ({ flags: 0, id: `${n}`, type: '', key: 'k', ingestTimeMs: n, body }));
    const packed = pack(list);
    for (const codec of ['none', 'gzip'] as const) {
      const [one] = visit(encodeBatch(packed, 3, codec)).told;
      assert.deepEqual(Buffer.concat((one?.packed ?? []).map((each) => Buffer.from(each))), packed);
    }
    assert.equal(visit(three).told[0]?.packed.length, 3);
  });

  test('that is not as many records as announced is refused', () => {
    const isInternal = (error: unknown): boolean => error instanceof EssError && error.code === 'internal';
    const packed = pack([{ flags: 0, id: 'a', type: '', key: null, ingestTimeMs: 1, body: Buffer.alloc(1) }]);
    assert.throws(() => encodeBatch(packed, 2, 'none'), isInternal);
    assert.throws(() => encodePlainBatch([]), isInternal);
  });
});

describe('a batch of plain records', () => {
  // kafkajs gathers headers in a plain object, and takes `toString` for one that is there already.
  const name = fc.string({ unit: 'binary', maxLength: 8 }).filter((one) => !(one in {}));
  const bytes = fc.uint8Array({ maxLength: 300 }).map((one) => Buffer.from(one));
  const plain: fc.Arbitrary<PlainRecord> = fc.record({
    key: fc.option(bytes),
    value: fc.option(bytes),
    timestampMs: fc.integer({ min: -1, max: 2 ** 50 }),
    headers: fc.uniqueArray(fc.record({ name, value: bytes }), { maxLength: 3, selector: (one) => one.name }),
  });
  const plains = fc.array(plain, { minLength: 1, maxLength: 10 });
  const headersOf = (record: PlainRecord): Record<string, Buffer> =>
    Object.fromEntries(record.headers.map((header) => [header.name, header.value]));

  test('is read by kafkajs as it was given', async () => {
    await fc.assert(
      fc.asyncProperty(plains, async (list) => {
        const read = await decodeWithKafkajs(new Decoder(encodePlainBatch(list)));
        assert.deepEqual(
          read.records.map((one) => [one.key, one.value, Number(one.timestamp), one.headers]),
          list.map((one) => [one.key, one.value, one.timestampMs, headersOf(one)]),
        );
      }),
    );
  });

  test('that kafkajs has written is read as it was given', async () => {
    await fc.assert(
      fc.asyncProperty(plains, fc.constantFrom(0, 1), async (list, codec) => {
        const firstTimestamp = list[0]?.timestampMs ?? 0;
        const written = await kafkajsBatch.RecordBatch({
          compression: codec,
          firstTimestamp,
          maxTimestamp: Math.max(...list.map((one) => one.timestampMs)),
          lastOffsetDelta: list.length - 1,
          records: list.map((one, offsetDelta) =>
            kafkajsRecord({
              ...{ offsetDelta, timestampDelta: one.timestampMs - firstTimestamp, headers: headersOf(one) },
              ...{ key: one.key, value: one.value },
            }),
          ),
        });
        const { told, end } = visit(written.buffer);
        assert.equal(end, 'whole');
        assert.equal(told[0]?.defect, null);
        assert.deepEqual(
          told[0]?.timesMs,
          list.map((one) => one.timestampMs),
        );
        assert.deepEqual(
          told[0]?.keys,
          list.map((one) => one.key?.toString('latin1') ?? null),
        );
        assert.deepEqual(
          told[0]?.values,
          list.map((one) => one.value?.toString('latin1') ?? null),
        );
      }),
    );
  });
});

describe('a record', () => {
  const head = Buffer.from(visit(three).told[0]?.packed[0] ?? '').subarray(0, -2);
  const essOf = (bytes: Buffer): PlainRecord['headers'] => [
    { name: 'ess', value: Buffer.concat([Buffer.from([1]), bytes]) },
  ];
  const record: PlainRecord = {
    key: Buffer.from('a'),
    value: Buffer.from('{}'),
    timestampMs: 0,
    headers: essOf(head),
  };
  const packedOf = (one: PlainRecord): Buffer | 'foreign' | undefined =>
    visit(encodePlainBatch([one])).told[0]?.packed[0];

  test('is ours if it has our header, with whatever others beside it', () => {
    const other = { name: 'trace', value: Buffer.from('x') };
    const expected = Buffer.concat([head, Buffer.from('{}')]);
    assert.deepEqual(packedOf(record), expected);
    assert.deepEqual(packedOf({ ...record, headers: [other, ...record.headers, other] }), expected);
    assert.deepEqual(
      packedOf({ ...record, headers: [...essOf(Buffer.from('old')), ...record.headers] }),
      expected,
    );
  });

  test('is foreign if anything of it does not add up', () => {
    const version = { name: 'ess', value: Buffer.concat([Buffer.from([2]), head]) };
    const foreign: readonly PlainRecord[] = [
      { ...record, headers: [] },
      { ...record, headers: [version] },
      { ...record, headers: [{ name: 'esss', value: Buffer.concat([Buffer.from([1]), head]) }] },
      { ...record, headers: [{ name: 'ess', value: Buffer.alloc(0) }] },
      { ...record, headers: essOf(Buffer.alloc(0)) },
      { ...record, headers: essOf(head.subarray(0, 31)) },
      { ...record, headers: essOf(head.subarray(0, -1)) },
      { ...record, headers: essOf(Buffer.concat([head, Buffer.from('x')])) },
      { ...record, headers: essOf(Buffer.alloc(head.length, 0xff)) },
      { ...record, key: null },
      { ...record, value: null },
      { ...record, key: Buffer.from('b') },
      { ...record, key: Buffer.from('at') },
      { ...record, key: Buffer.alloc(0) },
      { ...record, value: Buffer.from('{ }') },
      { ...record, value: Buffer.from('{') },
    ];
    for (const one of foreign) assert.equal(packedOf(one), 'foreign');
  });

  test('with any bytes in our header is ours only if it comes back as it was', () => {
    fc.assert(
      fc.property(fc.nat(head.length - 1), fc.nat(255), (position, byte) => {
        const other = Buffer.from(head);
        other[position] = byte;
        const result = packedOf({ ...record, headers: essOf(other) });
        const whole = Buffer.concat([other, Buffer.from('{}')]);
        if (result !== 'foreign') assert.deepEqual(result, whole);
      }),
    );
  });

  test('has the time of its batch where the broker sets it', () => {
    const batch = changed(three, (copy) => {
      copy.writeInt16BE(attributeBits.isLogAppendTime, batchAt.attributes);
      writeInt64(copy, 777, batchAt.maxTimestampMs);
    });
    assert.deepEqual(visit(batch).told[0]?.timesMs, [777, 777, 777]);
  });

  test('may have a time beyond all reason', () => {
    const batch = changed(three, (copy) =>
      copy.writeBigInt64BE(1_700_000_000_000_000_000n, batchAt.baseTimestampMs),
    );
    assert.deepEqual(visit(batch).told[0]?.timesMs, [1.7e18, 1.7e18, 1.7e18]);
  });
});

describe('a run of batches', () => {
  const run = (...batches: readonly Buffer[]): Buffer => Buffer.concat(batches);

  test('may end in the middle of a batch, wherever that is', () => {
    const whole = run(placed(three, 10), placed(three, 13), placed(three, 20));
    for (let bytes = 0; bytes <= whole.length; bytes += 1) {
      const { told, end } = visit(whole.subarray(0, bytes));
      assert.equal(told.length, Math.floor(bytes / three.length));
      assert.equal(end, bytes % three.length === 0 ? 'whole' : 'cut');
      for (const one of told) assert.equal(one.defect, null);
    }
  });

  test('may have holes that compaction left', () => {
    const compacted = changed(three, (copy) => copy.writeInt32BE(9, batchAt.lastOffsetDelta));
    const emptied = changed(three.subarray(0, batchAt.records), (copy) => {
      copy.writeInt32BE(batchAt.records - 12, batchAt.length);
      copy.writeInt32BE(0, batchAt.count);
    });
    const { told, end } = visit(run(placed(compacted, 100), placed(emptied, 200), placed(three, 300)));
    assert.equal(end, 'whole');
    assert.deepEqual(
      told.map((one) => one.defect),
      [null, null, null],
    );
    assert.deepEqual(
      told.map((one) => one.lastOffset),
      [109, 202, 302],
    );
    assert.deepEqual(
      told.map((one) => one.offsets.length),
      [3, 0, 3],
    );
  });

  test('goes on behind a batch that cannot be read, and tells its place', () => {
    const damaged = placed(three, 10);
    damaged[damaged.length - 1] = 0x7f;
    const lied = changed(placed(three, 20), (copy) => copy.writeInt32BE(4, batchAt.count));
    const codec = changed(placed(three, 30), (copy) => copy.writeInt16BE(6, batchAt.attributes));
    const packedBadly = changed(placed(three, 40), (copy) => copy.writeInt16BE(1, batchAt.attributes));
    const magic = placed(three, 50);
    magic[batchAt.magic] = 1;
    const { told, end } = visit(run(damaged, lied, codec, packedBadly, magic, placed(three, 60)));
    assert.equal(end, 'whole');
    assert.deepEqual(
      told.map((one) => [one.baseOffset, one.lastOffset, one.defect]),
      [
        [10, 12, 'crc_mismatch'],
        [20, 22, 'corrupt'],
        [30, 32, 'unknown_compression'],
        [40, 42, 'corrupt'],
        [50, 59, 'unknown_magic'],
        [60, 62, null],
      ],
    );
  });

  test('does not believe a last offset that damage may have made', () => {
    const tooFar = placed(three, 10);
    tooFar.writeInt32BE(1_000_000, batchAt.lastOffsetDelta);
    const told = (bytes: Buffer): readonly number[] => visit(bytes).told.map((one) => one.lastOffset);
    assert.deepEqual(told(run(tooFar, placed(three, 13))), [12, 15]);
    assert.deepEqual(told(tooFar), [10]);
  });

  test('ends where nothing can be told any more', () => {
    const short = placed(three, 13);
    short.writeInt32BE(5, batchAt.length);
    assert.equal(visit(run(placed(three, 10), short)).end, 'unreadable');
    assert.equal(visit(run(placed(three, 10), placed(three, 11))).end, 'unreadable');
    assert.equal(visit(run(placed(three, 10), placed(three, -5))).end, 'unreadable');
    const beyond = Buffer.from(three);
    beyond.writeBigInt64BE(2n ** 60n, batchAt.baseOffset);
    assert.equal(visit(beyond).end, 'unreadable');
  });

  test('tells what a control batch marks', () => {
    const marker = (type: number): Buffer =>
      changed(
        encodePlainBatch([{ key: Buffer.from([0, 0, 0, type]), value: null, timestampMs: 0, headers: [] }]),
        (copy) => {
          copy.writeInt16BE(attributeBits.isControl | attributeBits.isTransactional, batchAt.attributes);
          copy.writeBigInt64BE(77n, batchAt.producerId);
        },
      );
    const seen: unknown[] = [];
    visitBatches(run(...[marker(0), marker(1), marker(2), three].map((one, index) => placed(one, index))), {
      records: (batch) => seen.push([batch.marker, batch.isControl, batch.isTransactional, batch.producerId]),
      defect: () => assert.fail(),
    });
    assert.deepEqual(seen, [
      ['abort', true, true, 77n],
      ['commit', true, true, 77n],
      ['other', true, true, 77n],
      [null, false, false, -1n],
    ]);
  });

  test('survives any flipped bits: a batch is told as it was, or as damaged, or not at all', () => {
    const batches = [placed(three, 10), placed(three, 13), placed(three, 16)];
    const whole = run(...batches);
    const intact = visit(whole).told;
    const flip = fc.record({ at: fc.nat(whole.length - 1), bit: fc.nat(7) });
    fc.assert(
      fc.property(fc.array(flip, { minLength: 1, maxLength: 3 }), fc.nat(whole.length), (flips, bytes) => {
        const copy = Buffer.from(whole);
        for (const { at, bit } of flips) copy[at] = (copy[at] ?? 0) ^ (1 << bit);
        for (const one of visit(copy.subarray(0, bytes)).told) {
          // Offset, leader epoch and length lie outside of the checksum; all that it guards is as it was.
          if (one.defect === null)
            assert.ok(intact.some((other) => other.values.join() === one.values.join()));
          assert.ok(one.lastOffset >= one.baseOffset);
        }
      }),
      { numRuns: 500 },
    );
  });

  test('survives records of any bytes under a checksum that fits', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 60 }),
        fc.integer({ min: -2, max: 5 }),
        fc.integer({ min: -2, max: 5 }),
        fc.nat(7),
        (bytes, count, lastOffsetDelta, attributes) => {
          const batch = changed(Buffer.concat([three.subarray(0, batchAt.records), bytes]), (copy) => {
            copy.writeInt32BE(copy.length - 12, batchAt.length);
            copy.writeInt32BE(count, batchAt.count);
            copy.writeInt32BE(lastOffsetDelta, batchAt.lastOffsetDelta);
            copy.writeInt16BE(attributes, batchAt.attributes);
          });
          const { told, end } = visit(run(placed(batch, 10), placed(three, 50)));
          assert.equal(end, 'whole');
          assert.deepEqual(told[1]?.offsets, [50, 51, 52]);
        },
      ),
      { numRuns: 1000 },
    );
  });

  test('survives a record with any one byte changed under a checksum that fits', () => {
    for (let at: number = batchAt.attributes; at < three.length; at += 1) {
      for (const byte of [0, 1, 2, 0x3f, 0x7f, 0x80, 0xff]) {
        const batch = changed(three, (copy) => {
          copy[at] = byte;
        });
        const { told } = visit(batch);
        for (const one of told) for (const offset of one.offsets) assert.ok(offset <= one.lastOffset);
      }
    }
  });
});
