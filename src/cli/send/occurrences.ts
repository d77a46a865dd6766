// Counts how often each row content has been seen, for --id-from-content: a hash table in one typed array, because a
// Map of strings would take five times the memory and end at 2^24 entries.

const wordsPerDigest = 4;
const wordsPerEntry = wordsPerDigest + 1;

/** Different contents that are counted at most: 20 bytes each in a table that is at most two thirds full. */
export const distinctRowsMax = 16_000_000;

export class Occurrences {
  #entries = new Uint32Array(1024 * wordsPerEntry);
  #capacity = 1024;
  #used = 0;
  readonly #limit: number;

  constructor(limit = distinctRowsMax) {
    this.#limit = limit;
  }

  /** Counts a digest, of which 16 bytes matter: 1 the first time, 2 the second; 0 if the table is full. */
  count(digest: Buffer): number {
    const words = [
      digest.readUInt32LE(0),
      digest.readUInt32LE(4),
      digest.readUInt32LE(8),
      digest.readUInt32LE(12),
    ];
    const at = this.#find(words);
    const seen = this.#entries[at + wordsPerDigest] ?? 0;
    if (seen === 0) {
      if (this.#used === this.#limit) return 0;
      this.#used += 1;
      this.#entries.set(words, at);
    }
    this.#entries[at + wordsPerDigest] = seen + 1;
    if (this.#used * 3 > this.#capacity * 2) this.#grow();
    return seen + 1;
  }

  /** The entry of the digest, or the free one where it belongs: a free entry has the count 0. */
  #find(words: ArrayLike<number>): number {
    const entries = this.#entries;
    let index = (words[0] ?? 0) & (this.#capacity - 1);
    for (;;) {
      const at = index * wordsPerEntry;
      if (entries[at + wordsPerDigest] === 0) return at;
      let isSame = true;
      for (let i = 0; i < wordsPerDigest; i += 1) isSame &&= entries[at + i] === words[i];
      if (isSame) return at;
      index = (index + 1) & (this.#capacity - 1);
    }
  }

  #grow(): void {
    const old = this.#entries;
    this.#capacity *= 2;
    this.#entries = new Uint32Array(this.#capacity * wordsPerEntry);
    for (let at = 0; at < old.length; at += wordsPerEntry) {
      if (old[at + wordsPerDigest] === 0) continue;
      const entry = old.subarray(at, at + wordsPerEntry);
      this.#entries.set(entry, this.#find(entry));
    }
  }
}
