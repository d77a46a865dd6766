// CRC-32C (Castagnoli), which guards every Kafka record batch. Producer workers run it over all that they send, sink
// workers over all that they fetch, so it takes sixteen bytes a step.

const polynomial = 0x82f63b78;
const stepBytes = 16;
const entries = 256;

// Sixteen tables in one: entry n * 256 + byte is what that byte does to the sum when n bytes of the step follow it
// ("slicing by 16").
const table = new Int32Array(stepBytes * entries);
for (let byte = 0; byte < entries; byte += 1) {
  let sum = byte;
  for (let bit = 0; bit < 8; bit += 1) sum = (sum & 1) === 1 ? (sum >>> 1) ^ polynomial : sum >>> 1;
  table[byte] = sum;
}
for (let index = entries; index < table.length; index += 1) {
  const before = at(index - entries);
  table[index] = (before >>> 8) ^ at(before & 0xff);
}

function at(index: number): number {
  return table[index] ?? 0;
}

/** The CRC-32C of the bytes from `start` to `end`, as a number from 0 to 2^32 - 1. */
export function crc32c(buffer: Buffer, start: number, end: number): number {
  const view = new DataView(buffer.buffer, buffer.byteOffset, buffer.length);
  let sum = -1;
  let position = start;
  for (; position + stepBytes <= end; position += stepBytes) {
    const a = sum ^ view.getInt32(position, true);
    const b = view.getInt32(position + 4, true);
    const c = view.getInt32(position + 8, true);
    const d = view.getInt32(position + 12, true);
    sum =
      at(3840 + (a & 0xff)) ^
      at(3584 + ((a >>> 8) & 0xff)) ^
      at(3328 + ((a >>> 16) & 0xff)) ^
      at(3072 + (a >>> 24)) ^
      at(2816 + (b & 0xff)) ^
      at(2560 + ((b >>> 8) & 0xff)) ^
      at(2304 + ((b >>> 16) & 0xff)) ^
      at(2048 + (b >>> 24)) ^
      at(1792 + (c & 0xff)) ^
      at(1536 + ((c >>> 8) & 0xff)) ^
      at(1280 + ((c >>> 16) & 0xff)) ^
      at(1024 + (c >>> 24)) ^
      at(768 + (d & 0xff)) ^
      at(512 + ((d >>> 8) & 0xff)) ^
      at(256 + ((d >>> 16) & 0xff)) ^
      at(d >>> 24);
  }
  for (; position < end; position += 1) sum = at((sum ^ view.getUint8(position)) & 0xff) ^ (sum >>> 8);
  return ~sum >>> 0;
}
