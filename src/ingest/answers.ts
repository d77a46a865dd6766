// A producer worker's way back to the main thread: answers written into the ack ring. An answer that finds the ring
// full waits in a queue here; the queue is bounded by the slots, since each slot gets one answer.

import type { Doorbell } from '../ring/doorbell.ts';
import { largestPayloadBytes } from '../ring/layout.ts';
import type { RingWriter } from '../ring/writer.ts';
import { answerHasMore, answerHeaderBytes, answerTypes, retryAfterAt, statusAt } from './wire.ts';

interface WaitingAnswer {
  readonly slot: number;
  readonly generation: number;
  readonly status: number;
  readonly retryAfterS: number;
  readonly body: Buffer;
  /** Bytes of the body that are in the ring already. */
  written: number;
}

/** Largest UTF-8 size of one UTF-16 unit. */
const utf8BytesPerUnitMax = 3;

export class Answers {
  readonly #ring: RingWriter;
  readonly #mainDoorbell: Doorbell;
  readonly #bytes: Buffer;
  readonly #pieceBytesMax: number;
  readonly #waiting: WaitingAnswer[] = [];

  constructor(ring: RingWriter, mainDoorbell: Doorbell) {
    this.#ring = ring;
    this.#mainDoorbell = mainDoorbell;
    const { buffer, byteOffset, byteLength } = ring.bytes;
    this.#bytes = Buffer.from(buffer, byteOffset, byteLength);
    // A quarter of what always fits: a large answer must not need an empty ring.
    this.#pieceBytesMax = Math.max(1024, Math.floor(largestPayloadBytes(ring.capacityBytes) / 4));
  }

  /** Answers that wait for room in the ring. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /** Queues one answer; `flush` makes the main thread see it. */
  send(slot: number, generation: number, status: number, body: string, retryAfterS = 0): void {
    const worst = answerHeaderBytes + body.length * utf8BytesPerUnitMax;
    if (this.#waiting.length === 0 && worst <= this.#pieceBytesMax) {
      const at = this.#ring.tryReserve(worst);
      if (at >= 0) {
        const bytes = this.#bytes;
        bytes.writeUInt16LE(status, at + statusAt);
        bytes.writeUInt16LE(retryAfterS, at + retryAfterAt);
        const written = bytes.write(body, at + answerHeaderBytes);
        this.#ring.publish(answerHeaderBytes + written, answerTypes.answer, 0, slot, generation);
        return;
      }
    }
    this.#waiting.push({ slot, generation, status, retryAfterS, body: Buffer.from(body), written: 0 });
    this.#drain();
  }

  /** Writes what waited, as far as there is room, and wakes the main thread. */
  flush(): void {
    this.#drain();
    this.#mainDoorbell.ring();
  }

  #drain(): void {
    let done = 0;
    for (const answer of this.#waiting) {
      if (!this.#tryWrite(answer)) break;
      done += 1;
    }
    if (done > 0) this.#waiting.splice(0, done);
  }

  #tryWrite(answer: WaitingAnswer): boolean {
    for (;;) {
      const isFirst = answer.written === 0;
      const header = isFirst ? answerHeaderBytes : 0;
      const piece = Math.min(answer.body.length - answer.written, this.#pieceBytesMax - header);
      const at = this.#ring.tryReserve(header + piece);
      if (at < 0) return false;
      if (isFirst) {
        this.#bytes.writeUInt16LE(answer.status, at + statusAt);
        this.#bytes.writeUInt16LE(answer.retryAfterS, at + retryAfterAt);
      }
      answer.body.copy(this.#bytes, at + header, answer.written, answer.written + piece);
      answer.written += piece;
      const isLast = answer.written === answer.body.length;
      this.#ring.publish(
        header + piece,
        isFirst ? answerTypes.answer : answerTypes.more,
        isLast ? 0 : answerHasMore,
        answer.slot,
        answer.generation,
      );
      if (isLast) return true;
    }
  }
}
