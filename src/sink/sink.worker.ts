// Entry of a sink worker thread: opens its log consumer and its ClickHouse node, runs the Sink, stops when told to.

import { workerData } from 'node:worker_threads';
import { type LogTarget, openConsumer } from '../log/open.ts';
import { Doorbell } from '../ring/doorbell.ts';
import { PartitionBoard } from '../stats/board.ts';
import { nowUs } from '../stats/clock.ts';
import { Counters, counterNames } from '../stats/counters.ts';
import { StageRecorder } from '../stats/recorder.ts';
import { openStore } from '../store/client.ts';
import type { StoreTarget } from '../store/store.ts';
import { openPort } from '../thread/port.ts';
import { LedgerWriter } from './ledger.ts';
import { Sink, type SinkLoopLimits } from './sink.ts';

/** What the engine gives a sink worker. */
export interface SinkData {
  readonly index: number;
  /** Sink threads of this process. */
  readonly count: number;
  readonly log: LogTarget;
  readonly store: StoreTarget;
  readonly limits: SinkLoopLimits;
  readonly topic: string;
  readonly doorbell: SharedArrayBuffer;
  readonly board: SharedArrayBuffer;
  readonly counters: SharedArrayBuffer;
  /** Doorbells of the producers of this process, which may wait for rows; empty where they run elsewhere. */
  readonly producerDoorbells: readonly SharedArrayBuffer[];
}

/** How often a log shared with another process is asked for new records, ms. */
const sharedLogPollMs = 20;

const data = workerData as SinkData;
const isLogHere = data.producerDoorbells.length > 0;
const recorder = new StageRecorder(['log_wait', 'insert', 'end_to_end'], () => nowUs() / 1000);
const doorbell = new Doorbell(data.doorbell);
const producerDoorbells = data.producerDoorbells.map((shared) => new Doorbell(shared));
let stop: () => void = () => {};
const port = openPort(recorder, () => stop());
const store = await openStore(data.store);
let isDying = false;
// An uncaught error ends this thread, but not before the engine has finished the thread's statements: their results
// would come back to a thread that is gone, and the embedded engine's addon aborts the whole process then.
process.on('uncaughtException', (error) => {
  if (isDying) return;
  isDying = true;
  void store.close().finally(() => {
    process.removeAllListeners('uncaughtException');
    setImmediate(() => {
      throw error;
    });
  });
});
const log = await openConsumer(data.log, {
  index: data.index,
  count: data.count,
  pollMs: isLogHere ? 0 : sharedLogPollMs,
});
const ledger = new LedgerWriter(store, (error) => {
  const text = `sink ${data.index} cannot write the ledger: ${error instanceof Error ? error.message.slice(0, 300) : error}`;
  port.send({ type: 'log', level: 'error', message: text, fields: {} });
});
const sink = new Sink(
  {
    log,
    store,
    ledger,
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
);
stop = () => sink.stop();
port.send({ type: 'ready' });
await sink.run();
await log.close();
await store.close();
port.send({ type: 'stopped' });
port.close();
