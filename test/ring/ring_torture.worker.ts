// One end of a ring under torture: the writer or the reader of many records whose every byte follows from their index.
// Each end sleeps on its own doorbell without a time limit, so a lost wake stops the run for good.
import assert from 'node:assert/strict';
import { setTimeout as pause, setImmediate as turn } from 'node:timers/promises';
import { parentPort, workerData } from 'node:worker_threads';
import { Doorbell } from '../../src/ring/doorbell.ts';
import { largestPayloadBytes } from '../../src/ring/layout.ts';
import { RingReader } from '../../src/ring/reader.ts';
import { RingWriter } from '../../src/ring/writer.ts';

export interface TortureEnd {
  readonly role: 'writer' | 'reader';
  readonly ring: SharedArrayBuffer;
  readonly writerBell: SharedArrayBuffer;
  readonly readerBell: SharedArrayBuffer;
  /** Int32: records written, records read. */
  readonly progress: SharedArrayBuffer;
  readonly records: number;
  readonly seed: number;
}

/** What an end says when it is through. */
export interface TortureResult {
  readonly role: 'writer' | 'reader';
  /** Times it really went to sleep. */
  readonly sleeps: number;
}

const end: TortureEnd = workerData;
const largeEvery = 256;
const smallBytesMax = 64;
const pauseEvery = 1 << 16;

/** A well-mixed 32-bit number for each index (murmur3's finalizer). */
function mix(index: number): number {
  let hash = (index ^ end.seed) | 0;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/** Payload size of a record: mostly small, one in `largeEvery` anything up to the largest. */
function payloadBytesOf(hash: number, largest: number): number {
  return hash % largeEvery === 0 ? (hash >>> 8) % (largest + 1) : (hash >>> 8) % smallBytesMax;
}

/** Whether something random and rare happens at this record; `salt` tells the two ends apart. */
function isMoment(index: number, salt: number, every: number): boolean {
  return mix(index + salt) % every === 0;
}

async function write(): Promise<number> {
  const writer = new RingWriter(end.ring);
  const bell = new Doorbell(end.writerBell);
  const readerBell = new Doorbell(end.readerBell);
  const progress = new Int32Array(end.progress);
  const words = new Int32Array(writer.bytes.buffer, writer.bytes.byteOffset, writer.capacityBytes / 4);
  const largest = writer.largestPayloadBytes;
  let sleeps = 0;
  let start = -1;
  let reserveBytes = 0;
  const hasRoom = (): boolean => {
    start = writer.tryReserve(reserveBytes);
    if (start === -1) sleeps += 1;
    return start !== -1;
  };
  for (let index = 0; index < end.records; index += 1) {
    const hash = mix(index);
    const payloadBytes = payloadBytesOf(hash, largest);
    // Every fourth reserves more than it publishes.
    reserveBytes = hash >>> 30 === 0 ? Math.min(payloadBytes + (hash % 512), largest) : payloadBytes;
    start = writer.tryReserve(reserveBytes);
    while (start === -1) {
      if (isMoment(index, 1, 8)) await turn();
      else await bell.park(hasRoom, Number.POSITIVE_INFINITY);
      if (start === -1) start = writer.tryReserve(reserveBytes);
    }
    const wordsEnd = (start + payloadBytes) >>> 2;
    let value = hash | 0;
    for (let word = start >>> 2; word < wordsEnd; word += 1) {
      words[word] = value;
      value = (value + 0x9e3779b1) | 0;
    }
    for (let byte = wordsEnd << 2; byte < start + payloadBytes; byte += 1) writer.bytes[byte] = hash >>> 24;
    writer.publish(payloadBytes, hash & 0xffff, hash >>> 16, ~hash >>> 0, index);
    readerBell.ring();
    if ((index & 0xfff) === 0) Atomics.store(progress, 0, index);
    // Long enough for the reader to run dry and sleep.
    if (isMoment(index, 2, pauseEvery)) await pause(1);
  }
  return sleeps;
}

async function read(): Promise<number> {
  const reader = new RingReader(end.ring);
  const bell = new Doorbell(end.readerBell);
  const writerBell = new Doorbell(end.writerBell);
  const progress = new Int32Array(end.progress);
  const words = new Int32Array(reader.bytes.buffer, reader.bytes.byteOffset, reader.capacityBytes / 4);
  const largest = largestPayloadBytes(reader.capacityBytes);
  let sleeps = 0;
  const hasWork = (): boolean => {
    if (reader.isEmpty) sleeps += 1;
    return !reader.isEmpty;
  };
  for (let index = 0; index < end.records; ) {
    while (reader.next()) {
      const hash = mix(index);
      const { payloadStart, payloadEnd } = reader;
      let isRight =
        payloadEnd - payloadStart === payloadBytesOf(hash, largest) &&
        reader.type === (hash & 0xffff) &&
        reader.flags === hash >>> 16 &&
        reader.slot === ~hash >>> 0 &&
        reader.generation === index;
      const wordsEnd = payloadEnd >>> 2;
      let value = hash | 0;
      for (let word = payloadStart >>> 2; word < wordsEnd; word += 1) {
        if (words[word] !== value) isRight = false;
        value = (value + 0x9e3779b1) | 0;
      }
      for (let byte = wordsEnd << 2; byte < payloadEnd; byte += 1) {
        if (reader.bytes[byte] !== hash >>> 24) isRight = false;
      }
      if (!isRight) assert.fail(`record ${index} is not what was written (seed ${end.seed})`);
      index += 1;
      if (isMoment(index, 3, 512)) {
        reader.release();
        writerBell.ring();
      }
      if ((index & 0xfff) === 0) Atomics.store(progress, 1, index);
      // Long enough for the writer to fill the ring and sleep.
      if (isMoment(index, 4, pauseEvery)) await pause(1);
    }
    reader.release();
    writerBell.ring();
    if (index < end.records) await bell.park(hasWork, Number.POSITIVE_INFINITY);
  }
  assert.ok(!reader.next(), 'nothing follows the last record');
  assert.equal(reader.usedBytes, 0);
  return sleeps;
}

// A park without limit does not keep the thread alive.
const alive = setInterval(() => {}, 60_000);
const sleeps = await (end.role === 'writer' ? write() : read());
clearInterval(alive);
parentPort?.postMessage({ role: end.role, sleeps } satisfies TortureResult);
