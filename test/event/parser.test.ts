// Which bytes are an event, what is wrong with the others, and what an event becomes.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { type EventFault, EventParser, idBytesMax, nameBytesMax } from '../../src/event/parser.ts';
import { recordFlags } from '../../src/event/record.ts';
import { jsonText, mutate, mutation } from './json_arbitraries.ts';

const limits = { eventBytesMax: 10_000, eventDepthMax: 8 };
const ingestTimeMs = Date.UTC(2026, 10, 22);

function parse(event: string | Uint8Array, parser = new EventParser(limits)): EventFault | null {
  const bytes = Buffer.from(event);
  return parser.parse(bytes, 0, bytes.length, ingestTimeMs);
}

/** The parser after it took this event. */
function taken(event: unknown): EventParser {
  const parser = new EventParser(limits);
  const text = typeof event === 'string' ? event : JSON.stringify(event);
  assert.equal(parse(text, parser), null, text);
  return parser;
}

const codeOf = (fault: EventFault | null): string | undefined => fault?.code;

describe('an event that is taken', () => {
  test('all its members are found', () => {
    const { id, type, source, subject, key, timeMs, flags } = taken({
      id: 'i',
      type: 't',
      source: 's',
      subject: 'j',
      key: 'k',
      time: '2026-01-02T03:04:05Z',
    });
    assert.deepEqual([id, type, source, subject, key], ['i', 't', 's', 'j', 'k']);
    assert.equal(timeMs, Date.UTC(2026, 0, 2, 3, 4, 5));
    assert.equal(flags, recordFlags.hasTime);
  });

  test('an empty object gets an id, the default type and the time of its arrival', () => {
    const { id, type, source, subject, key, timeMs, flags } = taken({});
    assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    assert.equal(Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16), ingestTimeMs);
    assert.deepEqual([type, source, subject, key, timeMs], ['event', '', '', null, ingestTimeMs]);
    assert.equal(flags, recordFlags.isIdGenerated);
  });

  test('a member that is null counts as absent', () => {
    const { type, source, subject, key, timeMs, flags } = taken({
      id: null,
      type: null,
      source: null,
      subject: null,
      key: null,
      time: null,
    });
    assert.deepEqual([type, source, subject, key, timeMs], ['event', '', '', null, ingestTimeMs]);
    assert.equal(flags, recordFlags.isIdGenerated);
  });

  test('a generated id is a new one each time and nothing stays from the event before', () => {
    const parser = new EventParser(limits);
    assert.equal(parse('{"id":"a","type":"t","source":"s","subject":"j","key":"k","time":0}', parser), null);
    assert.equal(parse('{}', parser), null);
    const first = parser.id;
    assert.deepEqual([parser.type, parser.source, parser.subject, parser.key], ['event', '', '', null]);
    assert.equal(parser.timeMs, ingestTimeMs);
    assert.equal(parse('{}', parser), null);
    assert.notEqual(parser.id, first);
  });

  test('a key that is the id is not kept apart from it', () => {
    assert.equal(taken({ id: 'a', key: 'a' }).key, null);
    assert.equal(taken({ id: 'a', key: 'b' }).key, 'b');
    assert.equal(taken({ key: 'b' }).key, 'b');
  });

  test('only its own members count, not what every object inherits', () => {
    const { type, source, subject, key } = taken(
      '{"__proto__":{"id":"p","type":"p","source":"p","key":"p"},"constructor":1,"toString":null}',
    );
    assert.deepEqual([type, source, subject, key], ['event', '', '', null]);
  });

  test('further members may be anything', () => {
    taken('{"n":1e999,"m":-1E400,"x":[null,{"a":"\\ud800"}],"ingest_time":"yesterday","":""}');
    taken(`{"n":${'9'.repeat(5000)}}`);
  });

  test('escapes in a text are what they stand for', () => {
    assert.equal(taken('{"id":"\\u0061\\n\\u0000\\ud83d\\ude00"}').id, 'a\n\u0000\u{1f600}');
    assert.equal(taken('{"\\u0069d":"x"}').id, 'x');
  });

  test('it is read from its own range of the bytes only', () => {
    const parser = new EventParser(limits);
    const bytes = Buffer.from('\xff{"id":"a"}{"id":"b"}\xff', 'latin1');
    assert.equal(parser.parse(bytes, 1, 11, ingestTimeMs), null);
    assert.equal(parser.id, 'a');
    assert.equal(parser.parse(bytes, 11, 21, ingestTimeMs), null);
    assert.equal(parser.id, 'b');
    assert.equal(codeOf(parser.parse(bytes, 0, 11, ingestTimeMs)), 'malformed_json');
  });

  test('it may lie in shared memory, where the ring has it', () => {
    const bytes = Buffer.from(new SharedArrayBuffer(100));
    const length = bytes.write('{"id":"é"}');
    const parser = new EventParser(limits);
    assert.equal(parser.parse(bytes, 0, length, ingestTimeMs), null);
    assert.equal(parser.id, 'é');
    bytes[7] = 0xff;
    assert.equal(codeOf(parser.parse(bytes, 0, length, ingestTimeMs)), 'malformed_json');
  });
});

describe('the rules of each member', () => {
  const texts = [
    { field: 'id', bytesMin: 1, bytesMax: idBytesMax },
    { field: 'type', bytesMin: 1, bytesMax: idBytesMax },
    { field: 'source', bytesMin: 0, bytesMax: nameBytesMax },
    { field: 'subject', bytesMin: 0, bytesMax: nameBytesMax },
    { field: 'key', bytesMin: 1, bytesMax: nameBytesMax },
  ] as const;

  test('a text of any other type is refused with its name', () => {
    for (const { field } of texts) {
      for (const value of [1, true, false, [], {}, ['a'], 1.5, 0]) {
        const fault = parse(JSON.stringify({ [field]: value }));
        assert.deepEqual([fault?.code, fault?.field], ['invalid_event', field], JSON.stringify(value));
      }
    }
  });

  test('lengths are counted in bytes of UTF-8, the bounds included', () => {
    for (const { field, bytesMin, bytesMax } of texts) {
      const fits = ['x'.repeat(bytesMax), 'é'.repeat(bytesMax / 2), '\u{1f600}'.repeat(bytesMax / 4)];
      const isLong = [
        ...fits.map((text) => `${text}x`),
        'é'.repeat(bytesMax / 2 + 1),
        '\u65e5'.repeat(bytesMax / 2),
      ];
      for (const text of fits) assert.equal(parse(JSON.stringify({ [field]: text })), null, field);
      for (const text of isLong) {
        const fault = parse(JSON.stringify({ [field]: text }));
        assert.deepEqual([fault?.code, fault?.field], ['invalid_event', field]);
      }
      assert.equal(parse(JSON.stringify({ [field]: '' })) === null, bytesMin === 0, field);
    }
  });

  test('a lone surrogate is refused, for two of them would become the same text', () => {
    for (const { field } of texts) {
      for (const text of ['\\ud800', '\\udfff', 'a\\ud83dx', '\\ude00\\ud83d']) {
        const fault = parse(`{"${field}":"${text}"}`);
        assert.deepEqual([fault?.code, fault?.field], ['invalid_event', field], text);
      }
    }
  });

  test('time is RFC 3339 text or epoch milliseconds within 1900 and 2299', () => {
    for (const time of [
      '"2026-11-22T17:30:00Z"',
      '0',
      '-1',
      '-2208988800000',
      '10413791999999',
      '1.5',
      '1e12',
    ]) {
      assert.equal(parse(`{"time":${time}}`), null, time);
    }
    const others = [
      '1e999',
      '-1e999',
      '1e300',
      '"NaN"',
      '""',
      '"now"',
      'true',
      '[]',
      '{}',
      '-2208988800001',
      '10413792000000',
    ];
    for (const time of others) {
      const fault = parse(`{"time":${time}}`);
      assert.deepEqual([fault?.code, fault?.field], ['invalid_event', 'time'], time);
    }
    assert.equal(codeOf(parse('{"time":NaN}')), 'malformed_json');
    assert.equal(codeOf(parse('{"time":Infinity}')), 'malformed_json');
  });

  test('a time before 1970 is kept as it is', () => {
    assert.equal(taken({ time: '1969-12-31T23:59:59.999Z' }).timeMs, -1);
    assert.equal(taken({ time: -1.5 }).timeMs, -2);
  });
});

describe('what is no event', () => {
  test('JSON that is not an object is refused', () => {
    for (const text of ['1', '"a"', 'null', 'true', '[]', '[{}]'])
      assert.equal(codeOf(parse(text)), 'invalid_event', text);
  });

  test('a name used twice is refused at any depth, however it is written', () => {
    const texts = [
      '{"id":"a","id":"a"}',
      '{"a":1,"\\u0061":2}',
      '{"x":{"y":[{"z":1,"z":1}]}}',
      '{"__proto__":1,"__proto__":2}',
      '{"a":{"b":1,"c":2},"a":3}',
    ];
    for (const text of texts) assert.equal(codeOf(parse(text)), 'invalid_event', text);
    assert.equal(parse('{"x":{"id":"a"},"id":"a"}'), null);
  });

  test('bytes that are not JSON are refused with the position of the error', () => {
    const cases: readonly (readonly [string, number])[] = [
      ['', 0],
      ['{"id":"a"', 9],
      ['{"id":"a"}}', 10],
      ['{"é":x}', 6],
      ['{"id":"a\u0000"}', 8],
    ];
    for (const [text, position] of cases) {
      const fault = parse(text);
      assert.deepEqual([fault?.code, fault?.position], ['malformed_json', position], JSON.stringify(text));
    }
  });

  test('bytes that are not UTF-8 are refused with the position of the first one', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'grapheme', maxLength: 20 }),
        fc.constantFrom(
          [0xff],
          [0x80],
          [0xc0, 0x80],
          [0xe2, 0x82],
          [0xed, 0xa0, 0x80],
          [0xf0, 0x9f, 0x98],
          [0xf5, 0x80, 0x80, 0x80],
        ),
        fc.string({ maxLength: 20 }),
        (before, broken, after) => {
          const good = Buffer.from(`{"id":${JSON.stringify(before)}`);
          const fault = parse(Buffer.concat([good, Uint8Array.from(broken), Buffer.from(after)]));
          assert.deepEqual([fault?.code, fault?.position], ['malformed_json', good.length]);
        },
      ),
    );
  });

  test('the bounds of size and depth are inclusive', () => {
    const padding = (bytes: number): string => `{"x":"${'x'.repeat(bytes - 8)}"}`;
    assert.equal(parse(padding(limits.eventBytesMax)), null);
    assert.equal(codeOf(parse(padding(limits.eventBytesMax + 1))), 'too_large');
    const nested = (levels: number): string => `{"x":${'['.repeat(levels - 1)}${']'.repeat(levels - 1)}}`;
    assert.equal(parse(nested(limits.eventDepthMax)), null);
    assert.equal(codeOf(parse(nested(limits.eventDepthMax + 1))), 'too_large');
  });

  test('a million levels are refused without a call stack', () => {
    const parser = new EventParser({ eventBytesMax: 10_000_000, eventDepthMax: 1000 });
    assert.equal(codeOf(parse('{"a":'.repeat(1_000_000), parser)), 'too_large');
    assert.equal(
      codeOf(parse(`{"a":${'['.repeat(1_000_000)}${']'.repeat(1_000_000)}}`, parser)),
      'too_large',
    );
    assert.equal(parse(`${'{"a":'.repeat(999)}{}${'}'.repeat(999)}`, parser), null);
  });
});

describe('any bytes', () => {
  test('they are an event exactly when JSON.parse gives an object whose members keep the rules', () => {
    const event = fc.oneof(
      jsonText,
      fc
        .record(
          {
            id: fc.oneof(fc.string({ maxLength: 5 }), fc.jsonValue({ maxDepth: 1 })),
            type: fc.oneof(fc.string({ maxLength: 5 }), fc.jsonValue({ maxDepth: 1 })),
            source: fc.oneof(fc.string({ maxLength: 5 }), fc.jsonValue({ maxDepth: 1 })),
            key: fc.oneof(fc.string({ maxLength: 5 }), fc.jsonValue({ maxDepth: 1 })),
            time: fc.oneof(fc.integer(), fc.jsonValue({ maxDepth: 1 })),
            data: fc.jsonValue({ maxDepth: 3 }),
          },
          { requiredKeys: [] },
        )
        .map((value) => JSON.stringify(value)),
    );
    const parser = new EventParser({ eventBytesMax: 1_000_000, eventDepthMax: 1000 });
    fc.assert(
      fc.property(event, fc.array(mutation, { maxLength: 2 }), (text, changes) => {
        const damaged = mutate(text, changes);
        const fault = parse(damaged, parser);
        let value: unknown;
        try {
          value = JSON.parse(damaged);
        } catch {
          assert.equal(fault?.code, 'malformed_json');
          return;
        }
        assert.notEqual(fault?.code, 'malformed_json');
        if (typeof value !== 'object' || value === null || Array.isArray(value)) {
          assert.equal(fault?.code, 'invalid_event');
        } else if (fault === null) {
          const { id } = value as { readonly id?: unknown };
          if (id !== undefined && id !== null) assert.equal(parser.id, id);
          assert.ok(Buffer.byteLength(parser.id) >= 1 && Buffer.byteLength(parser.id) <= idBytesMax);
          assert.ok(parser.timeMs >= Date.UTC(1900, 0, 1) && parser.timeMs < Date.UTC(2300, 0, 1));
        }
      }),
      { numRuns: 1000 },
    );
  });
});
