// The number of a process among those of its kind, where nobody gave it one: such that processes that are started side
// by side mostly get numbers that follow each other, and the same process gets the same one when it starts again.

import { murmur2 } from '../event/partition.ts';

/** Numbers are below this; so are ports. */
const ordinals = 65_536;

/**
 * From the digits that the host's name ends in (ess-sink-3), or else from all of it (a hash), and from the port, by
 * which processes on one host differ. 0 to 65,535.
 */
export function automaticOrdinal(host: string, port: number): number {
  const digits = /(\d{1,9})$/.exec(host)?.[1];
  const base = digits === undefined ? murmur2(Buffer.from(host)) >>> 0 : Number(digits);
  return (base + port) % ordinals;
}
