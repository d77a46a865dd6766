// A lane is the main thread's end of one producer worker: the ring towards it, the ring back, and its doorbell. A
// worker that dies gets a new lane; whatever was in the old rings is forgotten with them.

import { Doorbell } from '../ring/doorbell.ts';
import { RingReader } from '../ring/reader.ts';
import { RingWriter } from '../ring/writer.ts';

/** The shared memory of a lane. */
export interface LaneMemory {
  readonly ingestRing: SharedArrayBuffer;
  readonly ackRing: SharedArrayBuffer;
  readonly doorbell: SharedArrayBuffer;
}

export class Lane {
  readonly requests: RingWriter;
  readonly requestBytes: Buffer;
  readonly answers: RingReader;
  readonly answerBytes: Buffer;
  readonly doorbell: Doorbell;
  /** Requests handed over and not yet answered: slot index -> generation. */
  readonly open = new Map<number, number>();
  isAlive = true;

  constructor(memory: LaneMemory) {
    this.requests = new RingWriter(memory.ingestRing);
    this.requestBytes = view(this.requests.bytes);
    this.answers = new RingReader(memory.ackRing);
    this.answerBytes = view(this.answers.bytes);
    this.doorbell = new Doorbell(memory.doorbell);
  }
}

function view(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Measures how fast requests are answered, to tell refused clients when to come back. */
export class DrainRate {
  #perSecond = 0;
  #count = 0;
  #atMs: number;

  constructor(nowMs: number) {
    this.#atMs = nowMs;
  }

  /** Counts answered requests. */
  add(count: number): void {
    this.#count += count;
  }

  /** To be called every so often: folds what was counted into the rate. */
  tick(nowMs: number): void {
    const seconds = (nowMs - this.#atMs) / 1000;
    if (seconds < 0.5) return;
    // Half of the old rate stays: a short stall must not read as a stop.
    this.#perSecond = this.#perSecond / 2 + this.#count / seconds / 2;
    this.#count = 0;
    this.#atMs = nowMs;
  }

  /** Whole seconds in which `waiting` requests will be answered at this rate, within 1..30. */
  secondsFor(waiting: number): number {
    if (this.#perSecond < 1) return waiting > 0 ? 5 : 1;
    return Math.min(30, Math.max(1, Math.ceil(waiting / this.#perSecond)));
  }
}
