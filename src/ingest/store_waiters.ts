// Requests with ack=store: durable in the log, waiting until a sink has stored them. They are answered from the
// partition board, which sinks raise after each block; where the sink is another process, the worker raises the
// board itself from the log's committed positions. Bounded: a client that goes away frees its slot long before its
// waiter ends, so that the main thread's bound alone would not do.

import { type ErrorCode, EssError, problemJson } from '../errors.ts';
import type { DeadLetterReader } from '../log/log.ts';
import type { PartitionBoard } from '../stats/board.ts';
import type { Answers } from './answers.ts';
import {
  type BatchRequest,
  batchAnswer,
  failAccepted,
  failSome,
  type SingleRequest,
  singleAnswer,
} from './requests.ts';

interface Waiter {
  readonly request: SingleRequest | BatchRequest;
  /** Offset of each event, aligned with the request's events. */
  readonly offsets: readonly number[];
  readonly deadlineUs: number;
  /** Partitions whose records are not all stored yet. */
  partitionsLeft: number;
  isAnswered: boolean;
}

interface PartitionWait {
  readonly waiter: Waiter;
  readonly lastOffset: number;
}

const abandonedText = 'this process stops, or reads another log now, and does not wait for the store';

/** Waiters of one producer worker. */
export class StoreWaiters {
  readonly #queues: PartitionWait[][];
  readonly #board: PartitionBoard;
  readonly #answers: Answers;
  readonly #letters: DeadLetterReader;
  readonly #countMax: number;
  /** In the order of their deadlines, since all requests have the same time limit. */
  #all: Waiter[] = [];
  /** Stored, but whether as a dead letter the log did not tell when it was asked: it is asked again. */
  #unsure: Waiter[] = [];
  #isAbandoned = false;

  /** At `countMax` waiters further requests are answered at once, as if their time were over. */
  constructor(
    partitions: number,
    board: PartitionBoard,
    answers: Answers,
    letters: DeadLetterReader,
    countMax: number,
  ) {
    this.#countMax = countMax;
    this.#queues = Array.from({ length: partitions }, () => []);
    this.#board = board;
    this.#answers = answers;
    this.#letters = letters;
  }

  get count(): number {
    return this.#all.length;
  }

  /** Waits for the events of a request; `offsets` are aligned with its events. */
  add(request: SingleRequest | BatchRequest, offsets: readonly number[], deadlineUs: number): void {
    const lastOffsets = new Map<number, number>();
    const partitions = request.kind === 'single' ? [request.partition] : request.partitions;
    for (const [i, partition] of partitions.entries()) {
      lastOffsets.set(partition, Math.max(lastOffsets.get(partition) ?? -1, offsets[i] ?? -1));
    }
    const waiter: Waiter = {
      request,
      offsets,
      deadlineUs,
      partitionsLeft: lastOffsets.size,
      isAnswered: false,
    };
    if (this.#isAbandoned || this.#all.length >= this.#countMax) {
      this.#answerLate(waiter, this.#isAbandoned ? abandonedText : 'too many requests wait for the store');
      return;
    }
    for (const [partition, lastOffset] of lastOffsets) this.#queues[partition]?.push({ waiter, lastOffset });
    this.#all.push(waiter);
  }

  /** Partitions for which somebody waits. */
  partitions(): number[] {
    return this.#queues.flatMap((queue, partition) => (queue.length > 0 ? [partition] : []));
  }

  /** True if some waiter's partition has moved far enough since the last `settle`. */
  hasProgress(): boolean {
    for (const [partition, queue] of this.#queues.entries()) {
      const head = queue[0];
      if (head !== undefined && this.#board.get(partition, 'stored') > head.lastOffset) return true;
    }
    return false;
  }

  /**
   * Answers at once everybody whose time is over, and everybody whose events are stored as soon as the log has told of
   * its dead letters. Settles then; who has other things to do need not wait, since a log may take its time.
   */
  async settle(nowUs: number): Promise<void> {
    const ready = new Set<Waiter>();
    for (const [partition, queue] of this.#queues.entries()) {
      const stored = this.#board.get(partition, 'stored');
      let done = 0;
      for (const wait of queue) {
        if (wait.lastOffset >= stored) break;
        done += 1;
        wait.waiter.partitionsLeft -= 1;
        if (wait.waiter.partitionsLeft === 0 && !wait.waiter.isAnswered) ready.add(wait.waiter);
      }
      if (done > 0) queue.splice(0, done);
    }
    let isAnyLate = false;
    for (const waiter of this.#all) {
      if (waiter.isAnswered || ready.has(waiter)) continue;
      if (waiter.deadlineUs > nowUs) break;
      const isStored = waiter.partitionsLeft === 0;
      const why = isStored
        ? 'the log does not tell whether the store refused it'
        : 'the store did not take it';
      this.#answerLate(waiter, `${why} within the time limit`);
      isAnyLate = true;
    }
    this.#all = this.#all.filter((waiter) => !waiter.isAnswered);
    // A store that stays away must not leave the late ones in the queues: they are bounded by the slots only so.
    if (isAnyLate) {
      for (const [partition, queue] of this.#queues.entries()) {
        this.#queues[partition] = queue.filter((wait) => !wait.waiter.isAnswered);
      }
    }
    for (const waiter of this.#unsure.splice(0)) if (!waiter.isAnswered) ready.add(waiter);
    if (ready.size > 0) await this.#answerAll([...ready]);
  }

  /** Answers everybody, from now on too, that the outcome in the store is unknown. */
  abandon(): void {
    this.#isAbandoned = true;
    for (const waiter of this.#all) {
      if (!waiter.isAnswered) this.#answerLate(waiter, abandonedText);
    }
    this.#all = [];
    for (const queue of this.#queues) queue.length = 0;
  }

  async #answerAll(waiters: readonly Waiter[]): Promise<void> {
    try {
      // A sink parks a refused record durably before it moves on, so this look-up cannot come too early.
      const isAnyParked = (await this.#letters.deadLetterCount('all')) > 0;
      await Promise.all(waiters.map((waiter) => this.#answerStored(waiter, isAnyParked)));
    } catch (error) {
      if (!(error instanceof EssError)) throw error;
      this.#unsure.push(...waiters.filter((waiter) => !waiter.isAnswered));
    }
    this.#all = this.#all.filter((waiter) => !waiter.isAnswered);
    this.#answers.flush();
  }

  async #answerStored(waiter: Waiter, isAnyParked: boolean): Promise<void> {
    const { request, offsets } = waiter;
    const isParked = isAnyParked ? await this.#areParked(request, offsets) : [];
    // Its time may have been over meanwhile.
    if (waiter.isAnswered) return;
    waiter.isAnswered = true;
    if (request.kind === 'single') {
      if (isParked[0] === true) {
        this.#answerProblem(waiter, 'parked', 'the store refused the event; it is a dead letter now');
        return;
      }
      const body = singleAnswer(request.id, 'store', request.partition, offsets[0] ?? -1);
      this.#answers.send(request.slot, request.generation, 200, body);
      return;
    }
    failSome(request, (i) =>
      isParked[i] === true ? { code: 'parked', message: 'the store refused the event' } : null,
    );
    const { status, body } = batchAnswer(request);
    this.#answers.send(request.slot, request.generation, status, body, status === 503 ? 1 : 0);
  }

  /** Of each event of a request. */
  #areParked(request: SingleRequest | BatchRequest, offsets: readonly number[]): Promise<boolean[]> {
    const partitions = request.kind === 'single' ? [request.partition] : request.partitions;
    return Promise.all(partitions.map((partition, i) => this.#letters.isParked(partition, offsets[i] ?? -1)));
  }

  #answerLate(waiter: Waiter, why: string): void {
    waiter.isAnswered = true;
    const { request } = waiter;
    if (request.kind === 'single') {
      this.#answerProblem(waiter, 'outcome_unknown', `durable in the log, but ${why}`);
      return;
    }
    failAccepted(request, 'outcome_unknown', `durable in the log, but ${why}`);
    const { status, body } = batchAnswer(request);
    this.#answers.send(request.slot, request.generation, status, body, 1);
  }

  #answerProblem(
    waiter: Waiter,
    code: Extract<ErrorCode, 'parked' | 'outcome_unknown'>,
    detail: string,
  ): void {
    const { request, offsets } = waiter;
    if (request.kind !== 'single') return;
    const place = {
      reached: 'log',
      id: request.id,
      partition: request.partition,
      offset: offsets[0] ?? null,
    };
    const status = code === 'parked' ? 422 : 503;
    const body = problemJson(code, detail, place);
    this.#answers.send(request.slot, request.generation, status, body, status === 503 ? 1 : 0);
  }
}
