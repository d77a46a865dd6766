// A sink thread's loop: reads its partitions fairly, decides when a range is worth an insert, and keeps what it
// holds in memory within a bound. One instance per sink thread, which owns one ClickHouse node.

import type { LogConsumer, LogPosition } from '../log/log.ts';
import type { Doorbell } from '../ring/doorbell.ts';
import { InsertBudget } from './budget.ts';
import { completeAfterMs, PartitionSink, type SinkLimits, type SinkParts } from './partition.ts';

export interface SinkLoopLimits extends SinkLimits {
  readonly sinkLingerMs: number;
  /** Of this thread alone; may be a fraction. */
  readonly insertsPerSecond: number;
}

/** Bytes read from one partition before the next one's turn. */
const turnBytes = 1024 * 1024;
/**
 * Blocks of this thread that may be inserted into one shard at the same time; into the embedded store each takes one of
 * libuv's few threads. A bound over all shards would let one that does not answer hold up the others.
 */
const storingMax = 2;
/** Blocks of full size that a thread holds at most, the ones being inserted included. */
const heldBlocksMax = 3;
/** Inserts that may be saved up while idle. */
const budgetBurst = 4;
const idleParkMs = 500;
/** How often the log's state is read where the producers are in another process, ms. */
const statesEveryMs = 100;

export class Sink {
  readonly #log: LogConsumer & { wake?(): void };
  readonly #parts: SinkParts;
  readonly #limits: SinkLoopLimits;
  readonly #doorbell: Doorbell;
  readonly #budget: InsertBudget;
  readonly #isLogHere: boolean;
  /** What stands for this thread on the board: 0 is nobody. */
  readonly #number: number;
  readonly #partitions = new Map<number, PartitionSink>();
  readonly #starting = new Set<PartitionSink>();
  #hasNews = true;
  #turn = 0;
  #statesAtMs = 0;
  #isReadingStates = false;
  #isStopping = false;

  /**
   * `isLogHere`: the producers of this process are the only ones, and raise the board's ends. `index`: of this thread
   * among the sinks of its process.
   */
  constructor(
    parts: SinkParts,
    limits: SinkLoopLimits,
    doorbell: Doorbell,
    isLogHere: boolean,
    index: number,
  ) {
    this.#number = index + 1;
    this.#log = parts.log;
    this.#limits = limits;
    this.#doorbell = doorbell;
    this.#isLogHere = isLogHere;
    this.#budget = new InsertBudget(limits.insertsPerSecond, budgetBurst, Date.now());
    this.#parts = {
      ...parts,
      onProgress: () => {
        parts.onProgress();
        this.#wake();
      },
    };
  }

  stop(): void {
    this.#isStopping = true;
    for (const partition of this.#partitions.values()) partition.stop();
    this.#wake();
  }

  #wake(): void {
    this.#hasNews = true;
    this.#doorbell.ring();
  }

  /** Works until stopped; then stores what it holds and commits. */
  async run(): Promise<void> {
    await this.#log.start({
      dealt: () => {
        this.#parts.counters.add('rebalances');
        this.#parts.send({ type: 'dealt', timeMs: Date.now() });
      },
      assigned: (partition, position) => this.#assign(partition, position),
      revoked: (partition) => {
        this.#partitions.get(partition)?.revoke();
        this.#partitions.delete(partition);
        this.#parts.board.set(partition, 'owner', 0);
      },
      dataArrived: () => this.#wake(),
      changed: (reason) => this.#parts.send({ type: 'log_changed', reason }),
    });
    for (;;) {
      this.#hasNews = false;
      const nowMs = Date.now();
      const isReading = this.#read();
      this.#startStoring(nowMs);
      // Not waited for: a partition whose commit gets no answer must not hold up the others.
      for (const partition of this.#partitions.values()) void partition.completeWhenIdle(nowMs);
      this.#readStates(nowMs);
      if (this.#isStopping && this.#isDone()) return;
      if (isReading) await new Promise((resolve) => setImmediate(resolve));
      else await this.#doorbell.park(() => this.#hasNews || this.#hasRecords(), this.#parkMs(Date.now()));
    }
  }

  #assign(partitionNumber: number, position: LogPosition): void {
    // Dealt again because others stop, too: whoever is left gets it in a moment, and one more start would hold up the end.
    if (this.#isStopping) return;
    const partition = new PartitionSink(partitionNumber, this.#parts);
    this.#partitions.set(partitionNumber, partition);
    this.#parts.board.set(partitionNumber, 'owner', this.#number);
    this.#starting.add(partition);
    void partition.start(position).then(() => {
      this.#starting.delete(partition);
      this.#wake();
    });
  }

  #read(): boolean {
    const partitions = [...this.#partitions.values()];
    let held = 0;
    for (const partition of partitions) held += partition.bytesHeld;
    let isAnyRead = false;
    this.#turn += 1;
    for (let i = 0; i < partitions.length; i += 1) {
      const partition = partitions[(i + this.#turn) % partitions.length];
      if (partition === undefined || !partition.canRead) continue;
      // A range that is sent again must become whole, whatever the bound is by now.
      const isOverBound = held >= this.#limits.sinkBatchBytesMax * heldBlocksMax;
      if (isOverBound && partition.recordsHeld > 0 && !partition.isReplaying) continue;
      const before = partition.bytesHeld;
      if (partition.read(turnBytes) > 0) isAnyRead = true;
      held += partition.bytesHeld - before;
    }
    return isAnyRead;
  }

  /** Starts to store ranges that are full, or old enough while the budget lasts, oldest first. */
  #startStoring(nowMs: number): void {
    const partitions = [...this.#partitions.values()];
    const storing = this.#parts.shards.map(() => 0);
    for (const { isStoring, shardNumber } of partitions)
      if (isStoring) storing[shardNumber] = (storing[shardNumber] ?? 0) + 1;
    const waiting = partitions
      .filter((partition) => partition.canStore)
      .sort((a, b) => a.openedMs - b.openedMs);
    for (const partition of waiting) {
      const inShard = storing[partition.shardNumber] ?? 0;
      if (inShard >= storingMax) continue;
      const isDue =
        partition.isFull ||
        this.#isStopping ||
        (nowMs - partition.openedMs >= this.#limits.sinkLingerMs && this.#budget.waitMs(nowMs) === 0);
      if (!isDue) continue;
      this.#budget.spend(nowMs);
      storing[partition.shardNumber] = inShard + 1;
      void partition.store();
    }
  }

  /** True if producers of this process are known to have appended records that could be read now. */
  #hasRecords(): boolean {
    // Elsewhere the log itself tells of new records; its end may be known before they can be read.
    if (!this.#isLogHere) return false;
    for (const partition of this.#partitions.values()) {
      if (partition.canRead && this.#parts.board.get(partition.partition, 'end') > partition.next)
        return true;
    }
    return false;
  }

  /** Until the next range is due, ms. */
  #parkMs(nowMs: number): number {
    let wait = this.#isLogHere ? idleParkMs : statesEveryMs;
    for (const partition of this.#partitions.values()) {
      if (partition.canStore) {
        const lingerLeft = partition.openedMs + this.#limits.sinkLingerMs - nowMs;
        wait = Math.min(wait, Math.max(lingerLeft, this.#budget.waitMs(nowMs), 1));
      }
      if (partition.isAwaitingCompletion) wait = Math.min(wait, completeAfterMs);
    }
    return this.#isStopping ? Math.min(wait, 20) : wait;
  }

  /** Brings the board's ends up to date where the producers are in another process. */
  #readStates(nowMs: number): void {
    if (this.#isLogHere || this.#isReadingStates || nowMs - this.#statesAtMs < statesEveryMs) return;
    this.#statesAtMs = nowMs;
    this.#isReadingStates = true;
    const { board, log } = this.#parts;
    log
      .states()
      .then((states) => {
        for (const [partition, state] of states.entries()) {
          board.raise(partition, 'end', state.end);
          board.raise(partition, 'start', state.start);
          board.set(partition, 'bytes', state.bytes);
        }
      })
      // The log says what is wrong with it where it matters: at the next read or commit.
      .catch(() => {})
      .finally(() => {
        this.#isReadingStates = false;
      });
  }

  #isDone(): boolean {
    if (this.#starting.size > 0) return false;
    for (const partition of this.#partitions.values()) {
      if (partition.isBusy) return false;
      // A replay that is not wholly read is left to the next start, with its intent.
      if (partition.canStore || (partition.isOpen && partition.isAwaitingCompletion)) return false;
    }
    return true;
  }
}
