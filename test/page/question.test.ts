// The explore view's address: what is written is what is read, and nothing that a stranger writes breaks it.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  buckets,
  clocks,
  measures,
  ranges,
  readHash,
  statisticsQuery,
  writeHash,
} from '../../src/page/explore/question.ts';

const text = fc.string({ unit: 'grapheme', maxLength: 30 });

const question = fc.record(
  {
    statistics: fc
      .record(
        {
          range: fc.constantFrom(...ranges),
          from: fc.constantFrom('', '2026-01-31T10:00:00.000Z'),
          to: fc.constantFrom('', '2026-01-31T11:00:00.000Z'),
          clock: fc.constantFrom(...clocks),
          type: text,
          groupBy: text,
          value: text,
          bucket: fc.constantFrom(...buckets),
          measure: fc.constantFrom(...measures),
        },
        { noNullPrototype: true },
      )
      // Only a custom range has these.
      .map((statistics) =>
        statistics.range === 'custom' ? statistics : { ...statistics, from: '', to: '' },
      ),
    lookup: fc
      .record({ id: text, source: fc.option(text) }, { noNullPrototype: true })
      .map((lookup) => (lookup.id === '' ? { id: '', source: null } : lookup)),
  },
  { noNullPrototype: true },
);

test('a question survives the address', () => {
  fc.assert(
    fc.property(question, (asked) => {
      assert.deepEqual(readHash(writeHash(asked)), asked);
    }),
  );
});

test('whatever an address has, a question comes out', () => {
  fc.assert(
    fc.property(text, (hash) => {
      const { statistics } = readHash(`#explore?${hash}`);
      assert.ok(ranges.includes(statistics.range) && buckets.includes(statistics.bucket));
    }),
  );
  assert.equal(readHash('').statistics.range, '1h');
});

test('the query ends at the time of the server, and has what was asked and nothing else', () => {
  const { statistics } = readHash('#explore?range=15m&type=order&group_by=a,b');
  assert.equal(
    statisticsQuery(statistics, 1_000_000_000.5),
    'from=999100000&to=1000000000&clock=time&bucket=auto&where=type%3Aorder&group_by=a%2Cb',
  );
  assert.equal(
    statisticsQuery({ ...statistics, range: 'all', type: '', groupBy: '' }, 5),
    'clock=time&bucket=auto',
  );
});
