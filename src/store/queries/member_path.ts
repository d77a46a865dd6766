// A path to a value of an event, as `group_by`, `where` and `value` name it, and the SQL that reads it. Runs on
// reader threads.
//
// `type`, `source`, `subject`, `id`, `key` and `partition` are columns; everything else is a member of the JSON as it
// was received: `origin`, `data.country`, `items.0.price` (a number is an array's index where there is an array).
// A backslash takes the next character as it is: `a\.b` is one member.
//
// Values are compared as text: strings as they are, numbers in their shortest form (1.50 is 1.5), true and false,
// objects and arrays as compact JSON; a missing member and null are null. ClickHouse's parser refuses a document as a
// whole for a number beyond 64-bit integers and doubles or for half a surrogate pair in it: all its members are null.

import type { Bindings } from './bindings.ts';
import { ParameterError, quoted } from './parameters.ts';

export interface MemberPath {
  /** As the client wrote it; it names the value in the answer. */
  readonly text: string;
  readonly segments: readonly string[];
}

/** A path deeper than the deepest event that is accepted by default finds nothing. */
const segmentsMax = 64;

const columns = ['type', 'source', 'subject', 'id', 'key', 'partition'] as const;
type Column = (typeof columns)[number];

const arrayIndex = /^(?:0|[1-9]\d{0,8})$/;

/** Cuts at each `separator` that has no backslash before it; the pieces keep their backslashes. */
export function splitUnescaped(text: string, separator: string): string[] {
  const pieces: string[] = [];
  let start = 0;
  for (let i = 0; i < text.length; i += 1) {
    if (text[i] === '\\') i += 1;
    else if (text[i] === separator) {
      pieces.push(text.slice(start, i));
      start = i + 1;
    }
  }
  pieces.push(text.slice(start));
  return pieces;
}

/** Throws ParameterError in the name of `parameter`. */
export function parsePath(parameter: string, text: string): MemberPath {
  const segments = splitUnescaped(text, '.').map((piece) => piece.replace(/\\(.)/gsu, '$1'));
  if (segments.some((segment) => segment === ''))
    throw new ParameterError(
      parameter,
      `the path ${quoted(text)} has an empty part`,
      'names with dots between',
    );
  if (segments.length > segmentsMax)
    throw new ParameterError(
      parameter,
      `the path has ${segments.length} parts`,
      `at most ${segmentsMax} parts`,
    );
  return { text, segments };
}

function columnOf(path: MemberPath): Column | undefined {
  return columns.find((column) => column === path.text);
}

/** The value as Nullable(String), for grouping and for `value`. */
export function pathExpression(path: MemberPath, bindings: Bindings): string {
  const column = columnOf(path);
  if (column === undefined) return jsonExpression(path.segments, bindings);
  // An event without a subject has none; every event has a source, if only the empty one.
  return column === 'subject' ? "nullIf(subject, '')" : `toNullable(toString(${column}))`;
}

/** The condition that the value is this text. */
export function pathCondition(path: MemberPath, value: string, bindings: Bindings): string {
  const column = columnOf(path);
  const bound = bindings.bind('String', value);
  if (column === undefined) return `${jsonExpression(path.segments, bindings)} = ${bound}`;
  // The bare column, so that the sorting key and the bloom filter can be used.
  return column === 'partition' ? `toString(partition) = ${bound}` : `${column} = ${bound}`;
}

function jsonExpression(segments: readonly string[], bindings: Bindings): string {
  // An event is an object, so that its first part is a name even if it looks like an index.
  if (!segments.some((segment, i) => i > 0 && arrayIndex.test(segment))) {
    const names = segments.map((segment) => bindings.bind('String', segment));
    return `JSONExtract(body, ${names.join(', ')}, 'Nullable(String)')`;
  }
  // Step by step: whether a number is an index or a name depends on what is found there. What a step is read from
  // occurs up to three times in it, so it gets a name at its first place.
  let first = 'body';
  let again = 'body';
  for (const [i, segment] of segments.entries()) {
    const isLast = i === segments.length - 1;
    const member = (of: string, index: string): string =>
      isLast ? `JSONExtract(${of}, ${index}, 'Nullable(String)')` : `JSONExtractRaw(${of}, ${index})`;
    const name = bindings.bind('String', segment);
    if (i > 0 && arrayIndex.test(segment)) {
      const position = bindings.bind('Int64', Number(segment) + 1);
      first = `if(startsWith(${first}, '['), ${member(again, position)}, ${member(again, name)})`;
    } else first = member(first, name);
    again = bindings.alias();
    first = `(${first} AS ${again})`;
  }
  return first;
}
