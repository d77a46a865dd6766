// Worker threads as the main thread sees them: started, listened to, replaced when they die, stopped in order.

import { Worker } from 'node:worker_threads';
import type { Logger } from 'pino';
import type { LoopTime } from '../live/builder.ts';
import type { Trouble } from '../live/troubles.ts';
import { sumSnapshots } from '../stats/merge.ts';
import type { StageSnapshot } from '../stats/recorder.ts';
import type { StatsWindow } from '../stats/stages.ts';
import type { FromWorker, ToWorker } from '../thread/protocol.ts';
import { entryFile } from './entry.ts';

/** Pause before a dead worker is replaced, ms; doubled at each death up to the bound, reset by a minute of life. */
const restartPauseMsMin = 100;
const restartPauseMsMax = 10_000;
const stableAfterMs = 60_000;
/** How long /stats waits for a busy worker's histograms before it uses the last ones, ms. */
const snapshotWaitMs = 1000;

/** What happens around a thread's life; called on the main thread. */
export interface ThreadEvents {
  /** Makes the data of a new worker; called for every start. */
  readonly makeData: () => unknown;
  readonly onReady: () => void;
  /** The worker is gone without having been told to stop. */
  readonly onDeath: (why: string) => void;
  readonly onCondition: (key: string, trouble: Trouble | null) => void;
  /** The thread got its share of the group's partitions anew, at this time, epoch ms. */
  readonly onDealt: (timeMs: number) => void;
  readonly onLogChanged: (reason: string) => void;
}

export class Thread {
  readonly name: string;
  readonly #entry: string;
  readonly #events: ThreadEvents;
  readonly #log: Logger;
  #worker: Worker | null = null;
  #isReady = false;
  #isStopping = false;
  #startedMs = 0;
  #restartPauseMs = restartPauseMsMin;
  #restarts = 0;
  #requests = 0;
  readonly #waiting = new Map<number, (snapshot: StageSnapshot) => void>();
  /** What died workers of this name had recorded, and the latest of the living one. */
  #inherited: StageSnapshot | null = null;
  #latest: StageSnapshot | null = null;
  #onFirstReady: (() => void) | null = null;
  #onFailedStart: ((error: Error) => void) | null = null;
  #onStopped: (() => void) | null = null;

  constructor(name: string, entry: string, events: ThreadEvents, log: Logger) {
    this.name = name;
    this.#entry = entry;
    this.#events = events;
    this.#log = log;
  }

  get isAlive(): boolean {
    return this.#isReady;
  }

  get restarts(): number {
    return this.#restarts;
  }

  /** How the thread's event loop has spent its time since the thread began; null while there is none. */
  get loop(): LoopTime | null {
    if (this.#worker === null) return null;
    const { active, idle } = this.#worker.performance.eventLoopUtilization();
    return { busyMs: active, idleMs: idle };
  }

  /** Settles when the worker is ready; rejects if the first one dies before that. */
  start(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#onFirstReady = resolve;
      this.#onFailedStart = reject;
      this.#spawn();
    });
  }

  #spawn(): void {
    this.#startedMs = Date.now();
    const worker = new Worker(entryFile(this.#entry), {
      workerData: this.#events.makeData(),
      name: this.name,
    });
    this.#worker = worker;
    let why = 'exited';
    worker.on('message', (message: FromWorker) => this.#onMessage(message));
    worker.on('error', (error) => {
      why = error instanceof Error ? (error.stack ?? error.message) : String(error);
    });
    worker.on('exit', (code) => this.#onExit(worker, `${why} (code ${code})`));
  }

  #onMessage(message: FromWorker): void {
    switch (message.type) {
      case 'ready':
        this.#isReady = true;
        this.#events.onReady();
        this.#onFirstReady?.();
        this.#onFirstReady = null;
        this.#onFailedStart = null;
        break;
      case 'stopped':
        this.#isStopping = true;
        break;
      case 'snapshot':
        this.#waiting.get(message.request)?.(message.snapshot);
        this.#waiting.delete(message.request);
        break;
      case 'log':
        this.#log[message.level]({ thread: this.name, ...message.fields }, message.message);
        break;
      case 'condition':
        this.#events.onCondition(message.key, message.trouble);
        break;
      case 'dealt':
        this.#events.onDealt(message.timeMs);
        break;
      case 'log_changed':
        this.#events.onLogChanged(message.reason);
        break;
    }
  }

  #onExit(worker: Worker, why: string): void {
    if (worker !== this.#worker) return;
    this.#worker = null;
    this.#isReady = false;
    this.#waiting.clear();
    if (this.#isStopping) {
      this.#onStopped?.();
      return;
    }
    if (this.#onFailedStart !== null) {
      this.#onFailedStart(new Error(`${this.name} did not start: ${why}`));
      return;
    }
    if (this.#latest !== null) {
      this.#inherited =
        this.#inherited === null ? this.#latest : sumSnapshots('all', [this.#inherited, this.#latest]);
      this.#latest = null;
    }
    this.#restarts += 1;
    this.#log.error({ thread: this.name, why }, 'a worker thread died; it is being replaced');
    this.#events.onDeath(why);
    if (Date.now() - this.#startedMs > stableAfterMs) this.#restartPauseMs = restartPauseMsMin;
    setTimeout(() => {
      if (!this.#isStopping) this.#spawn();
    }, this.#restartPauseMs);
    this.#restartPauseMs = Math.min(this.#restartPauseMs * 2, restartPauseMsMax);
  }

  send(message: ToWorker): void {
    this.#worker?.postMessage(message);
  }

  /** Tells the worker to stop; settles when it has exited. */
  stop(): Promise<void> {
    this.#isStopping = true;
    if (this.#worker === null) return Promise.resolve();
    return new Promise((resolve) => {
      this.#onStopped = resolve;
      this.send({ type: 'stop' });
    });
  }

  /** What this thread recorded; for `all`, including its predecessors. A busy worker's latest one may be used. */
  async snapshots(window: StatsWindow): Promise<StageSnapshot[]> {
    const fresh = await this.#ask(window);
    if (window !== 'all') return fresh === null ? [] : [fresh];
    if (fresh !== null) this.#latest = fresh;
    return [this.#inherited, this.#latest].filter((snapshot) => snapshot !== null);
  }

  #ask(window: StatsWindow): Promise<StageSnapshot | null> {
    if (!this.#isReady) return Promise.resolve(null);
    this.#requests += 1;
    const request = this.#requests;
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(request);
        resolve(null);
      }, snapshotWaitMs);
      this.#waiting.set(request, (snapshot) => {
        clearTimeout(timer);
        resolve(snapshot);
      });
      this.send({ type: 'snapshot', request, window });
    });
  }
}
