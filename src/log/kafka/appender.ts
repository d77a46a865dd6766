// The producer worker's handle on a Kafka topic. Runs on the producer's thread; one Produce request goes to each leader
// for each append, acknowledged by all in-sync replicas. A batch is sent at most once unless the broker or the absence
// of a connection proves that it was not written: what may have been written and is not known to be is answered
// `outcome_unknown`, since only the sender of an event may repeat it (with the same id it stays one event).
//
// What one broker in trouble may hold up, in the order in which it is noticed:
//   lane        at most laneInFlightMax requests are unanswered for a broker; the next waits, but not for long.
//   patience    a lane that has not answered, or a partition that has failed, for longer than patienceMs: new batches
//               for it are refused at once with `log_unavailable`, while everybody else goes on.
//   ping, probe a broker that was lost must answer a question before it is sent events again; a partition whose
//               replicas did not acknowledge gets one batch at a time, over a connection of its own.

import { performance } from 'node:perf_hooks';
import { EssError } from '../../errors.ts';
import { skipRecords } from '../../event/record.ts';
import type { AppendBatch, AppendResult, DeadLetter, LogAppender, PartitionState } from '../log.ts';
import { KafkaClient, KafkaError, type PartitionView, type TopicView } from './client.ts';
import { KafkaDeadLetters } from './dead_letters.ts';
import { appendsMax, type KafkaTarget } from './target.ts';
import { readTopic, type TopicFound, topicConfigNames } from './topics.ts';
import { encodeBatch } from './wire/batch_encoder.ts';
import { canCompress } from './wire/compression.ts';
import { kafkaError, kafkaErrors } from './wire/errors.ts';
import { listOffsetsCall } from './wire/list_offsets.ts';
import { metadataCall } from './wire/metadata.ts';
import { type ProduceAnswer, produceCall, produceOutcome } from './wire/produce.ts';

/** Default of `openKafkaAppender`, ms: a cluster that starts together with ESS needs 10 to 20 s. */
const openTimeoutDefaultMs = 30_000;
/** But a topic that no broker knows, or a refused password, is believed after this, ms: it does not heal by itself. */
const openRefusedMs = 5_000;
const openRetryMs = 200;

/** Appends of one handle under way at most, those that wait for a hung broker included; its callers hold 32. */
const appendsHeldMax = 64;
/**
 * Requests unanswered on one connection. A broker works on one request of a connection at a time and takes the next
 * when that is answered, so the second is there to be taken at once. With answers after 3 ms and four appends under
 * way, one gave half to two thirds of the throughput of two; three and four gave no more than two.
 */
const laneInFlightMax = 2;
/** How often who waits for a broker looks whether that still makes sense, ms. */
const laneLookMs = 100;
/** Trouble that lasts longer than this is answered at once, ms; at most a third of the deadline. */
const patienceMaxMs = 1_000;
/** Batches that are being tried out on partitions in trouble, in requests: each can hold up one append. */
const probesMax = 2;
/** A probe that the replicas do not acknowledge within this is given up by the broker, ms. */
const probeTimeoutMs = 2_000;
/** Pause between two probes of a partition, and between two pings of a broker, ms. */
const probeEveryMs = 500;
const pingTimeoutMs = 1_000;
/** Pause before a batch that was not written is sent again, ms: doubled each time up to the bound. */
const retryFirstMs = 20;
const retryMaxMs = 320;
/** While appends are made, the topic is looked at this often, ms. */
const viewAgeMaxMs = 1_000;
/** A topic that brokers do not know for this long is gone, ms. One that has just started may not know it yet. */
const goneAfterMs = 2_000;
/** What an answer needs to travel after the time that the broker was given, ms; at most a tenth of the deadline. */
const answerMarginMaxMs = 500;
/** For questions about offsets, ms. */
const questionTimeoutMs = 5_000;

/** One batch, or a part of one, on its way. */
interface Piece {
  readonly partition: number;
  readonly count: number;
  readonly bytes: Buffer;
  /** Not sent again after this, by the monotonic clock. */
  readonly retryUntilMs: number;
  /** Settled by this. */
  readonly deadlineMs: number;
  readonly settle: (result: AppendResult) => void;
  attempts: number;
}

/** How long something has been in trouble, and why. */
class Trouble {
  /** By the monotonic clock; 0 while all is well. */
  sinceMs = 0;
  reason = '';
  /** When it may be tried out again. */
  retryAtMs = 0;

  note(sinceMs: number, reason: string): void {
    if (this.sinceMs === 0) this.sinceMs = sinceMs;
    this.reason = reason;
  }

  clear(): void {
    this.sinceMs = 0;
    this.retryAtMs = 0;
  }

  isOlderThan(ms: number, nowMs: number): boolean {
    return this.sinceMs !== 0 && nowMs - this.sinceMs > ms;
  }
}

/** The way to one broker: what is unanswered on it and who waits for it. */
class Lane {
  readonly nodeId: number;
  readonly trouble = new Trouble();
  isPinging = false;
  isProbing = false;
  /** When each unanswered request was sent, oldest first. */
  readonly #sentMs: number[] = [];
  #inFlight = 0;
  readonly #waiting: ((isEntered: boolean) => void)[] = [];

  constructor(nodeId: number) {
    this.nodeId = nodeId;
  }

  /** When the oldest unanswered request was sent; infinity if there is none. */
  get oldestMs(): number {
    return this.#sentMs[0] ?? Number.POSITIVE_INFINITY;
  }

  /**
   * True once there is room for a request; false if there is none in `waitMs`, or as soon as the oldest request has
   * been unanswered for `patienceMs`.
   */
  enter(waitMs: number, patienceMs: number): Promise<boolean> | true {
    if (this.#inFlight < laneInFlightMax) {
      this.#inFlight += 1;
      return true;
    }
    return new Promise((resolve) => {
      const untilMs = performance.now() + waitMs;
      const enter = (isEntered: boolean) => {
        clearTimeout(timer);
        resolve(isEntered);
      };
      const look = () => {
        const nowMs = performance.now();
        if (nowMs < untilMs && nowMs - this.oldestMs < patienceMs) {
          timer = setTimeout(look, laneLookMs);
          return;
        }
        this.#waiting.splice(this.#waiting.indexOf(enter), 1);
        resolve(false);
      };
      let timer = setTimeout(look, laneLookMs);
      this.#waiting.push(enter);
    });
  }

  leave(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#inFlight -= 1;
    else next(true);
  }

  sent(nowMs: number): void {
    this.#sentMs.push(nowMs);
  }

  answered(sentMs: number): void {
    this.#sentMs.splice(this.#sentMs.indexOf(sentMs), 1);
  }

  /** Turns everybody away. */
  close(): void {
    for (const enter of this.#waiting.splice(0)) enter(false);
  }
}

const unavailable = (partition: number, reason: string, cause?: unknown): EssError =>
  new EssError('log_unavailable', `partition ${partition}: ${reason}`, { cause });
const unknown = (partition: number, reason: string, cause?: unknown): EssError =>
  new EssError('outcome_unknown', `partition ${partition}: ${reason}`, { cause });

const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`;

/**
 * Opens the topic for appending. Waits up to `openTimeoutMs` (default 30,000) for brokers that answer; then rejects
 * with `log_unavailable`, naming the reason. `bad_option`: the topic is there but cannot keep what the configuration
 * promises.
 */
export async function openKafkaAppender(
  target: KafkaTarget,
  openTimeoutMs = openTimeoutDefaultMs,
): Promise<LogAppender> {
  if (!canCompress(target.compression))
    throw new EssError('platform_unsupported', 'zstd is written by Node.js 22.15 and later');
  const control = new KafkaClient(target, { name: 'ess-control', requestTimeoutMs: questionTimeoutMs });
  try {
    const { view, configs } = await openTopic(control, target, openTimeoutMs);
    checkTopic(target, view, configs);
    const batchBytesMax = Number(configs?.get(topicConfigNames.maxMessageBytes) ?? Number.POSITIVE_INFINITY);
    return new KafkaAppender(target, control, view, batchBytesMax);
  } catch (error) {
    await control.close();
    throw error;
  }
}

/** The settings of a topic, by Kafka's names; null if they may not be read. */
type Configs = TopicFound['configs'];

/** The topic and its settings, as soon as brokers tell both. */
async function openTopic(
  client: KafkaClient,
  target: KafkaTarget,
  openTimeoutMs: number,
): Promise<{ readonly view: TopicView; readonly configs: Configs }> {
  const startedMs = performance.now();
  for (;;) {
    try {
      const view = await client.metadata(0);
      const found = await readTopic(client, target.topic);
      // Else it was made anew between the two.
      if (found?.topicId === view.topicId) return { view, configs: found.configs };
    } catch (error) {
      if (!(error instanceof KafkaError)) throw error;
      const isRefused = error.kind === 'authentication' || error.protocolCode !== undefined;
      const ageMs = performance.now() - startedMs;
      if (ageMs > Math.min(isRefused ? openRefusedMs : openTimeoutMs, openTimeoutMs))
        throw openFailure(target, error);
    }
    client.forget();
    await new Promise((resolve) => setTimeout(resolve, openRetryMs));
  }
}

function openFailure({ topic, brokers }: KafkaTarget, cause: KafkaError): EssError {
  const where = brokers.join(', ');
  if (cause.kind === 'authentication')
    return new EssError('log_unavailable', `Kafka at ${where} refuses the user name or password`, { cause });
  switch (cause.protocolCode) {
    case undefined:
      return new EssError('log_unavailable', `no Kafka broker answers: ${cause.message}`, { cause });
    case kafkaErrors.UNKNOWN_TOPIC_OR_PARTITION.code:
      return new EssError('log_unavailable', `topic ${topic} is not there; \`ess init\` creates it`, {
        cause,
      });
    default: {
      const { name } = kafkaError(cause.protocolCode);
      return new EssError('log_unavailable', `Kafka at ${where} refuses topic ${topic}: ${name}`, { cause });
    }
  }
}

/** Checks what an append promises against what the topic is. */
function checkTopic({ topic, minInsyncReplicas }: KafkaTarget, view: TopicView, configs: Configs): void {
  const fewest = Math.min(...view.partitions.map(({ replicas }) => replicas.length));
  if (fewest < minInsyncReplicas) {
    throw new EssError(
      'bad_option',
      `topic ${topic} has ${fewest} replicas, kafka-min-insync-replicas asks for ${minInsyncReplicas}`,
    );
  }
  const inForce = Number(configs?.get(topicConfigNames.minInsyncReplicas) ?? minInsyncReplicas);
  if (inForce < minInsyncReplicas) {
    throw new EssError(
      'bad_option',
      `topic ${topic} has min.insync.replicas=${inForce}, kafka-min-insync-replicas asks for ${minInsyncReplicas}; \`ess init --apply\` sets it`,
    );
  }
}

class KafkaAppender implements LogAppender {
  readonly epoch: string;
  readonly partitions: number;
  readonly appendsMax = appendsMax;
  readonly #target: KafkaTarget;
  /** Metadata, offsets and committed positions. */
  readonly #control: KafkaClient;
  readonly #producing: KafkaClient;
  /** Pings and probes, so that they never stand before a healthy partition's batch. */
  readonly #probing: KafkaClient;
  readonly #letters: KafkaDeadLetters;
  readonly #batchBytesMax: number;
  readonly #patienceMs: number;
  readonly #answerMarginMs: number;
  readonly #lanes = new Map<number, Lane>();
  readonly #troubles: readonly Trouble[];
  /** For each partition, past the last offset that this handle was given. */
  readonly #ends: Float64Array;
  readonly #states: (PartitionState | undefined)[];
  /** Pauses under way, for `close`. */
  readonly #pauses = new Set<() => void>();
  #view: TopicView;
  #viewAtMs = performance.now();
  #looking: Promise<void> | null = null;
  #goneSinceMs = 0;
  /** Why the topic is another one now; empty while it is not. */
  #changed = '';
  #held = 0;
  #probes = 0;
  #coordinator: number | null = null;
  #isClosed = false;

  constructor(target: KafkaTarget, control: KafkaClient, view: TopicView, batchBytesMax: number) {
    this.#target = target;
    this.#control = control;
    this.#view = view;
    this.#batchBytesMax = batchBytesMax;
    this.epoch = view.topicId;
    this.partitions = view.partitions.length;
    const requestTimeoutMs = questionTimeoutMs;
    this.#producing = new KafkaClient(target, { name: 'ess-produce', requestTimeoutMs });
    this.#probing = new KafkaClient(target, { name: 'ess-probe', requestTimeoutMs });
    this.#producing.learn(view.brokers);
    this.#probing.learn(view.brokers);
    this.#letters = new KafkaDeadLetters(target, this.epoch);
    this.#patienceMs = Math.min(patienceMaxMs, target.appendDeadlineMs / 3);
    this.#answerMarginMs = Math.min(answerMarginMaxMs, target.appendDeadlineMs / 10);
    this.#troubles = view.partitions.map(() => new Trouble());
    this.#ends = new Float64Array(this.partitions);
    this.#states = view.partitions.map(() => undefined);
  }

  async append(batches: readonly AppendBatch[]): Promise<AppendResult[]> {
    if (batches.length === 0) return [];
    for (const batch of batches) this.#assertWhole(batch);
    if (this.#isClosed) throw new EssError('log_unavailable', 'the log is closed');
    if (this.#changed !== '') throw new EssError('log_changed', this.#changed);
    if (this.#held >= appendsHeldMax)
      throw new EssError('log_unavailable', `${appendsHeldMax} appends are under way`);
    const nowMs = performance.now();
    if (nowMs - this.#viewAtMs > viewAgeMaxMs) void this.#look();
    const { appendDeadlineMs } = this.#target;
    this.#held += 1;
    try {
      const results = await new Promise<AppendResult[]>((resolve) => {
        const settled: AppendResult[] = [];
        let left = batches.length;
        const pieces = batches.map(({ partition, count, bytes }, index): Piece => {
          const settle = (result: AppendResult) => {
            if (settled[index] !== undefined) return;
            settled[index] = result;
            left -= 1;
            if (left === 0) resolve(settled);
          };
          const retryUntilMs = nowMs + appendDeadlineMs / 3;
          const deadlineMs = nowMs + appendDeadlineMs;
          return { partition, count, bytes, retryUntilMs, deadlineMs, settle, attempts: 0 };
        });
        this.#place(pieces);
      });
      const [first] = results;
      if (
        first instanceof EssError &&
        results.every((one) => one instanceof EssError && one.code === first.code)
      )
        throw first;
      return results;
    } finally {
      this.#held -= 1;
    }
  }

  async states(): Promise<PartitionState[]> {
    const view = await this.#viewNow();
    const byLeader = new Map<number, number[]>();
    for (const { partition, leader } of view.partitions) {
      if (leader < 0) continue;
      const led = byLeader.get(leader);
      if (led === undefined) byLeader.set(leader, [partition]);
      else led.push(partition);
    }
    const partitions = view.partitions.map(({ partition }) => partition);
    const [committed, ...bounds] = await Promise.all([
      this.#committedOrLast(partitions),
      ...[...byLeader].map(([leader, led]) => this.#bounds(leader, led)),
    ]);
    const found = new Map(bounds.flat().map((bound) => [bound.partition, bound]));
    // A partition without a leader is told as it was last seen.
    return partitions.map((partition) => {
      const position = committed[partition] ?? 0;
      const known = found.get(partition) ?? this.#states[partition];
      // A position says nothing of the end: it may have been moved by hand.
      const end = Math.max(known?.end ?? position, this.#ends[partition] ?? 0);
      const state = { start: known?.start ?? 0, end, bytes: 0, committed: Math.min(position, end) };
      this.#states[partition] = state;
      return state;
    });
  }

  async committed(partitions: readonly number[]): Promise<number[]> {
    const { group, topic } = this.#target;
    const untilMs = performance.now() + questionTimeoutMs;
    const asked = [{ topic, partitions: partitions.map((partition) => ({ partition })) }];
    for (let attempt = 0; ; attempt += 1) {
      const leftMs = Math.max(untilMs - performance.now(), 1);
      try {
        this.#coordinator ??= await this.#control.coordinator(group, leftMs);
        const { responses } = await this.#control.withBroker(this.#coordinator, leftMs, (broker) =>
          broker.offsetFetch({ groupId: group, topics: asked }),
        );
        const found = new Map<number, number>();
        for (const one of responses.find((response) => response.topic === topic)?.partitions ?? [])
          found.set(one.partition, Number(one.offset));
        return partitions.map((partition) => Math.max(found.get(partition) ?? 0, 0));
      } catch (error) {
        this.#coordinator = null;
        // Whatever it was, the coordinator may have moved.
        if (!(error instanceof KafkaError)) throw error;
        const pauseMs = retryPauseMs(attempt);
        if (this.#isClosed || performance.now() + pauseMs > untilMs) {
          throw new EssError(
            'log_unavailable',
            `the positions of group ${group} cannot be read: ${error.message}`,
            {
              cause: error,
            },
          );
        }
        await this.#pause(pauseMs);
      }
    }
  }

  /** While the coordinator is away, what it said last. */
  async #committedOrLast(partitions: readonly number[]): Promise<number[]> {
    try {
      return await this.committed(partitions);
    } catch (error) {
      const last = partitions.map((partition) => this.#states[partition]?.committed);
      if (last.includes(undefined)) throw error;
      return last.map((position) => position ?? 0);
    }
  }

  /** The topic's own retention does it. */
  async trim(): Promise<number> {
    return 0;
  }

  isParked(partition: number, offset: number): Promise<boolean> {
    return this.#letters.isParked(partition, offset);
  }

  deadLetters(
    limit: number,
    after?: { readonly partition: number; readonly offset: number },
  ): Promise<DeadLetter[]> {
    return this.#letters.deadLetters(limit, after);
  }

  deadLetterCount(): Promise<number> {
    return this.#letters.deadLetterCount();
  }

  latestDeadLetters(limit: number): Promise<DeadLetter[]> {
    return this.#letters.latest(limit);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    for (const lane of this.#lanes.values()) lane.close();
    for (const end of [...this.#pauses]) end();
    await Promise.all([
      this.#control.close(),
      this.#producing.close(),
      this.#probing.close(),
      this.#letters.close(),
    ]);
  }

  #assertWhole({ partition, count, bytes }: AppendBatch): void {
    if (!Number.isInteger(partition) || partition < 0 || partition >= this.partitions)
      throw new EssError('internal', `there is no partition ${partition}`);
    if (count < 1 || recordsEnd(bytes, count) !== bytes.length)
      throw new EssError('internal', `a batch does not hold the ${count} records that it says`);
  }

  /** Sends each piece to where it belongs now, or has it wait, or refuses it. Returns without waiting. */
  #place(pieces: readonly Piece[]): void {
    if (this.#isClosed || this.#changed !== '') {
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
      const known = this.#view.partitions[piece.partition];
      if (trouble === undefined || known === undefined) {
        piece.settle(this.#ended(piece));
        continue;
      }
      const unfit = this.#unfit(known);
      if (unfit !== '') {
        trouble.note(nowMs, unfit);
        if (trouble.isOlderThan(this.#patienceMs, nowMs)) {
          piece.settle(unavailable(piece.partition, unfit));
          void this.#look(probeEveryMs);
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
    if (repeated.length > 0) this.#place(repeated);
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
    if (this.#changed !== '') return new EssError('log_changed', this.#changed);
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
        void this.#look(probeEveryMs);
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
    this.#control.forget();
    await Promise.race([this.#look(), this.#pause(Math.max(deadlineMs - askedMs, 0))]);
    if (this.#changed !== '' || this.#viewAtMs < askedMs) {
      settle(unknown(partition, this.#changed === '' ? 'the topic cannot be looked at' : this.#changed));
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
    void this.#look(probeEveryMs);
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
    this.#control.forget();
    await this.#pause(pauseMs);
    await Promise.race([this.#look(), this.#pause(Math.min(this.#patienceMs, any.retryUntilMs - nowMs))]);
    this.#place(soon);
  }

  #reasonOf(partition: number): string {
    const trouble = this.#troubles[partition];
    if (trouble !== undefined && trouble.sinceMs !== 0) return trouble.reason;
    const lane = this.#lanes.get(this.#view.partitions[partition]?.leader ?? -1);
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
        this.#place([{ ...piece, settle: resolve, attempts: 0 }]);
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
    void this.#look(probeEveryMs);
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

  /** Looks at the topic unless that was done less than `ageMaxMs` ago. Never rejects. */
  async #look(ageMaxMs = 0): Promise<void> {
    if (this.#isClosed || performance.now() - this.#viewAtMs < ageMaxMs) return;
    this.#looking ??= this.#lookNow().finally(() => {
      this.#looking = null;
    });
    return this.#looking;
  }

  async #lookNow(): Promise<void> {
    try {
      const view = await this.#control.metadata(0);
      this.#goneSinceMs = 0;
      this.#take(view);
    } catch (error) {
      if (!(error instanceof KafkaError)) throw error;
      if (error.protocolCode !== kafkaErrors.UNKNOWN_TOPIC_OR_PARTITION.code) return;
      const nowMs = performance.now();
      if (this.#goneSinceMs === 0) this.#goneSinceMs = nowMs;
      if (nowMs - this.#goneSinceMs > goneAfterMs) this.#changed = `topic ${this.#target.topic} is gone`;
    }
  }

  #take(view: TopicView): void {
    const { topic } = this.#target;
    // Fewer partitions are an old answer: their number only ever grows.
    if (view.topicId === this.epoch && view.partitions.length < this.partitions) return;
    if (view.topicId !== this.epoch) this.#changed = `topic ${topic} was made anew`;
    else if (view.partitions.length !== this.partitions)
      this.#changed = `topic ${topic} has ${view.partitions.length} partitions now, it had ${this.partitions}`;
    if (this.#changed !== '') return;
    for (const [partition, now] of view.partitions.entries()) {
      const before = this.#view.partitions[partition];
      const isSame =
        before !== undefined &&
        before.leader === now.leader &&
        before.leaderEpoch === now.leaderEpoch &&
        before.inSync.length === now.inSync.length &&
        before.inSync.every((nodeId) => now.inSync.includes(nodeId));
      // Other replicas answer now: what was in trouble need not be.
      if (!isSame && this.#unfit(now) === '') this.#troubles[partition]?.clear();
    }
    this.#view = view;
    this.#viewAtMs = performance.now();
    this.#producing.learn(view.brokers);
    this.#probing.learn(view.brokers);
  }

  /** A view that is not older than a second, or the last one if no broker answers. */
  async #viewNow(): Promise<TopicView> {
    await this.#look(viewAgeMaxMs);
    if (this.#changed !== '') throw new EssError('log_changed', this.#changed);
    return this.#view;
  }

  /** First and next offsets of partitions that one broker leads; without those of which it does not tell. */
  async #bounds(
    leader: number,
    partitions: readonly number[],
  ): Promise<{ readonly partition: number; readonly start: number; readonly end: number }[]> {
    const { topic } = this.#target;
    try {
      const [earliest, latest] = await Promise.all([
        this.#control.send(leader, listOffsetsCall({ topic, at: 'earliest', partitions }), questionTimeoutMs),
        this.#control.send(leader, listOffsetsCall({ topic, at: 'latest', partitions }), questionTimeoutMs),
      ]);
      const starts = new Map(earliest.map(({ partition, offset }) => [partition, offset]));
      return latest.flatMap(({ partition, offset: end }) => {
        const start = starts.get(partition) ?? -1;
        return start < 0 || end < 0 ? [] : [{ partition, start, end }];
      });
    } catch (error) {
      if (error instanceof KafkaError) return [];
      throw error;
    }
  }

  /** Ends early at `close`. */
  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const end = () => {
        clearTimeout(timer);
        this.#pauses.delete(end);
        resolve();
      };
      const timer = setTimeout(end, Math.max(ms, 0));
      this.#pauses.add(end);
    });
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

/** Varies by half, so that callers who failed together do not come back together. */
const retryPauseMs = (attempt: number): number =>
  Math.min(retryFirstMs * 2 ** attempt, retryMaxMs) * (0.75 + Math.random() / 2);

/** Where `count` packed records end; -1 if there are fewer. */
function recordsEnd(bytes: Buffer, count: number): number {
  try {
    return skipRecords(bytes, count);
  } catch (error) {
    if (error instanceof RangeError) return -1;
    throw error;
  }
}
