// The groups of a producer worker on their way into the log: one that fills, and those that are being made durable.
// Runs on the producer's thread. How many may be under way is the driver's to say: the embedded log takes one at a
// time; a cluster takes several, so that one slow broker does not hold up the others.
//
// Group commit adapts by itself: with nothing under way a group is sent at once; while one is under way the next one
// collects, until that settles or until it has waited long enough to follow anyway.

import { EssError } from '../errors.ts';
import { faultPoint } from '../faults.ts';
import type { AppendResult, LogAppender } from '../log/log.ts';
import { nowUs } from '../stats/clock.ts';
import type { Group } from './group.ts';

/** A group waits at most so long for the one before it, microseconds: about one round trip to three brokers. */
const followAfterUs = 10_000;
/**
 * Past this time an append is one that waits for a broker in trouble. The driver refuses further batches of its
 * partitions at once, so it no longer counts against the driver's number. Microseconds.
 */
const stuckAfterUs = 1_000_000;
/** Appends under way at most for each that the driver takes, the stuck ones included: each holds its group's memory. */
const heldPerAppend = 2;

/** Result of each batch of a group, by partition. */
export type GroupResults = ReadonlyMap<number, AppendResult>;

interface Append {
  readonly group: Group;
  readonly startedUs: number;
}

export class AppendPipeline {
  readonly #log: LogAppender;
  readonly #makeGroup: () => Group;
  readonly #onSettled: (group: Group, results: GroupResults) => void;
  readonly #spare: Group[] = [];
  readonly #underWay = new Set<Append>();
  #filling: Group;
  #wake: (() => void) | null = null;

  /** `onSettled` may use the group's requests and batches within the call only. */
  constructor(
    log: LogAppender,
    makeGroup: () => Group,
    onSettled: (group: Group, results: GroupResults) => void,
  ) {
    this.#log = log;
    this.#makeGroup = makeGroup;
    this.#onSettled = onSettled;
    this.#filling = makeGroup();
  }

  /** The group that takes requests now. */
  get filling(): Group {
    return this.#filling;
  }

  /** Appends that have not settled. */
  get underWay(): number {
    return this.#underWay.size;
  }

  /** True while the filling group would have to wait: the caller then waits with `settledOrDue`. */
  isWaiting(): boolean {
    return this.#active() > 0 || this.#underWay.size >= this.#heldMax;
  }

  /** Sends the filling group if it holds anything and need not wait any longer. */
  trySend(): void {
    const group = this.#filling;
    if (group.isEmpty || this.#underWay.size >= this.#heldMax) return;
    const active = this.#active();
    const isDue = active === 0 || (active < this.#log.appendsMax && this.#dueInUs() <= 0);
    if (!isDue) return;
    this.#filling = this.#spare.pop() ?? this.#makeGroup();
    const append = { group, startedUs: nowUs() };
    this.#underWay.add(append);
    void appendGroup(this.#log, group).then((results) => {
      this.#underWay.delete(append);
      this.#onSettled(group, results);
      group.reset();
      this.#spare.push(group);
      this.#wake?.();
    });
  }

  /** Settles with the next append, or when the filling group may follow. */
  settledOrDue(): Promise<void> {
    return new Promise((resolve) => {
      // The embedded log takes one group at a time: there is no time at which a second one may follow.
      const canFollow = this.#log.appendsMax > 1;
      const waitMs = canFollow ? Math.max(1, Math.ceil(this.#dueInUs() / 1000)) : 0;
      const timer = canFollow ? setTimeout(() => this.#wake?.(), waitMs) : null;
      this.#wake = () => {
        this.#wake = null;
        if (timer !== null) clearTimeout(timer);
        resolve();
      };
    });
  }

  /** Microseconds until the filling group need not wait for others any longer. */
  #dueInUs(): number {
    const group = this.#filling;
    return group.isEmpty ? followAfterUs : group.openedUs + followAfterUs - nowUs();
  }

  get #heldMax(): number {
    return heldPerAppend * this.#log.appendsMax;
  }

  /** Appends under way that are not stuck. */
  #active(): number {
    const sinceUs = nowUs() - stuckAfterUs;
    let active = 0;
    for (const { startedUs } of this.#underWay) if (startedUs > sinceUs) active += 1;
    return active;
  }
}

/** Appends a group and gives each partition's result; whatever goes wrong becomes a result. */
export async function appendGroup(log: LogAppender, group: Group): Promise<GroupResults> {
  const batches = group.batches();
  const results = new Map<number, AppendResult>();
  try {
    faultPoint('producer.before_append');
    const appended = await log.append(batches);
    faultPoint('producer.after_append');
    for (const [i, { partition }] of batches.entries()) {
      results.set(
        partition,
        appended[i] ?? new EssError('outcome_unknown', 'the log gave no result for a batch'),
      );
    }
  } catch (error) {
    // An error that says nothing about the records: they may be in the log.
    const known =
      error instanceof EssError ? error : new EssError('outcome_unknown', String(error), { cause: error });
    for (const { partition } of batches) results.set(partition, known);
  }
  return results;
}
