// The replicas of one shard as one store. Runs on the thread that opened it; each thread has its own and prefers another
// replica. It never reaches for another shard: there the block's token would be unknown, and the block a second one.
//
//   insert   preferred replica -> no clear answer, or a refusal that is not the block's fault -> next replica, same token
//   read     the first replica, in the same order, that has all that its siblings acknowledged
//
// A replica that fails steps back: it rests, longer after each failure in a row, is then checked (does it answer, are
// its tables as they have to be, is it recorded as one of this shard), and gets one insert at a time until one has
// succeeded. A replica is checked before its first insert too, and once a minute. While no other is left, rests do not
// count: the caller's own pauses are enough. Tables of a shard's only node are checked alike, but none is ever made: it
// would come back empty.

import { EssError } from '../errors.ts';
import { type OpenOptions, openStore } from './client.ts';
import { failurePolicy } from './failure.ts';
import { assertSchema, ensureSchema, tableNames } from './migrate.ts';
import { readReplicaState } from './replica_state.ts';
import { tableKind } from './schema.ts';
import { checkLayout } from './shard_layout.ts';
import {
  type InsertOptions,
  type QueryOptions,
  type QueryParams,
  type Store,
  StoreError,
  type StoreTarget,
} from './store.ts';

export interface ShardOptions {
  /** Number of the shard, from 0. */
  readonly shard: number;
  /** Number of all shards. */
  readonly shards: number;
  /** Index of the replica that inserts go to while it is well; taken modulo their number. */
  readonly preferred: number;
  /** Rest after a first failure, ms; doubled by each further one in a row up to the bound. Defaults 500 and 30,000. */
  readonly restMsMin?: number;
  readonly restMsMax?: number;
  /** Time in which a replica that is checked has to answer, ms. Default 5,000. */
  readonly checkTimeoutMs?: number;
  /**
   * What a replica has to pass before it gets inserts; rejects if it may not be used. Default: ensureSchema where there
   * are several, assertSchema for a shard's only one; then checkLayout.
   */
  readonly check?: (replica: Store) => Promise<void>;
  /** A passed check counts for so long, ms. Default 60,000. */
  readonly recheckMs?: number;
}

/** A replica's health, as this thread has met it. */
export interface ReplicaHealth {
  /** "host:port". */
  readonly name: string;
  /** True if its last request went well, or none was made yet. */
  readonly isUp: boolean;
  /** Why the last request failed; null while it is up. */
  readonly lastError: string | null;
  /** Failures in a row; 0 while it is up. */
  readonly failures: number;
}

const restMsMinDefault = 500;
const restMsMaxDefault = 30_000;
const checkTimeoutMsDefault = 5_000;

/** Two small queries a minute for each thread, against a table that was dropped and made anew by another hand. */
const recheckMsDefault = 60_000;

/** ClickHouse's TIMEOUT_EXCEEDED and TOO_SLOW: of a read, they say that the read is too long, on whichever replica. */
const tooLongCodes: readonly number[] = [159, 160];

/** Opens the replicas of a shard; like openStore, it does not contact them yet. */
export async function openShard(
  replicas: readonly StoreTarget[],
  options: ShardOptions & OpenOptions,
): Promise<ShardStore> {
  const stores: Store[] = [];
  for (const target of replicas) stores.push(await openStore(target, options));
  // The engine in this process is nobody else's, and its tables were checked when it was opened.
  const isOurs = replicas.every(({ kind }) => kind === 'embedded');
  return new ShardStore(stores, isOurs ? { check: async () => {}, ...options } : options);
}

export class ShardStore implements Store {
  readonly name: string;
  /** The preferred one first. */
  readonly #replicas: readonly Replica[];
  /** In the order given. */
  readonly #inOrderGiven: readonly Replica[];
  readonly #checkTimeoutMs: number;

  /** Takes over the stores, at least one: `close` closes them. */
  constructor(stores: readonly Store[], options: ShardOptions) {
    if (stores.length === 0) throw new EssError('internal', 'a shard needs at least one replica');
    const kind = tableKind(stores.length);
    const { shard, shards } = options;
    const limits: ReplicaLimits = {
      restMsMin: options.restMsMin ?? restMsMinDefault,
      restMsMax: options.restMsMax ?? restMsMaxDefault,
      checkTimeoutMs: options.checkTimeoutMs ?? checkTimeoutMsDefault,
      check:
        options.check ??
        (async (store) => {
          await (stores.length > 1 ? ensureSchema(store, kind) : assertSchema(store, kind));
          await checkLayout(store, { shard, shards });
        }),
      recheckMs: options.recheckMs ?? recheckMsDefault,
    };
    this.name = `shard ${shard}`;
    this.#checkTimeoutMs = limits.checkTimeoutMs;
    this.#inOrderGiven = stores.map((store) => new Replica(store, limits));
    const first = options.preferred % stores.length;
    this.#replicas = [...this.#inOrderGiven.slice(first), ...this.#inOrderGiven.slice(0, first)];
  }

  /** The replicas in the order given, whichever is preferred. */
  replicas(): ReplicaHealth[] {
    return this.#inOrderGiven.map((replica) => replica.health);
  }

  /**
   * Inserts through the first replica that takes the block. What the block itself is refused for, or what needs a
   * person, is passed on from the first replica that says so; everything else is tried on all of them, with one token.
   */
  async insertNative(
    table: string,
    columns: readonly string[],
    block: readonly Uint8Array[],
    options: InsertOptions,
  ): Promise<void> {
    const only = this.#only;
    const insert = (store: Store): Promise<void> => store.insertNative(table, columns, block, options);
    if (only !== null) {
      const error = await only.check();
      if (error !== null) throw error;
      await only.run('insert', insert, options.signal);
      return;
    }
    await this.#onFirst({
      kind: 'insert',
      signal: options.signal,
      mayTryNext: (error) => failurePolicy(error) === 'retry',
      repeatWithinMs: options.repeatWithinMs,
      work: insert,
    });
  }

  rows<Row>(sql: string, params?: QueryParams, options: QueryOptions = {}): Promise<Row[]> {
    return this.#read(options, (store, limited) => store.rows<Row>(sql, params, limited));
  }

  bytes(sql: string, params?: QueryParams, options: QueryOptions = {}): Promise<Buffer> {
    return this.#read(options, (store, limited) => store.bytes(sql, params, limited));
  }

  /** Runs on one replica. Another is tried only if it is certain that the first one has not begun. */
  async command(sql: string, params?: QueryParams, options: QueryOptions = {}): Promise<void> {
    const command = (store: Store): Promise<void> => store.command(sql, params, options);
    const only = this.#only;
    if (only !== null) {
      await only.run('read', command, options.signal);
      return;
    }
    await this.#onFirst({
      kind: 'read',
      signal: options.signal,
      mayTryNext: (error) => failurePolicy(error) === 'retry' && error.outcome === 'refused',
      work: command,
    });
  }

  async close(): Promise<void> {
    await Promise.all(this.#replicas.map((replica) => replica.store.close()));
  }

  /** The replica of a shard that has no other: it is not rested, and reads need no check, since that would help nobody. */
  get #only(): Replica | null {
    return this.#replicas.length === 1 ? (this.#replicas[0] ?? null) : null;
  }

  async #read<T>(
    options: QueryOptions,
    read: (store: Store, options: QueryOptions) => Promise<T>,
  ): Promise<T> {
    const only = this.#only;
    if (only !== null) return only.run('read', (store) => read(store, options), options.signal);
    const { timeoutMs } = options;
    const startMs = performance.now();
    return this.#onFirst({
      kind: 'read',
      signal: options.signal,
      mayTryNext: (error) =>
        failurePolicy(error) === 'retry' &&
        !tooLongCodes.includes(error.code) &&
        (timeoutMs === undefined || performance.now() - startMs < timeoutMs),
      work: async (store) => {
        await this.#refuseIfBehind(store, options.signal);
        if (timeoutMs === undefined) return read(store, options);
        const leftMs = Math.max(1, Math.ceil(timeoutMs - (performance.now() - startMs)));
        return read(store, { ...options, timeoutMs: leftMs });
      },
    });
  }

  /**
   * Does the work on the first replica that can: those that are well first, then the others after a check. Rejects with
   * what the first replica said that another one could not help, or with what the last of all said.
   */
  async #onFirst<T>(request: Request<T>): Promise<T> {
    const { kind, signal, mayTryNext, work, repeatWithinMs = Number.POSITIVE_INFINITY } = request;
    const startMs = performance.now();
    const failures: { readonly replica: Replica; readonly error: StoreError }[] = [];
    const waiting: Replica[] = [];
    const attempt = async (replica: Replica): Promise<{ readonly value: T } | null> => {
      if (failures.length > 0 && performance.now() - startMs > repeatWithinMs) throw summary(failures);
      try {
        return { value: await replica.run(kind, work, signal) };
      } catch (error) {
        if (!(error instanceof StoreError)) throw error;
        failures.push({ replica, error });
        if (signal?.aborted === true || !mayTryNext(error)) throw summary(failures);
        return null;
      }
    };
    for (const replica of this.#replicas) {
      if (!replica.canTake(kind)) {
        waiting.push(replica);
        continue;
      }
      const done = await attempt(replica);
      if (done !== null) return done.value;
    }
    for (const replica of waiting) {
      const error = await replica.check();
      if (error !== null) failures.push({ replica, error });
      else {
        const done = await attempt(replica);
        if (done !== null) return done.value;
      }
      if (signal?.aborted === true) break;
    }
    throw summary(failures);
  }

  /** Rejects if a replica may not have everything that its siblings acknowledged, or cannot tell (replica_state.ts). */
  async #refuseIfBehind(store: Store, signal: AbortSignal | undefined): Promise<void> {
    const silence = AbortSignal.timeout(this.#checkTimeoutMs);
    const limit = signal === undefined ? silence : AbortSignal.any([signal, silence]);
    try {
      const { tables, isCurrent } = await readReplicaState(store, tableNames, { signal: limit });
      if (tables !== tableNames.length || !isCurrent) throw new Behind();
    } catch (error) {
      throw silence.aborted ? noAnswer(this.#checkTimeoutMs) : error;
    }
  }
}

/** The replica is well, but may not answer this read. */
class Behind extends StoreError {
  constructor() {
    super(0, 'refused', 'it is behind its siblings, or cannot tell whether it is');
  }
}

function noAnswer(timeoutMs: number): StoreError {
  return new StoreError(0, 'unknown', `no answer to a check within ${timeoutMs} ms`);
}

type RequestKind = 'insert' | 'read';

interface Request<T> {
  readonly kind: RequestKind;
  readonly signal: AbortSignal | undefined;
  /** False if the failure is the caller's to deal with. */
  readonly mayTryNext: (error: StoreError) => boolean;
  /** See InsertOptions; ms. Undefined: no limit. */
  readonly repeatWithinMs?: number | undefined;
  readonly work: (store: Store) => Promise<T>;
}

/** What several replicas said as one error: the last one's number, and the outcome of all attempts together. */
function summary(failures: readonly { readonly replica: Replica; readonly error: StoreError }[]): StoreError {
  const last = failures.at(-1)?.error;
  if (last === undefined) throw new EssError('internal', 'no replica was tried');
  const isAmbiguousBefore = failures.slice(0, -1).some(({ error }) => error.outcome === 'unknown');
  const outcome = isAmbiguousBefore ? 'unknown' : last.outcome;
  const detail = failures
    .toReversed()
    .map(({ replica, error }) => `${replica.store.name}: ${error.message}`)
    .join('; before that, ');
  const needsPerson = failures.every(({ error }) => error.needsPerson);
  return new StoreError(last.code, outcome, detail, { cause: last, isAmbiguousBefore, needsPerson });
}

interface ReplicaLimits {
  readonly restMsMin: number;
  readonly restMsMax: number;
  readonly checkTimeoutMs: number;
  readonly check: (replica: Store) => Promise<void>;
  readonly recheckMs: number;
}

class Replica {
  readonly store: Store;
  readonly #limits: ReplicaLimits;
  /** True from a passed check to the next failure. */
  #isChecked = false;
  #checkedAtMs = 0;
  #checking: Promise<StoreError | null> | null = null;
  #failures = 0;
  #lastError: string | null = null;
  /** A failed insert is made good by an insert only: a replica that takes none may still answer reads. */
  #hasFailedInsert = false;
  #restUntilMs = 0;
  #inserts = 0;

  constructor(store: Store, limits: ReplicaLimits) {
    this.store = store;
    this.#limits = limits;
  }

  get health(): ReplicaHealth {
    const failures = this.#failures;
    return { name: this.store.name, isUp: failures === 0, lastError: this.#lastError, failures };
  }

  /** True if it can be given a request without a look at it. Has it checked in the background once its rest is over. */
  canTake(kind: RequestKind): boolean {
    if (!this.#isChecked) {
      if (performance.now() >= this.#restUntilMs) void this.check();
      return false;
    }
    // Meanwhile it is used: what the check finds counts from the next request on.
    if (kind === 'insert') void this.check();
    return kind === 'read' || this.#failures === 0 || this.#inserts === 0;
  }

  /** Null if it may be used, or why not; looks only if its last look is too long ago. Never rejects. */
  check(): Promise<StoreError | null> {
    const isFresh = performance.now() - this.#checkedAtMs < this.#limits.recheckMs;
    if (this.#isChecked && isFresh) return Promise.resolve(null);
    this.#checking ??= this.#check().finally(() => {
      this.#checking = null;
    });
    return this.#checking;
  }

  async #check(): Promise<StoreError | null> {
    const { check, checkTimeoutMs } = this.#limits;
    let timer: NodeJS.Timeout | undefined;
    const silence = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => reject(noAnswer(checkTimeoutMs)), checkTimeoutMs);
    });
    try {
      // Whichever comes second is of no interest; a check that comes too late ends at its own time limit.
      await Promise.race([check(this.store), silence]);
      this.#isChecked = true;
      this.#checkedAtMs = performance.now();
      return null;
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      this.#failed(text);
      // Whatever it was: the request for which it was checked has not been sent.
      const code = error instanceof StoreError ? error.code : 0;
      return new StoreError(code, 'refused', text, { cause: error, needsPerson: error instanceof EssError });
    } finally {
      clearTimeout(timer);
    }
  }

  /** Makes a request and notes what it says of the replica. */
  async run<T>(
    kind: RequestKind,
    work: (store: Store) => Promise<T>,
    signal: AbortSignal | undefined,
  ): Promise<T> {
    if (kind === 'insert') this.#inserts += 1;
    try {
      const value = await work(this.store);
      if (kind === 'insert' || !this.#hasFailedInsert) this.#succeeded();
      return value;
    } catch (error) {
      if (signal?.aborted !== true && isReplicasFault(kind, error)) {
        this.#failed(error instanceof Error ? error.message : String(error));
        if (kind === 'insert') this.#hasFailedInsert = true;
      }
      throw error;
    } finally {
      if (kind === 'insert') this.#inserts -= 1;
    }
  }

  #succeeded(): void {
    this.#failures = 0;
    this.#lastError = null;
    this.#hasFailedInsert = false;
  }

  #failed(text: string): void {
    const { restMsMin, restMsMax } = this.#limits;
    this.#isChecked = false;
    this.#restUntilMs = performance.now() + Math.min(restMsMin * 2 ** this.#failures, restMsMax);
    this.#failures += 1;
    this.#lastError = text;
  }
}

/** False if it is the block's fault, or one of a single statement. */
function isReplicasFault(kind: RequestKind, error: unknown): boolean {
  if (kind === 'insert') return failurePolicy(error) !== 'poison';
  return error instanceof StoreError && error.code === 0 && !(error instanceof Behind);
}
