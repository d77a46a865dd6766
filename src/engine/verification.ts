// GET /verify: the proof of conservation by the process that holds the store, since nobody else can open an embedded one.
// Main thread, which only waits for it: statements run in the store, and what they answer comes in small pages. One at a
// time, given up when the client goes away or the process stops.

import { EssError } from '../errors.ts';
import type { Answer, GetRequest } from '../http/server.ts';
import type { LogAppender } from '../log/log.ts';
import type { LogTarget } from '../log/open.ts';
import { openRecords } from '../log/records.ts';
import { type Store, StoreError } from '../store/store.ts';
import { leaderlessPartitions } from '../verify/leaderless.ts';
import { reportJson } from '../verify/report.ts';
import { verify } from '../verify/verify.ts';

export interface VerificationParts {
  /** The log handle of the session that there is now. */
  readonly log: () => LogAppender;
  readonly logTarget: LogTarget;
  /** By shard; empty where another process has the store. */
  readonly stores: readonly Store[];
  readonly retryWindowMs: number;
}

interface Running {
  readonly abort: AbortController;
  readonly ended: Promise<unknown>;
  done: number;
  total: number;
}

export class Verification {
  readonly #parts: VerificationParts;
  #running: Running | null = null;
  #isStopped = false;

  constructor(parts: VerificationParts) {
    this.#parts = parts;
  }

  /**
   * Answers with the report. Rejects with `invalid_parameter`, `overloaded` while another one is under way, `stopping`,
   * and `store_unavailable` or what the log says where one of them does not answer.
   */
  async answer(request: GetRequest, client: AbortSignal): Promise<Answer> {
    const isDeep = isDeepAsked(request.query);
    const { log, logTarget, stores, retryWindowMs } = this.#parts;
    if (this.#isStopped) throw new EssError('stopping', 'this process is stopping');
    if (stores.length === 0)
      throw new EssError('store_unavailable', 'the store belongs to another process: ask that one');
    if (this.#running !== null) throw new EssError('overloaded', 'another verification is under way');
    const abort = new AbortController();
    const onGone = (): void => abort.abort();
    client.addEventListener('abort', onGone, { once: true });
    const work = verify({
      log: log(),
      stores,
      isDeep,
      retryWindowMs,
      signal: abort.signal,
      onProgress: (done, total) => {
        if (this.#running !== null) Object.assign(this.#running, { done, total });
      },
      leaderless: () => leaderlessPartitions(logTarget),
      openRecords: () => openRecords(logTarget),
    });
    this.#running = { abort, ended: work.catch(() => {}), done: 0, total: 0 };
    try {
      return { status: 200, contentType: 'application/json', body: reportJson(await work) };
    } catch (error) {
      if (this.#isStopped) throw new EssError('stopping', 'this process is stopping', { cause: error });
      if (error instanceof StoreError)
        throw new EssError('store_unavailable', error.message, { cause: error });
      throw error;
    } finally {
      client.removeEventListener('abort', onGone);
      this.#running = null;
    }
  }

  /** How far the one under way has come. */
  progress(): Answer {
    const running = this.#running;
    const { done, total } = running ?? { done: 0, total: 0 };
    const body = JSON.stringify({ running: running !== null, done, total });
    return { status: 200, contentType: 'application/json', body };
  }

  /** Gives up what is under way; settles when nothing of it asks the store any more. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#running?.abort.abort();
    await this.#running?.ended;
  }
}

function isDeepAsked(query: string): boolean {
  let asked: string | null = null;
  for (const [name, value] of new URLSearchParams(query)) {
    if (name !== 'deep' || asked !== null || !['0', '1'].includes(value))
      throw new EssError('invalid_parameter', `/verify takes one deep=0|1, not "${name}=${value}"`);
    asked = value;
  }
  return asked === '1';
}
