// Where decompressed records go: one growing buffer for each thread, bounded. Sink workers fill it batch after batch.

/**
 * Most bytes that one batch may expand to. Brokers take batches of about 1 MiB by default; this leaves room for
 * brokers set up for far larger ones, and no room for a batch made to exhaust the memory.
 */
export const expandedBytesMax = 256 * 1024 * 1024;
/** A buffer that had to grow beyond this is let go with the next batch. */
const keptBytesMax = 8 * 1024 * 1024;
const initialBytes = 64 * 1024;
/** Up to here a loop is faster than a call. */
const loopBytesMax = 64;

export class Expanded {
  buffer = Buffer.allocUnsafeSlow(initialBytes);
  used = 0;
  readonly #bytesMax: number;

  constructor(bytesMax = expandedBytesMax) {
    this.#bytesMax = bytesMax;
  }

  /** Valid until the next `reset`. */
  get bytes(): Buffer {
    return this.buffer.subarray(0, this.used);
  }

  reset(): void {
    this.used = 0;
    if (this.buffer.length > keptBytesMax) this.buffer = Buffer.allocUnsafeSlow(initialBytes);
  }

  /** Makes room for `bytes` more after `used`; false if that is beyond the bound. */
  tryRoom(bytes: number): boolean {
    const needed = this.used + bytes;
    if (needed <= this.buffer.length) return true;
    if (needed > this.#bytesMax) return false;
    const larger = Buffer.allocUnsafeSlow(Math.min(this.#bytesMax, Math.max(needed, this.buffer.length * 2)));
    larger.set(this.bytes);
    this.buffer = larger;
    return true;
  }

  /** Appends bytes; false if that is beyond the bound. */
  tryAppend(source: Uint8Array): boolean {
    if (!this.tryRoom(source.length)) return false;
    this.buffer.set(source, this.used);
    this.used += source.length;
    return true;
  }

  /** Repeats `bytes` from `distance` bytes ago, for which there must be room; the runs may overlap. */
  repeat(distance: number, bytes: number): void {
    const { buffer, used } = this;
    this.used = used + bytes;
    if (bytes <= loopBytesMax) {
      for (let i = used; i < used + bytes; i += 1) buffer[i] = buffer[i - distance] ?? 0;
      return;
    }
    // What is there already is a whole number of repeats, so that it may be copied as one, and is twice as long then.
    for (let done = 0; done < bytes; ) {
      const run = Math.min(distance + done, bytes - done);
      buffer.copyWithin(used + done, used - distance, used - distance + run);
      done += run;
    }
  }
}
