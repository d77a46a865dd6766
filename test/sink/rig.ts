// A sink's surroundings in one process and one thread: the real embedded log, the real embedded store (or a store given
// for each shard), and PartitionSinks that a test drives step by step or hands to the Sink loop. Records are made by
// hand, so that a test chooses every ingest time.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { RecordWriter, recordFlags } from '../../src/event/record.ts';
import {
  type EmbeddedLogConsumer,
  openEmbeddedAppender,
  openEmbeddedConsumer,
} from '../../src/log/embedded/open.ts';
import type { AssignmentListener, LogAppender, LogPosition } from '../../src/log/log.ts';
import { createDoorbell, Doorbell } from '../../src/ring/doorbell.ts';
import { LedgerWriter } from '../../src/sink/ledger.ts';
import { PartitionSink, type SinkParts } from '../../src/sink/partition.ts';
import { Sink, type SinkLoopLimits } from '../../src/sink/sink.ts';
import { createBoard, PartitionBoard } from '../../src/stats/board.ts';
import { nowUs } from '../../src/stats/clock.ts';
import { Counters, counterNames, createCounters } from '../../src/stats/counters.ts';
import { StageRecorder } from '../../src/stats/recorder.ts';
import { pinEmbeddedEngine } from '../../src/store/chdb_engine.ts';
import { openStore } from '../../src/store/client.ts';
import { ensureSchema } from '../../src/store/migrate.ts';
import { ensureLayout } from '../../src/store/shard_layout.ts';
import type { InsertOptions, Store } from '../../src/store/store.ts';
import type { FromWorker } from '../../src/thread/protocol.ts';

/** An event as a test writes it. */
export interface TestEvent {
  readonly id: string;
  readonly source?: string;
  /** Epoch ms. */
  readonly ingestMs: number;
  /** The event's own time, epoch ms; without it the ingest time is its time. */
  readonly timeMs?: number;
  readonly body?: string;
}

export interface RigOptions {
  readonly partitions?: number;
  readonly limits?: Partial<SinkLoopLimits>;
  /** By shard, with their tables, and a layout where sinks are to start; the rig closes them. Default: an embedded one. */
  readonly stores?: readonly Store[];
  /** Told of every insert before it happens and after it has happened; what they throw, the insert throws. */
  readonly beforeInsert?: (insert: Insert) => Promise<void> | void;
  readonly afterInsert?: (insert: Insert) => Promise<void> | void;
}

/** One insert as the store was asked for it. */
export interface Insert {
  readonly table: string;
  readonly token: string;
  readonly shard: number;
}

const limitsByDefault: SinkLoopLimits = {
  sinkBatchRowsMax: 100_000,
  sinkBatchBytesMax: 32 * 1024 * 1024,
  retryWindowMs: 600_000,
  identitiesMax: 100_000,
  tokenKnownMs: 30_000,
  sinkLingerMs: 1,
  insertsPerSecond: 1000,
};

export class Rig {
  readonly appender: LogAppender;
  /** The store itself, for looking into it and changing it: of the first shard, if there are several. */
  readonly store: Store;
  readonly stores: readonly Store[];
  /** Shards that sinks are configured with: the first so many stores. */
  shards: number;
  readonly counters = new Counters(counterNames, createCounters(counterNames));
  readonly board: PartitionBoard;
  /** Inserts asked for, in order. */
  readonly inserts: Insert[] = [];
  /** What the sinks told the main thread. */
  readonly messages: FromWorker[] = [];
  readonly #folder: string;
  readonly #options: RigOptions;
  #consumer: EmbeddedLogConsumer | null = null;

  private constructor(folder: string, appender: LogAppender, stores: readonly Store[], options: RigOptions) {
    const [store] = stores;
    assert.ok(store !== undefined);
    this.#folder = folder;
    this.#options = options;
    this.appender = appender;
    this.store = store;
    this.stores = stores;
    this.shards = stores.length;
    this.board = new PartitionBoard(createBoard(appender.partitions));
  }

  static async open(options: RigOptions = {}): Promise<Rig> {
    const folder = mkdtempSync(join(tmpdir(), 'ess-sink-'));
    const appender = await openEmbeddedAppender(logOptions(folder, options.partitions ?? 1));
    if (options.stores !== undefined) return new Rig(folder, appender, options.stores, options);
    await pinEmbeddedEngine();
    const store = await openStore({ kind: 'embedded', path: join(folder, 'store') });
    await ensureSchema(store);
    await ensureLayout(store, { shard: 0, shards: 1 });
    return new Rig(folder, appender, [store], options);
  }

  get epoch(): string {
    return this.appender.epoch;
  }

  /** The condition that the partition said last; null if it is well. */
  condition(partition = 0): string | null {
    const key = `partition-${partition}`;
    const last = this.messages.findLast((message) => message.type === 'condition' && message.key === key);
    return last?.type === 'condition' ? (last.trouble?.text ?? null) : null;
  }

  /** Appends events as one batch; gives the offset of the first. */
  async append(events: readonly TestEvent[], partition = 0): Promise<number> {
    const writer = new RecordWriter();
    for (const event of events) {
      const body = Buffer.from(event.body ?? JSON.stringify({ id: event.id }));
      const flags = event.timeMs === undefined ? 0 : recordFlags.hasTime;
      const timeMs = event.timeMs ?? event.ingestMs;
      const { id, source = '', ingestMs } = event;
      writer.append(flags, id, 'event', source, '', null, ingestMs, timeMs, body, 0, body.length);
    }
    const [base] = await this.appender.append([{ partition, count: writer.count, bytes: writer.bytes }]);
    assert.ok(typeof base === 'number');
    this.board.raise(partition, 'end', base + writer.count);
    return base;
  }

  /** Ends of all partitions. */
  async ends(): Promise<number[]> {
    return (await this.appender.states()).map(({ end }) => end);
  }

  /**
   * A new sink for the partition, as after a restart: it knows only what the log and the store know. It is started;
   * the one before is no longer to be used. `moved`: in what its position is another one than the log has.
   */
  async startSink(
    partition = 0,
    limits: Partial<SinkLoopLimits> = {},
    moved: Partial<LogPosition> = {},
  ): Promise<PartitionSink> {
    const { parts, position } = await this.#assigned(partition, limits);
    const sink = new PartitionSink(partition, parts);
    await sink.start({ ...position, ...moved });
    return sink;
  }

  /** A sink whose start is not waited for. `from`: what it is told that was committed, instead of what was. */
  async beginSink(
    partition = 0,
    from?: LogPosition,
  ): Promise<{ sink: PartitionSink; started: Promise<void> }> {
    const { parts, position } = await this.#assigned(partition, {});
    const sink = new PartitionSink(partition, parts);
    return { sink, started: sink.start(from ?? position) };
  }

  /** What is committed. As for any new consumer, the sink before is no longer to be used. */
  async position(partition = 0): Promise<LogPosition> {
    return (await this.#assigned(partition, {})).position;
  }

  /** Makes the log begin at `start`, which has to be where a batch begins, as if its retention had passed. */
  async trimTo(start: number, partition = 0): Promise<void> {
    const { parts, position } = await this.#assigned(partition, {});
    await parts.log.commit(partition, start, position.metadata);
    while ((await this.appender.trim()) > 0);
    assert.equal((await this.appender.states())[partition]?.start, start);
  }

  async #assigned(
    partition: number,
    limits: Partial<SinkLoopLimits>,
  ): Promise<{ parts: SinkParts; position: LogPosition }> {
    const consumer = await this.#newConsumer();
    const positions = new Map<number, LogPosition>();
    await consumer.start({
      assigned: (owned, position) => positions.set(owned, position),
      revoked: () => {},
      dataArrived: () => {},
      changed: () => {},
    });
    return {
      parts: this.#parts(consumer, limits),
      position: positions.get(partition) ?? { offset: 0, metadata: '' },
    };
  }

  /**
   * Runs a whole sink thread's loop over all partitions for as long as `work` takes, then stops it in order. `onStopped`
   * may deal partitions to it once it was told to stop.
   */
  async whileLooping(
    work: () => Promise<void>,
    limits: Partial<SinkLoopLimits> = {},
    onStopped: (listener: AssignmentListener) => void = () => {},
  ): Promise<void> {
    const consumer = await this.#newConsumer();
    const listeners: AssignmentListener[] = [];
    const start = consumer.start.bind(consumer);
    consumer.start = (listener) => {
      listeners.push(listener);
      return start(listener);
    };
    const parts = this.#parts(consumer, limits);
    const sink = new Sink(parts, this.#limits(limits), new Doorbell(createDoorbell()), true, 0);
    const running = sink.run();
    try {
      await work();
    } finally {
      sink.stop();
      listeners.forEach(onStopped);
      await running;
    }
  }

  async #newConsumer(): Promise<EmbeddedLogConsumer> {
    await this.#consumer?.close();
    const { partitions } = this.appender;
    this.#consumer = await openEmbeddedConsumer({
      ...logOptions(this.#folder, partitions),
      index: 0,
      count: 1,
      pollMs: 5,
    });
    return this.#consumer;
  }

  #limits(limits: Partial<SinkLoopLimits>): SinkLoopLimits {
    return { ...limitsByDefault, ...this.#options.limits, ...limits };
  }

  #parts(log: EmbeddedLogConsumer, limits: Partial<SinkLoopLimits>): SinkParts {
    const shards = this.stores.slice(0, this.shards).map((store, shard) => {
      const watched = this.#watched(store, shard);
      return { store: watched, ledger: new LedgerWriter(watched, () => {}) };
    });
    return {
      log,
      shards,
      board: this.board,
      counters: this.counters,
      recorder: new StageRecorder(['log_wait', 'insert', 'end_to_end'], () => nowUs() / 1000),
      limits: this.#limits(limits),
      topic: 'events',
      send: (message) => this.messages.push(message),
      onProgress: () => {},
    };
  }

  /** A store as the sinks see it. */
  #watched(store: Store, shard: number): Store {
    const { beforeInsert, afterInsert } = this.#options;
    return {
      name: store.name,
      insertNative: async (
        table: string,
        columns: readonly string[],
        block: readonly Uint8Array[],
        options: InsertOptions,
      ) => {
        const insert = { table, token: options.token, shard };
        this.inserts.push(insert);
        await beforeInsert?.(insert);
        await store.insertNative(table, columns, block, options);
        await afterInsert?.(insert);
      },
      rows: (sql, params, options) => store.rows(sql, params, options),
      bytes: (sql, params, options) => store.bytes(sql, params, options),
      command: (sql, params, options) => store.command(sql, params, options),
      close: async () => {},
    };
  }

  async close(): Promise<void> {
    await this.#consumer?.close();
    await this.appender.close();
    for (const store of this.stores) await store.close();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

function logOptions(folder: string, partitions: number) {
  return {
    path: join(folder, 'log'),
    partitions,
    bytesMax: 1024 ** 3,
    retentionMs: 0,
    retentionBytes: 0,
  };
}

/** Reads and stores until the partition has dealt with everything in the log, or is closed. */
export async function drain(sink: PartitionSink, end: number): Promise<void> {
  while (sink.isOpen && (sink.next < end || sink.recordsHeld > 0)) {
    if (sink.canRead) sink.read(1024 * 1024);
    if (sink.canStore) await sink.store();
  }
  await sink.completeWhenIdle(Number.POSITIVE_INFINITY);
}
