// Dead letters on Kafka: a compacted topic of one partition, whose records are keyed epoch:partition:offset. Runs on
// the main thread (states), the threads of producers (reading) and sinks (reading and parking). What is in memory is where each letter of the
// current epoch lies; the letters themselves are fetched when somebody asks for them.
//
//    key      the position: 32 hex digits, ':', partition, ':', offset
//    value    the event's JSON as received; null removes the letter
//    headers  ess     as in the event's own record (wire/ess_header.ts)
//             key     the event's key, absent if that is its id
//             code, reason, topic    UTF-8
//             time    when it was parked, epoch ms in decimal
//
//    key      the same, ':state'
//    value    what was done about the letter, JSON (log/letter_state.ts). A key of its own: a sink that parks the same
//             record again replaces the letter, and must not undo this.

import { performance } from 'node:perf_hooks';
import { EssError } from '../../errors.ts';
import { RecordCursor } from '../../event/record.ts';
import {
  decodeLetterState,
  encodeLetterState,
  type LetterChange,
  type LetterFilter,
  type LetterState,
} from '../letter_state.ts';
import type { DeadLetter, DeadLetterReader, LetterPlace } from '../log.ts';
import { KafkaClient } from './client.ts';
import { KafkaError, refusal } from './kafka_error.ts';
import { type LetterEntry, LetterIndex } from './letter_index.ts';
import { letterOf } from './letter_record.ts';
import type { KafkaTarget } from './target.ts';
import type { PartitionView } from './topic_view.ts';
import { encodePlainBatch, type PlainRecord } from './wire/batch_encoder.ts';
import { visitBatches } from './wire/batch_visitor.ts';
import { kafkaError, kafkaErrors } from './wire/errors.ts';
import { essHeader } from './wire/ess_header.ts';
import { type FetchedPartition, fetchCall } from './wire/fetch.ts';
import { listOffsetsCall } from './wire/list_offsets.ts';
import { metadataCall } from './wire/metadata.ts';
import { produceCall, produceOutcome } from './wire/produce.ts';

/** Answers for the index: a topic with many letters is read in pieces of this size, bytes. */
const indexFetchBytes = 4 * 1024 * 1024;
/** Answers for letters themselves; a larger letter still comes whole. Bytes. */
const letterFetchBytes = 256 * 1024;
/** Letters that are produced together: below the smallest common max.message.bytes, unless one is larger. Bytes. */
const parkBytesMax = 512 * 1024;
/** A reason is cut here, so that a letter is never much larger than its event. Characters. */
const reasonCharactersMax = 4096;
/** Bounds on one request, and on a call with all its repeats, ms. */
const requestTimeoutMs = 5_000;
const callTimeoutMs = 30_000;
/** But a topic that no broker knows, or a refused password, is believed after this, ms. */
const refusedTimeoutMs = 5_000;
const retryMs = 100;
/**
 * For asking the other replicas whether there is a later leader, ms. One that is silent for so long is left alone for a
 * while, so that a broker that is down holds up nobody: that the leader is none any more and the one after it is silent
 * too takes two brokers in trouble at once.
 */
const witnessTimeoutMs = 500;
const witnessSilenceMs = 5_000;
/** The topic may have been made anew: looked at this often while it is used, ms. */
const viewAgeMaxMs = 5_000;

const partition = 0;

/** The broker that leads the topic, in the epoch in which it does, and the other brokers that have a copy. */
type Leadership = Pick<PartitionView, 'leader' | 'leaderEpoch' | 'replicas'>;

/** Repeating a park is harmless: the same key again replaces the letter. So is repeating a read. */
export class KafkaDeadLetters implements DeadLetterReader {
  readonly #client: KafkaClient;
  readonly #topic: string;
  readonly #eventTopic: string;
  readonly #epoch: string;
  readonly #index: LetterIndex;
  /** The index is complete below this offset. */
  #next = 0;
  #topicId = '';
  /** Epoch of a leader that has told where the topic ends; -1 if none has. */
  #settledEpoch = -1;
  /** By node: until when it is not asked for a later leader, by the monotonic clock. */
  readonly #silentUntilMs = new Map<number, number>();
  #catchingUp: Promise<void> | null = null;
  #catchingUpNext: Promise<void> | null = null;

  /** No I/O. `epoch` is the event topic's. */
  constructor(target: KafkaTarget, epoch: string) {
    this.#client = new KafkaClient(target, { name: 'ess-dead-letters', requestTimeoutMs });
    this.#topic = target.deadLetterTopic;
    this.#eventTopic = target.topic;
    this.#epoch = epoch;
    this.#index = new LetterIndex(epoch);
  }

  async isParked(eventPartition: number, offset: number): Promise<boolean> {
    await this.#catchUp();
    return this.#index.find(eventPartition, offset) !== null;
  }

  async deadLetterCount(which: LetterFilter = 'all'): Promise<number> {
    await this.#catchUp();
    return this.#index.count(which);
  }

  async deadLetters(limit: number, after?: LetterPlace, which: LetterFilter = 'all'): Promise<DeadLetter[]> {
    await this.#catchUp();
    const entries = this.#index.after(after ?? { partition: 0, offset: -1 });
    const letters: DeadLetter[] = [];
    let next = 0;
    // One that was replaced or removed meanwhile is left out: whoever gets fewer than asked for takes it for the end.
    while (letters.length < limit && next < entries.length) {
      const wanted: LetterEntry[] = [];
      for (; next < entries.length && letters.length + wanted.length < limit; next += 1) {
        const entry = entries[next];
        if (entry !== undefined && (which === 'all' || entry.standing === which)) wanted.push(entry);
      }
      const found = await this.#read(wanted);
      letters.push(...wanted.flatMap((entry) => found.get(entry.letterOffset) ?? []));
    }
    return letters;
  }

  /** Those that were parked last and are still, the newest first. */
  async latest(limit: number): Promise<DeadLetter[]> {
    await this.#catchUp();
    const wanted = this.#index.latestParked(limit);
    const found = await this.#read(wanted);
    return wanted.flatMap((entry) => found.get(entry.letterOffset) ?? []);
  }

  async deadLetter({ partition: eventPartition, offset }: LetterPlace): Promise<DeadLetter | null> {
    await this.#catchUp();
    const entry = this.#index.find(eventPartition, offset);
    if (entry === null) return null;
    return (await this.#read([entry])).get(entry.letterOffset) ?? null;
  }

  /** Settles when all in-sync replicas have them. Rejects with EssError after half a minute. */
  async setStates(changes: readonly LetterChange[]): Promise<void> {
    if (changes.length === 0) return;
    await this.#produce(
      changes.map(({ partition: eventPartition, offset, state }) => ({
        key: Buffer.from(`${this.#epoch}:${eventPartition}:${offset}:state`),
        value: encodeLetterState(state),
        timestampMs: Math.floor(state.timeMs),
        headers: [{ name: 'topic', value: Buffer.from(this.#eventTopic) }],
      })),
    );
  }

  /** Settles when all in-sync replicas have the letters. Rejects with EssError after half a minute. */
  async park(letters: readonly DeadLetter[]): Promise<void> {
    let records: PlainRecord[] = [];
    let bytes = 0;
    for (const letter of letters) {
      if (bytes + letter.record.length > parkBytesMax && records.length > 0) {
        await this.#produce(records);
        records = [];
        bytes = 0;
      }
      records.push(this.#recordOf(letter));
      bytes += letter.record.length;
    }
    if (records.length > 0) await this.#produce(records);
  }

  async close(): Promise<void> {
    await this.#client.close();
  }

  #recordOf(letter: DeadLetter): PlainRecord {
    const cursor = new RecordCursor();
    cursor.open(letter.record);
    if (!cursor.next() || cursor.end !== letter.record.length)
      throw new EssError('internal', 'a dead letter is one packed record');
    const { buffer, start, keyStart, bodyStart, end } = cursor;
    const head = Buffer.concat([Buffer.of(essHeader.version), buffer.subarray(start, keyStart)]);
    const headers = [
      { name: essHeader.name.toString(), value: head },
      ...(bodyStart === keyStart ? [] : [{ name: 'key', value: buffer.subarray(keyStart, bodyStart) }]),
      { name: 'code', value: Buffer.from(letter.code) },
      { name: 'reason', value: Buffer.from(letter.reason.slice(0, reasonCharactersMax)) },
      { name: 'time', value: Buffer.from(String(letter.timeMs)) },
      { name: 'topic', value: Buffer.from(this.#eventTopic) },
    ];
    const key = Buffer.from(`${this.#epoch}:${letter.partition}:${letter.offset}`);
    const timestampMs = Math.floor(letter.timeMs);
    return { key, value: buffer.subarray(bodyStart, end), timestampMs, headers };
  }

  async #produce(records: readonly PlainRecord[]): Promise<void> {
    const batches = [{ partition, records: encodePlainBatch(records) }];
    await this.#repeated('outcome_unknown', async () => {
      const { leader } = await this.#leadership();
      const call = produceCall({ topic: this.#topic, timeoutMs: requestTimeoutMs, batches });
      const [answer] = await this.#client.send(leader, call, requestTimeoutMs * 1.2);
      if (answer?.partition !== partition) throw refusal(kafkaErrors.UNKNOWN_SERVER_ERROR.code);
      if (produceOutcome(answer) !== 'written') throw refusal(answer.errorCode);
    });
  }

  async #leadership(): Promise<Leadership> {
    const view = await this.#client.metadata(viewAgeMaxMs, undefined, this.#topic);
    const led = view.partitions[partition];
    if (led === undefined || led.leader < 0) throw refusal(kafkaErrors.LEADER_NOT_AVAILABLE.code);
    if (view.topicId !== this.#topicId) {
      // Made anew, or seen for the first time.
      this.#topicId = view.topicId;
      this.#settledEpoch = -1;
      this.#reset(0);
    }
    return led;
  }

  #reset(next: number): void {
    this.#index.clear();
    this.#next = next;
  }

  /** Brings the index to where the topic ends when this is called, or beyond. */
  #catchUp(): Promise<void> {
    if (this.#catchingUp === null) {
      this.#catchingUp = this.#repeated('log_unavailable', () => this.#catchUpOnce()).finally(() => {
        this.#catchingUp = null;
      });
      return this.#catchingUp;
    }
    // The one under way may have asked for the end before the letter that this caller knows of was there.
    this.#catchingUpNext ??= this.#catchingUp
      .catch(() => {})
      .then(() => {
        this.#catchingUpNext = null;
        return this.#catchUp();
      });
    return this.#catchingUpNext;
  }

  async #catchUpOnce(): Promise<void> {
    for (;;) {
      const led = await this.#leadership();
      const from = this.#next;
      const answer = await this.#fetch(led, from, indexFetchBytes);
      // Begun anew meanwhile: what came belongs behind a place that the index has not reached.
      if (this.#next !== from) continue;
      if (answer.errorCode === kafkaErrors.OFFSET_OUT_OF_RANGE.code) {
        // Somebody cut the topic: what is left begins elsewhere.
        await this.#confirm(led);
        const partitions = [{ partition, leaderEpoch: led.leaderEpoch }];
        const call = listOffsetsCall({ topic: this.#topic, at: 'earliest', partitions });
        const [earliest] = await this.#client.send(led.leader, call, requestTimeoutMs);
        if (earliest === undefined || earliest.offset < 0) throw refusal(answer.errorCode);
        this.#reset(earliest.offset);
        continue;
      }
      if (answer.errorCode !== 0) throw refusal(answer.errorCode);
      visitBatches(answer.records, {
        records: (batch, records) => {
          if (!batch.isControl && !batch.isTransactional)
            while (records.next()) if (records.offset >= from) this.#index.take(records);
          this.#next = batch.lastOffset + 1;
        },
        defect: (batch) => {
          this.#next = batch.lastOffset + 1;
        },
      });
      if (this.#next >= answer.lastStableOffset) {
        if (await this.#isEndBeyond(led)) continue;
        // Not before the end was told: who leads from then on has every letter that the caller can know of.
        return this.#confirm(led);
      }
      if (this.#next === from) throw refusal(kafkaErrors.OFFSET_NOT_AVAILABLE.code);
    }
  }

  /**
   * True if the topic ends beyond what was read. A leader that was just elected tells in a fetch of less than its replicas
   * have acknowledged, until they have fetched from it; asked for the end itself, it says so and not a wrong one
   * (KIP-207). Once it has told, its end never falls back: it is asked once in each epoch. Rejects with KafkaError.
   */
  async #isEndBeyond({ leader, leaderEpoch }: Leadership): Promise<boolean> {
    if (leaderEpoch === this.#settledEpoch) return false;
    const partitions = [{ partition, leaderEpoch }];
    const call = listOffsetsCall({ topic: this.#topic, at: 'latest', partitions });
    const [latest] = await this.#client.send(leader, call, requestTimeoutMs);
    if (latest === undefined || latest.errorCode !== 0)
      throw refusal(latest?.errorCode ?? kafkaErrors.UNKNOWN_SERVER_ERROR.code);
    this.#settledEpoch = leaderEpoch;
    return latest.offset > this.#next;
  }

  /**
   * Rejects if another replica knows of a later leader. A leader that stood still believes for a moment that it still is
   * one; if it is also asked who leads, the epoch that it tells is its own, and it takes it. Whoever has taken a letter
   * since is among the other replicas, and knows better.
   */
  async #confirm({ leader, leaderEpoch, replicas }: Leadership): Promise<void> {
    const nowMs = performance.now();
    const isAsked = (nodeId: number): boolean =>
      nodeId !== leader &&
      nowMs >= (this.#silentUntilMs.get(nodeId) ?? 0) &&
      !this.#client.isBackingOff(nodeId);
    const epochs = await Promise.all(replicas.filter(isAsked).map((nodeId) => this.#epochFrom(nodeId)));
    if (epochs.some((epoch) => epoch > leaderEpoch)) throw refusal(kafkaErrors.FENCED_LEADER_EPOCH.code);
  }

  /** The leader epoch that a broker knows; -1 if it does not say. */
  async #epochFrom(nodeId: number): Promise<number> {
    try {
      const { topics } = await this.#client.send(nodeId, metadataCall([this.#topic]), witnessTimeoutMs);
      const topic = topics.find(({ topicId }) => topicId === this.#topicId);
      return topic?.partitions.find((one) => one.partition === partition)?.leaderEpoch ?? -1;
    } catch (error) {
      if (!(error instanceof KafkaError) || error.kind === 'closed') throw error;
      this.#silentUntilMs.set(nodeId, performance.now() + witnessSilenceMs);
      return -1;
    }
  }

  /** Fetches these letters, by their offsets in this topic. Those that are not there any more are left out. */
  async #read(entries: readonly LetterEntry[]): Promise<Map<number, DeadLetter>> {
    const found = new Map<number, DeadLetter>();
    const states = new Map<number, LetterState>();
    const wanted = new Map(entries.map((entry) => [entry.letterOffset, entry]));
    // As they are now: the entries change when the index goes on.
    const stateOffsets = new Map<number, number>();
    for (const { letterOffset, stateOffset } of entries)
      if (stateOffset >= 0) stateOffsets.set(stateOffset, letterOffset);
    const byOffset = [...wanted.keys(), ...stateOffsets.keys()].sort((a, b) => a - b);
    let seenBelow = 0;
    for (const from of byOffset) {
      if (from < seenBelow) continue;
      await this.#repeated('log_unavailable', async () => {
        const answer = await this.#fetch(await this.#leadership(), from, letterFetchBytes);
        if (answer.errorCode === kafkaErrors.OFFSET_OUT_OF_RANGE.code) return;
        if (answer.errorCode !== 0) throw refusal(answer.errorCode);
        visitBatches(answer.records, {
          records: (batch, records) => {
            while (records.next()) {
              if (stateOffsets.has(records.offset)) {
                const value = records.buffer.subarray(records.valueStart, records.valueEnd);
                states.set(records.offset, decodeLetterState(value));
              }
              const entry = wanted.get(records.offset);
              const letter = entry === undefined ? null : letterOf(records, entry);
              if (letter !== null) found.set(records.offset, letter);
            }
            seenBelow = batch.lastOffset + 1;
          },
          defect: (batch) => {
            seenBelow = batch.lastOffset + 1;
          },
        });
      });
    }
    for (const [stateOffset, letterOffset] of stateOffsets) {
      const letter = found.get(letterOffset);
      const state = states.get(stateOffset);
      // Its state has been replaced meanwhile: to show it as parked would be wrong, and the next call finds it.
      if (letter !== undefined && state === undefined) found.delete(letterOffset);
      else if (letter !== undefined && state !== undefined) found.set(letterOffset, { ...letter, state });
    }
    return found;
  }

  async #fetch(
    { leader, leaderEpoch }: Leadership,
    offset: number,
    maxBytes: number,
  ): Promise<FetchedPartition> {
    const call = fetchCall({
      topic: this.#topic,
      topicId: this.#topicId,
      maxWaitMs: 0,
      minBytes: 0,
      maxBytes,
      isCommittedOnly: true,
      partitions: [{ partition, offset, maxBytes, leaderEpoch }],
    });
    const { errorCode, partitions } = await this.#client.send(leader, call, requestTimeoutMs);
    if (errorCode !== 0) throw refusal(errorCode);
    const answer = partitions.find((one) => one.partition === partition);
    if (answer === undefined) throw refusal(kafkaErrors.UNKNOWN_SERVER_ERROR.code);
    return answer;
  }

  /** Tries until it works or half a minute has passed; then rejects with this code. */
  async #repeated<T>(code: 'log_unavailable' | 'outcome_unknown', work: () => Promise<T>): Promise<T> {
    const startedMs = performance.now();
    for (;;) {
      try {
        return await work();
      } catch (error) {
        if (!(error instanceof KafkaError)) throw error;
        if (performance.now() - startedMs > patienceMs(error)) throw this.#failure(code, error);
      }
      this.#client.forget();
      await new Promise((resolve) => setTimeout(resolve, retryMs));
    }
  }

  #failure(code: 'log_unavailable' | 'outcome_unknown', cause: KafkaError): EssError {
    const text =
      cause.protocolCode === kafkaErrors.UNKNOWN_TOPIC_OR_PARTITION.code
        ? `topic ${this.#topic} is not there; \`ess init\` creates it`
        : `topic ${this.#topic}: ${cause.message}`;
    return new EssError(code, text, { cause });
  }
}

/** For how long it makes sense to try again after this error, ms. */
function patienceMs({ kind, protocolCode }: KafkaError): number {
  if (kind === 'closed') return 0;
  if (kind === 'authentication' || protocolCode === kafkaErrors.UNKNOWN_TOPIC_OR_PARTITION.code)
    return refusedTimeoutMs;
  const isRefused = protocolCode !== undefined && kafkaError(protocolCode).produce === 'refused';
  return isRefused ? 0 : callTimeoutMs;
}
