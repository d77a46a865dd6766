// `ess serve`: which thread owns what, and in which order things start and stop. Read it from top to bottom.
//
//   start: data directory -> store (embedded engine loaded, its tables checked) -> log (created or found, its state
//          read) -> sinks -> producers -> readers -> HTTP
//   stop:  refuse new requests -> viewers of the page -> producers empty their rings and answer -> sinks store what they hold and commit
//          -> HTTP connections -> readers -> store -> log -> exit

import { fileURLToPath } from 'node:url';
import { type Logger, pino } from 'pino';
import { Piscina } from 'piscina';
import { memoryBudget } from '../config/load.ts';
import type { Config } from '../config/options.ts';
import { EssError } from '../errors.ts';
import { deadLettersAnswer } from '../http/dead_letters_route.ts';
import { EventsRoute, sweepEveryMs } from '../http/events_route.ts';
import type { Lane } from '../http/lanes.ts';
import { letterCommands } from '../http/letter_commands.ts';
import { LiveRoute } from '../http/live_route.ts';
import { pageHandlers } from '../http/page_route.ts';
import { heapProfileAnswer, timeProfileAnswer } from '../http/profile_route.ts';
import { type Answer, type GetHandler, type GetRequest, startServer } from '../http/server.ts';
import { createDoorbell, Doorbell } from '../ring/doorbell.ts';
import { nowUs } from '../stats/clock.ts';
import { Counters, counterNames, createCounters } from '../stats/counters.ts';
import { LoopDelay } from '../stats/loop_delay.ts';
import { StageRecorder } from '../stats/recorder.ts';
import { pinEmbeddedEngine, whileEngineIdle } from '../store/chdb_engine.ts';
import { openStore } from '../store/client.ts';
import { addMissingColumns, ensureSchema } from '../store/migrate.ts';
import type { ReadWorkerData } from '../store/read.worker.ts';
import { ensureLayout } from '../store/shard_layout.ts';
import { openShard } from '../store/shard_store.ts';
import type { Store } from '../store/store.ts';
import { ClusterWatch } from './cluster_watch.ts';
import { Conditions } from './conditions.ts';
import { openDataDir } from './data_dir.ts';
import { entryFile, pageFolder } from './entry.ts';
import { findStored } from './event_lookup.ts';
import { Figures } from './figures.ts';
import { Health } from './health.ts';
import { Desk } from './letter_desk.ts';
import { LiveStream } from './live.ts';
import { gatherLive } from './live_figures.ts';
import { Profiles } from './profiles.ts';
import { Readers } from './readers.ts';
import { Session, type SessionParts } from './session.ts';
import { Status } from './status.ts';
import { logTargetOf, storeLayoutOf } from './targets.ts';
import { Verification } from './verification.ts';
import { LogWatch } from './watch.ts';

/** How long the main thread sleeps at most before it looks at the ack rings again, ms. */
const ackParkMs = 1000;
/** Pause before a log that has changed is opened again, ms; doubled up to the bound while it cannot be. */
const reopenPauseMsMin = 250;
const reopenPauseMsMax = 10_000;

/** Runs until SIGTERM or SIGINT. Rejects if it cannot start. */
export async function serve(config: Config): Promise<void> {
  const log = openLogger(config);
  const hasIngest = config.role !== 'sink';
  for (const { name, bytes } of memoryBudget(config)) log.debug({ name, bytes }, 'memory bound');
  const budgetBytes = memoryBudget(config).reduce((total, { bytes }) => total + bytes, 0);

  // ---- what outlives the process ----
  const dirs = openDataDir(config.dataDir);
  const logTarget = logTargetOf(config, dirs.logPath);
  const layout = storeLayoutOf(config, dirs.storePath);
  const isStoreEmbedded = layout.shards[0]?.[0]?.kind === 'embedded';
  // The embedded store belongs to one process, the sink's; nodes may be asked by any.
  const hasStore = config.role !== 'ingest' || !isStoreEmbedded;
  const stores: Store[] = [];
  if (hasStore && isStoreEmbedded) {
    // Before any worker loads it: an engine first loaded in a worker crashes the process when that worker ends.
    await pinEmbeddedEngine();
    const store = await openStore({ kind: 'embedded', path: dirs.storePath }).catch((error: unknown) => {
      const detail = `--data-dir: the store in ${dirs.storePath} does not open; is another ess running on it?`;
      throw new EssError('bad_option', detail, { cause: error });
    });
    await addMissingColumns(store);
    await ensureSchema(store);
    await ensureLayout(store, { shard: 0, shards: 1 });
    stores.push(store);
  } else if (hasStore) {
    for (const [shard, replicas] of layout.shards.entries()) {
      const requestTimeoutMs = config.clickhouseRequestTimeoutMs;
      const { length: shards } = layout.shards;
      stores.push(await openShard(replicas, { shard, shards, preferred: 0, requestTimeoutMs }));
    }
  }

  // ---- shared memory ----
  const countersMemory = createCounters(counterNames);
  const mainDoorbellMemory = createDoorbell();
  const counters = new Counters(counterNames, countersMemory);
  const recorder = new StageRecorder(['receive', 'event_loop_delay'], () => nowUs() / 1000);
  const conditions = new Conditions(log);
  const profiles = config.debugProfiles === 'on' ? await Profiles.open(log) : null;

  // ---- log and threads ----
  let isStopping = false;
  let isClosed = false;
  const lanes: (Lane | null)[] = [];
  const events = hasIngest ? new EventsRoute(config, lanes, counters, recorder) : null;
  let renewing: Promise<void> | null = null;
  const sessionParts: SessionParts = {
    config,
    log,
    logTarget,
    layout,
    stores,
    conditions,
    counters,
    countersMemory,
    mainDoorbellMemory,
    events,
    lanes,
    profiles,
    // A session that is still beginning is looked at when it has begun.
    onLogChanged: () => renewIfChanged(),
  };
  const begin = async (): Promise<{ session: Session; watch: LogWatch }> => {
    const session = await Session.open(sessionParts);
    await session.start();
    return { session, watch: new LogWatch(session, stores, conditions, log) };
  };
  let renewIfChanged = (): void => {};
  let current = await begin();
  renewIfChanged = () => {
    if (renewing !== null || current.session.changed === null || isStopping) return;
    renewing = renew(current.session.changed).finally(() => {
      renewing = null;
      renewIfChanged();
    });
  };
  renewIfChanged();

  /** Ends the session of a log that is no more, and begins one on the log that is there instead. */
  async function renew(reason: string): Promise<void> {
    log.warn({ reason }, 'the log has changed: opening it anew');
    conditions.set('log', { kind: 'log_changed', text: reason });
    counters.add('log_changes');
    current.watch.stop();
    current.session.abandon();
    await current.session.stop();
    for (let pauseMs = reopenPauseMsMin; !isStopping; pauseMs = Math.min(pauseMs * 2, reopenPauseMsMax)) {
      try {
        current = await begin();
        const { epoch, partitions } = current.session.log;
        log.info({ epoch, partitions }, 'opened the log anew');
        conditions.set('log', null);
        return;
      } catch (error) {
        const isChanging = error instanceof EssError && error.code === 'log_changed';
        const text = error instanceof Error ? error.message : String(error);
        conditions.set('log', { kind: isChanging ? 'log_changed' : 'log_unavailable', text });
        await new Promise((resolve) => setTimeout(resolve, pauseMs));
      }
    }
  }

  // ---- reads ----
  const readers = hasStore
    ? new Readers({
        makePool: () =>
          new Piscina<GetRequest, Answer>({
            filename: fileURLToPath(entryFile('read.worker')),
            minThreads: config.readers,
            maxThreads: config.readers,
            idleTimeout: Number.MAX_SAFE_INTEGER,
            maxQueue: config.readers,
            // By default an idle reader stands still in Atomics.wait: what its store does after an answer, such as
            // leaving the engine's gate, would wait for its next read, and with it every thread that wants to end.
            atomics: 'disabled',
            workerData: {
              target: layout,
              timeoutMs: config.readTimeoutMs,
              isProfiled: profiles !== null,
            } satisfies ReadWorkerData,
          }),
        readers: config.readers,
        queueMax: config.readQueueMax,
        timeoutMs: config.readTimeoutMs,
        isTerminable: !isStoreEmbedded,
        onProfiler: (port) => profiles?.addNumbered('reader', port),
        counters,
        conditions,
        log,
      })
    : null;
  const read: GetHandler = async (request) => {
    if (isStopping) throw new EssError('stopping', 'this process is stopping');
    if (readers === null)
      throw new EssError('store_unavailable', 'the store belongs to another process: ask that one');
    return readers.answer(request);
  };

  // ---- HTTP ----
  const { role } = config;
  const figures = new Figures({ session: () => current, counters, recorder, lanes, events });
  const cluster = await ClusterWatch.open({
    logTarget,
    layout,
    dataDir: config.dataDir,
    embeddedStore: isStoreEmbedded ? (stores[0] ?? null) : null,
    hasStore,
    hasSinks: role !== 'ingest',
    log: () => current.session.log,
  });
  const health = new Health({
    role,
    ack: config.ack,
    conditions,
    figures,
    isStopping: () => isStopping,
    clusterTroubles: () => cluster.troubles(),
  });
  const parts = { role, version: __VERSION__, figures, health, cluster };
  const status = new Status(parts);
  const stream = new LiveStream(() => gatherLive({ ...parts, cluster: () => cluster.look() }), counters, log);
  const live = new LiveRoute(stream, counters);
  const verification = new Verification({
    log: () => current.session.log,
    logTarget,
    stores,
    retryWindowMs: config.retryWindowMs,
  });
  const gets = new Map<string, GetHandler>([
    ['/events', read],
    ['/events/', read],
    ['/dead-letters', (request) => deadLettersAnswer(current.session.log, request)],
    ['/verify', (request, client) => verification.answer(request, client)],
    ['/verify/progress', async () => verification.progress()],
    ['/stats', (request) => status.stats(request)],
    ['/metrics', () => status.metrics()],
    ['/debug/pprof/profile', (request, client) => timeProfileAnswer(profiles, request, client)],
    ['/debug/pprof/heap', (request, client) => heapProfileAnswer(profiles, request, client)],
    ['/healthz', async () => status.healthz()],
    ['/readyz', async () => status.readyz()],
    ...pageHandlers(pageFolder()),
  ]);
  const desk = new Desk({
    log: () => current.session.log,
    findStored: (id, source) => findStored(read, id, source),
    onAppended: (partition, end) => current.session.noteAppended(partition, end),
    isStopping: () => isStopping,
    limits: config,
    logger: log,
  });
  const commands = new Map(letterCommands(desk, config.eventBytesMax));
  const { host, port } = config;
  const server = await startServer({ host, port, events, gets, commands, live }).catch(
    async (error: unknown) => {
      current.watch.stop();
      await current.session.giveUp();
      throw error;
    },
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
      log: logTarget.kind,
      epoch: current.session.log.epoch,
      partitions: current.session.log.partitions,
      producers: current.session.producers.length,
      sinks: current.session.sinks.length,
      shards: layout.shards.length,
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
    current.session.abandon();
  }, config.stopDeadlineMs / 2);
  events?.stop();
  await Promise.all([untilAnswered(events), desk.idle(), profiles?.stop(), verification.stop()]);
  current.watch.stop();
  live.close();
  await cluster.close();
  await renewing;
  await current.session.stop();
  clearTimeout(abandoning);
  clearInterval(sweeper);
  loopDelay.stop();
  isClosed = true;
  server.close();
  while (readers !== null && readers.open > 0) await new Promise((resolve) => setTimeout(resolve, 10));
  // Piscina terminates its threads, which must not happen while any thread is inside the engine.
  if (readers !== null) await whileEngineIdle(() => readers.close());
  for (const store of stores) await store.close();
  clearTimeout(deadline);
  log.info('stopped');
  process.exit(0);
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
