// A request body that comes in several pieces, kept until it is whole. Main thread only.

/**
 * Room that is made ahead for further pieces, bytes: as much again as there is, so that at most twice the body is
 * held, but no more than this.
 */
const roomBytesMin = 256;
const roomBytesMax = 64 * 1024;

export class PartialBody {
  readonly #parts: Buffer[] = [];
  /** Bytes used of the last part; all others are full. */
  #lastUsed = 0;
  #bytes = 0;

  /** Bytes that have come so far. */
  get bytes(): number {
    return this.#bytes;
  }

  /**
   * Copies one more piece, whose memory uWebSockets.js takes away afterwards. Small ones share a part: a body that is
   * sent byte by byte must not cost an object for each byte.
   */
  add(piece: Uint8Array): void {
    this.#bytes += piece.length;
    let taken = 0;
    const last = this.#parts.at(-1);
    if (last !== undefined) {
      taken = Math.min(piece.length, last.length - this.#lastUsed);
      last.set(piece.subarray(0, taken), this.#lastUsed);
      this.#lastUsed += taken;
    }
    if (taken === piece.length) return;
    const rest = piece.subarray(taken);
    const part = Buffer.allocUnsafeSlow(
      Math.max(rest.length, roomBytesMin, Math.min(this.#bytes, roomBytesMax)),
    );
    part.set(rest);
    this.#parts.push(part);
    this.#lastUsed = rest.length;
  }

  /** Writes everything that has come to `target`; gives the position behind it. */
  copyTo(target: Uint8Array, position: number): number {
    let at = position;
    for (const [i, part] of this.#parts.entries()) {
      const used = i === this.#parts.length - 1 ? part.subarray(0, this.#lastUsed) : part;
      target.set(used, at);
      at += used.length;
    }
    return at;
  }

  /** Forgets everything. */
  clear(): void {
    if (this.#bytes === 0) return;
    this.#parts.length = 0;
    this.#lastUsed = 0;
    this.#bytes = 0;
  }
}
