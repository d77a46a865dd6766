// Tells the rows of JSON input apart while it streams in: the elements of an array, or objects one after the other,
// or the array at a path inside a document. Only one row is held at a time. It looks at brackets and strings only;
// whether a row is valid JSON is found out by parsing it.

import { isJsonSpace } from '../../event/json_scan.ts';
import { rowBytesMax } from './row.ts';

/** A row's bytes, or what is wrong. After `bad_input` nothing more comes. */
export type Piece =
  | { readonly type: 'row'; readonly line: number; readonly bytes: Buffer }
  | { readonly type: 'too_large'; readonly line: number }
  | { readonly type: 'bad_input'; readonly line: number; readonly message: string };

const lineFeed = 0x0a;
const quote = 0x22;
const comma = 0x2c;
const colon = 0x3a;
const openBracket = 0x5b;
const backslash = 0x5c;
const closeBracket = 0x5d;
const openBrace = 0x7b;
const closeBrace = 0x7d;

/** What may come next, white space aside. */
type State =
  /** The first thing in the input: an array of rows, or a row. */
  | 'start'
  /** Rows one after the other: another row, or the end. */
  | 'next row'
  | 'element or ]'
  | 'element'
  | 'comma or ]'
  /** On the way along the path: the object that should hold the next name. */
  | 'object'
  | 'name or }'
  | 'name'
  | 'colon'
  /** The value of the path's last name. */
  | 'array'
  | 'value to skip'
  | 'comma or }'
  /** Inside a value, whatever it is read for. */
  | 'in value'
  /** After the array. */
  | 'end'
  /** After the array at a path, or after an error: what follows does not matter. */
  | 'ignore';

/** Why a value is being passed through. */
type Purpose = 'row' | 'name' | 'skip';

export class JsonSplitter {
  readonly #path: readonly string[];
  /** Names of the path that were found already. */
  #matched = 0;
  /** True until the array at the path has begun. */
  #isSearching: boolean;
  /** True if the name just read is the next one of the path. */
  #isNameWanted = false;
  #state: State;
  #line = 1;

  // The value being read.
  #purpose: Purpose = 'skip';
  #stateAfter: State = 'end';
  #valueLine = 1;
  #depth = 0;
  #isString = false;
  #isEscaped = false;
  /** A number or a word, which ends before the next separator. */
  #isScalar = false;
  #pieces: Buffer[] = [];
  #heldBytes = 0;

  /** `path` is empty if the input itself is the array, or the rows. */
  constructor(path: readonly string[]) {
    this.#path = path;
    this.#isSearching = path.length > 0;
    this.#state = path.length === 0 ? 'start' : 'object';
  }

  *push(chunk: Buffer): Generator<Piece> {
    let i = 0;
    while (i < chunk.length && this.#state !== 'ignore') {
      if (this.#state === 'in value') {
        const from = i;
        i = this.#passValue(chunk, i);
        this.#hold(chunk, from, i);
        if (this.#state === 'in value') return;
        const piece = this.#endValue();
        if (piece !== null) yield piece;
        continue;
      }
      const byte = chunk[i] ?? 0;
      if (byte === lineFeed) this.#line += 1;
      if (isJsonSpace(byte)) {
        i += 1;
        continue;
      }
      const isTaken = this.#next(byte);
      if (isTaken === null) {
        yield this.#fail(`unexpected ${JSON.stringify(String.fromCharCode(byte))}`);
      } else if (isTaken) {
        i += 1;
      }
    }
  }

  /** At the end of the input. */
  *end(): Generator<Piece> {
    if (this.#state === 'in value' && this.#isScalar && this.#purpose === 'row') {
      this.#state = this.#stateAfter;
      const piece = this.#endValue();
      if (piece !== null) yield piece;
    }
    const state = this.#state;
    if (state === 'start' || state === 'next row' || state === 'end' || state === 'ignore') return;
    if (state === 'in value') this.#line = this.#valueLine;
    yield this.#fail(state === 'in value' ? 'the input ends within this value' : 'the input ends too early');
  }

  /** Takes one byte between values: true if it is used up, false if it begins a value, null if it may not stand here. */
  #next(byte: number): boolean | null {
    switch (this.#state) {
      case 'start':
        if (byte === openBracket) return this.#go('element or ]');
        return this.#beginValue(byte, 'row', 'next row');
      case 'next row':
        return this.#beginValue(byte, 'row', 'next row');
      case 'element or ]':
        if (byte === closeBracket) return this.#go(this.#path.length === 0 ? 'end' : 'ignore');
        return this.#beginValue(byte, 'row', 'comma or ]');
      case 'element':
        return this.#beginValue(byte, 'row', 'comma or ]');
      case 'comma or ]':
        if (byte === closeBracket) return this.#go(this.#path.length === 0 ? 'end' : 'ignore');
        return byte === comma ? this.#go('element') : null;
      case 'object':
        return byte === openBrace ? this.#go('name or }') : null;
      case 'name or }':
      case 'name':
        // A } here also ends the search: the name is not in the object.
        return byte === quote ? this.#beginValue(byte, 'name', 'colon') : null;
      case 'colon':
        if (byte !== colon) return null;
        if (!this.#isNameWanted) return this.#go('value to skip');
        return this.#go(this.#matched === this.#path.length ? 'array' : 'object');
      case 'array':
        if (byte !== openBracket) return null;
        this.#isSearching = false;
        return this.#go('element or ]');
      case 'value to skip':
        return this.#beginValue(byte, 'skip', 'comma or }');
      case 'comma or }':
        return byte === comma ? this.#go('name') : null;
      case 'in value':
      case 'end':
      case 'ignore':
        return null;
    }
  }

  #go(state: State): true {
    this.#state = state;
    return true;
  }

  #beginValue(byte: number, purpose: Purpose, stateAfter: State): false | null {
    if (byte === comma || byte === colon || byte === closeBracket || byte === closeBrace) return null;
    this.#state = 'in value';
    this.#purpose = purpose;
    this.#stateAfter = stateAfter;
    this.#valueLine = this.#line;
    this.#depth = 0;
    this.#isString = false;
    this.#isEscaped = false;
    this.#isScalar = byte !== quote && byte !== openBrace && byte !== openBracket;
    this.#pieces = [];
    this.#heldBytes = 0;
    return false;
  }

  /** Goes on through a value; leaves the state `in value` when it has ended. Gives the position after it. */
  #passValue(chunk: Buffer, start: number): number {
    let i = start;
    let depth = this.#depth;
    let isString = this.#isString;
    let isEscaped = this.#isEscaped;
    let hasEnded = false;
    while (i < chunk.length && !hasEnded) {
      const byte = chunk[i];
      if (isString) {
        if (isEscaped) isEscaped = false;
        else if (byte === backslash) isEscaped = true;
        else if (byte === quote) {
          isString = false;
          hasEnded = depth === 0;
        } else if (byte === lineFeed) this.#line += 1;
      } else if (this.#isScalar) {
        if (isJsonSpace(byte) || isSeparator(byte)) {
          this.#state = this.#stateAfter;
          return i;
        }
      } else if (byte === quote) isString = true;
      else if (byte === openBrace || byte === openBracket) depth += 1;
      else if (byte === closeBrace || byte === closeBracket) {
        depth -= 1;
        hasEnded = depth === 0;
      } else if (byte === lineFeed) this.#line += 1;
      i += 1;
    }
    this.#depth = depth;
    this.#isString = isString;
    this.#isEscaped = isEscaped;
    if (hasEnded) this.#state = this.#stateAfter;
    return i;
  }

  /** Keeps a part of the value, unless nobody needs it or it has become too large. */
  #hold(chunk: Buffer, start: number, end: number): void {
    if (this.#purpose === 'skip') return;
    this.#heldBytes += end - start;
    if (this.#heldBytes > rowBytesMax) this.#pieces = [];
    else this.#pieces.push(chunk.subarray(start, end));
  }

  #endValue(): Piece | null {
    const isTooLarge = this.#heldBytes > rowBytesMax;
    const [only] = this.#pieces;
    const bytes = this.#pieces.length === 1 && only !== undefined ? only : Buffer.concat(this.#pieces);
    this.#pieces = [];
    if (this.#purpose === 'row') {
      return isTooLarge
        ? { type: 'too_large', line: this.#valueLine }
        : { type: 'row', line: this.#valueLine, bytes };
    }
    if (this.#purpose === 'name') {
      this.#isNameWanted = !isTooLarge && nameOf(bytes) === this.#path[this.#matched];
      if (this.#isNameWanted) this.#matched += 1;
    }
    return null;
  }

  #fail(message: string): Piece {
    this.#state = 'ignore';
    const where = this.#isSearching ? `there is no array at ${this.#path.join('.')}: ` : '';
    return { type: 'bad_input', line: this.#line, message: `${where}${message}` };
  }
}

function isSeparator(byte: number | undefined): boolean {
  return (
    byte === comma ||
    byte === colon ||
    byte === quote ||
    byte === openBracket ||
    byte === closeBracket ||
    byte === openBrace ||
    byte === closeBrace
  );
}

/** The name that a JSON string stands for, or null if it is not valid JSON. */
function nameOf(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString());
  } catch {
    return null;
  }
}
