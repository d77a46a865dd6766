// The suite that every driver of the store seam passes: chDB in this process, and ClickHouse nodes over HTTP.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { TupleParam } from '@clickhouse/client';
import { EssError } from '../../src/errors.ts';
import { ensureSchema } from '../../src/store/migrate.ts';
import { type ColumnSpec, NativeBlock } from '../../src/store/native/block.ts';
import { type LedgerRow, ledgerBlock } from '../../src/store/native/ledger_block.ts';
import { ledgerColumns } from '../../src/store/schema.ts';
import { type Store, StoreError, type StoreOutcome } from '../../src/store/store.ts';

/** A node with an empty database of its own. */
export interface TestNode {
  /** Opens one more store on the same data. */
  open(): Promise<Store>;
  /** Called after every store is closed. */
  remove(): Promise<void>;
}

/** Strings that break careless quoting, escaping or C strings. */
const hostileStrings: readonly string[] = [
  '',
  ' ',
  "it's",
  "'; DROP TABLE facts; --",
  '\\',
  "\\'",
  '\\\\n',
  '\\N',
  'NULL',
  'a\nb\n\nc',
  'a\tb\rc',
  '\0',
  'a\0b',
  '"`{x:String}`"',
  '\u{1F600} é \u202e',
  '\ud800 alone',
  'x'.repeat(500),
];

const factColumns = [
  { name: 'id', type: 'String' },
  { name: 'version', type: 'UInt64' },
  { name: 'amount', type: 'Int32' },
] as const satisfies readonly ColumnSpec[];

const factNames = factColumns.map(({ name }) => name);

interface Fact {
  readonly id: string;
  readonly version: number;
  readonly amount: number;
}

function factBlock(facts: readonly Fact[]): Uint8Array[] {
  const block = new NativeBlock(factColumns);
  for (const fact of facts) {
    block.column('id').appendText(fact.id);
    block.column('version').append(fact.version);
    block.column('amount').append(fact.amount);
  }
  return block.pieces();
}

async function rejectsWith(promise: Promise<unknown>, code: number, outcome: StoreOutcome): Promise<void> {
  await assert.rejects(promise, (error) => {
    assert.ok(error instanceof StoreError, String(error));
    assert.deepEqual([error.code, error.outcome], [code, outcome], error.message);
    return true;
  });
}

export function storeContract(name: string, start: () => Promise<TestNode>): void {
  describe(`store contract: ${name}`, () => {
    let node: TestNode;
    let store: Store;

    const insert = (facts: readonly Fact[], token: string): Promise<void> =>
      store.insertNative('facts', factNames, factBlock(facts), { token });
    const facts = (): Promise<Fact[]> => store.rows('SELECT * FROM facts ORDER BY id, version');
    const emptyFacts = (): Promise<void> => store.command('TRUNCATE TABLE facts');

    before(async () => {
      node = await start();
      store = await node.open();
      await store.command(
        `CREATE TABLE facts (id String, version UInt64, amount Int32, CONSTRAINT small CHECK amount < 1000)
         ENGINE = ReplacingMergeTree(version) ORDER BY id
         SETTINGS non_replicated_deduplication_window = 100`,
      );
    });
    after(async () => {
      await store.close();
      await node.remove();
    });

    test('rows that were inserted are read back', async () => {
      await emptyFacts();
      const rows = [
        { id: 'a', version: 1, amount: -5 },
        { id: 'b', version: 2 ** 53 - 1, amount: 5 },
      ];
      await insert(rows, 'read back');
      assert.deepEqual(await facts(), [
        { id: 'a', version: '1', amount: -5 },
        { id: 'b', version: '9007199254740991', amount: 5 },
      ]);
    });

    test('a block with blank lines, NULs and every other byte in its strings arrives whole', async () => {
      await emptyFacts();
      const ids = [...hostileStrings.map((text) => text.toWellFormed()), '\n\n', 'FORMAT Native\n\n;'];
      await insert(
        ids.map((id, version) => ({ id, version, amount: 0 })),
        'hostile block',
      );
      const rows = await store.rows<Fact>('SELECT id FROM facts ORDER BY version');
      assert.deepEqual(
        rows.map(({ id }) => id),
        ids,
      );
    });

    test('a block larger than one network buffer arrives whole', async () => {
      await emptyFacts();
      const rows = Array.from({ length: 20_000 }, (_, i) => ({
        id: `id-${i}-${'x'.repeat(50)}`,
        version: i,
        amount: i % 7,
      }));
      await insert(rows, 'large block');
      const [sums] = await store.rows(
        'SELECT count() AS n, sum(version) AS v, sum(amount) AS a, sum(length(id)) AS l FROM facts',
      );
      const total = (pick: (row: Fact) => number): string =>
        String(rows.reduce((sum, row) => sum + pick(row), 0));
      assert.deepEqual(sums, {
        n: '20000',
        v: total((row) => row.version),
        a: total((row) => row.amount),
        l: total((row) => row.id.length),
      });
    });

    test('a block without rows is taken and stores nothing', async () => {
      await emptyFacts();
      await insert([], 'empty block');
      assert.deepEqual(await facts(), []);
    });

    test('the same block under the same token is stored once', async () => {
      await emptyFacts();
      for (let i = 0; i < 3; i += 1) await insert([{ id: 'a', version: 1, amount: 1 }], 'once');
      assert.equal((await facts()).length, 1);
    });

    test('a token that is known stores nothing, even with other rows', async () => {
      await emptyFacts();
      await insert([{ id: 'a', version: 1, amount: 1 }], 'known');
      await insert([{ id: 'b', version: 1, amount: 1 }], 'known');
      assert.deepEqual(
        (await facts()).map(({ id }) => id),
        ['a'],
      );
    });

    test('the same block under two tokens is stored twice', async () => {
      await emptyFacts();
      await insert([{ id: 'a', version: 1, amount: 1 }], 'first of two');
      await insert([{ id: 'a', version: 1, amount: 1 }], 'second of two');
      assert.deepEqual(await store.rows('SELECT count() AS n FROM facts'), [{ n: '2' }]);
    });

    test('a token with quotes and backslashes is one token', async () => {
      await emptyFacts();
      const token = "1:it's:\\:events:0-9";
      for (let i = 0; i < 2; i += 1) await insert([{ id: 'a', version: 1, amount: 1 }], token);
      await insert([{ id: 'b', version: 1, amount: 1 }], `${token}9`);
      assert.equal((await facts()).length, 2);
    });

    test('a token is still known after the store was closed and opened again', async () => {
      await emptyFacts();
      await insert([{ id: 'a', version: 1, amount: 1 }], 'reopened');
      await store.close();
      store = await node.open();
      await insert([{ id: 'a', version: 1, amount: 1 }], 'reopened');
      assert.equal((await facts()).length, 1);
    });

    test('FINAL gives the row with the highest version, whichever was inserted first', async () => {
      await emptyFacts();
      await insert([{ id: 'a', version: 7, amount: 70 }], 'final 1');
      await insert([{ id: 'a', version: 9, amount: 90 }], 'final 2');
      await insert([{ id: 'a', version: 8, amount: 80 }], 'final 3');
      assert.deepEqual(await store.rows('SELECT amount FROM facts FINAL'), [{ amount: 90 }]);
    });

    test('a row that violates a constraint is refused with its whole block', async () => {
      await emptyFacts();
      const rows = [
        { id: 'good', version: 1, amount: 1 },
        { id: 'bad', version: 1, amount: 1000 },
      ];
      await rejectsWith(insert(rows, 'poison'), 469, 'refused');
      assert.deepEqual(await facts(), []);
      await insert(rows.slice(0, 1), 'poison cut');
      assert.equal((await facts()).length, 1);
    });

    test('the token of a refused block is not used up', async () => {
      await emptyFacts();
      await rejectsWith(insert([{ id: 'a', version: 1, amount: 5000 }], 'refused first'), 469, 'refused');
      await insert([{ id: 'a', version: 1, amount: 5 }], 'refused first');
      assert.equal((await facts()).length, 1);
    });

    test('errors carry the number of ClickHouse and say that nothing was stored', async () => {
      await rejectsWith(store.rows('SELECT * FROM no_such_table'), 60, 'refused');
      await rejectsWith(store.command('SELECT (1'), 62, 'refused');
      await rejectsWith(store.bytes('SELECT 1 FORMAT NoSuchFormat'), 73, 'refused');
      await rejectsWith(
        store.insertNative('no_such_table', factNames, factBlock([]), { token: 'no table' }),
        60,
        'refused',
      );
      const cut = Buffer.concat(factBlock([{ id: 'a', version: 1, amount: 1 }])).subarray(0, -1);
      await assert.rejects(store.insertNative('facts', factNames, [cut], { token: 'cut' }), StoreError);
      await rejectsWith(store.rows('SELECT {missing:String} AS x'), 456, 'refused');
      await rejectsWith(store.rows('SELECT 1', {}, { settings: { no_such_setting: 1 } }), 115, 'refused');
    });

    test('a read stops at its time limit', async () => {
      const endless = 'SELECT sum(cityHash64(number)) AS s FROM numbers(1000000000000)';
      await rejectsWith(store.rows(endless, {}, { timeoutMs: 150 }), 159, 'unknown');
      await rejectsWith(store.bytes(`${endless} FORMAT JSON`, {}, { timeoutMs: 150 }), 159, 'unknown');
    });

    test('a request whose signal is given is given up', async () => {
      await rejectsWith(store.rows('SELECT 1', {}, { signal: AbortSignal.abort() }), 0, 'unknown');
      await rejectsWith(
        store.insertNative('facts', factNames, factBlock([]), {
          token: 'aborted',
          signal: AbortSignal.abort(),
        }),
        0,
        'unknown',
      );
    });

    test('settings of a statement do not reach the next one', async () => {
      const format =
        "SELECT toString(getSetting('max_threads')) AS threads, getSetting('max_execution_time') AS seconds";
      const [usual] = await store.rows(format);
      const [changed] = await store.rows(format, {}, { settings: { max_threads: 3 }, timeoutMs: 60_500 });
      assert.deepEqual(changed, { threads: '3', seconds: 60.5 });
      assert.deepEqual((await store.rows(format))[0], usual);
    });

    test('parameters of a statement do not reach the next one', async () => {
      assert.deepEqual(await store.rows('SELECT {x:String} AS x', { x: 'here' }), [{ x: 'here' }]);
      await rejectsWith(store.rows('SELECT {x:String} AS x'), 456, 'refused');
    });

    test('statements at the same time see their own parameters', async () => {
      const answers = await Promise.all(
        Array.from({ length: 40 }, (_, i) =>
          store.rows('SELECT {own:String} AS own, sum(number) AS s FROM numbers({n:UInt64})', {
            own: `value ${i}`,
            n: 100_000 + i,
          }),
        ),
      );
      for (const [i, rows] of answers.entries()) {
        const n = 100_000 + i;
        assert.deepEqual(rows, [{ own: `value ${i}`, s: String((n * (n - 1)) / 2) }]);
      }
    });

    test('hostile strings come back from a parameter as they went in', async () => {
      for (const text of hostileStrings) {
        const params = { text, list: [text, 'end'], pair: new TupleParam([text, 1]), map: { [text]: text } };
        const [row] = await store.rows(
          `SELECT {text:String} AS text, {list:Array(String)} AS list, {pair:Tuple(String, UInt8)} AS pair,
             {map:Map(String, String)} AS map`,
          params,
        );
        const whole = text.toWellFormed();
        assert.deepEqual(row, {
          text: whole,
          list: [whole, 'end'],
          pair: [whole, 1],
          map: { [whole]: whole },
        });
      }
    });

    test('parameters of every kind keep their value', async () => {
      const time = new Date('1969-12-31T23:59:58.750Z');
      const [row] = await store.rows(
        `SELECT {nothing:Nullable(String)} AS nothing, {yes:Bool} AS yes, {int:Int64} AS int, {big:UInt64} AS big,
           {float:Float64} AS float, {infinite:Float64} > 1e308 AS infinite, {nested:Array(Array(Nullable(Int32)))} AS nested,
           {map:Map(String, UInt8)} AS map, {bools:Array(Bool)} AS bools, {day:DateTime('UTC')} AS day,
           toUnixTimestamp64Milli({time:DateTime64(3, 'UTC')}) AS time`,
        {
          nothing: null,
          yes: true,
          int: -3,
          big: 2n ** 64n - 1n,
          float: 0.1,
          infinite: Number.POSITIVE_INFINITY,
          nested: [[1, null], []],
          map: new Map([["it's", 7]]),
          bools: [true, false],
          day: new Date('2026-11-22T16:55:00Z'),
          time: new Date('2026-11-22T16:55:00.123Z'),
        },
      );
      assert.deepEqual(row, {
        nothing: null,
        yes: true,
        int: '-3',
        big: '18446744073709551615',
        float: 0.1,
        infinite: 1,
        nested: [[1, null], []],
        map: { "it's": 7 },
        bools: [true, false],
        day: '2026-11-22 16:55:00',
        time: String(Date.UTC(2026, 10, 22, 16, 55, 0, 123)),
      });
      // Times before 1970 are sent as numbers of milliseconds: a Date parameter cannot carry them.
      const [early] = await store.rows(
        `SELECT toUnixTimestamp64Milli(fromUnixTimestamp64Milli({ms:Int64}, 'UTC')) AS ms`,
        { ms: time.getTime() },
      );
      assert.deepEqual(early, { ms: '-1250' });
    });

    test('64-bit integers come as exact decimal strings, times as text', async () => {
      const [row] = await store.rows(
        `SELECT toUInt64(18446744073709551615) AS u, toInt64(-9223372036854775808) AS i,
           toDateTime64('1900-01-01 00:00:00.001', 3, 'UTC') AS t, toUInt32(1) AS small`,
      );
      assert.deepEqual(row, {
        u: '18446744073709551615',
        i: '-9223372036854775808',
        t: '1900-01-01 00:00:00.001',
        small: 1,
      });
    });

    test('a read without rows gives none', async () => {
      assert.deepEqual(await store.rows('SELECT 1 AS x WHERE 0'), []);
    });

    test('a statement may end in a comment or a semicolon', async () => {
      assert.deepEqual(await store.rows('SELECT 1 AS x -- the end'), [{ x: 1 }]);
      assert.deepEqual(await store.rows('SELECT 1 AS x;'), [{ x: 1 }]);
    });

    test('bytes gives the answer of any format untouched', async () => {
      const text = (
        await store.bytes('SELECT number FROM numbers({n:UInt8}) FORMAT CSV', { n: 3 })
      ).toString();
      assert.equal(text, '0\n1\n2\n');
      const raw = await store.bytes("SELECT unhex('00ff0a0a00') FORMAT RawBLOB");
      assert.equal(raw.toString('hex'), '00ff0a0a00');
      assert.deepEqual(JSON.parse(String(await store.bytes("SELECT '\\0' AS x FORMAT JSONEachRow"))), {
        x: '\0',
      });
    });

    test('ensureSchema makes the tables, and a second time changes nothing', async () => {
      await ensureSchema(store);
      const row: LedgerRow = {
        epoch: 'e1',
        partition: 3,
        first: 2 ** 40,
        last: 2 ** 40 + 9,
        rows: 8,
        duplicates: 1,
        parked: 1,
        holes: 0,
        storeTimeMs: Date.UTC(2026, 10, 22),
      };
      const names = ledgerColumns.map((column) => column.name);
      await store.insertNative('ledger', names, ledgerBlock([row]), { token: 'ledger row' });
      await ensureSchema(store);
      assert.deepEqual(await store.rows('SELECT * FROM ledger'), [
        {
          epoch: 'e1',
          partition: 3,
          first: String(row.first),
          last: String(row.last),
          rows: 8,
          duplicates: 1,
          parked: 1,
          holes: '0',
          store_time: '2026-11-22 00:00:00.000',
        },
      ]);
    });

    test('several callers of ensureSchema at once agree', async () => {
      await store.command('DROP TABLE IF EXISTS events');
      await store.command('DROP TABLE IF EXISTS ledger');
      await Promise.all([ensureSchema(store), ensureSchema(store), ensureSchema(store)]);
      assert.deepEqual(await store.rows('SELECT count() AS n FROM events'), [{ n: '0' }]);
    });

    for (const [what, change] of [
      ['another column type', 'ALTER TABLE ledger MODIFY COLUMN parked UInt64'],
      ['a missing column', 'ALTER TABLE events DROP COLUMN subject'],
      ['an unknown plain column', 'ALTER TABLE events ADD COLUMN tenant String'],
      ['a smaller window', 'ALTER TABLE events MODIFY SETTING non_replicated_deduplication_window = 5'],
      ['no flush to disk', 'ALTER TABLE ledger MODIFY SETTING fsync_after_insert = 0'],
    ] as const) {
      test(`ensureSchema refuses a table with ${what}`, async () => {
        await store.command('DROP TABLE IF EXISTS events');
        await store.command('DROP TABLE IF EXISTS ledger');
        await ensureSchema(store);
        await store.command(change);
        await assert.rejects(ensureSchema(store), { code: 'format_unknown' });
      });
    }

    test('ensureSchema refuses a table with another engine or sorting key, and leaves it alone', async () => {
      await store.command('DROP TABLE IF EXISTS ledger');
      await store.command('CREATE TABLE ledger (epoch String) ENGINE = MergeTree ORDER BY epoch');
      await assert.rejects(
        ensureSchema(store),
        (error) => error instanceof EssError && error.code === 'format_unknown',
      );
      assert.deepEqual(await store.rows('SELECT count() AS n FROM ledger'), [{ n: '0' }]);
      await store.command('DROP TABLE ledger');
      await store.command('DROP TABLE IF EXISTS events');
      await ensureSchema(store);
      await store.command('DROP TABLE events');
      await store.command(
        `CREATE TABLE events AS ledger ENGINE = ReplacingMergeTree(store_time) ORDER BY (epoch, first)`,
      );
      await assert.rejects(ensureSchema(store), { code: 'format_unknown' });
    });

    test('ensureSchema accepts a column that fills itself', async () => {
      await store.command('DROP TABLE IF EXISTS events');
      await store.command('DROP TABLE IF EXISTS ledger');
      await ensureSchema(store);
      await store.command('ALTER TABLE events ADD COLUMN day Date MATERIALIZED toDate(ingest_time)');
      await ensureSchema(store);
    });
  });
}
