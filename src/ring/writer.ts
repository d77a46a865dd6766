// The writing end of a ring: reserves room for a record, and publishes it once its payload stands there.
// Runs on exactly one thread per ring; allocates nothing per record; never waits: full is a value.

import { EssError } from '../errors.ts';
import {
  controlIndex,
  largestPayloadBytes,
  openRing,
  type RingParts,
  recordAt,
  recordBytes,
  recordHeaderBytes,
  recordSlotMax,
  recordTypeMax,
  usedBytes,
} from './layout.ts';

/** No reservation is open. */
const none = -1;

export class RingWriter {
  /** The data area. Between tryReserve and publish, only the reserved bytes may be written. */
  readonly bytes: Uint8Array;
  readonly capacityBytes: number;
  /** Largest payload that tryReserve takes. */
  readonly largestPayloadBytes: number;
  readonly #parts: RingParts;
  readonly #control: Int32Array;
  readonly #fields: DataView;
  readonly #mask: number;
  /** What the shared tail holds; nobody else stores it. */
  #tail: number;
  /** The shared head when last looked at: the reader may have given back more since. */
  #headSeen: number;
  /** The open reservation's largest payload, or `none`. */
  #reservedBytes = none;
  /** Padding in front of the open reservation. */
  #paddingBytes = 0;

  /** Goes on where the ring's tail is. */
  constructor(ring: SharedArrayBuffer) {
    this.#parts = openRing(ring);
    this.bytes = this.#parts.bytes;
    this.capacityBytes = this.#parts.capacityBytes;
    this.largestPayloadBytes = largestPayloadBytes(this.capacityBytes);
    this.#control = this.#parts.control;
    this.#fields = this.#parts.fields;
    this.#mask = this.capacityBytes - 1;
    this.#tail = Atomics.load(this.#control, controlIndex.tail);
    this.#headSeen = Atomics.load(this.#control, controlIndex.head);
  }

  /**
   * Reserves room for one payload without a gap; gives its offset in `bytes`, or -1 if there is no room now. Nothing
   * is visible before `publish`, and only one reservation is open at a time: each call, also a refused one, gives up
   * the reservation before it. More than `largestPayloadBytes` would be refused for ever, so it throws `internal`:
   * the bound is the caller's to check.
   */
  tryReserve(payloadBytes: number): number {
    this.#reservedBytes = none;
    if (payloadBytes >>> 0 !== payloadBytes || payloadBytes > this.largestPayloadBytes) {
      throw new EssError('internal', `a payload of ${payloadBytes} bytes can never be in this ring`);
    }
    const offset = this.#tail & this.#mask;
    const neededBytes = recordBytes(payloadBytes);
    const toEndBytes = this.capacityBytes - offset;
    const paddingBytes = neededBytes > toEndBytes ? toEndBytes : 0;
    const usedBytesMax = this.capacityBytes - neededBytes - paddingBytes;
    if (((this.#tail - this.#headSeen) | 0) > usedBytesMax) {
      // Only now, and not for every record: the load fetches a cache line that the reader keeps storing to.
      this.#headSeen = Atomics.load(this.#control, controlIndex.head);
      const used = (this.#tail - this.#headSeen) | 0;
      if (used < 0 || used > this.capacityBytes) throw new EssError('internal', 'ring head beyond its tail');
      if (used > usedBytesMax) return -1;
    }
    this.#reservedBytes = payloadBytes;
    this.#paddingBytes = paddingBytes;
    return ((offset + paddingBytes) & this.#mask) + recordHeaderBytes;
  }

  /**
   * Publishes the reserved record with the first `payloadBytes` of what was reserved. `type` and `flags` are u16,
   * `slot` and `generation` u32. Throws `internal` if nothing is reserved, or less than this; then nothing is published.
   */
  publish(payloadBytes: number, type: number, flags: number, slot: number, generation: number): void {
    if (payloadBytes >>> 0 !== payloadBytes || payloadBytes > this.#reservedBytes) {
      throw new EssError('internal', `publish of ${payloadBytes} bytes, reserved ${this.#reservedBytes}`);
    }
    // A header that does not say what it was given would answer the wrong request.
    if ((type & recordTypeMax) !== type || (flags & recordTypeMax) !== flags) {
      throw new EssError('internal', `record type ${type} or flags ${flags} out of range`);
    }
    if (slot >>> 0 !== slot || generation >>> 0 !== generation) {
      throw new EssError('internal', `slot ${slot} or generation ${generation} above ${recordSlotMax}`);
    }
    const fields = this.#fields;
    const paddingBytes = this.#paddingBytes;
    const offset = this.#tail & this.#mask;
    if (paddingBytes !== 0) fields.setInt32(offset + recordAt.length, -paddingBytes, true);
    const start = (offset + paddingBytes) & this.#mask;
    fields.setInt32(start + recordAt.length, recordHeaderBytes + payloadBytes, true);
    fields.setUint16(start + recordAt.type, type, true);
    fields.setUint16(start + recordAt.flags, flags, true);
    fields.setUint32(start + recordAt.slot, slot, true);
    fields.setUint32(start + recordAt.generation, generation, true);
    this.#reservedBytes = none;
    this.#tail = (this.#tail + paddingBytes + recordBytes(payloadBytes)) | 0;
    // Last, and the only publication: whoever loads this tail finds padding, header and payload written (layout.ts).
    // Padding never stands alone at the end: this one store publishes it together with the record behind it.
    Atomics.store(this.#control, controlIndex.tail, this.#tail);
  }

  /** Copies one record into the ring and publishes it; false if there is no room now. */
  tryAppend(type: number, flags: number, slot: number, generation: number, payload: Uint8Array): boolean {
    const start = this.tryReserve(payload.length);
    if (start === -1) return false;
    this.bytes.set(payload, start);
    this.publish(payload.length, type, flags, slot, generation);
    return true;
  }

  /** Bytes published and not given back yet, padding included; the reader may just be giving some back. */
  get usedBytes(): number {
    return usedBytes(this.#parts);
  }
}
