// Where the members of a JSON object stand in its text, so that one can be cut out, or its digits be read, while all
// others stay byte for byte. The text must have been parsed before: nothing is checked here.

/** A member: `text.slice(start, end)` is `"name": value`, without the comma and white space around it. */
export interface MemberRange {
  readonly name: string;
  readonly start: number;
  readonly valueStart: number;
  readonly end: number;
}

/** The members of the object that is `text`, in order; those of objects inside it are not visited. */
export function memberRanges(text: string): MemberRange[] {
  const ranges: MemberRange[] = [];
  let i = skipSpace(text, skipSpace(text, 0) + 1);
  while (text[i] === '"') {
    const start = i;
    i = skipString(text, i);
    const name: unknown = JSON.parse(text.slice(start, i));
    // Past the colon.
    const valueStart = skipSpace(text, skipSpace(text, i) + 1);
    const end = skipValue(text, valueStart);
    ranges.push({ name: String(name), start, valueStart, end });
    i = skipSpace(text, end);
    if (text[i] !== ',') break;
    i = skipSpace(text, i + 1);
  }
  return ranges;
}

/** The text of the value at a path of names that leads through objects; empty if there is none. */
export function memberText(text: string, path: readonly string[]): string {
  let value = text;
  for (const name of path) {
    // Of a name used twice the last one counts, as for JSON.parse.
    const range = memberRanges(value).findLast((member) => member.name === name);
    if (range === undefined) return '';
    value = value.slice(range.valueStart, range.end);
  }
  return value;
}

function skipSpace(text: string, start: number): number {
  let i = start;
  while (text[i] === ' ' || text[i] === '\n' || text[i] === '\r' || text[i] === '\t') i += 1;
  return i;
}

/** The position after the string that begins at `start`. */
function skipString(text: string, start: number): number {
  let i = start + 1;
  while (i < text.length && text[i] !== '"') i += text[i] === '\\' ? 2 : 1;
  return i + 1;
}

function skipValue(text: string, start: number): number {
  let depth = 0;
  let i = start;
  while (i < text.length) {
    const char = text[i];
    if (char === '"') {
      i = skipString(text, i);
      if (depth === 0) return i;
      continue;
    }
    if (char === '{' || char === '[') depth += 1;
    else if (char === '}' || char === ']') {
      // At depth 0 this closes the object around a number or a word.
      if (depth === 0) return i;
      depth -= 1;
      if (depth === 0) return i + 1;
    } else if (depth === 0 && (char === ',' || skipSpace(text, i) > i)) return i;
    i += 1;
  }
  return i;
}
