// The packed record: whatever a producer writes, a sink reads back, byte for byte.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { EssError } from '../../src/errors.ts';
import {
  RecordCursor,
  RecordWriter,
  recordFlags,
  recordHeaderBytes,
  skipRecords,
} from '../../src/event/record.ts';

interface Sample {
  readonly flags: number;
  readonly id: string;
  readonly type: string;
  readonly source: string;
  readonly subject: string;
  readonly key: string | null;
  readonly ingestTimeMs: number;
  readonly timeMs: number;
  readonly body: Uint8Array;
  /** Bytes around the body in the buffer that it is taken from. */
  readonly margin: number;
}

const text = fc.string({ unit: 'binary', maxLength: 40 });
const moment = fc.integer({ min: -(2 ** 41), max: 2 ** 44 });
const sample: fc.Arbitrary<Sample> = fc.record({
  flags: fc.constantFrom(0, recordFlags.hasTime, recordFlags.isIdGenerated, recordFlags.isForeign),
  id: text,
  type: text,
  source: text,
  subject: text,
  key: fc.option(text),
  ingestTimeMs: moment,
  timeMs: moment,
  body: fc.uint8Array({ maxLength: 300 }),
  margin: fc.nat({ max: 5 }),
});

function write(writer: RecordWriter, one: Sample): void {
  const around = Buffer.alloc(one.margin, 0xff);
  const body = Buffer.concat([around, one.body, around]);
  const { flags, id, type, source, subject, key, ingestTimeMs, timeMs, margin } = one;
  const end = margin + one.body.length;
  writer.append(flags, id, type, source, subject, key, ingestTimeMs, timeMs, body, margin, end);
}

/** The record at the cursor, in the form that it was written in. */
function read(cursor: RecordCursor): Omit<Sample, 'margin'> {
  const { buffer } = cursor;
  const part = (start: number, end: number): string => buffer.toString('utf8', start, end);
  const isKeyId = (cursor.flags & recordFlags.isKeyId) !== 0;
  if (isKeyId) assert.equal(cursor.keyStart, cursor.bodyStart);
  return {
    flags: cursor.flags & ~recordFlags.isKeyId,
    id: part(cursor.idStart, cursor.typeStart),
    type: part(cursor.typeStart, cursor.sourceStart),
    source: part(cursor.sourceStart, cursor.subjectStart),
    subject: part(cursor.subjectStart, cursor.keyStart),
    key: isKeyId ? null : part(cursor.keyStart, cursor.bodyStart),
    ingestTimeMs: cursor.ingestTimeMs,
    timeMs: cursor.timeMs,
    body: Uint8Array.from(buffer.subarray(cursor.bodyStart, cursor.end)),
  };
}

function readAll(bytes: Buffer): Omit<Sample, 'margin'>[] {
  const cursor = new RecordCursor();
  cursor.open(bytes);
  const found: Omit<Sample, 'margin'>[] = [];
  while (cursor.next()) found.push(read(cursor));
  return found;
}

const withoutMargin = ({ margin, ...rest }: Sample): Omit<Sample, 'margin'> => {
  assert.ok(margin >= 0);
  return { ...rest, body: Uint8Array.from(rest.body) };
};

describe('packed records', () => {
  test('what was written is read back, in order, whatever the first size of the buffer', () => {
    fc.assert(
      fc.property(
        fc.array(sample, { maxLength: 30 }),
        fc.integer({ min: 1, max: 4096 }),
        (samples, initialBytes) => {
          const writer = new RecordWriter(initialBytes);
          for (const one of samples) write(writer, one);
          assert.equal(writer.count, samples.length);
          assert.equal(writer.bytes.length, writer.usedBytes);
          assert.deepEqual(readAll(writer.bytes), samples.map(withoutMargin));
        },
      ),
    );
  });

  test('truncate takes back exactly what came after the mark, and reset everything', () => {
    fc.assert(
      fc.property(fc.array(sample, { maxLength: 8 }), fc.array(sample, { maxLength: 8 }), (kept, dropped) => {
        const writer = new RecordWriter(64);
        for (const one of kept) write(writer, one);
        const { usedBytes, count } = writer;
        for (const one of dropped) write(writer, one);
        writer.truncate(usedBytes, count);
        assert.deepEqual(readAll(writer.bytes), kept.map(withoutMargin));
        for (const one of dropped) write(writer, one);
        assert.deepEqual(readAll(writer.bytes), [...kept, ...dropped].map(withoutMargin));
        writer.reset();
        assert.equal(writer.count, 0);
        assert.equal(writer.bytes.length, 0);
      }),
    );
  });

  test('skipRecords finds the start of each record', () => {
    fc.assert(
      fc.property(fc.array(sample, { maxLength: 12 }), (samples) => {
        const writer = new RecordWriter(64);
        const starts = samples.map((one) => {
          const start = writer.usedBytes;
          write(writer, one);
          return start;
        });
        const found = samples.map((_, i) => skipRecords(writer.bytes, i));
        assert.deepEqual(found, starts);
        assert.equal(skipRecords(writer.bytes, samples.length), writer.usedBytes);
      }),
    );
  });

  test('parts of the largest length are kept whole', () => {
    const long = 'x'.repeat(65_535);
    const writer = new RecordWriter(16);
    writer.append(0, long, long, long, long, long, 0, 0, Buffer.from('{}'), 0, 2);
    const [found] = readAll(writer.bytes);
    assert.deepEqual(
      [found?.id, found?.type, found?.source, found?.subject, found?.key],
      Array(5).fill(long),
    );
    assert.equal(writer.usedBytes, recordHeaderBytes + 5 * 65_535 + 2);
  });

  test('bytes that end within a record are refused as a broken promise, wherever they end', () => {
    const writer = new RecordWriter();
    writer.append(0, 'id', 'type', 'source', 'subject', 'key', 1, 2, Buffer.from('{"a":1}'), 0, 7);
    const whole = Buffer.from(writer.bytes);
    for (let length = 1; length < whole.length; length += 1) {
      assert.throws(
        () => readAll(whole.subarray(0, length)),
        (error: unknown) => error instanceof EssError && error.code === 'internal',
        `${length} bytes`,
      );
    }
  });
});
