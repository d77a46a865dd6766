// What ESS needs of its topics, how to see whether a topic has it, and how to make one that does. Used by `ess init`
// and by the checks at the start, on the main thread, and by appenders when they open. Changes nothing that exists.

import { performance } from 'node:perf_hooks';
import { EssError } from '../../errors.ts';
import type { KafkaClient } from './client.ts';
import { KafkaError } from './kafka_error.ts';

/** Kafka's names of the settings that matter here. */
export const topicConfigNames = {
  minInsyncReplicas: 'min.insync.replicas',
  cleanupPolicy: 'cleanup.policy',
  retentionMs: 'retention.ms',
  retentionBytes: 'retention.bytes',
  timestampType: 'message.timestamp.type',
  maxMessageBytes: 'max.message.bytes',
  compressionType: 'compression.type',
  uncleanElection: 'unclean.leader.election.enable',
} as const;

/**
 * Default of `max.message.bytes` for topics made by ESS: a batch is all that one append has for one partition, and one
 * that must be cut can get other records between its parts, which costs its sender a repeat. Kafka's default of 1 MiB
 * would be reached by many large events of one key. Bytes.
 */
export const maxMessageBytesDefault = 16 * 1024 * 1024;

const topicResource = 2;
/** DYNAMIC_TOPIC_CONFIG of DescribeConfigs. */
const topicConfigSource = 1;
const topicAlreadyExists = 36;
const unknownTopic = 3;
/** TOPIC_, GROUP_ and CLUSTER_AUTHORIZATION_FAILED. */
const notPermitted: ReadonlySet<number | undefined> = new Set([29, 30, 31]);

const configTimeoutMs = 10_000;
/** CreateTopics: within this the controller must have made it, ms. */
const createTimeoutMs = 30_000;
/** After that brokers still have to hear of it: metadata is asked this often until all partitions have leaders, ms. */
const readyPollMs = 100;
const readyTimeoutMs = 30_000;

/** A topic as it is. */
export interface TopicFound {
  readonly name: string;
  /** 32 hex digits. */
  readonly topicId: string;
  readonly partitions: number;
  /** Replicas of the partition that has the fewest. */
  readonly replicationFactor: number;
  /** Every setting with its value in force, by Kafka's name; null if this user may not read them. */
  readonly configs: ReadonlyMap<string, string> | null;
  /** The settings that were made for this topic alone. */
  readonly ownConfigs: ReadonlyMap<string, string>;
}

/** A topic as it should be. */
export interface TopicWanted {
  readonly name: string;
  readonly partitions: number;
  readonly replicationFactor: number;
  readonly minInsyncReplicas: number;
  /** True for the dead letters: the newest record of each key is kept for ever. False: nothing is compacted away. */
  readonly isCompacted: boolean;
  /** Largest record batch, bytes. */
  readonly maxMessageBytes: number;
}

/** Something that is not as it should be. */
export interface Difference {
  readonly what: string;
  readonly found: string;
  readonly wanted: string;
  /** The promise that does not hold while it is so. */
  readonly breaks: string;
  /** What to run. */
  readonly mend: string;
}

/** The topic, or null if there is none. Rejects with KafkaError. */
export async function readTopic(client: KafkaClient, topic: string): Promise<TopicFound | null> {
  let view: Awaited<ReturnType<KafkaClient['metadata']>>;
  try {
    view = await client.metadata(0, undefined, topic);
  } catch (error) {
    if (error instanceof KafkaError && error.protocolCode === unknownTopic) return null;
    throw error;
  }
  const described = await describe(client, topic);
  return {
    name: topic,
    topicId: view.topicId,
    partitions: view.partitions.length,
    replicationFactor: Math.min(...view.partitions.map(({ replicas }) => replicas.length)),
    configs: described?.all ?? null,
    ownConfigs: described?.own ?? new Map(),
  };
}

/** All settings in force, and those of the topic itself; null if they may not be read. */
async function describe(
  client: KafkaClient,
  topic: string,
): Promise<{ readonly all: Map<string, string>; readonly own: Map<string, string> } | null> {
  try {
    const { resources } = await client.withBroker('any', configTimeoutMs, (broker) =>
      broker.describeConfigs({ resources: [{ type: topicResource, name: topic }] }),
    );
    const all = new Map<string, string>();
    const own = new Map<string, string>();
    for (const { configName, configValue, configSource } of resources[0]?.configEntries ?? []) {
      if (configValue === null) continue;
      all.set(configName, configValue);
      if (configSource === topicConfigSource) own.set(configName, configValue);
    }
    return { all, own };
  } catch (error) {
    if (error instanceof KafkaError && notPermitted.has(error.protocolCode)) return null;
    throw error;
  }
}

/** What of `found` breaks a promise. An empty list: everything is as it should be, as far as it can be read. */
export function compareTopic(found: TopicFound, wanted: TopicWanted): Difference[] {
  const { name } = wanted;
  const differences: Difference[] = [];
  if (found.partitions !== wanted.partitions) {
    const isFewer = found.partitions < wanted.partitions;
    differences.push({
      what: `${name}: partitions`,
      found: String(found.partitions),
      wanted: String(wanted.partitions),
      breaks: wanted.isCompacted
        ? 'dead letters are read from one partition'
        : 'the partitions that the configuration names are those that are used',
      mend:
        isFewer && !wanted.isCompacted ? 'ess init --apply' : `start with --partitions=${found.partitions}`,
    });
  }
  if (found.replicationFactor < wanted.replicationFactor) {
    differences.push({
      what: `${name}: replicas`,
      found: String(found.replicationFactor),
      wanted: String(wanted.replicationFactor),
      breaks: 'an acknowledged event survives the loss of a broker, and appends go on meanwhile',
      mend: `kafka-reassign-partitions.sh --topics-to-move-json-file, with ${wanted.replicationFactor} replicas each`,
    });
  }
  const { configs } = found;
  if (configs === null) return differences;
  const check = (config: string, isFine: (value: string) => boolean, want: string, breaks: string) => {
    const value = configs.get(config);
    if (value === undefined || isFine(value)) return;
    differences.push({
      what: `${name}: ${config}`,
      found: value,
      wanted: want,
      breaks,
      mend: 'ess init --apply',
    });
  };
  check(
    topicConfigNames.minInsyncReplicas,
    (value) => Number(value) >= wanted.minInsyncReplicas,
    String(wanted.minInsyncReplicas),
    'an acknowledged event is on that many brokers',
  );
  check(
    topicConfigNames.uncleanElection,
    (value) => value !== 'true',
    'false',
    'an acknowledged event is not lost when a broker that lags behind becomes the leader',
  );
  check(
    topicConfigNames.maxMessageBytes,
    (value) => Number(value) >= wanted.maxMessageBytes,
    String(wanted.maxMessageBytes),
    'whatever ESS accepts fits into the topic, as one batch',
  );
  if (wanted.isCompacted) {
    check(
      topicConfigNames.cleanupPolicy,
      (value) => value === 'compact',
      'compact',
      'dead letters are kept until they are dealt with',
    );
    return differences;
  }
  check(
    topicConfigNames.cleanupPolicy,
    (value) => value === 'delete',
    'delete',
    'every acknowledged event reaches the store: compaction drops events that share a key',
  );
  check(
    topicConfigNames.timestampType,
    (value) => value === 'CreateTime',
    'CreateTime',
    'the ingest time of an event is set once, by ESS',
  );
  return differences;
}

/** The settings that `createTopic` gives a topic; `ess init --apply` puts the same in force. */
export function wantedConfigs(wanted: TopicWanted): ReadonlyMap<string, string> {
  return new Map([
    [topicConfigNames.minInsyncReplicas, String(wanted.minInsyncReplicas)],
    [topicConfigNames.uncleanElection, 'false'],
    [topicConfigNames.maxMessageBytes, String(wanted.maxMessageBytes)],
    [topicConfigNames.cleanupPolicy, wanted.isCompacted ? 'compact' : 'delete'],
    [topicConfigNames.timestampType, 'CreateTime'],
  ]);
}

/**
 * Makes the topic and waits until every partition has a leader. If it is there already, nothing is changed. Rejects
 * with KafkaError, or with `log_unavailable` if it is made but not ready in time.
 */
export async function createTopic(client: KafkaClient, wanted: TopicWanted): Promise<void> {
  const configEntries = [...wantedConfigs(wanted)].map(([name, value]) => ({ name, value }));
  try {
    await client.withBroker('any', createTimeoutMs + configTimeoutMs, (broker) =>
      broker.createTopics({
        topics: [
          {
            topic: wanted.name,
            numPartitions: wanted.partitions,
            replicationFactor: wanted.replicationFactor,
            configEntries,
          },
        ],
        timeout: createTimeoutMs,
      }),
    );
  } catch (error) {
    if (!(error instanceof KafkaError) || error.protocolCode !== topicAlreadyExists) throw error;
  }
  // The controller has it; the brokers hear of it one after the other.
  const until = performance.now() + readyTimeoutMs;
  for (;;) {
    try {
      client.forget();
      const { partitions } = await client.metadata(0, undefined, wanted.name);
      if (partitions.every(({ leader }) => leader >= 0)) return;
    } catch (error) {
      if (!(error instanceof KafkaError) || error.protocolCode !== unknownTopic) throw error;
    }
    if (performance.now() > until)
      throw new EssError('log_unavailable', `topic ${wanted.name} was made but has no leaders yet`);
    await new Promise((resolve) => setTimeout(resolve, readyPollMs));
  }
}
