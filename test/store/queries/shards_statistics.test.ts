// GET /events/statistics over two shards of two replicas each, compared with the same reads of one store.

import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, test } from 'node:test';
import { bodyText, noon, query, type StatisticsJson, type TestRow } from './fixture.ts';
import { type Parameters, ShardsAndWhole } from './sharded_fixture.ts';

const statisticsPath = '/events/statistics';

describe('statistics of several shards', () => {
  let both: ShardsAndWhole;
  before(async () => {
    both = await ShardsAndWhole.open();
  });
  after(async () => {
    await both.close();
  });
  beforeEach(async () => {
    await both.clear();
  });

  test('of nothing are the same as of an empty store', async () => {
    await both.same(statisticsPath);
    await both.same(statisticsPath, { group_by: 'a', value: 'b', exact: 1 });
    await both.same(statisticsPath, { from: 0, to: 60_000, group_by: 'a' }, 'text/csv');
  });

  test('have the same largest groups when each shard has more of them than are asked for', async () => {
    // The largest group of all is never the largest of a shard.
    const rows: TestRow[] = [];
    for (let group = 0; group < 40; group += 1)
      for (let i = 0; i < 3 + ((group * 7) % 23); i += 1)
        rows.push({
          id: `${group}-${i}`,
          subject: `s${group}`,
          timeMs: noon + i * 60_000,
          storeMs: noon + i,
        });
    await both.insert(rows);
    for (const limit of [1, 10, 40]) {
      for (const exact of [0, 1])
        await both.same(statisticsPath, { group_by: 'subject', limit, exact, bucket: '1m' });
      await both.same(statisticsPath, { group_by: 'subject,id', limit, value: 'partition' }, 'text/csv');
    }
  });

  test('have the same largest groups whatever their values are', async () => {
    const sources = [
      "'",
      "\\'",
      '\\',
      '\n\n',
      '\0',
      ',',
      '.',
      '"',
      '{p0:String}',
      '\u{1F600}',
      '\uffee',
      'n',
      's1:n',
      '',
    ];
    const rows: TestRow[] = [];
    for (const [i, source] of sources.entries())
      for (let n = 0; n <= i; n += 1) rows.push({ id: `${n}`, source, subject: n === 3 ? '' : `s${n % 5}` });
    await both.insert(rows);
    for (const limit of [2, 5, 13]) await both.same(statisticsPath, { group_by: 'source', limit });
    await both.same(statisticsPath, { group_by: 'source,subject', limit: 7, exact: 1 });
  });

  test('refuse an answer of too many buckets as one store does', async () => {
    const series = (first: number, count: number): string =>
      `INSERT INTO events (* EXCEPT log_time) SELECT toInt32(intDiv(time_ms, 3600000)), '', toString(number), 'event',
         concat('s', toString(number % 101)), '', fromUnixTimestamp64Milli(toInt64(time_ms), 'UTC'),
         fromUnixTimestamp64Milli(toInt64(${noon}), 'UTC'), fromUnixTimestamp64Milli(toInt64(${noon}), 'UTC'),
         1, 'test', 0, number, 1000, '{}'
       FROM (SELECT number, ${noon} + intDiv(number, 101) * 1000 AS time_ms FROM numbers(${first}, ${count}))`;
    await both.shards.command(0, series(0, 60_000));
    await both.shards.command(1, series(60_000, 41_000));
    await both.whole.store.command(series(0, 101_000));
    const range = { from: noon, to: noon + 1_000_000, bucket: '1s', group_by: 'subject' };
    assert.match(await both.same(statisticsPath, { ...range, limit: 101 }), /"parameter":"bucket"/);
    assert.match(await both.same(statisticsPath, { ...range, limit: 5 }), /"count":1000,/);
  });

  test('estimate subjects and quantiles of many events as closely, and exactly on request', async () => {
    for (const shard of [0, 1]) {
      await both.shards.command(
        shard,
        `INSERT INTO events (* EXCEPT log_time) SELECT toInt32(intDiv(${noon}, 3600000)), '', toString(n), 'event',
           concat('s', toString(n)), '', fromUnixTimestamp64Milli(toInt64(${noon}), 'UTC'),
           fromUnixTimestamp64Milli(toInt64(${noon}), 'UTC'), fromUnixTimestamp64Milli(toInt64(${noon} + n), 'UTC'),
           1, 'test', 0, n, 1000, concat('{"v":', toString(n), '}')
         FROM (SELECT number * 2 + ${shard} AS n FROM numbers(100000))`,
      );
    }
    const total = async (parameters: Parameters) => {
      const answer = await both.shards.read(statisticsPath, query({ value: 'v', ...parameters }));
      assert.equal(answer.status, 200, bodyText(answer));
      return (JSON.parse(bodyText(answer)) as StatisticsJson).total;
    };
    const estimate = await total({});
    assert.equal(estimate.count, 200_000);
    assert.ok(Math.abs(estimate.unique_subjects - 200_000) < 6000);
    assert.ok(Math.abs((estimate.lag_ms.p50 ?? 0) - 100_000) < 10_000);
    assert.ok(Math.abs((estimate.value?.p50 ?? 0) - 100_000) < 10_000);
    const exact = await total({ exact: 1 });
    assert.equal(exact.unique_subjects, 200_000);
    assert.equal(exact.lag_ms.p50, 99_999.5);
    assert.equal(exact.lag_ms.avg, 99_999.5);
    assert.equal(exact.value?.p50, 99_999.5);
    assert.equal(exact.value?.sum, 19_999_900_000);
  });
});
