// Membership in the sinks' consumer group: which partitions this thread owns, until when, and the commits that it makes
// for them. Runs on a sink thread, beside whatever the thread does with the records, and never waits for that.
//
//             +--> joining --> syncing --> positioning --> owning --+
//             |       |           |             |                   |  rebalance, session in doubt, unknown member, ...
//             |       v           v             |                   v
//             +--- pausing <-- (failed)         +-----> revoke everything, then join again
//
// The fence: partitions are owned under a lease of one generation. Whatever casts doubt on the lease ends it first and
// talks to the coordinator afterwards, and a commit carries the generation and member id of the lease under which it
// was asked for. So a commit succeeds only in the very generation in which its partition was assigned, and one that
// was acknowledged was to be seen by every later owner before it was told of its partitions.
//
// The protocol is the eager one: everything is revoked before a join, everything is assigned anew after it. The states
// are the steps of `#run`: `#join` (joining, syncing), `#positions`, `#own`, and `#pause` after a failure.

import { setTimeout as sleep } from 'node:timers/promises';
import { assignerName, assignPartitions, type MemberProfile } from './assigner.ts';
import { CommitQueue, lostError } from './commit_queue.ts';
import type { Coordinator } from './coordinator.ts';
import {
  type CommittedPosition,
  groupErrors,
  type JoinAnswer,
  type MemberAssignment,
  type Membership,
  readAssignment,
  readSubscription,
  writeAssignment,
  writeSubscription,
} from './group_calls.ts';
import { messageOf } from './kafka_error.ts';
import { type Clock, Lease, type Moment, systemClock } from './lease.ts';
import { kafkaError } from './wire/errors.ts';

export type GroupLog = (
  level: 'debug' | 'info' | 'warn' | 'error',
  message: string,
  fields: Record<string, unknown>,
) => void;

/** Called on the member's thread, never from within `commit` or `owns`. */
export interface GroupListener {
  /** These partitions are owned now, from these positions on; offset -1 where none was committed. */
  assigned(positions: readonly CommittedPosition[]): void;
  /** Nothing that `assigned` named last is owned any more. */
  revoked(): void;
}

export interface GroupOptions {
  readonly topic: string;
  /** Partitions of the topic, which the member deals out when it leads. */
  readonly partitions: number;
  readonly profile: MemberProfile;
  readonly sessionTimeoutMs: number;
  readonly onLog?: GroupLog;
  readonly clock?: Clock;
}

/** Heartbeats in a session, at least: several may fail before it ends. */
const beatsPerSession = 6;
/** Longest time between two heartbeats, ms: until then a member does not hear that the others wait for it. */
const beatEveryMsMax = 1_000;
/** A heartbeat that failed is repeated after this, ms: the coordinator may just have moved. */
const beatAgainMs = 250;
/** Pause after a failure, ms: doubled by each one in a row up to the bound, varied by a fifth. */
const pauseFirstMs = 50;
const pauseMaxMs = 2_000;
/** Commits that are under way at `close` have this long to be answered, ms. */
const drainTimeoutMs = 2_000;
/** Nobody waits for a coordinator longer than this at the end, ms: the session ends by itself. */
const leaveTimeoutMs = 2_000;
/** A member that has no id yet at `close` waits this long for it, so that it can be given back, ms. */
const joinEndTimeoutMs = 1_000;

/** A coordinator's answer that says that the member is not, or no longer, what it took itself for. */
const endsLease: ReadonlySet<number> = new Set([
  groupErrors.illegalGeneration,
  groupErrors.unknownMemberId,
  groupErrors.rebalanceInProgress,
  groupErrors.fencedInstanceId,
]);
/** The member must ask for a new id. */
const endsMember: ReadonlySet<number> = new Set([groupErrors.unknownMemberId, groupErrors.fencedInstanceId]);

/** An error code in the answer to a request of the group. */
class GroupRefusal extends Error {
  readonly code: number;

  constructor(request: string, code: number) {
    super(`${request}: ${kafkaError(code).name}`);
    this.code = code;
  }
}

/** A lease whose positions are known. */
interface Entered {
  readonly lease: Lease;
  readonly positions: readonly CommittedPosition[];
}

export class GroupMember {
  readonly #coordinator: Coordinator;
  readonly #options: GroupOptions;
  readonly #clock: Clock;
  readonly #listener: GroupListener;
  readonly #commits: CommitQueue;
  readonly #closing = new AbortController();
  /** Byte-constant: the coordinator takes another one for a reason to rebalance. */
  readonly #subscription: Buffer;
  /** Empty until the coordinator gave one. */
  #memberId = '';
  #lease: Lease | null = null;
  /** True from `assigned` to `revoked`. */
  #isAnnounced = false;
  #beatTimer: NodeJS.Timeout | undefined;
  #beating: Lease | null = null;
  #onLost: () => void = () => {};
  #loop: Promise<void> = Promise.resolve();
  #toldRefusal: number = groupErrors.none;

  constructor(coordinator: Coordinator, options: GroupOptions, listener: GroupListener) {
    this.#coordinator = coordinator;
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#listener = listener;
    this.#commits = new CommitQueue(coordinator, {
      current: () => this.#current(),
      tryEnd: (code, lease) => {
        if (!endsLease.has(code)) return false;
        this.#endBy(code, lease);
        return true;
      },
      pause: (failures) => this.#pause(failures),
      say: (level, message, fields) => this.#say(level, message, fields),
    });
    this.#subscription = writeSubscription(options.topic, options.profile);
  }

  /** Joins the group, and again whenever it has to, until `close`. */
  start(): void {
    this.#loop = this.#run();
  }

  /** True while this thread may act for the partition. */
  owns(partition: number): boolean {
    return this.#current()?.partitions.has(partition) ?? false;
  }

  /**
   * Sets the position of an owned partition durably. Commits that meet share a request, in which the latest of a
   * partition stands for all. Rejects with `outcome_unknown` if the lease under which it was called ends before the
   * answer, `internal` if the broker will never take it.
   */
  commit(position: CommittedPosition): Promise<void> {
    const { partition } = position;
    if (!this.owns(partition)) return Promise.reject(lostError(partition));
    return this.#commits.add(position);
  }

  /** Gives everything back for good: `revoked` comes from within this call, and the group is left behind it. */
  abandon(): Promise<void> {
    const lease = this.#lease;
    this.#closing.abort();
    if (lease !== null) this.#lose(lease, 'abandoned');
    return this.#leave();
  }

  /** Waits a little for commits under way, then leaves the group. The listener hears nothing more. */
  async close(): Promise<void> {
    if (this.#commits.isBusy && this.#current() !== null)
      await within(drainTimeoutMs, this.#commits.drained());
    this.#closing.abort();
    this.#isAnnounced = false;
    if (this.#lease !== null) this.#lose(this.#lease, 'closed');
    await this.#leave();
  }

  // ---- membership -----------------------------------------------------------------------------------------------

  get #isClosing(): boolean {
    return this.#closing.signal.aborted;
  }

  /**
   * The lease in force, after a look at the clock. Not before the listener was told of it: what is asked for until
   * then belongs to an earlier one.
   */
  #current(): Lease | null {
    const lease = this.#lease;
    if (lease === null || !this.#isAnnounced) return null;
    if (lease.isValid) return lease;
    // The caller is in the middle of something: it learns by the answer, the listener a moment later.
    queueMicrotask(() => this.#lose(lease, 'the session may be over'));
    return null;
  }

  async #run(): Promise<void> {
    for (let failures = 0; !this.#isClosing; ) {
      let entered: Entered | null;
      try {
        entered = await this.#enter();
      } catch (error) {
        if (this.#isClosing) return;
        this.#tell(error);
        await this.#pause(failures);
        failures += 1;
        continue;
      }
      if (entered === null) continue;
      failures = 0;
      this.#toldRefusal = groupErrors.none;
      await this.#own(entered);
    }
  }

  /** Settles when the lease has ended. */
  async #own({ lease, positions }: Entered): Promise<void> {
    const lost = new Promise<void>((resolve) => {
      this.#onLost = resolve;
    });
    this.#isAnnounced = true;
    this.#listener.assigned(positions);
    if (this.#lease === lease) await lost;
  }

  /** From joining to positions; null if it must be done again at once. */
  async #enter(): Promise<Entered | null> {
    const lease = await this.#join();
    if (lease === null) return null;
    const positions = await this.#positions(lease);
    if (positions !== null) return { lease, positions };
    this.#lose(lease, 'it ended before the positions were known');
    return null;
  }

  /** Joins and syncs; null if it must be done again at once. */
  async #join(): Promise<Lease | null> {
    let joined = await this.#coordinator.join(this.#memberId, assignerName, this.#subscription);
    if (joined.errorCode === groupErrors.memberIdRequired) {
      this.#memberId = joined.memberId;
      if (this.#isClosing) return null;
      joined = await this.#coordinator.join(this.#memberId, assignerName, this.#subscription);
    }
    this.#check('JoinGroup', joined.errorCode);
    this.#memberId = joined.memberId;
    if (this.#isClosing) return null;
    const sent = this.#clock();
    const synced = await this.#coordinator.sync(joined, this.#deal(joined));
    if (synced.errorCode === groupErrors.rebalanceInProgress || this.#isClosing) return null;
    this.#check('SyncGroup', synced.errorCode);
    return this.#hold(joined, readAssignment(synced.assignment, this.#options.topic), sent);
  }

  /** The leader's part: a share for every member. */
  #deal({ leaderId, memberId, members }: JoinAnswer): Map<string, Buffer> {
    const dealt = new Map<string, Buffer>();
    if (leaderId !== memberId) return dealt;
    const { topic, partitions } = this.#options;
    const known = members.map((member) => ({
      memberId: member.memberId,
      profile: readSubscription(member.subscription),
    }));
    const assignment = assignPartitions(known, partitions);
    for (const [member, own] of assignment.partitions)
      dealt.set(member, writeAssignment(topic, { partitions: own, shards: assignment.shards }));
    return dealt;
  }

  /** Begins a lease, and with it the heartbeats. */
  #hold(membership: Membership, { partitions, shards }: MemberAssignment, sent: Moment): Lease {
    const { profile, sessionTimeoutMs, partitions: count } = this.#options;
    if (shards !== 0 && shards !== profile.shards) {
      this.#say('error', 'this sink counts other shards than its group, and gets no partitions', {
        shards: profile.shards,
        groupShards: shards,
      });
    }
    // The leader may know of more partitions already: that this log changed is found out elsewhere.
    const own = new Set(partitions.filter((partition) => partition >= 0 && partition < count));
    const lease = new Lease(membership, own, sessionTimeoutMs, this.#clock, sent);
    this.#lease = lease;
    this.#say('info', 'joined the group', { generation: lease.generation, partitions: [...own] });
    clearInterval(this.#beatTimer);
    const everyMs = Math.min(sessionTimeoutMs / beatsPerSession, beatEveryMsMax);
    this.#beatTimer = setInterval(() => void this.#beat(lease), everyMs);
    return lease;
  }

  async #beat(lease: Lease): Promise<void> {
    if (this.#lease !== lease) return;
    // First the clock: a process that was stopped may find an old answer waiting.
    if (!lease.isValid) {
      this.#lose(lease, 'the session may be over');
      return;
    }
    if (this.#beating === lease) return;
    this.#beating = lease;
    const sent = this.#clock();
    let isFailed = false;
    try {
      const code = await this.#coordinator.heartbeat(lease);
      if (code === groupErrors.none) lease.renew(sent);
      else if (endsLease.has(code)) this.#endBy(code, lease);
      else isFailed = true;
    } catch (error) {
      isFailed = true;
      this.#say('debug', 'a heartbeat failed', { reason: messageOf(error) });
    } finally {
      if (this.#beating === lease) this.#beating = null;
    }
    if (isFailed) setTimeout(() => void this.#beat(lease), beatAgainMs).unref();
  }

  /** Positions of the lease's partitions, once they are known; null if the lease ended before. */
  async #positions(lease: Lease): Promise<readonly CommittedPosition[] | null> {
    const partitions = [...lease.partitions].sort((a, b) => a - b);
    if (partitions.length === 0) return [];
    for (let failures = 0; this.#lease === lease && lease.isValid; failures += 1) {
      try {
        const { errorCode, positions } = await this.#coordinator.positions(partitions);
        if (this.#lease !== lease || !lease.isValid) return null;
        const found = new Map(positions.map((position) => [position.partition, position]));
        if (errorCode === groupErrors.none && partitions.every((partition) => found.has(partition)))
          return partitions.flatMap((partition) => found.get(partition) ?? []);
        if (errorCode !== groupErrors.unstableOffsetCommit)
          this.#tell(new GroupRefusal('OffsetFetch', errorCode));
      } catch (error) {
        this.#tell(error);
      }
      await this.#pause(failures);
    }
    return null;
  }

  /** The coordinator refused a request under this lease. */
  #endBy(code: number, lease: Lease): void {
    if (endsMember.has(code) && this.#memberId === lease.memberId) this.#memberId = '';
    this.#lose(lease, kafkaError(code).name);
  }

  /** Ends a lease: from here on nothing is owned, and only then anybody hears of it. */
  #lose(lease: Lease, reason: string): void {
    lease.end();
    if (this.#lease !== lease) return;
    this.#lease = null;
    clearInterval(this.#beatTimer);
    this.#commits.lose();
    this.#say('info', 'gave up its partitions', { generation: lease.generation, reason });
    if (this.#isAnnounced) {
      this.#isAnnounced = false;
      this.#listener.revoked();
    }
    this.#onLost();
  }

  /** Throws if the coordinator refused to take the member in. */
  #check(request: string, code: number): void {
    if (code === groupErrors.none) return;
    if (endsMember.has(code)) this.#memberId = '';
    throw new GroupRefusal(request, code);
  }

  async #leave(): Promise<void> {
    // Without an id the coordinator would keep a place for it, and the others waiting, until a session has passed.
    if (this.#memberId === '') await within(joinEndTimeoutMs, this.#loop);
    const memberId = this.#memberId;
    if (memberId === '') return;
    this.#memberId = '';
    const left = this.#coordinator.leave(memberId).then(
      () => {},
      (error: unknown) => this.#say('debug', 'leaving the group failed', { reason: messageOf(error) }),
    );
    await within(leaveTimeoutMs, left);
  }

  // ---- helpers --------------------------------------------------------------------------------------------------

  async #pause(failures: number): Promise<void> {
    const ms = Math.min(pauseFirstMs * 2 ** Math.min(failures, 10), pauseMaxMs) * (0.8 + 0.4 * Math.random());
    await sleep(ms, undefined, { signal: this.#closing.signal }).catch(() => {});
  }

  /** Says why joining does not succeed; the same reason once. */
  #tell(error: unknown): void {
    const code = error instanceof GroupRefusal ? error.code : -1;
    const isNew = code !== this.#toldRefusal;
    this.#toldRefusal = code;
    this.#say(isNew ? 'warn' : 'debug', 'the group cannot be joined now', { reason: messageOf(error) });
  }

  #say(level: 'debug' | 'info' | 'warn' | 'error', message: string, fields: Record<string, unknown>): void {
    this.#options.onLog?.(level, message, { member: this.#options.profile.label, ...fields });
  }
}

/** Settles with `work`, or after `ms`. */
async function within(ms: number, work: Promise<void>): Promise<void> {
  const late = new AbortController();
  await Promise.race([work, sleep(ms, undefined, { signal: late.signal }).catch(() => {})]);
  late.abort();
}
