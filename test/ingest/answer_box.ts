// The main thread's end of an ack ring, for tests of what a producer worker sends back.

import { Answers } from '../../src/ingest/answers.ts';
import {
  answerHasMore,
  answerHeaderBytes,
  answerTypes,
  retryAfterAt,
  statusAt,
} from '../../src/ingest/wire.ts';
import { createDoorbell, Doorbell } from '../../src/ring/doorbell.ts';
import { createRing } from '../../src/ring/layout.ts';
import { RingReader } from '../../src/ring/reader.ts';
import { RingWriter } from '../../src/ring/writer.ts';

export interface ReceivedAnswer {
  readonly slot: number;
  readonly generation: number;
  readonly status: number;
  readonly retryAfterS: number;
  readonly body: string;
}

export class AnswerBox {
  readonly answers: Answers;
  readonly #reader: RingReader;
  readonly #bytes: Buffer;
  #unfinished: {
    slot: number;
    generation: number;
    status: number;
    retryAfterS: number;
    parts: Buffer[];
  } | null = null;

  constructor(capacityBytes: number) {
    const ring = createRing(capacityBytes);
    this.answers = new Answers(new RingWriter(ring), new Doorbell(createDoorbell()));
    this.#reader = new RingReader(ring);
    const { buffer, byteOffset, byteLength } = this.#reader.bytes;
    this.#bytes = Buffer.from(buffer, byteOffset, byteLength);
  }

  /** The answers that are whole by now; gives their room back. */
  take(): ReceivedAnswer[] {
    const reader = this.#reader;
    const found: ReceivedAnswer[] = [];
    while (reader.next()) {
      const { type, flags, slot, generation, payloadStart, payloadEnd } = reader;
      const isFirst = type === answerTypes.answer;
      const before = this.#unfinished;
      const current =
        isFirst || before === null
          ? {
              slot,
              generation,
              status: this.#bytes.readUInt16LE(payloadStart + statusAt),
              retryAfterS: this.#bytes.readUInt16LE(payloadStart + retryAfterAt),
              parts: [],
            }
          : before;
      if (isFirst !== (before === null) || current.slot !== slot || current.generation !== generation) {
        throw new Error('the pieces of two answers are mixed up');
      }
      const start = isFirst ? payloadStart + answerHeaderBytes : payloadStart;
      current.parts.push(Buffer.from(this.#bytes.subarray(start, payloadEnd)));
      this.#unfinished = current;
      if ((flags & answerHasMore) !== 0) continue;
      const { status, retryAfterS, parts } = current;
      found.push({ slot, generation, status, retryAfterS, body: Buffer.concat(parts).toString() });
      this.#unfinished = null;
    }
    reader.release();
    return found;
  }
}
