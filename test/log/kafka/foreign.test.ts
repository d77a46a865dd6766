import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { RecordCursor, recordFlags } from '../../../src/event/record.ts';
import { timeMsMax, timeMsMin } from '../../../src/event/time.ts';
import { ForeignPacker, type ForeignRecord, ingestTimeOf } from '../../../src/log/kafka/foreign.ts';

const epoch = '0123456789abcdef0123456789abcdef';
const limits = { eventBytesMax: 1000, eventDepthMax: 8 };
const { isForeign, isBroken, isIdGenerated, isKeyId, hasTime } = recordFlags;

function recordOf(
  value: Buffer | null,
  key: Buffer | null,
  changes: Partial<ForeignRecord> = {},
): ForeignRecord {
  const buffer = Buffer.concat([
    Buffer.from('??'),
    key ?? Buffer.alloc(0),
    value ?? Buffer.alloc(0),
    Buffer.from('??'),
  ]);
  const keyEnd = 2 + (key?.length ?? 0);
  return {
    buffer,
    offset: 42,
    timestampMs: 1_700_000_000_000,
    keyStart: key === null ? -1 : 2,
    keyEnd: key === null ? -1 : keyEnd,
    valueStart: value === null ? -1 : keyEnd,
    valueEnd: value === null ? -1 : keyEnd + (value?.length ?? 0),
    ...changes,
  };
}

interface Unpacked {
  readonly flags: number;
  readonly id: string;
  readonly type: string;
  readonly source: string;
  readonly subject: string;
  readonly key: string;
  readonly body: Buffer;
  readonly ingestTimeMs: number;
  readonly timeMs: number;
}

/** The parts of exactly one packed record. */
function unpack(bytes: Buffer): Unpacked {
  const copy = Buffer.from(bytes);
  const cursor = new RecordCursor();
  cursor.open(copy);
  assert.equal(cursor.next(), true);
  assert.equal(cursor.end, copy.length);
  const text = (start: number, end: number) => copy.toString('utf8', start, end);
  return {
    flags: cursor.flags,
    id: text(cursor.idStart, cursor.typeStart),
    type: text(cursor.typeStart, cursor.sourceStart),
    source: text(cursor.sourceStart, cursor.subjectStart),
    subject: text(cursor.subjectStart, cursor.keyStart),
    key: text(cursor.keyStart, cursor.bodyStart),
    body: copy.subarray(cursor.bodyStart, cursor.end),
    ingestTimeMs: cursor.ingestTimeMs,
    timeMs: cursor.timeMs,
  };
}

function pack(
  value: string | Buffer | null,
  key: string | Buffer | null = null,
  changes: Partial<ForeignRecord> = {},
): Unpacked {
  const bytes = (text: string | Buffer | null) => (typeof text === 'string' ? Buffer.from(text) : text);
  return unpack(new ForeignPacker(epoch, limits).pack(3, recordOf(bytes(value), bytes(key), changes)));
}

describe('a foreign record', () => {
  it('becomes an event with its own members and the record as its body and ingest time', () => {
    const json = '{"id":"a","type":"t","source":"s","subject":"u","key":"k","time":5,"more":[1]}';
    assert.deepEqual(pack(json), {
      flags: isForeign | hasTime,
      id: 'a',
      type: 't',
      source: 's',
      subject: 'u',
      key: 'k',
      body: Buffer.from(json),
      ingestTimeMs: 1_700_000_000_000,
      timeMs: 5,
    });
  });

  it('gets its place in the log as its id where it has none', () => {
    const { id, flags, key } = pack('{}');
    assert.equal(id, `${epoch}:3:42`);
    assert.equal(flags, isForeign | isIdGenerated | isKeyId);
    assert.equal(key, '');
  });

  it('has the key of the Kafka record if that can be one, else its own', () => {
    assert.equal(pack('{"id":"a","key":"own"}', 'record').key, 'record');
    assert.equal(pack('{"id":"a","key":"own"}', '').key, 'own');
    assert.equal(pack('{"id":"a","key":"own"}', Buffer.from([0xff])).key, 'own');
    assert.equal(pack('{"id":"a","key":"own"}', 'x'.repeat(1025)).key, 'own');
    assert.equal(pack('{"id":"a","key":"own"}', 'x'.repeat(1024)).key, 'x'.repeat(1024));
  });

  it('does not store a key that is the id a second time', () => {
    for (const { key, flags } of [
      pack('{"id":"a"}', 'a'),
      pack('{"id":"a"}'),
      pack('{"id":"a","key":"b"}', 'a'),
    ]) {
      assert.equal(key, '');
      assert.equal(flags & isKeyId, isKeyId);
    }
  });

  it('is broken, with the reason and the bytes as they came, if it cannot be an event', () => {
    const cases: [string | Buffer | null, string][] = [
      [null, 'no_value'],
      ['', 'malformed_json'],
      ['{"a":', 'malformed_json'],
      [Buffer.from([0x22, 0xff, 0x22]), 'malformed_json'],
      ['[1]', 'invalid_event'],
      ['null', 'invalid_event'],
      ['{"id":7}', 'invalid_event'],
      ['{"a":1,"a":2}', 'invalid_event'],
      [`${'['.repeat(9)}${']'.repeat(9)}`, 'too_large'],
    ];
    for (const [value, code] of cases) {
      const { id, type, subject, flags, body } = pack(value, 'some key');
      assert.equal(type, code);
      assert.notEqual(subject, '');
      assert.equal(flags, isForeign | isBroken | isKeyId);
      assert.equal(id, `${epoch}:3:42`);
      assert.ok(body.equals(Buffer.from(value ?? '')));
    }
  });

  it('that is too large is kept as far as an event may go', () => {
    const { type, body } = pack(Buffer.alloc(1001, 'x'));
    assert.equal(type, 'too_large');
    assert.equal(body.length, 1000);
  });

  it('has an ingest time that the store can hold, whatever its timestamp', () => {
    assert.equal(ingestTimeOf(Number.NaN), 0);
    assert.equal(ingestTimeOf(-1), -1);
    assert.equal(ingestTimeOf(-(2 ** 63)), timeMsMin);
    assert.equal(ingestTimeOf(2 ** 63), timeMsMax);
    fc.assert(
      fc.property(fc.double(), (timestampMs) => {
        const ms = ingestTimeOf(timestampMs);
        assert.ok(Number.isInteger(ms) && ms >= timeMsMin && ms <= timeMsMax);
      }),
    );
  });

  it('gives the same packed record whenever it is read, whatever it holds', () => {
    const bytes = fc.option(fc.uint8Array({ maxLength: 1100 }).map((array) => Buffer.from(array)));
    const text = fc.option(fc.json().map((json) => Buffer.from(json)));
    const other = new ForeignPacker(epoch, limits);
    fc.assert(
      fc.property(fc.oneof(bytes, text), bytes, fc.double(), fc.nat(), (value, key, timestampMs, offset) => {
        const record = recordOf(value, key, { timestampMs, offset });
        const first = Buffer.from(new ForeignPacker(epoch, limits).pack(1, record));
        assert.ok(first.equals(other.pack(1, record)));
        const { flags, body } = unpack(first);
        assert.equal(flags & isForeign, isForeign);
        assert.ok(body.equals((value ?? Buffer.alloc(0)).subarray(0, 1000)));
      }),
    );
  });
});
