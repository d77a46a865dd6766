// POST /events: from the first byte of a request to its place in a ring, and from an answer in a ring back to the
// client. Main thread; it moves bytes and never looks into a body.

import type { HttpRequest, HttpResponse } from 'uWebSockets.js';
import type { ErrorCode } from '../errors.ts';
import { supportedEncodings } from '../ingest/inflate.ts';
import {
  type AckLevel,
  ackLevels,
  answerHasMore,
  answerHeaderBytes,
  answerTypes,
  type Encoding,
  requestFlags,
  requestHeaderBytes,
  requestTypes,
  retryAfterAt,
  statusAt,
  takenUsAt,
} from '../ingest/wire.ts';
import { nowUs } from '../stats/clock.ts';
import { type EngineCounters, rejectedCounter } from '../stats/counters.ts';
import type { StageRecorder } from '../stats/recorder.ts';
import { jsonType, problemType, sendAnswer, sendProblem } from './answer.ts';
import { DrainRate, type Lane } from './lanes.ts';
import { type Slot, Slots } from './slots.ts';

export interface EventsRouteOptions {
  readonly ack: AckLevel;
  readonly httpBodyBytesMax: number;
  readonly httpPendingBytesMax: number;
  readonly httpDeadlineMs: number;
  readonly httpBodyTimeoutMs: number;
  readonly slotsMax: number;
  readonly storeSlotsPercent: number;
}

/** A body may take this many times httpBodyTimeoutMs in all, however steadily it trickles in. */
const wholeBodyFactor = 10;
/** The worker itself answers ack=store at the deadline, with what was reached; the main thread only if it does not. */
const storeGraceMs = 1000;
/** Of a body past its limit, this many bytes are read on and thrown away before the connection is cut. */
const discardBytesMax = 64 * 1024 * 1024;
/**
 * uWebSockets.js cuts a connection without a word whose body brings less than 160 KiB in 8 to 12 s. Setting its clock
 * back in time leaves the judgement to our deadlines, which answer 408. Ms.
 */
const clockSetEveryMs = 4000;
/** How often deadlines are looked at, ms. */
export const sweepEveryMs = 50;

/** What a request's header says, ready for a ring record. */
interface RequestKind {
  readonly type: number;
  readonly flags: number;
  readonly isStore: boolean;
}

const acceptEncoding = ['identity', ...supportedEncodings].join(', ');

export class EventsRoute {
  readonly slots: Slots;
  readonly #options: EventsRouteOptions;
  readonly #lanes: readonly (Lane | null)[];
  readonly #counters: EngineCounters;
  readonly #recorder: StageRecorder;
  readonly #rate = new DrainRate(Date.now());
  readonly #plainJson: RequestKind;
  #turn = 0;
  #pendingBytes = 0;
  #isStopping = false;
  // Counted here and added to the shared counters now and then: a shared addition per request would cost more.
  #requests = 0;
  #bytesIn = 0;

  /** `lanes` is the engine's own list: a dead worker's place is null until its successor is ready. */
  constructor(
    options: EventsRouteOptions,
    lanes: readonly (Lane | null)[],
    counters: EngineCounters,
    recorder: StageRecorder,
  ) {
    this.#options = options;
    this.#lanes = lanes;
    this.#counters = counters;
    this.#recorder = recorder;
    const storeMax = Math.max(1, Math.floor((options.slotsMax * options.storeSlotsPercent) / 100));
    this.slots = new Slots(options.slotsMax, storeMax);
    this.#plainJson = {
      type: requestTypes.json,
      flags: requestFlags(options.ack, 'identity', false),
      isStore: options.ack === 'store',
    };
  }

  /** Bytes of bodies that are still arriving. */
  get pendingBytes(): number {
    return this.#pendingBytes;
  }

  /** From now on new requests are refused. */
  stop(): void {
    this.#isStopping = true;
  }

  // ---- receiving ------------------------------------------------------------------------------------------------

  /** The uWebSockets.js handler. `request` is dead once this returns. */
  handle(response: HttpResponse, request: HttpRequest): void {
    this.#requests += 1;
    const kind = this.#kindOf(response, request);
    if (kind === null) return;
    if (this.#isStopping) {
      this.#refuse(response, 'stopping', 'this process is stopping', 1);
      return;
    }
    const slot = this.slots.tryTake(response, kind.isStore);
    if (slot === null) {
      this.#refuse(
        response,
        'overloaded',
        'too many requests are in progress',
        this.#rate.secondsFor(this.slots.used),
      );
      return;
    }
    const { generation } = slot;
    slot.seenUs = nowUs();
    const nowMs = Date.now();
    slot.deadlineMs = nowMs + this.#options.httpBodyTimeoutMs;
    slot.wholeByMs = nowMs + this.#options.httpBodyTimeoutMs * wholeBodyFactor;
    slot.clockSetMs = nowMs;
    response.onAborted(() => this.#abort(slot, generation));
    response.onData((chunk, isLast) => {
      if (slot.generation === generation) this.#receive(slot, kind, chunk, isLast);
    });
  }

  /** Reads the header; answers and gives null if it asks for something that is not there. */
  #kindOf(response: HttpResponse, request: HttpRequest): RequestKind | null {
    const contentType = request.getHeader('content-type');
    const encoding = request.getHeader('content-encoding');
    const query = request.getQuery();
    if (contentType === jsonType && encoding === '' && (query === '' || query === undefined))
      return this.#plainJson;
    const mediaType = (contentType.split(';')[0] ?? '').trim().toLowerCase();
    if (mediaType !== jsonType && mediaType !== 'application/x-ndjson') {
      this.#reject(response, 'unsupported_media_type', `content type "${mediaType}" is not supported`, {
        accept: 'application/json, application/x-ndjson',
      });
      return null;
    }
    const coding = encoding === '' ? 'identity' : encoding.trim().toLowerCase();
    if (coding !== 'identity' && !supportedEncodings.some((supported) => supported === coding)) {
      this.#reject(response, 'unsupported_media_type', `content encoding "${coding}" is not supported here`, {
        'accept-encoding': acceptEncoding,
      });
      return null;
    }
    const asked = readQuery(query ?? '');
    if (typeof asked === 'string') {
      this.#reject(response, 'invalid_parameter', asked, {});
      return null;
    }
    const ack = asked.ack ?? this.#options.ack;
    return {
      type: mediaType === jsonType ? requestTypes.json : requestTypes.ndjson,
      flags: requestFlags(ack, coding as Encoding, asked.wantsIds),
      isStore: ack === 'store',
    };
  }

  #receive(slot: Slot, kind: RequestKind, chunk: ArrayBuffer, isLast: boolean): void {
    const { httpBodyBytesMax, httpPendingBytesMax, httpBodyTimeoutMs } = this.#options;
    const total = slot.body.bytes + chunk.byteLength;
    if (total > httpBodyBytesMax || slot.discardedBytes > 0) {
      this.#discard(slot, total, isLast);
      return;
    }
    if (isLast) {
      this.#bytesIn += total;
      this.#handOver(slot, kind, chunk, total);
      return;
    }
    if (this.#pendingBytes + chunk.byteLength > httpPendingBytesMax) {
      const { response } = slot;
      this.#release(slot);
      const detail = 'too many bodies are arriving at once (http_pending_bytes_max)';
      if (response !== null) this.#refuse(response, 'overloaded', detail, 1);
      return;
    }
    slot.body.add(new Uint8Array(chunk));
    this.#pendingBytes += chunk.byteLength;
    slot.deadlineMs = Math.min(Date.now() + httpBodyTimeoutMs, slot.wholeByMs);
  }

  /**
   * Throws a body past its limit away and refuses it when it has ended: cut while it still writes, its client would
   * get a reset instead of the answer. This has a bound too, and then the connection is cut.
   */
  #discard(slot: Slot, bytes: number, isLast: boolean): void {
    const { httpBodyBytesMax, httpBodyTimeoutMs } = this.#options;
    this.#pendingBytes -= slot.body.bytes;
    slot.body.clear();
    slot.discardedBytes += bytes;
    if (!isLast && slot.discardedBytes <= httpBodyBytesMax + discardBytesMax) {
      slot.deadlineMs = Math.min(Date.now() + httpBodyTimeoutMs, slot.wholeByMs);
      return;
    }
    const { response } = slot;
    this.#release(slot);
    if (response !== null) this.#refuseLarge(response, !isLast);
  }

  /** Copies the whole body into a ring, or refuses if no ring has room. */
  #handOver(slot: Slot, kind: RequestKind, lastChunk: ArrayBuffer, totalBytes: number): void {
    const lane = this.#tryLane(requestHeaderBytes + totalBytes);
    if (lane === null) {
      const { response } = slot;
      this.#release(slot);
      const isAnyAlive = this.#lanes.some((candidate) => candidate?.isAlive);
      const detail = isAnyAlive ? 'the rings are full' : 'no producer worker is running';
      if (response !== null)
        this.#refuse(response, 'overloaded', detail, this.#rate.secondsFor(this.slots.used));
      return;
    }
    const takenUs = nowUs();
    const at = this.#reservedAt;
    lane.requestBytes.writeDoubleLE(takenUs, at + takenUsAt);
    let position = at + requestHeaderBytes;
    if (slot.body.bytes > 0) position = slot.body.copyTo(lane.requestBytes, position);
    lane.requestBytes.set(new Uint8Array(lastChunk), position);
    lane.requests.publish(
      requestHeaderBytes + totalBytes,
      kind.type,
      kind.flags,
      slot.index,
      slot.generation,
    );
    this.#pendingBytes -= slot.body.bytes;
    slot.body.clear();
    slot.phase = 'waiting';
    slot.deadlineMs = Date.now() + this.#options.httpDeadlineMs + (kind.isStore ? storeGraceMs : 0);
    lane.open.set(slot.index, slot.generation);
    lane.doorbell.ring();
    this.#recorder.record('receive', takenUs - slot.seenUs);
  }

  #reservedAt = -1;

  /** A living lane with room, in turn; its reservation is in `#reservedAt`. Null if there is none. */
  #tryLane(payloadBytes: number): Lane | null {
    const lanes = this.#lanes;
    this.#turn += 1;
    for (let i = 0; i < lanes.length; i += 1) {
      const lane = lanes[(this.#turn + i) % lanes.length];
      if (lane === undefined || lane === null || !lane.isAlive) continue;
      this.#reservedAt = lane.requests.tryReserve(payloadBytes);
      if (this.#reservedAt >= 0) return lane;
    }
    return null;
  }

  #abort(slot: Slot, generation: number): void {
    if (slot.generation !== generation) return;
    this.#counters.add('aborted_requests');
    this.#release(slot);
  }

  #release(slot: Slot): void {
    this.#pendingBytes -= slot.body.bytes;
    this.slots.release(slot);
  }

  // ---- answering ------------------------------------------------------------------------------------------------

  /** Writes every answer that waits in a lane's ack ring. */
  drain(lane: Lane): void {
    const { answers, answerBytes } = lane;
    let answered = 0;
    let late = 0;
    let isAny = false;
    while (answers.next()) {
      isAny = true;
      const { type, flags, slot: index, generation, payloadStart, payloadEnd } = answers;
      const hasMore = (flags & answerHasMore) !== 0;
      if (!hasMore && lane.open.get(index) === generation) lane.open.delete(index);
      const slot = this.slots.find(index, generation);
      if (slot === null || slot.response === null) {
        if (!hasMore) late += 1;
        continue;
      }
      const isFirst = type === answerTypes.answer;
      if (isFirst) {
        slot.answerStatus = answerBytes.readUInt16LE(payloadStart + statusAt);
        slot.answerRetryAfterS = answerBytes.readUInt16LE(payloadStart + retryAfterAt);
      }
      const piece = answerBytes.subarray(
        isFirst ? payloadStart + answerHeaderBytes : payloadStart,
        payloadEnd,
      );
      if (hasMore) {
        slot.answerParts.push(Buffer.from(piece));
        continue;
      }
      answered += 1;
      this.#answer(slot, slot.response, piece);
    }
    if (!isAny) return;
    answers.release();
    this.#rate.add(answered);
    if (late > 0) this.#counters.add('late_acks', late);
    // The worker may wait for room in the ack ring.
    lane.doorbell.ring();
  }

  #answer(slot: Slot, response: HttpResponse, lastPiece: Buffer): void {
    const { answerStatus, answerRetryAfterS, answerParts } = slot;
    const body = answerParts.length === 0 ? lastPiece : Buffer.concat([...answerParts, lastPiece]);
    const isProblem = answerStatus !== 200 && body.subarray(0, 8).toString('latin1') === '{"type":';
    const headers: Record<string, string> = {};
    if (answerRetryAfterS > 0) headers['retry-after'] = String(answerRetryAfterS);
    if (answerStatus === 415) headers['accept-encoding'] = acceptEncoding;
    // The slot is given back first: writing may fail only by an abort, which finds the generation moved on.
    this.#release(slot);
    sendAnswer(response, answerStatus, isProblem ? problemType : jsonType, body, headers);
  }

  /** Answers everything that was handed to a lane whose worker died: nobody knows how far it came. */
  failLane(lane: Lane): void {
    lane.isAlive = false;
    this.drain(lane);
    for (const [index, generation] of lane.open) {
      const slot = this.slots.find(index, generation);
      const response = slot?.response ?? null;
      if (slot === null || response === null) continue;
      this.#release(slot);
      this.#refuse(response, 'outcome_unknown', 'the worker that had this request died', 1);
    }
    lane.open.clear();
  }

  /** Answers requests whose time is over; to be called every `sweepEveryMs`. */
  sweep(nowMs: number): void {
    this.#rate.tick(nowMs);
    this.#flushCounters();
    for (const slot of this.slots.inUse()) {
      const { response, phase, discardedBytes } = slot;
      if (response === null) continue;
      if (slot.deadlineMs > nowMs) {
        if (phase === 'receiving' && nowMs - slot.clockSetMs >= clockSetEveryMs) {
          slot.clockSetMs = nowMs;
          response.pause();
          response.resume();
        }
        continue;
      }
      this.#release(slot);
      if (discardedBytes > 0) this.#refuseLarge(response, true);
      else if (phase === 'receiving') {
        this.#counters.add(rejectedCounter('request_timeout'));
        sendProblem(response, 'request_timeout', 'the body stopped arriving', { mustClose: true });
      } else {
        const detail = `no outcome within ${this.#options.httpDeadlineMs} ms (http_deadline_ms)`;
        this.#refuse(response, 'outcome_unknown', detail, this.#rate.secondsFor(this.slots.used));
      }
    }
  }

  /** Answers whoever is still there when the process has no more time. */
  failAll(): void {
    for (const slot of this.slots.inUse()) {
      const { response, phase } = slot;
      this.#release(slot);
      if (response === null) continue;
      this.#refuse(
        response,
        phase === 'receiving' ? 'stopping' : 'outcome_unknown',
        'this process is stopping',
        1,
      );
    }
  }

  #flushCounters(): void {
    if (this.#requests > 0) this.#counters.add('requests', this.#requests);
    if (this.#bytesIn > 0) this.#counters.add('bytes_in', this.#bytesIn);
    this.#requests = 0;
    this.#bytesIn = 0;
  }

  #refuse(response: HttpResponse, code: ErrorCode, detail: string, retryAfterS: number): void {
    this.#counters.add(rejectedCounter(code));
    sendProblem(response, code, detail, { headers: { 'retry-after': String(retryAfterS) } });
  }

  #refuseLarge(response: HttpResponse, mustClose: boolean): void {
    this.#counters.add(rejectedCounter('too_large'));
    const detail = `the body has more than ${this.#options.httpBodyBytesMax} bytes (http_body_bytes_max)`;
    sendProblem(response, 'too_large', detail, { mustClose });
  }

  #reject(
    response: HttpResponse,
    code: ErrorCode,
    detail: string,
    headers: Readonly<Record<string, string>>,
  ): void {
    this.#counters.add(rejectedCounter(code));
    sendProblem(response, code, detail, { headers });
  }
}

/** What the query string asks for, or the text of what is wrong with it. */
function readQuery(query: string): { readonly ack: AckLevel | null; readonly wantsIds: boolean } | string {
  let ack: AckLevel | null = null;
  let wantsIds = false;
  const seen = new Set<string>();
  for (const [name, value] of new URLSearchParams(query)) {
    // Two acks would ask for two promises: taking either would break the other.
    if (seen.has(name)) return `parameter "${name}" is given twice`;
    seen.add(name);
    if (name === 'ack') {
      const level = ackLevels.find((candidate) => candidate === value);
      if (level === undefined) return `ack must be one of ${ackLevels.join(', ')}, not "${value}"`;
      ack = level;
    } else if (name === 'ids') {
      if (value !== '0' && value !== '1') return `ids must be 0 or 1, not "${value}"`;
      wantsIds = value === '1';
    } else return `unknown parameter "${name}"; there are ack and ids`;
  }
  return { ack, wantsIds };
}
