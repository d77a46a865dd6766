// The positions that a consumer group has committed, for those who are not its members. Runs on the threads of appenders,
// which learn from it how far the sinks have come.

import { performance } from 'node:perf_hooks';
import { EssError } from '../../errors.ts';
import type { KafkaClient } from './client.ts';
import { KafkaError } from './kafka_error.ts';
import { Pauses, retryPauseMs } from './pauses.ts';

/** Bound on one question with all its repeats, ms. */
const askTimeoutMs = 5_000;

export class GroupPositions {
  readonly #client: KafkaClient;
  readonly #group: string;
  readonly #topic: string;
  readonly #pauses = new Pauses();
  #coordinator: number | null = null;
  #isClosed = false;

  /** Of the client's target. */
  constructor(client: KafkaClient) {
    this.#client = client;
    this.#group = client.target.group;
    this.#topic = client.target.topic;
  }

  /** Committed positions of these partitions, in order; 0 where none was committed. Rejects with `log_unavailable`. */
  async committed(partitions: readonly number[]): Promise<number[]> {
    const group = this.#group;
    const topic = this.#topic;
    const untilMs = performance.now() + askTimeoutMs;
    const asked = [{ topic, partitions: partitions.map((partition) => ({ partition })) }];
    for (let attempt = 0; ; attempt += 1) {
      const leftMs = Math.max(untilMs - performance.now(), 1);
      try {
        this.#coordinator ??= await this.#client.coordinator(group, leftMs);
        const { responses } = await this.#client.withBroker(this.#coordinator, leftMs, (broker) =>
          broker.offsetFetch({ groupId: group, topics: asked }),
        );
        const found = new Map<number, number>();
        for (const one of responses.find((response) => response.topic === topic)?.partitions ?? [])
          found.set(one.partition, Number(one.offset));
        return partitions.map((partition) => Math.max(found.get(partition) ?? 0, 0));
      } catch (error) {
        this.#coordinator = null;
        // Whatever it was, the coordinator may have moved.
        if (!(error instanceof KafkaError)) throw error;
        const pauseMs = retryPauseMs(attempt);
        if (this.#isClosed || performance.now() + pauseMs > untilMs) {
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
}
