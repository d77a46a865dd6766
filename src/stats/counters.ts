// Every counter of the process, as one closed list, in shared memory: any thread adds, the main thread reads. A new
// counter is a new row in `fixedKinds`; /stats and /metrics show it by themselves.
import { type ErrorCode, EssError, errorKinds } from '../errors.ts';

export interface CounterKind {
  /** A counter only grows; a gauge may fall. */
  readonly type: 'counter' | 'gauge';
  /** Name in /metrics without `ess_` and, for counters, `_total`. Rows that share it differ in `labels`. */
  readonly metric: string;
  readonly labels: Readonly<Record<string, string>>;
  /** What is counted; HELP in /metrics. Rows that share a metric share it too. */
  readonly help: string;
}

const counter = <M extends string>(metric: M, help: string): CounterKind => ({
  type: 'counter',
  metric,
  labels: {},
  help,
});

const fixedKinds = {
  requests: counter('requests', 'HTTP requests that post events, accepted or not'),
  requests_taken: counter('requests_taken', 'Requests that a producer worker took from its ring'),
  events_accepted: counter('events_accepted', 'Events that were valid and taken'),
  events_rejected: counter('events_rejected', 'Events that were not valid'),
  batches: counter('batches', 'Requests that carried more than one event'),
  bytes_in: counter('received_bytes', 'Bytes of request bodies as sent'),
  aborted_requests: counter('aborted_requests', 'Requests whose client went away before the answer'),
  late_acks: counter('late_acks', 'Acks that came for a slot which had moved on, and answered nobody'),
  log_appends: counter('log_appends', 'Groups of records appended to the log'),
  log_append_failures: counter('log_append_failures', 'Groups of records that the log did not take for sure'),
  log_changes: counter(
    'log_changes',
    'Times that the log was opened anew: topic recreated, partitions added',
  ),
  log_bytes: counter('log_appended_bytes', 'Bytes of records appended to the log'),
  events_memory_pending: {
    type: 'gauge',
    metric: 'events_memory_pending',
    labels: {},
    help: 'Events answered with ack=memory that are not yet in the log',
  },
  events_memory_lost: counter(
    'events_memory_lost',
    'Events answered with ack=memory that died with their worker thread',
  ),
  inserts: counter('inserts', 'Blocks stored'),
  insert_retries: counter('insert_retries', 'Repeated inserts of a block with the same token'),
  tokens_without_rows: counter(
    'tokens_without_rows',
    'Blocks that a node took for repeats although it had lost the first one, and that were stored under another token',
  ),
  insert_failures: counter('insert_failures', 'Inserts of a block that failed, retried or not'),
  rows_inserted: counter('rows_inserted', 'Rows stored by this process'),
  duplicates_dropped: counter('duplicates_dropped', 'Client retries that were recognised and not stored'),
  events_parked: counter('events_parked', 'Events put among the dead letters'),
  intents_replayed: counter('intents_replayed', 'Pending ranges that were sent again on assignment'),
  rebalances: counter(
    'rebalances',
    'Times that a sink worker was dealt its partitions anew: once for each one that joins or leaves the group',
  ),
  identity_lookups: counter('identity_lookups', 'Times that the store was asked for identities'),
  worker_deaths: counter('worker_deaths', 'Worker threads that ended without being told to'),
  reads: counter('reads', 'Queries started'),
  reads_rejected: counter('reads_rejected', 'Queries refused because too many were waiting'),
  reads_abandoned: counter('reads_abandoned', 'Queries that no reader thread answered in time'),
  live_viewers: {
    type: 'gauge',
    metric: 'live_viewers',
    labels: {},
    help: 'Pages that watch this process live',
  },
  live_viewers_rejected: counter(
    'live_viewers_rejected',
    'Pages that were not let in: too many, of another site, or while stopping',
  ),
  live_snapshots: counter('live_snapshots', 'Snapshots made for the pages that watch'),
} as const satisfies Record<string, CounterKind>;

type RejectedName<Code extends ErrorCode = ErrorCode> = `requests_rejected_${Code}`;
export type CounterName = keyof typeof fixedKinds | RejectedName;

function isErrorCode(text: string): text is ErrorCode {
  return Object.hasOwn(errorKinds, text);
}

function isFixedName(text: string): text is keyof typeof fixedKinds {
  return Object.hasOwn(fixedKinds, text);
}

const rejectedName = <Code extends ErrorCode>(code: Code): RejectedName<Code> => `requests_rejected_${code}`;
const codes = Object.keys(errorKinds).filter(isErrorCode);
const rejectedNames: ReadonlyMap<ErrorCode, CounterName> = new Map(
  codes.map((code) => [code, rejectedName(code)]),
);

/** The kind of every counter, in the order in which they lie in memory. */
export const counterKinds: ReadonlyMap<CounterName, CounterKind> = new Map<CounterName, CounterKind>([
  ...Object.keys(fixedKinds)
    .filter(isFixedName)
    .map((name): [CounterName, CounterKind] => [name, fixedKinds[name]]),
  ...codes.map((code): [CounterName, CounterKind] => [
    rejectedName(code),
    {
      type: 'counter',
      metric: 'requests_rejected',
      labels: { code },
      help: 'Requests answered with an error, by its code',
    },
  ]),
]);

/** Every counter's name. */
export const counterNames: readonly CounterName[] = [...counterKinds.keys()];

/** The counter of requests that were answered with this code. Allocates nothing: refusing must be cheap. */
export function rejectedCounter(code: ErrorCode): CounterName {
  const name = rejectedNames.get(code);
  if (name === undefined) throw new EssError('internal', `no counter for ${code}`);
  return name;
}

// One counter per 128 bytes: threads that add to neighbours would otherwise fight over one cache line.
const strideWords = 16;

/** Memory for these counters, all 0. */
export function createCounters(names: readonly string[]): SharedArrayBuffer {
  return new SharedArrayBuffer(names.length * strideWords * BigInt64Array.BYTES_PER_ELEMENT);
}

/** A thread's view of counters in shared memory. */
export class Counters<Name extends string> {
  readonly #words: BigInt64Array;
  readonly #indices: ReadonlyMap<Name, number>;

  /**
   * @param names the same names in the same order in every thread
   * @param shared what createCounters gave for them
   */
  constructor(names: readonly Name[], shared: SharedArrayBuffer) {
    this.#words = new BigInt64Array(shared);
    this.#indices = new Map(names.map((name, i) => [name, i * strideWords]));
    if (this.#indices.size * strideWords !== this.#words.length) {
      throw new EssError('internal', 'this memory was made for other counters');
    }
  }

  /** Adds a safe integer, for a gauge also a negative one. Atomic: no addition is lost between threads. */
  add(name: Name, n = 1): void {
    if (!Number.isSafeInteger(n)) throw new EssError('internal', `${n} is not a safe integer`);
    Atomics.add(this.#words, this.#index(name), BigInt(n));
  }

  get(name: Name): number {
    return Number(Atomics.load(this.#words, this.#index(name)));
  }

  #index(name: Name): number {
    const index = this.#indices.get(name);
    if (index === undefined) throw new EssError('internal', `no counter is called ${name}`);
    return index;
  }
}

/** The process's own counters: `new Counters(counterNames, shared)` in every thread. */
export type EngineCounters = Counters<CounterName>;
