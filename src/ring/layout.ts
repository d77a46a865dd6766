// The byte layout of a ring: one SharedArrayBuffer through which one thread hands records to one other thread.
// Writer, reader and tests take every offset from here and write no number of their own. Runs on any thread.
//
//    byte 0       128          256          384                                   384 + capacity
//    +------------+------------+------------+-------------------------------------+
//    | unused     | head  i32  | tail  i32  | data: records, one after the other  |
//    +------------+------------+------------+-------------------------------------+
//
//    head: position up to which the reader has given room back; only the reader stores it.
//    tail: position up to which the writer has published; only the writer stores it.
//    A position counts bytes since the ring began. It is an int32 that runs freely through 2^31 and 2^32; its place
//    in the data area is its low bits. Positions are compared by subtraction only: `(tail - head) | 0` is the number
//    of bytes in use, whatever the signs, because it never exceeds the capacity, which is at most 2^30.
//
// A record starts at a multiple of 16 and never wraps:
//
//    0             4        6        8             12            16
//    +-------------+--------+--------+-------------+-------------+----------------+-----------+
//    | length  i32 | type   | flags  | slot        | generation  | payload        | up to a   |
//    |             | u16    | u16    | u32         | u32         |                | 16-fold   |
//    +-------------+--------+--------+-------------+-------------+----------------+-----------+
//    length > 0: a record; header plus payload, without the gap after it, so at least 16.
//    length < 0: padding; the data area's last -length bytes, header included, are empty and the next record is at
//                its start. Since all is a multiple of 16, room for a padding's header is always left.
//    length 0:   never written, so that zeroed memory does not pass for a record.
//    All little-endian.
//
// Why the writer's and the reader's plain accesses to the data area are safe: a position is stored by Atomics.store
// and loaded by Atomics.load, and a load that sees a store synchronizes with it (ECMA-262, memory model). So what one
// thread wrote or read before its store happens before what the other does after the load that saw it: the reader
// finds the whole record once it sees the tail, and the writer overwrites only what the reader had finished with
// when it stored the head. A position remembered from an earlier load is merely old: it shows less to read, or less
// room, never more than there is.

import { EssError } from '../errors.ts';

/** Bytes of a record's header, in front of its payload. */
export const recordHeaderBytes = 16;

/** Every record, padding included, starts and ends at a multiple of this. */
export const recordAlignmentBytes = 16;

/**
 * Distance of words that different threads store often: two cache lines of 64 bytes, because processors fetch lines
 * in pairs.
 */
export const controlSpacingBytes = 128;

/** Byte offsets of the control words, and of the data area after them. */
export const ringAt = {
  head: controlSpacingBytes,
  tail: 2 * controlSpacingBytes,
  data: 3 * controlSpacingBytes,
} as const;

/** Indexes of the control words in RingParts.control. */
export const controlIndex = {
  head: ringAt.head / Int32Array.BYTES_PER_ELEMENT,
  tail: ringAt.tail / Int32Array.BYTES_PER_ELEMENT,
} as const;

/** Byte offsets of the header's fields from the start of the record. */
export const recordAt = {
  length: 0,
  type: 4,
  flags: 6,
  slot: 8,
  generation: 12,
} as const;

/** Largest value of the fields type and flags. */
export const recordTypeMax = 0xffff;
/** Largest value of the fields slot and generation. */
export const recordSlotMax = 0xffff_ffff;

/** Smallest ring: room for the smallest record at every position. */
export const capacityBytesMin = 2 * recordHeaderBytes;
/** Largest ring: the difference of two positions must stay a positive int32. */
export const capacityBytesMax = 2 ** 30;

/** The views of one thread on a ring. */
export interface RingParts {
  readonly capacityBytes: number;
  /** The control words, at `controlIndex`; accessed through Atomics only. */
  readonly control: Int32Array;
  /** The data area. */
  readonly bytes: Uint8Array;
  /** The data area again, for header fields. */
  readonly fields: DataView;
}

/** Bytes that a record with this payload takes in the ring. */
export function recordBytes(payloadBytes: number): number {
  return (payloadBytes + recordHeaderBytes + recordAlignmentBytes - 1) & -recordAlignmentBytes;
}

/**
 * The largest payload that a ring of this capacity takes: half the capacity less the header. Such a record fits into
 * an empty ring wherever its positions are, even where padding must come first: padding is then at least 16 bytes
 * shorter than the record, and both together are shorter than the capacity.
 */
export function largestPayloadBytes(capacityBytes: number): number {
  return capacityBytes / 2 - recordHeaderBytes;
}

function isCapacity(bytes: number): boolean {
  return bytes >= capacityBytesMin && bytes <= capacityBytesMax && Number.isInteger(Math.log2(bytes));
}

/**
 * Makes an empty ring.
 *
 * @param capacityBytes size of the data area: a power of two from 32 to 2^30, else EssError `bad_option`
 * @param startPosition first position, an int32 and multiple of 16; default 0. Tests start close to a wrap with it.
 */
export function createRing(capacityBytes: number, startPosition = 0): SharedArrayBuffer {
  if (!isCapacity(capacityBytes)) {
    throw new EssError(
      'bad_option',
      `a ring of ${capacityBytes} bytes: not a power of two from ${capacityBytesMin} to ${capacityBytesMax}`,
    );
  }
  if ((startPosition | 0) !== startPosition || startPosition % recordAlignmentBytes !== 0) {
    throw new EssError('bad_option', `start position ${startPosition}: not an int32 multiple of 16`);
  }
  const ring = new SharedArrayBuffer(ringAt.data + capacityBytes);
  const { control } = openRing(ring);
  Atomics.store(control, controlIndex.head, startPosition);
  Atomics.store(control, controlIndex.tail, startPosition);
  return ring;
}

/** This thread's views on a ring made by `createRing`. */
export function openRing(ring: SharedArrayBuffer): RingParts {
  const capacityBytes = ring.byteLength - ringAt.data;
  if (!isCapacity(capacityBytes)) throw new EssError('internal', 'shared memory that is not a ring');
  return {
    capacityBytes,
    control: new Int32Array(ring, 0, ringAt.data / Int32Array.BYTES_PER_ELEMENT),
    bytes: new Uint8Array(ring, ringAt.data, capacityBytes),
    fields: new DataView(ring, ringAt.data, capacityBytes),
  };
}

/**
 * Bytes that hold published records not given back yet, padding included; from 0 to the capacity. Any thread may ask:
 * the head is loaded first, so that the tail loaded after it is not behind it, but it may have run further ahead.
 */
export function usedBytes({ control, capacityBytes }: RingParts): number {
  const head = Atomics.load(control, controlIndex.head);
  const tail = Atomics.load(control, controlIndex.tail);
  return Math.min((tail - head) | 0, capacityBytes);
}
