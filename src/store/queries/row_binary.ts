// A cursor over an answer in ClickHouse's RowBinary format: values follow each other without separators, integers
// little-endian, strings as LEB128 length and bytes. Runs on reader threads.

export class RowBinaryCursor {
  readonly #bytes: Buffer;
  #position = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get isAtEnd(): boolean {
    return this.#position >= this.#bytes.length;
  }

  uint8(): number {
    this.#position += 1;
    return this.#bytes.readUInt8(this.#position - 1);
  }

  uint16(): number {
    this.#position += 2;
    return this.#bytes.readUInt16LE(this.#position - 2);
  }

  int32(): number {
    this.#position += 4;
    return this.#bytes.readInt32LE(this.#position - 4);
  }

  uint32(): number {
    this.#position += 4;
    return this.#bytes.readUInt32LE(this.#position - 4);
  }

  uint64(): bigint {
    this.#position += 8;
    return this.#bytes.readBigUInt64LE(this.#position - 8);
  }

  int64(): bigint {
    this.#position += 8;
    return this.#bytes.readBigInt64LE(this.#position - 8);
  }

  float64(): number {
    this.#position += 8;
    return this.#bytes.readDoubleLE(this.#position - 8);
  }

  text(): string {
    return this.blob().toString('utf8');
  }

  /** The bytes of a string, as a view into the answer. */
  blob(): Buffer {
    const length = this.length();
    const start = this.#position;
    this.#position += length;
    return this.#bytes.subarray(start, this.#position);
  }

  /** The elements of an array, each read by `element`. */
  array<T>(element: () => T): T[] {
    return Array.from({ length: this.length() }, element);
  }

  /** Null, or what `value` reads. */
  nullable<T>(value: () => T): T | null {
    return this.uint8() === 0 ? value() : null;
  }

  /** LEB128: the length of a string or an array. */
  length(): number {
    let length = 0;
    let unit = 1;
    for (;;) {
      const byte = this.uint8();
      length += (byte & 0x7f) * unit;
      if (byte < 0x80) return length;
      unit *= 128;
    }
  }
}
