// Variable-length integers of the Kafka protocol: seven bits a byte, the lowest first, the top bit says that more
// follow. Inside record batches they are signed by zigzag, in flexible requests unsigned. Producer and sink workers
// run this for every record, so a varint longer than 32 bits takes a slower path of its own.

/** Longest varint of 32 bits, bytes. */
export const varintBytesMax = 5;
/** Longest varint of 64 bits, bytes. */
export const varlongBytesMax = 10;

/** Bytes of an int32 written as a zigzag varint. */
export function varintBytes(value: number): number {
  return unsignedVarintBytes((value << 1) ^ (value >> 31));
}

/** Bytes of a uint32 written as a varint. A negative number counts as its unsigned 32 bits. */
export function unsignedVarintBytes(value: number): number {
  const bits = value >>> 0;
  if (bits < 0x80) return 1;
  if (bits < 0x4000) return 2;
  if (bits < 0x20_0000) return 3;
  return bits < 0x1000_0000 ? 4 : 5;
}

/** Bytes of a safe integer written as a zigzag varlong. */
export function varlongBytes(value: number): number {
  if (value === (value | 0)) return varintBytes(value);
  let rest = zigzag(value);
  let bytes = 1;
  while (rest >= 0x80n) {
    rest >>= 7n;
    bytes += 1;
  }
  return bytes;
}

/** Writes an int32 as a zigzag varint at `position`; gives the position after it. */
export function writeVarint(buffer: Buffer, value: number, position: number): number {
  return writeUnsignedVarint(buffer, (value << 1) ^ (value >> 31), position);
}

/** Writes a uint32 (or the unsigned 32 bits of an int32) as a varint at `position`; gives the position after it. */
export function writeUnsignedVarint(buffer: Buffer, value: number, position: number): number {
  let rest = value >>> 0;
  let end = position;
  while (rest >= 0x80) {
    buffer[end] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
    end += 1;
  }
  buffer[end] = rest;
  return end + 1;
}

/** Writes a safe integer as a zigzag varlong at `position`; gives the position after it. */
export function writeVarlong(buffer: Buffer, value: number, position: number): number {
  if (value === (value | 0)) return writeVarint(buffer, value, position);
  let rest = zigzag(value);
  let end = position;
  while (rest >= 0x80n) {
    buffer[end] = Number(rest & 0x7fn) | 0x80;
    rest >>= 7n;
    end += 1;
  }
  buffer[end] = Number(rest);
  return end + 1;
}

function zigzag(value: number): bigint {
  const wide = BigInt(value);
  return BigInt.asUintN(64, (wide << 1n) ^ (wide >> 63n));
}

/**
 * Reads varints one after the other. A varint that runs past `end` or is too long sets `isBroken`, once and for all;
 * what is read then is 0. So a caller may read several and look once.
 */
export class VarintReader {
  buffer: Buffer = Buffer.alloc(0);
  position = 0;
  end = 0;
  isBroken = false;

  open(buffer: Buffer, position: number, end: number): void {
    this.buffer = buffer;
    this.position = position;
    this.end = end;
    this.isBroken = false;
  }

  /** A zigzag varint of 32 bits. */
  int(): number {
    const bits = this.unsigned();
    return (bits >>> 1) ^ -(bits & 1);
  }

  /** A varint of 32 bits, as a number from 0 to 2^32 - 1. */
  unsigned(): number {
    const { buffer, end } = this;
    let { position } = this;
    let bits = 0;
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = position < end ? buffer[position] : undefined;
      if (byte === undefined) break;
      position += 1;
      bits |= (byte & 0x7f) << shift;
      if (byte < 0x80) {
        // The fifth byte has room for four bits only.
        if (shift === 28 && byte > 0x0f) break;
        this.position = position;
        return bits >>> 0;
      }
    }
    this.isBroken = true;
    return 0;
  }

  /** A zigzag varlong; rounded beyond 2^53. */
  long(): number {
    const start = this.position;
    const first = start < this.end ? this.buffer[start] : undefined;
    const second = start + 1 < this.end ? this.buffer[start + 1] : undefined;
    if (first !== undefined && first < 0x80) {
      this.position = start + 1;
      return (first >>> 1) ^ -(first & 1);
    }
    if (first !== undefined && second !== undefined && second < 0x80) {
      this.position = start + 2;
      const bits = (first & 0x7f) | (second << 7);
      return (bits >>> 1) ^ -(bits & 1);
    }
    return this.#longer();
  }

  #longer(): number {
    let bits = 0n;
    let { position } = this;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = position < this.end ? this.buffer[position] : undefined;
      if (byte === undefined) break;
      position += 1;
      bits |= BigInt(byte & 0x7f) << shift;
      if (byte >= 0x80) continue;
      if (bits > 0xffff_ffff_ffff_ffffn) break;
      this.position = position;
      return Number((bits >> 1n) ^ -(bits & 1n));
    }
    this.isBroken = true;
    return 0;
  }
}
