// The cluster as `ess topics` sees and changes it: its two topics, fresh with every question, and what is being moved.
// Runs on the main thread of that command; every question has a deadline and is repeated for a while.

import { setTimeout as sleep } from 'node:timers/promises';
import { EssError } from '../../errors.ts';
import { KafkaClient } from '../../log/kafka/client.ts';
import { KafkaError, refusal } from '../../log/kafka/kafka_error.ts';
import type { KafkaTarget } from '../../log/kafka/target.ts';
import type { BrokerView, PartitionView } from '../../log/kafka/topic_view.ts';
import { kafkaErrors } from '../../log/kafka/wire/errors.ts';
import { metadataCall, type TopicMetadata } from '../../log/kafka/wire/metadata.ts';
import {
  alterReassignmentsCall,
  listReassignmentsCall,
  type OngoingReassignment,
  type Reassignment,
} from '../../log/kafka/wire/reassignments.ts';
import type { PartitionOutcome } from '../../log/kafka/wire/topic_partitions.ts';
import { type OnWaiting, Patience, reasonOf } from '../init/patience.ts';

/** One question, ms. */
const requestTimeoutMs = 10_000;
/**
 * A cluster that does not answer is asked again for so long, ms: twice what a broker waits for a controller that stands
 * still before it turns to the next one (controller.socket.timeout.ms, 30 s by default).
 */
const patienceMs = 60_000;
/** Each broker is asked so long whether it has heard of a change, ms: one that stands still is asked again. */
const hearTimeoutMs = 2_000;
const pollMs = 250;

/** The same question may be answered a moment later. */
const transientCodes: ReadonlySet<number | undefined> = new Set([
  kafkaErrors.REQUEST_TIMED_OUT.code,
  kafkaErrors.NETWORK_EXCEPTION.code,
  kafkaErrors.NOT_CONTROLLER.code,
  kafkaErrors.LEADER_NOT_AVAILABLE.code,
]);

/** A topic and what role it has. */
export interface Topic {
  readonly name: string;
  readonly isDeadLetters: boolean;
  readonly topicId: string;
  readonly partitions: readonly PartitionView[];
}

export interface ClusterView {
  /** By node id. */
  readonly brokers: readonly BrokerView[];
  readonly controllerId: number;
  /** The events first. */
  readonly topics: readonly [Topic, Topic];
}

export class TopicsCluster {
  readonly client: KafkaClient;
  readonly target: KafkaTarget;
  readonly #signal: AbortSignal;
  readonly #onWaiting: OnWaiting;

  /** No I/O. `signal`: of the interrupt, which ends what only looks. */
  constructor(target: KafkaTarget, signal: AbortSignal, onWaiting: OnWaiting) {
    this.target = target;
    this.#signal = signal;
    this.#onWaiting = onWaiting;
    this.client = new KafkaClient(target, { name: 'ess-topics', requestTimeoutMs });
  }

  /** Rejects with `log_unavailable`, also where a topic is missing. */
  view(): Promise<ClusterView> {
    const { topic, deadLetterTopic } = this.target;
    return this.insist('the cluster', async () => {
      this.client.forget();
      const events = await this.#topic(topic);
      const letters = await this.#topic(deadLetterTopic);
      return {
        brokers: [...events.brokers].sort((a, b) => a.nodeId - b.nodeId),
        controllerId: events.controllerId,
        topics: [
          { name: topic, isDeadLetters: false, topicId: events.topicId, partitions: events.partitions },
          {
            name: deadLetterTopic,
            isDeadLetters: true,
            topicId: letters.topicId,
            partitions: letters.partitions,
          },
        ],
      };
    });
  }

  /** What is being moved of both topics. */
  ongoing({ topics }: ClusterView): Promise<readonly OngoingReassignment[]> {
    const asked = new Map(
      topics.map(({ name, partitions }) => [name, partitions.map(({ partition }) => partition)]),
    );
    return this.insist('what is being moved', async (timeoutMs) => {
      const call = listReassignmentsCall(asked, timeoutMs);
      const { errorCode, errorMessage, ongoing } = await this.client.send('any', call, timeoutMs);
      check(errorCode, errorMessage);
      return ongoing;
    });
  }

  /** Asks the controller to move or to cancel; gives its answer about each partition. */
  reassign(reassignments: readonly Reassignment[]): Promise<readonly PartitionOutcome[]> {
    return this.change('the change', async (timeoutMs) => {
      const call = alterReassignmentsCall(reassignments, timeoutMs);
      const { errorCode, errorMessage, partitions } = await this.client.send('any', call, timeoutMs);
      check(errorCode, errorMessage);
      return partitions;
    });
  }

  /**
   * Waits until it holds in what every broker tells of the two topics: they hear of a change one after the other, and the
   * next command may ask any of them. False if time is over, or at an interrupt.
   */
  async isEverywhere(holds: (topics: readonly TopicMetadata[]) => boolean, waitMs: number): Promise<boolean> {
    const { topic, deadLetterTopic } = this.target;
    const endMs = Date.now() + waitMs;
    for (;;) {
      if (this.#signal.aborted) return false;
      const { brokers } = await this.view();
      const heard = await Promise.all(
        brokers.map(async ({ nodeId }) => {
          try {
            const call = metadataCall([topic, deadLetterTopic]);
            return holds((await this.client.send(nodeId, call, hearTimeoutMs)).topics);
          } catch (error) {
            if (!(error instanceof KafkaError)) throw error;
            return false;
          }
        }),
      );
      if (heard.every((isSo) => isSo)) return true;
      if (Date.now() > endMs || this.#signal.aborted) return false;
      await sleep(pollMs);
    }
  }

  /**
   * Repeats a question that changes nothing until it is answered or a minute is over, then rejects with
   * `log_unavailable`. A refusal that another try will not change is told at once. At an interrupt it rejects with
   * `stopping`.
   */
  async insist<T>(what: string, ask: (timeoutMs: number) => Promise<T>): Promise<T> {
    const signal = this.#signal;
    const asking = this.change(what, ask);
    return new Promise<T>((resolve, reject) => {
      const end = (): void => reject(new EssError('stopping', `${what}: interrupted`));
      if (signal.aborted) end();
      signal.addEventListener('abort', end, { once: true });
      asking.then(resolve, reject).finally(() => signal.removeEventListener('abort', end));
    });
  }

  /** The same for what changes something: at an interrupt its answer is waited for, but it is not tried again. */
  async change<T>(what: string, ask: (timeoutMs: number) => Promise<T>): Promise<T> {
    const answer = await new Patience(patienceMs, this.#onWaiting)
      .until(what, async (timeoutMs): Promise<{ readonly value: T } | EssError> => {
        try {
          return { value: await ask(timeoutMs) };
        } catch (error) {
          if (error instanceof EssError) return error;
          const isFinal =
            error instanceof KafkaError &&
            (error.kind === 'authentication' ||
              (error.protocolCode !== undefined && !transientCodes.has(error.protocolCode)));
          if (!isFinal && !this.#signal.aborted) throw error;
          const says = isFinal ? 'Kafka refuses' : what;
          return new EssError('log_unavailable', `${says}: ${reasonOf(error)}`, { cause: error });
        }
      })
      .catch((error: unknown) => {
        throw new EssError('log_unavailable', `${what}: ${reasonOf(error)}`, { cause: error });
      });
    if (answer instanceof EssError) throw answer;
    return answer.value;
  }

  close(): Promise<void> {
    return this.client.close();
  }

  async #topic(name: string) {
    try {
      return await this.client.metadata(0, undefined, name);
    } catch (error) {
      const isMissing =
        error instanceof KafkaError && error.protocolCode === kafkaErrors.UNKNOWN_TOPIC_OR_PARTITION.code;
      if (!isMissing) throw error;
      throw new EssError('log_unavailable', `there is no topic ${name}: ess init makes it`, { cause: error });
    }
  }
}

/** Throws KafkaError for an error code. */
export function check(errorCode: number, errorMessage: string | null = null): void {
  if (errorCode !== kafkaErrors.NONE.code) throw refusal(errorCode, errorMessage);
}
