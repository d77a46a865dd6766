// The reading end of a ring: a cursor over published records, whose room it gives back only when told so.
// Runs on exactly one thread per ring; allocates nothing per record; never waits: empty is a value.

import { EssError } from '../errors.ts';
import {
  controlIndex,
  openRing,
  type RingParts,
  recordAt,
  recordBytes,
  recordHeaderBytes,
  usedBytes,
} from './layout.ts';

/**
 * Use: `while (reader.next()) handle(reader); reader.release();`, and never `release` in a `finally`. When handling
 * throws, the records since the last release are still in the ring, and a new RingReader reads them again.
 */
export class RingReader {
  /** The data area. The current payload is `bytes` from `payloadStart` to `payloadEnd`, until `release`. */
  readonly bytes: Uint8Array;
  readonly capacityBytes: number;
  /** Fields of the current record: valid once `next` was true. type and flags are u16, slot and generation u32. */
  type = 0;
  flags = 0;
  slot = 0;
  generation = 0;
  /** The current payload's first byte in `bytes`, a multiple of 16. */
  payloadStart = 0;
  /** The byte after the current payload; it never wraps. */
  payloadEnd = 0;
  readonly #parts: RingParts;
  readonly #control: Int32Array;
  readonly #fields: DataView;
  readonly #mask: number;
  /** What the shared head holds; nobody else stores it. */
  #head: number;
  /** Position after the current record. */
  #position: number;
  /** The shared tail when last looked at: the writer may have published more since. */
  #tailSeen: number;

  /** Starts at the ring's head: at the first record that was not given back. */
  constructor(ring: SharedArrayBuffer) {
    this.#parts = openRing(ring);
    this.bytes = this.#parts.bytes;
    this.capacityBytes = this.#parts.capacityBytes;
    this.#control = this.#parts.control;
    this.#fields = this.#parts.fields;
    this.#mask = this.capacityBytes - 1;
    this.#head = Atomics.load(this.#control, controlIndex.head);
    this.#position = this.#head;
    this.#tailSeen = this.#head;
  }

  /**
   * Moves to the next record, or gives false when there is none. Does not give back the room of the one before.
   * Throws `internal` on bytes that no writer leaves there, without moving.
   */
  next(): boolean {
    let position = this.#position;
    if (position === this.#tailSeen) {
      // Only now, and not for every record: the load fetches a cache line that the writer keeps storing to.
      this.#tailSeen = Atomics.load(this.#control, controlIndex.tail);
      if (position === this.#tailSeen) return false;
    }
    const fields = this.#fields;
    let start = position & this.#mask;
    let length = fields.getInt32(start + recordAt.length, true);
    if (length < 0) {
      // Padding reaches to the end of the data area, and its record was published by the same tail store.
      if (-length !== this.capacityBytes - start) throw this.#corrupt('padding', length);
      position = (position - length) | 0;
      start = 0;
      length = fields.getInt32(recordAt.length, true);
    }
    const taken = recordBytes(length - recordHeaderBytes);
    const unread = (this.#tailSeen - position) | 0;
    if (length < recordHeaderBytes || length > this.capacityBytes - start || taken > unread) {
      throw this.#corrupt('record', length);
    }
    this.type = fields.getUint16(start + recordAt.type, true);
    this.flags = fields.getUint16(start + recordAt.flags, true);
    this.slot = fields.getUint32(start + recordAt.slot, true);
    this.generation = fields.getUint32(start + recordAt.generation, true);
    this.payloadStart = start + recordHeaderBytes;
    this.payloadEnd = start + length;
    this.#position = (position + taken) | 0;
    return true;
  }

  /**
   * Gives back the room of every record read so far, the current one included; their payloads may be overwritten from
   * now on. One store for many records: call it after a drain, and before parking, since a writer that waits for room
   * sees only what was released. Ring that writer's doorbell afterwards.
   */
  release(): void {
    if (this.#position === this.#head) return;
    this.#head = this.#position;
    // After every read of those records: the writer overwrites them as soon as it loads this head (layout.ts).
    Atomics.store(this.#control, controlIndex.head, this.#head);
  }

  /** True if nothing is unread, as the shared tail says now: right for asking after a doorbell's flag is set. */
  get isEmpty(): boolean {
    return this.#position === Atomics.load(this.#control, controlIndex.tail);
  }

  /** Bytes published and not given back yet, padding included; the writer may just be publishing more. */
  get usedBytes(): number {
    return usedBytes(this.#parts);
  }

  #corrupt(what: string, length: number): EssError {
    return new EssError('internal', `ring ${what} of length ${length} at position ${this.#position}`);
  }
}
