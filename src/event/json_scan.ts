// A byte-level look at JSON, for what JSON.parse does not tell: how deep it nests, how many members it has (to
// notice duplicate keys), where an error is, and where the elements of an array begin and end.

const quote = 0x22;
const backslash = 0x5c;
const openBrace = 0x7b;
const closeBrace = 0x7d;
const openBracket = 0x5b;
const closeBracket = 0x5d;
const colon = 0x3a;
const comma = 0x2c;

/** True for JSON's white space: space, tab, line feed, carriage return. */
export function isJsonSpace(byte: number | undefined): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;
}

/** What `measureJson` found. */
export interface JsonMeasure {
  /** Deepest nesting: 1 for a flat object. */
  depth: number;
  /** Number of colons outside strings: the members of all objects together. */
  members: number;
}

/** Measures JSON text in one pass without checking it; the result is exact for valid JSON. Reuses `into`. */
export function measureJson(bytes: Uint8Array, start: number, end: number, into: JsonMeasure): void {
  let depth = 0;
  let deepest = 0;
  let members = 0;
  let i = start;
  while (i < end) {
    const byte = bytes[i];
    i += 1;
    if (byte === quote) {
      while (i < end) {
        const inside = bytes[i];
        i += 1;
        if (inside === quote) break;
        if (inside === backslash) i += 1;
      }
    } else if (byte === openBrace || byte === openBracket) {
      depth += 1;
      if (depth > deepest) deepest = depth;
    } else if (byte === closeBrace || byte === closeBracket) {
      depth -= 1;
    } else if (byte === colon) {
      members += 1;
    }
  }
  into.depth = deepest;
  into.members = members;
}

/** Members of all objects in a parsed value together. Its nesting must have been bounded before. */
export function countMembers(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 0;
  let count = 0;
  if (Array.isArray(value)) {
    for (const item of value) if (typeof item === 'object') count += countMembers(item);
    return count;
  }
  for (const name in value) {
    count += 1;
    const member: unknown = (value as Record<string, unknown>)[name];
    if (typeof member === 'object') count += countMembers(member);
  }
  return count;
}

const numberPattern = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const escapePattern = /["\\/bfnrt]|u[\dA-Fa-f]{4}/y;
const wordPattern = /true|false|null/y;

/**
 * Byte position, relative to `start`, at which bytes stop being valid JSON (their length if they end too early), or
 * -1 if they are valid. Slow: for error messages only.
 */
export function findJsonError(bytes: Buffer, start: number, end: number): number {
  const text = bytes.toString('utf8', start, end);
  const at = findTextError(text);
  return at < 0 ? -1 : Buffer.byteLength(text.slice(0, at));
}

function findTextError(text: string): number {
  // One entry for each open container; the loop below always knows what may come next from `expects`.
  const open: ('{' | '[')[] = [];
  let expects: 'value' | 'value or ]' | 'name' | 'name or }' | 'colon' | 'comma or end' = 'value';
  let i = 0;
  const match = (pattern: RegExp): boolean => {
    pattern.lastIndex = i;
    if (!pattern.test(text)) return false;
    i = pattern.lastIndex;
    return true;
  };
  const matchString = (): boolean => {
    if (text[i] !== '"') return false;
    i += 1;
    for (;;) {
      const char = text[i];
      if (char === undefined || char < ' ') return false;
      i += 1;
      if (char === '"') return true;
      if (char === '\\' && !match(escapePattern)) return false;
    }
  };
  for (;;) {
    while (text[i] === ' ' || text[i] === '\n' || text[i] === '\r' || text[i] === '\t') i += 1;
    const char = text[i];
    if (char === undefined) return expects === 'comma or end' && open.length === 0 ? -1 : text.length;
    const container = open.at(-1);
    if (expects === 'comma or end') {
      if (container === undefined) return i;
      if (char === ',') {
        expects = container === '{' ? 'name' : 'value';
      } else if (char === (container === '{' ? '}' : ']')) {
        open.pop();
      } else return i;
      i += 1;
    } else if (expects === 'colon') {
      if (char !== ':') return i;
      i += 1;
      expects = 'value';
    } else if (expects === 'name' || expects === 'name or }') {
      if (char === '}' && expects === 'name or }') {
        open.pop();
        i += 1;
        expects = 'comma or end';
      } else if (matchString()) expects = 'colon';
      else return i;
    } else if (char === ']' && expects === 'value or ]') {
      open.pop();
      i += 1;
      expects = 'comma or end';
    } else if (char === '{' || char === '[') {
      open.push(char);
      i += 1;
      expects = char === '{' ? 'name or }' : 'value or ]';
    } else if (char === '"') {
      if (!matchString()) return i;
      expects = 'comma or end';
    } else if (match(wordPattern) || match(numberPattern)) {
      expects = 'comma or end';
    } else return i;
  }
}

/**
 * Visits the byte range of every element of a JSON array, white space around it left out. Elements are only told
 * apart here, not checked. Gives -1, or the byte position (relative to `start`) where the array itself breaks.
 */
export function splitArray(
  bytes: Uint8Array,
  start: number,
  end: number,
  visit: (elementStart: number, elementEnd: number) => void,
): number {
  let i = start;
  while (i < end && isJsonSpace(bytes[i])) i += 1;
  if (bytes[i] !== openBracket || i >= end) return i - start;
  i += 1;
  let isFirst = true;
  for (;;) {
    while (i < end && isJsonSpace(bytes[i])) i += 1;
    if (i >= end) return end - start;
    if (isFirst && bytes[i] === closeBracket) break;
    isFirst = false;
    const elementStart = i;
    let depth = 0;
    while (i < end) {
      const byte = bytes[i];
      if (byte === quote) {
        i += 1;
        while (i < end && bytes[i] !== quote) i += bytes[i] === backslash ? 2 : 1;
      } else if (byte === openBrace || byte === openBracket) depth += 1;
      else if (byte === closeBrace || byte === closeBracket) {
        if (depth === 0) break;
        depth -= 1;
      } else if (byte === comma && depth === 0) break;
      i += 1;
    }
    if (i >= end) return end - start;
    let elementEnd = i;
    while (elementEnd > elementStart && isJsonSpace(bytes[elementEnd - 1])) elementEnd -= 1;
    if (elementEnd === elementStart) return i - start;
    visit(elementStart, elementEnd);
    if (bytes[i] === closeBracket) break;
    if (bytes[i] !== comma) return i - start;
    i += 1;
  }
  i += 1;
  while (i < end && isJsonSpace(bytes[i])) i += 1;
  return i === end ? -1 : i - start;
}

/** Visits the byte range of every line that is not blank, white space around it left out. */
export function splitLines(
  bytes: Buffer,
  start: number,
  end: number,
  visit: (lineStart: number, lineEnd: number) => void,
): void {
  // Bounded by `end`: behind the last line, the search would otherwise run through the rest of a whole ring.
  const searched = bytes.subarray(0, end);
  let lineStart = start;
  while (lineStart < end) {
    const found = searched.indexOf(0x0a, lineStart);
    const next = found < 0 ? end : found;
    let from = lineStart;
    let to = next;
    while (from < to && isJsonSpace(bytes[from])) from += 1;
    while (to > from && isJsonSpace(bytes[to - 1])) to -= 1;
    if (from < to) visit(from, to);
    lineStart = next + 1;
  }
}
