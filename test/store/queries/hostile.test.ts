// What clients send reaches ClickHouse as values only: text that looks like SQL is looked for, never run. And what the
// store answers when it cannot serve a read becomes a problem document.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { handleRead } from '../../../src/store/queries/handle.ts';
import { type Store, StoreError } from '../../../src/store/store.ts';
import { Fixture, type ListJson, nowMs, problemOf, query, type StatisticsJson } from './fixture.ts';

const fragments = [
  "' OR '1'='1",
  "'; DROP TABLE events; --",
  "\\'; DROP TABLE events; --",
  "x') OR 1=1 --",
  '1 UNION ALL SELECT * FROM events',
  '{p0:String}',
  '{p1:Array(String)}',
  '`id`',
  'id',
  '*',
  '/* */',
  '-- ',
  '#',
  '\\x27 OR \\x27',
  '\\',
  "\\\\'",
  '\\N',
  'NULL',
  '\0',
  "a\0' OR 1=1",
  '\n\r\t\b',
  '%',
  '_%',
  '[]',
  "['a']",
  '$heredoc$',
  "file('/etc/passwd')",
  '😀'.repeat(20),
  '\ufeff',
  '__proto__',
  'x'.repeat(5000),
];

describe('hostile text', () => {
  let fixture: Fixture;
  before(async () => {
    fixture = await Fixture.open();
    await fixture.insert([
      { id: 'one', source: 's', type: 't', subject: 'u', body: '{"id":"one","m":"v"}' },
      { id: 'two', source: 's', type: 't', subject: 'u', body: '{"id":"two","m":"v"}' },
    ]);
  });
  after(async () => {
    await fixture.close();
  });

  const assertIntact = async (): Promise<void> => {
    const rows = await fixture.store.rows<{ n: string }>('SELECT count() AS n FROM events');
    assert.deepEqual(rows, [{ n: '2' }]);
  };

  test('in a path or in a filter finds nothing and changes nothing', async () => {
    for (const text of fragments) {
      assert.equal((await fixture.problem(`/events/${encodeURIComponent(text)}`)).code, 'not_found');
      assert.equal((await fixture.problem('/events/one', query({ source: text }))).code, 'not_found');
      for (const parameter of ['type', 'source', 'subject']) {
        const { events } = await fixture.json<ListJson>('/events/', query({ [parameter]: text }));
        assert.deepEqual(events, [], text);
      }
    }
    await assertIntact();
  });

  test('in a place of a cursor is only a place', async () => {
    for (const text of fragments) {
      const fields = [1, 'asc', null, null, null, null, null, 0, text, text];
      const cursor = Buffer.from(JSON.stringify(fields)).toString('base64url');
      assert.equal((await fixture.json<ListJson>('/events/', query({ cursor }))).events.length, 2, text);
    }
    await assertIntact();
  });

  test('in paths and conditions of statistics is a name or a value', async () => {
    const escaped = (text: string): string => text.replace(/[\\.,:]/g, '\\$&');
    for (const text of fragments) {
      // The column, which is meant to be reachable.
      const isColumn = text === 'id';
      const grouped = await fixture.json<StatisticsJson>(
        '/events/statistics',
        query({ group_by: escaped(text), value: escaped(text) }),
      );
      assert.equal(grouped.total.count, 2, text);
      assert.equal(grouped.total.value?.count, 0, text);
      assert.equal(grouped.groups.length, isColumn ? 2 : 1, text);
      assert.deepEqual(Object.keys(grouped.groups[0]?.group ?? {}), [escaped(text)]);
      for (const where of [
        `m:${text}`,
        `${escaped(text)}:v`,
        `type:${text}`,
        `m.0.${escaped(text)}:${text}`,
      ]) {
        const { total } = await fixture.json<StatisticsJson>('/events/statistics', query({ where }));
        assert.equal(total.count, 0, where);
      }
    }
    await assertIntact();
  });

  test('in parameters with a form is refused', async () => {
    for (const text of fragments) {
      for (const parameter of ['from', 'to', 'limit', 'order', 'cursor'])
        assert.equal((await fixture.problem('/events/', query({ [parameter]: text }))).parameter, parameter);
      for (const parameter of ['from', 'to', 'limit', 'bucket', 'clock', 'exact']) {
        const problem = await fixture.problem('/events/statistics', query({ [parameter]: text }));
        assert.deepEqual([problem.status, problem.parameter], [400, parameter]);
      }
      assert.equal((await fixture.problem('/events/', query({ [text]: '1' }))).code, 'invalid_parameter');
    }
    await assertIntact();
  });

  test('of any kind is answered with 200, 400 or 404', async () => {
    const piece = fc.oneof(
      fc.string(),
      fc.string({ unit: 'binary' }),
      fc.constantFrom(...fragments),
      fc.constantFrom('group_by', 'where', 'value', 'limit', 'from', 'to', 'cursor', 'type', '1', 'a:b'),
    );
    const path = fc.oneof(
      fc.constantFrom('/events', '/events/', '/events/statistics'),
      piece.map((text) => `/events/${encodeURIComponent(text.toWellFormed())}`),
      piece.map((text) => `/events/${text}`),
    );
    const pair = fc.tuple(piece, piece).map(([name, value]) => `${name}=${value}`);
    const encodedPair = fc
      .tuple(fc.constantFrom('group_by', 'where', 'value', 'type', 'source', 'subject'), piece)
      .map(([name, value]) => `${name}=${encodeURIComponent(value.toWellFormed())}`);
    await fc.assert(
      fc.asyncProperty(
        path,
        fc.array(fc.oneof(pair, encodedPair), { maxLength: 4 }),
        piece,
        async (...parts) => {
          const [where, pairs, accept] = parts;
          const answer = await fixture.read(where, pairs.join('&'), accept);
          assert.ok([200, 400, 404].includes(answer.status), String(answer.body));
        },
      ),
      { numRuns: 200 },
    );
    await assertIntact();
  });
});

describe('a store that cannot serve', () => {
  const failing = (code: number): Store => {
    const fail = async (): Promise<never> => {
      throw new StoreError(code, 'unknown', `code ${code}`);
    };
    return {
      name: 'failing',
      insertNative: fail,
      rows: fail,
      bytes: fail,
      command: fail,
      close: async () => {},
    };
  };

  for (const [code, expected] of [
    [159, 'query_timeout'],
    [160, 'query_timeout'],
    [241, 'query_timeout'],
    [60, 'store_unavailable'],
    [210, 'store_unavailable'],
    [0, 'store_unavailable'],
  ] as const) {
    test(`with error ${code} is answered with ${expected} and when to retry`, async () => {
      for (const path of ['/events/', '/events/a', '/events/statistics']) {
        const limits = { timeoutMs: 1000, nowMs };
        const answer = await handleRead(failing(code), { path, query: '', accept: '' }, limits);
        const problem = problemOf(answer);
        assert.deepEqual([problem.status, problem.code], [503, expected]);
        assert.ok(Number(answer.headers?.['retry-after']) > 0);
      }
    });
  }

  test('gives the time that is left to each statement', async () => {
    const limits: (number | undefined)[] = [];
    const store: Store = {
      ...failing(0),
      rows: async (_sql, _params, options) => {
        limits.push(options?.timeoutMs);
        await new Promise((resolve) => setTimeout(resolve, 30));
        return [];
      },
      bytes: async (_sql, _params, options) => {
        limits.push(options?.timeoutMs);
        return Buffer.alloc(0);
      },
    };
    const request = { path: '/events/statistics', query: '', accept: '' };
    const answer = await handleRead(store, request, { timeoutMs: 20, nowMs });
    assert.deepEqual(limits, [20]);
    assert.equal(answer.status, 200);
    const filtered = await handleRead(
      {
        ...store,
        rows: async <Row>(...args: Parameters<Store['rows']>) => {
          await store.rows(...args);
          return [{ earliest: '0', latest: '1' }] as Row[];
        },
      },
      request,
      { timeoutMs: 20, nowMs },
    );
    assert.equal(problemOf(filtered).code, 'query_timeout');
  });
});
