// The identities (source, id) that a partition stored lately, as 128-bit hashes: how a client's retry is noticed
// before it becomes a row. Bounded: when it is full the oldest go into a filter (forgotten.ts), and what the filter
// may have seen is asked of ClickHouse (partition.ts).
//
// The hash follows MurmurHash3_x86_128 (the last block is padded instead of mixed apart). Its seeds are random for
// each process, so that nobody can make an id on purpose that hides another one. At a billion identities the chance
// of any accidental collision is below 1e-20.

import { ForgottenIdentities } from './forgotten.ts';

const seeds = crypto.getRandomValues(new Uint32Array(4));

const capacityAtFirst = 1024;
/** Words of a hash. */
const words = 4;

/** A hash, filled by `hashIdentity`. */
export const identityHash = new Uint32Array(words);

/** Hashes an identity given by the byte ranges of its id and source into `identityHash`. */
export function hashIdentity(
  bytes: Uint8Array,
  idStart: number,
  idEnd: number,
  sourceStart: number,
  sourceEnd: number,
): void {
  identityHash.set(seeds);
  mix(bytes, idStart, idEnd);
  // The source is hashed on top of the id's hash: lengths are mixed in, so that ("a", "bc") is not ("ab", "c").
  if (sourceEnd > sourceStart) mix(bytes, sourceStart, sourceEnd);
}

function rotate(x: number, bits: number): number {
  return (x << bits) | (x >>> (32 - bits));
}

function finish(h: number): number {
  let x = h;
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return x ^ (x >>> 16);
}

/** Hashes a byte range with the current `identityHash` as the four seeds. */
function mix(bytes: Uint8Array, start: number, end: number): void {
  const c1 = 0x239b961b;
  const c2 = 0xab0e9789;
  const c3 = 0x38b34ae5;
  const c4 = 0xa1e38b93;
  let h1 = identityHash[0] ?? 0;
  let h2 = identityHash[1] ?? 0;
  let h3 = identityHash[2] ?? 0;
  let h4 = identityHash[3] ?? 0;
  const length = end - start;
  let i = start;
  // Missing bytes of the last block count as zero; the length, mixed in below, tells them from real zeros.
  while (i < end) {
    let k1 = word(bytes, i, end);
    let k2 = word(bytes, i + 4, end);
    let k3 = word(bytes, i + 8, end);
    let k4 = word(bytes, i + 12, end);
    k1 = Math.imul(rotate(Math.imul(k1, c1), 15), c2);
    h1 = (Math.imul(rotate(h1 ^ k1, 19) + h2, 5) + 0x561ccd1b) | 0;
    k2 = Math.imul(rotate(Math.imul(k2, c2), 16), c3);
    h2 = (Math.imul(rotate(h2 ^ k2, 17) + h3, 5) + 0x0bcaa747) | 0;
    k3 = Math.imul(rotate(Math.imul(k3, c3), 17), c4);
    h3 = (Math.imul(rotate(h3 ^ k3, 15) + h4, 5) + 0x96cd1c35) | 0;
    k4 = Math.imul(rotate(Math.imul(k4, c4), 18), c1);
    h4 = (Math.imul(rotate(h4 ^ k4, 13) + h1, 5) + 0x32ac3b17) | 0;
    i += 16;
  }
  h1 ^= length;
  h2 ^= length;
  h3 ^= length;
  h4 ^= length;
  h1 = (h1 + h2 + h3 + h4) | 0;
  h2 = (h2 + h1) | 0;
  h3 = (h3 + h1) | 0;
  h4 = (h4 + h1) | 0;
  h1 = finish(h1);
  h2 = finish(h2);
  h3 = finish(h3);
  h4 = finish(h4);
  h1 = (h1 + h2 + h3 + h4) | 0;
  identityHash[0] = h1;
  identityHash[1] = h2 + h1;
  identityHash[2] = h3 + h1;
  identityHash[3] = h4 + h1;
}

function word(bytes: Uint8Array, at: number, end: number): number {
  if (at + 4 <= end) {
    return (
      (bytes[at] ?? 0) |
      ((bytes[at + 1] ?? 0) << 8) |
      ((bytes[at + 2] ?? 0) << 16) |
      ((bytes[at + 3] ?? 0) << 24)
    );
  }
  let value = 0;
  for (let i = at, shift = 0; i < end; i += 1, shift += 8) value |= (bytes[i] ?? 0) << shift;
  return value;
}

/** A bounded first-in-first-out set of hashes, each with the ingest time of the stored event. */
export class Identities {
  readonly #capacityMax: number;
  /** Entries in a circle: `#count` of them from `#oldest` on. */
  #hashes = new Uint32Array(capacityAtFirst * words);
  #times = new Float64Array(capacityAtFirst);
  #capacity = capacityAtFirst;
  #oldest = 0;
  #count = 0;
  /** Open addressing with linear probing; holds entry positions + 1, 0 for free. Twice as large as the circle. */
  #table = new Int32Array(capacityAtFirst * 2);
  #completeSinceMs = Number.NEGATIVE_INFINITY;
  #filterSinceMs = Number.NEGATIVE_INFINITY;
  readonly #forgotten: ForgottenIdentities;

  /** `capacityMax`: most identities held, at least 1,024; `windowMs`: how long an identity counts. */
  constructor(capacityMax: number, windowMs: number) {
    this.#capacityMax = Math.max(capacityAtFirst, capacityMax);
    this.#forgotten = new ForgottenIdentities(this.#capacityMax, windowMs);
  }

  get count(): number {
    return this.#count;
  }

  /** Most identities held. */
  get capacityMax(): number {
    return this.#capacityMax;
  }

  /** Every identity stored at or after this ingest time (epoch ms) is known here. */
  get completeSinceMs(): number {
    return this.#completeSinceMs;
  }

  /** Declares that nothing is known of what was stored before this ingest time. */
  forgetBefore(ingestTimeMs: number): void {
    this.#completeSinceMs = Math.max(this.#completeSinceMs, ingestTimeMs);
    this.#filterSinceMs = Math.max(this.#filterSinceMs, ingestTimeMs);
  }

  /**
   * True if the identity in `identityHash`, which `find` does not know, may have been stored at or after this ingest
   * time all the same: only the store can tell.
   */
  mayBeForgotten(sinceMs: number): boolean {
    if (this.#completeSinceMs <= sinceMs) return false;
    return this.#filterSinceMs > sinceMs || this.#forgotten.mayHave(identityHash, sinceMs);
  }

  /** Latest ingest time of the identity in `identityHash`, or NaN if it is not here. */
  find(): number {
    const mask = this.#table.length - 1;
    let at = (identityHash[0] ?? 0) & mask;
    let latest = Number.NaN;
    for (;;) {
      const entry = (this.#table[at] ?? 0) - 1;
      if (entry < 0) return latest;
      if (this.#isEqual(entry)) {
        const time = this.#times[entry] ?? Number.NaN;
        if (!(time <= latest)) latest = time;
      }
      at = (at + 1) & mask;
    }
  }

  /** Adds the identity in `identityHash`; an older entry of the same identity stays beside it until it goes. */
  add(ingestTimeMs: number): void {
    if (this.#count === this.#capacity) {
      if (this.#capacity < this.#capacityMax) this.#grow();
      else this.#dropOldest(true);
    }
    const entry = (this.#oldest + this.#count) % this.#capacity;
    this.#hashes.set(identityHash, entry * words);
    this.#times[entry] = ingestTimeMs;
    this.#count += 1;
    this.#index(entry);
  }

  /** Drops the oldest entries that are from before this ingest time: they no longer count. */
  expireBefore(ingestTimeMs: number): void {
    while (this.#count > 0 && (this.#times[this.#oldest] ?? 0) < ingestTimeMs) this.#dropOldest(false);
  }

  /** Takes back the newest `count` entries: their rows were not stored. */
  takeBack(count: number): void {
    for (let i = 0; i < count && this.#count > 0; i += 1) {
      const entry = (this.#oldest + this.#count - 1) % this.#capacity;
      this.#unindex(entry);
      this.#count -= 1;
    }
  }

  #dropOldest(isStillCounting: boolean): void {
    const entry = this.#oldest;
    this.#unindex(entry);
    if (isStillCounting) {
      const time = this.#times[entry] ?? 0;
      this.#forgotten.add(this.#hashes, entry * words, time);
      // Times are only nearly in order, so that "complete since" must cover the dropped entry itself: hence + 1.
      this.#completeSinceMs = Math.max(this.#completeSinceMs, time + 1);
    }
    this.#oldest = (entry + 1) % this.#capacity;
    this.#count -= 1;
  }

  #isEqual(entry: number): boolean {
    const hashes = this.#hashes;
    const at = entry * words;
    return (
      hashes[at] === identityHash[0] &&
      hashes[at + 1] === identityHash[1] &&
      hashes[at + 2] === identityHash[2] &&
      hashes[at + 3] === identityHash[3]
    );
  }

  #index(entry: number): void {
    const mask = this.#table.length - 1;
    let at = (this.#hashes[entry * words] ?? 0) & mask;
    while ((this.#table[at] ?? 0) !== 0) at = (at + 1) & mask;
    this.#table[at] = entry + 1;
  }

  /** Deletion that leaves no tombstones: later entries of the same run move into the hole where they may. */
  #unindex(entry: number): void {
    const table = this.#table;
    const mask = table.length - 1;
    let hole = (this.#hashes[entry * words] ?? 0) & mask;
    while (table[hole] !== entry + 1) hole = (hole + 1) & mask;
    let at = hole;
    for (;;) {
      at = (at + 1) & mask;
      const moved = table[at] ?? 0;
      if (moved === 0) break;
      const home = (this.#hashes[(moved - 1) * words] ?? 0) & mask;
      // It may move if its home is not between the hole (exclusive) and its place (inclusive), in circle order.
      if (((at - home) & mask) >= ((at - hole) & mask)) {
        table[hole] = moved;
        hole = at;
      }
    }
    table[hole] = 0;
  }

  #grow(): void {
    const capacity = Math.min(this.#capacity * 2, this.#capacityMax);
    const hashes = new Uint32Array(capacity * words);
    const times = new Float64Array(capacity);
    for (let i = 0; i < this.#count; i += 1) {
      const from = (this.#oldest + i) % this.#capacity;
      hashes.set(this.#hashes.subarray(from * words, (from + 1) * words), i * words);
      times[i] = this.#times[from] ?? 0;
    }
    this.#hashes = hashes;
    this.#times = times;
    this.#capacity = capacity;
    this.#oldest = 0;
    let tableSize = 2;
    while (tableSize < capacity * 2) tableSize *= 2;
    this.#table = new Int32Array(tableSize);
    for (let i = 0; i < this.#count; i += 1) this.#index(i);
  }
}
