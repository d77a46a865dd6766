// Everything that lives on one identity of the log: its handle, the partition board, the sinks and the producers. When
// the topic was made anew or has more partitions, a session ends and another begins; HTTP and the store stay. Runs on
// the main thread.

import type { Logger } from 'pino';
import type { Config } from '../config/options.ts';
import type { EventsRoute } from '../http/events_route.ts';
import { Lane, type LaneMemory } from '../http/lanes.ts';
import type { ProducerData } from '../ingest/producer.worker.ts';
import type { LogAppender } from '../log/log.ts';
import { type LogTarget, openAppender } from '../log/open.ts';
import { createDoorbell, Doorbell } from '../ring/doorbell.ts';
import { createRing } from '../ring/layout.ts';
import type { LedgerTotals } from '../sink/ledger.ts';
import type { SinkData } from '../sink/sink.worker.ts';
import { tokenKnownMs } from '../sink/token_window.ts';
import { readShardTotals } from '../sink/totals.ts';
import { createBoard, PartitionBoard } from '../stats/board.ts';
import type { EngineCounters } from '../stats/counters.ts';
import type { Store, StoreLayout } from '../store/store.ts';
import type { Conditions } from './conditions.ts';
import { type NodePlace, sinkPlaces } from './places.ts';
import type { Profiles } from './profiles.ts';
import { Thread } from './threads.ts';

/** What a session is given; it outlives the session. */
export interface SessionParts {
  readonly config: Config;
  readonly log: Logger;
  readonly logTarget: LogTarget;
  readonly layout: StoreLayout;
  /** The main thread's way to each shard; empty where no sink runs. */
  readonly stores: readonly Store[];
  readonly conditions: Conditions;
  readonly counters: EngineCounters;
  readonly countersMemory: SharedArrayBuffer;
  readonly mainDoorbellMemory: SharedArrayBuffer;
  /** Null where no producer runs. */
  readonly events: EventsRoute | null;
  /** By producer index; EventsRoute reads it. */
  readonly lanes: (Lane | null)[];
  /** Null while profiles are off. */
  readonly profiles: Profiles | null;
  /** A thread found that the log is not the one of this session, which says so once. See `changed`. */
  readonly onLogChanged: () => void;
}

/** How long threads may take to stop when the start failed, ms. */
const startFailurePatienceMs = 5000;

export class Session {
  readonly board: PartitionBoard;
  readonly producers: readonly Thread[];
  readonly sinks: readonly Thread[];
  /** The node that each sink owns, by sink: its blocks go there first. */
  readonly sinkPlaces: readonly NodePlace[];
  /** The main thread's own handle: reads states and dead letters. */
  readonly log: LogAppender;
  /** What the ledger said at the beginning, by partition; without those of which it did not answer. */
  readonly firstTotals: ReadonlyMap<number, LedgerTotals>;
  readonly #parts: SessionParts;
  /** Of the sinks that must be told of new records; empty where the log tells them. */
  readonly #sinkBells: readonly Doorbell[];
  #changed: string | null = null;
  #lastDealtMs: number | null = null;

  /** Opens the log (creating an embedded one) and reads where it stands. Threads are made, not started. */
  static async open(parts: SessionParts): Promise<Session> {
    const mainLog = await openAppender(parts.logTarget);
    const { partitions, epoch } = mainLog;
    const boardMemory = createBoard(partitions);
    const board = new PartitionBoard(boardMemory);
    const firstTotals = new Map<number, LedgerTotals>();
    try {
      for (const [partition, state] of (await mainLog.states()).entries()) {
        board.set(partition, 'start', state.start);
        board.set(partition, 'end', state.end);
        board.set(partition, 'committed', state.committed);
        board.set(partition, 'bytes', state.bytes);
      }
      // What the ledger knows already, so that the first /stats does not show the whole log as in flight. The sinks
      // look again, and try for as long as it takes.
      const numbers = Array.from({ length: partitions }, (_, partition) => partition);
      const reads = parts.stores.map((_, shard) =>
        readShardTotals(parts.stores, shard, epoch, numbers, (partition, totals) => {
          firstTotals.set(partition, totals);
          board.set(partition, 'stored', totals.next);
        }),
      );
      for (const result of await Promise.allSettled(reads))
        if (result.status === 'rejected') throw result.reason;
    } catch (error) {
      // A shard that does not answer is no reason not to start: the others go on, and it catches up.
      parts.log.warn({ err: error }, 'the first look at log and ledger failed');
    }
    return new Session(parts, mainLog, boardMemory, board, firstTotals);
  }

  private constructor(
    parts: SessionParts,
    mainLog: LogAppender,
    boardMemory: SharedArrayBuffer,
    board: PartitionBoard,
    firstTotals: ReadonlyMap<number, LedgerTotals>,
  ) {
    this.firstTotals = firstTotals;
    this.#parts = parts;
    this.log = mainLog;
    this.board = board;
    const { config, layout, lanes } = parts;
    const hasSink = config.role !== 'ingest';
    const hasIngest = config.role !== 'sink';
    const producerCount = hasIngest ? config.producers : 0;
    const sinkCount = hasSink ? Math.min(config.sinks, mainLog.partitions) : 0;
    // Doorbells belong to places, not to workers: a successor takes over its predecessor's, and nobody must be told.
    const producerDoorbells = Array.from({ length: producerCount }, createDoorbell);
    const sinkDoorbells = Array.from({ length: sinkCount }, createDoorbell);
    this.sinkPlaces = sinkPlaces(layout, config.sinkOrdinal, sinkCount);
    lanes.length = 0;
    for (let i = 0; i < producerCount; i += 1) lanes.push(null);
    this.sinks = sinkDoorbells.map((doorbell, index) =>
      this.#sink(index, sinkCount, doorbell, boardMemory, producerDoorbells),
    );
    // With Kafka any sink, of any process, may own a partition: the log itself tells the sinks of new records.
    const bells = parts.logTarget.kind === 'embedded' ? sinkDoorbells : [];
    this.#sinkBells = bells.map((memory) => new Doorbell(memory));
    this.producers = producerDoorbells.map((doorbell, index) =>
      this.#producer(index, doorbell, boardMemory, bells),
    );
  }

  get threads(): readonly Thread[] {
    return [...this.sinks, ...this.producers];
  }

  /** When a sink of this process was last dealt its partitions, epoch ms; null if none was. */
  get lastDealtMs(): number | null {
    return this.#lastDealtMs;
  }

  /** Why the log is not the one of this session any more; null while it is, as far as anybody here knows. */
  get changed(): string | null {
    return this.#changed;
  }

  /** Records that the main thread itself appended: the sinks of this process learn of them at once. */
  noteAppended(partition: number, end: number): void {
    this.board.raise(partition, 'end', end);
    this.#sinkBells[partition % this.#sinkBells.length]?.ring();
  }

  /** Somebody found that the log is another one now. Each thread notices by itself: the first one counts. */
  noteChange(reason: string): void {
    if (this.#changed !== null) return;
    this.#changed = reason;
    this.#parts.onLogChanged();
  }

  /** Starts all threads; if one does not start, stops the others, which would keep the process alive, and rejects. */
  async start(): Promise<void> {
    try {
      await Promise.all(this.threads.map((thread) => thread.start()));
    } catch (error) {
      await this.giveUp();
      throw error;
    }
  }

  /** Stops what runs without waiting for long: for a start that failed. */
  async giveUp(): Promise<void> {
    const patience = new Promise((resolve) => setTimeout(resolve, startFailurePatienceMs));
    await Promise.race([Promise.all(this.threads.map((thread) => thread.stop())), patience]);
    await Promise.race([this.log.close(), patience]);
  }

  /** Producers answer what they have, then sinks store what they hold and commit. */
  async stop(): Promise<void> {
    const { lanes, events, conditions } = this.#parts;
    // No new requests: a producer ends when its ring is empty, and what came after that nobody would read.
    for (const lane of lanes) if (lane !== null) lane.isAlive = false;
    await Promise.all(this.producers.map((thread) => thread.stop()));
    await Promise.all(this.sinks.map((thread) => thread.stop()));
    // A sink that was told to stop says nothing more, and its partitions may be somebody else's in the next session.
    for (const group of ['partition', 'ledger']) conditions.end(group);
    // What no worker has answered by now, nobody will.
    for (const [index, lane] of lanes.entries()) {
      lanes[index] = null;
      if (lane !== null) events?.failLane(lane);
      conditions.set(`log-${index}`, null);
    }
    await this.log.close();
  }

  /**
   * Answers requests that wait for the store: used when the time to stop is nearly over, and when the log has changed,
   * since the sinks have given up its partitions then.
   */
  abandon(): void {
    for (const thread of this.producers) thread.send({ type: 'abandon' });
  }

  #sink(
    index: number,
    count: number,
    doorbell: SharedArrayBuffer,
    board: SharedArrayBuffer,
    producerDoorbells: readonly SharedArrayBuffer[],
  ): Thread {
    const { config, log, logTarget, layout, counters, countersMemory, conditions, profiles } = this.#parts;
    const { epoch, partitions } = this.log;
    const place = this.sinkPlaces[index] ?? { shard: 0, replica: 0, turn: index };
    const data: SinkData = {
      index,
      count,
      log: logTarget,
      identity: { epoch, partitions },
      layout,
      place,
      requestTimeoutMs: config.clickhouseRequestTimeoutMs,
      limits: {
        sinkBatchRowsMax: config.sinkBatchRowsMax,
        sinkBatchBytesMax: config.sinkBatchBytesMax,
        sinkLingerMs: config.sinkLingerMs,
        insertsPerSecond: config.sinkInsertsPerSecond / count,
        retryWindowMs: config.retryWindowMs,
        identitiesMax: Math.max(1024, Math.floor(config.identitiesMax / this.log.partitions)),
        tokenKnownMs: tokenKnownMs({
          partitions,
          shards: layout.shards.length,
          insertsPerSecond: config.sinkInsertsPerSecond,
          batchRowsMax: config.sinkBatchRowsMax,
          batchBytesMax: config.sinkBatchBytesMax,
        }),
      },
      topic: config.kafkaTopic,
      doorbell,
      board,
      counters: countersMemory,
      producerDoorbells,
      isProfiled: profiles !== null,
    };
    return new Thread(
      `sink-${index}`,
      'sink.worker',
      {
        makeData: () => data,
        onReady: () => {},
        onDeath: () => {
          counters.add('worker_deaths');
          for (let partition = 0; partition < this.board.partitions; partition += 1) {
            if (this.board.get(partition, 'owner') !== index + 1) continue;
            this.board.set(partition, 'owner', 0);
            // Its successor may be given others, and takes back only what was said of those.
            conditions.set(`partition-${partition}`, null);
          }
        },
        onCondition: (key, trouble) => conditions.set(key, trouble),
        onDealt: (timeMs) => {
          this.#lastDealtMs = timeMs;
        },
        onLogChanged: (reason) => this.noteChange(reason),
        onProfiler: (port) => profiles?.add(`sink-${index}`, port),
      },
      log,
    );
  }

  #producer(
    index: number,
    doorbell: SharedArrayBuffer,
    board: SharedArrayBuffer,
    sinkDoorbells: readonly SharedArrayBuffer[],
  ): Thread {
    const { config, log, logTarget, lanes, events, counters, countersMemory, mainDoorbellMemory } =
      this.#parts;
    const { conditions, profiles } = this.#parts;
    const { epoch, partitions } = this.log;
    let memory: LaneMemory | null = null;
    return new Thread(
      `producer-${index}`,
      'producer.worker',
      {
        makeData: (): ProducerData => {
          // New rings for every worker: what a dead one left in them is answered as unknown, never replayed.
          memory = {
            ingestRing: createRing(config.ringBytes),
            ackRing: createRing(config.ackRingBytes),
            doorbell,
          };
          return {
            index,
            log: logTarget,
            identity: { epoch, partitions },
            limits: config,
            ...memory,
            mainDoorbell: mainDoorbellMemory,
            board,
            counters: countersMemory,
            sinkDoorbells,
            isProfiled: profiles !== null,
          };
        },
        onReady: () => {
          if (memory !== null) lanes[index] = new Lane(memory);
        },
        onDeath: () => {
          counters.add('worker_deaths');
          const lane = lanes[index] ?? null;
          lanes[index] = null;
          if (lane !== null) events?.failLane(lane);
          conditions.set(`log-${index}`, null);
        },
        // Each worker has its own way to the log: that one is well says nothing of another.
        onCondition: (key, trouble) => conditions.set(`${key}-${index}`, trouble),
        onDealt: () => {},
        onLogChanged: (reason) => this.noteChange(reason),
        onProfiler: (port) => profiles?.add(`producer-${index}`, port),
      },
      log,
    );
  }
}
