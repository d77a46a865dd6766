// An event's time: every RFC 3339 text within the years that the store can hold, and nothing else.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { eventTimeMs, parseRfc3339, timeMsMax, timeMsMin } from '../../src/event/time.ts';

const two = (value: number): string => String(value).padStart(2, '0');

const daysOfMonth = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
const isLeapYear = (year: number): boolean => year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0);

describe('RFC 3339 text', () => {
  test('offsets, fractions and both letter cases give the right moment', () => {
    const cases: readonly (readonly [string, number])[] = [
      ['1970-01-01T00:00:00Z', 0],
      ['1970-01-01t00:00:00z', 0],
      ['1970-01-01 00:00:00Z', 0],
      ['1970-01-01T00:00:00+00:00', 0],
      ['1970-01-01T00:00:00-00:00', 0],
      ['1970-01-01T01:00:00+01:00', 0],
      ['1969-12-31T19:00:00-05:00', 0],
      ['1970-01-01T05:45:00+05:45', 0],
      ['1970-01-01T23:59:00+23:59', 0],
      ['1969-12-31T00:01:00-23:59', 0],
      ['1970-01-01T00:00:00.5Z', 500],
      ['1970-01-01T00:00:00.05Z', 50],
      ['1970-01-01T00:00:00.123Z', 123],
      ['1970-01-01T00:00:00.123456789Z', 123],
      ['1970-01-01T00:00:00.9999999999999999999999Z', 999],
      ['1969-12-31T23:59:59.999Z', -1],
      ['1969-12-31T23:59:59.0009Z', -1000],
      ['2026-11-22T17:30:00.250+02:00', Date.UTC(2026, 10, 22, 15, 30, 0, 250)],
      ['2000-02-29T00:00:00Z', Date.UTC(2000, 1, 29)],
      ['2024-02-29T23:59:59Z', Date.UTC(2024, 1, 29, 23, 59, 59)],
    ];
    for (const [text, moment] of cases) assert.equal(parseRfc3339(text), moment, text);
  });

  test('a text that is no RFC 3339 time, or names a day or time that does not exist, is refused', () => {
    const texts = [
      '',
      '2026-11-22',
      '2026-11-22T17:30:00',
      '2026-11-22T17:30Z',
      '2026-11-22T17:30:00.Z',
      '2026-11-22T17:30:00,5Z',
      '2026-11-22T17:30:00+0200',
      '2026-11-22T17:30:00+02',
      '2026-11-22T17:30:00+24:00',
      '2026-11-22T17:30:00+01:60',
      '2026-11-22T17:30:00 Z',
      ' 2026-11-22T17:30:00Z',
      '2026-11-22T17:30:00Z\n',
      '26-11-22T17:30:00Z',
      '+02026-11-22T17:30:00Z',
      '-2026-11-22T17:30:00Z',
      '2026-00-22T17:30:00Z',
      '2026-13-22T17:30:00Z',
      '2026-11-00T17:30:00Z',
      '2026-11-31T17:30:00Z',
      '2026-02-29T17:30:00Z',
      '2100-02-29T17:30:00Z',
      '2026-02-30T17:30:00Z',
      '2026-11-22T24:00:00Z',
      '2026-11-22T17:60:00Z',
      '2026-11-22T17:30:61Z',
      '2016-12-31T23:59:60Z',
      '0099-11-22T17:30:00Z',
      '\u0662\u0660\u0662\u0666-11-22T17:30:00Z',
      'Sun, 22 Nov 2026 17:30:00 GMT',
      '1790000000000',
    ];
    for (const text of texts) assert.ok(Number.isNaN(parseRfc3339(text)), JSON.stringify(text));
  });

  test('a two-digit year is not taken for one of the twentieth century', () => {
    for (const year of ['0000', '0026', '0099']) {
      assert.ok(Number.isNaN(eventTimeMs(`${year}-11-22T17:30:00Z`)), year);
    }
  });

  test('exactly the days that the calendar has are times', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1900, max: 2299 }),
        fc.integer({ min: 1, max: 12 }),
        fc.integer({ min: 1, max: 31 }),
        (year, month, day) => {
          const days = (daysOfMonth[month - 1] ?? 0) + (month === 2 && isLeapYear(year) ? 1 : 0);
          const moment = eventTimeMs(`${year}-${two(month)}-${two(day)}T12:00:00Z`);
          assert.equal(moment, day <= days ? Date.UTC(year, month - 1, day, 12) : Number.NaN);
        },
      ),
    );
  });

  test('every moment comes back from its own text, whatever the offset it is written with', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: timeMsMin, max: timeMsMax }),
        fc.integer({ min: -(24 * 60 - 1), max: 24 * 60 - 1 }),
        (moment, offsetMinutes) => {
          const local = new Date(moment + offsetMinutes * 60_000).toISOString().slice(0, -1);
          const size = Math.abs(offsetMinutes);
          const sign = offsetMinutes < 0 ? '-' : '+';
          const text = `${local}${sign}${two(Math.floor(size / 60))}:${two(size % 60)}`;
          assert.equal(eventTimeMs(text), moment);
        },
      ),
    );
  });
});

describe("an event's time", () => {
  test('it lies within 1900 and 2299, as text and as a number', () => {
    assert.equal(eventTimeMs('1900-01-01T00:00:00Z'), timeMsMin);
    assert.equal(eventTimeMs('2299-12-31T23:59:59.999Z'), timeMsMax);
    assert.equal(eventTimeMs(timeMsMin), timeMsMin);
    assert.equal(eventTimeMs(timeMsMax), timeMsMax);
    for (const outside of [
      '1899-12-31T23:59:59.999Z',
      '1900-01-01T00:00:00+00:01',
      '2300-01-01T00:00:00Z',
      '2299-12-31T23:59:59.999-00:01',
      timeMsMin - 1,
      timeMsMax + 1,
    ]) {
      assert.ok(Number.isNaN(eventTimeMs(outside)), String(outside));
    }
  });

  test('a number is epoch milliseconds, its fraction cut off towards the past', () => {
    assert.equal(eventTimeMs(0), 0);
    assert.equal(eventTimeMs(-1), -1);
    assert.equal(eventTimeMs(1_790_000_000_000), 1_790_000_000_000);
    assert.equal(eventTimeMs(1.999), 1);
    assert.equal(eventTimeMs(-0.001), -1);
    assert.equal(eventTimeMs(timeMsMax + 0.5), timeMsMax);
  });

  test('nothing else is a time', () => {
    const values = [
      Number.NaN,
      Infinity,
      -Infinity,
      1e300,
      true,
      false,
      {},
      [],
      ['2026-11-22T17:30:00Z'],
      undefined,
    ];
    for (const value of values) assert.ok(Number.isNaN(eventTimeMs(value)), String(value));
  });
});
