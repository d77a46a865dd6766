// The ring on one thread: its layout, and every order of calls against a model that is a plain queue and counts
// positions without ever wrapping them.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { EssError } from '../../src/errors.ts';
import {
  capacityBytesMax,
  capacityBytesMin,
  controlSpacingBytes,
  createRing,
  largestPayloadBytes,
  openRing,
  recordAlignmentBytes,
  recordAt,
  recordBytes,
  recordHeaderBytes,
  ringAt,
} from '../../src/ring/layout.ts';
import { RingReader } from '../../src/ring/reader.ts';
import { RingWriter } from '../../src/ring/writer.ts';

const isInternal = (error: unknown): boolean => error instanceof EssError && error.code === 'internal';
const isBadOption = (error: unknown): boolean => error instanceof EssError && error.code === 'bad_option';

/** Bytes that differ from record to record and from place to place. */
function pattern(seed: number, length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => Math.imul(seed + i, 0x9e3779b1) >>> 24);
}

function snapshot(ring: SharedArrayBuffer): Uint8Array {
  return new Uint8Array(ring).slice();
}

/** Positions on both sides of every place where an int32 or its sign turns over. */
const startPositions = fc
  .tuple(fc.constantFrom(0, 2 ** 31), fc.integer({ min: -300, max: 300 }))
  .map(([base, steps]) => (base + steps * recordAlignmentBytes) | 0);

describe('ring layout', () => {
  test('head, tail and data are apart by whole pairs of cache lines', () => {
    assert.ok(ringAt.head >= controlSpacingBytes);
    assert.ok(ringAt.tail - ringAt.head >= controlSpacingBytes);
    assert.ok(ringAt.data - ringAt.tail >= controlSpacingBytes);
    assert.equal(controlSpacingBytes, 128);
    assert.equal(createRing(64).byteLength, ringAt.data + 64);
  });

  test('the header fields fill the header without overlap and records keep its alignment', () => {
    const sizes = { length: 4, type: 2, flags: 2, slot: 4, generation: 4 };
    let end = 0;
    for (const [name, size] of Object.entries(sizes)) {
      assert.equal(recordAt[name as keyof typeof recordAt], end);
      end += size;
    }
    assert.equal(end, recordHeaderBytes);
    assert.equal(recordHeaderBytes, 16);
    assert.equal(recordHeaderBytes % recordAlignmentBytes, 0);
    for (let payload = 0; payload < 100; payload += 1) {
      assert.equal(recordBytes(payload) % recordAlignmentBytes, 0);
      assert.ok(recordBytes(payload) >= recordHeaderBytes + payload);
      assert.ok(recordBytes(payload) < recordHeaderBytes + payload + recordAlignmentBytes);
    }
  });

  test('a capacity that is not a power of two within the bounds is a bad option', () => {
    for (const capacity of [0, -64, 16, 33, 48, 64.5, 1000, Number.NaN, 2 * capacityBytesMax, 2 ** 31 + 2]) {
      assert.throws(() => createRing(capacity), isBadOption, `capacity ${capacity}`);
    }
    for (const start of [1, 8, 2 ** 31, 0.5]) assert.throws(() => createRing(64, start), isBadOption);
    assert.equal(createRing(capacityBytesMin).byteLength, ringAt.data + capacityBytesMin);
  });

  test('shared memory that is not a ring is refused', () => {
    assert.throws(() => new RingWriter(new SharedArrayBuffer(64)), isInternal);
    assert.throws(() => new RingReader(new SharedArrayBuffer(ringAt.data + 100)), isInternal);
  });
});

describe('ring, one thread', () => {
  test('a payload of the largest size fits into an empty ring at every position, and one byte more is refused for good', () => {
    for (let capacity = capacityBytesMin; capacity <= 4096; capacity *= 2) {
      const largest = largestPayloadBytes(capacity);
      const payload = pattern(capacity, largest);
      for (let steps = 0; steps < capacity / recordAlignmentBytes; steps += 1) {
        for (const base of [0, 2 ** 31 - capacity, -capacity]) {
          const ring = createRing(capacity, (base + steps * recordAlignmentBytes) | 0);
          const writer = new RingWriter(ring);
          const reader = new RingReader(ring);
          assert.ok(writer.tryAppend(1, 2, 3, 4, payload), `capacity ${capacity}, position ${base}+${steps}`);
          assert.ok(reader.next());
          assert.deepEqual(reader.bytes.slice(reader.payloadStart, reader.payloadEnd), payload);
          reader.release();
          assert.equal(reader.usedBytes, 0);
          assert.throws(() => writer.tryReserve(largest + 1), isInternal);
        }
      }
    }
  });

  test('the largest ring counts its bytes across the sign of positions', () => {
    const ring = createRing(capacityBytesMax, 2 ** 31 - recordAlignmentBytes);
    const writer = new RingWriter(ring);
    const reader = new RingReader(ring);
    const largest = largestPayloadBytes(capacityBytesMax);
    // The first is written before the end of the data area, which is where positions turn negative, as padding only.
    assert.equal(writer.tryReserve(largest), recordHeaderBytes);
    writer.publish(largest, 1, 0, 0, 0);
    assert.equal(writer.usedBytes, recordAlignmentBytes + recordBytes(largest));
    assert.equal(writer.tryReserve(largest), -1);
    assert.ok(reader.next());
    assert.equal(reader.payloadEnd - reader.payloadStart, largest);
    assert.ok(!reader.next());
    reader.release();
    assert.ok(reader.isEmpty);
    assert.equal(reader.usedBytes, 0);
  });

  test('a reservation is invisible until it is published', () => {
    const ring = createRing(256);
    const writer = new RingWriter(ring);
    const reader = new RingReader(ring);
    writer.bytes.fill(7, writer.tryReserve(40), 40);
    assert.ok(reader.isEmpty);
    assert.ok(!reader.next());
    assert.equal(writer.usedBytes, 0);
  });

  test('publishing without a reservation, twice, or more than reserved throws and publishes nothing', () => {
    const ring = createRing(256);
    const writer = new RingWriter(ring);
    const before = snapshot(ring);
    assert.throws(() => writer.publish(0, 1, 0, 0, 0), isInternal);
    writer.tryReserve(8);
    for (const bytes of [9, -1, 0.5, Number.NaN])
      assert.throws(() => writer.publish(bytes, 1, 0, 0, 0), isInternal);
    assert.deepEqual(snapshot(ring), before);
    writer.publish(8, 1, 0, 0, 0);
    const once = snapshot(ring);
    assert.throws(() => writer.publish(8, 1, 0, 0, 0), isInternal);
    assert.deepEqual(snapshot(ring), once);
  });

  test('a refused reserve gives up the reservation before it', () => {
    const ring = createRing(64);
    const writer = new RingWriter(ring);
    assert.ok(writer.tryAppend(1, 0, 0, 0, pattern(1, 16)));
    assert.notEqual(writer.tryReserve(0), -1);
    writer.publish(0, 1, 0, 0, 0);
    assert.notEqual(writer.tryReserve(0), -1);
    assert.equal(writer.tryReserve(16), -1);
    assert.throws(() => writer.publish(0, 1, 0, 0, 0), isInternal);
  });

  test('header fields carry their whole range and refuse what is beyond it', () => {
    const ring = createRing(256);
    const writer = new RingWriter(ring);
    const reader = new RingReader(ring);
    const empty = new Uint8Array(0);
    assert.ok(writer.tryAppend(0xffff, 0xffff, 0xffff_ffff, 0xffff_ffff, empty));
    assert.ok(reader.next());
    assert.deepEqual(
      [reader.type, reader.flags, reader.slot, reader.generation],
      [0xffff, 0xffff, 0xffff_ffff, 0xffff_ffff],
    );
    assert.throws(() => writer.tryAppend(0x1_0000, 0, 0, 0, empty), isInternal);
    assert.throws(() => writer.tryAppend(0, -1, 0, 0, empty), isInternal);
    assert.throws(() => writer.tryAppend(0, 0, 2 ** 32, 0, empty), isInternal);
    assert.throws(() => writer.tryAppend(0, 0, 0, -1, empty), isInternal);
    assert.ok(!reader.next());
  });

  test('a reader that fails half-way has given nothing back, and the next one reads it again', () => {
    const ring = createRing(256);
    const writer = new RingWriter(ring);
    for (let slot = 0; slot < 4; slot += 1) assert.ok(writer.tryAppend(1, 0, slot, 0, pattern(slot, 8)));
    const failing = new RingReader(ring);
    assert.ok(failing.next());
    failing.release();
    assert.ok(failing.next());
    assert.ok(failing.next());
    const again = new RingReader(ring);
    const slots: number[] = [];
    while (again.next()) slots.push(again.slot);
    assert.deepEqual(slots, [1, 2, 3]);
  });

  test('bytes that no writer leaves are refused, and the reader does not move', () => {
    const put = (length: number, appended: number): RingReader => {
      const ring = createRing(256);
      const writer = new RingWriter(ring);
      for (let i = 0; i < appended; i += 1) writer.tryAppend(1, 0, 0, 0, pattern(1, 48));
      openRing(ring).fields.setInt32(recordAt.length, length, true);
      return new RingReader(ring);
    };
    assert.ok(put(64, 1).next());
    for (const length of [0, 1, 15, 65, 257, 2 ** 31 - 1, -16, -64, -256, -(2 ** 31)]) {
      const reader = put(length, 1);
      assert.throws(() => reader.next(), isInternal, `length ${length}`);
      assert.throws(() => reader.next(), isInternal, `length ${length}`);
      assert.ok(!reader.isEmpty);
      reader.release();
      assert.equal(reader.usedBytes, 64);
    }
    assert.throws(() => put(193, 3).next(), isInternal);
  });
});

type Fields = readonly [type: number, flags: number, slot: number, generation: number];

/** A published record as the model keeps it; positions are plain numbers that never wrap. */
interface ModelRecord {
  readonly start: number;
  readonly end: number;
  readonly payload: Uint8Array;
  readonly fields: Fields;
}

class Model {
  readonly capacity: number;
  head: number;
  tail: number;
  /** Published and not released; the first `read` of them were read. */
  readonly records: ModelRecord[] = [];
  read = 0;
  reserved: { readonly payloadBytes: number; readonly start: number } | null = null;

  constructor(capacity: number, startPosition: number) {
    this.capacity = capacity;
    // In front of zero by a multiple of 2^32, so that positions only grow.
    this.head = startPosition + 2 ** 32;
    this.tail = this.head;
  }

  /** Where a record of this payload would start, or null if it does not fit now. */
  place(payloadBytes: number): number | null {
    const size = Math.ceil((payloadBytes + 16) / 16) * 16;
    const offset = this.tail % this.capacity;
    const start = offset + size > this.capacity ? this.tail + this.capacity - offset : this.tail;
    return start + size - this.head > this.capacity ? null : start;
  }

  push(start: number, payload: Uint8Array, fields: Fields): void {
    this.tail = start + recordBytes(payload.length);
    this.records.push({ start, end: this.tail, payload, fields });
    this.reserved = null;
  }
}

interface Real {
  readonly ring: SharedArrayBuffer;
  writer: RingWriter;
  reader: RingReader;
}

type Command = fc.Command<Model, Real>;

function assertSame(model: Model, { ring, writer, reader }: Real): void {
  const used = model.tail - model.head;
  assert.equal(writer.usedBytes, used);
  assert.equal(reader.usedBytes, used);
  assert.equal(reader.isEmpty, model.read === model.records.length);
  const { control } = openRing(ring);
  assert.equal(Atomics.load(control, ringAt.tail / 4), model.tail | 0);
  assert.equal(Atomics.load(control, ringAt.head / 4), model.head | 0);
  // What was published and not given back stays as it was, whatever is reserved and written meanwhile.
  for (const { start, payload } of model.records) {
    const offset = (start % model.capacity) + recordHeaderBytes;
    assert.deepEqual(reader.bytes.slice(offset, offset + payload.length), payload);
  }
}

/** Sizes are given as parts of the largest payload, so that they shrink to 0 and cover it in every ring. */
function bytesOf(part: number, model: Model): number {
  return Math.round(part * largestPayloadBytes(model.capacity));
}

function command(name: string, run: (model: Model, real: Real) => void): Command {
  return {
    check: () => true,
    run: (model, real) => {
      run(model, real);
      assertSame(model, real);
    },
    toString: () => name,
  };
}

const reserve = (part: number): Command =>
  command(`reserve(${part})`, (model, real) => {
    const payloadBytes = bytesOf(part, model);
    const start = model.place(payloadBytes);
    const before = snapshot(real.ring);
    const at = real.writer.tryReserve(payloadBytes);
    assert.equal(at, start === null ? -1 : (start % model.capacity) + recordHeaderBytes);
    assert.deepEqual(snapshot(real.ring), before, 'a reserve, refused or not, changes no shared byte');
    model.reserved = start === null ? null : { payloadBytes, start };
    // All that was reserved is the writer's to use, also what it does not publish.
    if (at !== -1) real.writer.bytes.fill(0xee, at, at + payloadBytes);
  });

const publish = (part: number, fields: Fields): Command =>
  command(`publish(${part}, ${fields})`, (model, { writer }) => {
    const { reserved } = model;
    if (reserved === null) {
      assert.throws(() => writer.publish(0, ...fields), isInternal);
      return;
    }
    const payload = pattern(fields[3], Math.round(part * reserved.payloadBytes));
    writer.bytes.set(payload, (reserved.start % model.capacity) + recordHeaderBytes);
    assert.throws(() => writer.publish(reserved.payloadBytes + 1, ...fields), isInternal);
    writer.publish(payload.length, ...fields);
    model.push(reserved.start, payload, fields);
  });

const append = (part: number, fields: Fields): Command =>
  command(`append(${part}, ${fields})`, (model, { ring, writer }) => {
    const payload = pattern(fields[2], bytesOf(part, model));
    const start = model.place(payload.length);
    const before = snapshot(ring);
    assert.equal(writer.tryAppend(...fields, payload), start !== null);
    model.reserved = null;
    if (start === null) assert.deepEqual(snapshot(ring), before);
    else model.push(start, payload, fields);
  });

const next = command('next', (model, { reader }) => {
  const record = model.records[model.read];
  assert.equal(reader.next(), record !== undefined);
  if (record === undefined) return;
  model.read += 1;
  assert.deepEqual([reader.type, reader.flags, reader.slot, reader.generation], record.fields);
  assert.equal(reader.payloadStart, (record.start % model.capacity) + recordHeaderBytes);
  assert.ok(reader.payloadEnd <= model.capacity);
  assert.deepEqual(reader.bytes.slice(reader.payloadStart, reader.payloadEnd), record.payload);
});

const release = command('release', (model, { reader }) => {
  reader.release();
  const last = model.records[model.read - 1];
  if (last !== undefined) model.head = last.end;
  model.records.splice(0, model.read);
  model.read = 0;
});

const reopen = command('reopen', (model, real) => {
  real.reader = new RingReader(real.ring);
  real.writer = new RingWriter(real.ring);
  model.read = 0;
  model.reserved = null;
});

describe('ring against its model', () => {
  test('any order of reserve, publish, append, next and release behaves as a queue', () => {
    // Mostly small records, so that many stand in the ring at once, and some of every size up to the largest.
    const part = fc.oneof(
      { arbitrary: fc.double({ min: 0, max: 0.1, noNaN: true }), weight: 3 },
      { arbitrary: fc.double({ min: 0, max: 1, noNaN: true }), weight: 2 },
      { arbitrary: fc.constantFrom(0, 1), weight: 1 },
    );
    const u16 = fc.integer({ min: 0, max: 0xffff });
    const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
    const fields = fc.tuple(u16, u16, u32, u32);
    const capacities = fc.integer({ min: 5, max: 11 }).map((power) => 2 ** power);
    const commands = fc.commands<Model, Real>(
      [
        part.map(reserve),
        fc.tuple(part, fields).map((drawn) => publish(...drawn)),
        fc.tuple(part, fields).map((drawn) => append(...drawn)),
        fc.tuple(part, fields).map((drawn) => append(...drawn)),
        fc.constant(next),
        fc.constant(next),
        fc.constant(release),
        fc.constant(reopen),
      ],
      { size: '+2', maxCommands: 300 },
    );
    fc.assert(
      fc.property(capacities, startPositions, commands, (capacity, startPosition, list) => {
        const ring = createRing(capacity, startPosition);
        fc.modelRun(
          () => ({
            model: new Model(capacity, startPosition),
            real: { ring, writer: new RingWriter(ring), reader: new RingReader(ring) },
          }),
          list,
        );
      }),
      { numRuns: 300 },
    );
  });
});
