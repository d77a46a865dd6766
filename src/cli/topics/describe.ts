// `ess topics describe`: asks the cluster all that there is to say of the two topics, as plain data. Changes nothing; runs
// on the main thread of that command. report.ts prints it.

import { shardCount } from '../../config/clickhouse.ts';
import { askBounds, type Bounds, byLeader } from '../../log/kafka/bounds.ts';
import { positionsCall } from '../../log/kafka/group_calls.ts';
import { KafkaError } from '../../log/kafka/kafka_error.ts';
import { readPosition } from '../../log/kafka/position_stamp.ts';
import { readTopic, topicConfigNames } from '../../log/kafka/topics.ts';
import { logDirsCall } from '../../log/kafka/wire/log_dirs.ts';
import { type ClusterView, check, type Topic, type TopicsCluster } from './cluster.ts';
import type { TopicsOptions } from './options.ts';
import { isThrottled, throttleRates, unthrottleCommand } from './throttle.ts';

/** What a broker does not answer within this is left out, ms. */
const questionTimeoutMs = 5_000;

/** The settings that are shown. */
const shownConfigs = [
  topicConfigNames.minInsyncReplicas,
  topicConfigNames.cleanupPolicy,
  topicConfigNames.retentionMs,
  topicConfigNames.retentionBytes,
  topicConfigNames.maxMessageBytes,
  topicConfigNames.uncleanElection,
  topicConfigNames.timestampType,
  topicConfigNames.compressionType,
] as const;

/** Field names are those of the JSON; null is what could not be had. */
export interface PartitionReport {
  readonly partition: number;
  /** -1: none. */
  readonly leader: number;
  readonly preferred_leader: number;
  readonly replicas: readonly number[];
  readonly in_sync_replicas: readonly number[];
  /** Replicas that are on their way to a broker, or from it. */
  readonly adding: readonly number[];
  readonly removing: readonly number[];
  readonly start_offset: number | null;
  readonly end_offset: number | null;
  /** Of the sinks' group; null also where nothing was committed, and for dead letters. */
  readonly position: number | null;
  readonly lag: number | null;
  /** Of the leader's copy. */
  readonly bytes: number | null;
}

export interface TopicReport {
  readonly topic: string;
  readonly role: 'events' | 'dead_letters';
  readonly topic_id: string;
  readonly partition_count: number;
  /** Of the partition that has the fewest. */
  readonly replication_factor: number;
  /** By Kafka's names; null if this user may not read them. */
  readonly settings: Readonly<Record<string, string>> | null;
  /** True if the copying of replicas is held back; null if this user may not read it. */
  readonly is_throttled: boolean | null;
  readonly partitions: readonly PartitionReport[];
}

export interface BrokerReport {
  readonly id: number;
  readonly address: string;
  readonly is_controller: boolean;
  readonly replicas: number;
  readonly leaders: number;
  /** Of all copies here. */
  readonly bytes: number | null;
  /** How fast it copies replicas that are throttled, bytes a second; null if it has no rate of its own, or does not tell. */
  readonly throttle_bytes: number | null;
}

export interface TopicsReport {
  readonly group: string;
  readonly brokers: readonly BrokerReport[];
  readonly topics: readonly TopicReport[];
  /** What is uneven or at risk, and what mends it. */
  readonly findings: readonly string[];
}

/** Rejects with `log_unavailable`. */
export async function describeTopics(
  cluster: TopicsCluster,
  { config }: TopicsOptions,
): Promise<TopicsReport> {
  const view = await cluster.view();
  const ongoing = await cluster.ongoing(view);
  const sizes = await Promise.all(view.topics.map((topic) => sizesOf(cluster, view, topic)));
  const rates = await throttleRates(cluster, view);
  const topics = await Promise.all(
    view.topics.map(async (topic, index): Promise<TopicReport> => {
      const [bounds, positions, found] = await Promise.all([
        boundsOf(cluster, topic),
        topic.isDeadLetters ? new Map<number, number>() : positionsOf(cluster, topic),
        cluster.insist(`the settings of topic ${topic.name}`, () => readTopic(cluster.client, topic.name)),
      ]);
      const configs = found?.configs ?? null;
      return {
        topic: topic.name,
        role: topic.isDeadLetters ? 'dead_letters' : 'events',
        topic_id: topic.topicId,
        partition_count: topic.partitions.length,
        replication_factor: Math.min(...topic.partitions.map(({ replicas }) => replicas.length)),
        settings:
          configs === null
            ? null
            : Object.fromEntries(
                shownConfigs.flatMap((name) => {
                  const value = configs.get(name);
                  return value === undefined ? [] : [[name, value]];
                }),
              ),
        is_throttled: found === null || configs === null ? null : isThrottled(found),
        partitions: topic.partitions.map(({ partition, leader, replicas, inSync }): PartitionReport => {
          const away = ongoing.find((other) => other.topic === topic.name && other.partition === partition);
          const { start, end } = bounds.get(partition) ?? { start: null, end: null };
          const position = positions?.get(partition) ?? null;
          // Nothing committed: the sinks begin at the start.
          const from = topic.isDeadLetters || positions === null ? null : (position ?? start);
          return {
            partition,
            leader,
            preferred_leader: replicas[0] ?? -1,
            replicas,
            in_sync_replicas: inSync,
            adding: away?.adding ?? [],
            removing: away?.removing ?? [],
            start_offset: start,
            end_offset: end,
            position,
            lag: end === null || from === null ? null : Math.max(end - from, 0),
            bytes: sizes[index]?.get(leader)?.get(partition) ?? null,
          };
        }),
      };
    }),
  );
  const brokers = view.brokers.map(({ nodeId, host, port }): BrokerReport => {
    const all = topics.flatMap(({ partitions }) => partitions);
    const here = sizes.map((ofTopic) => ofTopic.get(nodeId));
    const isKnown = here.every((found) => found !== undefined);
    return {
      id: nodeId,
      address: host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`,
      is_controller: nodeId === view.controllerId,
      replicas: all.filter(({ replicas }) => replicas.includes(nodeId)).length,
      leaders: all.filter(({ leader }) => leader === nodeId).length,
      bytes: isKnown
        ? here.flatMap((found) => [...(found?.values() ?? [])]).reduce((sum, bytes) => sum + bytes, 0)
        : null,
      throttle_bytes: rates.get(nodeId) ?? null,
    };
  });
  const findings = findingsOf(topics, brokers, shardCount(config));
  return { group: cluster.target.group, brokers, topics, findings };
}

/** Without the partitions of which nobody tells. */
async function boundsOf({ client }: TopicsCluster, topic: Topic): Promise<Map<number, Bounds>> {
  const found = await Promise.all(
    [...byLeader(topic.partitions)].map(([leader, led]) =>
      askBounds(client, topic.name, leader, led, questionTimeoutMs),
    ),
  );
  return new Map(found.flatMap((bounds) => [...bounds]));
}

/** What the group of the sinks has committed for this very topic; null if the group's coordinator does not tell. */
async function positionsOf(
  { client, target }: TopicsCluster,
  topic: Topic,
): Promise<Map<number, number> | null> {
  try {
    const coordinator = await client.coordinator(target.group, questionTimeoutMs);
    const partitions = topic.partitions.map(({ partition }) => partition);
    const call = positionsCall(target.group, topic.name, partitions, false);
    const { errorCode, positions } = await client.send(coordinator, call, questionTimeoutMs);
    check(errorCode);
    return new Map(
      positions
        .map((found): [number, number] => [found.partition, readPosition(topic.topicId, found).offset])
        .filter(([, offset]) => offset >= 0),
    );
  } catch (error) {
    if (!(error instanceof KafkaError)) throw error;
    return null;
  }
}

/** Bytes of each copy, by broker and partition; without the brokers that do not tell. */
async function sizesOf(
  { client }: TopicsCluster,
  { brokers }: ClusterView,
  { name, partitions }: Topic,
): Promise<Map<number, ReadonlyMap<number, number>>> {
  const call = logDirsCall(
    name,
    partitions.map(({ partition }) => partition),
  );
  const sizes = new Map<number, ReadonlyMap<number, number>>();
  await Promise.all(
    brokers.map(async ({ nodeId }) => {
      try {
        const { errorCode, dirs } = await client.send(nodeId, call, questionTimeoutMs);
        if (errorCode === 0) sizes.set(nodeId, new Map(dirs.flatMap((dir) => [...dir.partitions])));
      } catch (error) {
        if (!(error instanceof KafkaError)) throw error;
      }
    }),
  );
  return sizes;
}

/** What is uneven or at risk. Pure. */
export function findingsOf(
  topics: readonly TopicReport[],
  brokers: readonly BrokerReport[],
  shards: number,
): string[] {
  const findings: string[] = throttleFindings(topics, brokers);
  const ids = brokers.map(({ id }) => id);
  for (const { topic, role, partitions, settings, partition_count: count } of topics) {
    const tell = (found: readonly PartitionReport[], text: string): void => {
      if (found.length === 0) return;
      const named = found.map(({ partition }) => partition).join(', ');
      findings.push(`${topic}: partition${found.length === 1 ? '' : 's'} ${named}: ${text}`);
    };
    const minInsync = Number(settings?.[topicConfigNames.minInsyncReplicas] ?? 1);
    tell(
      partitions.filter(({ leader }) => leader < 0),
      'no leader, nothing can be written or read; bring the brokers of its replicas back',
    );
    tell(
      partitions.filter((each) => each.leader >= 0 && each.in_sync_replicas.length < minInsync),
      `fewer in-sync replicas than min.insync.replicas (${minInsync}), nothing can be written; bring the brokers back`,
    );
    tell(
      partitions.filter((each) => isBehind(each) && each.in_sync_replicas.length >= minInsync),
      'under-replicated; see which broker is down or behind',
    );
    tell(
      partitions.filter(({ adding, removing }) => adding.length + removing.length > 0),
      'being moved; ess topics move with the same brokers watches it',
    );
    tell(
      partitions.filter(
        (each) => each.leader >= 0 && each.leader !== each.preferred_leader && !isBehind(each),
      ),
      'not led by its preferred replica; ess topics elect',
    );
    if (role !== 'events') continue;
    if (count % shards !== 0) {
      const next = Math.ceil(count / shards) * shards;
      findings.push(
        `${topic}: ${count} partitions are no multiple of the ${shards} shards; ess topics add-partitions ${next}`,
      );
    }
    const mend = `ess topics move --brokers ${ids.join(',')}`;
    const held = ids.map((id) => partitions.filter(({ replicas }) => replicas.includes(id)).length);
    const led = ids.map((id) => partitions.filter((each) => each.preferred_leader === id).length);
    if (isUneven(held)) findings.push(`${topic}: replicas are uneven (${shares(ids, held)}); ${mend}`);
    else if (isUneven(led))
      findings.push(`${topic}: preferred leaders are uneven (${shares(ids, led)}); ${mend}`);
  }
  return findings;
}

function throttleFindings(topics: readonly TopicReport[], brokers: readonly BrokerReport[]): string[] {
  const throttled = topics.filter((topic) => topic.is_throttled === true);
  const rates = brokers.flatMap(({ id, throttle_bytes: bytes }) =>
    bytes === null ? [] : [`broker ${id}: ${bytes} bytes/s`],
  );
  const rate = rates.length === 0 ? 'no broker has a rate' : rates.join(', ');
  if (throttled.length === 0) {
    const harmless = 'which holds back no topic of ESS';
    return rates.length === 0 ? [] : [`replication throttle ${rate}, ${harmless}; ${unthrottleCommand}`];
  }
  const isMoving = throttled.some(({ partitions }) =>
    partitions.some(({ adding, removing }) => adding.length + removing.length > 0),
  );
  const when = isMoving ? 'a move is under way; once it is over' : 'left by a move, while none is under way';
  const names = throttled.map(({ topic }) => topic).join(', ');
  return [`${names}: copying of replicas is throttled (${rate}), ${when}: ${unthrottleCommand}`];
}

/** Those on their way are not behind yet. */
function isBehind({ replicas, in_sync_replicas: inSync, adding }: PartitionReport): boolean {
  return replicas.some((node) => !inSync.includes(node) && !adding.includes(node));
}

function isUneven(counts: readonly number[]): boolean {
  return Math.max(...counts) - Math.min(...counts) > 1;
}

function shares(ids: readonly number[], counts: readonly number[]): string {
  return ids.map((id, index) => `broker ${id}: ${counts[index]}`).join(', ');
}
