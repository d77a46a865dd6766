// Telling rows apart: the same rows whatever the pieces in which the input arrives, each with its own line.

import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { readRows } from '../../src/cli/send/input.ts';
import { memberRanges, memberText } from '../../src/cli/send/json_text.ts';
import type { InputFormat } from '../../src/cli/send/options.ts';
import type { Row } from '../../src/cli/send/row.ts';

interface Reading {
  readonly name?: string;
  readonly format?: InputFormat | 'auto';
  readonly items?: readonly string[];
  readonly delimiter?: string;
  /** Bytes of each piece; all at once by default. */
  readonly pieceBytes?: number;
}

async function rowsOf(content: string | Buffer, reading: Reading = {}): Promise<Row[]> {
  const bytes = Buffer.from(content);
  const step = reading.pieceBytes ?? Math.max(1, bytes.length);
  const pieces: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += step) pieces.push(bytes.subarray(at, at + step));
  const rows: Row[] = [];
  const input = { name: reading.name ?? 'input', stream: Readable.from(pieces) };
  const options = {
    format: reading.format ?? 'auto',
    items: reading.items ?? [],
    delimiter: reading.delimiter ?? null,
  };
  for await (const row of readRows(input, options, () => {})) rows.push(row);
  return rows;
}

/** Each row as `line:content`, or `line!code`. */
async function brief(content: string | Buffer, reading: Reading = {}): Promise<string[]> {
  return (await rowsOf(content, reading)).map((row) => {
    if (row.type === 'bad') return `${row.place.line}!${row.code}`;
    return `${row.place.line}:${row.type === 'json' ? row.text : row.fields.join('|')}`;
  });
}

test('NDJSON gives a row for each line that is not blank', async () => {
  assert.deepEqual(await brief('{"a":1}\n\n{"a":2}\r\n  \n[3]', { format: 'ndjson' }), [
    '1:{"a":1}',
    '3:{"a":2}\r',
    '5:[3]',
  ]);
});

test('a JSON array gives its elements with the lines on which they begin', async () => {
  const text = '[\n {"a": "]},{"},\n {\n  "b": [1, {"c": "\\"]"}]\n },\n 3, null,"x"\n]\n';
  assert.deepEqual(await brief(text), [
    '2:{"a": "]},{"}',
    '3:{\n  "b": [1, {"c": "\\"]"}]\n }',
    '6:3',
    '6:null',
    '6:"x"',
  ]);
  assert.deepEqual(await brief('[]'), []);
});

test('objects one after the other in a .json file are rows too', async () => {
  assert.deepEqual(await brief('{"a":1}\n{"a":\n2} {"a":3}', { name: 'x.json' }), [
    '1:{"a":1}',
    '2:{"a":\n2}',
    '3:{"a":3}',
  ]);
});

test('an array inside a document is found by its path', async () => {
  const text = '{"rows":[9],"skip":{"rows":[8]},"d\\u0061ta":{"n":[[1]],"rows":[{"a":1},{"a":2}]},"rest":[}';
  assert.deepEqual(await brief(text, { format: 'json', items: ['data', 'rows'] }), [
    '1:{"a":1}',
    '1:{"a":2}',
  ]);
  assert.deepEqual(await brief('{"rows":{}}', { format: 'json', items: ['rows'] }), ['1!bad_input']);
  assert.deepEqual(await brief('{"a":1,\n"b":2}', { format: 'json', items: ['rows'] }), ['2!bad_input']);
  assert.deepEqual(await brief('{"rows":[{"a":1}', { format: 'json', items: ['rows'] }), [
    '1:{"a":1}',
    '1!bad_input',
  ]);
});

test('a JSON array that breaks off or goes wrong gives the rows before and one bad_input', async () => {
  for (const end of ['', ',', ',]', ' {"a":2}]', ',}', '}', ',"x', ',{"a":', '] x']) {
    const rows = await brief(`[{"a":1}${end}`);
    assert.deepEqual(rows, ['1:{"a":1}', '1!bad_input'], end);
  }
});

test('CSV gives rows by column, with quoted delimiters, quotes and line breaks', async () => {
  const text = 'a,b\n1,"x, ""y"""\n\n"2\n3",z\r\n4,"p\r\nq"\r\n5,6';
  assert.deepEqual(await brief(text), ['2:1|x, "y"', '4:2\n3|z', '6:4|p\r\nq', '8:5|6']);
  const [row] = await rowsOf(text);
  assert.ok(row?.type === 'csv');
  assert.deepEqual(row.header.names, ['a', 'b']);
});

test('CSV rows with a wrong number of fields are refused one by one', async () => {
  assert.deepEqual(await brief('a,b\n1\n2,3\n4,5,6\n7,8\n'), ['2!bad_row', '3:2|3', '4!bad_row', '5:7|8']);
});

test('a CSV quote that is never closed refuses the rest of the file', async () => {
  assert.deepEqual(await brief('a,b\n1,2\n3,"4\n5,6\n'), ['2:1|2', '3!bad_input']);
});

test('two columns of one name are refused, and a column without a name gets its number', async () => {
  assert.deepEqual(await brief('a,b,a\n1,2,3\n'), ['1!bad_input']);
  const [row] = await rowsOf(',x\n0,5\n', { format: 'csv' });
  assert.ok(row?.type === 'csv');
  assert.deepEqual(row.header.names, ['column_1', 'x']);
});

test('the delimiter is a tab for .tsv, or what the option says', async () => {
  assert.deepEqual(await brief('a\tb\n1,5\t2\n', { name: 'x.tsv' }), ['2:1,5|2']);
  assert.deepEqual(await brief('a;b\n1,5;2\n', { name: 'x.csv', delimiter: ';' }), ['2:1,5|2']);
});

test('the format comes from the name, or else from the first character', async () => {
  const types = async (content: string, name?: string): Promise<string[]> =>
    (await rowsOf(content, name === undefined ? {} : { name })).map(({ type }) => type);
  assert.deepEqual(await types('  [{"a":1},{"a":2}]'), ['json', 'json']);
  assert.deepEqual(await types('\n{"a":1}\n{"a":2}\n'), ['json', 'json']);
  assert.deepEqual(await types('a,b\n1,2\n'), ['csv']);
  assert.deepEqual(await types('[x],b\n1,2\n', 'x.csv'), ['csv']);
  assert.deepEqual(await types('', 'x.json'), []);
  assert.deepEqual(await types(''), []);
});

test('a byte order mark is no part of the first name, and UTF-16 is refused', async () => {
  const [row] = await rowsOf('\uFEFFa,b\n1,2\n', { pieceBytes: 1 });
  assert.ok(row?.type === 'csv');
  assert.deepEqual(row.header.names, ['a', 'b']);
  assert.deepEqual(await brief('\uFEFF[{"a":1}]'), ['1:{"a":1}']);
  assert.deepEqual(await brief(Buffer.from('\uFEFFa,b\n1,2\n', 'utf16le')), ['1!bad_input']);
});

test('rows that are not UTF-8 are refused one by one', async () => {
  const latin1 = (text: string): Buffer => Buffer.from(text, 'latin1');
  assert.deepEqual(await brief(latin1('{"a":"x"}\n{"a":"\xe9"}\n{"a":"y"}\n')), [
    '1:{"a":"x"}',
    '2!bad_row',
    '3:{"a":"y"}',
  ]);
  assert.deepEqual(await brief(latin1('a,b\nx,y\n\xe9,z\nv,w\n')), ['2:x|y', '3!bad_row', '4:v|w']);
  assert.deepEqual(await brief('a,b\né,\uFFFD\n'), ['2:é|\uFFFD']);
});

test('the pieces in which the input arrives make no difference', async () => {
  const inputs: [string, Reading][] = [
    ['[{"a":"é\\\\\\""},\n[1,[2]],12 , "]" ,{"b":{"c":[]}}]', {}],
    ['{"x":{"rows":[]},"rows":[{"a":1},{"a":2}]}', { format: 'json', items: ['rows'] }],
    ['{"a":"é"}\r\n\n{"a":2}', {}],
    ['a,b\r\n1,"é\r\n""2"""\r\n\r\n3,4\n5\n', {}],
  ];
  for (const [text, reading] of inputs) {
    const whole = await brief(text, reading);
    for (let pieceBytes = 1; pieceBytes < 12; pieceBytes += 1) {
      assert.deepEqual(await brief(text, { ...reading, pieceBytes }), whole);
    }
  }
});

test('any JSON array comes apart into its elements', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.jsonValue({ depthSize: 'small' }), { maxLength: 8 }),
      fc.integer({ min: 1, max: 40 }),
      fc.constantFrom(undefined, 1, '\t'),
      fc.boolean(),
      async (values, pieceBytes, indent, isInside) => {
        const document = isInside ? { before: values, 'a"b': { rows: values } } : values;
        const items = isInside ? ['a"b', 'rows'] : [];
        const rows = await rowsOf(JSON.stringify(document, null, indent), {
          format: 'json',
          items,
          pieceBytes,
        });
        assert.deepEqual(
          rows.map((row) => (row.type === 'json' ? JSON.parse(row.text) : row)),
          JSON.parse(JSON.stringify(values)),
        );
      },
    ),
    { numRuns: 200 },
  );
});

test('the members of any JSON object stand where they are said to', () => {
  fc.assert(
    fc.property(
      fc.dictionary(fc.string(), fc.jsonValue({ depthSize: 'small' })),
      fc.constantFrom(undefined, 2, '\t'),
      (object, indent) => {
        const text = JSON.stringify(object, null, indent);
        const expected = Object.entries(JSON.parse(text));
        const ranges = memberRanges(text);
        assert.deepEqual(
          ranges.map(({ name, valueStart, end }) => [name, JSON.parse(text.slice(valueStart, end))]),
          expected,
        );
        for (const { start, end } of ranges) assert.ok(JSON.parse(`{${text.slice(start, end)}}`));
        for (const [name, value] of expected) assert.deepEqual(JSON.parse(memberText(text, [name])), value);
      },
    ),
  );
});
