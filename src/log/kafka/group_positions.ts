// The positions that a consumer group has committed, for those who are not its members. Runs on the threads of appenders,
// which learn from it how far the sinks have come.

import { performance } from 'node:perf_hooks';
import { EssError } from '../../errors.ts';
import type { LogPosition } from '../log.ts';
import type { KafkaClient } from './client.ts';
import { groupErrors, positionsCall } from './group_calls.ts';
import { KafkaError, refusal } from './kafka_error.ts';
import { Pauses, retryPauseMs } from './pauses.ts';
import { readPosition } from './position_stamp.ts';
import type { KafkaTarget } from './target.ts';

/** Bound on one question with all its repeats, ms. */
const askTimeoutMs = 5_000;
/** A coordinator that is silent for this long may have been replaced: it is looked for anew, ms. */
const patienceMs = 1_000;

const none: LogPosition = { offset: -1, metadata: '' };

/** What is needed of a client. */
export type PositionsClient = Pick<KafkaClient, 'coordinator' | 'send'> & {
  readonly target: Pick<KafkaTarget, 'group' | 'topic'>;
};

export class GroupPositions {
  readonly #client: PositionsClient;
  readonly #epoch: string;
  readonly #pauses = new Pauses();
  #coordinator: number | null = null;
  #isClosed = false;

  /** Of the group and the topic of the client's target; `epoch` is that topic's id. */
  constructor(client: PositionsClient, epoch: string) {
    this.#client = client;
    this.#epoch = epoch;
  }

  /** Positions of these partitions, in order. Rejects with `log_unavailable` after 5 s. */
  async read(partitions: readonly number[]): Promise<LogPosition[]> {
    const untilMs = performance.now() + askTimeoutMs;
    for (let attempt = 0; ; attempt += 1) {
      try {
        const found = await this.#ask(partitions, untilMs);
        return partitions.map((partition) => found.get(partition) ?? none);
      } catch (error) {
        this.#coordinator = null;
        // Whatever it was, the coordinator may have moved.
        if (!(error instanceof KafkaError)) throw error;
        const pauseMs = retryPauseMs(attempt);
        if (this.#isClosed || performance.now() + pauseMs > untilMs) {
          const { group } = this.#client.target;
          const text = `the positions of group ${group} cannot be read: ${error.message}`;
          throw new EssError('log_unavailable', text, { cause: error });
        }
        await this.#pauses.pause(pauseMs);
      }
    }
  }

  close(): void {
    this.#isClosed = true;
    this.#pauses.end();
  }

  async #ask(partitions: readonly number[], untilMs: number): Promise<Map<number, LogPosition>> {
    const { group, topic } = this.#client.target;
    const leftMs = (): number => Math.max(untilMs - performance.now(), 1);
    this.#coordinator ??= await this.#client.coordinator(group, leftMs());
    // A position that is being replaced this moment is as good as the next one: it only ever says less.
    const call = positionsCall(group, topic, partitions, false);
    const { errorCode, positions } = await this.#client.send(
      this.#coordinator,
      call,
      Math.min(leftMs(), patienceMs),
    );
    if (errorCode !== groupErrors.none) throw refusal(errorCode);
    return new Map(positions.map((found) => [found.partition, readPosition(this.#epoch, found)]));
  }
}
