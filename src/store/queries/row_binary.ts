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

  uint16(): number {
    this.#position += 2;
    return this.#bytes.readUInt16LE(this.#position - 2);
  }

  int32(): number {
    this.#position += 4;
    return this.#bytes.readInt32LE(this.#position - 4);
  }

  uint64(): bigint {
    this.#position += 8;
    return this.#bytes.readBigUInt64LE(this.#position - 8);
  }

  int64(): bigint {
    this.#position += 8;
    return this.#bytes.readBigInt64LE(this.#position - 8);
  }

  text(): string {
    return this.blob().toString('utf8');
  }

  /** The bytes of a string, as a view into the answer. */
  blob(): Buffer {
    let length = 0;
    let unit = 1;
    for (;;) {
      const byte = this.#bytes.readUInt8(this.#position);
      this.#position += 1;
      length += (byte & 0x7f) * unit;
      if (byte < 0x80) break;
      unit *= 128;
    }
    const start = this.#position;
    this.#position += length;
    return this.#bytes.subarray(start, this.#position);
  }
}
