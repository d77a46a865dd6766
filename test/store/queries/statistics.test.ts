// GET /events/statistics on rows in chDB.

import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, test } from 'node:test';
import fc from 'fast-check';
import { msPerHour } from '../../../src/store/schema.ts';
import {
  bodyText,
  Fixture,
  type FullRow,
  fullRow,
  noon,
  nowMs,
  query,
  type StatisticsJson,
  type SummaryJson,
  type TestRow,
} from './fixture.ts';

const path = '/events/statistics';
const dayMs = 24 * msPerHour;

describe('statistics', () => {
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

  const statistics = async (
    parameters: Readonly<Record<string, string | number>> = {},
  ): Promise<StatisticsJson> => fixture.json<StatisticsJson>(path, query(parameters));
  const csv = async (parameters: Readonly<Record<string, string | number>>): Promise<string> => {
    const answer = await fixture.read(path, query(parameters), 'text/csv');
    assert.equal(answer.status, 200, bodyText(answer));
    assert.match(answer.contentType, /^text\/csv/);
    return bodyText(answer);
  };
  /** Counts of the groups by the value of the only group_by path. */
  const groupCounts = ({ groups }: StatisticsJson): (readonly [string | null, number])[] =>
    groups.map(({ group, count }) => [Object.values(group)[0] ?? null, count] as const);

  const noLag = { avg: null, p50: null, p90: null, p95: null, p99: null };
  const noValue = { count: 0, sum: 0, avg: null, min: null, max: null, p50: null, p95: null, p99: null };

  test('of an empty table are zeros without groups', async () => {
    const nothing = { count: 0, unique_subjects: 0, rate_per_s: 0, lag_ms: noLag };
    const now = new Date(nowMs).toISOString();
    assert.deepEqual(await statistics(), { from: now, to: now, bucket_s: 1, total: nothing, groups: [] });
    const asked = await statistics({ from: 0, to: 60_000, group_by: 'a', value: 'b', bucket: '1m' });
    assert.deepEqual(asked, {
      from: '1970-01-01T00:00:00.000Z',
      to: '1970-01-01T00:01:00.000Z',
      bucket_s: 60,
      total: { ...nothing, value: noValue },
      groups: [],
    });
    assert.equal((await csv({ group_by: 'a' })).split('\r\n').length, 2);
    // Bounds of which one lies beyond what is there.
    assert.equal((await statistics({ from: nowMs * 2 })).total.count, 0);
    assert.equal((await statistics({ to: 0, clock: 'ingest' })).total.count, 0);
  });

  test('have the documented shape, with one group where none are asked for', async () => {
    await fixture.insert([
      { id: '1', subject: 's', timeMs: noon, ingestMs: noon, storeMs: noon + 100 },
      { id: '2', subject: 's', timeMs: noon + 59_999, ingestMs: noon, storeMs: noon + 300 },
      { id: '3', subject: '', timeMs: noon + 60_000, ingestMs: noon, storeMs: noon + 200 },
    ]);
    assert.deepEqual(await statistics({ from: noon, to: noon + 120_000, bucket: '1m' }), {
      from: '2026-11-01T12:00:00.000Z',
      to: '2026-11-01T12:02:00.000Z',
      bucket_s: 60,
      total: {
        count: 3,
        unique_subjects: 1,
        rate_per_s: 0.025,
        lag_ms: { avg: 200, p50: 200, p90: 280, p95: 290, p99: 298 },
      },
      groups: [
        {
          group: {},
          count: 3,
          unique_subjects: 1,
          rate_per_s: 0.025,
          lag_ms: { avg: 200, p50: 200, p90: 280, p95: 290, p99: 298 },
          buckets: [
            {
              t: '2026-11-01T12:00:00.000Z',
              count: 2,
              unique_subjects: 1,
              rate_per_s: 2 / 60,
              lag_ms: { avg: 200, p50: 200, p90: 280, p95: 290, p99: 298 },
            },
            {
              t: '2026-11-01T12:01:00.000Z',
              count: 1,
              unique_subjects: 0,
              rate_per_s: 1 / 60,
              lag_ms: { avg: 200, p50: 200, p90: 200, p95: 200, p99: 200 },
            },
          ],
        },
      ],
    });
  });

  test('count an event once, as its first copy, however many copies there are', async () => {
    await fixture.insert([{ id: 'e', version: 9n, timeMs: noon + 10, body: '{"c":1}' }]);
    await fixture.insert([{ id: 'e', version: 3n, timeMs: noon + 5, body: '{"c":2}' }]);
    // A copy of another month: the partitions of the table are merged as well.
    await fixture.insert([
      { id: 'e', version: 4n, ingestMs: noon + 40 * dayMs, type: 'other', body: '{"c":3}' },
    ]);
    await fixture.insert([{ id: 'e', source: 's', body: '{"c":4}' }]);
    assert.equal((await statistics()).total.count, 2);
    assert.deepEqual(groupCounts(await statistics({ group_by: 'c' })), [
      ['1', 1],
      ['4', 1],
    ]);
    assert.equal((await statistics({ where: 'c:2' })).total.count, 0);
    assert.equal((await statistics({ where: 'type:other' })).total.count, 0);
    assert.equal((await statistics({ from: noon + 6 })).total.count, 1);
    assert.equal((await statistics({ from: noon + 1, to: noon + 6 })).total.count, 0);
    // By arrival, the copy alone is in the range, but it does not count.
    const later = { clock: 'ingest', from: noon + 39 * dayMs, to: noon + 41 * dayMs };
    assert.equal((await statistics(later)).total.count, 0);
  });

  test('cover by default everything from the earliest event to now', async () => {
    await fixture.insert([
      { id: '1', timeMs: Date.UTC(1901, 0, 1, 0, 0, 0, 7), ingestMs: noon - 1000 },
      { id: '2', timeMs: noon, ingestMs: noon },
    ]);
    const byTime = await statistics();
    assert.deepEqual(
      [byTime.from, byTime.to, byTime.total.count],
      ['1901-01-01T00:00:00.007Z', new Date(nowMs).toISOString(), 2],
    );
    assert.ok((byTime.groups[0]?.buckets.length ?? 0) <= 100);
    const byArrival = await statistics({ clock: 'ingest' });
    assert.deepEqual(
      [byArrival.from, byArrival.to, byArrival.total.count],
      ['2026-11-01T11:59:59.000Z', new Date(nowMs).toISOString(), 2],
    );
  });

  test('cover by default events of the future too', async () => {
    await fixture.insert([
      { id: '1', timeMs: Date.UTC(2300, 0, 1) - 1 },
      { id: '2', timeMs: noon },
    ]);
    const all = await statistics();
    assert.deepEqual([all.to, all.total.count], ['2300-01-01T00:00:00.000Z', 2]);
    assert.equal((await statistics({ from: noon + 1 })).total.count, 1);
    assert.equal((await statistics({ to: noon + 1 })).total.count, 1);
  });

  test('have buckets that are aligned and hold events before 1970 too', async () => {
    const times = [-dayMs - 1, -dayMs, -1, 0, dayMs - 1];
    await fixture.insert(times.map((timeMs) => ({ id: `t${timeMs}`, timeMs })));
    for (const [bucket, bucketMs] of [
      ['1d', dayMs],
      ['1h', msPerHour],
      ['5m', 300_000],
      ['1m', 60_000],
    ] as const) {
      const { groups, bucket_s } = await statistics({ bucket, from: -dayMs - 1, to: dayMs });
      assert.equal(bucket_s * 1000, bucketMs);
      const expected = new Map<string, number>();
      for (const ms of times) {
        const t = new Date(Math.floor(ms / bucketMs) * bucketMs).toISOString();
        expected.set(t, (expected.get(t) ?? 0) + 1);
      }
      assert.deepEqual(
        groups[0]?.buckets.map(({ t, count }) => [t, count]),
        [...expected],
      );
    }
    const second = await statistics({ bucket: '1s', from: -1500, to: 1500 });
    assert.deepEqual(
      second.groups[0]?.buckets.map(({ t, count, rate_per_s }) => [t, count, rate_per_s]),
      [
        ['1969-12-31T23:59:59.000Z', 1, 1],
        ['1970-01-01T00:00:00.000Z', 1, 1],
      ],
    );
    // The first bucket is only half in the range.
    const half = await statistics({ bucket: '1s', from: -500, to: 1 });
    assert.equal(half.groups[0]?.buckets[0]?.rate_per_s, 2);
  });

  test('choose at most a hundred buckets by themselves, for any range', async () => {
    const earliest = Date.UTC(1900, 0, 1);
    const latest = Date.UTC(2300, 0, 1);
    await fixture.insert([{ id: '1', timeMs: earliest }]);
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: earliest, max: latest - 1 }),
        fc.integer({ min: 0, max: 43 }),
        fc.constantFrom(100, 10_000),
        async (from, bits, limit) => {
          const to = Math.min(latest, from + 2 ** bits);
          const { bucket_s } = await statistics({ from, to, limit, group_by: 'type' });
          const buckets = Math.ceil(to / bucket_s / 1000) - Math.floor(from / bucket_s / 1000);
          assert.ok(buckets <= (limit === 100 ? 100 : 10) || bucket_s === 1 || to - from < 2, `${buckets}`);
        },
      ),
      { numRuns: 25 },
    );
    const all = await statistics({ from: earliest, to: latest });
    assert.equal(all.total.count, 1);
  });

  test('are grouped by columns and by members at any depth', async () => {
    const bodies = [
      '{"a":{"b":"deep"},"items":[{"price":1},{"price":"2"}],"flag":true,"n":1.50,"dot.ted":"x"}',
      '{"a":{"b":null},"items":{"0":{"price":"named"}},"flag":false,"n":"1.5","0":"zero"}',
      '{"a":"b","items":[],"flag":"true","n":[1, {"x" : "y"}]}',
      '{"a":{"b":""},"n":12345678901234567}',
      '{}',
    ];
    await fixture.insert(
      bodies.map((body, i) => ({ id: `${i}`, body, partition: i % 2, key: 'k', source: i === 0 ? 's' : '' })),
    );
    const counts = async (group_by: string): Promise<Record<string, number>> =>
      Object.fromEntries(groupCounts(await statistics({ group_by })));
    assert.deepEqual(await counts('a.b'), { deep: 1, '': 1, null: 3 });
    assert.deepEqual(await counts('a'), { '{"b":"deep"}': 1, '{"b":null}': 1, b: 1, '{"b":""}': 1, null: 1 });
    assert.deepEqual(await counts('items.0.price'), { '1': 1, named: 1, null: 3 });
    assert.deepEqual(await counts('items.1.price'), { '2': 1, null: 4 });
    assert.deepEqual(await counts('items.1'), { '{"price":"2"}': 1, null: 4 });
    assert.deepEqual(await counts('flag'), { true: 2, false: 1, null: 2 });
    assert.deepEqual(await counts('n'), { '1.5': 2, '[1,{"x":"y"}]': 1, '12345678901234567': 1, null: 1 });
    assert.deepEqual(await counts('n.1.x'), { y: 1, null: 4 });
    assert.deepEqual(await counts('dot\\.ted'), { x: 1, null: 4 });
    assert.deepEqual(await counts('0'), { zero: 1, null: 4 });
    assert.deepEqual(await counts('partition'), { '0': 3, '1': 2 });
    assert.deepEqual(await counts('key'), { k: 5 });
    assert.deepEqual(await counts('source'), { s: 1, '': 4 });
    assert.deepEqual(await counts('subject'), { null: 5 });
    assert.deepEqual(await counts('type'), { event: 5 });
    assert.deepEqual(await counts('id'), { '0': 1, '1': 1, '2': 1, '3': 1, '4': 1 });
    assert.deepEqual(await counts('nowhere.at.all'), { null: 5 });
    const two = await statistics({ group_by: 'flag,partition' });
    assert.deepEqual(
      two.groups.map(({ group, count }) => [group, count]),
      [
        [{ flag: 'true', partition: '0' }, 2],
        [{ flag: 'false', partition: '1' }, 1],
        [{ flag: null, partition: '0' }, 1],
        [{ flag: null, partition: '1' }, 1],
      ],
    );
  });

  test('name groups after any member, also those that mean something to JavaScript', async () => {
    await fixture.insert([{ id: '1', body: '{"__proto__":"p","constructor":"c","a,b:c":"d"}' }]);
    const answer = await fixture.read(path, query({ group_by: '__proto__,constructor,a\\,b:c' }));
    assert.ok(bodyText(answer).includes('"group":{"__proto__":"p","constructor":"c","a\\\\,b:c":"d"}'));
  });

  test('keep the largest groups and say the total of all', async () => {
    await fixture.insert(
      Array.from({ length: 60 }, (_, i) => ({ id: `${i}`, subject: `s${Math.floor(Math.sqrt(i))}` })),
    );
    const top = await statistics({ group_by: 'subject', limit: 3 });
    assert.equal(top.total.count, 60);
    assert.equal(top.total.unique_subjects, 8);
    assert.deepEqual(groupCounts(top), [
      ['s6', 13],
      ['s5', 11],
      ['s7', 11],
    ]);
    assert.equal((await statistics({ group_by: 'subject' })).groups.length, 8);
  });

  test('are narrowed by conditions, all of which have to hold', async () => {
    await fixture.insert([
      { id: '1', type: 'a', source: 'urn:x:y', body: '{"o":"SEA","n":1,"b":true,"u":"http://h:1/"}' },
      { id: '2', type: 'a', source: '', partition: 5, body: '{"o":"SEA","n":"1","b":"true","e":""}' },
      { id: '3', type: 'b', subject: 's', body: '{"o":"ATL","n":1.0,"b":false,"e":null}' },
      { id: '4', type: 'b', body: '{"o":{"p":["SEA"]}}' },
    ]);
    const count = async (...where: string[]): Promise<number> =>
      (
        await fixture.json<StatisticsJson>(
          path,
          where.map((condition) => `where=${encodeURIComponent(condition)}`).join('&'),
        )
      ).total.count;
    assert.equal(await count('o:SEA'), 2);
    assert.equal(await count('o:SEA', 'type:a'), 2);
    assert.equal(await count('o:SEA', 'source:urn:x:y'), 1);
    assert.equal(await count('n:1'), 3);
    assert.equal(await count('n:1', 'b:true', 'id:2'), 1);
    assert.equal(await count('b:false'), 1);
    assert.equal(await count('u:http://h:1/'), 1);
    assert.equal(await count('o.p.0:SEA'), 1);
    assert.equal(await count('partition:5'), 1);
    assert.equal(await count('subject:'), 3);
    assert.equal(await count('source:'), 3);
    assert.equal(await count('e:'), 1);
    assert.equal(await count('e:null'), 0);
    assert.equal(await count('o:SEA', 'o:ATL'), 0);
  });

  test('of a value take numbers and text that is a number, and nothing else', async () => {
    const values = ['1', '"2"', '-3.5', '"1e1"', '0', 'true', '"x"', '""', '" 7 "', 'null', '[1]', '{"v":1}'];
    values.push('"NaN"', '"inf"', '"-Infinity"', '"0x10"', '"1,5"', '"1e999"', '"1_0"');
    await fixture.insert(values.map((v, i) => ({ id: `${i}`, body: `{"v":${v}}` })));
    const { total } = await statistics({ value: 'v' });
    assert.equal(total.count, values.length);
    assert.deepEqual(rounded(total.value), {
      count: 5,
      sum: 9.5,
      avg: 1.9,
      min: -3.5,
      max: 10,
      p50: 1,
      p95: 8.4,
      p99: 9.68,
    });
    const groups = await statistics({ value: 'v', group_by: 'v' });
    assert.deepEqual(groups.groups.find(({ group }) => group['v'] === 'x')?.value, noValue);
    assert.equal((await statistics({ value: 'partition' })).total.value?.sum, 0);
  });

  test('never contain NaN or infinity', async () => {
    await fixture.insert([
      { id: '1', body: '{"v":1.7e308}' },
      { id: '2', body: '{"v":1.7e308}' },
    ]);
    const { total } = await statistics({ value: 'v' });
    assert.deepEqual([total.value?.sum, total.value?.avg, total.value?.max], [null, null, 1.7e308]);
  });

  test('can be about the time of arrival', async () => {
    await fixture.insert([
      { id: '1', timeMs: -5, ingestMs: noon },
      { id: '2', timeMs: noon, ingestMs: noon + 60_000 },
    ]);
    const range = { from: noon, to: noon + 60_000, bucket: '1m' };
    assert.equal((await statistics({ ...range, clock: 'time' })).total.count, 1);
    const byArrival = await statistics({ ...range, to: noon + 60_001, clock: 'ingest', group_by: 'id' });
    assert.deepEqual(
      byArrival.groups.map(({ group, buckets }) => [group['id'], buckets[0]?.t]),
      [
        ['1', '2026-11-01T12:00:00.000Z'],
        ['2', '2026-11-01T12:01:00.000Z'],
      ],
    );
    const everything = { from: Date.UTC(1900, 0, 1), to: Date.UTC(2300, 0, 1), clock: 'ingest' };
    assert.equal((await statistics(everything)).total.count, 2);
  });

  test('as CSV have a row for each group and bucket, quoted by RFC 4180', async () => {
    const values = ['plain', 'a,b', 'say "x"', 'two\r\nlines', '', null];
    await fixture.insert(
      values.map((g, i) => ({
        id: `${i}`,
        subject: 's',
        body: JSON.stringify({ g, 'a,b': 1, v: i }),
        storeMs: noon + 100,
      })),
    );
    const text = await csv({ group_by: 'g,a\\,b', value: 'v', from: noon, to: noon + 1000, bucket: '1s' });
    const lag = '100,100,100,100,100';
    const rows = ['""', '"a,b"', 'plain', '"say ""x"""', '"two\r\nlines"', ''].map((field) => {
      const v = [4, 1, 0, 2, 3, 5][
        ['""', '"a,b"', 'plain', '"say ""x"""', '"two\r\nlines"', ''].indexOf(field)
      ];
      return `${field},1,2026-11-01T12:00:00.000Z,1,1,1,${lag},1,${v},${v},${v},${v},${v},${v},${v}`;
    });
    const header =
      'g,"a\\,b",t,count,unique_subjects,rate_per_s,lag_ms_avg,lag_ms_p50,lag_ms_p90,lag_ms_p95,lag_ms_p99,' +
      'value_count,value_sum,value_avg,value_min,value_max,value_p50,value_p95,value_p99';
    assert.equal(text, `${[header, ...rows].join('\r\n')}\r\n`);
  });

  test('choose the media type by the Accept header', async () => {
    const typeFor = async (accept: string): Promise<string> =>
      (await fixture.read(path, '', accept)).contentType.split(';')[0] ?? '';
    for (const accept of [
      '',
      '*/*',
      'application/json',
      'text/html',
      'text/csv;q=0',
      'application/*, text/csv;q=0.5',
    ])
      assert.equal(await typeFor(accept), 'application/json', accept);
    for (const accept of [
      'text/csv',
      'TEXT/CSV; header=present',
      'text/csv, */*',
      'application/json;q=0.1, text/*',
    ])
      assert.equal(await typeFor(accept), 'text/csv', accept);
  });

  test('refuse what they cannot mean, by name', async () => {
    const refused: readonly (readonly [string, string])[] = [
      ['bucket=2m', 'bucket'],
      ['bucket=none', 'bucket'],
      ['bucket=', 'bucket'],
      ['from=0&to=100000000&bucket=1s', 'bucket'],
      ['clock=wall', 'clock'],
      ['exact=yes', 'exact'],
      ['limit=0', 'limit'],
      ['limit=10001', 'limit'],
      ['limit=1e2', 'limit'],
      ['group_by=', 'group_by'],
      ['group_by=a,,b', 'group_by'],
      ['group_by=a..b', 'group_by'],
      ['group_by=.a', 'group_by'],
      ['group_by=a,a', 'group_by'],
      ['group_by=a&group_by=b', 'group_by'],
      [`group_by=${'abcdefghi'.split('').join(',')}`, 'group_by'],
      [`value=${'a.'.repeat(64)}a`, 'value'],
      ['value=', 'value'],
      ['where=a', 'where'],
      ['where=:a', 'where'],
      ['where=', 'where'],
      ['where=a:1&'.repeat(17), 'where'],
      ['from=5&to=5', 'to'],
      ['from=x', 'from'],
      ['to=2300-01-01T00:00:00.001Z', 'to'],
      ['groupby=a', 'groupby'],
      ['%00=1', '\0'],
    ];
    for (const [text, parameter] of refused) {
      const problem = await fixture.problem(path, text);
      assert.deepEqual(
        [problem.status, problem.code, problem.parameter],
        [400, 'invalid_parameter', parameter],
        text,
      );
    }
  });

  test('refuse an answer of too many buckets', async () => {
    await fixture.insertSeries(101_000, {
      subject: "concat('s', toString(number % 101))",
      timeMs: `${noon} + intDiv(number, 101) * 1000`,
    });
    const range = { from: noon, to: noon + 1_000_000, bucket: '1s', group_by: 'subject' };
    const problem = await fixture.problem(path, query({ ...range, limit: 101 }));
    assert.deepEqual([problem.code, problem.parameter], ['invalid_parameter', 'bucket']);
    const largest = await statistics({ ...range, limit: 100 });
    assert.equal(
      largest.groups.reduce((sum, { buckets }) => sum + buckets.length, 0),
      100_000,
    );
    assert.equal(largest.total.count, 101_000);
  });

  test('estimate subjects and quantiles of many events closely, and exactly on request', async () => {
    await fixture.insertSeries(100_000, {
      subject: "concat('s', toString(number))",
      storeMs: `${noon} + number`,
    });
    const estimate = (await statistics()).total;
    assert.equal(estimate.count, 100_000);
    assert.ok(Math.abs(estimate.unique_subjects - 100_000) < 3000);
    assert.ok(Math.abs((estimate.lag_ms.p50 ?? 0) - 50_000) < 5000);
    const exact = (await statistics({ exact: 1 })).total;
    assert.equal(exact.unique_subjects, 100_000);
    assert.equal(exact.lag_ms.p50, 49_999.5);
    assert.equal(exact.lag_ms.avg, 49_999.5);
  });

  test('equal what a plain computation gives', async () => {
    const times = fc.constantFrom(
      ...[-2 * msPerHour, -msPerHour - 1, -1, 0, 1, 1000, 59_999, 60_000, msPerHour, msPerHour + 500],
    );
    const member = fc.constantFrom<unknown[]>(
      undefined,
      null,
      '',
      'x',
      "y'z",
      '12',
      '-1.5',
      12,
      -1.5,
      0.25,
      true,
      false,
      [1],
      { d: 'x' },
    );
    const row = fc.record({
      id: fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f'),
      source: fc.constantFrom('', 's'),
      subject: fc.constantFrom('', 'p', 'q', 'r'),
      type: fc.constantFrom('event', 'other'),
      timeMs: times,
      ingestMs: times,
      lagMs: fc.integer({ min: -5, max: 1000 }),
      version: fc.integer({ min: 1, max: 1_000_000 }),
      k: member,
      d: member,
    });
    const parts = fc.array(fc.array(row, { maxLength: 12 }), { minLength: 1, maxLength: 3 });
    const groupBy = fc.subarray(['type', 'subject', 'k', 'n.d', 'source']);
    const where = fc.subarray(['type:event', 'k:12', 'n.d:x'], { maxLength: 1 });
    const range = fc.tuple(times, times).filter(([from, to]) => from < to);
    // All these times at 1s would be too many buckets.
    const choices = fc.record({
      groupBy,
      where,
      range,
      clock: fc.constantFrom('time' as const, 'ingest' as const),
      bucket: fc.constantFrom('1m', '5m', '1h', '1d'),
      exact: fc.constantFrom('0', '1'),
    });
    await fc.assert(
      fc.asyncProperty(parts, choices, async (inserts, asked) => {
        await fixture.clear();
        const stored: FullRow[] = [];
        const versions = new Set<number>();
        for (const part of inserts) {
          const rows: TestRow[] = [];
          for (const { k, d, lagMs, version, ...rest } of part) {
            // Versions are never equal in ESS, and one insert has no two rows of one identity.
            if (versions.has(version)) continue;
            versions.add(version);
            const body = JSON.stringify({ id: rest.id, k, n: { d } });
            rows.push({ ...rest, version: BigInt(version), storeMs: rest.ingestMs + lagMs, body });
          }
          await fixture.insert(rows);
          stored.push(...rows.map(fullRow));
        }
        const parameters: Record<string, string | number> = {
          from: asked.range[0],
          to: asked.range[1],
          clock: asked.clock,
          bucket: asked.bucket,
          exact: asked.exact,
          value: 'k',
        };
        if (asked.groupBy.length > 0) parameters['group_by'] = asked.groupBy.join(',');
        if (asked.where[0] !== undefined) parameters['where'] = asked.where[0];
        const actual = await statistics(parameters);
        const expected = computed(stored, asked);
        assert.deepEqual(rounded(actual.total), rounded(expected.total));
        const byGroup = new Map(actual.groups.map((group) => [JSON.stringify(group.group), group]));
        assert.equal(byGroup.size, actual.groups.length);
        assert.deepEqual(new Set(byGroup.keys()), new Set(expected.groups.keys()));
        for (const [name, { summary, buckets }] of expected.groups) {
          const { group: _, buckets: actualBuckets = [], ...actualSummary } = byGroup.get(name) ?? {};
          assert.deepEqual(rounded(actualSummary), rounded(summary), name);
          assert.deepEqual(
            actualBuckets.map(({ t, ...bucket }) => [t, rounded(bucket)]),
            buckets.map(({ t, ...bucket }) => [t, rounded(bucket)]),
          );
        }
      }),
      { numRuns: 25 },
    );
  });
});

/** Numbers to 12 digits: sums of doubles depend on their order. */
function rounded(value: unknown): unknown {
  return JSON.parse(
    JSON.stringify(value, (_, part: unknown) =>
      typeof part === 'number' ? Number(part.toPrecision(12)) : part,
    ),
  );
}

interface Asked {
  readonly groupBy: readonly string[];
  readonly where: readonly string[];
  readonly range: readonly [number, number];
  readonly clock: 'time' | 'ingest';
  readonly bucket: string;
}

interface Computed {
  readonly total: SummaryJson;
  readonly groups: ReadonlyMap<
    string,
    { readonly summary: SummaryJson; readonly buckets: readonly (SummaryJson & { readonly t: string })[] }
  >;
}

/** The same statistics in plain JavaScript. */
function computed(stored: readonly FullRow[], asked: Asked): Computed {
  const firstCopies = new Map<string, FullRow>();
  for (const row of stored) {
    const identity = JSON.stringify([Math.floor(row.timeMs / msPerHour), row.source, row.id]);
    const other = firstCopies.get(identity);
    if (other === undefined || row.version > other.version) firstCopies.set(identity, row);
  }
  const [from, to] = asked.range;
  const clockMs = (row: FullRow): number => (asked.clock === 'time' ? row.timeMs : row.ingestMs);
  const rows = [...firstCopies.values()].filter((row) => {
    const [path = '', text] = asked.where[0]?.split(':') ?? [];
    if (asked.where.length > 0 && valueAt(row, path) !== text) return false;
    return clockMs(row) >= from && clockMs(row) < to;
  });
  const bucketMs = { '1m': 60_000, '5m': 300_000, '1h': msPerHour, '1d': dayMs }[asked.bucket] ?? Number.NaN;
  const groups: Map<string, { summary: SummaryJson; buckets: (SummaryJson & { t: string })[] }> = new Map();
  const byGroup = groupBy(rows, (row) =>
    JSON.stringify(Object.fromEntries(asked.groupBy.map((path) => [path, valueAt(row, path)]))),
  );
  for (const [name, members] of byGroup) {
    const byBucket = groupBy(members, (row) => Math.floor(clockMs(row) / bucketMs) * bucketMs);
    const buckets = [...byBucket]
      .sort(([a], [b]) => a - b)
      .map(([t, some]) => ({
        t: new Date(t).toISOString(),
        ...summaryOf(some, Math.min(t + bucketMs, to) - Math.max(t, from)),
      }));
    groups.set(name, { summary: summaryOf(members, to - from), buckets });
  }
  return { total: summaryOf(rows, to - from), groups };
}

function groupBy<K>(rows: readonly FullRow[], keyOf: (row: FullRow) => K): Map<K, FullRow[]> {
  const groups = new Map<K, FullRow[]>();
  for (const row of rows) groups.set(keyOf(row), [...(groups.get(keyOf(row)) ?? []), row]);
  return groups;
}

function valueAt(row: FullRow, path: string): string | null {
  if (path === 'type') return row.type;
  if (path === 'source') return row.source;
  if (path === 'subject') return row.subject === '' ? null : row.subject;
  let value: unknown = JSON.parse(row.body);
  for (const segment of path.split('.'))
    value = typeof value === 'object' && value !== null ? Reflect.get(value, segment) : undefined;
  if (value === undefined || value === null) return null;
  return typeof value === 'string' ? value : JSON.stringify(value);
}

function summaryOf(rows: readonly FullRow[], rangeMs: number): SummaryJson {
  const lags = rows.map((row) => row.storeMs - row.ingestMs);
  const numbers = rows
    .map((row) => valueAt(row, 'k'))
    .filter((text) => text !== null && /^-?\d+(\.\d+)?$/.test(text))
    .map(Number);
  const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
  const avg = (values: readonly number[]): number | null =>
    values.length === 0 ? null : sum(values) / values.length;
  return {
    count: rows.length,
    unique_subjects: new Set(rows.map((row) => row.subject).filter((subject) => subject !== '')).size,
    rate_per_s: (rows.length * 1000) / rangeMs,
    lag_ms: {
      avg: avg(lags),
      p50: quantile(lags, 0.5),
      p90: quantile(lags, 0.9),
      p95: quantile(lags, 0.95),
      p99: quantile(lags, 0.99),
    },
    value: {
      count: numbers.length,
      sum: sum(numbers),
      avg: avg(numbers),
      min: numbers.length === 0 ? null : Math.min(...numbers),
      max: numbers.length === 0 ? null : Math.max(...numbers),
      p50: quantile(numbers, 0.5),
      p95: quantile(numbers, 0.95),
      p99: quantile(numbers, 0.99),
    },
  };
}

/** Between two values in proportion. */
function quantile(values: readonly number[], level: number): number | null {
  const sorted = [...values].sort((a, b) => a - b);
  const position = level * (sorted.length - 1);
  const below = sorted[Math.floor(position)];
  const above = sorted[Math.ceil(position)];
  if (below === undefined || above === undefined) return null;
  return below + (above - below) * (position - Math.floor(position));
}
