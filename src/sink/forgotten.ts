// What is left of identities that had to make room: a Bloom filter for each stretch of ingest time. It answers "may
// this identity have been stored in that time?"; a false "maybe" only costs a question to ClickHouse, a "no" is sure.
//
// Sizes: 32 bits for each identity that the exact set may hold, in each of the stretches that cover the retry window.
// At ten times as many identities as the set holds, spread over six stretches, about one "maybe" in 150 is false.

const bitsPerIdentity = 32;
/** The retry window is cut into this many stretches; one more begins before the window does. */
const stretchesPerWindow = 5;

interface Stretch {
  /** Which stretch of time: floor(ingest time / length). */
  index: number;
  readonly bits: Int32Array;
}

export class ForgottenIdentities {
  readonly #words: number;
  readonly #stretchMs: number;
  /** Newest last; made when first needed, reused when they no longer count. */
  readonly #stretches: Stretch[] = [];

  /** `capacity`: identities that the exact set holds; `windowMs`: how long an identity counts. */
  constructor(capacity: number, windowMs: number) {
    let words = 1;
    while (words * 32 < capacity * bitsPerIdentity) words *= 2;
    this.#words = words;
    this.#stretchMs = Math.max(1, Math.ceil(windowMs / stretchesPerWindow));
  }

  /** Notes an identity (four words of hash) that was stored at this ingest time, epoch ms. */
  add(hashes: Uint32Array, at: number, ingestTimeMs: number): void {
    const bits = this.#stretchOf(Math.floor(ingestTimeMs / this.#stretchMs)).bits;
    for (let i = at; i < at + 4; i += 1) {
      const bit = this.#bitOf(hashes[i] ?? 0);
      bits[bit >>> 5] = (bits[bit >>> 5] ?? 0) | (1 << (bit & 31));
    }
  }

  /** False if it was surely not noted with an ingest time at or after `sinceMs`. */
  mayHave(hash: Uint32Array, sinceMs: number): boolean {
    const first = Math.floor(sinceMs / this.#stretchMs);
    return this.#stretches.some((stretch) => stretch.index >= first && this.#isIn(stretch.bits, hash));
  }

  #isIn(bits: Int32Array, hash: Uint32Array): boolean {
    for (const word of hash) {
      const bit = this.#bitOf(word);
      if (((bits[bit >>> 5] ?? 0) & (1 << (bit & 31))) === 0) return false;
    }
    return true;
  }

  #bitOf(word: number): number {
    // The number of bits is a power of two of at most 2^32.
    return (word & (this.#words * 32 - 1)) >>> 0;
  }

  #stretchOf(index: number): Stretch {
    let oldest: Stretch | undefined;
    for (const stretch of this.#stretches) {
      if (stretch.index === index) return stretch;
      if (oldest === undefined || stretch.index < oldest.index) oldest = stretch;
    }
    // One more than the window's, because the window seldom begins where a stretch does, and one for times that are
    // not quite in order.
    if (oldest === undefined || this.#stretches.length < stretchesPerWindow + 2) {
      const stretch = { index, bits: new Int32Array(this.#words) };
      this.#stretches.push(stretch);
      return stretch;
    }
    // A time before all stretches is out of every window already: it may as well be noted in the oldest.
    if (index < oldest.index) return oldest;
    oldest.index = index;
    oldest.bits.fill(0);
    return oldest;
  }
}
