// The table of forms in which `ess send` reads times.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { parseTime, type TimeFormat, TimeZone } from '../../src/cli/send/time.ts';

function zone(name: string): TimeZone {
  const found = TimeZone.of(name);
  assert.ok(found !== null);
  return found;
}
const utc = zone('UTC');

function read(text: string, format: TimeFormat = 'auto', timeZone = utc): string {
  const ms = parseTime(text, format, timeZone);
  return typeof ms === 'string' ? 'refused' : new Date(ms).toISOString();
}

test('the usual forms are read', () => {
  const expected: Record<string, string> = {
    '2001-01-10T18:20:05Z': '2001-01-10T18:20:05.000Z',
    '2001-01-10T18:20:05.678901Z': '2001-01-10T18:20:05.678Z',
    '2001-01-10t18:20:05.6z': '2001-01-10T18:20:05.600Z',
    '2001-01-10T18:20:05+01:30': '2001-01-10T16:50:05.000Z',
    '2001-01-10T18:20:05-0800': '2001-01-11T02:20:05.000Z',
    '2001-01-10 18:20:05 UTC': '2001-01-10T18:20:05.000Z',
    '2001/01/10 18:20': '2001-01-10T18:20:00.000Z',
    '2001-01-10 18:20:05': '2001-01-10T18:20:05.000Z',
    '2001-1-2': '2001-01-02T00:00:00.000Z',
    '1990-01-08': '1990-01-08T00:00:00.000Z',
    '1/8/90 0:00': '1990-01-08T00:00:00.000Z',
    '1/8/1990': '1990-01-08T00:00:00.000Z',
    '12/31/2001 11:05 PM': '2001-12-31T23:05:00.000Z',
    '12/31/2001 12:05:30am': '2001-12-31T00:05:30.000Z',
    'Jan 8 1990': '1990-01-08T00:00:00.000Z',
    'January 8, 1990 7:15': '1990-01-08T07:15:00.000Z',
    'Sept. 8 1990': '1990-09-08T00:00:00.000Z',
    '8 Jan 1990': '1990-01-08T00:00:00.000Z',
    '08-JAN-1990': '1990-01-08T00:00:00.000Z',
    '978546000': '2001-01-03T18:20:00.000Z',
    '1517966773.25': '2018-02-07T01:26:13.250Z',
    '1517966773840': '2018-02-07T01:26:13.840Z',
    ' 2000-02-29 ': '2000-02-29T00:00:00.000Z',
    '1900-01-01': '1900-01-01T00:00:00.000Z',
    '2299-12-31T23:59:59.999Z': '2299-12-31T23:59:59.999Z',
  };
  for (const [text, time] of Object.entries(expected)) assert.equal(read(text), time, text);
});

test('what is out of range, ambiguous or no time at all is refused', () => {
  for (const text of [
    '',
    'soon',
    '2001-02-29',
    '2001-02-30',
    '2001-13-01',
    '2001-00-10',
    '2001-01-00',
    '2001-01-10 24:00',
    '2001-01-10 18:60',
    '2001-01-10 18:20:60',
    '2001-01-10T18:20:05+24:00',
    '2001-01/10',
    '13/45/2001',
    '13/01/2001',
    '1/8/190',
    '1/8/2001 13:00 PM',
    '1/8/2001 0:30 AM',
    'Foo 8 1990',
    'Ma 8 1990',
    'Feb 30 1990',
    '1899-12-31',
    '2300-01-01',
    '0050-01-01',
    '8.1.2001',
    // Numbers that may be a year, an hour, a count, a date without separators or microseconds.
    '0',
    '0.0',
    '7.5',
    '1990',
    '20010110',
    '-978546000',
    '97854600000',
    '1517966773840000',
    '1e9',
  ]) {
    assert.equal(read(text), 'refused', text);
  }
});

test('two-digit years turn at 69, as in POSIX', () => {
  assert.equal(read('1/8/69'), '1969-01-08T00:00:00.000Z');
  assert.equal(read('1/8/99'), '1999-01-08T00:00:00.000Z');
  assert.equal(read('1/8/00'), '2000-01-08T00:00:00.000Z');
  assert.equal(read('1/8/68'), '2068-01-08T00:00:00.000Z');
});

test('a format that is named is the only one that is read', () => {
  assert.equal(read('13/01/2001', 'dmy'), '2001-01-13T00:00:00.000Z');
  assert.equal(read('1.8.2001 18:20', 'dmy'), '2001-08-01T18:20:00.000Z');
  assert.equal(read('1/8/2001', 'mdy'), '2001-01-08T00:00:00.000Z');
  assert.equal(read('0', 'epoch_ms'), '1970-01-01T00:00:00.000Z');
  assert.equal(read('-1.5', 'epoch_s'), '1969-12-31T23:59:58.500Z');
  assert.equal(read('1.001', 'epoch_s'), '1970-01-01T00:00:01.001Z');
  for (const [text, format] of [
    ['1/8/2001', 'iso'],
    ['2001-01-08', 'mdy'],
    ['978546000', 'iso'],
    ['2001-01-08', 'epoch_s'],
    ['99999999999', 'epoch_s'],
  ] as const) {
    assert.equal(read(text, format), 'refused', text);
  }
});

test('a time without a zone is in the given one, and one with a zone is not', () => {
  assert.equal(read('2001-01-10 18:20', 'auto', zone('Europe/Zurich')), '2001-01-10T17:20:00.000Z');
  assert.equal(read('2001-07-10 18:20', 'auto', zone('Europe/Zurich')), '2001-07-10T16:20:00.000Z');
  assert.equal(read('2001-01-10 18:20:00.5', 'auto', zone('Asia/Kolkata')), '2001-01-10T12:50:00.500Z');
  assert.equal(read('2001-01-10 18:20', 'auto', zone('+01:30')), '2001-01-10T16:50:00.000Z');
  assert.equal(read('2001-01-10 18:20Z', 'auto', zone('Asia/Kolkata')), '2001-01-10T18:20:00.000Z');
  assert.equal(TimeZone.of('Europe/Nowhere'), null);
  assert.equal(TimeZone.of('+25:00'), null);
});

test('local times that a clock change skips or repeats are refused', () => {
  const newYork = zone('America/New_York');
  assert.equal(read('2001-04-01 02:30', 'auto', newYork), 'refused');
  assert.equal(read('2001-10-28 01:30', 'auto', newYork), 'refused');
  assert.equal(read('2001-04-01 01:59', 'auto', newYork), '2001-04-01T06:59:00.000Z');
  assert.equal(read('2001-04-01 03:00', 'auto', newYork), '2001-04-01T07:00:00.000Z');
  assert.equal(read('2001-10-28 00:59', 'auto', newYork), '2001-10-28T04:59:00.000Z');
  assert.equal(read('2001-10-28 02:00', 'auto', newYork), '2001-10-28T07:00:00.000Z');
  assert.equal(read('2001-10-28 01:30-05:00', 'auto', newYork), '2001-10-28T06:30:00.000Z');
});

test('a moment written in a zone is read back as the same moment, or refused in the hour that is repeated', () => {
  const names = [
    'America/New_York',
    'Europe/Zurich',
    'Australia/Lord_Howe',
    'Asia/Kathmandu',
    'America/St_Johns',
  ];
  fc.assert(
    fc.property(
      fc.constantFrom(...names),
      fc.integer({ min: Date.UTC(1950, 0, 1) / 1000, max: Date.UTC(2037, 0, 1) / 1000 }),
      (name, second) => {
        // Swedish dates are ISO dates.
        const local = new Date(second * 1000).toLocaleString('sv-SE', { timeZone: name });
        const ms = parseTime(local, 'auto', zone(name));
        assert.ok(ms === second * 1000 || typeof ms === 'string');
        if (typeof ms === 'string') {
          const hour = 3_600_000;
          const twins = [-hour, -hour / 2, hour / 2, hour].map((shift) =>
            new Date(second * 1000 + shift).toLocaleString('sv-SE', { timeZone: name }),
          );
          assert.ok(twins.includes(local), `${local} ${name} was refused, but is not repeated`);
        }
      },
    ),
  );
});
