// Commits of one group member on their way to the coordinator: those that meet share a request, in which the latest
// position of a partition stands for all. Runs on the member's thread. A commit carries the lease under which it was
// asked for, and is settled when that ends at the latest.

import { EssError } from '../../errors.ts';
import type { Coordinator } from './coordinator.ts';
import { type CommittedPosition, groupErrors } from './group_calls.ts';
import { messageOf } from './kafka_error.ts';
import type { Lease } from './lease.ts';
import { kafkaError } from './wire/errors.ts';

/** Nothing was written, and the same request may work later. */
const commitAgain: ReadonlySet<number> = new Set([
  groupErrors.unknownTopicOrPartition,
  groupErrors.requestTimedOut,
  groupErrors.coordinatorLoading,
  groupErrors.coordinatorNotAvailable,
  groupErrors.notCoordinator,
]);

/** The member that commits. */
export interface CommitOwner {
  /** The lease in force, after a look at the clock. */
  current(): Lease | null;
  /** Ends the lease if that is what the coordinator's code says; false if it says nothing of the lease. */
  tryEnd(code: number, lease: Lease): boolean;
  /** Waits after so many failures in a row. */
  pause(failures: number): Promise<void>;
  say(level: 'debug', message: string, fields: Record<string, unknown>): void;
}

interface PendingCommit {
  position: CommittedPosition;
  readonly waiters: { readonly resolve: () => void; readonly reject: (error: EssError) => void }[];
}

export class CommitQueue {
  readonly #coordinator: Coordinator;
  readonly #owner: CommitOwner;
  /** By partition: what the next request carries. */
  #pending = new Map<number, PendingCommit>();
  /** By partition: what the request under way carries. */
  #sending = new Map<number, PendingCommit>();
  #isFlushing = false;
  #onDrained: () => void = () => {};

  constructor(coordinator: Coordinator, owner: CommitOwner) {
    this.#coordinator = coordinator;
    this.#owner = owner;
  }

  /** True while something is on its way. */
  get isBusy(): boolean {
    return this.#isFlushing;
  }

  /** Settles once nothing is on its way any more; for one caller. Only while `isBusy`. */
  drained(): Promise<void> {
    return new Promise((resolve) => {
      this.#onDrained = resolve;
    });
  }

  /** As `GroupMember.commit`, whose partition is owned. */
  add(position: CommittedPosition): Promise<void> {
    return new Promise((resolve, reject) => {
      const pending = this.#pending.get(position.partition);
      if (pending === undefined) {
        this.#pending.set(position.partition, { position, waiters: [{ resolve, reject }] });
      } else {
        pending.position = position;
        pending.waiters.push({ resolve, reject });
      }
      if (this.#isFlushing) return;
      this.#isFlushing = true;
      // Not a microtask: commits of several partitions in one turn of the event loop come from several promises.
      setImmediate(() => void this.#flush());
    });
  }

  /** The lease has ended: rejects everything with `outcome_unknown`. */
  lose(): void {
    for (const commits of [this.#pending, this.#sending]) {
      for (const [partition, { waiters }] of commits)
        for (const { reject } of waiters) reject(lostError(partition));
      commits.clear();
    }
  }

  /** One request at a time: the next one carries all that waited. */
  async #flush(): Promise<void> {
    for (;;) {
      const lease = this.#owner.current();
      // Where the lease is gone, whoever ended it has rejected, or is about to reject, what waits.
      if (lease === null || this.#pending.size === 0) break;
      this.#sending = this.#pending;
      this.#pending = new Map();
      await this.#send(lease, this.#sending);
    }
    this.#isFlushing = false;
    this.#onDrained();
  }

  /** Repeats until every position is settled or the lease is over, which settles them too. */
  async #send(lease: Lease, commits: Map<number, PendingCommit>): Promise<void> {
    for (let failures = 0; commits.size > 0; failures += 1) {
      if (failures > 0) await this.#owner.pause(failures - 1);
      if (this.#owner.current() !== lease) return;
      if (failures > 0) this.#joinPending(commits);
      let codes: ReadonlyMap<number, number>;
      try {
        const positions = [...commits.values()].map(({ position }) => position);
        codes = await this.#coordinator.commit(lease, positions);
      } catch (error) {
        // It may have been written. Repeating it under the same lease writes the same again, or is refused.
        this.#owner.say('debug', 'a commit was not answered', { reason: messageOf(error) });
        continue;
      }
      // Acknowledged too late is as good as not: others may have read the positions before.
      if (this.#owner.current() !== lease) return;
      for (const [partition, commit] of commits) {
        const code = codes.get(partition);
        if (code === undefined || commitAgain.has(code)) continue;
        if (this.#owner.tryEnd(code, lease)) return;
        commits.delete(partition);
        for (const { resolve, reject } of commit.waiters) {
          if (code === groupErrors.none) resolve();
          else reject(refusedError(partition, code));
        }
      }
    }
  }

  /** Positions that were asked for while an attempt failed take the place of older ones. */
  #joinPending(commits: Map<number, PendingCommit>): void {
    for (const [partition, newer] of this.#pending) {
      const older = commits.get(partition);
      if (older !== undefined) newer.waiters.unshift(...older.waiters);
      commits.set(partition, newer);
    }
    this.#pending.clear();
  }
}

export function lostError(partition: number): EssError {
  return new EssError('outcome_unknown', `partition ${partition} is not owned by this sink any more`);
}

function refusedError(partition: number, code: number): EssError {
  const text = `the position of partition ${partition} was refused: ${kafkaError(code).name}`;
  if (code === groupErrors.offsetMetadataTooLarge) return new EssError('internal', text);
  return new EssError('log_unavailable', text);
}
