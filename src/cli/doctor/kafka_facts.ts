// What Kafka says about itself, each thing asked once, when the first check wants it, and of no broker longer than one
// question may take. Runs on the main thread of a process of its own; changes nothing.

import { askBounds, type Bounds, byLeader } from '../../log/kafka/bounds.ts';
import { KafkaClient } from '../../log/kafka/client.ts';
import { type CommittedPosition, positionsCall } from '../../log/kafka/group_calls.ts';
import { KafkaError, refusal } from '../../log/kafka/kafka_error.ts';
import type { KafkaTarget } from '../../log/kafka/target.ts';
import { readTopic, type TopicFound } from '../../log/kafka/topics.ts';
import { describeQuorumCall, type QuorumAnswer } from '../../log/kafka/wire/describe_quorum.ts';
import { listOffsetsCall } from '../../log/kafka/wire/list_offsets.ts';
import { type LogDirsAnswer, logDirsCall } from '../../log/kafka/wire/log_dirs.ts';
import {
  type ClusterMetadata,
  metadataCall,
  type PartitionMetadata,
  type TopicMetadata,
} from '../../log/kafka/wire/metadata.ts';
import { reasonOf } from '../init/patience.ts';
import type { Deadline } from './patient.ts';

/** Where Kafka keeps the positions of groups. */
export const offsetsTopic = '__consumer_offsets';

/** Kafka's number for a broker in DescribeConfigs. */
const brokerResource = 4;

/** What one broker answered, or why it did not. */
export type Asked<T> = { readonly answer: T } | { readonly reason: string };

export interface Quorum extends QuorumAnswer {
  /** By the clock here, epoch ms: when it was asked and when the answer was there. */
  readonly sentMs: number;
  readonly receivedMs: number;
}

export class KafkaFacts {
  readonly target: KafkaTarget;
  readonly client: KafkaClient;
  readonly #deadline: Deadline;
  readonly #topics = new Map<string, Promise<TopicFound | null>>();

  /** No I/O. */
  constructor(target: KafkaTarget, deadline: Deadline) {
    this.target = target;
    this.#deadline = deadline;
    this.client = new KafkaClient(target, { name: 'ess-doctor', requestTimeoutMs: deadline.questionMs });
  }

  close(): Promise<void> {
    return this.client.close();
  }

  /** One of Kafka's own tools, as it has to be called to reach this cluster: "kafka-topics.sh --bootstrap-server ...". */
  tool(name: string): string {
    const { brokers, tls, sasl } = this.target;
    // Kafka's tools read what a client needs to be let in from a file.
    const access = tls === null && sasl === null ? '' : ' --command-config client.properties';
    return `${name} --bootstrap-server ${brokers.join(',')}${access}`;
  }

  /** The command that gives a setting of a topic this value. */
  settingMend(topic: string, setting: string, value: number): string {
    return `${this.tool('kafka-configs.sh')} --alter --entity-type topics --entity-name ${topic} --add-config ${setting}=${value}`;
  }

  /** Asks every address of --kafka-brokers; the answers by address. */
  readonly bootstrap = once(async (): Promise<ReadonlyMap<string, Asked<ClusterMetadata>>> => {
    const { topic, deadLetterTopic } = this.target;
    const ask = async (address: string): Promise<[string, Asked<ClusterMetadata>]> => {
      const name = 'ess-doctor';
      const requestTimeoutMs = this.#deadline.questionMs;
      const client = new KafkaClient({ ...this.target, brokers: [address] }, { name, requestTimeoutMs });
      try {
        const call = metadataCall([topic, deadLetterTopic, offsetsTopic]);
        return [address, { answer: await client.send('any', call, requestTimeoutMs) }];
      } catch (error) {
        return [address, { reason: reasonOf(error) }];
      } finally {
        await client.close();
      }
    };
    return new Map(await Promise.all(this.target.brokers.map(ask)));
  });

  /** The newest answer of them. Rejects with KafkaError if there is none. */
  readonly cluster = once(async (): Promise<ClusterMetadata> => {
    const asked = [...(await this.bootstrap()).values()];
    const answers = asked.flatMap((each) => ('answer' in each ? [each.answer] : []));
    // A broker that stood still tells of leaders of before: every election raises an epoch.
    const ageOf = ({ topics }: ClusterMetadata): number =>
      topics.flatMap(({ partitions }) => partitions).reduce((sum, { leaderEpoch }) => sum + leaderEpoch, 0);
    const [newest] = answers.toSorted((a, b) => ageOf(b) - ageOf(a));
    if (newest === undefined) {
      const reasons = asked.flatMap((each) => ('reason' in each ? [each.reason] : []));
      throw new KafkaError('unreachable', false, `no broker answers: ${reasons.join('; ')}`);
    }
    this.client.learn(newest.brokers);
    return newest;
  });

  /** A topic of ours, or the one of the positions; null if there is none. */
  async metadataOf(topic: string): Promise<TopicMetadata | null> {
    const found = (await this.cluster()).topics.find(({ name }) => name === topic);
    return found === undefined || found.errorCode !== 0 ? null : found;
  }

  /** Partitions of the topic of the events. Rejects if it is not there. */
  async partitions(): Promise<readonly PartitionMetadata[]> {
    const found = await this.metadataOf(this.target.topic);
    if (found === null) throw new KafkaError('protocol', true, `there is no topic ${this.target.topic}`);
    return found.partitions;
  }

  /** What a broker answers at the address that it advertises, by node id; null: it does. */
  readonly silence = once(async (): Promise<ReadonlyMap<number, string | null>> => {
    const asked = await this.#everywhere((nodeId, ms) => this.client.send(nodeId, metadataCall([]), ms));
    return new Map([...asked].map(([nodeId, each]) => [nodeId, 'reason' in each ? each.reason : null]));
  });

  /** Settings of each broker, by Kafka's names. */
  readonly brokerConfigs = once(() =>
    this.#everywhere(async (nodeId, ms): Promise<ReadonlyMap<string, string>> => {
      const { resources } = await this.client.withBroker(nodeId, ms, (broker) =>
        broker.describeConfigs({ resources: [{ type: brokerResource, name: String(nodeId) }] }),
      );
      const entries = resources[0]?.configEntries ?? [];
      return new Map(entries.map(({ configName, configValue }) => [configName, configValue ?? '']));
    }),
  );

  /** Log directories of each broker, with the bytes of the topic of the events. */
  readonly logDirs = once(async (): Promise<ReadonlyMap<number, Asked<LogDirsAnswer>>> => {
    const { topic } = this.target;
    const partitions = (await this.metadataOf(topic))?.partitions.map(({ partition }) => partition) ?? [];
    return this.#everywhere((nodeId, ms) => this.client.send(nodeId, logDirsCall(topic, partitions), ms));
  });

  /** Rejects with KafkaError if no controller answers; code 35 where the brokers do not know the question. */
  readonly quorum = once(async (): Promise<Quorum> => {
    const asked = await this.#everywhere(async (nodeId, ms): Promise<Quorum> => {
      const sentMs = Date.now();
      const answer = await this.client.send(nodeId, describeQuorumCall(), ms);
      if (answer.errorCode !== 0) throw refusal(answer.errorCode);
      return { ...answer, sentMs, receivedMs: Date.now() };
    });
    const told = [...asked.values()];
    const answers = told.flatMap((each) => ('answer' in each ? [each.answer] : []));
    // The quickest answer says most exactly what time it is there.
    const [quickest] = answers.toSorted((a, b) => a.receivedMs - a.sentMs - (b.receivedMs - b.sentMs));
    if (quickest !== undefined) return quickest;
    const reasons = told.flatMap((each) => ('reason' in each ? [each.reason] : []));
    throw new KafkaError('unreachable', true, reasons[0] ?? 'no broker is there');
  });

  /** Settings of a topic; null if there is no such topic. */
  async topic(name: string): Promise<TopicFound | null> {
    const asking = this.#topics.get(name) ?? readTopic(this.client, name);
    this.#topics.set(name, asking);
    return asking;
  }

  /** Node id. */
  readonly coordinator = once(() => this.client.coordinator(this.target.group, this.#deadline.questionMs));

  /** The group as it is now; null if the coordinator does not know it. */
  async group() {
    const { group } = this.target;
    const { groups } = await this.client.withBroker(
      await this.coordinator(),
      this.#deadline.questionMs,
      (broker) => broker.describeGroups({ groupIds: [group] }),
    );
    return groups.find(({ groupId }) => groupId === group) ?? null;
  }

  /** Positions as they lie in Kafka: offset -1 where none was committed. */
  readonly positions = once(async (): Promise<readonly CommittedPosition[]> => {
    const { group, topic } = this.target;
    const partitions = (await this.partitions()).map(({ partition }) => partition);
    const call = positionsCall(group, topic, partitions, false);
    const answer = await this.client.send(await this.coordinator(), call, this.#deadline.questionMs);
    if (answer.errorCode !== 0) throw refusal(answer.errorCode);
    return answer.positions;
  });

  /** Where partitions begin and end; without those whose leader does not tell. */
  readonly bounds = once(async (): Promise<ReadonlyMap<number, Bounds>> => {
    const led = byLeader(await this.partitions());
    const found = await Promise.all(
      [...led].map(([leader, partitions]) =>
        askBounds(this.client, this.target.topic, leader, partitions, this.#deadline.questionMs),
      ),
    );
    return new Map(found.flatMap((bounds) => [...bounds]));
  });

  /** First offset of each partition whose record is of this time (epoch ms) or later; -1: none is. */
  async offsetsAt(atMs: number): Promise<ReadonlyMap<number, number>> {
    const found = await Promise.all(
      [...byLeader(await this.partitions())].map(async ([leader, partitions]) => {
        const call = listOffsetsCall({ topic: this.target.topic, at: atMs, partitions });
        return this.client.send(leader, call, this.#deadline.questionMs);
      }),
    );
    const known = found.flat().filter(({ errorCode }) => errorCode === 0);
    return new Map(known.map(({ partition, offset }) => [partition, offset]));
  }

  /** Asks every broker of the cluster at the same time. */
  async #everywhere<T>(
    ask: (nodeId: number, timeoutMs: number) => Promise<T>,
  ): Promise<ReadonlyMap<number, Asked<T>>> {
    const { brokers } = await this.cluster();
    const asked = brokers.map(async ({ nodeId }): Promise<[number, Asked<T>]> => {
      try {
        return [nodeId, { answer: await ask(nodeId, this.#deadline.questionMs) }];
      } catch (error) {
        return [nodeId, { reason: reasonOf(error) }];
      }
    });
    return new Map(await Promise.all(asked));
  }
}

/** The same promise for everybody who asks. */
function once<T>(ask: () => Promise<T>): () => Promise<T> {
  let asking: Promise<T> | null = null;
  return () => {
    asking ??= ask();
    return asking;
  };
}
