// GET /events/ on rows in chDB.

import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, test } from 'node:test';
import fc from 'fast-check';
import { msPerHour } from '../../../src/store/schema.ts';
import { bodyText, type EventJson, Fixture, type ListJson, noon, query, type TestRow } from './fixture.ts';

describe('a listing of events', () => {
  let fixture: Fixture;
  before(async () => {
    fixture = await Fixture.open();
  });
  after(async () => {
    await fixture.close();
  });
  beforeEach(async () => {
    await fixture.clear();
  });

  const idsOf = (events: readonly EventJson[]): string[] => events.map((event) => event.id);
  const list = async (parameters: Readonly<Record<string, string | number>> = {}): Promise<ListJson> =>
    fixture.json<ListJson>('/events/', query(parameters));

  /** All pages; `between` runs after each page but the last. */
  async function allPages(
    parameters: Readonly<Record<string, string | number>>,
    between: (page: number) => Promise<void> = async () => {},
  ): Promise<EventJson[]> {
    const events: EventJson[] = [];
    let page = await list(parameters);
    for (let pages = 1; ; pages += 1) {
      assert.ok(pages < 1000);
      events.push(...page.events);
      if (page.next_cursor === null) return events;
      await between(pages);
      page = await list({ limit: parameters['limit'] ?? 100, cursor: page.next_cursor });
    }
  }

  test('of an empty table is empty', async () => {
    assert.deepEqual(await list(), { events: [], next_cursor: null });
    assert.deepEqual(await list({ order: 'asc', from: 0, to: 1 }), { events: [], next_cursor: null });
    const answer = await fixture.read('/events', '', 'application/x-ndjson');
    assert.equal(bodyText(answer), '');
    assert.equal(answer.contentType, 'application/x-ndjson');
  });

  test('is newest first, and oldest first on request, over time, source and id', async () => {
    await fixture.insert([
      { id: 'b', source: 'x', timeMs: noon },
      { id: 'a', source: 'y', timeMs: noon },
      { id: 'c', source: 'x', timeMs: noon },
      { id: 'old', timeMs: -1 },
      { id: 'oldest', timeMs: Date.UTC(1900, 0, 1) },
      { id: 'new', timeMs: Date.UTC(2299, 11, 31) },
    ]);
    const newestFirst = ['new', 'a', 'c', 'b', 'old', 'oldest'];
    assert.deepEqual(idsOf((await list()).events), newestFirst);
    assert.deepEqual(idsOf((await list({ order: 'desc' })).events), newestFirst);
    assert.deepEqual(idsOf((await list({ order: 'asc' })).events), newestFirst.toReversed());
    assert.deepEqual(idsOf((await fixture.json<ListJson>('/events', 'limit=2')).events), ['new', 'a']);
  });

  test('gives the same objects as the read of one event, without their journeys', async () => {
    await fixture.insert([{ id: 'one', source: 's', type: 't', body: '{"id":"one",  "x":[1.0]}' }]);
    const single = bodyText(await fixture.read('/events/one')).replace(/,"journey":\[.*\]/, '');
    assert.equal(bodyText(await fixture.read('/events/')), `{"events":[${single}],"next_cursor":null}`);
    assert.equal(bodyText(await fixture.read('/events/', '', 'application/x-ndjson')), `${single}\n`);
  });

  test('is bounded by from, inclusive, and to, exclusive, as RFC 3339 or epoch milliseconds', async () => {
    await fixture.insert([-1, 0, 1, msPerHour - 1, msPerHour].map((ms) => ({ id: `t${ms}`, timeMs: ms })));
    assert.deepEqual(idsOf((await list({ from: 0, to: msPerHour - 1, order: 'asc' })).events), ['t0', 't1']);
    const texts = { from: '1970-01-01T00:00:00.001Z', to: '1970-01-01T02:00:00.001+01:00', order: 'asc' };
    assert.deepEqual(idsOf((await list(texts)).events), ['t1', 't3599999', 't3600000']);
    // An offset's plus sign that was not encoded reads as a space.
    const plain = await fixture.json<ListJson>('/events/', 'to=1970-01-01T01:00:00.000+01:00');
    assert.deepEqual(idsOf(plain.events), ['t-1']);
    assert.deepEqual(idsOf((await list({ from: -1, to: 0 })).events), ['t-1']);
  });

  test('is filtered by type, source and subject, also by empty ones', async () => {
    await fixture.insert([
      { id: '1', type: 'a', source: 's', subject: 'x' },
      { id: '2', type: 'a', source: '', subject: '' },
      { id: '3', type: 'b', source: 's', subject: 'x,"y' },
    ]);
    assert.deepEqual(idsOf((await list({ type: 'a' })).events), ['1', '2']);
    assert.deepEqual(idsOf((await list({ source: 's', order: 'asc' })).events), ['1', '3']);
    assert.deepEqual(idsOf((await list({ source: '' })).events), ['2']);
    assert.deepEqual(idsOf((await list({ subject: '' })).events), ['2']);
    assert.deepEqual(idsOf((await list({ subject: 'x,"y', type: 'b', source: 's' })).events), ['3']);
    assert.deepEqual(idsOf((await list({ type: 'a', subject: 'nobody' })).events), []);
  });

  test('has each event once, as its first copy, however many copies there are', async () => {
    // First copy: at noon + 10 ms. Its copies would be listed before it, beside it and after it.
    await fixture.insert([{ id: 'e', version: 9n, timeMs: noon + 10, body: '{"copy":1}' }]);
    await fixture.insert([{ id: 'e', version: 3n, timeMs: noon + 5, body: '{"copy":4}' }]);
    await fixture.insert([{ id: 'e', version: 5n, timeMs: noon + 10, body: '{"copy":3}' }]);
    await fixture.insert([{ id: 'e', version: 7n, timeMs: noon + 20, type: 'other', body: '{"copy":2}' }]);
    await fixture.insert([{ id: 'f', timeMs: noon + 7 }]);
    for (const order of ['asc', 'desc']) {
      for (const limit of [1, 2, 3, 100]) {
        const events = await allPages({ order, limit });
        assert.deepEqual(idsOf(events), order === 'asc' ? ['f', 'e'] : ['e', 'f']);
        assert.deepEqual(events.find((event) => event.id === 'e')?.event, { copy: 1 });
      }
    }
    // A later copy does not appear where the first one is filtered out.
    assert.deepEqual((await list({ type: 'other' })).events, []);
    assert.deepEqual(idsOf((await list({ from: noon + 15 })).events), []);
  });

  test('gives complete pages without repeats while events are inserted between them', async () => {
    const times = [Date.UTC(1901, 0), -msPerHour, -1, 0, 1, noon - 50 * msPerHour, noon, noon + 1];
    const steady: TestRow[] = [];
    for (const [i, timeMs] of times.entries())
      for (const source of ['', 'a', 'b'])
        for (const id of ['x', 'y', 'z']) steady.push({ id: `${id}${i}`, source, timeMs });
    const identity = ({ source = '', id, timeMs = 0 }: TestRow): string => `${timeMs} ${source} ${id}`;
    for (const order of ['asc', 'desc']) {
      for (const limit of [5, 9, 100]) {
        await fixture.clear();
        await fixture.insert(steady);
        const events = await allPages({ order, limit }, async (page) => {
          if (page > 8) return;
          const timeMs = times[page % times.length] ?? 0;
          await fixture.insert([
            { id: `new${page}`, source: 'a', timeMs },
            // A late copy of an event on every page: it changes nothing.
            { id: `x${page % times.length}`, source: 'a', timeMs, version: 1n, body: '{"late":true}' },
          ]);
        });
        const seen = events.map((event) => identity({ ...event, timeMs: Date.parse(event.time) }));
        assert.equal(new Set(seen).size, seen.length);
        const missing = steady.filter((row) => !seen.includes(identity(row)));
        assert.deepEqual(missing, []);
        assert.ok(events.every((event) => !JSON.stringify(event.event).includes('late')));
        const keys = events.map((event) => [Date.parse(event.time), event.source, event.id] as const);
        const sorted = [...keys].sort(
          (a, b) => a[0] - b[0] || compareText(a[1], b[1]) || compareText(a[2], b[2]),
        );
        assert.deepEqual(keys, order === 'asc' ? sorted : sorted.toReversed());
      }
    }
  });

  test('pages through more events than are fetched at a time', async () => {
    const rows = Array.from({ length: 5000 }, (_, i) => ({ id: `e${i}`, timeMs: noon + (i % 100) }));
    await fixture.insert(rows);
    const page = await list({ limit: 10_000 });
    assert.equal(page.next_cursor, null);
    assert.equal(new Set(idsOf(page.events)).size, 5000);
    assert.equal(new Set(idsOf(await allPages({ limit: 1999, order: 'asc' }))).size, 5000);
    const exact = await list({ limit: 5000 });
    assert.deepEqual([exact.events.length, exact.next_cursor], [5000, null]);
  });

  test('ends a page early when its events are large, and goes on with the cursor', async () => {
    // 128 of them, the first that are fetched, just fit: the bound is met at the end of a later fetch.
    const filler = 'x'.repeat(240_000);
    for (let part = 0; part < 15; part += 1)
      await fixture.insert(
        Array.from({ length: 10 }, (_, i) => ({
          id: `big${part}-${i}`,
          body: JSON.stringify({ id: 'big', filler }),
        })),
      );
    const first = await list({ limit: 200 });
    assert.ok(first.events.length < 150);
    assert.notEqual(first.next_cursor, null);
    assert.equal(new Set(idsOf(await allPages({ limit: 200 }))).size, 150);
  });

  test('as NDJSON has one event a line and the next page in a Link header', async () => {
    await fixture.insert([
      { id: '1', timeMs: noon + 3, body: '{\n  "id": "1",\r\n  "text": "a\\nb"\n}' },
      { id: '2', timeMs: noon + 2 },
      { id: '3', timeMs: noon + 1 },
    ]);
    const lines: string[] = [];
    let target = '/events/?limit=2';
    for (;;) {
      const [path = '', text = ''] = target.split('?');
      const answer = await fixture.read(path, text, 'application/x-ndjson');
      assert.equal(answer.status, 200);
      assert.equal(answer.contentType, 'application/x-ndjson');
      assert.ok(bodyText(answer).endsWith('\n'));
      lines.push(...bodyText(answer).trimEnd().split('\n'));
      const link = answer.headers?.['link'];
      if (link === undefined) break;
      target = /^<([^>]+)>; rel="next"$/.exec(link)?.[1] ?? assert.fail(link);
    }
    const events = lines.map((line) => JSON.parse(line) as EventJson);
    assert.deepEqual(idsOf(events), ['1', '2', '3']);
    assert.deepEqual(events[0]?.event, { id: '1', text: 'a\nb' });
  });

  test('takes a cursor alone or with its own query, and refuses it with another', async () => {
    await fixture.insert(['1', '2', '3'].map((id) => ({ id, type: 't', source: 's' })));
    const parameters = { type: 't', source: 's', from: 0, order: 'asc', limit: 2 };
    const { next_cursor: cursor } = await list(parameters);
    assert.ok(cursor !== null);
    assert.deepEqual(idsOf((await list({ cursor })).events), ['3']);
    assert.deepEqual(idsOf((await list({ ...parameters, cursor })).events), ['3']);
    for (const other of [
      { type: 'u' },
      { source: '' },
      { subject: 'x' },
      { from: 1 },
      { to: noon * 2 },
      { order: 'desc' },
    ]) {
      const problem = await fixture.problem('/events/', query({ ...other, cursor }));
      assert.deepEqual([problem.code, problem.parameter], ['invalid_parameter', 'cursor']);
    }
  });

  test('refuses cursors that are not ours', async () => {
    const encode = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');
    const good: unknown[] = [1, 'desc', null, null, null, null, null, noon, 's', 'i'];
    assert.deepEqual((await list({ cursor: encode(good) })).events, []);
    const changed = (index: number, value: unknown): string => encode(good.with(index, value));
    const bad = [
      '',
      'x',
      '!!!',
      encode({}),
      encode(good.slice(1)),
      changed(0, 2),
      changed(1, 'up'),
      changed(2, 'now'),
      changed(3, 1.5),
      changed(4, 7),
      changed(7, null),
      changed(7, 1e300),
      changed(8, null),
      changed(9, ['i']),
    ];
    for (const cursor of bad) {
      const problem = await fixture.problem('/events/', query({ cursor }));
      assert.deepEqual([problem.code, problem.parameter], ['invalid_parameter', 'cursor'], cursor);
    }
    await fc.assert(
      fc.asyncProperty(fc.string(), async (cursor) => {
        const answer = await fixture.read('/events/', query({ cursor }));
        assert.equal(answer.status, 400);
      }),
    );
  });

  test('refuses what it cannot mean, by name', async () => {
    const refused: readonly (readonly [string, string])[] = [
      ['limit=0', 'limit'],
      ['limit=10001', 'limit'],
      ['limit=1.5', 'limit'],
      ['limit=-1', 'limit'],
      ['limit=', 'limit'],
      ['limit=1&limit=1', 'limit'],
      ['order=up', 'order'],
      ['order=DESC', 'order'],
      ['from=yesterday', 'from'],
      ['from=2026-02-30T00:00:00Z', 'from'],
      ['from=', 'from'],
      ['to=99999999999999', 'to'],
      ['to=1899-12-31T23:59:59Z', 'to'],
      ['from=5&to=5', 'to'],
      ['from=6&to=5', 'to'],
      ['type=a&type=b', 'type'],
      ['subject=%e9', 'subject'],
      ['colour=red', 'colour'],
      ['Limit=1', 'Limit'],
      ['=1', ''],
    ];
    for (const [text, parameter] of refused) {
      const problem = await fixture.problem('/events/', text);
      assert.deepEqual(
        [problem.status, problem.code, problem.parameter],
        [400, 'invalid_parameter', parameter],
        text,
      );
    }
  });
});

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
