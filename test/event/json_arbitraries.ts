// JSON texts for property tests: any value, written with random white space and escapes, and damaged ones.
import fc from 'fast-check';

/** White space as JSON knows it. */
export const space = fc.string({ unit: fc.constantFrom(' ', '\t', '\n', '\r'), maxLength: 2 });

const jsonString = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 8 }).map((text) => JSON.stringify(text)),
  fc
    .array(
      fc.constantFrom(
        '\\n',
        '\\"',
        '\\\\',
        '\\/',
        '\\u0041',
        '\\ud83d\\ude00',
        '\\ud800',
        '{',
        '}',
        '[',
        ']',
        ',',
        ':',
        'é',
        '😀',
      ),
      { maxLength: 6 },
    )
    .map((parts) => `"${parts.join('')}"`),
);

const jsonNumber = fc.oneof(
  fc.integer().map(String),
  fc.double({ noNaN: true, noDefaultInfinity: true }).map((value) => JSON.stringify(value)),
  fc.constantFrom(
    '-0',
    '0.0',
    '1e5',
    '1E+5',
    '-1.5e-10',
    '1e999',
    `${'9'.repeat(400)}`,
    `0.${'0'.repeat(400)}1`,
  ),
);

/** The text of a JSON value, sometimes with duplicate names in its objects. */
export const jsonText: fc.Arbitrary<string> = fc.letrec<{ value: string; array: string; object: string }>(
  (tie) => ({
    value: fc.oneof(
      { depthSize: 'small', withCrossShrink: true },
      fc.oneof(jsonString, jsonNumber, fc.constantFrom('true', 'false', 'null')),
      tie('array'),
      tie('object'),
    ),
    array: fc
      .array(fc.tuple(space, tie('value'), space), { maxLength: 5 })
      .chain((items) =>
        space.map(
          (inside) => `[${items.length === 0 ? inside : items.map((item) => item.join('')).join(',')}]`,
        ),
      ),
    object: fc
      .array(
        fc.tuple(
          space,
          fc.oneof(jsonString, fc.constantFrom('"a"', '"\\u0061"', '"__proto__"', '"constructor"', '"1"')),
          space,
          space,
          tie('value'),
          space,
        ),
        {
          maxLength: 5,
        },
      )
      .chain((members) =>
        space.map((inside) =>
          members.length === 0
            ? `{${inside}}`
            : `{${members.map(([a, name, b, c, value, d]) => `${a}${name}${b}:${c}${value}${d}`).join(',')}}`,
        ),
      ),
  }),
).value;

/** A JSON text with white space around it. */
export const jsonDocument = fc.tuple(space, jsonText, space).map((parts) => parts.join(''));

/** One change of a text: characters taken out, put in or doubled. */
export const mutation = fc.record({
  at: fc.nat(),
  remove: fc.nat({ max: 3 }),
  insert: fc.constantFrom(
    '',
    '',
    '"',
    '\\',
    '{',
    '}',
    '[',
    ']',
    ',',
    ':',
    '0',
    '-',
    '.',
    'e',
    ' ',
    '\n',
    '\u0000',
    'é',
    'tru',
    '\\u12',
  ),
});

/** The text after a few changes: mostly not JSON any more. */
export function mutate(
  text: string,
  changes: readonly { readonly at: number; readonly remove: number; readonly insert: string }[],
): string {
  let result = text;
  for (const { at, remove, insert } of changes) {
    const position = result.length === 0 ? 0 : at % (result.length + 1);
    result = result.slice(0, position) + insert + result.slice(position + remove);
  }
  return result.toWellFormed();
}
