// What the main thread finds out about partitions that no thread of this process owns, so that /stats covers the whole
// log: ends and committed positions from the log, totals from the ledger. Polls at leisure; nothing waits for it.

import type { Logger } from 'pino';
import { EssError } from '../errors.ts';
import { type LedgerTotals, readLedger } from '../sink/ledger.ts';
import { LagClock } from '../stats/lag_clock.ts';
import { type Store, shardOf } from '../store/store.ts';
import type { Session } from './session.ts';

const pollEveryMs = 1000;

export class LogWatch {
  readonly #session: Session;
  readonly #stores: readonly Store[];
  readonly #log: Logger;
  readonly #lag: LagClock;
  readonly #totals: (LedgerTotals | null)[];
  #timer: NodeJS.Timeout | null = null;
  #isOver = false;

  /** `stores`: by shard; empty where this process knows of none. */
  constructor(session: Session, stores: readonly Store[], log: Logger) {
    this.#session = session;
    this.#stores = stores;
    this.#log = log;
    const { partitions } = session.board;
    this.#lag = new LagClock(partitions);
    this.#totals = Array.from({ length: partitions }, (_, i) => session.firstTotals[i] ?? null);
    this.#plan(0);
  }

  stop(): void {
    this.#isOver = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
  }

  /** What the ledger said of a partition that nobody here owns; null if it was not asked or did not answer. */
  totals(partition: number): LedgerTotals | null {
    return this.#totals[partition] ?? null;
  }

  /** How long the record at `position` has been waiting, as far as this process can tell, ms. */
  waitMs(partition: number, position: number): number {
    return this.#lag.waitMs(partition, position, Date.now());
  }

  #plan(ms: number): void {
    if (this.#isOver) return;
    this.#timer = setTimeout(() => {
      this.#look()
        .catch((error: unknown) => {
          if (error instanceof EssError && error.code === 'log_changed')
            this.#session.noteChange(error.message);
          this.#log.debug({ err: error }, 'a look at the log or the ledger failed');
        })
        .finally(() => this.#plan(pollEveryMs));
    }, ms);
  }

  async #look(): Promise<void> {
    const { board, log } = this.#session;
    const nowMs = Date.now();
    for (const [partition, state] of (await log.states()).entries()) {
      board.raise(partition, 'end', state.end);
      board.raise(partition, 'start', state.start);
      board.raise(partition, 'committed', state.committed);
      board.set(partition, 'bytes', state.bytes);
      this.#lag.note(partition, board.get(partition, 'end'), nowMs);
    }
    // A shard that does not answer must not keep the others' figures from being read.
    await Promise.allSettled(this.#stores.map((store, shard) => this.#lookAtShard(store, shard)));
  }

  async #lookAtShard(store: Store, shard: number): Promise<void> {
    const { board, log } = this.#session;
    for (let partition = 0; partition < board.partitions && !this.#isOver; partition += 1) {
      if (shardOf(partition, this.#stores.length) !== shard || board.get(partition, 'owner') !== 0) continue;
      this.#totals[partition] = await readLedger(store, log.epoch, partition);
    }
  }
}
