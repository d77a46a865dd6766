// The Native encoder, judged by the engine: every block is inserted into chDB and read back.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { RecordCursor, RecordWriter } from '../../src/event/record.ts';
import { pinEmbeddedEngine } from '../../src/store/chdb_engine.ts';
import { openStore } from '../../src/store/client.ts';
import { ensureSchema } from '../../src/store/migrate.ts';
import { type ColumnSpec, NativeBlock } from '../../src/store/native/block.ts';
import { EventBlock } from '../../src/store/native/event_block.ts';
import { dateTime64MsMax, dateTime64MsMin } from '../../src/store/native/wide_column.ts';
import { eventColumns, msPerHour } from '../../src/store/schema.ts';
import type { Store } from '../../src/store/store.ts';

await pinEmbeddedEngine();

const everyType = [
  { name: 'row', type: 'UInt32' },
  { name: 'u8', type: 'UInt8' },
  { name: 'u16', type: 'UInt16' },
  { name: 'i32', type: 'Int32' },
  { name: 'u32', type: 'UInt32' },
  { name: 'i64', type: 'Int64' },
  { name: 'u64', type: 'UInt64' },
  { name: 'halves', type: 'UInt64' },
  { name: 'f64', type: 'Float64' },
  { name: 'time', type: "DateTime64(3, 'UTC')" },
  { name: 'text', type: 'String' },
  { name: 'bytes', type: 'String' },
  { name: 'word', type: 'LowCardinality(String)' },
  { name: 'byteWord', type: 'LowCardinality(String)' },
] as const satisfies readonly ColumnSpec[];

interface Row {
  readonly u8: number;
  readonly u16: number;
  readonly i32: number;
  readonly u32: number;
  readonly i64: number;
  readonly u64: number;
  readonly low: number;
  readonly high: number;
  readonly f64: number;
  readonly time: number;
  readonly text: string;
  readonly bytes: string;
  readonly word: string;
  readonly byteWord: string;
}

type EveryBlock = NativeBlock<typeof everyType>;

/** Between other bytes, so that a wrong start or end shows. */
function appendRow(block: EveryBlock, row: Row): void {
  const part = (text: string): [Buffer, number, number] => {
    const buffer = Buffer.from(`<${text}>`);
    return [buffer, 1, buffer.length - 1];
  };
  block.column('row').append(block.rows);
  block.column('u8').append(row.u8);
  block.column('u16').append(row.u16);
  block.column('i32').append(row.i32);
  block.column('u32').append(row.u32);
  block.column('i64').append(row.i64);
  block.column('u64').append(row.u64);
  block.column('halves').appendHalves(row.low, row.high);
  block.column('f64').append(row.f64);
  block.column('time').append(row.time);
  block.column('text').appendText(row.text);
  block.column('bytes').append(...part(row.bytes));
  block.column('word').appendText(row.word);
  block.column('byteWord').append(...part(row.byteWord));
}

const selectEvery = `SELECT * EXCEPT (f64, time), toString(f64) AS f64, toUnixTimestamp64Milli(time) AS time
  FROM every ORDER BY row`;

/** The row as the engine shows it. */
function shown(row: Row, at: number): Record<string, unknown> {
  return {
    row: at,
    u8: row.u8,
    u16: row.u16,
    i32: row.i32,
    u32: row.u32,
    i64: String(row.i64),
    u64: String(row.u64),
    halves: String((BigInt(row.high) << 32n) | BigInt(row.low)),
    text: row.text.toWellFormed(),
    bytes: row.bytes.toWellFormed(),
    word: row.word.toWellFormed(),
    byteWord: row.byteWord.toWellFormed(),
    // As text, the engine keeps every bit of a number but writes it in its own way.
    f64: row.f64,
    time: String(row.time),
  };
}

const plainRow: Row = {
  u8: 1,
  u16: 2,
  i32: -3,
  u32: 4,
  i64: -5,
  u64: 6,
  low: 7,
  high: 8,
  f64: 0.5,
  time: 0,
  text: 'text',
  bytes: 'bytes',
  word: 'word',
  byteWord: 'byteWord',
};

const anyText = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.string({ maxLength: 300 }),
  fc.constantFrom(
    '',
    '\n\n',
    '\0',
    '\ud800',
    'a\udc00b',
    'é'.repeat(127),
    'x'.repeat(128),
    'y'.repeat(20_000),
  ),
);
const anyWord = fc.oneof(
  fc.constantFrom('', 'created', 'deleted', 'ж', '\ud83d'),
  fc.string({ maxLength: 3 }),
);
const anyRow: fc.Arbitrary<Row> = fc.record({
  u8: fc.integer({ min: 0, max: 255 }),
  u16: fc.integer({ min: 0, max: 65_535 }),
  i32: fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
  u32: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
  i64: fc.maxSafeInteger(),
  u64: fc.maxSafeNat(),
  low: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
  high: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
  f64: fc.double(),
  time: fc.integer({ min: dateTime64MsMin, max: dateTime64MsMax }),
  text: anyText,
  bytes: anyText,
  word: anyWord,
  byteWord: anyWord,
});

describe('Native blocks', () => {
  const path = mkdtempSync(join(tmpdir(), 'ess-native-'));
  let store: Store;
  let tokens = 0;

  const insert = async (table: string, columns: readonly ColumnSpec[], pieces: readonly Uint8Array[]) => {
    tokens += 1;
    const names = columns.map(({ name }) => name);
    await store.insertNative(table, names, pieces, { token: String(tokens) });
  };

  const readEvery = async (): Promise<Record<string, unknown>[]> => {
    const rows = await store.rows<{ f64: string }>(selectEvery);
    return rows.map((row) => ({ ...row, f64: Number(row.f64.replace('inf', 'Infinity')) }));
  };

  const roundTrip = async (block: EveryBlock, rows: readonly Row[]): Promise<void> => {
    await store.command('TRUNCATE TABLE every');
    await insert('every', everyType, block.pieces());
    assert.deepEqual(await readEvery(), rows.map(shown));
  };

  before(async () => {
    store = await openStore({ kind: 'embedded', path });
    const columns = everyType.map(({ name, type }) => `${name} ${type}`).join(', ');
    await store.command(`CREATE TABLE every (${columns}) ENGINE = MergeTree ORDER BY row`);
    await ensureSchema(store);
  });
  after(async () => {
    await store.close();
    rmSync(path, { recursive: true, force: true });
  });

  test('rows of random values of every type are what SELECT returns', async () => {
    const block = new NativeBlock(everyType);
    await fc.assert(
      fc.asyncProperty(fc.array(anyRow, { minLength: 1, maxLength: 30 }), async (rows) => {
        block.reset();
        for (const row of rows) appendRow(block, row);
        await roundTrip(block, rows);
      }),
      { numRuns: 60 },
    );
  });

  test('any order of appending, taking back and starting anew leaves the rows that were kept', async () => {
    const block = new NativeBlock(everyType);
    const step = fc.oneof(
      { weight: 8, arbitrary: anyRow.map((row) => ({ type: 'append' as const, row })) },
      { weight: 2, arbitrary: fc.nat(40).map((rows) => ({ type: 'truncate' as const, rows })) },
      { weight: 1, arbitrary: fc.constant({ type: 'reset' as const }) },
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), anyRow, async (steps, last) => {
        block.reset();
        let kept: Row[] = [];
        for (const todo of steps) {
          if (todo.type === 'append') {
            appendRow(block, todo.row);
            kept.push(todo.row);
          } else if (todo.type === 'truncate') {
            block.truncate(todo.rows);
            kept = kept.slice(0, todo.rows);
          } else {
            block.reset();
            kept = [];
          }
          assert.equal(block.rows, kept.length);
        }
        appendRow(block, last);
        await roundTrip(block, [...kept, last]);
      }),
      { numRuns: 30 },
    );
  });

  test('numbers at the ends of their ranges keep their value', async () => {
    const rows = [
      {
        ...plainRow,
        u8: 0,
        u16: 0,
        i32: -(2 ** 31),
        u32: 0,
        i64: Number.MIN_SAFE_INTEGER,
        u64: 0,
        low: 0,
        high: 0,
      },
      {
        ...plainRow,
        u8: 255,
        u16: 65_535,
        i32: 2 ** 31 - 1,
        u32: 2 ** 32 - 1,
        i64: Number.MAX_SAFE_INTEGER,
        u64: Number.MAX_SAFE_INTEGER,
        low: 2 ** 32 - 1,
        high: 2 ** 32 - 1,
      },
      { ...plainRow, i64: -1, u64: 2 ** 32, low: 2 ** 31, high: 2 ** 31 },
      { ...plainRow, i64: -(2 ** 32), u64: 2 ** 32 - 1, f64: Number.MIN_VALUE },
      { ...plainRow, i64: -(2 ** 32) - 1, f64: Number.MAX_VALUE },
    ];
    const block = new NativeBlock(everyType);
    for (const row of rows) appendRow(block, row);
    await roundTrip(block, rows);
  });

  test('times from 1900 to 2299 are the same instant in the table', async () => {
    const texts = [
      '1900-01-01 00:00:00.000',
      '1900-01-01 00:00:00.001',
      '1969-12-31 23:59:59.999',
      '1970-01-01 00:00:00.000',
      '2026-11-22 17:02:03.004',
      '2299-12-31 23:59:59.999',
    ];
    const block = new NativeBlock(everyType);
    for (const text of texts)
      appendRow(block, { ...plainRow, time: Date.parse(`${text.replace(' ', 'T')}Z`) });
    await store.command('TRUNCATE TABLE every');
    await insert('every', everyType, block.pieces());
    assert.deepEqual(
      await store.rows('SELECT toString(time) AS time FROM every ORDER BY row'),
      texts.map((time) => ({ time })),
    );
  });

  test('a value that its column cannot hold is refused and leaves no trace', () => {
    const block = new NativeBlock(everyType);
    const time = block.column('time');
    for (const ms of [Number.NaN, Number.POSITIVE_INFINITY, dateTime64MsMin - 1, dateTime64MsMax + 1])
      assert.throws(() => time.append(ms), { code: 'internal' });
    for (const value of [-1, 0.5, 2 ** 53, Number.NaN])
      assert.throws(() => block.column('u64').append(value), { code: 'internal' });
    for (const value of [0.5, 2 ** 53, Number.NaN])
      assert.throws(() => block.column('i64').append(value), { code: 'internal' });
    assert.deepEqual([time.rows, block.column('u64').rows, block.column('i64').rows], [0, 0, 0]);
  });

  test('a row begun and not finished cannot be sent, and truncate undoes it', async () => {
    const block = new NativeBlock(everyType);
    appendRow(block, plainRow);
    block.column('text').appendText('more');
    assert.throws(() => block.pieces(), { code: 'internal' });
    block.truncate(1);
    await roundTrip(block, [plainRow]);
  });

  test('a block without rows is valid', async () => {
    await roundTrip(new NativeBlock(everyType), []);
  });

  test('strings of one mebibyte arrive whole, from bytes and from text', async () => {
    const long = 'é\n\n\0x'.repeat(2 ** 20 / 6);
    const rows = [
      { ...plainRow, text: long, bytes: `${long}!`, word: `${long}?`, byteWord: long },
      plainRow,
      { ...plainRow, text: `${long}#`, bytes: long, word: `${long}?`, byteWord: long },
    ];
    const block = new NativeBlock(everyType);
    for (const row of rows) appendRow(block, row);
    await roundTrip(block, rows);
  });

  for (const distinct of [1, 255, 256, 257, 65_535, 65_536, 65_537, 80_000]) {
    test(`a dictionary of ${distinct} values keeps every row's value`, async () => {
      const columns = [
        { name: 'n', type: 'UInt32' },
        { name: 'word', type: 'LowCardinality(String)' },
      ] as const satisfies readonly ColumnSpec[];
      await store.command(
        'CREATE OR REPLACE TABLE words (n UInt32, word LowCardinality(String)) ENGINE = Memory',
      );
      const block = new NativeBlock(columns);
      for (let n = 0; n < distinct + 300; n += 1) {
        const bytes = Buffer.from(`${n % distinct}`);
        block.column('n').append(n);
        if (n % 2 === 0) block.column('word').append(bytes, 0, bytes.length);
        else block.column('word').appendText(bytes.toString());
      }
      await insert('words', columns, block.pieces());
      assert.deepEqual(
        await store.rows(
          'SELECT count() AS rows, uniqExact(word) AS distinct, countIf(word != toString(n % {distinct:UInt32})) AS wrong FROM words',
          { distinct },
        ),
        [{ rows: String(distinct + 300), distinct: String(distinct), wrong: '0' }],
      );
    });
  }

  test('approximateBytes is close to the bytes of the block', () => {
    const block = new NativeBlock(everyType);
    const bytes = (): number => block.pieces().reduce((sum, piece) => sum + piece.length, 0);
    assert.ok(Math.abs(block.approximateBytes - bytes()) < 500);
    for (let i = 0; i < 5000; i += 1) appendRow(block, { ...plainRow, word: String(i) });
    assert.ok(Math.abs(block.approximateBytes - bytes()) < 500);
  });
});

describe('event blocks', () => {
  const path = mkdtempSync(join(tmpdir(), 'ess-events-'));
  const epoch = '0123456789abcdef0123456789abcdef';
  const storeTimeMs = Date.UTC(2026, 10, 22, 17);
  const logTimeMs = storeTimeMs - 5;
  let store: Store;
  let tokens = 0;

  interface Event {
    readonly flags: number;
    readonly id: string;
    readonly type: string;
    readonly source: string;
    readonly subject: string;
    readonly key: string | null;
    readonly ingestTimeMs: number;
    readonly timeMs: number;
    readonly body: string;
    readonly partition: number;
    readonly offset: number;
  }

  const plainEvent: Event = {
    flags: 1,
    id: 'id',
    type: 'event',
    source: '',
    subject: '',
    key: null,
    ingestTimeMs: Date.UTC(2026, 10, 22),
    timeMs: Date.UTC(2026, 10, 22),
    body: '{"id":"id"}',
    partition: 0,
    offset: 0,
  };

  before(async () => {
    store = await openStore({ kind: 'embedded', path });
    await ensureSchema(store);
  });
  after(async () => {
    await store.close();
    rmSync(path, { recursive: true, force: true });
  });

  /** A cursor at the only record of a buffer. */
  const packed = (event: Event): RecordCursor => {
    const writer = new RecordWriter(64);
    const body = Buffer.from(event.body);
    writer.append(
      event.flags,
      event.id,
      event.type,
      event.source,
      event.subject,
      event.key,
      event.ingestTimeMs,
      event.timeMs,
      body,
      0,
      body.length,
    );
    const cursor = new RecordCursor();
    cursor.open(writer.bytes);
    assert.ok(cursor.next());
    return cursor;
  };

  const insert = async (block: EventBlock): Promise<void> => {
    tokens += 1;
    const names = eventColumns.map(({ name }) => name);
    await store.insertNative('events', names, block.pieces(storeTimeMs), { token: String(tokens) });
  };

  const version = (event: Event): bigint =>
    2n ** 64n -
    1n -
    ((BigInt(Math.max(Math.floor(event.ingestTimeMs), 0)) << 20n) + (BigInt(event.offset) & 0xfffffn));

  const shownEvent = (event: Event): Record<string, unknown> => ({
    hour: Math.floor(Math.floor(event.timeMs) / msPerHour),
    source: event.source,
    id: event.id,
    type: event.type,
    subject: event.subject,
    key: event.key ?? event.id,
    time: String(Math.floor(event.timeMs)),
    ingest_time: String(Math.floor(event.ingestTimeMs)),
    log_time: String(logTimeMs),
    store_time: String(storeTimeMs),
    flags: event.key === null ? event.flags | 4 : event.flags,
    epoch,
    partition: event.partition,
    offset: String(event.offset),
    version: String(version(event)),
    body: event.body,
  });

  const readEvents = (final = ''): Promise<Record<string, unknown>[]> =>
    store.rows(
      `SELECT * REPLACE (toUnixTimestamp64Milli(time) AS time, toUnixTimestamp64Milli(ingest_time) AS ingest_time,
         toUnixTimestamp64Milli(log_time) AS log_time, toUnixTimestamp64Milli(store_time) AS store_time) FROM events ${final} ORDER BY partition, offset`,
    );

  const name = fc.string({ unit: 'grapheme', maxLength: 60 });
  const anyTime = fc.oneof(
    fc.integer({ min: dateTime64MsMin, max: dateTime64MsMax }),
    fc.constantFrom(
      dateTime64MsMin,
      -msPerHour - 1,
      -msPerHour,
      -1,
      -0.5,
      0,
      0.5,
      msPerHour - 1,
      dateTime64MsMax,
    ),
  );
  // Within one month, as a block has to be: the table is partitioned by it.
  const anyIngestTime = fc.oneof(
    fc.integer({ min: Date.UTC(2026, 10, 1), max: Date.UTC(2026, 11, 1) - 1 }),
    fc.constant(Date.UTC(2026, 10, 2) + 0.75),
  );
  const anyEvent: fc.Arbitrary<Event> = fc.record({
    flags: fc.constantFrom(0, 1, 2, 8, 11),
    id: fc.string({ unit: 'grapheme', minLength: 1, maxLength: 80 }),
    type: fc.oneof(fc.constantFrom('event', 'click'), name),
    source: name,
    subject: name,
    key: fc.option(name),
    ingestTimeMs: anyIngestTime,
    timeMs: anyTime,
    body: fc.oneof(fc.json(), fc.string({ unit: 'grapheme', maxLength: 2000 })),
    partition: fc.integer({ min: 0, max: 65_535 }),
    offset: fc.oneof(
      fc.maxSafeNat(),
      fc.constantFrom(0, 2 ** 20 - 1, 2 ** 20, 2 ** 32, Number.MAX_SAFE_INTEGER),
    ),
  });
  const byId = (a: Record<string, unknown>, b: Record<string, unknown>): number =>
    String(a['id']) < String(b['id']) ? -1 : 1;

  test('rows of random packed records are what SELECT returns', async () => {
    const block = new EventBlock();
    await fc.assert(
      fc.asyncProperty(fc.array(anyEvent, { minLength: 1, maxLength: 30 }), async (made) => {
        // Each has an id of its own: the insert itself collapses rows of one identity.
        const events = made.map((event, i) => ({ ...event, id: `${i}:${event.id}` }));
        await store.command('TRUNCATE TABLE events');
        block.reset();
        for (const event of events)
          block.append(packed(event), epoch, event.partition, event.offset, logTimeMs);
        await insert(block);
        assert.deepEqual((await readEvents()).sort(byId), events.map(shownEvent).sort(byId));
      }),
      { numRuns: 50 },
    );
  });

  test('many records of one buffer are copied in order, with room growing on the way', async () => {
    await store.command('TRUNCATE TABLE events');
    const writer = new RecordWriter(64);
    const count = 5000;
    for (let i = 0; i < count; i += 1) {
      const body = Buffer.from(`[${'x'.repeat(i % 700)}]`);
      const at = plainEvent.timeMs + i;
      writer.append(
        0,
        `id-${i}`,
        `type-${i % 300}`,
        's',
        '',
        i % 2 === 0 ? null : 'k',
        at,
        at,
        body,
        0,
        body.length,
      );
    }
    const block = new EventBlock();
    const cursor = new RecordCursor();
    cursor.open(writer.bytes);
    for (let i = 0; cursor.next(); i += 1) block.append(cursor, epoch, 3, 100 + i, logTimeMs);
    assert.equal(block.rows, count);
    await insert(block);
    assert.deepEqual(
      await store.rows(
        `SELECT count() AS n, countIf(id != concat('id-', toString(i)) OR type != concat('type-', toString(i % 300))
           OR key != if(i % 2 = 0, id, 'k') OR length(body) != i % 700 + 2) AS wrong
         FROM (SELECT *, offset - 100 AS i FROM events)`,
      ),
      [{ n: String(count), wrong: '0' }],
    );
  });

  test('of two copies of an event FINAL shows the one that came in first, in whatever order they are stored', async () => {
    const copies: Event[] = [
      { ...plainEvent, offset: 2 ** 20 - 2, body: 'first' },
      { ...plainEvent, offset: 2 ** 20 - 1, body: 'second, in the same millisecond' },
      { ...plainEvent, ingestTimeMs: plainEvent.ingestTimeMs + 1, offset: 2 ** 20, body: 'third' },
      { ...plainEvent, ingestTimeMs: plainEvent.ingestTimeMs + 4096, offset: 0, body: 'fourth' },
    ];
    for (const order of [copies, copies.toReversed()]) {
      await store.command('TRUNCATE TABLE events');
      for (const copy of order) {
        const block = new EventBlock();
        block.append(packed(copy), epoch, copy.partition, copy.offset, logTimeMs);
        await insert(block);
      }
      assert.deepEqual(
        (await readEvents('FINAL')).map((row) => row['body']),
        ['first'],
      );
    }
  });

  test('a record that the table cannot hold is refused and leaves the block as it was', async () => {
    await store.command('TRUNCATE TABLE events');
    const block = new EventBlock();
    block.append(packed(plainEvent), epoch, 0, 0, logTimeMs);
    const bad: [Event, number, number][] = [
      [{ ...plainEvent, timeMs: Number.NaN }, 0, 1],
      [{ ...plainEvent, timeMs: dateTime64MsMin - 1 }, 0, 1],
      [{ ...plainEvent, ingestTimeMs: dateTime64MsMax + 1 }, 0, 1],
      [plainEvent, -1, 1],
      [plainEvent, 65_536, 1],
      [plainEvent, 0, -1],
      [plainEvent, 0, 2 ** 53],
    ];
    for (const [event, partition, offset] of bad)
      assert.throws(() => block.append(packed(event), epoch, partition, offset, logTimeMs), {
        code: 'internal',
      });
    assert.equal(block.rows, 1);
    await insert(block);
    assert.deepEqual(await readEvents(), [shownEvent(plainEvent)]);
  });

  test('rows taken back are not sent, and the block can be sealed again with another time', async () => {
    await store.command('TRUNCATE TABLE events');
    const block = new EventBlock();
    for (let offset = 0; offset < 10; offset += 1)
      block.append(
        packed({ ...plainEvent, id: `${offset}`, type: `${offset}` }),
        epoch,
        0,
        offset,
        logTimeMs,
      );
    block.pieces(0);
    block.truncate(2);
    const last = { ...plainEvent, id: 'last', offset: 2 };
    block.append(packed(last), epoch, 0, 2, logTimeMs);
    block.pieces(1);
    await insert(block);
    assert.deepEqual(
      await readEvents(),
      [{ ...plainEvent, id: '0', type: '0' }, { ...plainEvent, id: '1', type: '1', offset: 1 }, last].map(
        shownEvent,
      ),
    );
  });
});
