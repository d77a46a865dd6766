// What an appender knows of its topic: who leads what, as brokers told last, and whether it is still the topic that was
// opened. Runs on the appender's thread; it asks only when it is told to look.

import { performance } from 'node:perf_hooks';
import { EssError } from '../../errors.ts';
import type { KafkaClient } from './client.ts';
import { KafkaError } from './kafka_error.ts';
import type { PartitionView, TopicView } from './topic_view.ts';
import { kafkaErrors } from './wire/errors.ts';

/** A topic that brokers do not know for this long is gone, ms. One that has just started may not know it yet. */
const goneAfterMs = 2_000;

/** Called on the watch's thread whenever brokers have told of the same topic. */
export interface TopicListener {
  /** The partition has another leader or other replicas than before. */
  moved(partition: PartitionView): void;
  seen(view: TopicView): void;
}

export class TopicWatch {
  /** The topic's id when it was opened. */
  readonly epoch: string;
  readonly partitions: number;
  readonly #client: KafkaClient;
  readonly #topic: string;
  readonly #listener: TopicListener;
  #view: TopicView;
  #viewAtMs = performance.now();
  #looking: Promise<void> | null = null;
  #goneSinceMs = 0;
  #changed = '';
  #isClosed = false;

  /** `client` asks about its own target's topic. */
  constructor(client: KafkaClient, view: TopicView, listener: TopicListener) {
    this.epoch = view.topicId;
    this.partitions = view.partitions.length;
    this.#client = client;
    this.#topic = client.target.topic;
    this.#listener = listener;
    this.#view = view;
  }

  /** The last view of the topic that was opened. */
  get view(): TopicView {
    return this.#view;
  }

  /** When that came, by the monotonic clock. */
  get viewAtMs(): number {
    return this.#viewAtMs;
  }

  /** Why the topic is another one now; empty while it is not. */
  get changed(): string {
    return this.#changed;
  }

  /** Looks at the topic unless that was done less than `ageMaxMs` ago. Never rejects. */
  async look(ageMaxMs = 0): Promise<void> {
    if (this.#isClosed || performance.now() - this.#viewAtMs < ageMaxMs) return;
    this.#looking ??= this.#lookNow().finally(() => {
      this.#looking = null;
    });
    return this.#looking;
  }

  /** The next look asks another broker than the last: that one may lag. */
  forget(): void {
    this.#client.forget();
  }

  /** A view that is not older than `ageMaxMs`, or the last one if no broker answers. Rejects with `log_changed`. */
  async viewNow(ageMaxMs: number): Promise<TopicView> {
    await this.look(ageMaxMs);
    if (this.#changed !== '') throw new EssError('log_changed', this.#changed);
    return this.#view;
  }

  close(): void {
    this.#isClosed = true;
  }

  async #lookNow(): Promise<void> {
    try {
      const view = await this.#client.metadata(0);
      this.#goneSinceMs = 0;
      this.#take(view);
    } catch (error) {
      if (!(error instanceof KafkaError)) throw error;
      if (error.protocolCode !== kafkaErrors.UNKNOWN_TOPIC_OR_PARTITION.code) return;
      const nowMs = performance.now();
      if (this.#goneSinceMs === 0) this.#goneSinceMs = nowMs;
      if (nowMs - this.#goneSinceMs > goneAfterMs) this.#changed = `topic ${this.#topic} is gone`;
    }
  }

  #take(view: TopicView): void {
    const topic = this.#topic;
    // Fewer partitions are an old answer: their number only ever grows.
    if (view.topicId === this.epoch && view.partitions.length < this.partitions) return;
    if (view.topicId !== this.epoch) this.#changed = `topic ${topic} was made anew`;
    else if (view.partitions.length !== this.partitions)
      this.#changed = `topic ${topic} has ${view.partitions.length} partitions now, it had ${this.partitions}`;
    if (this.#changed !== '') return;
    for (const [partition, now] of view.partitions.entries()) {
      const before = this.#view.partitions[partition];
      const isSame =
        before !== undefined &&
        before.leader === now.leader &&
        before.leaderEpoch === now.leaderEpoch &&
        before.inSync.length === now.inSync.length &&
        before.inSync.every((nodeId) => now.inSync.includes(nodeId));
      if (!isSame) this.#listener.moved(now);
    }
    this.#view = view;
    this.#viewAtMs = performance.now();
    this.#listener.seen(view);
  }
}
