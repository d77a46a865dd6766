// A producer worker's work: take requests from the ingest ring, parse and validate them, append what is valid to
// the log in groups, and answer each request when what its answer promises is true. Runs on its own thread; it is
// the only reader of its ingest ring and the only writer of its ack ring.
//
// Group commit needs no timer: while one group is being made durable, requests collect in the ring; the next group
// is whatever is there then. An idle system sends at once, a loaded one in groups that grow with the load.

import { type ErrorCode, EssError, errorKinds, problemJson } from '../errors.ts';
import { isJsonSpace, splitArray, splitLines } from '../event/json_scan.ts';
import { type EventFault, type EventLimits, EventParser } from '../event/parser.ts';
import { partitionOf } from '../event/partition.ts';
import { faultPoint } from '../faults.ts';
import type { LogAppender } from '../log/log.ts';
import type { Doorbell } from '../ring/doorbell.ts';
import type { RingReader } from '../ring/reader.ts';
import type { PartitionBoard } from '../stats/board.ts';
import { nowUs } from '../stats/clock.ts';
import { type EngineCounters, rejectedCounter } from '../stats/counters.ts';
import type { StageRecorder } from '../stats/recorder.ts';
import type { Send } from '../thread/port.ts';
import type { Answers } from './answers.ts';
import { Group } from './group.ts';
import { inflate } from './inflate.ts';
import {
  type BatchRequest,
  batchAnswer,
  failAccepted,
  type PendingRequest,
  type SingleRequest,
  singleAnswer,
} from './requests.ts';
import { StoreWaiters } from './store_waiters.ts';
import { ackOf, encodingOf, requestHeaderBytes, requestTypes, takenUsAt, wantsIdsOf } from './wire.ts';

/** Bounds and times of a producer worker. */
export interface ProducerLimits extends EventLimits {
  readonly httpDecompressedBytesMax: number;
  readonly batchEventsMax: number;
  readonly groupBytesMax: number;
  readonly httpDeadlineMs: number;
  /** Also the most requests that wait for the store in this worker. */
  readonly slotsMax: number;
}

/** What a producer worker works with; all of it belongs to its thread except where shared memory is behind it. */
export interface ProducerParts {
  readonly requests: RingReader;
  readonly doorbell: Doorbell;
  readonly answers: Answers;
  readonly log: LogAppender;
  readonly board: PartitionBoard;
  readonly counters: EngineCounters;
  readonly recorder: StageRecorder;
  readonly limits: ProducerLimits;
  readonly send: Send;
  /** Woken after records of a partition became durable; null where no sink runs in this process. */
  readonly sinkDoorbellOf: (partition: number) => Doorbell | null;
  /** True where the sinks run in this process and raise the board themselves. */
  readonly isStoreHere: boolean;
  /** This worker looks after the log's retention. */
  readonly isTrimmer: boolean;
}

/** Seconds in Retry-After when the log does not take events. */
const logRetryAfterS = 1;
/** How often, in ms, positions are read from the log while ack=store waits for sinks of another process. */
const storePollMs = 20;
/** Time-out of a park, ms: bounds how late a deadline or a full ack ring is noticed. */
const parkMsBusy = 20;
const parkMsIdle = 500;
/** Pause before memory-acked events that the log refused are offered to it again, ms. */
const memoryRetryMs = 100;
/** How often consumed batches are looked for, ms; while there are some, a bounded step of trimming this often. */
const trimEveryMs = 1000;
const trimStepMs = 20;
/** A refusal of the log makes the process unready for this long: without traffic nothing else would end it, ms. */
const logTroubleMs = 3000;
/** After this long without a turn of the event loop, give it one: the wake-ups and messages need it. */
const turnEveryUs = 2000;

export class Producer {
  readonly #parts: ProducerParts;
  readonly #parser: EventParser;
  readonly #waiters: StoreWaiters;
  readonly #ringBytes: Buffer;
  readonly #partitions: number;
  /** Events whose answers wait for the log. */
  #group: Group;
  /** Events already answered with ack=memory: kept until the log takes them, at most groupBytesMax of them. */
  readonly #memoryGroup: Group;
  #memoryRetryAtUs = 0;
  #trimAtUs = 0;
  #isStopping = false;

  constructor(parts: ProducerParts) {
    this.#parts = parts;
    this.#partitions = parts.log.partitions;
    this.#parser = new EventParser(parts.limits);
    this.#waiters = new StoreWaiters(
      this.#partitions,
      parts.board,
      parts.answers,
      parts.log,
      parts.limits.slotsMax,
    );
    const { buffer, byteOffset, byteLength } = parts.requests.bytes;
    this.#ringBytes = Buffer.from(buffer, byteOffset, byteLength);
    this.#group = new Group(this.#partitions);
    this.#memoryGroup = new Group(this.#partitions);
  }

  /** Ends `run` after everything in the ring is answered and everything accepted is durable, or it gives up on it. */
  stop(): void {
    this.#isStopping = true;
    this.#parts.doorbell.ring();
  }

  /** Works until stopped. */
  async run(): Promise<void> {
    const { requests, doorbell, answers } = this.#parts;
    let turnedUs = nowUs();
    for (;;) {
      this.#takeRequests();
      if (this.#group.count > 0) await this.#commitGroup();
      if (this.#memoryGroup.count > 0) await this.#commitMemory();
      if (this.#waiters.count > 0) await this.#settleWaiters();
      answers.flush();
      await this.#trimWhenDue();
      if (this.#logTrouble !== null && nowUs() > this.#logTroubleUntilUs) this.#setLogTrouble(null);
      if (requests.isEmpty) {
        if (this.#isStopping && this.#isDone()) return;
        const isBusy = this.#waiters.count > 0 || this.#memoryGroup.count > 0 || answers.waiting > 0;
        await doorbell.park(() => this.#hasWork(), isBusy || this.#isStopping ? parkMsBusy : parkMsIdle);
        turnedUs = nowUs();
      } else if (nowUs() - turnedUs > turnEveryUs) {
        await new Promise((resolve) => setImmediate(resolve));
        turnedUs = nowUs();
      }
    }
  }

  #hasWork(): boolean {
    return !this.#parts.requests.isEmpty || this.#waiters.hasProgress();
  }

  #isDone(): boolean {
    return this.#memoryGroup.count === 0 && this.#waiters.count === 0 && this.#parts.answers.waiting === 0;
  }

  /** Gives up on requests that wait for the store: used when the time to stop is over. */
  abandonWaiters(): void {
    this.#waiters.abandon();
    this.#parts.answers.flush();
  }

  /** At the end of the thread: what it had answered with ack=memory and not yet written is gone with it. */
  writeOff(): void {
    const lost = this.#memoryGroup.count;
    if (lost === 0) return;
    this.#parts.counters.add('events_memory_pending', -lost);
    this.#parts.counters.add('events_memory_lost', lost);
  }

  #takeRequests(): void {
    const { requests, limits, recorder, counters } = this.#parts;
    const ingestTimeMs = Date.now();
    const startedUs = nowUs();
    let taken = 0;
    while (this.#group.bytes < limits.groupBytesMax && requests.next()) {
      const start = requests.payloadStart;
      const takenUs = this.#ringBytes.readDoubleLE(start + takenUsAt);
      recorder.record('ring', startedUs - takenUs);
      this.#take(ingestTimeMs, takenUs, startedUs, start + requestHeaderBytes, requests.payloadEnd);
      taken += 1;
    }
    // All records of this round were copied or answered: their room can be used again.
    if (taken > 0) {
      requests.release();
      counters.add('requests_taken', taken);
    }
  }

  #take(ingestTimeMs: number, takenUs: number, startedUs: number, start: number, end: number): void {
    const { requests, limits, counters } = this.#parts;
    const { flags, type, slot, generation } = requests;
    try {
      const encoding = encodingOf(flags);
      let body = this.#ringBytes;
      let from = start;
      let to = end;
      if (encoding !== 'identity') {
        body = inflate(body.subarray(start, end), encoding, limits.httpDecompressedBytesMax);
        from = 0;
        to = body.length;
      }
      const origin = from;
      while (from < to && isJsonSpace(body[from])) from += 1;
      while (to > from && isJsonSpace(body[to - 1])) to -= 1;
      const ack = ackOf(flags);
      if (ack === 'memory' && this.#memoryGroup.bytes >= limits.groupBytesMax) {
        this.#answerProblem(
          slot,
          generation,
          'overloaded',
          'too many events with ack=memory wait for the log',
        );
        return;
      }
      if (type === requestTypes.json && body[from] !== 0x5b) {
        const request = { ack, slot, generation, takenUs, startedUs };
        this.#takeSingle(request, ingestTimeMs, body, from, to, origin);
        return;
      }
      const ranges: number[] = [];
      const visit = (first: number, last: number): void => {
        ranges.push(first, last);
      };
      if (type === requestTypes.ndjson) splitLines(body, from, to, visit);
      else {
        const brokenAt = splitArray(body, from, to, visit);
        if (brokenAt >= 0) {
          counters.add('events_rejected');
          const position = from - origin + brokenAt;
          const extras = { position };
          this.#answerProblem(
            slot,
            generation,
            'malformed_json',
            `the array breaks at byte ${position}`,
            extras,
          );
          return;
        }
      }
      if (ranges.length / 2 > limits.batchEventsMax) {
        const detail = `the batch has ${ranges.length / 2} events, the limit batch_events_max is ${limits.batchEventsMax}`;
        this.#answerProblem(slot, generation, 'too_large', detail);
        return;
      }
      const wantsIds = wantsIdsOf(flags);
      this.#takeBatch({ ack, slot, generation, takenUs, startedUs, wantsIds }, ingestTimeMs, body, ranges);
    } catch (error) {
      if (!(error instanceof EssError)) throw error;
      this.#answerProblem(slot, generation, error.code, error.message);
    }
  }

  #takeSingle(
    request: Pick<SingleRequest, 'ack' | 'slot' | 'generation' | 'takenUs' | 'startedUs'>,
    ingestTimeMs: number,
    body: Buffer,
    start: number,
    end: number,
    origin: number,
  ): void {
    const { counters, answers } = this.#parts;
    const parser = this.#parser;
    const { ack, slot, generation, takenUs, startedUs } = request;
    const fault = parser.parse(body, start, end, ingestTimeMs, origin);
    if (fault !== null) {
      counters.add('events_rejected');
      this.#answerFault(slot, generation, fault);
      return;
    }
    const { id } = parser;
    const partition = partitionOf(parser.key ?? id, this.#partitions);
    if (ack === 'memory') {
      this.#memoryGroup.add(partition, parser, ingestTimeMs, body, start, end);
      counters.add('events_memory_pending');
      counters.add('events_accepted');
      answers.send(slot, generation, 200, singleAnswer(id, 'memory', partition, null));
      return;
    }
    const index = this.#group.add(partition, parser, ingestTimeMs, body, start, end);
    this.#group.requests.push({
      kind: 'single',
      slot,
      generation,
      ack,
      takenUs,
      startedUs,
      id,
      partition,
      index,
    });
  }

  #takeBatch(
    request: Pick<BatchRequest, 'ack' | 'slot' | 'generation' | 'takenUs' | 'startedUs' | 'wantsIds'>,
    ingestTimeMs: number,
    body: Buffer,
    ranges: readonly number[],
  ): void {
    const { counters, answers } = this.#parts;
    const parser = this.#parser;
    const batch: BatchRequest = {
      kind: 'batch',
      ...request,
      errors: [],
      indexes: [],
      ids: [],
      partitions: [],
      positions: [],
    };
    const group = request.ack === 'memory' ? this.#memoryGroup : this.#group;
    for (let i = 0; i < ranges.length; i += 2) {
      const start = ranges[i] ?? 0;
      const end = ranges[i + 1] ?? 0;
      const index = i / 2;
      const fault = parser.parse(body, start, end, ingestTimeMs);
      if (fault !== null) {
        batch.errors.push({ index, code: fault.code, message: fault.message });
        continue;
      }
      const partition = partitionOf(parser.key ?? parser.id, this.#partitions);
      batch.positions.push(group.add(partition, parser, ingestTimeMs, body, start, end));
      batch.indexes.push(index);
      batch.ids.push(parser.id);
      batch.partitions.push(partition);
    }
    counters.add('batches');
    counters.add('events_rejected', batch.errors.length);
    if (request.ack === 'memory') {
      counters.add('events_memory_pending', batch.indexes.length);
      counters.add('events_accepted', batch.indexes.length);
    }
    if (request.ack === 'memory' || batch.indexes.length === 0) {
      const { status, body: text } = batchAnswer(batch);
      answers.send(batch.slot, batch.generation, status, text);
      return;
    }
    group.requests.push(batch);
  }

  /** Makes the group durable and answers its requests. */
  async #commitGroup(): Promise<void> {
    const group = this.#group;
    const bases = await this.#append(group);
    if (bases !== null) {
      const doneUs = nowUs();
      this.#parts.counters.add('events_accepted', group.count);
      for (const request of group.requests) this.#answerDurable(request, bases, doneUs);
    }
    group.reset();
  }

  /** Gives each partition's base offset, or null after answering that the log did not take the group. */
  async #append(group: Group): Promise<Map<number, number> | null> {
    try {
      return await this.#appendBatches(group);
    } catch (error) {
      const code = error instanceof EssError ? error.code : 'outcome_unknown';
      const detail = error instanceof Error ? error.message : String(error);
      for (const request of group.requests) this.#answerFailed(request, code, detail);
      return null;
    }
  }

  async #appendBatches(group: Group): Promise<Map<number, number>> {
    const { log, board, counters, sinkDoorbellOf } = this.#parts;
    const batches = group.batches();
    faultPoint('producer.before_append');
    counters.add('log_appends');
    try {
      const offsets = await log.append(batches);
      faultPoint('producer.after_append');
      const bases = new Map<number, number>();
      for (const [i, { partition, count }] of batches.entries()) {
        const base = offsets[i];
        if (base === undefined) throw new EssError('internal', 'the log gave no offset for a batch');
        bases.set(partition, base);
        board.raise(partition, 'end', base + count);
      }
      counters.add('log_bytes', group.bytes);
      this.#setLogTrouble(null);
      for (const { partition } of batches) sinkDoorbellOf(partition)?.ring();
      return bases;
    } catch (error) {
      counters.add('log_append_failures');
      this.#setLogTrouble(error instanceof Error ? error.message : String(error));
      throw error;
    }
  }

  #logTrouble: string | null = null;
  #logTroubleUntilUs = 0;

  #setLogTrouble(text: string | null): void {
    if (text !== null) this.#logTroubleUntilUs = nowUs() + logTroubleMs * 1000;
    if (text === this.#logTrouble) return;
    this.#logTrouble = text;
    this.#parts.send({ type: 'condition', key: 'log', text });
  }

  #answerDurable(request: PendingRequest, bases: ReadonlyMap<number, number>, doneUs: number): void {
    const { answers, recorder, limits } = this.#parts;
    recorder.record('produce', doneUs - request.startedUs);
    const { slot, generation } = request;
    const deadlineUs = request.takenUs + limits.httpDeadlineMs * 1000;
    if (request.kind === 'single') {
      const offset = (bases.get(request.partition) ?? 0) + request.index;
      if (request.ack === 'store') this.#waiters.add(request, [offset], deadlineUs);
      else
        answers.send(slot, generation, 200, singleAnswer(request.id, request.ack, request.partition, offset));
      return;
    }
    if (request.ack === 'store') {
      const offsets = request.partitions.map(
        (partition, i) => (bases.get(partition) ?? 0) + (request.positions[i] ?? 0),
      );
      this.#waiters.add(request, offsets, deadlineUs);
      return;
    }
    const { status, body } = batchAnswer(request);
    answers.send(slot, generation, status, body);
  }

  #answerFailed(request: PendingRequest, code: ErrorCode, detail: string): void {
    const { slot, generation } = request;
    if (request.kind === 'single') {
      this.#answerProblem(slot, generation, code, detail, { id: request.id });
      return;
    }
    failAccepted(request, code, detail);
    const { status, body } = batchAnswer(request);
    this.#parts.answers.send(slot, generation, status, body, logRetryAfterS);
  }

  /** Offers the events that were answered with ack=memory to the log; a refusal is tried again later. */
  async #commitMemory(): Promise<void> {
    const now = nowUs();
    if (now < this.#memoryRetryAtUs) return;
    const group = this.#memoryGroup;
    try {
      await this.#appendBatches(group);
      this.#parts.counters.add('events_memory_pending', -group.count);
      group.reset();
    } catch {
      this.#memoryRetryAtUs = nowUs() + memoryRetryMs * 1000;
    }
  }

  async #settleWaiters(): Promise<void> {
    const { isStoreHere, log, board } = this.#parts;
    if (!isStoreHere) {
      const now = nowUs();
      if (now >= this.#storePollAtUs) {
        this.#storePollAtUs = now + storePollMs * 1000;
        for (const [partition, state] of (await log.states()).entries()) {
          board.raise(partition, 'committed', state.committed);
          board.raise(partition, 'stored', state.committed);
        }
      }
    }
    await this.#waiters.settle(nowUs());
  }
  #storePollAtUs = 0;

  async #trimWhenDue(): Promise<void> {
    if (!this.#parts.isTrimmer) return;
    const now = nowUs();
    if (now < this.#trimAtUs) return;
    const { log, board } = this.#parts;
    let pauseMs = trimEveryMs;
    try {
      if ((await log.trim()) > 0) pauseMs = trimStepMs;
    } catch {
      // The disk may be full: trimming frees room later, and appends say log_unavailable meanwhile.
    }
    this.#trimAtUs = now + pauseMs * 1000;
    for (const [partition, state] of (await log.states()).entries()) {
      board.raise(partition, 'start', state.start);
      board.raise(partition, 'end', state.end);
      board.set(partition, 'bytes', state.bytes);
      board.raise(partition, 'committed', state.committed);
    }
  }

  #answerFault(slot: number, generation: number, fault: EventFault): void {
    const extras: Record<string, unknown> = {};
    if (fault.field !== undefined) extras['field'] = fault.field;
    if (fault.position !== undefined) extras['position'] = fault.position;
    this.#answerProblem(slot, generation, fault.code, fault.message, extras);
  }

  #answerProblem(
    slot: number,
    generation: number,
    code: ErrorCode,
    detail: string,
    extras: Readonly<Record<string, unknown>> = {},
  ): void {
    const { status } = errorKinds[code];
    const body = problemJson(code, detail, extras);
    this.#parts.counters.add(rejectedCounter(code));
    this.#parts.answers.send(slot, generation, status, body, status === 503 ? logRetryAfterS : 0);
  }
}
