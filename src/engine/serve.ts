// `ess serve`: which thread owns what, and in which order things start and stop. Read it from top to bottom.
//
//   start: data directory -> log (created, its state read) -> store (engine loaded, tables checked)
//          -> sinks -> producers -> readers -> HTTP
//   stop:  refuse new requests -> producers empty their rings and answer -> sinks store what they hold and commit
//          -> HTTP connections -> readers -> store -> log -> exit

import { fileURLToPath } from 'node:url';
import { type Logger, pino } from 'pino';
import { Piscina } from 'piscina';
import { memoryBudget } from '../config/load.ts';
import type { Config } from '../config/options.ts';
import { EssError } from '../errors.ts';
import { deadLettersAnswer } from '../http/dead_letters_route.ts';
import { EventsRoute, sweepEveryMs } from '../http/events_route.ts';
import { Lane, type LaneMemory } from '../http/lanes.ts';
import { type Answer, type GetHandler, type GetRequest, startServer } from '../http/server.ts';
import type { ProducerData } from '../ingest/producer.worker.ts';
import { type LogTarget, openAppender } from '../log/open.ts';
import { createDoorbell, Doorbell } from '../ring/doorbell.ts';
import { createRing } from '../ring/layout.ts';
import { readLedger } from '../sink/ledger.ts';
import type { SinkData } from '../sink/sink.worker.ts';
import { createBoard, PartitionBoard } from '../stats/board.ts';
import { nowUs } from '../stats/clock.ts';
import { Counters, counterNames, createCounters } from '../stats/counters.ts';
import { LoopDelay } from '../stats/loop_delay.ts';
import { StageRecorder } from '../stats/recorder.ts';
import { pinEmbeddedEngine, whileEngineIdle } from '../store/chdb_engine.ts';
import { openStore } from '../store/client.ts';
import { ensureSchema } from '../store/migrate.ts';
import type { Store, StoreTarget } from '../store/store.ts';
import { Conditions } from './conditions.ts';
import { openDataDir } from './data_dir.ts';
import { entryFile } from './entry.ts';
import { Status } from './status.ts';
import { Thread } from './threads.ts';

/** The part of tokens that names the log within a cluster; the embedded log has one topic. */
const topic = 'events';
/** How long the main thread sleeps at most before it looks at the ack rings again, ms. */
const ackParkMs = 1000;

/** How long threads may take to stop when the start failed, ms. */
const startFailurePatienceMs = 5000;

/** Runs until SIGTERM or SIGINT. Rejects if it cannot start. */
export async function serve(config: Config): Promise<void> {
  const log = openLogger(config);
  const hasIngest = config.role !== 'sink';
  const hasSink = config.role !== 'ingest';
  for (const { name, bytes } of memoryBudget(config)) log.debug({ name, bytes }, 'memory bound');
  const budgetBytes = memoryBudget(config).reduce((total, { bytes }) => total + bytes, 0);

  // ---- what outlives the process ----
  const dirs = openDataDir(config.dataDir);
  const logTarget: LogTarget = {
    kind: 'embedded',
    path: dirs.logPath,
    partitions: config.partitions,
    bytesMax: config.logBytesMax,
    retentionMs: config.logRetentionMs,
    retentionBytes: config.logRetentionBytes,
  };
  // The main thread's own handle creates the log, reads its state, and later its dead letters.
  const mainLog = await openAppender(logTarget);
  const { partitions, epoch } = mainLog;
  const storeTarget: StoreTarget = { kind: 'embedded', path: dirs.storePath };
  let store: Store | null = null;
  if (hasSink) {
    // Before any worker loads it: an engine first loaded in a worker crashes the process when that worker ends.
    await pinEmbeddedEngine();
    store = await openStore(storeTarget).catch((error: unknown) => {
      const detail = `--data-dir: the store in ${dirs.storePath} does not open; is another ess running on it?`;
      throw new EssError('bad_option', detail, { cause: error });
    });
    await ensureSchema(store);
  }

  // ---- shared memory ----
  const boardMemory = createBoard(partitions);
  const countersMemory = createCounters(counterNames);
  const mainDoorbellMemory = createDoorbell();
  const board = new PartitionBoard(boardMemory);
  const counters = new Counters(counterNames, countersMemory);
  const recorder = new StageRecorder(['receive', 'event_loop_delay'], () => nowUs() / 1000);
  for (const [partition, state] of (await mainLog.states()).entries()) {
    board.set(partition, 'start', state.start);
    board.set(partition, 'end', state.end);
    board.set(partition, 'committed', state.committed);
    board.set(partition, 'bytes', state.bytes);
  }

  // What the ledger knows already, so that the first /stats does not show the whole log as in flight. The sinks look
  // again, and try for as long as it takes.
  if (store !== null) {
    for (let partition = 0; partition < partitions; partition += 1) {
      const totals = await readLedger(store, epoch, partition);
      board.set(partition, 'rows', totals.rows);
      board.set(partition, 'duplicates', totals.duplicates);
      board.set(partition, 'parked', totals.parked);
      board.set(partition, 'ledger', totals.next);
      board.set(partition, 'stored', totals.next);
    }
  }

  // ---- threads ----
  const conditions = new Conditions(log);
  let isStopping = false;
  let isClosed = false;
  const producerCount = hasIngest ? config.producers : 0;
  const sinkCount = hasSink ? Math.min(config.sinks, partitions) : 0;
  // Doorbells belong to places, not to workers: a successor takes over its predecessor's, and nobody must be told.
  const producerDoorbells = Array.from({ length: producerCount }, createDoorbell);
  const sinkDoorbells = Array.from({ length: sinkCount }, createDoorbell);
  const lanes: (Lane | null)[] = Array.from({ length: producerCount }, () => null);
  const events = hasIngest ? new EventsRoute(config, lanes, counters, recorder) : null;

  const sinks = sinkDoorbells.map((doorbell, index) => {
    const data: SinkData = {
      index,
      count: sinkCount,
      log: logTarget,
      store: storeTarget,
      limits: {
        sinkBatchRowsMax: config.sinkBatchRowsMax,
        sinkBatchBytesMax: config.sinkBatchBytesMax,
        sinkLingerMs: config.sinkLingerMs,
        insertsPerSecond: config.sinkInsertsPerSecond / sinkCount,
        retryWindowMs: config.retryWindowMs,
        identitiesMax: Math.max(1024, Math.floor(config.identitiesMax / partitions)),
      },
      topic,
      doorbell,
      board: boardMemory,
      counters: countersMemory,
      producerDoorbells,
    };
    return new Thread(
      `sink-${index}`,
      'sink.worker',
      {
        makeData: () => data,
        onReady: () => {},
        onDeath: () => counters.add('worker_deaths'),
        onCondition: (key, text) => conditions.set(key, text),
      },
      log,
    );
  });
  const producers = producerDoorbells.map((doorbell, index) => {
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
            limits: config,
            ...memory,
            mainDoorbell: mainDoorbellMemory,
            board: boardMemory,
            counters: countersMemory,
            sinkDoorbells,
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
        },
        onCondition: (key, text) => conditions.set(key, text),
      },
      log,
    );
  });
  const threads = [...sinks, ...producers];
  await orStop(threads, () => Promise.all(threads.map((thread) => thread.start())));

  // ---- reads ----
  const readers = hasSink
    ? new Piscina<GetRequest, Answer>({
        filename: fileURLToPath(entryFile('read.worker')),
        minThreads: config.readers,
        maxThreads: config.readers,
        idleTimeout: Number.MAX_SAFE_INTEGER,
        maxQueue: config.readQueueMax,
        // By default an idle reader stands still in Atomics.wait: what its store does after an answer, such as leaving
        // the engine's gate, would wait for its next read, and with it every thread that wants to end.
        atomics: 'disabled',
        workerData: { target: storeTarget, timeoutMs: config.readTimeoutMs },
      })
    : null;
  // A reader that dies is replaced by piscina and its read rejects; without a listener the process would end too.
  readers?.on('error', (error: unknown) => {
    counters.add('worker_deaths');
    log.error({ err: error }, 'a reader thread died');
  });
  let openReads = 0;
  const read: GetHandler = async (request) => {
    if (isStopping) throw new EssError('stopping', 'this process is stopping');
    if (readers === null) throw new EssError('store_unavailable', 'this role does not read: ask a sink role');
    if (readers.queueSize >= config.readQueueMax) {
      counters.add('reads_rejected');
      throw new EssError('overloaded', `${config.readQueueMax} reads are waiting (read_queue_max)`);
    }
    counters.add('reads');
    openReads += 1;
    try {
      return await readers.run(request);
    } finally {
      openReads -= 1;
    }
  };

  // ---- HTTP ----
  const status = new Status({
    role: config.role,
    version: __VERSION__,
    epoch,
    ack: config.ack,
    board,
    counters,
    recorder,
    conditions,
    producers,
    sinks,
    lanes,
    events,
    isStopping: () => isStopping,
  });
  const gets = new Map<string, GetHandler>([
    ['/events', read],
    ['/events/', read],
    ['/dead-letters', (request) => deadLettersAnswer(mainLog, request)],
    ['/stats', (request) => status.stats(request)],
    ['/metrics', () => status.metrics()],
    ['/healthz', async () => status.healthz()],
    ['/readyz', async () => status.readyz()],
  ]);
  const server = await orStop(threads, () =>
    startServer({ host: config.host, port: config.port, events, gets }),
  );
  const loopDelay = new LoopDelay(recorder);
  loopDelay.start();
  const sweeper = setInterval(() => events?.sweep(Date.now()), sweepEveryMs);
  if (events !== null) void drainAnswers(events, lanes, new Doorbell(mainDoorbellMemory), () => isClosed);
  // Before the log says ready, so that whoever reads that and sends a signal at once gets an orderly stop.
  const signalled = untilSignal();
  log.info(
    {
      url: `http://${config.host}:${server.port}`,
      role: config.role,
      data_dir: config.dataDir,
      epoch,
      partitions,
      producers: producerCount,
      sinks: sinkCount,
      memory_bound_bytes: budgetBytes,
    },
    'ready',
  );

  // ---- stop ----
  const why = await signalled;
  isStopping = true;
  log.info({ why, deadline_ms: config.stopDeadlineMs }, 'stopping');
  process.once(why, () => exitNow(log));
  process.once(why === 'SIGTERM' ? 'SIGINT' : 'SIGTERM', () => exitNow(log));
  const deadline = setTimeout(() => {
    log.error('the time to stop is over: leaving what is open to the next start');
    events?.failAll();
    setTimeout(() => process.kill(process.pid, 'SIGKILL'), 100);
  }, config.stopDeadlineMs);
  // Requests that wait for the store get half of the time, then an honest answer.
  const abandoning = setTimeout(() => {
    for (const thread of producers) thread.send({ type: 'abandon' });
  }, config.stopDeadlineMs / 2);
  events?.stop();
  await untilAnswered(events);
  await Promise.all(producers.map((thread) => thread.stop()));
  clearTimeout(abandoning);
  await Promise.all(sinks.map((thread) => thread.stop()));
  clearInterval(sweeper);
  loopDelay.stop();
  isClosed = true;
  server.close();
  while (openReads > 0) await new Promise((resolve) => setTimeout(resolve, 10));
  // Piscina terminates its threads, which must not happen while any thread is inside the engine.
  if (readers !== null) await whileEngineIdle(() => readers.close());
  await store?.close();
  await mainLog.close();
  clearTimeout(deadline);
  log.info('stopped');
  process.exit(0);
}

/** Does one step of the start; if it fails, stops the threads first, which would keep the process alive. */
async function orStop<T>(threads: readonly Thread[], step: () => Promise<T>): Promise<T> {
  try {
    return await step();
  } catch (error) {
    const patience = new Promise((resolve) => setTimeout(resolve, startFailurePatienceMs));
    await Promise.race([Promise.all(threads.map((thread) => thread.stop())), patience]);
    throw error;
  }
}

function openLogger(config: Config): Logger {
  const options = { level: config.logLevel, base: { pid: process.pid } };
  if (process.stdout.isTTY) {
    return pino({ ...options, transport: { target: 'pino-pretty', options: { colorize: true } } });
  }
  return pino(options, pino.destination({ fd: 1, sync: true }));
}

/** Moves answers from the ack rings to their clients for as long as the process runs. */
async function drainAnswers(
  events: EventsRoute,
  lanes: readonly (Lane | null)[],
  doorbell: Doorbell,
  isClosed: () => boolean,
): Promise<void> {
  const hasAnswers = (): boolean => lanes.some((lane) => lane !== null && !lane.answers.isEmpty);
  while (!isClosed()) {
    for (const lane of lanes) if (lane !== null) events.drain(lane);
    // One turn of the event loop between two drains, so that new requests come in as fast as answers go out.
    await new Promise((resolve) => setImmediate(resolve));
    await doorbell.park(hasAnswers, ackParkMs);
  }
}

function untilSignal(): Promise<'SIGTERM' | 'SIGINT'> {
  return new Promise((resolve) => {
    process.once('SIGTERM', () => resolve('SIGTERM'));
    process.once('SIGINT', () => resolve('SIGINT'));
  });
}

/** Settles when no request is in progress; the sweep answers those whose time is over. */
async function untilAnswered(events: EventsRoute | null): Promise<void> {
  while (events !== null && events.slots.used > 0) await new Promise((resolve) => setTimeout(resolve, 10));
}

/** The second signal: everything acknowledged is durable already, so that leaving at once loses nothing. */
function exitNow(log: Logger): void {
  log.warn('second signal: leaving at once');
  process.kill(process.pid, 'SIGKILL');
}
