// A consumer group's coordinator: finds the broker that is it, and speaks to it over two clients, so that a heartbeat
// never waits behind a commit that waits for replicas, nor a departure behind a join. Runs on sink threads. It repeats
// nothing; a request that fails for want of a coordinator makes the next one look for it anew.

import type { KafkaClient } from './client.ts';
import {
  type CommittedPosition,
  commitCall,
  groupErrors,
  heartbeatCall,
  type JoinAnswer,
  joinCall,
  leaveCall,
  type Membership,
  type PositionsAnswer,
  positionsCall,
  type SyncAnswer,
  syncCall,
} from './group_calls.ts';
import type { WireCall } from './wire/call.ts';

/** What membership needs of a coordinator; every method settles within a time of its own and rejects with KafkaError. */
export interface Coordinator {
  join(memberId: string, protocol: string, subscription: Buffer): Promise<JoinAnswer>;
  sync(membership: Membership, assignments: ReadonlyMap<string, Buffer>): Promise<SyncAnswer>;
  /** Gives an error code. */
  heartbeat(membership: Membership): Promise<number>;
  /** Gives an error code. */
  leave(memberId: string): Promise<number>;
  /** Gives an error code for each partition. */
  commit(
    membership: Membership,
    positions: readonly CommittedPosition[],
  ): Promise<ReadonlyMap<number, number>>;
  positions(partitions: readonly number[]): Promise<PositionsAnswer>;
}

export interface CoordinatorOptions {
  readonly group: string;
  readonly topic: string;
  readonly sessionTimeoutMs: number;
}

/** A broker may hold a commit for its offsets.commit.timeout.ms, 5 s by default. */
const commitTimeoutMs = 6_000;
/** On top of the time for which a coordinator may hold a join, ms. */
const joinMarginMs = 5_000;

const noCoordinator: ReadonlySet<number> = new Set([
  groupErrors.coordinatorNotAvailable,
  groupErrors.notCoordinator,
]);

export class KafkaCoordinator implements Coordinator {
  readonly #members: KafkaClient;
  readonly #offsets: KafkaClient;
  readonly #options: CoordinatorOptions;
  /**
   * How long the coordinator waits for members to join again, ms. Twice the session: a member that has not heard of a
   * rebalance doubts its session, and so its partitions, long before it is left out.
   */
  readonly #rebalanceTimeoutMs: number;
  /** A session holds several attempts, each of which may find another broker. */
  readonly #requestTimeoutMs: number;
  #node: number | null = null;

  constructor(members: KafkaClient, offsets: KafkaClient, options: CoordinatorOptions) {
    this.#members = members;
    this.#offsets = offsets;
    this.#options = options;
    this.#rebalanceTimeoutMs = 2 * options.sessionTimeoutMs;
    this.#requestTimeoutMs = Math.ceil(options.sessionTimeoutMs / 3);
  }

  join(memberId: string, protocol: string, subscription: Buffer): Promise<JoinAnswer> {
    const { group, sessionTimeoutMs } = this.#options;
    const rebalanceTimeoutMs = this.#rebalanceTimeoutMs;
    const call = joinCall({ group, sessionTimeoutMs, rebalanceTimeoutMs, memberId, protocol, subscription });
    return this.#ask(this.#members, call, rebalanceTimeoutMs + joinMarginMs, (answer) => answer.errorCode);
  }

  sync(membership: Membership, assignments: ReadonlyMap<string, Buffer>): Promise<SyncAnswer> {
    // The followers' answer waits for the leader.
    const timeoutMs = this.#rebalanceTimeoutMs + joinMarginMs;
    const call = syncCall(this.#options.group, membership, assignments);
    return this.#ask(this.#members, call, timeoutMs, (answer) => answer.errorCode);
  }

  heartbeat(membership: Membership): Promise<number> {
    const call = heartbeatCall(this.#options.group, membership);
    return this.#ask(this.#members, call, this.#requestTimeoutMs, (code) => code);
  }

  leave(memberId: string): Promise<number> {
    const call = leaveCall(this.#options.group, memberId);
    return this.#ask(this.#offsets, call, this.#requestTimeoutMs, (code) => code);
  }

  commit(
    membership: Membership,
    positions: readonly CommittedPosition[],
  ): Promise<ReadonlyMap<number, number>> {
    const { group, topic } = this.#options;
    const call = commitCall(group, membership, topic, positions);
    return this.#ask(this.#offsets, call, commitTimeoutMs, (codes) => [...codes.values()].find(isMoved) ?? 0);
  }

  positions(partitions: readonly number[]): Promise<PositionsAnswer> {
    const call = positionsCall(this.#options.group, this.#options.topic, partitions);
    return this.#ask(this.#offsets, call, this.#requestTimeoutMs, (answer) => answer.errorCode);
  }

  async #ask<T>(
    client: KafkaClient,
    call: WireCall<T>,
    timeoutMs: number,
    codeOf: (answer: T) => number,
  ): Promise<T> {
    const deadlineMs = performance.now() + timeoutMs;
    const findTimeoutMs = Math.min(timeoutMs, this.#requestTimeoutMs);
    const node = this.#node ?? (await client.coordinator(this.#options.group, findTimeoutMs));
    this.#node = node;
    try {
      const answer = await client.send(node, call, deadlineMs - performance.now());
      if (isMoved(codeOf(answer))) this.#forget(node);
      return answer;
    } catch (error) {
      this.#forget(node);
      throw error;
    }
  }

  /** Unless another one was found meanwhile. */
  #forget(node: number): void {
    if (this.#node === node) this.#node = null;
  }
}

function isMoved(code: number): boolean {
  return noCoordinator.has(code);
}
