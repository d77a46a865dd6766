// Columns of 64-bit integers: UInt64, Int64 and DateTime64(3). They are kept as pairs of 32-bit halves, because a
// BigInt for each row would be an allocation for each row. Runs on sink threads.

import { EssError } from '../../errors.ts';
import { type Column, initialRows } from './column.ts';

const halfRange = 2 ** 32;

class WideColumn implements Column {
  #words = new Uint32Array(initialRows * 2);
  #rows = 0;

  get rows(): number {
    return this.#rows;
  }

  get bytes(): number {
    return this.#rows * 8;
  }

  truncate(rows: number): void {
    if (rows < this.#rows) this.#rows = rows;
  }

  reset(): void {
    this.#rows = 0;
  }

  writeTo(pieces: Uint8Array[]): void {
    pieces.push(new Uint8Array(this.#words.buffer, 0, this.bytes));
  }

  /** Appends the value high * 2^32 + low; each half is taken modulo 2^32. */
  appendHalves(low: number, high: number): void {
    const at = this.#rows * 2;
    if (at === this.#words.length) this.#grow(1);
    this.#words[at] = low;
    this.#words[at + 1] = high;
    this.#rows += 1;
  }

  /** Appends a safe integer, in two's complement when negative. */
  protected appendInteger(value: number): void {
    // Dividing by a power of two is exact, so the floor is that of the true quotient; the low half is what a
    // conversion to 32 bits leaves anyway.
    this.appendHalves(value, Math.floor(value / halfRange));
  }

  /** Appends the same safe integer `count` times. */
  protected appendIntegerRepeated(value: number, count: number): void {
    if ((this.#rows + count) * 2 > this.#words.length) this.#grow(count);
    new BigInt64Array(this.#words.buffer, this.#rows * 8, count).fill(BigInt(value));
    this.#rows += count;
  }

  #grow(rows: number): void {
    let length = this.#words.length * 2;
    while (length < (this.#rows + rows) * 2) length *= 2;
    const larger = new Uint32Array(length);
    larger.set(this.#words);
    this.#words = larger;
  }
}

export class UInt64Column extends WideColumn {
  /** Appends a safe integer of at least 0; anything else throws `internal` and appends nothing. */
  append(value: number): void {
    if (!(Number.isSafeInteger(value) && value >= 0))
      throw new EssError('internal', `not a UInt64 within 2^53: ${value}`);
    this.appendInteger(value);
  }
}

export class Int64Column extends WideColumn {
  /** Appends a safe integer; anything else throws `internal` and appends nothing. */
  append(value: number): void {
    if (!Number.isSafeInteger(value)) throw new EssError('internal', `not an Int64 within 2^53: ${value}`);
    this.appendInteger(value);
  }
}

/** Range of DateTime64(3): 1900-01-01T00:00:00.000Z to 2299-12-31T23:59:59.999Z, in epoch milliseconds. */
export const dateTime64MsMin = Date.UTC(1900, 0, 1);
export const dateTime64MsMax = Date.UTC(2300, 0, 1) - 1;

/** True if DateTime64(3) can hold this time; false for NaN. */
export function isDateTime64Ms(timeMs: number): boolean {
  return timeMs >= dateTime64MsMin && timeMs <= dateTime64MsMax;
}

function assertDateTime64(timeMs: number): void {
  if (!isDateTime64Ms(timeMs))
    throw new EssError('internal', `not a time within 1900-2299: ${timeMs} ms since 1970`);
}

export class DateTime64Column extends WideColumn {
  /** Appends epoch milliseconds, rounded down; a time outside 1900-2299 throws `internal` and appends nothing. */
  append(timeMs: number): void {
    assertDateTime64(timeMs);
    this.appendInteger(Math.floor(timeMs));
  }

  /** Appends the same epoch milliseconds `count` times; bounds as `append`. */
  appendRepeated(timeMs: number, count: number): void {
    assertDateTime64(timeMs);
    this.appendIntegerRepeated(Math.floor(timeMs), count);
  }
}
