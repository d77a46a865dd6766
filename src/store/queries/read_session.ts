// The statements of one read on one shard: they share the read's time limit and the same bounds, stay on one replica
// while it answers, and go to the next one when it does not. Runs on reader threads.
//
//   choose: the replicas in order of health; the first that has every acknowledged block (../replica_state.ts)
//   ask:    the statement, while `SELECT 1` beside it tells a node that is slow from one that is gone
//   failed: the next replica; none left: ShardUnavailableError, and the shard is missing from this read's answer
//
// The embedded store has none of this: its statement is simply run.

import { setTimeout as sleep } from 'node:timers/promises';
import { EssError } from '../../errors.ts';
import { type ReplicaState, readReplicaState } from '../replica_state.ts';
import { type QueryOptions, type Store, StoreError } from '../store.ts';
import type { Bindings } from './bindings.ts';
import type { Replica, Shard } from './shards.ts';
import type { TimeLimit } from './time_limit.ts';

/**
 * Memory of one statement. Two readers at once (the default on small machines) stay within half of 8 GiB; statistics
 * of 5 M rows need less than a fifth of it, unless they are grouped by something that nearly every event has its own
 * value of.
 */
const statementBytesMax = 2 * 1024 ** 3;

const settings = {
  max_memory_usage: statementBytesMax,
  // Otherwise the last digit of a parsed number may differ from what JSON.parse makes of it.
  precise_float_parsing: 1,
  // Averages of nothing come as null instead of "nan".
  output_format_json_quote_denormals: 0,
} as const;

/** The engine's default of max_query_size is 262,144 bytes: a statement that comes near it asks for more. */
const queryBytesMax = 200_000;

/**
 * The replicas of a shard that are all silent may cost a read one part in this many of its time: what is left is for
 * the other shards' answers and for putting them together.
 */
const silentShare = 4;
/** A node that was silent the last time is waited for so many times shorter. */
const suspectShare = 8;
/** A node that is up answers `SELECT 1` within this even under load, ms. */
const silenceMsMin = 50;

/** How long a read waits for a replica to have every block, at most, ms, and which part of the time limit. */
const currentWaitMsMax = 1000;
const currentWaitShare = 8;
const currentPollMs = 20;

/** Errors that are the statement's own doing: another replica would take as long, or need as much. */
const ownFaults: readonly number[] = [
  158, // TOO_MANY_ROWS
  159, // TIMEOUT_EXCEEDED
  160, // TOO_SLOW
  241, // MEMORY_LIMIT_EXCEEDED
  307, // TOO_MANY_BYTES
  396, // TOO_MANY_ROWS_OR_BYTES
];

/** No replica of the shard answers. */
export class ShardUnavailableError extends EssError {
  readonly shard: number;

  constructor(shard: number, cause: unknown) {
    const detail = cause instanceof Error ? cause.message : String(cause);
    super('store_unavailable', `shard ${shard}: ${detail}`, { cause });
    this.shard = shard;
  }
}

type Statement<T> = (store: Store, options: QueryOptions) => Promise<T>;

export class ReadSession {
  readonly #shard: Shard;
  readonly #limit: TimeLimit;
  /** Replicas that have not failed in this read. */
  readonly #left: Set<Replica>;
  #chosen: Replica | null = null;
  #isStale = false;
  #lastFailure: unknown = null;

  constructor(shard: Shard, limit: TimeLimit) {
    this.#shard = shard;
    this.#limit = limit;
    this.#left = new Set(shard.replicas);
  }

  /** Number of the shard. */
  get shard(): number {
    return this.#shard.index;
  }

  /** Its nodes are reached over a network. */
  get isRemote(): boolean {
    return this.#shard.local === null;
  }

  /** The replica that was read may lack blocks that were acknowledged before. */
  get isStale(): boolean {
    return this.#isStale;
  }

  /** Rows of a SELECT without FORMAT clause; 64-bit integers come as decimal strings. */
  async rows<Row>(sql: string, bindings: Bindings): Promise<Row[]> {
    return this.#ask((store, options) => store.rows<Row>(sql, bindings.params, options));
  }

  /** The answer of a SELECT that ends in its FORMAT clause; refused with code 396 if it is longer than `bytesMax`. */
  async bytes(sql: string, bindings: Bindings, bytesMax?: number): Promise<Buffer> {
    const queryBytes = Buffer.byteLength(sql);
    const more = {
      ...(queryBytes < queryBytesMax ? {} : { max_query_size: queryBytes + 1 }),
      ...(bytesMax === undefined ? {} : { max_result_bytes: bytesMax, result_overflow_mode: 'throw' }),
    };
    return this.#ask((store, options) =>
      store.bytes(sql, bindings.params, { ...options, settings: { ...options.settings, ...more } }),
    );
  }

  /** Rejects with StoreError for what is the statement's fault, else, by way of all replicas, ShardUnavailableError. */
  async #ask<T>(statement: Statement<T>): Promise<T> {
    const { local } = this.#shard;
    if (local !== null) return statement(local, { timeoutMs: this.#limit.leftMs(), settings });
    for (;;) {
      const replica = await this.#choose();
      try {
        const answer = await this.#watched(replica, statement);
        this.#shard.answered(replica);
        return answer;
      } catch (error) {
        this.#drop(replica, error);
      }
    }
  }

  async #choose(): Promise<Replica> {
    if (this.#chosen === null) {
      const [only] = this.#shard.replicas;
      const isOnly = this.#shard.replicas.length === 1;
      this.#chosen = isOnly && only !== undefined && this.#left.has(only) ? only : await this.#mostCurrent();
    }
    return this.#chosen;
  }

  /** The healthiest replica that has every block; past the time to wait for one, the one that is least behind. */
  async #mostCurrent(): Promise<Replica> {
    const waitMs = Math.min(currentWaitMsMax, this.#limit.timeoutMs / currentWaitShare);
    const giveUpMs = performance.now() + waitMs;
    for (;;) {
      let best: { readonly replica: Replica; readonly delayS: number } | null = null;
      for (const replica of this.#shard.replicas) {
        if (!this.#left.has(replica)) continue;
        const state = await this.#stateOf(replica);
        if (state === null) continue;
        if (state.isCurrent) return replica;
        if (best === null || state.delayS < best.delayS) best = { replica, delayS: state.delayS };
      }
      if (best === null) throw new ShardUnavailableError(this.shard, this.#lastFailure);
      if (performance.now() >= giveUpMs) {
        this.#isStale = true;
        return best.replica;
      }
      await sleep(currentPollMs);
    }
  }

  /** Null if it does not answer. */
  async #stateOf(replica: Replica): Promise<ReplicaState | null> {
    try {
      return await this.#watched(replica, (store, options) => readReplicaState(store, ['events'], options));
    } catch (error) {
      this.#drop(replica, error);
      return null;
    }
  }

  /** Leaves a replica that failed; throws what was not its fault. */
  #drop(replica: Replica, error: unknown): void {
    if (!(error instanceof SilentNodeError || error instanceof StoreError)) throw error;
    if (error instanceof StoreError && ownFaults.includes(error.code)) throw error;
    this.#left.delete(replica);
    this.#chosen = null;
    this.#lastFailure = error;
    this.#shard.failed(replica, error instanceof SilentNodeError);
    // A node that answers beside a statement that does not end is not to blame for it.
    this.#limit.leftMs();
  }

  /** Runs a statement for as long as the node shows that it is there; rejects with SilentNodeError once it does not. */
  async #watched<T>(replica: Replica, statement: Statement<T>): Promise<T> {
    const options = { timeoutMs: this.#limit.leftMs(), settings };
    if (!replica.isRemote) return statement(replica.store, options);
    const patienceMs = this.#patienceMs(replica);
    const giveUp = new AbortController();
    const answer = statement(replica.store, { ...options, signal: giveUp.signal });
    const isOver = answer.then(
      () => true,
      () => true,
    );
    if (!(await isSilent(replica.store, patienceMs, isOver))) return answer;
    giveUp.abort();
    await isOver;
    throw new SilentNodeError(`${replica.store.name} gave no sign for ${Math.ceil(patienceMs)} ms`);
  }

  #patienceMs(replica: Replica): number {
    const share = silentShare * this.#shard.replicas.length * (replica.isSuspect ? suspectShare : 1);
    return Math.max(silenceMsMin, this.#limit.timeoutMs / share);
  }
}

/** A node that accepts connections, or not even that, and never answers. */
class SilentNodeError extends Error {
  override readonly name = 'SilentNodeError';
}

/** Settles with false when `isOver` does, or with true as soon as the node does not even answer `SELECT 1`. */
async function isSilent(store: Store, patienceMs: number, isOver: Promise<unknown>): Promise<boolean> {
  for (;;) {
    if (await isOverWithin(isOver, patienceMs / 2)) return false;
    const giveUp = new AbortController();
    // An error with a number is a sign of life too. A connection that fails at once says nothing about the other one.
    const sign = store.rows('SELECT 1', {}, { signal: giveUp.signal }).then(
      () => true,
      () => !giveUp.signal.aborted,
    );
    const isAlive = await isOverWithin(Promise.race([isOver, sign]), patienceMs / 2);
    giveUp.abort();
    if (!isAlive) return true;
  }
}

/** Whether the promise, which never rejects, settles in time. */
async function isOverWithin(promise: Promise<unknown>, ms: number): Promise<boolean> {
  const timer = new AbortController();
  const late = sleep(ms, false, { signal: timer.signal }).catch(() => false);
  const isInTime = await Promise.race([promise.then(() => true), late]);
  timer.abort();
  return isInTime;
}
