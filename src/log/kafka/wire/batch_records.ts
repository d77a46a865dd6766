// A cursor over the records of one batch, decompressed. Sink workers run it for every record that is fetched, so it
// makes no object of a record: its parts are byte positions in `buffer`.

import { isSameBytes } from './copy.ts';
import { essHeader } from './ess_header.ts';
import { VarintReader } from './varint.ts';

/** What the header of a batch says of its records. */
export interface BatchFrame {
  readonly baseOffset: number;
  readonly lastOffsetDelta: number;
  /** Number of records. */
  readonly count: number;
  readonly baseTimestampMs: number;
  /** The time of every record, if the broker set it; else null. */
  readonly logAppendTimeMs: number | null;
}

const emptyFrame: BatchFrame = {
  baseOffset: 0,
  lastOffsetDelta: -1,
  count: 0,
  baseTimestampMs: 0,
  logAppendTimeMs: null,
};

export class BatchRecords {
  /** Holds the parts of every record; reused for the next batch. */
  buffer: Buffer = Buffer.alloc(0);
  offset = -1;
  /** Epoch ms as the producer or the broker set it, unchecked; -1 if there is none. Rounded beyond 2^53. */
  timestampMs = -1;
  /** -1 where the key is null. */
  keyStart = -1;
  keyEnd = -1;
  /** -1 where the value is null. */
  valueStart = -1;
  valueEnd = -1;
  /** Value of the last header named `ess`; -1 if there is none, or it is null. */
  essStart = -1;
  essEnd = -1;

  #frame = emptyFrame;
  #start = 0;
  #index = 0;
  #lastDelta = -1;
  readonly #varints = new VarintReader();

  /** Number of records. */
  get count(): number {
    return this.#frame.count;
  }

  /**
   * Takes the records of a batch, which are the bytes of `buffer` from `start` to `end`. False if they are not what
   * the frame says; all is checked here, so that `next` cannot fail later, when half a batch was used already.
   */
  tryOpen(buffer: Buffer, start: number, end: number, frame: BatchFrame): boolean {
    this.buffer = buffer;
    this.#frame = frame;
    this.#start = start;
    this.#varints.open(buffer, start, end);
    this.rewind();
    while (this.next());
    const isWhole = this.#index === frame.count && !this.#varints.isBroken && this.#varints.position === end;
    if (!isWhole) this.#frame = emptyFrame;
    this.rewind();
    return isWhole;
  }

  /** Back to before the first record. */
  rewind(): void {
    this.#varints.position = this.#start;
    this.#index = 0;
    this.#lastDelta = -1;
  }

  /** Moves to the next record and sets the fields; false at the end. */
  next(): boolean {
    const frame = this.#frame;
    if (this.#index >= frame.count) return false;
    const varints = this.#varints;
    const bytes = varints.int();
    const end = varints.position + bytes;
    if (bytes < 1 || end > varints.end) return this.#broken();
    varints.position += 1; // attributes, of which none is in use
    const timeDelta = varints.long();
    const offsetDelta = varints.int();
    if (offsetDelta <= this.#lastDelta || offsetDelta > frame.lastOffsetDelta) return this.#broken();
    const keyBytes = varints.int();
    this.keyStart = keyBytes < 0 ? -1 : varints.position;
    this.keyEnd = keyBytes < 0 ? -1 : varints.position + keyBytes;
    if (!this.#skip(keyBytes, end)) return false;
    const valueBytes = varints.int();
    this.valueStart = valueBytes < 0 ? -1 : varints.position;
    this.valueEnd = valueBytes < 0 ? -1 : varints.position + valueBytes;
    if (!this.#skip(valueBytes, end)) return false;
    if (!this.#headers(end)) return false;
    if (varints.isBroken || varints.position !== end) return this.#broken();
    this.offset = frame.baseOffset + offsetDelta;
    this.timestampMs = frame.logAppendTimeMs ?? frame.baseTimestampMs + timeDelta;
    this.#lastDelta = offsetDelta;
    this.#index += 1;
    return true;
  }

  #headers(end: number): boolean {
    const varints = this.#varints;
    this.essStart = -1;
    this.essEnd = -1;
    const count = varints.int();
    if (count < 0) return this.#broken();
    for (let index = 0; index < count; index += 1) {
      const nameBytes = varints.int();
      const nameStart = varints.position;
      if (nameBytes < 0 || !this.#skip(nameBytes, end)) return this.#broken();
      const valueBytes = varints.int();
      const valueStart = varints.position;
      if (!this.#skip(valueBytes, end)) return false;
      if (nameBytes !== essHeader.name.length) continue;
      if (!isSameBytes(this.buffer, nameStart, nameStart + nameBytes, essHeader.name, 0)) continue;
      this.essStart = valueBytes < 0 ? -1 : valueStart;
      this.essEnd = valueBytes < 0 ? -1 : valueStart + valueBytes;
    }
    return true;
  }

  /** Moves over a part of the record; -1 bytes is null. */
  #skip(bytes: number, end: number): boolean {
    const { position, isBroken } = this.#varints;
    // A broken varint reads as 0 for ever: without a look at it, a false count of headers would be counted down.
    if (isBroken || bytes < -1 || bytes > end - position) return this.#broken();
    this.#varints.position = position + Math.max(bytes, 0);
    return true;
  }

  /** Always false. */
  #broken(): false {
    this.#varints.isBroken = true;
    return false;
  }
}
