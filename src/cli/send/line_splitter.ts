// Tells the lines of NDJSON apart while it streams in. Only one line is held at a time; a bad line costs only itself.

import type { Piece } from './json_splitter.ts';
import { rowBytesMax } from './row.ts';

const lineFeed = 0x0a;

export class LineSplitter {
  #line = 1;
  #pieces: Buffer[] = [];
  #heldBytes = 0;

  *push(chunk: Buffer): Generator<Piece> {
    let start = 0;
    for (;;) {
      const end = chunk.indexOf(lineFeed, start);
      this.#hold(chunk.subarray(start, end < 0 ? chunk.length : end));
      if (end < 0) return;
      yield* this.end();
      this.#line += 1;
      start = end + 1;
    }
  }

  /** Gives the line held so far, unless it is blank. */
  *end(): Generator<Piece> {
    const line = this.#line;
    const isTooLarge = this.#heldBytes > rowBytesMax;
    const bytes = Buffer.concat(this.#pieces);
    this.#pieces = [];
    this.#heldBytes = 0;
    if (isTooLarge) yield { type: 'too_large', line };
    else if (!isBlank(bytes)) yield { type: 'row', line, bytes };
  }

  #hold(bytes: Buffer): void {
    this.#heldBytes += bytes.length;
    if (this.#heldBytes > rowBytesMax) this.#pieces = [];
    else this.#pieces.push(bytes);
  }
}

function isBlank(bytes: Buffer): boolean {
  // Every kind of blank in ASCII is at most a space; a control character is found out by parsing.
  for (const byte of bytes) if (byte > 0x20) return false;
  return true;
}
