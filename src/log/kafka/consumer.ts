// The sink worker's handle on a Kafka topic: membership (group.ts) says which partitions it owns, the fetcher brings
// their records, and nothing is given out or committed without a look at whether the ownership still holds. Runs on
// the sink's thread, with a connection of its own to each leader and two to the group's coordinator.

import { hostname } from 'node:os';
import { EssError } from '../../errors.ts';
import { faultPoint } from '../../faults.ts';
import type { LetterFilter } from '../letter_state.ts';
import type {
  AssignmentListener,
  DeadLetter,
  LetterPlace,
  LogConsumer,
  LogPosition,
  PartitionState,
  RecordVisitor,
} from '../log.ts';
import type { Bounds } from './bounds.ts';
import { KafkaClient } from './client.ts';
import { KafkaCoordinator } from './coordinator.ts';
import { KafkaDeadLetters } from './dead_letters.ts';
import { Fetcher } from './fetcher.ts';
import { type GroupLog, GroupMember } from './group.ts';
import { type CommittedPosition, groupErrors } from './group_calls.ts';
import { KafkaError } from './kafka_error.ts';
import { openTopic } from './opening.ts';
import { provenOffset, readPosition, stampText, textBytesMax } from './position_stamp.ts';
import type { KafkaTarget } from './target.ts';
import type { TopicView } from './topic_view.ts';

const requestTimeoutMs = 5_000;
/** What is not learnt from fetching is asked for at most this often, ms. */
const statesAgeMaxMs = 1_000;
/** The position where none is known. */
const nowhere: LogPosition = { offset: -1, metadata: '' };

/** What a sink thread is to its group. */
export interface KafkaConsumerPlacement {
  /** This sink thread's number in its process, 0 to count - 1. */
  readonly index: number;
  readonly count: number;
  /** Shard of the ClickHouse node that the thread inserts into, 0 to shards - 1. */
  readonly shard: number;
  readonly shards: number;
  /** That node, for people. */
  readonly node: string;
}

interface Listed {
  readonly bounds: Bounds;
  /** When it was asked for, by the monotonic clock. */
  readonly atMs: number;
}

/**
 * Looks the topic up; partitions come after `start`. Rejects with `log_unavailable` if no broker answers within half a
 * minute, or there is no such topic. `onLog` hears of joining, losing and trouble.
 */
export async function openKafkaConsumer(
  target: KafkaTarget,
  placement: KafkaConsumerPlacement,
  onLog: GroupLog = () => {},
): Promise<LogConsumer> {
  const client = new KafkaClient(target, { name: 'ess-fetch', requestTimeoutMs, onLog });
  try {
    const view = await openTopic(client, target, () => client.metadata(0));
    return new KafkaConsumer(target, placement, client, view, onLog);
  } catch (error) {
    await client.close();
    throw error;
  }
}

class KafkaConsumer implements LogConsumer {
  readonly epoch: string;
  readonly partitions: number;
  /** Fetching and the topic. */
  readonly #client: KafkaClient;
  /** Joining and heartbeats. */
  readonly #members: KafkaClient;
  /** Commits and positions. */
  readonly #offsets: KafkaClient;
  readonly #coordinator: KafkaCoordinator;
  readonly #member: GroupMember;
  readonly #fetcher: Fetcher;
  readonly #letters: KafkaDeadLetters;
  #listener: AssignmentListener | null = null;
  /** Partitions that the listener was given. */
  #owned: readonly number[] = [];
  /** By partition: the last position that is known. */
  readonly #positions = new Map<number, LogPosition>();
  /** By partition: what leaders said of partitions that are not fetched here. */
  readonly #listed = new Map<number, Listed>();
  /** When the listener was given its partitions, by the monotonic clock. */
  #assignedMs = 0;
  #positionsAskedMs = Number.NEGATIVE_INFINITY;
  #refreshing: Promise<void> | null = null;
  #isReading = false;

  constructor(
    target: KafkaTarget,
    { index, count, shard, shards, node }: KafkaConsumerPlacement,
    client: KafkaClient,
    { topicId, partitions }: TopicView,
    onLog: GroupLog,
  ) {
    const { topic, group, sessionTimeoutMs, eventBytesMax, eventDepthMax } = target;
    this.epoch = topicId;
    this.partitions = partitions.length;
    this.#client = client;
    this.#members = new KafkaClient(target, { name: 'ess-member', requestTimeoutMs, onLog });
    this.#offsets = new KafkaClient(target, { name: 'ess-offsets', requestTimeoutMs, onLog });
    this.#coordinator = new KafkaCoordinator(this.#members, this.#offsets, {
      group,
      topic,
      sessionTimeoutMs,
    });
    const label = `${hostname()}/${node}/${index}/${count}`;
    this.#member = new GroupMember(
      this.#coordinator,
      {
        topic,
        partitions: this.partitions,
        profile: { shard, shards, node, label },
        sessionTimeoutMs,
        onLog,
      },
      { assigned: (positions) => this.#assigned(positions), revoked: () => this.#revoked() },
    );
    this.#fetcher = new Fetcher(client, {
      topic,
      epoch: this.epoch,
      partitions: this.partitions,
      bytesMax: target.fetchBytesMax,
      limits: { eventBytesMax, eventDepthMax },
      onData: () => this.#listener?.dataArrived(),
      onChanged: (reason) => this.#changed(reason),
      onLog,
    });
    this.#letters = new KafkaDeadLetters(target, this.epoch);
  }

  async start(listener: AssignmentListener): Promise<void> {
    if (this.#listener !== null) throw new EssError('internal', 'the consumer was started twice');
    this.#listener = listener;
    this.#fetcher.start();
    this.#member.start();
  }

  read(partition: number, from: number, maxBytes: number, visit: RecordVisitor): number {
    this.#assertPartition(partition);
    if (this.#isReading) throw new EssError('internal', 'read was called by a visitor of read');
    // What the buffer holds may belong to somebody else by now; that it was revoked is said in a moment.
    if (!this.#member.owns(partition)) return from;
    this.#isReading = true;
    try {
      return this.#fetcher.read(partition, from, maxBytes, visit);
    } finally {
      this.#isReading = false;
    }
  }

  isOwned(partition: number): boolean {
    return this.#member.owns(partition);
  }

  async commit(partition: number, offset: number, metadata: string): Promise<void> {
    this.#assertPartition(partition);
    if (!Number.isSafeInteger(offset) || offset < 0)
      throw new EssError('internal', `${offset} is not a position of partition ${partition}`);
    if (Buffer.byteLength(metadata) > textBytesMax)
      throw new EssError('internal', `a position's text has at most ${textBytesMax} bytes`);
    await this.#member.commit({ partition, offset, metadata: stampText(this.epoch, metadata) });
    faultPoint('log.commit.durable');
    this.#positions.set(partition, { offset, metadata });
  }

  async park(letters: readonly DeadLetter[]): Promise<void> {
    await this.#letters.park(letters);
    faultPoint('log.park.durable');
  }

  /** Partitions that nobody could be asked about are told as last known, with their position for the end. */
  async states(needed?: number): Promise<PartitionState[]> {
    this.#refreshing ??= this.#refresh().finally(() => {
      this.#refreshing = null;
    });
    await this.#refreshing;
    return Array.from({ length: this.partitions }, (_, partition) => {
      const position = this.#positions.get(partition) ?? nowhere;
      const committed = Math.max(position.offset, 0);
      const bounds = this.#fetcher.bounds(partition) ?? this.#listed.get(partition)?.bounds;
      const isOwned = this.#owned.includes(partition);
      if (bounds !== undefined && !(isOwned && this.#isStale(partition)))
        return { start: bounds.start, end: bounds.end, bytes: 0, committed: Math.min(committed, bounds.end) };
      if (partition === needed) {
        throw new EssError('log_unavailable', `the leader of partition ${partition} does not answer`);
      }
      // One that was moved by hand may lie beyond the end. Whoever hears of an end holds it for true: no later answer
      // makes it smaller.
      const end = Math.max(bounds?.end ?? 0, provenOffset(position));
      return { start: bounds?.start ?? 0, end, bytes: 0, committed: Math.min(committed, end) };
    });
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

  async close(): Promise<void> {
    this.#listener = null;
    this.#fetcher.close();
    await this.#member.close();
    await Promise.all([
      this.#client.close(),
      this.#members.close(),
      this.#offsets.close(),
      this.#letters.close(),
    ]);
  }

  // ---- what the group and the fetcher say -----------------------------------------------------------------------

  #assigned(found: readonly CommittedPosition[]): void {
    const positions = found.map((one) => ({
      partition: one.partition,
      position: readPosition(this.epoch, one),
    }));
    this.#owned = positions.map(({ partition }) => partition);
    this.#assignedMs = performance.now();
    // Most likely it is read from where it was committed. If not, the first read moves it.
    for (const { partition, position } of positions) this.#fetcher.add(partition, position.offset);
    this.#listener?.dealt?.();
    for (const { partition, position } of positions) {
      this.#positions.set(partition, position);
      this.#listener?.assigned(partition, position);
    }
    // Where no position was committed, nothing is fetched, and nothing arrives, before the first read says from where.
    this.#listener?.dataArrived();
  }

  #revoked(): void {
    const owned = this.#owned;
    this.#owned = [];
    this.#fetcher.clear();
    for (const partition of owned) this.#listener?.revoked(partition);
  }

  #changed(reason: string): void {
    void this.#member.abandon();
    this.#listener?.changed(reason);
  }

  // ---- states ---------------------------------------------------------------------------------------------------

  /** True if what leaders said of the partition is too old, or of before it was assigned to us. */
  #isStale(partition: number): boolean {
    if (this.#fetcher.bounds(partition) !== null) return false;
    const listed = this.#listed.get(partition);
    if (listed === undefined || performance.now() - listed.atMs >= statesAgeMaxMs) return true;
    return this.#owned.includes(partition) && listed.atMs < this.#assignedMs;
  }

  async #refresh(): Promise<void> {
    const all = [...Array(this.partitions).keys()];
    await Promise.all([
      this.#refreshBounds(all.filter((partition) => this.#isStale(partition))),
      this.#refreshPositions(all.filter((partition) => !this.#owned.includes(partition))),
    ]);
  }

  async #refreshBounds(partitions: readonly number[]): Promise<void> {
    if (partitions.length === 0) return;
    const atMs = performance.now();
    try {
      for (const [partition, bounds] of await this.#fetcher.list(partitions))
        this.#listed.set(partition, { bounds, atMs });
    } catch (error) {
      if (!(error instanceof KafkaError)) throw error;
    }
  }

  /** Positions that other members commit. */
  async #refreshPositions(partitions: readonly number[]): Promise<void> {
    const nowMs = performance.now();
    if (partitions.length === 0 || nowMs - this.#positionsAskedMs < statesAgeMaxMs) return;
    this.#positionsAskedMs = nowMs;
    try {
      const { errorCode, positions } = await this.#coordinator.positions(partitions);
      if (errorCode !== groupErrors.none) return;
      for (const found of positions) {
        if (this.#owned.includes(found.partition)) continue;
        this.#positions.set(found.partition, readPosition(this.epoch, found));
      }
    } catch (error) {
      if (!(error instanceof KafkaError)) throw error;
    }
  }

  #assertPartition(partition: number): void {
    if (!Number.isInteger(partition) || partition < 0 || partition >= this.partitions)
      throw new EssError('internal', `the log has no partition ${partition}`);
  }
}
