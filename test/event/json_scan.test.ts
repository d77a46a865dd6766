// The look at JSON's bytes against JSON.parse: they must agree on what is JSON, how deep it is, how many members it
// has and where its elements are.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import {
  countMembers,
  findJsonError,
  type JsonMeasure,
  measureJson,
  splitArray,
  splitLines,
} from '../../src/event/json_scan.ts';
import { jsonDocument, jsonText, mutate, mutation, space } from './json_arbitraries.ts';

/** Levels of the deepest text: far more than any call stack holds. */
const manyLevels = 1_000_000;

function parses(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

function measure(text: string): JsonMeasure {
  const bytes = Buffer.from(text);
  const found = { depth: 0, members: 0 };
  measureJson(bytes, 0, bytes.length, found);
  return found;
}

function depthOf(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 0;
  return (
    1 +
    Object.values(value).reduce((deepest: number, member: unknown) => Math.max(deepest, depthOf(member)), 0)
  );
}

/** Members as the text has them, duplicates included; the reviver of JSON.parse sees only what is left of them. */
function membersIn(text: string): number {
  // Without strings, a colon can only follow a name.
  return text.replace(/"(?:[^"\\]|\\.)*"/gs, '').split(':').length - 1;
}

function errorAt(text: string): number {
  const bytes = Buffer.from(text);
  return findJsonError(bytes, 0, bytes.length);
}

/** The bytes between others that must not be looked at. */
function within(text: string): { readonly bytes: Buffer; readonly start: number; readonly end: number } {
  const before = Buffer.from('"{[\\');
  const inside = Buffer.from(text);
  return {
    bytes: Buffer.concat([before, inside, Buffer.from('"]}\n,{"x":1}')]),
    start: before.length,
    end: before.length + inside.length,
  };
}

function elementsOf(text: string): { readonly position: number; readonly elements: string[] } {
  const { bytes, start, end } = within(text);
  const elements: string[] = [];
  const position = splitArray(bytes, start, end, (from, to) =>
    elements.push(bytes.toString('utf8', from, to)),
  );
  return { position, elements };
}

function linesOf(text: string): string[] {
  const { bytes, start, end } = within(text);
  const lines: string[] = [];
  splitLines(bytes, start, end, (from, to) => lines.push(bytes.toString('utf8', from, to)));
  return lines;
}

describe('measuring JSON', () => {
  test('the depth is exact and every member is counted, for any JSON', () => {
    fc.assert(
      fc.property(jsonDocument, (text) => {
        const { bytes, start, end } = within(text);
        const found = { depth: -1, members: -1 };
        measureJson(bytes, start, end, found);
        assert.equal(found.members, membersIn(text));
        assert.ok(found.depth >= depthOf(JSON.parse(text)));
      }),
    );
  });

  test('the depth is that of the value where no name is used twice', () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.constantFrom(undefined, 1, '\t'), (value, indent) => {
        const { depth, members } = measure(JSON.stringify(value, null, indent));
        assert.equal(depth, depthOf(value));
        assert.equal(members, countMembers(value));
      }),
    );
  });

  test('members are fewer in the value than in the text exactly where a name is used twice', () => {
    const twice = [
      '{"a":1,"a":2}',
      '{"a":1,"b":{"c":1,"c":2}}',
      '[[[{"x":[{"y":1,"y":1}]}]]]',
      '{"a":1,"\\u0061":2}',
      '{"\\u00e9":1,"é":2}',
      '{"__proto__":1,"__proto__":2}',
      '{"a":{"b":1,"c":2},"a":3}',
      '{"a":3,"a":{"b":1,"c":2}}',
      '{"":1,"":2}',
      '{"1":1,"\\u0031":2}',
    ];
    const once = [
      '{"a":1,"A":2}',
      '{"a":{"a":{"a":1}}}',
      '[{"a":1},{"a":1}]',
      '{"__proto__":{"__proto__":1}}',
      '{"constructor":1,"toString":2,"hasOwnProperty":3}',
      '{"a":":","b":"\\":\\":"}',
      '{"1":1,"01":2,"1.0":3}',
      '{"é":1,"e\\u0301":2}',
      '{}',
      '[]',
      '1',
    ];
    for (const text of twice) assert.ok(countMembers(JSON.parse(text)) < measure(text).members, text);
    for (const text of once) assert.equal(countMembers(JSON.parse(text)), measure(text).members, text);
  });

  test('a million levels are measured without a call stack', () => {
    assert.equal(measure('['.repeat(manyLevels) + ']'.repeat(manyLevels)).depth, manyLevels);
    assert.equal(measure('{"a":'.repeat(manyLevels)).depth, manyLevels);
    assert.equal(measure('{"a":'.repeat(manyLevels)).members, manyLevels);
  });

  test('text that is not JSON is measured to its end and not beyond', () => {
    fc.assert(
      fc.property(jsonText, fc.array(mutation, { minLength: 1, maxLength: 4 }), (text, changes) => {
        const damaged = mutate(text, changes);
        const { bytes, start, end } = within(damaged);
        const alone = measure(damaged);
        const found = { depth: -1, members: -1 };
        measureJson(bytes, start, end, found);
        assert.deepEqual(found, alone);
      }),
    );
  });
});

describe('finding the error in JSON', () => {
  test('JSON has none', () => {
    fc.assert(fc.property(jsonDocument, (text) => assert.equal(errorAt(text), -1)));
  });

  test('there is one exactly where JSON.parse refuses, and it is within the text or at its end', () => {
    fc.assert(
      fc.property(jsonDocument, fc.array(mutation, { minLength: 1, maxLength: 4 }), (text, changes) => {
        const damaged = mutate(text, changes);
        const position = errorAt(damaged);
        assert.equal(position === -1, parses(damaged), damaged);
        assert.ok(position <= Buffer.byteLength(damaged));
      }),
      { numRuns: 2000 },
    );
  });

  test('what comes after the error does not move it', () => {
    fc.assert(
      fc.property(
        jsonDocument,
        fc.array(mutation, { minLength: 1, maxLength: 4 }),
        fc.string({ unit: 'binary' }),
        (text, changes, tail) => {
          const damaged = mutate(text, changes);
          const position = errorAt(damaged);
          // At the end of the text, more text may well be what was missing.
          fc.pre(position >= 0 && position < Buffer.byteLength(damaged));
          const head = Buffer.from(damaged)
            .subarray(0, position + 1)
            .toString();
          fc.pre(Buffer.byteLength(head) === position + 1);
          const longer = errorAt(`${head}${tail}`);
          // A word, number or string that breaks off is reported at its own start, so that a tail may complete it.
          assert.ok(longer === -1 || longer >= position, `${position} became ${longer}`);
        },
      ),
    );
  });

  test('the position is the first byte that no JSON could go on with, in bytes and not in characters', () => {
    const cases: readonly (readonly [string, number])[] = [
      ['', 0],
      ['  ', 2],
      ['{"a":1', 6],
      ['{"a" 1}', 5],
      ['{"a":1,}', 7],
      ['{a:1}', 1],
      ["{'a':1}", 1],
      ['[1,]', 3],
      ['[1 2]', 3],
      ['{"a":1}}', 7],
      ['{"é":1,é}', 8],
      ['{"😀":tru}', 8],
      ['"abc', 4],
      ['"a\nb"', 2],
      ['01', 1],
      ['1.', 1],
      ['+1', 0],
      ['NaN', 0],
      ['{"a":undefined}', 5],
      ['// x\n{}', 0],
      ['\uFEFF{}', 0],
    ];
    for (const [text, position] of cases) assert.equal(errorAt(text), position, JSON.stringify(text));
  });

  test('a million levels are no deeper than the heap', () => {
    assert.equal(errorAt('['.repeat(manyLevels)), manyLevels);
    assert.equal(errorAt('['.repeat(manyLevels) + ']'.repeat(manyLevels)), -1);
    assert.equal(errorAt('{"a":'.repeat(manyLevels)), manyLevels * 5);
  });
});

describe('taking arrays and lines apart', () => {
  test('an array gives its elements, which together are the array', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(space, jsonText, space)),
        space,
        space,
        space,
        (items, before, empty, after) => {
          const inside = items.length === 0 ? empty : items.map((item) => item.join('')).join(',');
          const { position, elements } = elementsOf(`${before}[${inside}]${after}`);
          assert.equal(position, -1);
          assert.deepEqual(
            elements,
            items.map(([, text]) => text),
          );
        },
      ),
    );
  });

  test('an element that is not JSON leaves its neighbours alone', () => {
    assert.deepEqual(elementsOf('[{"a":1},{bad},{"a":1 "b":2},tru,1 2,{"b":2}]'), {
      position: -1,
      elements: ['{"a":1}', '{bad}', '{"a":1 "b":2}', 'tru', '1 2', '{"b":2}'],
    });
  });

  test('an array that breaks says where', () => {
    const cases: readonly (readonly [string, number])[] = [
      ['', 0],
      ['  ', 2],
      ['{}', 0],
      ['[', 1],
      ['[1', 2],
      ['[1,', 3],
      ['[1,]', 3],
      ['[,1]', 1],
      ['[1,,2]', 3],
      ['[1}', 2],
      ['[1] x', 4],
      ['[1]]', 3],
      ['["a', 3],
      ['["a\\', 4],
      ['["a\\"]', 6],
      ['[{"a":[}', 8],
    ];
    for (const [text, position] of cases) assert.equal(elementsOf(text).position, position, text);
  });

  test('every text that is a JSON array is one here, and no other text gives elements that are all JSON', () => {
    fc.assert(
      fc.property(jsonDocument, fc.array(mutation, { maxLength: 3 }), (text, changes) => {
        const damaged = mutate(`[${text}]`, changes);
        const { position, elements } = elementsOf(damaged);
        const isArray = parses(damaged) && Array.isArray(JSON.parse(damaged));
        assert.equal(position === -1 && elements.every(parses), isArray, damaged);
        assert.ok(position <= Buffer.byteLength(damaged));
        if (isArray)
          assert.deepEqual(
            elements.map((element) => JSON.parse(element)),
            JSON.parse(damaged),
          );
      }),
      { numRuns: 1000 },
    );
  });

  test('a million levels are one element', () => {
    const deep = '['.repeat(manyLevels) + ']'.repeat(manyLevels);
    assert.equal(elementsOf(`[${deep}]`).elements.length, 1);
    assert.equal(elementsOf('['.repeat(manyLevels)).position, manyLevels);
  });

  test('lines are told apart at line feeds, blank ones left out, whatever ends them', () => {
    assert.deepEqual(linesOf('{"a":1}\n{"b":2}\n'), ['{"a":1}', '{"b":2}']);
    assert.deepEqual(linesOf('{"a":1}\r\n\r\n  \t \n {"b":2} \r\n'), ['{"a":1}', '{"b":2}']);
    assert.deepEqual(linesOf('{"a":1}'), ['{"a":1}']);
    assert.deepEqual(linesOf(''), []);
    assert.deepEqual(linesOf('\n\n\r\n'), []);
    fc.assert(
      fc.property(
        fc.array(
          fc.tuple(
            fc.constantFrom('1', '{"a": 2}', '"x y"', 'é'),
            fc.constantFrom('\n', '\r\n', '\n\n', ' \n\t\n'),
          ),
        ),
        fc.boolean(),
        (lines, hasLastEnd) => {
          const text = lines
            .map(([line, ending], i) => (i === lines.length - 1 && !hasLastEnd ? line : line + ending))
            .join('');
          assert.deepEqual(
            linesOf(text),
            lines.map(([line]) => line),
          );
        },
      ),
    );
  });
});
