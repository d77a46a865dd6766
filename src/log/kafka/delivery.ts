// How an appender's pieces get to the brokers that lead their partitions: one Produce request for each leader, sent at most
// once unless it provably was not written. Runs on the producer's thread.
//
// What one broker in trouble may hold up, in the order in which it is noticed:
//   lane        at most a few requests are unanswered for a broker; the next waits, but not for long.
//   patience    a lane that has not answered, or a partition that has failed, for longer than patienceMs: new batches
//               for it are refused at once with `log_unavailable`, while everybody else goes on.
//   ping, probe a broker that was lost must answer a question before it is sent events again; a partition whose
//               replicas did not acknowledge gets one batch at a time, over a connection of its own.

import { performance } from 'node:perf_hooks';
import { EssError } from '../../errors.ts';
import { skipRecords } from '../../event/record.ts';
import type { AppendResult } from '../log.ts';
import { KafkaClient } from './client.ts';
import { KafkaError } from './kafka_error.ts';
import { Lane } from './lane.ts';
import { Pauses, retryPauseMs } from './pauses.ts';
import { type Piece, unavailable, unknown } from './piece.ts';
import type { KafkaTarget } from './target.ts';
import type { PartitionView, TopicView } from './topic_view.ts';
import { TopicWatch } from './topic_watch.ts';
import { Trouble } from './trouble.ts';
import { encodeBatch } from './wire/batch_encoder.ts';
import { kafkaError, kafkaErrors } from './wire/errors.ts';
import { metadataCall } from './wire/metadata.ts';
import { type ProduceAnswer, produceCall, produceOutcome } from './wire/produce.ts';

/** Trouble that lasts longer than this is answered at once, ms; at most a third of the deadline. */
const patienceMaxMs = 1_000;
/** Batches that are being tried out on partitions in trouble, in requests: each can hold up one append. */
const probesMax = 2;
/** A probe that the replicas do not acknowledge within this is given up by the broker, ms. */
const probeTimeoutMs = 2_000;
/** Pause between two probes of a partition, and between two pings of a broker, ms. */
const probeEveryMs = 500;
const pingTimeoutMs = 1_000;
/** What an answer needs to travel after the time that the broker was given, ms; at most a tenth of the deadline. */
const answerMarginMaxMs = 500;
/** For looking up a broker's address, ms. */
const questionTimeoutMs = 5_000;

const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`;

/** One appender's; see the head of this file. It never rejects: a piece hears by its `settle` what became of it. */
export class Delivery {
  readonly watch: TopicWatch;
  readonly #target: KafkaTarget;
  readonly #producing: KafkaClient;
  /** Pings and probes, so that they never stand before a healthy partition's batch. */
  readonly #probing: KafkaClient;
  readonly #batchBytesMax: number;
  readonly #patienceMs: number;
  readonly #answerMarginMs: number;
  readonly #lanes = new Map<number, Lane>();
  readonly #troubles: readonly Trouble[];
  /** For each partition, past the last offset that was given. */
  readonly #ends: Float64Array;
  readonly #pauses = new Pauses();
  #probes = 0;
  #isClosed = false;

  /** `control` is asked about the topic, and stays its owner's. `batchBytesMax`: what the topic takes as one batch. */
  constructor(target: KafkaTarget, control: KafkaClient, view: TopicView, batchBytesMax: number) {
    this.#target = target;
    this.#batchBytesMax = batchBytesMax;
    const requestTimeoutMs = questionTimeoutMs;
    this.#producing = new KafkaClient(target, { name: 'ess-produce', requestTimeoutMs });
    this.#probing = new KafkaClient(target, { name: 'ess-probe', requestTimeoutMs });
    this.#learn(view);
    this.#patienceMs = Math.min(patienceMaxMs, target.appendDeadlineMs / 3);
    this.#answerMarginMs = Math.min(answerMarginMaxMs, target.appendDeadlineMs / 10);
    this.#troubles = view.partitions.map(() => new Trouble());
    this.#ends = new Float64Array(view.partitions.length);
    this.watch = new TopicWatch(control, view, {
      moved: (partition) => {
        // Other replicas answer now: what was in trouble need not be.
        if (this.#unfit(partition) === '') this.#troubles[partition.partition]?.clear();
      },
      seen: (now) => this.#learn(now),
    });
  }

  /** Past the last offset that a piece of this partition was given; 0 if none was. */
  endOf(partition: number): number {
    return this.#ends[partition] ?? 0;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.watch.close();
    for (const lane of this.#lanes.values()) lane.close();
    this.#pauses.end();
    await Promise.all([this.#producing.close(), this.#probing.close()]);
  }

  #learn({ brokers }: TopicView): void {
    this.#producing.learn(brokers);
    this.#probing.learn(brokers);
  }

  /** Sends each piece to where it belongs now, or has it wait, or refuses it. Returns without waiting. */
  place(pieces: readonly Piece[]): void {
    if (this.#isClosed || this.watch.changed !== '') {
      for (const piece of pieces) piece.settle(this.#ended(piece));
      return;
    }
    const nowMs = performance.now();
    const requests = new Map<Lane, Piece[]>();
    const probes = new Map<Lane, Piece[]>();
    const repeated: Piece[] = [];
    const later: Piece[] = [];
    for (const piece of pieces) {
      const trouble = this.#troubles[piece.partition];
      const known = this.watch.view.partitions[piece.partition];
      if (trouble === undefined || known === undefined) {
        piece.settle(this.#ended(piece));
        continue;
      }
      const unfit = this.#unfit(known);
      if (unfit !== '') {
        trouble.note(nowMs, unfit);
        if (trouble.isOlderThan(this.#patienceMs, nowMs)) {
          piece.settle(unavailable(piece.partition, unfit));
          void this.watch.look(probeEveryMs);
        } else later.push(piece);
        continue;
      }
      const lane = this.#lane(known.leader);
      const waitedMs = nowMs - lane.oldestMs;
      if (waitedMs > this.#patienceMs) {
        const reason = `broker ${lane.nodeId} has not answered for ${seconds(waitedMs)}`;
        piece.settle(unavailable(piece.partition, reason));
      } else if (lane.trouble.isOlderThan(this.#patienceMs, nowMs)) {
        piece.settle(unavailable(piece.partition, lane.trouble.reason));
        void this.#ping(lane);
      } else if (!trouble.isOlderThan(this.#patienceMs, nowMs)) {
        // A request takes a partition once.
        if (!add(requests, lane, piece)) repeated.push(piece);
      } else {
        const mayProbe =
          nowMs >= trouble.retryAtMs &&
          (probes.has(lane) || (!lane.isProbing && this.#probes + probes.size < probesMax));
        if (!mayProbe || !add(probes, lane, piece))
          piece.settle(unavailable(piece.partition, trouble.reason));
      }
    }
    for (const [lane, group] of requests) void this.#sendInLane(lane, group);
    for (const [lane, group] of probes) void this.#sendProbe(lane, group);
    if (repeated.length > 0) this.place(repeated);
    if (later.length > 0) void this.#again(later);
  }

  /** Why nothing can be appended to the partition as the metadata have it; empty if it can. */
  #unfit({ leader, inSync }: PartitionView): string {
    if (leader < 0) return 'it has no leader';
    const { minInsyncReplicas } = this.#target;
    if (inSync.length < minInsyncReplicas)
      return `only ${inSync.length} of its replicas are in sync, ${minInsyncReplicas} must be`;
    return '';
  }

  #ended({ partition }: Piece): EssError {
    if (this.watch.changed !== '') return new EssError('log_changed', this.watch.changed);
    return unavailable(partition, 'the log is closed');
  }

  #lane(nodeId: number): Lane {
    let lane = this.#lanes.get(nodeId);
    if (lane === undefined) {
      lane = new Lane(nodeId);
      this.#lanes.set(nodeId, lane);
    }
    return lane;
  }

  async #sendInLane(lane: Lane, pieces: readonly Piece[]): Promise<void> {
    const waitMs = (pieces[0]?.retryUntilMs ?? 0) - performance.now();
    const entered = lane.enter(waitMs, this.#patienceMs);
    if (entered !== true && !(await entered)) {
      for (const { partition, settle } of pieces)
        settle(unavailable(partition, `broker ${lane.nodeId} has not answered what was sent before`));
      return;
    }
    try {
      await this.#send(this.#producing, lane, pieces);
    } finally {
      lane.leave();
    }
  }

  async #sendProbe(lane: Lane, pieces: readonly Piece[]): Promise<void> {
    lane.isProbing = true;
    this.#probes += 1;
    try {
      await this.#send(this.#probing, lane, pieces);
    } finally {
      lane.isProbing = false;
      this.#probes -= 1;
      const retryAtMs = performance.now() + probeEveryMs;
      for (const { partition } of pieces) {
        const trouble = this.#troubles[partition];
        if (trouble !== undefined) trouble.retryAtMs = retryAtMs;
      }
    }
  }

  /** One Produce request and what comes of it. Never rejects; every piece is settled or tried again. */
  async #send(client: KafkaClient, lane: Lane, pieces: readonly Piece[]): Promise<void> {
    try {
      await this.#trySend(client, lane, pieces);
    } catch (error) {
      // A bug, or a compression that this Node.js lost: nobody may wait for ever because of it.
      const known =
        error instanceof EssError ? error : new EssError('outcome_unknown', String(error), { cause: error });
      for (const { settle } of pieces) settle(known);
    }
  }

  async #trySend(client: KafkaClient, lane: Lane, pieces: readonly Piece[]): Promise<void> {
    const [any] = pieces;
    if (any === undefined) return;
    const { nodeId } = lane;
    const isProbe = client === this.#probing;
    try {
      // Connecting may take as long as a repeat would still make sense; waiting for an answer may take longer.
      if (!client.isOpen(nodeId)) await client.reach(nodeId, any.retryUntilMs - performance.now());
    } catch (error) {
      this.#neverSent(lane, pieces, error);
      return;
    }
    const batches: { readonly partition: number; readonly records: Buffer }[] = [];
    const sent: Piece[] = [];
    for (const piece of pieces) {
      const records = encodeBatch(piece.bytes, piece.count, this.#target.compression);
      if (records.length > this.#batchBytesMax && piece.count > 1) {
        void this.#cut(piece);
        continue;
      }
      sent.push(piece);
      batches.push({ partition: piece.partition, records });
    }
    if (sent.length === 0) return;
    const sentMs = performance.now();
    const answerMs = any.deadlineMs - sentMs - this.#answerMarginMs;
    const timeoutMs = Math.ceil(Math.max(isProbe ? Math.min(answerMs, probeTimeoutMs) : answerMs, 1));
    if (!isProbe) lane.sent(sentMs);
    let answers: ProduceAnswer[];
    try {
      const call = produceCall({ topic: this.#target.topic, timeoutMs, batches });
      answers = await client.send(nodeId, call, timeoutMs + this.#answerMarginMs * 0.8);
    } catch (error) {
      if (error instanceof KafkaError && !error.isSent) this.#neverSent(lane, sent, error);
      else this.#neverAnswered(lane, sent, sentMs, error);
      return;
    } finally {
      if (!isProbe) lane.answered(sentMs);
    }
    lane.trouble.clear();
    const again: Piece[] = [];
    for (const piece of sent) {
      const answer = answers.find(({ partition }) => partition === piece.partition);
      if (this.#settle(piece, answer, sentMs) === 'again') again.push(piece);
    }
    if (again.length > 0) void this.#again(again);
  }

  /** What one partition's answer means for its piece. */
  #settle(piece: Piece, answer: ProduceAnswer | undefined, sentMs: number): 'settled' | 'again' {
    const { partition, count, settle } = piece;
    const trouble = this.#troubles[partition];
    if (answer === undefined || trouble === undefined) {
      settle(unknown(partition, 'the broker did not say what became of it'));
      return 'settled';
    }
    const { name } = kafkaError(answer.errorCode);
    switch (produceOutcome(answer)) {
      case 'written': {
        trouble.clear();
        // Offsets only grow. One that does not may be of a topic that was made anew since the last look.
        if (answer.baseOffset < (this.#ends[partition] ?? 0)) {
          void this.#confirm(piece, answer.baseOffset);
          return 'settled';
        }
        this.#ends[partition] = answer.baseOffset + count;
        settle(answer.baseOffset);
        return 'settled';
      }
      case 'unknown':
        trouble.note(sentMs, `its replicas did not acknowledge (${name})`);
        void this.watch.look(probeEveryMs);
        settle(unknown(partition, `its leader answered ${name}`));
        return 'settled';
      case 'refused':
        if (isTooLarge(answer.errorCode)) {
          if (count > 1) void this.#cut(piece);
          else settle(new EssError('too_large', `the topic takes no record of ${piece.bytes.length} bytes`));
        } else settle(unavailable(partition, `the broker refuses it: ${name}`));
        return 'settled';
      case 'retry':
        trouble.note(performance.now(), name);
        return 'again';
    }
  }

  /** An offset below one that was given before: fine if the topic is still the same (an election lost records). */
  async #confirm(piece: Piece, baseOffset: number): Promise<void> {
    const { partition, count, settle, deadlineMs } = piece;
    const askedMs = performance.now();
    this.watch.forget();
    await Promise.race([this.watch.look(), this.#pauses.pause(Math.max(deadlineMs - askedMs, 0))]);
    if (this.watch.changed !== '' || this.watch.viewAtMs < askedMs) {
      settle(
        unknown(partition, this.watch.changed === '' ? 'the topic cannot be looked at' : this.watch.changed),
      );
      return;
    }
    this.#ends[partition] = baseOffset + count;
    settle(baseOffset);
  }

  #neverSent(lane: Lane, pieces: readonly Piece[], error: unknown): void {
    const nowMs = performance.now();
    const isKnown = error instanceof KafkaError;
    const reason = `broker ${lane.nodeId}: ${error instanceof Error ? error.message : String(error)}`;
    if (isKnown && error.kind !== 'closed') lane.trouble.note(nowMs, reason);
    if (!isKnown || error.kind !== 'unreachable') {
      const why =
        isKnown && error.kind === 'authentication'
          ? `Kafka refuses the user name or password: ${error.message}`
          : reason;
      for (const { partition, settle } of pieces) settle(unavailable(partition, why, error));
      return;
    }
    void this.#again(pieces);
  }

  #neverAnswered(lane: Lane, pieces: readonly Piece[], sentMs: number, error: unknown): void {
    const reason = `broker ${lane.nodeId}: ${error instanceof Error ? error.message : String(error)}`;
    const isLate = error instanceof KafkaError && error.kind === 'timeout';
    lane.trouble.note(isLate ? sentMs : performance.now(), reason);
    void this.watch.look(probeEveryMs);
    for (const { partition, settle } of pieces) settle(unknown(partition, reason, error));
  }

  /** Places pieces anew after a pause and a look at the metadata, as long as there is time for it. */
  async #again(pieces: readonly Piece[]): Promise<void> {
    const [any] = pieces;
    if (any === undefined) return;
    const pauseMs = retryPauseMs(any.attempts);
    const nowMs = performance.now();
    const soon: Piece[] = [];
    for (const piece of pieces) {
      piece.attempts += 1;
      if (nowMs + pauseMs < piece.retryUntilMs) soon.push(piece);
      else piece.settle(unavailable(piece.partition, this.#reasonOf(piece.partition)));
    }
    if (soon.length === 0) return;
    this.watch.forget();
    await this.#pauses.pause(pauseMs);
    await Promise.race([
      this.watch.look(),
      this.#pauses.pause(Math.min(this.#patienceMs, any.retryUntilMs - nowMs)),
    ]);
    this.place(soon);
  }

  #reasonOf(partition: number): string {
    const trouble = this.#troubles[partition];
    if (trouble !== undefined && trouble.sinceMs !== 0) return trouble.reason;
    const lane = this.#lanes.get(this.watch.view.partitions[partition]?.leader ?? -1);
    return lane === undefined || lane.trouble.sinceMs === 0
      ? 'it moves from leader to leader'
      : lane.trouble.reason;
  }

  /** Appends a batch that is too large in two parts. It has an offset if they are next to each other in the log. */
  async #cut({ partition, count, bytes, retryUntilMs, deadlineMs, settle }: Piece): Promise<void> {
    const firstCount = count >> 1;
    const cutAt = skipRecords(bytes, firstCount);
    const part = (partCount: number, partBytes: Buffer): Promise<AppendResult> =>
      new Promise((resolve) => {
        const piece = { partition, count: partCount, bytes: partBytes, retryUntilMs, deadlineMs };
        this.place([{ ...piece, settle: resolve, attempts: 0 }]);
      });
    const first = await part(firstCount, bytes.subarray(0, cutAt));
    if (typeof first !== 'number') {
      settle(first);
      return;
    }
    const second = await part(count - firstCount, bytes.subarray(cutAt));
    if (second === first + firstCount) {
      settle(first);
      return;
    }
    const reason =
      typeof second === 'number' ? 'other records came between its parts' : `a part of it: ${second.message}`;
    settle(unknown(partition, reason, second));
  }

  /** Asks a broker that was lost whether it is back. */
  async #ping(lane: Lane): Promise<void> {
    if (lane.isPinging || performance.now() < lane.trouble.retryAtMs) return;
    lane.isPinging = true;
    void this.watch.look(probeEveryMs);
    try {
      await this.#probing.send(lane.nodeId, metadataCall([]), pingTimeoutMs);
      lane.trouble.clear();
    } catch (error) {
      if (!(error instanceof KafkaError)) throw error;
      lane.trouble.retryAtMs = performance.now() + probeEveryMs;
    } finally {
      lane.isPinging = false;
    }
  }
}

/** Adds a piece to a broker's request; false if the request has its partition already. */
function add(requests: Map<Lane, Piece[]>, lane: Lane, piece: Piece): boolean {
  const request = requests.get(lane);
  if (request === undefined) {
    requests.set(lane, [piece]);
    return true;
  }
  if (request.some(({ partition }) => partition === piece.partition)) return false;
  request.push(piece);
  return true;
}

const isTooLarge = (code: number): boolean =>
  code === kafkaErrors.MESSAGE_TOO_LARGE.code || code === kafkaErrors.RECORD_LIST_TOO_LARGE.code;
