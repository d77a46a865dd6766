// The fetch loop of one consumer: keeps a bounded store of record batches for each partition that it is given, one
// request under way to each leader. Runs on a sink thread, which reads from the store without waiting. Positions are
// its caller's alone: it never moves one by itself, and what the brokers cannot give it reports as a gap.

import { EssError } from '../../errors.ts';
import type { EventLimits } from '../../event/parser.ts';
import type { RecordVisitor } from '../log.ts';
import { askBounds, type Bounds, byLeader } from './bounds.ts';
import type { KafkaClient } from './client.ts';
import { Feed } from './feed.ts';
import { extentOf, FetchedBatches } from './fetched.ts';
import type { GroupLog } from './group.ts';
import { KafkaError } from './kafka_error.ts';
import { BatchPacker } from './packer.ts';
import type { PartitionView, TopicView } from './topic_view.ts';
import { kafkaError, kafkaErrors } from './wire/errors.ts';
import { type FetchAnswer, type FetchedPartition, fetchCall } from './wire/fetch.ts';

/** The log that was opened. */
export interface FetchedTopic {
  readonly topic: string;
  /** 32 hex digits: the topic id. */
  readonly epoch: string;
  readonly partitions: number;
}

/** What the fetcher needs of a client. */
export type FetchClient = Pick<KafkaClient, 'metadata' | 'forget' | 'send'>;

export interface FetcherOptions extends FetchedTopic {
  /** Bytes held at most, all partitions together; only a single larger batch makes it more. */
  readonly bytesMax: number;
  readonly limits: EventLimits;
  /** Records, or the end of a hole, or a gap, can be read. */
  readonly onData: () => void;
  /** The topic is no longer the one that was opened. Comes once; nothing is fetched any more. */
  readonly onChanged: (reason: string) => void;
  readonly onLog?: GroupLog;
}

/** How long a leader may wait for records, ms. */
const maxWaitMs = 250;
/** The same while a partition of that leader is left out of the request, which cannot join before it is answered. */
const shortWaitMs = 50;
/** On top of the wait, ms: a leader that takes longer is given up. */
const answerMarginMs = 5_000;
const requestTimeoutMs = 5_000;
/** How often the topic is looked at, ms. */
const lookEveryMs = 1_000;
/** A topic that is not there for this long is gone, ms: brokers that have just started may not know it yet. */
const goneAfterMs = 10_000;
/**
 * A leader that knows of less than was fetched may be one of before that has not noticed: only after it, or whoever else
 * leads, has said so for this long, records are gone. Ms.
 */
const beyondAfterMs = 10_000;
/** Pause after a failure, ms: doubled by each one in a row up to the bound, varied by a fifth. */
const pauseFirstMs = 50;
const pauseMaxMs = 1_000;
/** Metadata younger than this are not asked for again because of an error, ms. */
const metadataAgeMinMs = 100;
/** A first request for a partition asks for no less, bytes, however small its share. */
const fetchBytesMin = 64 * 1024;
/** Largest answer that a batch that did not fit is asked for with, bytes: an int32. */
const fetchBytesMax = 2 ** 31 - 1;

/** The leader moved, or does not know yet that it leads, or the topic is another one: other metadata may help. */
const movedCodes: ReadonlySet<number> = new Set<number>([
  kafkaErrors.UNKNOWN_TOPIC_OR_PARTITION.code,
  kafkaErrors.LEADER_NOT_AVAILABLE.code,
  kafkaErrors.NOT_LEADER_OR_FOLLOWER.code,
  kafkaErrors.REPLICA_NOT_AVAILABLE.code,
  kafkaErrors.KAFKA_STORAGE_ERROR.code,
  kafkaErrors.FENCED_LEADER_EPOCH.code,
  kafkaErrors.UNKNOWN_LEADER_EPOCH.code,
  kafkaErrors.OFFSET_NOT_AVAILABLE.code,
  kafkaErrors.UNKNOWN_TOPIC_ID.code,
  kafkaErrors.INCONSISTENT_TOPIC_ID.code,
]);

export class Fetcher {
  readonly #client: FetchClient;
  readonly #options: FetcherOptions;
  readonly #packer: BatchPacker;
  readonly #feeds = new Map<number, Feed>();
  /** Leaders that have a request under way. */
  readonly #busyNodes = new Set<number>();
  #view: TopicView | null = null;
  #isLooking = false;
  #goneSinceMs: number | null = null;
  #lookTimer: NodeJS.Timeout | undefined;
  #pumpTimer: NodeJS.Timeout | undefined;
  #isPumpQueued = false;
  #turn = 0;
  #toldCode = 0;
  #isOver = false;

  constructor(client: FetchClient, options: FetcherOptions) {
    this.#client = client;
    this.#options = options;
    this.#packer = new BatchPacker(options.epoch, options.limits);
  }

  /** Begins to watch the topic. */
  start(): void {
    this.#lookTimer = setInterval(() => void this.#look(lookEveryMs / 2), lookEveryMs);
    void this.#look(lookEveryMs);
  }

  /** Fetches the partition from now on, from `offset`; -1: from where it is first read. */
  add(partition: number, offset: number): void {
    this.#feeds.get(partition)?.moveTo(-1);
    this.#feeds.set(partition, new Feed(partition, offset));
    this.#pump();
  }

  /** Forgets every partition. */
  clear(): void {
    // What is still under way finds its turn over.
    for (const feed of this.#feeds.values()) feed.moveTo(-1);
    this.#feeds.clear();
  }

  /** Bounds of a partition as its last answer told; null if none has come since it was added. */
  bounds(partition: number): Bounds | null {
    return this.#feeds.get(partition)?.bounds ?? null;
  }

  /**
   * As `read` of the log seam. From another offset than where the last read ended, it starts to fetch there and gives
   * nothing yet.
   */
  read(partition: number, from: number, maxBytes: number, visit: RecordVisitor): number {
    if (!Number.isSafeInteger(from) || from < 0)
      throw new EssError('internal', `partition ${partition} has no offset ${from}`);
    const feed = this.#feeds.get(partition);
    if (feed === undefined) return from;
    if (from !== feed.readAt) {
      feed.moveTo(from);
      feed.notBeforeMs = 0;
      this.#pumpSoon();
      return from;
    }
    if (feed.fetched.length === 0) {
      if (feed.gap !== null) throw new EssError('internal', feed.gap);
      return from;
    }
    try {
      return this.#readFetched(feed, maxBytes, visit);
    } catch (error) {
      // A batch may be half visited: it is fetched again.
      feed.moveTo(from);
      throw error;
    } finally {
      this.#pumpSoon();
    }
  }

  /** First and last stable offset of partitions, from their leaders. Those whose leader does not answer are left out. */
  async list(partitions: readonly number[]): Promise<Map<number, Bounds>> {
    const found = new Map<number, Bounds>();
    const view = await this.#client.metadata(lookEveryMs);
    // The brokers are asked by the topic's name: what they would say of another topic is not what is asked for.
    if (view.topicId !== this.#options.epoch) return found;
    const wanted = new Set(partitions);
    const led = byLeader(view.partitions.filter(({ partition }) => wanted.has(partition)));
    const { topic } = this.#options;
    const told = [...led].map(([leader, own]) =>
      askBounds(this.#client, topic, leader, own, requestTimeoutMs, () => this.#client.forget()),
    );
    for (const bounds of await Promise.all(told))
      for (const [partition, own] of bounds) found.set(partition, own);
    return found;
  }

  /** Nothing is called any more afterwards. */
  close(): void {
    this.#isOver = true;
    clearInterval(this.#lookTimer);
    clearTimeout(this.#pumpTimer);
    this.clear();
  }

  // ---- reading --------------------------------------------------------------------------------------------------

  #readFetched(feed: Feed, maxBytes: number, visit: RecordVisitor): number {
    let visited = 0;
    const counting: RecordVisitor = (baseOffset, count, bytes) => {
      visited += bytes.length;
      visit(baseOffset, count, bytes);
    };
    let next = feed.readAt;
    while (visited < maxBytes) {
      const [batches] = feed.fetched;
      if (batches === undefined) break;
      next = batches.readBatch(next, counting);
      if (batches.bytesLeft > 0) continue;
      if (next !== batches.next) {
        // The header of a damaged batch said too much: what was fetched after it was fetched from the wrong offset.
        feed.moveTo(next);
        break;
      }
      feed.fetched.shift();
    }
    feed.readAt = next;
    return next;
  }

  // ---- fetching -------------------------------------------------------------------------------------------------

  /** Once the caller is done with what it is doing. */
  #pumpSoon(): void {
    if (this.#isPumpQueued) return;
    this.#isPumpQueued = true;
    setImmediate(() => {
      this.#isPumpQueued = false;
      this.#pump();
    });
  }

  /** Sends a request to every leader that has none under way and partitions with room. */
  #pump(): void {
    clearTimeout(this.#pumpTimer);
    if (this.#isOver || this.#feeds.size === 0) return;
    const view = this.#view;
    if (view === null) return;
    const nowMs = performance.now();
    const share = this.#options.bytesMax / this.#feeds.size;
    const ready = new Map<number, Feed[]>();
    /** Leaders with partitions that are left out. */
    const isShort = new Set<number>();
    let soonestMs = Number.POSITIVE_INFINITY;
    for (const feed of this.#feeds.values()) {
      const leader = view.partitions[feed.partition]?.leader ?? -1;
      if (feed.gap !== null || leader === -1) continue;
      const isLate = feed.notBeforeMs > nowMs;
      if (isLate) soonestMs = Math.min(soonestMs, feed.notBeforeMs);
      if (isLate || feed.isBusy || feed.fetchAt === -1 || feed.bytes > share / 2) {
        isShort.add(leader);
        continue;
      }
      const list = ready.get(leader);
      if (list === undefined) ready.set(leader, [feed]);
      else list.push(feed);
    }
    if (soonestMs < Number.POSITIVE_INFINITY)
      this.#pumpTimer = setTimeout(() => this.#pump(), soonestMs - nowMs + 1);
    for (const [leader, feeds] of ready) {
      if (this.#busyNodes.has(leader)) continue;
      void this.#fetch(leader, feeds, view.partitions, share, isShort.has(leader) ? shortWaitMs : maxWaitMs);
    }
  }

  async #fetch(
    leader: number,
    feeds: readonly Feed[],
    views: readonly PartitionView[],
    share: number,
    waitMs: number,
  ): Promise<void> {
    this.#busyNodes.add(leader);
    // A broker fills an answer in the order of the question, so that order goes round.
    this.#turn += 1;
    const first = this.#turn % feeds.length;
    const asked = [...feeds.slice(first), ...feeds.slice(0, first)].map((feed) => ({
      feed,
      turn: feed.turn,
    }));
    let maxBytes = 0;
    const partitions = asked.map(({ feed }) => {
      const room = Math.max(share - feed.bytes, Math.min(share, fetchBytesMin), 1);
      const bytes = Math.min(Math.max(Math.floor(room), feed.wantedBytes), fetchBytesMax);
      maxBytes = Math.min(maxBytes + bytes, fetchBytesMax);
      feed.isBusy = true;
      const { partition, fetchAt: offset } = feed;
      return { partition, offset, maxBytes: bytes, leaderEpoch: views[partition]?.leaderEpoch ?? -1 };
    });
    const { topic, epoch } = this.#options;
    const call = fetchCall({
      topic,
      topicId: epoch,
      maxWaitMs: waitMs,
      minBytes: 1,
      maxBytes,
      isCommittedOnly: true,
      partitions,
    });
    try {
      const answer = await this.#client.send(leader, call, waitMs + answerMarginMs);
      for (const { feed } of asked) feed.isBusy = false;
      this.#take(asked, answer);
    } catch (error) {
      for (const { feed } of asked) {
        feed.isBusy = false;
        this.#delay(feed);
      }
      this.#say(`broker ${leader} did not answer a fetch`, error instanceof KafkaError ? -1 : -2, error);
      void this.#look(metadataAgeMinMs);
    } finally {
      this.#busyNodes.delete(leader);
      this.#pumpSoon();
    }
  }

  #take(asked: readonly { readonly feed: Feed; readonly turn: number }[], answer: FetchAnswer): void {
    const parts = new Map(answer.partitions.map((part) => [part.partition, part]));
    let hasNews = false;
    let isMoved = false;
    for (const { feed, turn } of asked) {
      const part = parts.get(feed.partition);
      // Moved, or given away, while the request was under way.
      if (feed.turn !== turn) continue;
      const errorCode = part === undefined ? answer.errorCode : part.errorCode;
      if (part === undefined || errorCode !== 0) {
        this.#delay(feed);
        if (errorCode === kafkaErrors.OFFSET_OUT_OF_RANGE.code) void this.#lookAtGap(feed);
        else if (movedCodes.has(errorCode)) isMoved = true;
        else this.#say(`partition ${feed.partition} cannot be fetched now`, errorCode, null);
        continue;
      }
      feed.failures = 0;
      feed.beyondSinceMs = 0;
      feed.bounds = { start: part.logStartOffset, end: part.lastStableOffset };
      if (this.#keep(feed, part)) hasNews = true;
    }
    if (isMoved) void this.#look(metadataAgeMinMs);
    if (hasNews) this.#options.onData();
  }

  /** Keeps what was fetched; true if there is anything new to be read. */
  #keep(feed: Feed, part: FetchedPartition): boolean {
    const { records } = part;
    if (records.length === 0) return false;
    const { partition, fetchAt } = feed;
    const extent = extentOf(records);
    if (extent.bytes === 0 && extent.cutBytes > 0) {
      // A batch of this size cannot come while it is not asked for.
      feed.wantedBytes = extent.cutBytes;
      this.#delay(feed);
      return false;
    }
    if (extent.bytes === 0) {
      feed.gap = `the bytes of partition ${partition} at offset ${fetchAt} are no record batch`;
      return true;
    }
    feed.wantedBytes = 0;
    // A header that claims to end before what was asked for is damaged: one offset is all that is certain then.
    const next = Math.max(extent.next, fetchAt + 1);
    feed.fetched.push(new FetchedBatches(part, { ...extent, next }, this.#packer));
    feed.fetchAt = next;
    return true;
  }

  /** The leader says that the position is outside: makes sure, and says what there is instead. */
  async #lookAtGap(feed: Feed): Promise<void> {
    const { partition, fetchAt, turn } = feed;
    feed.isBusy = true;
    try {
      this.#client.forget();
      const bounds = (await this.list([partition])).get(partition);
      if (bounds === undefined || feed.turn !== turn) return;
      // A leader that was just elected may have said so too early.
      if (fetchAt >= bounds.start && fetchAt <= bounds.end) {
        feed.beyondSinceMs = 0;
        feed.bounds = bounds;
        return;
      }
      if (fetchAt > bounds.end) {
        const nowMs = performance.now();
        if (feed.beyondSinceMs === 0) feed.beyondSinceMs = nowMs;
        if (nowMs - feed.beyondSinceMs < beyondAfterMs) return;
      }
      feed.bounds = bounds;
      feed.gap =
        fetchAt < bounds.start
          ? `gap: partition ${partition} holds offsets ${bounds.start} to ${bounds.end}: ${fetchAt} to ${bounds.start - 1} are gone`
          : `gap: partition ${partition} holds offsets ${bounds.start} to ${bounds.end}, and not ${fetchAt}`;
      this.#options.onLog?.('error', feed.gap, { partition });
      if (!this.#isOver) this.#options.onData();
    } catch (error) {
      if (!(error instanceof KafkaError)) throw error;
    } finally {
      feed.isBusy = false;
      this.#pumpSoon();
    }
  }

  #delay(feed: Feed): void {
    const ms = Math.min(pauseFirstMs * 2 ** Math.min(feed.failures, 10), pauseMaxMs);
    feed.failures += 1;
    feed.notBeforeMs = performance.now() + ms * (0.8 + 0.4 * Math.random());
  }

  // ---- the topic ------------------------------------------------------------------------------------------------

  /** Brings the metadata up to date, and finds out whether the topic is still the same. */
  async #look(maxAgeMs: number): Promise<void> {
    if (this.#isLooking || this.#isOver) return;
    this.#isLooking = true;
    try {
      const view = await this.#client.metadata(maxAgeMs);
      this.#goneSinceMs = null;
      if (!this.#isOther(view)) {
        this.#setView(view);
        return;
      }
      // A broker that is behind may still tell of a topic that was there before: what matters is asked twice.
      const again = await this.#client.metadata(0);
      if (this.#isOther(again)) this.#end(this.#differenceOf(again));
    } catch (error) {
      if (!(error instanceof KafkaError)) throw error;
      this.#noteFailure(error);
    } finally {
      this.#isLooking = false;
    }
  }

  #setView(view: TopicView): void {
    const isNew = this.#view !== view;
    this.#view = view;
    if (isNew) this.#pumpSoon();
  }

  /** Fewer partitions are an old answer: their number only ever grows. */
  #isOther({ topicId, partitions }: TopicView): boolean {
    return topicId !== this.#options.epoch || partitions.length > this.#options.partitions;
  }

  #differenceOf({ topicId, partitions }: TopicView): string {
    const { topic, epoch, partitions: count } = this.#options;
    if (topicId !== epoch) return `topic ${topic} was made anew`;
    return `topic ${topic} has ${partitions.length} partitions now, not ${count}`;
  }

  #noteFailure(error: KafkaError): void {
    if (error.protocolCode !== kafkaErrors.UNKNOWN_TOPIC_OR_PARTITION.code) {
      this.#say('the topic cannot be looked at now', -1, error);
      return;
    }
    const nowMs = performance.now();
    this.#goneSinceMs ??= nowMs;
    if (nowMs - this.#goneSinceMs >= goneAfterMs) this.#end(`topic ${this.#options.topic} is gone`);
  }

  #end(reason: string): void {
    if (this.#isOver) return;
    this.close();
    this.#options.onChanged(reason);
  }

  /** The same trouble is said once. */
  #say(message: string, code: number, error: unknown): void {
    if (this.#isOver) return;
    const isNew = code !== this.#toldCode;
    this.#toldCode = code;
    const reason = error instanceof Error ? error.message : kafkaError(code).name;
    this.#options.onLog?.(isNew ? 'warn' : 'debug', message, { reason });
  }
}
