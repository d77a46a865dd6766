// How fast brokers copy replicas that `ess topics move` has sent on their way: Kafka's replication throttle, which is set
// before a move and has to be taken away after it, since it would hold back whatever falls behind later. Runs on the main
// thread of that command.

import { setTimeout as sleep } from 'node:timers/promises';
import { KafkaError } from '../../log/kafka/kafka_error.ts';
import { readTopic, type TopicFound } from '../../log/kafka/topics.ts';
import { alterConfigsCall, type ConfigChange, configResources } from '../../log/kafka/wire/alter_configs.ts';
import { type ClusterView, check, type TopicsCluster } from './cluster.ts';
import { comers, type Move } from './plan.ts';

/** Bytes a second that a broker sends, and takes, of the replicas that the topics name. */
const rateConfigs = ['leader.replication.throttled.rate', 'follower.replication.throttled.rate'] as const;
/** Of a topic: partition:broker, with commas. */
const replicaConfigs = {
  leader: 'leader.replication.throttled.replicas',
  follower: 'follower.replication.throttled.replicas',
} as const;

/** DYNAMIC_BROKER_CONFIG of DescribeConfigs: set for this very broker. */
const brokerConfigSource = 2;
/** What a broker does not answer within this is not known, ms. */
const questionTimeoutMs = 5_000;
/** Brokers hear of what the controller has done within this, ms. */
const hearMs = 10_000;
const pollMs = 250;

/** The command that takes a throttle away. */
export const unthrottleCommand = 'ess topics move --throttle-bytes 0';

/** True if the copying of replicas of this topic is throttled. */
export function isThrottled({ ownConfigs }: TopicFound): boolean {
  return Object.values(replicaConfigs).some((name) => (ownConfigs.get(name) ?? '') !== '');
}

/** Bytes a second, by broker; without those that have no rate of their own, or do not tell. */
export async function throttleRates(
  { client }: TopicsCluster,
  { brokers }: ClusterView,
): Promise<Map<number, number>> {
  const rates = new Map<number, number>();
  await Promise.all(
    brokers.map(async ({ nodeId }) => {
      try {
        const resource = { type: configResources.broker, name: String(nodeId), configNames: rateConfigs };
        const { resources } = await client.withBroker(nodeId, questionTimeoutMs, (broker) =>
          broker.describeConfigs({ resources: [resource] }),
        );
        const own = (resources[0]?.configEntries ?? [])
          .filter(({ configSource, configValue }) => configSource === brokerConfigSource && configValue)
          .map(({ configValue }) => Number(configValue));
        if (own.length > 0) rates.set(nodeId, Math.min(...own));
      } catch (error) {
        if (!(error instanceof KafkaError)) throw error;
      }
    }),
  );
  return rates;
}

/**
 * Lets each broker send and take no more than so many bytes a second of what is copied for these moves; gives the brokers
 * that have been told, none if nothing is copied. Rejects with `log_unavailable`; some may have been told by then.
 */
export async function setThrottle(
  cluster: TopicsCluster,
  { brokers, topics }: ClusterView,
  moves: readonly Move[],
  bytesPerSecond: number,
): Promise<number[]> {
  const copies = moves.filter(({ replicas, wanted }) => comers(replicas, wanted).length > 0);
  if (copies.length === 0) return [];
  const involved = new Set(copies.flatMap(({ replicas, wanted }) => [...replicas, ...wanted]));
  // One that is down copies nothing, and cannot be told.
  const told = brokers.map(({ nodeId }) => nodeId).filter((node) => involved.has(node));
  const rates = new Map(rateConfigs.map((name) => [name, String(bytesPerSecond)]));
  // The rates first: without one, what the topics name is not held back.
  for (const node of told) await change(cluster, node, [brokerChange(node, rates)]);
  const ofTopics = topics.flatMap(({ name }): ConfigChange[] => {
    const list = (nodesOf: (move: Move) => readonly number[]): string =>
      copies
        .filter(({ topic }) => topic === name)
        .flatMap((move) => nodesOf(move).map((node) => `${move.partition}:${node}`))
        .join(',');
    const leaders = list(({ replicas }) => replicas);
    if (leaders === '') return [];
    // Not those that are in sync: they have to stay it.
    const followers = list(({ replicas, wanted }) => comers(replicas, wanted));
    const configs = new Map([
      [replicaConfigs.leader, leaders],
      [replicaConfigs.follower, followers],
    ]);
    return [{ type: configResources.topic, name, configs }];
  });
  await change(cluster, 'any', ofTopics);
  return told;
}

/**
 * Takes the throttle away from both topics and from every broker, and waits until they have heard of it. Without `isForced`
 * only if one of the topics is under it: else the brokers' rates are somebody else's. False if there was nothing to take.
 * Rejects with `log_unavailable`.
 */
export async function removeThrottle(cluster: TopicsCluster, isForced: boolean): Promise<boolean> {
  const { topics, rates } = await findThrottle(cluster);
  if (topics.length === 0 && (rates.length === 0 || !isForced)) return false;
  const none = (names: readonly string[]): Map<string, null> => new Map(names.map((name) => [name, null]));
  if (topics.length > 0) {
    const configs = none(Object.values(replicaConfigs));
    const changes = topics.map((name) => ({ type: configResources.topic, name, configs }));
    await change(cluster, 'any', changes);
  }
  for (const node of rates) await change(cluster, node, [brokerChange(node, none(rateConfigs))]);
  for (const endMs = Date.now() + hearMs; Date.now() < endMs; await sleep(pollMs)) {
    const left = await findThrottle(cluster);
    if (left.topics.length + left.rates.length === 0) break;
  }
  return true;
}

/** The topics that are under a throttle, and the brokers that have a rate. */
async function findThrottle(
  cluster: TopicsCluster,
): Promise<{ readonly topics: readonly string[]; readonly rates: readonly number[] }> {
  const view = await cluster.view();
  const topics: string[] = [];
  for (const { name } of view.topics) {
    const found = await cluster.insist(`the settings of topic ${name}`, () =>
      readTopic(cluster.client, name),
    );
    if (found !== null && isThrottled(found)) topics.push(name);
  }
  return { topics, rates: [...(await throttleRates(cluster, view)).keys()] };
}

function brokerChange(node: number, configs: ReadonlyMap<string, string | null>): ConfigChange {
  return { type: configResources.broker, name: String(node), configs };
}

async function change(
  cluster: TopicsCluster,
  node: number | 'any',
  changes: readonly ConfigChange[],
): Promise<void> {
  await cluster.change('the throttle', async (timeoutMs) => {
    const outcomes = await cluster.client.send(node, alterConfigsCall(changes), timeoutMs);
    for (const { errorCode, errorMessage } of outcomes) check(errorCode, errorMessage);
  });
}
