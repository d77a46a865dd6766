// 64-bit numbers of the Kafka protocol (offsets, timestamps) as JavaScript numbers. Any thread.

const high = 2 ** 32;

/** The big-endian int64 at `position`; rounded beyond 2^53. */
export function readInt64(buffer: Buffer, position: number): number {
  return buffer.readInt32BE(position) * high + buffer.readUInt32BE(position + 4);
}

/** Writes a safe integer as a big-endian int64 at `position`. */
export function writeInt64(buffer: Buffer, value: number, position: number): void {
  const upper = Math.floor(value / high);
  buffer.writeInt32BE(upper, position);
  buffer.writeUInt32BE(value - upper * high, position + 4);
}
