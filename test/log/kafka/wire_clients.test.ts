// Batches that real clients wrote through a real broker, in every codec: see fixtures/README.md.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { BatchRecords } from '../../../src/log/kafka/wire/batch_records.ts';
import { type Batch, visitBatches } from '../../../src/log/kafka/wire/batch_visitor.ts';
import { expand } from '../../../src/log/kafka/wire/compression.ts';
import { copyPackedRecord } from '../../../src/log/kafka/wire/packed_record.ts';
import { attributeBits, batchAt, compressionIds } from '../../../src/log/kafka/wire/record_batch.ts';

function fixture(name: string): Buffer {
  return readFileSync(`test/log/kafka/fixtures/${name}.bin`);
}

interface Read {
  readonly offset: number;
  readonly timestampMs: number;
  readonly key: string;
  readonly id: unknown;
  readonly hasEss: boolean;
}

function text(records: BatchRecords, start: number, end: number): string {
  return records.buffer.toString('utf8', start, end);
}

function readAll(bytes: Buffer): { readonly records: readonly Read[]; readonly batches: readonly Batch[] } {
  const records: Read[] = [];
  const batches: Batch[] = [];
  const end = visitBatches(bytes, {
    records(batch, cursor) {
      batches.push(batch);
      if (batch.isControl) return;
      while (cursor.next()) {
        assert.equal(copyPackedRecord(cursor, Buffer.alloc(10_000), 0), -1);
        const value = text(cursor, cursor.valueStart, cursor.valueEnd);
        const parsed: { id?: unknown } = value.startsWith('{') ? JSON.parse(value) : { id: value };
        records.push({
          ...{ offset: cursor.offset, timestampMs: cursor.timestampMs, id: parsed.id },
          key: text(cursor, cursor.keyStart, cursor.keyEnd),
          hasEss: cursor.essStart >= 0 && text(cursor, cursor.essStart, cursor.essEnd) === 'notours',
        });
      }
    },
    defect: (_, defect) => assert.fail(defect),
  });
  assert.equal(end, 'whole');
  return { records, batches };
}

const offsets = (count: number): readonly number[] => Array.from({ length: count }, (_, index) => index);
/** Any time since the fixtures' clients exist. */
const isTime = (timeMs: number): boolean => timeMs > Date.UTC(2020, 0) && timeMs < Date.UTC(2100, 0);

for (const client of ['kcat', 'java'] as const) {
  describe(`batches written by ${client}`, () => {
    for (const codec of ['none', 'gzip', 'snappy', 'lz4', 'zstd'] as const) {
      test(`with compression ${codec} are read`, () => {
        const { records, batches } = readAll(fixture(`${client}_${codec}`));
        assert.deepEqual(
          records.map((one) => one.offset),
          offsets(40),
        );
        assert.deepEqual(
          records.map((one) => one.id),
          offsets(40).map((n) => `event-${n}`),
        );
        assert.deepEqual(
          records.map((one) => one.key),
          offsets(40).map((n) => `key-${n % 7}`),
        );
        assert.ok(records.every((one) => isTime(one.timestampMs) && one.hasEss === (client === 'kcat')));
        for (const { bytes, producerId } of batches) {
          assert.equal(
            bytes.readInt16BE(batchAt.attributes) & attributeBits.compression,
            compressionIds[codec],
          );
          assert.equal(producerId === -1n, client === 'kcat');
        }
      });
    }
    for (const codec of ['snappy', 'lz4', 'zstd'] as const) {
      test(`with compression ${codec} are read when they take several blocks`, () => {
        const { records, batches } = readAll(fixture(`${client}_${codec}_large`));
        assert.equal(batches.length, 1);
        assert.deepEqual(
          records.map((one) => one.offset),
          offsets(120),
        );
        assert.deepEqual(
          records.map((one) => one.id),
          offsets(120).map((n) => `event-${n}`),
        );
      });
      test(`with compression ${codec} and any damage are refused or differ, and never throw`, () => {
        const [batch] = readAll(fixture(`${client}_${codec}`)).batches;
        assert.ok(batch !== undefined);
        const compressed = batch.bytes.subarray(batchAt.records);
        const id = compressionIds[codec];
        const change = fc.record({ at: fc.nat(compressed.length - 1), byte: fc.nat(255) });
        fc.assert(
          fc.property(
            fc.array(change, { maxLength: 4 }),
            fc.nat(compressed.length),
            fc.boolean(),
            (changes, bytes, isCut) => {
              const copy = Buffer.from(compressed);
              for (const { at, byte } of changes) copy[at] = byte;
              const result = expand(isCut ? copy.subarray(0, bytes) : copy, id);
              assert.ok(result === 'corrupt' || Buffer.isBuffer(result));
            },
          ),
          { numRuns: 500 },
        );
        assert.ok(Buffer.isBuffer(expand(compressed, id)));
      });
    }
  });
}

test('records have the time of the append in a topic that is set up so', () => {
  const { records, batches } = readAll(fixture('append_time'));
  assert.equal(records.length, 40);
  const [batch] = batches;
  assert.ok(batch !== undefined);
  assert.notEqual(batch.bytes.readInt16BE(batchAt.attributes) & attributeBits.isLogAppendTime, 0);
  const appendedMs = Number(batch.bytes.readBigInt64BE(batchAt.maxTimestampMs));
  for (const one of records) assert.equal(one.timestampMs, appendedMs);
});

test('the batches of transactions and their markers are told apart', () => {
  const { records, batches } = readAll(fixture('transactions'));
  assert.deepEqual(
    records.map((one) => one.id),
    ['a0', 'a1', 'a2', 'b0', 'b1', 'b2', 'c0', 'c1', 'c2'],
  );
  assert.deepEqual(
    batches.map((batch) => [batch.baseOffset, batch.lastOffset, batch.isControl, batch.marker]),
    [
      [0, 2, false, null],
      [3, 3, true, 'commit'],
      [4, 6, false, null],
      [7, 7, true, 'abort'],
      [8, 10, false, null],
      [11, 11, true, 'commit'],
    ],
  );
  for (const batch of batches) {
    assert.equal(batch.isTransactional, true);
    assert.equal(batch.producerId, batches[0]?.producerId);
  }
});
