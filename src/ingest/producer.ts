// A producer worker's work: take requests from the ingest ring, parse and validate them, append what is valid to
// the log in groups, and answer each request when what its answer promises is true. Runs on its own thread; it is
// the only reader of its ingest ring and the only writer of its ack ring.
// How groups grow with the load is told in pipeline.ts.

import { type ErrorCode, EssError, errorKinds, problemJson } from '../errors.ts';
import { isJsonSpace, splitArray, splitLines } from '../event/json_scan.ts';
import { type EventFault, type EventLimits, EventParser } from '../event/parser.ts';
import { partitionOf } from '../event/partition.ts';
import type { Trouble } from '../live/troubles.ts';
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
import { AppendPipeline, appendGroup, type GroupResults } from './pipeline.ts';
import {
  type BatchRequest,
  batchAnswer,
  failSome,
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
  /** This worker looks after the log's retention. */
  readonly isTrimmer: boolean;
}

/** Stands for the result of a batch that the log did not name, which appendGroup does not let happen. */
const missingResult = new EssError('outcome_unknown', 'the log gave no result for a batch');

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

/** Why a partition did not take a batch, since when these are the words for it, and until when that counts. */
interface LogTrouble {
  readonly text: string;
  readonly textUs: number;
  readonly untilUs: number;
}

export class Producer {
  readonly #parts: ProducerParts;
  readonly #parser: EventParser;
  readonly #waiters: StoreWaiters;
  readonly #ringBytes: Buffer;
  readonly #partitions: number;
  /** Events whose answers wait for the log. */
  readonly #pipeline: AppendPipeline;
  /** Events already answered with ack=memory: kept until the log takes them, at most groupBytesMax of them. */
  #memoryGroup: Group;
  /** Those of them that are offered to the log now, or again after it refused them; as many at most. */
  #memoryOffered: Group;
  #isMemoryUnderWay = false;
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
    const makeGroup = (): Group => new Group(this.#partitions);
    this.#pipeline = new AppendPipeline(parts.log, makeGroup, (group, results) => {
      this.#answerGroup(group, results);
      parts.answers.flush();
      parts.doorbell.ring();
    });
    this.#memoryGroup = makeGroup();
    this.#memoryOffered = makeGroup();
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
      this.#pipeline.trySend();
      this.#offerMemory();
      if (this.#pipeline.isWaiting()) {
        await this.#pipeline.settledOrDue();
        turnedUs = nowUs();
      }
      if (this.#waiters.count > 0) this.#settleWaiters();
      answers.flush();
      await this.#trimWhenDue();
      if (this.#troubles.size > 0) this.#tellTrouble();
      if (requests.isEmpty) {
        if (this.#isStopping && this.#isDone()) return;
        const isBusy = this.#waiters.count > 0 || this.#memoryCount > 0 || answers.waiting > 0;
        await doorbell.park(() => this.#hasWork(), isBusy || this.#isStopping ? parkMsBusy : parkMsIdle);
        turnedUs = nowUs();
      } else if (nowUs() - turnedUs > turnEveryUs) {
        await new Promise((resolve) => setImmediate(resolve));
        turnedUs = nowUs();
      }
    }
  }

  #hasWork(): boolean {
    return !this.#parts.requests.isEmpty || !this.#pipeline.filling.isEmpty || this.#waiters.hasProgress();
  }

  #isDone(): boolean {
    if (this.#pipeline.underWay > 0 || !this.#pipeline.filling.isEmpty) return false;
    return this.#memoryCount === 0 && this.#waiters.count === 0 && this.#parts.answers.waiting === 0;
  }

  /** Events answered with ack=memory that are not yet in the log. */
  get #memoryCount(): number {
    return this.#memoryGroup.count + this.#memoryOffered.count;
  }

  /** Gives up on requests that wait for the store: there is no time left, or no sink will store them in this session. */
  abandonWaiters(): void {
    this.#waiters.abandon();
    this.#parts.answers.flush();
  }

  /** At the end of the thread: what it had answered with ack=memory and not yet written is gone with it. */
  writeOff(): void {
    const lost = this.#memoryCount;
    if (lost === 0) return;
    this.#parts.counters.add('events_memory_pending', -lost);
    this.#parts.counters.add('events_memory_lost', lost);
  }

  #takeRequests(): void {
    const { requests, limits, recorder, counters } = this.#parts;
    const ingestTimeMs = Date.now();
    const startedUs = nowUs();
    let taken = 0;
    while (this.#pipeline.filling.bytes < limits.groupBytesMax && requests.next()) {
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
    const group = this.#pipeline.filling;
    const index = group.add(partition, parser, ingestTimeMs, body, start, end);
    group.requests.push({
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
    const group = request.ack === 'memory' ? this.#memoryGroup : this.#pipeline.filling;
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

  /** Answers the requests of a group whose batches have settled. */
  #answerGroup(group: Group, results: GroupResults): void {
    this.#noteResults(group, results);
    const doneUs = nowUs();
    for (const request of group.requests) this.#answerSettled(request, results, doneUs);
  }

  /** Counts what the log took and what it did not, and tells everybody whom it concerns. */
  #noteResults(group: Group, results: GroupResults): void {
    const { board, counters, send, sinkDoorbellOf } = this.#parts;
    let trouble: EssError | null = null;
    for (const [partition, result] of results) {
      if (typeof result === 'number') {
        this.#troubles.delete(partition);
        const count = group.countOf(partition);
        board.raise(partition, 'end', result + count);
        counters.add('log_bytes', group.bytesOf(partition));
        sinkDoorbellOf(partition)?.ring();
      } else {
        trouble = result;
        this.#noteTrouble(partition, result.message);
      }
    }
    counters.add('log_appends');
    if (trouble !== null) {
      counters.add('log_append_failures');
      if (trouble.code === 'log_changed') send({ type: 'log_changed', reason: trouble.message });
    }
    this.#tellTrouble();
  }

  /** Partitions that did not take a batch, until they take one or enough time has passed. */
  readonly #troubles = new Map<number, LogTrouble>();
  #toldTrouble: string | null = null;

  #noteTrouble(partition: number, reason: string): void {
    const now = nowUs();
    const before = this.#troubles.get(partition);
    // A reason with a time in it is another one each time: some of them are enough.
    const isNew = before === undefined || now - before.textUs > logTroubleMs * 1000;
    const { text, textUs } = isNew ? { text: reason, textUs: now } : before;
    this.#troubles.set(partition, { text, textUs, untilUs: now + logTroubleMs * 1000 });
  }

  /** Tells of one partition in trouble, for as long as that lasts: other partitions' successes say nothing of it. */
  #tellTrouble(): void {
    const now = nowUs();
    let first: string | null = null;
    for (const [partition, { text, untilUs }] of this.#troubles) {
      if (now > untilUs) this.#troubles.delete(partition);
      else first ??= text;
    }
    if (first === this.#toldTrouble) return;
    this.#toldTrouble = first;
    const trouble: Trouble | null = first === null ? null : { kind: 'log_unavailable', text: first };
    this.#parts.send({ type: 'condition', key: 'log', trouble });
  }

  #answerSettled(request: PendingRequest, results: GroupResults, doneUs: number): void {
    const { answers, counters, recorder } = this.#parts;
    const { slot, generation } = request;
    if (request.kind === 'single') {
      const result = results.get(request.partition) ?? missingResult;
      if (typeof result !== 'number') {
        this.#answerProblem(slot, generation, result.code, result.message, { id: request.id });
        return;
      }
      recorder.record('produce', doneUs - request.startedUs);
      counters.add('events_accepted');
      const offset = result + request.index;
      if (request.ack === 'store') this.#waiters.add(request, [offset], this.#deadlineUs(request));
      else {
        const body = singleAnswer(request.id, request.ack, request.partition, offset);
        answers.send(slot, generation, 200, body);
      }
      return;
    }
    failSome(request, (i) => {
      const result = results.get(request.partitions[i] ?? -1) ?? missingResult;
      return typeof result === 'number' ? null : { code: result.code, message: result.message };
    });
    if (request.indexes.length > 0) recorder.record('produce', doneUs - request.startedUs);
    counters.add('events_accepted', request.indexes.length);
    if (request.ack === 'store' && request.indexes.length > 0) {
      const offsets = request.partitions.map((partition, i) => {
        const base = results.get(partition);
        return (typeof base === 'number' ? base : 0) + (request.positions[i] ?? 0);
      });
      this.#waiters.add(request, offsets, this.#deadlineUs(request));
      return;
    }
    const { status, body } = batchAnswer(request);
    answers.send(slot, generation, status, body, status === 503 ? logRetryAfterS : 0);
  }

  #deadlineUs(request: PendingRequest): number {
    return request.takenUs + this.#parts.limits.httpDeadlineMs * 1000;
  }

  /** Offers the events that were answered with ack=memory to the log; what it refuses is offered again later. */
  #offerMemory(): void {
    if (this.#isMemoryUnderWay || this.#memoryCount === 0 || nowUs() < this.#memoryRetryAtUs) return;
    if (this.#memoryOffered.isEmpty) {
      const empty = this.#memoryOffered;
      this.#memoryOffered = this.#memoryGroup;
      this.#memoryGroup = empty;
    }
    const group = this.#memoryOffered;
    this.#isMemoryUnderWay = true;
    void appendGroup(this.#parts.log, group).then((results) => {
      this.#noteResults(group, results);
      for (const [partition, result] of results) {
        if (typeof result !== 'number') {
          this.#memoryRetryAtUs = nowUs() + memoryRetryMs * 1000;
          continue;
        }
        this.#parts.counters.add('events_memory_pending', -group.countOf(partition));
        group.drop(partition);
      }
      this.#isMemoryUnderWay = false;
      this.#parts.doorbell.ring();
    });
  }

  #settleWaiters(): void {
    this.#pollStore();
    // Not waited for: a log that does not tell of its dead letters must not hold up what it takes.
    void this.#waiters.settle(nowUs());
  }

  /** Asks the log how far sinks of other processes have come. Those of this process raise the board themselves. */
  #pollStore(): void {
    if (this.#isPollingStore || nowUs() < this.#storePollAtUs) return;
    const { log, board } = this.#parts;
    const partitions = this.#waiters.partitions().filter((partition) => board.get(partition, 'owner') === 0);
    if (partitions.length === 0) return;
    this.#isPollingStore = true;
    // Not waited for: a log that does not answer must not hold up those whose time is over.
    log
      .committed(partitions)
      .then((offsets) => {
        for (const [i, partition] of partitions.entries()) {
          board.raise(partition, 'committed', offsets[i] ?? 0);
          board.raise(partition, 'stored', offsets[i] ?? 0);
        }
      })
      .catch(() => {})
      .finally(() => {
        this.#storePollAtUs = nowUs() + storePollMs * 1000;
        this.#isPollingStore = false;
      });
  }
  #isPollingStore = false;
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
