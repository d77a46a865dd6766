// A LowCardinality(String) column: each distinct value once, and for each row its position among them. Runs on sink
// threads. A value is looked for first as the previous one, then in a small table of recent ones, both by comparing
// bytes; only a value that is in neither is made a string, to look it up in a Map.

import { ByteBuffer } from './byte_buffer.ts';
import { type Column, initialRows } from './column.ts';
import { dictionaryHeader, indexHeader, indexWidth, varuintBytes } from './layout.ts';

const initialBytes = 1024;
const initialKeys = 256;

/** Slots of the table of recent values: a power of two, enough for the event types of an ordinary block. */
const recentSlots = 256;
/** Only so many last bytes of a value choose its slot; the ends of event types differ more than their beginnings. */
const hashedBytes = 16;

export class LowCardinalityColumn implements Column {
  /** The keys in the layout of the block: each its size and its bytes. */
  readonly #keys = new ByteBuffer(initialBytes);
  /** Where each key's bytes start and end in #keys, without the size before them. */
  #keyStarts = new Uint32Array(initialKeys);
  #keyEnds = new Uint32Array(initialKeys);
  #keyCount = 0;
  /** Keys by their bytes read as Latin-1, which is quick and loses nothing. */
  readonly #byBytes = new Map<string, number>();
  /** Key + 1 by slot; 0 is an empty slot. */
  readonly #recent = new Uint32Array(recentSlots);
  /** The previous row's key, and its text if it was appended as one. */
  #lastKey = -1;
  #lastText: string | null = null;
  #scratch = Buffer.allocUnsafeSlow(256);

  #indexes = new Uint32Array(initialRows);
  /** The indexes in the width of the block, made by writeTo. */
  #narrow = new Uint8Array(0);
  #rows = 0;

  get rows(): number {
    return this.#rows;
  }

  get bytes(): number {
    return this.#keys.used + this.#rows * indexWidth(this.#keyCount).bytes;
  }

  /** Appends `source[start, end)`, which has to be UTF-8. */
  append(source: Buffer, start: number, end: number): void {
    let key = this.#lastKey;
    if (key < 0 || !this.#isKey(key, source, start, end)) {
      key = this.#find(source, start, end);
      this.#lastKey = key;
      this.#lastText = null;
    }
    this.#appendKey(key);
  }

  /** Appends a text as UTF-8; a lone surrogate becomes U+FFFD. */
  appendText(text: string): void {
    if (text !== this.#lastText) {
      const worst = text.length * 3;
      if (worst > this.#scratch.length) this.#scratch = Buffer.allocUnsafeSlow(worst);
      this.#lastKey = this.#find(this.#scratch, 0, this.#scratch.write(text));
      this.#lastText = text;
    }
    this.#appendKey(this.#lastKey);
  }

  /** The keys of rows taken back stay in the dictionary, which costs their bytes until the next reset. */
  truncate(rows: number): void {
    if (rows < this.#rows) this.#rows = rows;
  }

  reset(): void {
    this.#rows = 0;
    this.#keys.truncate(0);
    this.#keyCount = 0;
    this.#byBytes.clear();
    this.#recent.fill(0);
    this.#lastKey = -1;
    this.#lastText = null;
  }

  writeTo(pieces: Uint8Array[]): void {
    pieces.push(dictionaryHeader(this.#keyCount), this.#keys.content, indexHeader(this.#rows));
    const { bytes } = indexWidth(this.#keyCount);
    const indexes = this.#indexes.subarray(0, this.#rows);
    if (bytes === 4) {
      pieces.push(new Uint8Array(indexes.buffer, 0, indexes.byteLength));
      return;
    }
    if (this.#narrow.length < this.#rows * bytes) this.#narrow = new Uint8Array(this.#indexes.length * 2);
    if (bytes === 1) this.#narrow.set(indexes);
    else new Uint16Array(this.#narrow.buffer, 0, this.#rows).set(indexes);
    pieces.push(this.#narrow.subarray(0, this.#rows * bytes));
  }

  #appendKey(key: number): void {
    if (this.#rows === this.#indexes.length) this.#indexes = doubled(this.#indexes);
    this.#indexes[this.#rows] = key;
    this.#rows += 1;
  }

  #isKey(key: number, source: Buffer, start: number, end: number): boolean {
    let at = this.#keyStarts[key] ?? 0;
    if ((this.#keyEnds[key] ?? 0) - at !== end - start) return false;
    const keys = this.#keys.buffer;
    for (let from = start; from < end; from += 1, at += 1) if (source[from] !== keys[at]) return false;
    return true;
  }

  /** The key of a value that is not the previous row's; adds it when it is new. */
  #find(source: Buffer, start: number, end: number): number {
    let hash = end - start;
    for (let at = Math.max(start, end - hashedBytes); at < end; at += 1)
      hash = Math.imul(hash ^ (source[at] ?? 0), 0x01000193);
    const slot = (hash ^ (hash >>> 15)) & (recentSlots - 1);
    const recent = (this.#recent[slot] ?? 0) - 1;
    if (recent >= 0 && this.#isKey(recent, source, start, end)) return recent;
    const bytes = source.toString('latin1', start, end);
    let key = this.#byBytes.get(bytes);
    if (key === undefined) {
      key = this.#add(source, start, end);
      this.#byBytes.set(bytes, key);
    }
    this.#recent[slot] = key + 1;
    return key;
  }

  #add(source: Buffer, start: number, end: number): number {
    const key = this.#keyCount;
    if (key === this.#keyStarts.length) {
      this.#keyStarts = doubled(this.#keyStarts);
      this.#keyEnds = doubled(this.#keyEnds);
    }
    this.#keyStarts[key] = this.#keys.used + varuintBytes(end - start);
    this.#keys.appendSized(source, start, end);
    this.#keyEnds[key] = this.#keys.used;
    this.#keyCount += 1;
    return key;
  }
}

function doubled(values: Uint32Array<ArrayBuffer>): Uint32Array<ArrayBuffer> {
  const larger = new Uint32Array(values.length * 2);
  larger.set(values);
  return larger;
}
