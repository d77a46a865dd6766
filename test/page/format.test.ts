// Numbers, spans and bytes as the page writes them.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ago, bytes, count, millis, percent, rate, span, unknown } from '../../src/page/format.ts';

test('what is not known is a dash, never a zero', () => {
  for (const format of [count, rate, millis, span, percent, bytes])
    for (const value of [null, undefined, Number.NaN]) assert.equal(format(value), unknown);
});

test('numbers have the digits that say something', () => {
  assert.deepEqual([0, 12_345.6].map(count), ['0', '12,346']);
  assert.deepEqual([0.00423, 0.44, 12.55, 12_345.6].map(rate), ['0.0042', '0.44', '12.6', '12,346']);
  assert.deepEqual([0.4211, 312.4, 999.4, 1234, 125_000].map(millis), [
    '0.421 ms',
    '312 ms',
    '999 ms',
    '1.23 s',
    '2 min 5 s',
  ]);
  assert.deepEqual([0, 3.21, 59.6, 125, 1800, 11_520, 352_800].map(span), [
    '0 s',
    '3.2 s',
    '60 s',
    '2 min 5 s',
    '30 min',
    '3 h 12 min',
    '4 d 2 h',
  ]);
  assert.deepEqual([0, 1023, 1024, 12.34 * 1024 ** 3].map(bytes), ['0 B', '1,023 B', '1 KiB', '12.3 GiB']);
  assert.equal(percent(0.255), '25.5 %');
  assert.deepEqual(
    [1000, 13_000].map((ms) => ago(1000, ms)),
    ['just now', '12 s ago'],
  );
});
