// A String column: the parts with their lengths, already in the layout of the block. Runs on sink threads; bytes go
// from the packed record into the block without ever becoming a JavaScript string.

import { ByteBuffer } from './byte_buffer.ts';
import { type Column, initialRows } from './column.ts';

const initialBytes = 16 * 1024;

export class StringColumn implements Column {
  readonly #data = new ByteBuffer(initialBytes);
  /** Position in the data behind each row, which is what `truncate` needs. */
  #ends = new Uint32Array(initialRows);
  #rows = 0;

  get rows(): number {
    return this.#rows;
  }

  get bytes(): number {
    return this.#data.used;
  }

  /** Appends `source[start, end)`, which has to be UTF-8. */
  append(source: Uint8Array, start: number, end: number): void {
    this.#data.appendSized(source, start, end);
    this.#endRow();
  }

  /** Appends a text as UTF-8; a lone surrogate becomes U+FFFD. */
  appendText(text: string): void {
    this.#data.appendSizedText(text);
    this.#endRow();
  }

  truncate(rows: number): void {
    if (rows >= this.#rows) return;
    this.#data.truncate(rows === 0 ? 0 : (this.#ends[rows - 1] ?? 0));
    this.#rows = rows;
  }

  reset(): void {
    this.truncate(0);
  }

  writeTo(pieces: Uint8Array[]): void {
    pieces.push(this.#data.content);
  }

  #endRow(): void {
    if (this.#rows === this.#ends.length) {
      const larger = new Uint32Array(this.#ends.length * 2);
      larger.set(this.#ends);
      this.#ends = larger;
    }
    this.#ends[this.#rows] = this.#data.used;
    this.#rows += 1;
  }
}
