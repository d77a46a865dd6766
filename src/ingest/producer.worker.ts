// Entry of a producer worker thread: opens its rings and its log handle, runs the Producer, stops when told to.

import { workerData } from 'node:worker_threads';
import { assertSameLog, type LogIdentity, type LogTarget, openAppender } from '../log/open.ts';
import { offerProfiler } from '../profile/offer.ts';
import { Doorbell } from '../ring/doorbell.ts';
import { RingReader } from '../ring/reader.ts';
import { RingWriter } from '../ring/writer.ts';
import { PartitionBoard } from '../stats/board.ts';
import { nowUs } from '../stats/clock.ts';
import { Counters, counterNames } from '../stats/counters.ts';
import { StageRecorder } from '../stats/recorder.ts';
import { openPort } from '../thread/port.ts';
import { Answers } from './answers.ts';
import { Producer, type ProducerLimits } from './producer.ts';

/** What the engine gives a producer worker. */
export interface ProducerData {
  readonly index: number;
  readonly log: LogTarget;
  /** The log as the main thread opened it. */
  readonly identity: LogIdentity;
  readonly limits: ProducerLimits;
  readonly ingestRing: SharedArrayBuffer;
  readonly ackRing: SharedArrayBuffer;
  readonly doorbell: SharedArrayBuffer;
  readonly mainDoorbell: SharedArrayBuffer;
  readonly board: SharedArrayBuffer;
  readonly counters: SharedArrayBuffer;
  /** Doorbells of the sinks of this process: partition p belongs to sink p modulo their number. */
  readonly sinkDoorbells: readonly SharedArrayBuffer[];
  /** Whether this thread offers its profiler. */
  readonly isProfiled: boolean;
}

const data = workerData as ProducerData;
if (data.isProfiled) await offerProfiler();
const recorder = new StageRecorder(['ring', 'produce'], () => nowUs() / 1000);
const log = await openAppender(data.log);
assertSameLog(log, data.identity);
const sinkDoorbells = data.sinkDoorbells.map((shared) => new Doorbell(shared));
const port = openPort(recorder, (message) => {
  if (message.type === 'stop') producer.stop();
  else producer.abandonWaiters();
});
const producer = new Producer({
  requests: new RingReader(data.ingestRing),
  doorbell: new Doorbell(data.doorbell),
  answers: new Answers(new RingWriter(data.ackRing), new Doorbell(data.mainDoorbell)),
  log,
  board: new PartitionBoard(data.board),
  counters: new Counters(counterNames, data.counters),
  recorder,
  limits: data.limits,
  send: port.send,
  sinkDoorbellOf: (partition) => sinkDoorbells[partition % sinkDoorbells.length] ?? null,
  // A topic's retention is the brokers' work, and a look at its positions may have to wait for one that hangs.
  isTrimmer: data.index === 0 && data.log.kind === 'embedded',
});
// Also when it dies of an error.
process.on('exit', () => producer.writeOff());
port.send({ type: 'ready' });
await producer.run();
await log.close();
port.send({ type: 'stopped' });
port.close();
