// Entry of a sink worker thread: opens its log consumer and its ClickHouse node, runs the Sink, stops when told to.

import { workerData } from 'node:worker_threads';
import { assertSameLog, type LogIdentity, type LogTarget, openConsumer } from '../log/open.ts';
import { offerProfiler } from '../profile/offer.ts';
import { Doorbell } from '../ring/doorbell.ts';
import { PartitionBoard } from '../stats/board.ts';
import { nowUs } from '../stats/clock.ts';
import { Counters, counterNames } from '../stats/counters.ts';
import { StageRecorder } from '../stats/recorder.ts';
import { openShard } from '../store/shard_store.ts';
import type { StoreLayout, StoreTarget } from '../store/store.ts';
import { openPort } from '../thread/port.ts';
import { LedgerWriter } from './ledger.ts';
import { describe } from './patience.ts';
import type { Shard } from './shard.ts';
import { Sink, type SinkLoopLimits } from './sink.ts';

/** What the engine gives a sink worker. */
export interface SinkData {
  readonly index: number;
  /** Sink threads of this process. */
  readonly count: number;
  readonly log: LogTarget;
  /** The log as the main thread opened it. */
  readonly identity: LogIdentity;
  /** All nodes; this thread writes to every shard of which it is given a partition. */
  readonly layout: StoreLayout;
  /** The node that this thread owns: its shard's partitions come here first, and go to this replica first. */
  readonly place: { readonly shard: number; readonly replica: number; readonly turn: number };
  /** Time for one insert into a node, ms; past it the next replica is tried. */
  readonly requestTimeoutMs: number;
  readonly limits: SinkLoopLimits;
  readonly topic: string;
  readonly doorbell: SharedArrayBuffer;
  readonly board: SharedArrayBuffer;
  readonly counters: SharedArrayBuffer;
  /** Doorbells of the producers of this process, which may wait for rows; empty where they run elsewhere. */
  readonly producerDoorbells: readonly SharedArrayBuffer[];
  /** Whether this thread offers its profiler. */
  readonly isProfiled: boolean;
}

/** How often a log shared with another process is asked for new records, ms. */
const sharedLogPollMs = 20;

const data = workerData as SinkData;
if (data.isProfiled) await offerProfiler();
const isLogHere = data.log.kind === 'embedded' && data.producerDoorbells.length > 0;
const recorder = new StageRecorder(['log_wait', 'insert', 'end_to_end'], () => nowUs() / 1000);
const doorbell = new Doorbell(data.doorbell);
const producerDoorbells = data.producerDoorbells.map((shared) => new Doorbell(shared));
let stop: () => void = () => {};
const port = openPort(recorder, () => stop());
const { layout, place } = data;
const shards: Shard[] = [];
for (const [shard, replicas] of layout.shards.entries()) {
  // Of other shards' replicas threads prefer different ones, so that none of them gets everybody's blocks.
  const preferred = shard === place.shard ? place.replica : place.turn % replicas.length;
  const { length: count } = layout.shards;
  const { requestTimeoutMs } = data;
  const store = await openShard(replicas, { shard, shards: count, preferred, requestTimeoutMs });
  const say = (error: unknown): void => {
    const text = error === null ? null : `ledger of shard ${shard}: cannot write: ${describe(error)}`;
    const trouble = text === null ? null : ({ kind: 'partition_waiting', text } as const);
    port.send({ type: 'condition', key: `ledger-${shard}-${data.index}`, trouble });
  };
  // Takes back what its predecessor said.
  say(null);
  const ledger = new LedgerWriter(store, say);
  shards.push({ store, ledger });
}
const closeStores = async (): Promise<void> => {
  for (const { ledger } of shards) ledger.end();
  for (const { store } of shards) await store.close();
};
let isDying = false;
// An uncaught error ends this thread, but not before the engine has finished the thread's statements: their results
// would come back to a thread that is gone, and the embedded engine's addon aborts the whole process then.
process.on('uncaughtException', (error) => {
  if (isDying) return;
  isDying = true;
  void closeStores().finally(() => {
    process.removeAllListeners('uncaughtException');
    setImmediate(() => {
      throw error;
    });
  });
});
const log = await openConsumer(
  data.log,
  {
    index: data.index,
    count: data.count,
    pollMs: isLogHere ? 0 : sharedLogPollMs,
    shard: place.shard,
    shards: layout.shards.length,
    node: nodeName(layout.shards[place.shard]?.[place.replica]),
  },
  (level, message, fields) => port.send({ type: 'log', level, message, fields }),
);
assertSameLog(log, data.identity);
const sink = new Sink(
  {
    log,
    shards,
    board: new PartitionBoard(data.board),
    counters: new Counters(counterNames, data.counters),
    recorder,
    limits: data.limits,
    topic: data.topic,
    send: port.send,
    onProgress: () => {
      for (const bell of producerDoorbells) bell.ring();
    },
  },
  data.limits,
  doorbell,
  isLogHere,
  data.index,
);
stop = () => sink.stop();
port.send({ type: 'ready' });
await sink.run();
await log.close();
await closeStores();
port.send({ type: 'stopped' });
port.close();

function nodeName(target: StoreTarget | undefined): string {
  return target?.kind === 'http' ? new URL(target.url).host : 'chdb';
}
