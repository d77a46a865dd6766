// Writes the body of a Kafka request: big-endian numbers, strings and arrays with their lengths before them. Producer
// and sink workers use one for each request; record batches are copied in whole.

import { EssError } from '../../../errors.ts';
import { unsignedVarintBytes, varintBytesMax, writeUnsignedVarint } from './varint.ts';

const initialBytes = 512;
const uuidBytes = 16;

export class RequestWriter {
  #buffer = Buffer.allocUnsafe(initialBytes);
  #used = 0;

  /** What was written; valid until the next write. */
  get bytes(): Buffer {
    return this.#buffer.subarray(0, this.#used);
  }

  boolean(value: boolean): void {
    this.int8(value ? 1 : 0);
  }

  int8(value: number): void {
    this.#used = this.#room(1).writeInt8(value, this.#used);
  }

  int16(value: number): void {
    this.#used = this.#room(2).writeInt16BE(value, this.#used);
  }

  int32(value: number): void {
    this.#used = this.#room(4).writeInt32BE(value, this.#used);
  }

  /** An int64 that is a safe integer. */
  int64(value: number): void {
    this.#used = this.#room(8).writeBigInt64BE(BigInt(value), this.#used);
  }

  string(value: string): void {
    const bytes = Buffer.byteLength(value);
    this.int16(bytes);
    this.#used += this.#room(bytes).write(value, this.#used);
  }

  nullString(): void {
    this.int16(-1);
  }

  /** Bytes with their length as an int32. */
  blob(value: Buffer): void {
    this.int32(value.length);
    this.#room(value.length).set(value, this.#used);
    this.#used += value.length;
  }

  /** A string of a flexible version. */
  compactString(value: string): void {
    const bytes = Buffer.byteLength(value);
    this.#unsigned(bytes + 1);
    this.#used += this.#room(bytes).write(value, this.#used);
  }

  /** The length of an array; its elements follow. */
  count(length: number): void {
    this.int32(length);
  }

  /** The length of an array of a flexible version; its elements follow. */
  compactCount(length: number): void {
    this.#unsigned(length + 1);
  }

  /** An identity of 32 hex digits. */
  uuid(hex: string): void {
    const bytes = Buffer.from(hex, 'hex');
    if (bytes.length !== uuidBytes) throw new EssError('internal', `${hex} is no identity of Kafka's`);
    this.#room(uuidBytes).set(bytes, this.#used);
    this.#used += uuidBytes;
  }

  /** The identity that stands for "none". */
  zeroUuid(): void {
    this.#room(uuidBytes).fill(0, this.#used, this.#used + uuidBytes);
    this.#used += uuidBytes;
  }

  /** The end of a structure of a flexible version: no tagged fields. */
  noTags(): void {
    this.int8(0);
  }

  #unsigned(value: number): void {
    this.#used = writeUnsignedVarint(this.#room(unsignedVarintBytes(value)), value, this.#used);
  }

  #room(bytes: number): Buffer {
    const needed = this.#used + bytes;
    if (needed > this.#buffer.length) {
      const larger = Buffer.allocUnsafe(Math.max(needed + varintBytesMax, this.#buffer.length * 2));
      larger.set(this.#buffer.subarray(0, this.#used));
      this.#buffer = larger;
    }
    return this.#buffer;
  }
}
