// Reads the body of a Kafka answer. Every read checks the end of the bytes and every count is checked against what
// is left, so that a short or odd answer is an EssError `internal` and never a hang. Producer and sink workers use it.

import { EssError } from '../../../errors.ts';
import { readInt64 } from './int64.ts';
import { VarintReader } from './varint.ts';

const uuidBytes = 16;

export class ResponseReader {
  readonly #buffer: Buffer;
  readonly #name: string;
  #position = 0;

  /** `name` is the request's, for the text of errors. */
  constructor(buffer: Buffer, name: string) {
    this.#buffer = buffer;
    this.#name = name;
  }

  int8(): number {
    return this.#buffer.readInt8(this.#take(1));
  }

  int16(): number {
    return this.#buffer.readInt16BE(this.#take(2));
  }

  int32(): number {
    return this.#buffer.readInt32BE(this.#take(4));
  }

  /** An int64 that must be a safe integer. */
  int64(): number {
    const value = readInt64(this.#buffer, this.#take(8));
    if (!Number.isSafeInteger(value)) throw this.#odd('a number is beyond 2^53');
    return value;
  }

  /** Any int64. */
  wideInt64(): bigint {
    return this.#buffer.readBigInt64BE(this.#take(8));
  }

  boolean(): boolean {
    return this.int8() !== 0;
  }

  string(): string {
    return this.#text(this.int16()) ?? this.#missing();
  }

  /** Bytes with their length as an int32, as a view; none where they are null. */
  blob(): Buffer {
    const bytes = this.int32();
    if (bytes === -1) return this.#buffer.subarray(0, 0);
    const start = this.#take(bytes);
    return this.#buffer.subarray(start, start + bytes);
  }

  /** Bytes of a flexible version, as a view; none where they are null. */
  compactBlob(): Buffer {
    const bytes = this.#unsigned() - 1;
    if (bytes === -1) return this.#buffer.subarray(0, 0);
    const start = this.#take(bytes);
    return this.#buffer.subarray(start, start + bytes);
  }

  /** A string of a flexible version. */
  compactString(): string {
    return this.compactNullableString() ?? this.#missing();
  }

  compactNullableString(): string | null {
    return this.#text(this.#unsigned() - 1);
  }

  /** 16 bytes as 32 hex digits. */
  uuid(): string {
    const start = this.#take(uuidBytes);
    return this.#buffer.toString('hex', start, start + uuidBytes);
  }

  /** An array; null is empty. */
  array<T>(element: () => T): T[] {
    return this.#array(this.int32(), element);
  }

  /** An array of a flexible version; null is empty. */
  compactArray<T>(element: () => T): T[] {
    return this.#array(this.#unsigned() - 1, element);
  }

  /** Tagged fields at the end of a structure of a flexible version; none is of use to us. */
  skipTags(): void {
    let count = this.#unsigned();
    while (count > 0) {
      this.#unsigned();
      this.#take(this.#unsigned());
      count -= 1;
    }
  }

  /** Throws if anything is left over. */
  end(): void {
    if (this.#position !== this.#buffer.length) throw this.#odd('bytes are left over');
  }

  #array<T>(count: number, element: () => T): T[] {
    if (count === -1) return [];
    // Every element has at least one byte.
    if (count < 0 || count > this.#buffer.length - this.#position)
      throw this.#odd('a count is out of bounds');
    const list: T[] = [];
    for (let i = 0; i < count; i += 1) list.push(element());
    return list;
  }

  #text(bytes: number): string | null {
    if (bytes === -1) return null;
    const start = this.#take(bytes);
    return this.#buffer.toString('utf8', start, start + bytes);
  }

  #unsigned(): number {
    const reader = new VarintReader();
    reader.open(this.#buffer, this.#position, this.#buffer.length);
    const value = reader.unsigned();
    if (reader.isBroken) throw this.#odd('a varint is broken');
    this.#position = reader.position;
    return value;
  }

  /** Moves over `bytes` and gives where they start. */
  #take(bytes: number): number {
    const start = this.#position;
    if (bytes < 0 || bytes > this.#buffer.length - start) throw this.#odd('it is cut short');
    this.#position = start + bytes;
    return start;
  }

  #missing(): never {
    throw this.#odd('a text is missing');
  }

  #odd(what: string): EssError {
    return new EssError('internal', `answer to ${this.#name}: ${what} at byte ${this.#position}`);
  }
}
