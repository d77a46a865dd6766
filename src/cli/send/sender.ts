// Collects events into batches and sees each batch through to its end: a bounded number in flight, retries with the
// same ids, halves of what is refused for its size. `add` settles only when there is room, which holds up the reading.

import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import type { Answer } from './client.ts';
import type { OutgoingEvent } from './event.ts';
import type { Tally } from './tally.ts';

const compress = promisify(gzip);

/** A batch that is not full goes after this time all the same: standard input may be a stream that never ends. */
const lingerMs = 1000;
/** First wait before a retry where the service names none; it doubles up to the second. */
const backoffMsMin = 100;
const backoffMsMax = 5000;

/** What the sender needs of the client. */
export interface Poster {
  post(body: Buffer, count: number): Promise<Answer>;
}

export interface SenderOptions {
  readonly batchEventsMax: number;
  readonly batchBytesMax: number;
  readonly concurrency: number;
  /** Milliseconds without progress of any batch after which everything is given up. */
  readonly retryMs: number;
  readonly isGzip: boolean;
}

type Batch = readonly OutgoingEvent[];

export class Sender {
  readonly #options: SenderOptions;
  readonly #poster: Poster;
  readonly #tally: Tally;
  readonly #linger: NodeJS.Timeout;
  readonly #stop = new AbortController();
  #stopReason: string | null = null;
  #batch: OutgoingEvent[] = [];
  #batchBytes = 0;
  #batchStartMs = 0;
  #inFlight = 0;
  /** Called when a request has ended: by then there is room. */
  #wake: (() => void) | null = null;
  #progressMs = 0;

  constructor(options: SenderOptions, poster: Poster, tally: Tally) {
    this.#options = options;
    this.#poster = poster;
    this.#tally = tally;
    this.#linger = setInterval(() => this.#flushStale(), lingerMs / 2);
  }

  /** Why sending was given up or interrupted, or null. */
  get stopReason(): string | null {
    return this.#stopReason;
  }

  /** Aborted together with `stopReason`: the reading must not wait for more input then. */
  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  /** Takes an event; settles when the next one can be taken. */
  async add(event: OutgoingEvent): Promise<void> {
    const bytes = Buffer.byteLength(event.text) + 1;
    if (this.#batch.length > 0 && this.#batchBytes + bytes > this.#options.batchBytesMax) await this.#flush();
    if (this.#batch.length === 0) this.#batchStartMs = Date.now();
    this.#batch.push(event);
    this.#batchBytes += bytes;
    if (
      this.#batch.length >= this.#options.batchEventsMax ||
      this.#batchBytes >= this.#options.batchBytesMax
    ) {
      await this.#flush();
    }
  }

  /** Sends what is left and waits for every answer. */
  async finish(): Promise<void> {
    await this.#flush();
    while (this.#inFlight > 0) await this.#ended();
    clearInterval(this.#linger);
    this.#tally.unsent += this.#batch.length;
    this.#batch = [];
  }

  /** Sends nothing more; requests that have no answer yet are still waited for by `finish`. */
  stop(reason: string): void {
    this.#stopReason ??= reason;
    this.#stop.abort();
    this.#wake?.();
  }

  async #flush(): Promise<void> {
    while (this.#inFlight >= this.#options.concurrency && this.#stopReason === null) await this.#ended();
    if (this.#stopReason === null) this.#launch();
  }

  #flushStale(): void {
    const isStale = this.#batch.length > 0 && Date.now() - this.#batchStartMs >= lingerMs;
    if (isStale && this.#inFlight < this.#options.concurrency && this.#stopReason === null) this.#launch();
  }

  #launch(): void {
    if (this.#batch.length === 0) return;
    const batch = this.#batch;
    this.#batch = [];
    this.#batchBytes = 0;
    this.#inFlight += 1;
    void this.#deliver(batch, 0).finally(() => {
      this.#inFlight -= 1;
      this.#wake?.();
    });
  }

  #ended(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  /** Posts a batch until its end is known. `earlierPosts` counts requests that the same events were part of before. */
  async #deliver(batch: Batch, earlierPosts: number): Promise<void> {
    const lines = Buffer.from(`${batch.map(({ text }) => text).join('\n')}\n`);
    const body = this.#options.isGzip ? await compress(lines) : lines;
    const startMs = Date.now();
    for (let posts = earlierPosts; ; posts += 1) {
      if (this.#stopReason !== null) {
        if (posts === 0) this.#tally.unsent += batch.length;
        else this.#tally.unconfirmed += batch.length;
        return;
      }
      if (posts === 0) this.#tally.sent += batch.length;
      const answer = await this.#poster.post(body, batch.length);
      switch (answer.type) {
        case 'settled':
          this.#settle(batch, answer);
          return;
        case 'narrow':
          await this.#narrow(batch, answer, posts + 1);
          return;
        case 'fatal':
          this.#tally.unconfirmed += batch.length;
          this.stop(answer.reason);
          return;
        case 'retry':
          await this.#waitToRetry(answer, startMs, posts - earlierPosts);
          if (this.#stopReason === null) this.#tally.retries += 1;
      }
    }
  }

  #settle(batch: Batch, answer: Extract<Answer, { type: 'settled' }>): void {
    this.#progressMs = Date.now();
    this.#tally.accepted += batch.length - answer.rejected;
    for (const { index, code, message } of answer.rejections) {
      const event = batch[index];
      if (event !== undefined) this.#tally.reject(event.place, code, message);
    }
    const unnamed = answer.rejected - answer.rejections.length;
    if (unnamed > 0) this.#tally.countRejected(unnamed, 'not_named');
  }

  async #narrow(batch: Batch, answer: Extract<Answer, { type: 'narrow' }>, posts: number): Promise<void> {
    // A refusal is an answer too: the service is there and works.
    this.#progressMs = Date.now();
    const [event] = batch;
    if (batch.length === 1 && event !== undefined) {
      this.#tally.reject(event.place, answer.code, answer.message);
      return;
    }
    const middle = batch.length >> 1;
    // One after the other: both together would be one request more in flight than is allowed.
    await this.#deliver(batch.slice(0, middle), posts);
    await this.#deliver(batch.slice(middle), posts);
  }

  /** Waits before the next attempt, or stops everything if there was no progress for too long. */
  async #waitToRetry(
    answer: Extract<Answer, { type: 'retry' }>,
    startMs: number,
    attempt: number,
  ): Promise<void> {
    const { retryMs } = this.#options;
    const leftMs = Math.max(startMs, this.#progressMs) + retryMs - Date.now();
    if (leftMs <= 0) {
      this.stop(`no progress for ${Math.round(retryMs / 1000)} s: ${answer.reason}`);
      return;
    }
    // Jitter, so that batches that failed together do not come back together.
    const backoffMs = Math.min(backoffMsMax, backoffMsMin * 2 ** attempt) * (0.5 + Math.random() / 2);
    // Not beyond the bound: the last attempt is made when the time is up, whatever Retry-After says.
    await this.#sleep(Math.min(answer.waitMs ?? backoffMs, leftMs));
  }

  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const { signal } = this.#stop;
      const done = (): void => {
        clearTimeout(timer);
        signal.removeEventListener('abort', done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      signal.addEventListener('abort', done);
      if (signal.aborted) done();
    });
  }
}
