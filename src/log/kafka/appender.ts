// The producer worker's handle on a Kafka topic. Runs on the producer's thread; one Produce request goes to each leader
// for each append, acknowledged by all in-sync replicas. A batch is sent at most once unless the broker or the absence
// of a connection proves that it was not written: what may have been written and is not known to be is answered
// `outcome_unknown`, since only the sender of an event may repeat it (with the same id it stays one event). How batches
// travel, and what a broker in trouble may hold up, is in delivery.ts.

import { performance } from 'node:perf_hooks';
import { EssError } from '../../errors.ts';
import type { LetterChange, LetterFilter } from '../letter_state.ts';
import type {
  AppendBatch,
  AppendResult,
  DeadLetter,
  LetterPlace,
  LogAppender,
  PartitionState,
} from '../log.ts';
import { askBounds, byLeader } from './bounds.ts';
import { KafkaClient } from './client.ts';
import { KafkaDeadLetters } from './dead_letters.ts';
import { Delivery } from './delivery.ts';
import { GroupPositions } from './group_positions.ts';
import { openTopic } from './opening.ts';
import { type Piece, recordsEnd } from './piece.ts';
import { provenOffset } from './position_stamp.ts';
import { appendsMax, type KafkaTarget } from './target.ts';
import type { TopicView } from './topic_view.ts';
import { readTopic, type TopicFound, topicConfigNames } from './topics.ts';
import { canCompress } from './wire/compression.ts';

/** Appends of one handle under way at most, those that wait for a hung broker included; its callers hold 32. */
const appendsHeldMax = 64;
/** While appends are made, the topic is looked at this often, ms. */
const viewAgeMaxMs = 1_000;
/** For questions about offsets, ms. */
const questionTimeoutMs = 5_000;

/**
 * Opens the topic for appending. Waits up to `openTimeoutMs` (default 30,000) for brokers that answer; then rejects
 * with `log_unavailable`, naming the reason. `bad_option`: the topic is there but cannot keep what the configuration
 * promises.
 */
export async function openKafkaAppender(target: KafkaTarget, openTimeoutMs?: number): Promise<LogAppender> {
  if (!canCompress(target.compression))
    throw new EssError('platform_unsupported', 'zstd is written by Node.js 22.15 and later');
  const control = new KafkaClient(target, { name: 'ess-control', requestTimeoutMs: questionTimeoutMs });
  try {
    const { view, configs } = await openTopic(control, target, () => readSettings(control), openTimeoutMs);
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

/** The topic and its settings; null if it was made anew between the two questions. */
async function readSettings(
  client: KafkaClient,
): Promise<{ readonly view: TopicView; readonly configs: Configs } | null> {
  const view = await client.metadata(0);
  const found = await readTopic(client, client.target.topic);
  return found?.topicId === view.topicId ? { view, configs: found.configs } : null;
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
  readonly #delivery: Delivery;
  readonly #positions: GroupPositions;
  readonly #letters: KafkaDeadLetters;
  readonly #states: (PartitionState | undefined)[];
  #held = 0;
  #isClosed = false;

  constructor(target: KafkaTarget, control: KafkaClient, view: TopicView, batchBytesMax: number) {
    this.#target = target;
    this.#control = control;
    this.epoch = view.topicId;
    this.partitions = view.partitions.length;
    this.#delivery = new Delivery(target, control, view, batchBytesMax);
    this.#positions = new GroupPositions(control, this.epoch);
    this.#letters = new KafkaDeadLetters(target, this.epoch);
    this.#states = view.partitions.map(() => undefined);
  }

  async append(batches: readonly AppendBatch[]): Promise<AppendResult[]> {
    if (batches.length === 0) return [];
    for (const batch of batches) this.#assertWhole(batch);
    if (this.#isClosed) throw new EssError('log_unavailable', 'the log is closed');
    const { watch } = this.#delivery;
    if (watch.changed !== '') throw new EssError('log_changed', watch.changed);
    if (this.#held >= appendsHeldMax)
      throw new EssError('log_unavailable', `${appendsHeldMax} appends are under way`);
    const nowMs = performance.now();
    if (nowMs - watch.viewAtMs > viewAgeMaxMs) void watch.look();
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
        this.#delivery.place(pieces);
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
    const { topic } = this.#target;
    const view = await this.#delivery.watch.viewNow(viewAgeMaxMs);
    const partitions = view.partitions.map(({ partition }) => partition);
    const [committed, ...bounds] = await Promise.all([
      this.#committedOrLast(partitions),
      // In whatever epoch: an end of before is better than none where it is only shown.
      ...[...byLeader(view.partitions)].map(([leader, led]) => {
        const asked = led.map(({ partition }) => ({ partition, leaderEpoch: -1 }));
        return askBounds(this.#control, topic, leader, asked, questionTimeoutMs);
      }),
    ]);
    const found = new Map(bounds.flatMap((told) => [...told]));
    // A partition without a leader is told as it was last seen.
    return partitions.map((partition) => {
      const position = committed[partition] ?? 0;
      const known = found.get(partition) ?? this.#states[partition];
      // A position says nothing of the end: it may have been moved by hand.
      const end = Math.max(known?.end ?? position, this.#delivery.endOf(partition));
      const state = { start: known?.start ?? 0, end, bytes: 0, committed: Math.min(position, end) };
      this.#states[partition] = state;
      return state;
    });
  }

  async committed(partitions: readonly number[]): Promise<number[]> {
    return (await this.#positions.read(partitions)).map(provenOffset);
  }

  /** Foreign positions included. While the coordinator is away, what it said last. */
  async #committedOrLast(partitions: readonly number[]): Promise<number[]> {
    try {
      return (await this.#positions.read(partitions)).map(({ offset }) => Math.max(offset, 0));
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

  deadLetters(limit: number, after?: LetterPlace, which?: LetterFilter): Promise<DeadLetter[]> {
    return this.#letters.deadLetters(limit, after, which);
  }

  deadLetterCount(which?: LetterFilter): Promise<number> {
    return this.#letters.deadLetterCount(which);
  }

  deadLetter(place: LetterPlace): Promise<DeadLetter | null> {
    return this.#letters.deadLetter(place);
  }

  setLetterStates(changes: readonly LetterChange[]): Promise<void> {
    return this.#letters.setStates(changes);
  }

  latestDeadLetters(limit: number): Promise<DeadLetter[]> {
    return this.#letters.latest(limit);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#positions.close();
    await Promise.all([this.#control.close(), this.#delivery.close(), this.#letters.close()]);
  }

  #assertWhole({ partition, count, bytes }: AppendBatch): void {
    if (!Number.isInteger(partition) || partition < 0 || partition >= this.partitions)
      throw new EssError('internal', `there is no partition ${partition}`);
    if (count < 1 || recordsEnd(bytes, count) !== bytes.length)
      throw new EssError('internal', `a batch does not hold the ${count} records that it says`);
  }
}
