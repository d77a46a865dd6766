// What event becomes of a row, and which rows become none.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { EventBuilder } from '../../src/cli/send/event.ts';
import { Occurrences } from '../../src/cli/send/occurrences.ts';
import { parseSendOptions } from '../../src/cli/send/options.ts';
import type { Row } from '../../src/cli/send/row.ts';

const place = { file: 'input', line: 1, row: 1 };

function json(text: string): Row {
  return { type: 'json', place, text };
}

function csv(row: Readonly<Record<string, string>>): Row {
  const names = Object.keys(row);
  const indexByName = new Map(names.map((name, i) => [name, i]));
  return { type: 'csv', place, header: { names, indexByName }, fields: Object.values(row) };
}

function builder(...argv: string[]): EventBuilder {
  const options = parseSendOptions([...argv, '-']);
  assert.ok(options !== null);
  return new EventBuilder(options);
}

/** The event's text, or `!code`. */
function built(row: Row, ...argv: string[]): string {
  const event = builder(...argv).build(row);
  return event.type === 'event' ? event.text : `!${event.code}`;
}

test('a row with an id is sent byte for byte, on one line', () => {
  assert.equal(
    built(json('{"id":"x", "n":1.0,"big":12345678901234567890,"e":1E+2}')),
    '{"id":"x", "n":1.0,"big":12345678901234567890,"e":1E+2}',
  );
  assert.equal(
    built(json('{\n  "id": "x",\r\n\t"s": "a  b\\n",\n  "l": [\n 1,\n 2 ]\n}')),
    '{"id": "x","s": "a  b\\n","l": [1,2 ]}',
  );
});

test('a row without an id gets one, another each time', () => {
  const ids = new Set([1, 2, 3].map(() => JSON.parse(built(json('{"id":null,"a":1}'))).id));
  assert.equal(ids.size, 3);
  for (const id of ids) assert.match(id, /^[\da-f-]{36}$/);
  const event = built(json('{}'));
  assert.deepEqual(Object.keys(JSON.parse(event)), ['id']);
});

test('fields of the row become members of the event in place of those it has', () => {
  const row =
    '{"id":"old", "code": 7, "a":{"kind":"x","n":98765432109876543210}, "type":"old","t":"2001/01/10 18:20"}';
  assert.equal(
    built(json(row), '--id', 'code', '--type', 'a.kind', '--time', 't', '--subject', 'a.n'),
    '{"id":"7","type":"x","time":"2001-01-10T18:20:00.000Z","subject":"98765432109876543210",' +
      '"code": 7,"a":{"kind":"x","n":98765432109876543210},"t":"2001/01/10 18:20"}',
  );
  assert.equal(
    built(json('{"a.b":"exact","a":{"b":"path"}}'), '--id', 'a.b'),
    '{"id":"exact","a.b":"exact","a":{"b":"path"}}',
  );
});

test('constants replace members of the row', () => {
  assert.equal(
    built(json('{"id":"x","type":"Feature","n":1}'), '--set', 'type=quake', '--set', 'from=a=b'),
    '{"type":"quake","from":"a=b","id":"x","n":1}',
  );
});

test('a field without a value leaves the member out, and an id must have one', () => {
  assert.equal(built(json('{"id":"x","s":null,"subject":"old"}'), '--subject', 's'), '{"id":"x","s":null}');
  assert.equal(built(csv({ id: 'x', s: '' }), '--subject', 's'), '{"id":"x","s":""}');
  assert.equal(built(json('{"i":""}'), '--id', 'i'), '!bad_field');
  assert.equal(built(json('{"i":null}'), '--id', 'i'), '!bad_field');
});

test('a field that is missing or not a simple value is refused', () => {
  assert.equal(built(json('{"id":"x"}'), '--subject', 'subjct'), '!bad_field');
  assert.equal(built(json('{"id":"x"}'), '--time', 'date'), '!bad_field');
  assert.equal(built(json('{"id":"x","a":[1]}'), '--key', 'a'), '!bad_field');
  assert.equal(built(json('{"id":"x"}'), '--key', 'toString'), '!bad_field');
  assert.equal(built(json('{"id":"x","a":{"b":1}}'), '--key', 'a.c'), '!bad_field');
});

test('what is not a JSON object is refused', () => {
  for (const text of ['', '{', '[1]', '1', 'null', '"x"', "{'a':1}", '{"a":1}{']) {
    assert.equal(built(json(text)), '!bad_row', text);
  }
});

test('CSV fields written as JSON numbers become numbers, all others strings', () => {
  const row = csv({
    id: '12',
    a: '-0.50',
    b: '007',
    c: '1e3',
    d: '+1',
    e: '',
    f: '1,000',
    g: '0x1',
    key: '5',
    h: ' 1',
  });
  assert.equal(
    built(row),
    '{"id":"12","a":-0.50,"b":"007","c":1e3,"d":"+1","e":"","f":"1,000","g":"0x1","key":"5","h":" 1"}',
  );
  assert.equal(built(csv({ id: '12', a: '1' }), '--no-numbers'), '{"id":"12","a":"1"}');
  assert.equal(built(csv({ id: '1', 'a"b': 'c"d\n' })), '{"id":"1","a\\"b":"c\\"d\\n"}');
});

test('a time that cannot be read refuses the row', () => {
  for (const time of ['"13/45/2001"', '"soon"', '1990', 'true', 'null', '{}']) {
    assert.equal(built(json(`{"id":"x","t":${time}}`), '--time', 't'), '!bad_time', time);
  }
  assert.equal(built(json('{"id":"x","t":[1]}'), '--time', 't'), '!bad_time');
});

test('the own time of a row stays if the service reads the same moment, is rewritten if it can be read, or refuses the row', () => {
  for (const time of ['"2001-01-10T18:20:05Z"', '"2001-01-10T18:20:05.1+01:00"', '978546000000']) {
    const text = `{"id":"x","time":${time}}`;
    assert.equal(built(json(text)), text);
  }
  assert.equal(
    built(json('{"id":"x","time":"1/8/90 0:00"}')),
    '{"time":"1990-01-08T00:00:00.000Z","id":"x"}',
  );
  assert.equal(built(json('{"id":"x","time":978546000}')), '{"time":"2001-01-03T18:20:00.000Z","id":"x"}');
  assert.equal(built(json('{"id":"x","time":0.0}')), '!bad_time');
  assert.equal(built(json('{"id":"x","time":0.0}'), '--time-format', 'epoch_ms'), '{"id":"x","time":0.0}');
  assert.equal(built(json('{"id":"x","time":null}')), '{"id":"x","time":null}');
  assert.equal(
    built(csv({ id: 'x', time: '1517966773840' })),
    '{"time":"2018-02-07T01:26:13.840Z","id":"x"}',
  );
  assert.equal(
    built(json('{"id":"x","time":"soon"}'), '--set', 'time=2001-01-10'),
    '{"time":"2001-01-10T00:00:00.000Z","id":"x"}',
  );
});

test('an id from the content is the same for the same content, and another for its next occurrence', () => {
  const ids = (builderOf: EventBuilder, ...texts: string[]): unknown[] =>
    texts.map((text) => {
      const event = builderOf.build(json(text));
      assert.ok(event.type === 'event');
      return JSON.parse(event.text).id;
    });
  const first = ids(
    builder('--id-from-content'),
    '{"a":1,"b":{"c":2,"d":3}}',
    '{"a":2}',
    '{"a":2}',
    '{"id":"old","a":2}',
  );
  assert.equal(new Set(first).size, 4);
  assert.equal(first[2], `${first[1]}-2`);
  const again = ids(
    builder('--id-from-content', '--set', 'type=x'),
    '{ "b": {"d":3, "c":2}, "a": 1 }',
    '{"a":2}',
    '{"a":2}',
    '{"a":2,"id":"old"}',
  );
  assert.deepEqual(again, first);
});

test('a content nested deeper than any service takes is refused, not hashed', () => {
  assert.equal(
    built(json(`{"a":${'['.repeat(100_000)}${']'.repeat(100_000)}}`), '--id-from-content'),
    '!bad_row',
  );
});

test('occurrences are counted exactly, also when the table grows, and refused beyond its bound', () => {
  fc.assert(
    fc.property(fc.array(fc.nat({ max: 5000 }), { maxLength: 6000, minLength: 3000 }), (numbers) => {
      const occurrences = new Occurrences();
      const expected = new Map<number, number>();
      for (const number of numbers) {
        // Few different first words, so that entries collide.
        const digest = Buffer.alloc(16);
        digest.writeUInt32LE(number % 97, 0);
        digest.writeUInt32LE(number, 12);
        const count = (expected.get(number) ?? 0) + 1;
        expected.set(number, count);
        assert.equal(occurrences.count(digest), count);
      }
    }),
    { numRuns: 5 },
  );
  const small = new Occurrences(1);
  assert.equal(small.count(Buffer.alloc(16, 1)), 1);
  assert.equal(small.count(Buffer.alloc(16, 2)), 0);
  assert.equal(small.count(Buffer.alloc(16, 1)), 2);
});
