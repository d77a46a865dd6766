// A consumer group's coordinator: finds the broker that is it, and speaks to it over two clients, so that a heartbeat
// never waits behind a commit that waits for replicas, nor a departure behind a join. Runs on sink threads. It repeats
// nothing; a request that fails for want of a coordinator makes the next one look for it anew.

import { setTimeout as sleep } from 'node:timers/promises';
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
import { KafkaError } from './kafka_error.ts';
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
    return this.#askPatiently(call, (answer) => answer.errorCode);
  }

  sync(membership: Membership, assignments: ReadonlyMap<string, Buffer>): Promise<SyncAnswer> {
    // The followers' answer waits for the leader.
    const call = syncCall(this.#options.group, membership, assignments);
    return this.#askPatiently(call, (answer) => answer.errorCode);
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
    const call = positionsCall(this.#options.group, this.#options.topic, partitions, true);
    return this.#ask(this.#offsets, call, this.#requestTimeoutMs, (answer) => answer.errorCode);
  }

  async #ask<T>(
    client: KafkaClient,
    call: WireCall<T>,
    timeoutMs: number,
    codeOf: (answer: T) => number,
  ): Promise<T> {
    const deadlineMs = performance.now() + timeoutMs;
    const node = await this.#find(client, Math.min(timeoutMs, this.#requestTimeoutMs));
    return this.#askNode(node, client, call, deadlineMs - performance.now(), codeOf);
  }

  /**
   * For requests whose answers wait for other members. A coordinator that hangs would be given as long, so it is looked
   * meanwhile whether the group has got another one.
   */
  async #askPatiently<T>(call: WireCall<T>, codeOf: (answer: T) => number): Promise<T> {
    const node = await this.#find(this.#members, this.#requestTimeoutMs);
    const timeoutMs = this.#rebalanceTimeoutMs + joinMarginMs;
    const answered = new AbortController();
    try {
      const answer = this.#askNode(node, this.#members, call, timeoutMs, codeOf);
      return await Promise.race([answer, this.#untilReplaced(node, answered.signal)]);
    } finally {
      answered.abort();
    }
  }

  /** Rejects once another broker coordinates the group, or when that is no longer wanted. */
  async #untilReplaced(node: number, signal: AbortSignal): Promise<never> {
    for (;;) {
      await sleep(this.#requestTimeoutMs, undefined, { signal });
      const found = await this.#members
        .coordinator(this.#options.group, this.#requestTimeoutMs)
        .catch(() => node);
      if (found === node) continue;
      this.#forget(node);
      throw new KafkaError('unreachable', true, `broker ${found} coordinates the group now, and not ${node}`);
    }
  }

  async #find(client: KafkaClient, timeoutMs: number): Promise<number> {
    this.#node ??= await client.coordinator(this.#options.group, timeoutMs);
    return this.#node;
  }

  async #askNode<T>(
    node: number,
    client: KafkaClient,
    call: WireCall<T>,
    timeoutMs: number,
    codeOf: (answer: T) => number,
  ): Promise<T> {
    try {
      const answer = await client.send(node, call, timeoutMs);
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
