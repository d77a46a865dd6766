// The reader threads as the main thread sees them: reads wait here for a free one, and each gets an answer within a
// bound, whatever becomes of the threads. Piscina starts and feeds the threads; what it is given it keeps until a
// thread takes it, so it is never given more than there are threads.
//
//   waiting    up to `queueMax` reads, each for as long as a read may take: past it `overloaded`
//   running    given to piscina; without an answer in time `store_unavailable`, and the read is abandoned: it holds its
//              place until its thread is free again, or, where a thread may be terminated, until another one replaces it
//   no thread  all of them died, those that replaced them too: reads answer `store_unavailable` until a new pool, which
//              is tried after a pause, has a thread

import type { MessagePort } from 'node:worker_threads';
import type { Logger } from 'pino';
import { EssError } from '../errors.ts';
import type { Answer, GetRequest } from '../http/server.ts';
import type { EngineCounters } from '../stats/counters.ts';
import type { FromWorker } from '../thread/protocol.ts';
import type { Conditions } from './conditions.ts';

/**
 * A read ends by itself at its time limit: a statement of it that a node does not answer is given up 5 s later
 * (store/client.ts), and the answer of one that ended in time has to be put together. As long again for a machine with
 * more threads than cores. Past that, the thread is not coming back in any time that a client would wait for. ms.
 */
export const readMarginMs = 10_000;

/** Pause before a pool whose threads have all died is replaced, ms; doubled each time up to the bound. */
const replacePauseMsMin = 250;
const replacePauseMsMax = 30_000;

/** What is needed of piscina. */
export interface ReaderPool {
  run(request: GetRequest, options: { readonly signal?: AbortSignal }): Promise<Answer>;
  readonly threads: readonly { readonly threadId: number }[];
  /** A thread died while it had nothing to do, perhaps before it was ready. */
  on(event: 'error', listener: (error: unknown) => void): unknown;
  on(event: 'message', listener: (message: FromWorker) => void): unknown;
  close(): Promise<void>;
  destroy(): Promise<void>;
}

export interface ReadersParts {
  /** Makes a pool of `readers` threads. */
  readonly makePool: () => ReaderPool;
  /** Threads of a pool. */
  readonly readers: number;
  /** Reads that may wait for one. */
  readonly queueMax: number;
  /** Limit of one read, ms. */
  readonly timeoutMs: number;
  /** A thread may be terminated at any moment: not so if it may be inside the embedded engine. */
  readonly isTerminable: boolean;
  /** A thread offers the way to its profiler, where profiles are on. */
  readonly onProfiler: (port: MessagePort) => void;
  readonly counters: EngineCounters;
  readonly conditions: Conditions;
  readonly log: Logger;
}

interface Read {
  readonly request: GetRequest;
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: unknown) => void;
  timer: NodeJS.Timeout;
}

export class Readers {
  readonly #parts: ReadersParts;
  /** Null between the death of a pool's last thread and the next pool. */
  #pool: ReaderPool | null;
  readonly #waiting: Read[] = [];
  /** Reads that piscina has not settled. */
  #running = 0;
  /** Those of them that were answered without it. */
  #abandoned = 0;
  /** Why a thread died last. */
  #why = '';
  #replacePauseMs = replacePauseMsMin;
  readonly #threadKeys = new Map<string, number>();
  #isClosed = false;

  constructor(parts: ReadersParts) {
    this.#parts = parts;
    this.#pool = this.#openPool();
  }

  /** Reads whose clients still wait. */
  get open(): number {
    return this.#waiting.length + this.#running - this.#abandoned;
  }

  /**
   * A reader's answer. Rejects with `overloaded` if too many reads are waiting or this one has waited for as long as a
   * read may take, with `store_unavailable` if no thread answers it in time or none runs, and with what a reader threw.
   */
  answer(request: GetRequest): Promise<Answer> {
    const { counters, queueMax, timeoutMs } = this.#parts;
    if (this.#pool === null) return Promise.reject(this.#noThread());
    if (this.#waiting.length >= queueMax) {
      counters.add('reads_rejected');
      const detail = `${queueMax} reads are waiting (read_queue_max)`;
      return Promise.reject(new EssError('overloaded', detail));
    }
    counters.add('reads');
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#giveUpWaiting(read), timeoutMs);
      const read: Read = { request, resolve, reject, timer };
      this.#waiting.push(read);
      this.#next();
    });
  }

  /** Ends the threads, once each of them has finished its read. No read may be open. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#pool?.close();
  }

  #next(): void {
    while (this.#pool !== null && this.#running < this.#parts.readers) {
      const read = this.#waiting.shift();
      if (read === undefined) return;
      clearTimeout(read.timer);
      void this.#run(this.#pool, read);
    }
  }

  #giveUpWaiting(read: Read): void {
    const index = this.#waiting.indexOf(read);
    if (index < 0) return;
    this.#waiting.splice(index, 1);
    this.#parts.counters.add('reads_rejected');
    read.reject(new EssError('overloaded', `no reader was free within ${this.#parts.timeoutMs} ms`));
  }

  async #run(pool: ReaderPool, read: Read): Promise<void> {
    const { timeoutMs, isTerminable } = this.#parts;
    const giveUp = new AbortController();
    let isAbandoned = false;
    read.timer = setTimeout(() => {
      isAbandoned = true;
      this.#abandon(read);
      // Piscina terminates the thread that has it, or takes it out of its queue, and settles.
      if (isTerminable) giveUp.abort();
    }, timeoutMs + readMarginMs);
    this.#running += 1;
    try {
      const answer = await pool.run(read.request, isTerminable ? { signal: giveUp.signal } : {});
      this.#replacePauseMs = replacePauseMsMin;
      read.resolve(answer);
    } catch (error) {
      // A pool that was thrown away rejects what no thread took.
      if (pool !== this.#pool) read.reject(this.#noThread());
      else {
        this.#why = error instanceof Error ? error.message : String(error);
        read.reject(error);
      }
    } finally {
      clearTimeout(read.timer);
      this.#running -= 1;
      if (isAbandoned) this.#abandoned -= 1;
      this.#say();
      this.#lookAt(pool);
      this.#next();
    }
  }

  #abandon(read: Read): void {
    const { counters, timeoutMs } = this.#parts;
    this.#abandoned += 1;
    counters.add('reads_abandoned');
    const detail = `no reader answered within ${timeoutMs + readMarginMs} ms`;
    read.reject(new EssError('store_unavailable', detail));
    this.#say();
  }

  // ---- threads --------------------------------------------------------------------------------------------------

  #openPool(): ReaderPool {
    const { makePool, counters, log, conditions } = this.#parts;
    const pool = makePool();
    // Without a listener the process would end with its first reader.
    pool.on('error', (error) => {
      counters.add('worker_deaths');
      log.error({ err: error }, 'a reader thread died');
      this.#why = error instanceof Error ? error.message : String(error);
      this.#lookAt(pool);
    });
    pool.on('message', (message) => {
      if (message.type === 'profiler') this.#parts.onProfiler(message.port);
      if (message.type !== 'condition') return;
      const { key, trouble } = message;
      const threadId = Number(key.slice(key.lastIndexOf('-') + 1));
      if (trouble === null) this.#threadKeys.delete(key);
      else this.#threadKeys.set(key, threadId);
      conditions.set(key, trouble);
    });
    return pool;
  }

  /**
   * Piscina replaces a thread that dies, but not one that dies before it is ready: then it starts others only when it
   * is given something, one each time, and what it has been given before waits for one that lives. A pool without any
   * thread is thrown away, with what it has.
   */
  #lookAt(pool: ReaderPool): void {
    if (pool !== this.#pool || this.#isClosed) return;
    const { conditions, log } = this.#parts;
    const ids = new Set(pool.threads.map(({ threadId }) => threadId));
    for (const [key, threadId] of this.#threadKeys) {
      if (ids.has(threadId)) continue;
      this.#threadKeys.delete(key);
      conditions.set(key, null);
    }
    if (ids.size > 0) return;
    this.#pool = null;
    this.#say();
    log.error(
      { pause_ms: this.#replacePauseMs },
      'no reader thread is left: others are started after a pause',
    );
    for (const read of this.#waiting.splice(0)) {
      clearTimeout(read.timer);
      read.reject(this.#noThread());
    }
    // No thread is terminated by this, since there is none: it rejects the reads that no thread took.
    void pool.destroy();
    setTimeout(() => {
      if (this.#isClosed) return;
      this.#pool = this.#openPool();
      this.#say();
    }, this.#replacePauseMs).unref();
    this.#replacePauseMs = Math.min(this.#replacePauseMs * 2, replacePauseMsMax);
  }

  #noThread(): EssError {
    return new EssError('store_unavailable', `no reader thread is running: ${this.#why}`);
  }

  /** Reads are nobody's ack: what is said here makes the status degraded, no more. */
  #say(): void {
    const { conditions, readers, timeoutMs } = this.#parts;
    const count = this.#abandoned;
    let text: string | null = null;
    if (this.#pool === null) text = `reads: no reader thread is running: ${this.#why}`;
    else if (count > 0)
      text = `reads: ${count} of ${readers} reader threads have not come back from a read for over ${timeoutMs + readMarginMs} ms`;
    conditions.set('readers', text === null ? null : { kind: 'worker_down', text });
  }
}
