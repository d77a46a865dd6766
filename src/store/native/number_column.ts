// Columns of numbers of at most 32 bits, and Float64: one typed array that goes into the block as it is. Runs on sink
// threads.

import { type Column, initialRows } from './column.ts';

type NumberArray = Uint8Array | Uint16Array | Int32Array | Uint32Array | Float64Array;

/** Makes a typed array of a given number of elements. */
type MakeArray<A extends NumberArray> = (length: number) => A;

/** UInt8, UInt16, Int32, UInt32 or Float64. A value outside the type's range wraps as in the typed array. */
export class NumberColumn<A extends NumberArray = NumberArray> implements Column {
  readonly #make: MakeArray<A>;
  #values: A;
  #rows = 0;

  constructor(make: MakeArray<A>) {
    this.#make = make;
    this.#values = make(initialRows);
  }

  get rows(): number {
    return this.#rows;
  }

  get bytes(): number {
    return this.#rows * this.#values.BYTES_PER_ELEMENT;
  }

  append(value: number): void {
    if (this.#rows === this.#values.length) this.#grow();
    this.#values[this.#rows] = value;
    this.#rows += 1;
  }

  truncate(rows: number): void {
    if (rows < this.#rows) this.#rows = rows;
  }

  reset(): void {
    this.#rows = 0;
  }

  writeTo(pieces: Uint8Array[]): void {
    pieces.push(new Uint8Array(this.#values.buffer, 0, this.bytes));
  }

  #grow(): void {
    const larger = this.#make(this.#values.length * 2);
    larger.set(this.#values);
    this.#values = larger;
  }
}
