// One read over all shards: asks them at once, remembers which of them did not answer, and says so in the answer. Runs
// on reader threads.

import { EssError } from '../../errors.ts';
import { ReadSession, ShardUnavailableError } from './read_session.ts';
import type { Shards } from './shards.ts';
import type { TimeLimit } from './time_limit.ts';

/** What one shard answered. */
export interface ShardAnswer<T> {
  readonly session: ReadSession;
  readonly answer: T;
}

/** None of the shards answers. */
export class StoreUnavailableError extends EssError {
  readonly shards: readonly number[];

  constructor(failures: readonly ShardUnavailableError[]) {
    super('store_unavailable', failures.map(({ message }) => message).join('; '), { cause: failures[0] });
    this.shards = failures.map(({ shard }) => shard);
  }
}

export class FanOut {
  readonly #sessions: readonly ReadSession[];
  readonly #failures = new Map<number, ShardUnavailableError>();

  constructor(shards: Shards, limit: TimeLimit) {
    this.#sessions = shards.all.map((shard) => new ReadSession(shard, limit));
  }

  /** The one shard's session where there is only one: its answers need no merging. */
  get single(): ReadSession | null {
    return this.#sessions.length === 1 ? (this.#sessions[0] ?? null) : null;
  }

  /** Shards that still answer, in order. */
  get alive(): readonly ReadSession[] {
    return this.#sessions.filter(({ shard }) => !this.#failures.has(shard));
  }

  /** Shards whose events are missing from the answer, ascending. */
  get missing(): readonly number[] {
    return [...this.#failures.keys()].sort((a, b) => a - b);
  }

  /** Shards of which the newest events may be missing, ascending. */
  get stale(): readonly number[] {
    return this.alive.filter(({ isStale }) => isStale).map(({ shard }) => shard);
  }

  /**
   * Asks the shards, all that are alive by default, at once. The answers of those that answered, in order of the
   * shards. A shard that does not answer is missing from then on; rejects with StoreUnavailableError if no shard is
   * left, and with what else a shard threw.
   */
  async each<T>(
    ask: (session: ReadSession) => Promise<T>,
    sessions: readonly ReadSession[] = this.alive,
  ): Promise<ShardAnswer<T>[]> {
    const results = await Promise.all(
      sessions.map(async (session) => {
        try {
          return { session, answer: await ask(session) };
        } catch (error) {
          return error;
        }
      }),
    );
    const answers: ShardAnswer<T>[] = [];
    let failure: unknown = null;
    for (const result of results) {
      if (isAnswer<T>(result)) answers.push(result);
      else if (result instanceof ShardUnavailableError) this.#failures.set(result.shard, result);
      else failure ??= result;
    }
    if (failure !== null) throw failure;
    this.#requireOne();
    return answers;
  }

  /**
   * Asks the first shard that answers something that does not depend on a shard's events. One that does not answer
   * this is not missing: its events have been read before. Rejects as `each`.
   */
  async any<T>(ask: (session: ReadSession) => Promise<T>): Promise<T> {
    const failures: ShardUnavailableError[] = [];
    for (const session of this.alive) {
      try {
        return await ask(session);
      } catch (error) {
        if (!(error instanceof ShardUnavailableError)) throw error;
        failures.push(error);
      }
    }
    throw new StoreUnavailableError(failures);
  }

  #requireOne(): void {
    if (this.#failures.size < this.#sessions.length) return;
    throw new StoreUnavailableError([...this.#failures.values()].sort((a, b) => a.shard - b.shard));
  }
}

function isAnswer<T>(result: unknown): result is ShardAnswer<T> {
  return typeof result === 'object' && result !== null && 'session' in result && 'answer' in result;
}
