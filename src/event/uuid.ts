// UUID version 7 (RFC 9562): 48 bits of milliseconds, then random bits, so that ids made by ESS sort by time.

import { randomFillSync } from 'node:crypto';

const randomBytesPerId = 10;
const pool = Buffer.alloc(randomBytesPerId * 512);
let used = pool.length;

/** A new UUIDv7 for this moment (epoch milliseconds). */
export function uuidV7(nowMs: number): string {
  if (used === pool.length) {
    randomFillSync(pool);
    used = 0;
  }
  const time = nowMs.toString(16).padStart(12, '0');
  const random = pool.toString('hex', used, used + randomBytesPerId);
  used += randomBytesPerId;
  const variant = ((Number.parseInt(random.slice(3, 4), 16) & 0x3) | 0x8).toString(16);
  return `${time.slice(0, 8)}-${time.slice(8)}-7${random.slice(0, 3)}-${variant}${random.slice(4, 7)}-${random.slice(7, 19)}`;
}
