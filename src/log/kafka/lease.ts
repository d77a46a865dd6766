// The right of this member to act for its partitions, in one generation of its group. Runs on sink threads. It ends
// once and for all: when the coordinator says so, or by itself when the coordinator may have given the partitions to
// others, because this process (or this machine) stood still for longer than its session.

import type { Membership } from './group_calls.ts';

/** A moment by two clocks. */
export interface Moment {
  /** Goes on while a process is stopped, but not on every machine while the machine sleeps. */
  readonly monotonicMs: number;
  /** Goes on while a machine sleeps, but is set now and then. */
  readonly wallMs: number;
}

export type Clock = () => Moment;

export const systemClock: Clock = () => ({ monotonicMs: performance.now(), wallMs: Date.now() });

export class Lease implements Membership {
  readonly generation: number;
  readonly memberId: string;
  readonly partitions: ReadonlySet<number>;
  readonly #sessionTimeoutMs: number;
  readonly #clock: Clock;
  #heard: Moment;
  #isOver = false;

  /** `heard`: when the request was sent whose answer shows that the session went on; not when the answer came. */
  constructor(
    { generation, memberId }: Membership,
    partitions: ReadonlySet<number>,
    sessionTimeoutMs: number,
    clock: Clock,
    heard: Moment,
  ) {
    this.generation = generation;
    this.memberId = memberId;
    this.partitions = partitions;
    this.#sessionTimeoutMs = sessionTimeoutMs;
    this.#clock = clock;
    this.#heard = heard;
  }

  /**
   * Looks at the clocks each time, since that is all that a process has that was just woken up. If either says that
   * the session is over, the lease is: a clock that was set forward costs one rebalance, a session overrun unnoticed
   * could cost more.
   */
  get isValid(): boolean {
    if (this.#isOver) return false;
    const { monotonicMs, wallMs } = this.#clock();
    this.#isOver =
      monotonicMs - this.#heard.monotonicMs >= this.#sessionTimeoutMs ||
      wallMs - this.#heard.wallMs >= this.#sessionTimeoutMs;
    return !this.#isOver;
  }

  /** The coordinator answered a request sent at this moment. What is over stays over. */
  renew(heard: Moment): void {
    if (this.isValid) this.#heard = heard;
  }

  end(): void {
    this.#isOver = true;
  }
}
