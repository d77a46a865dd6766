// What the main thread finds out about partitions that no thread of this process owns, so that /stats covers the whole
// log: ends and committed positions from the log, totals from the ledger. It also says where a shard is recorded
// otherwise than it is configured, since this process would read from the wrong ones. Polls at leisure; nothing waits
// for it.

import type { Logger } from 'pino';
import { EssError } from '../errors.ts';
import type { LedgerTotals } from '../sink/ledger.ts';
import { readShardTotals } from '../sink/totals.ts';
import { LagClock } from '../stats/lag_clock.ts';
import type { Store } from '../store/store.ts';
import type { Conditions } from './conditions.ts';
import type { Session } from './session.ts';

const pollEveryMs = 1000;

export class LogWatch {
  readonly #session: Session;
  readonly #stores: readonly Store[];
  readonly #conditions: Conditions;
  readonly #log: Logger;
  readonly #lag: LagClock;
  readonly #totals: (LedgerTotals | null)[];
  #timer: NodeJS.Timeout | null = null;
  #isOver = false;

  /** `stores`: by shard; empty where this process knows of none. */
  constructor(session: Session, stores: readonly Store[], conditions: Conditions, log: Logger) {
    this.#session = session;
    this.#stores = stores;
    this.#conditions = conditions;
    this.#log = log;
    const { partitions } = session.board;
    this.#lag = new LagClock(partitions);
    this.#totals = Array.from({ length: partitions }, (_, i) => session.firstTotals.get(i) ?? null);
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
    await Promise.allSettled(this.#stores.map((_, shard) => this.#lookAtShard(shard)));
  }

  async #lookAtShard(shard: number): Promise<void> {
    const { board, log } = this.#session;
    const partitions: number[] = [];
    for (let partition = 0; partition < board.partitions; partition += 1) {
      if (board.get(partition, 'owner') === 0) partitions.push(partition);
    }
    try {
      await readShardTotals(this.#stores, shard, log.epoch, partitions, (partition, totals) => {
        this.#totals[partition] = totals;
      });
      this.#setCondition(shard, null);
    } catch (error) {
      // One that does not answer is for those to tell who need it.
      const refusal = refusalIn(error);
      if (refusal !== null) this.#setCondition(shard, refusal.message);
      throw error;
    }
  }

  #setCondition(shard: number, text: string | null): void {
    if (this.#isOver) return;
    this.#conditions.set(`layout-${shard}`, text === null ? null : { kind: 'partition_waiting', text });
  }
}

/** Why a shard may not be used, also where it stands behind what a replica's check made of it. */
function refusalIn(error: unknown): EssError | null {
  if (error instanceof EssError) return error;
  return error instanceof Error ? refusalIn(error.cause) : null;
}
