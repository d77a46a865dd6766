// Kafka's part of `ess init`: waits until the cluster can do its work, then makes or compares the two topics. Runs on
// the main thread.

import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { shardCount } from '../../config/clickhouse.ts';
import type { Config } from '../../config/options.ts';
import { EssError } from '../../errors.ts';
import { KafkaClient } from '../../log/kafka/client.ts';
import { KafkaError, refusal } from '../../log/kafka/kafka_error.ts';
import type { KafkaTarget } from '../../log/kafka/target.ts';
import {
  compareTopic,
  createTopic,
  type Difference,
  maxMessageBytesDefault,
  readTopic,
  type TopicFound,
  type TopicWanted,
  wantedConfigs,
} from '../../log/kafka/topics.ts';
import { alterConfigsCall, configResources } from '../../log/kafka/wire/alter_configs.ts';
import { kafkaErrors } from '../../log/kafka/wire/errors.ts';
import { metadataCall } from '../../log/kafka/wire/metadata.ts';
import { type Patience, reasonOf } from './patience.ts';
import { type Finding, type Step, stepOf } from './step.ts';
import type { Mode } from './tables.ts';

/**
 * What a record has at most beside the event's JSON, bytes: id, type, source and subject once more, key, header and
 * the batch around it (event/parser.ts has their bounds; together below 3,700).
 */
const recordOverheadBytes = 4096;

/** One look-up may take so long over all brokers, ms. */
const requestTimeoutMs = 5_000;
/** The controller may take so long for a change, and the brokers so long to hear of it, ms. */
const changeTimeoutMs = 30_000;
const changePollMs = 200;
/** A topic that was made a moment ago is known to one broker after the other: missing for so long, it is missing, ms. */
const missingAfterMs = 3_000;

/** Another attempt may make the topic: the controller has just changed, or not all brokers are registered with it. */
const transientCodes: ReadonlySet<number | undefined> = new Set([
  kafkaErrors.REQUEST_TIMED_OUT.code,
  kafkaErrors.NETWORK_EXCEPTION.code,
  kafkaErrors.NOT_CONTROLLER.code,
  kafkaErrors.INVALID_REPLICATION_FACTOR.code,
]);

interface Work {
  readonly client: KafkaClient;
  readonly target: KafkaTarget;
  readonly config: Config;
  readonly mode: Mode;
  readonly patience: Patience;
  /** Somebody has said how many partitions there are to be. */
  readonly isPartitionsGiven: boolean;
}

/** Settles the cluster and both topics; `isPartitionsGiven`: the number of partitions is wanted, not a default. */
export async function settleKafka(
  target: KafkaTarget,
  config: Config,
  isPartitionsGiven: boolean,
  mode: Mode,
  patience: Patience,
): Promise<Step[]> {
  const client = new KafkaClient(target, { name: 'ess-init', requestTimeoutMs });
  const work: Work = { client, target, config, mode, patience, isPartitionsGiven };
  try {
    const steps = mode === 'check' ? [] : [await clusterStep(work)];
    // Where no broker answers the topics would only say so twice more.
    if (steps.some(({ state }) => state === 'unreachable')) return steps;
    steps.push(await topicStep(work, target.topic, false));
    if (steps.some(({ state }) => state === 'unreachable')) return steps;
    steps.push(await topicStep(work, target.deadLetterTopic, true));
    return steps;
  } finally {
    await client.close();
  }
}

/** Waits for as many brokers as there are to be replicas, and for a broker that keeps the sinks' offsets. */
async function clusterStep({ client, target, config, patience }: Work): Promise<Step> {
  const part = 'kafka cluster';
  const wanted = config.kafkaReplicationFactor;
  /** Brokers of the last answer; null while there was none. */
  let brokers: number | null = null;
  try {
    await patience.until(part, async (timeoutMs) => {
      const cluster = await client.send('any', metadataCall([]), timeoutMs);
      brokers = cluster.brokers.length;
      if (brokers < wanted) throw notReady(`${brokers} of ${wanted} brokers are there`);
      if (cluster.controllerId < 0) throw notReady('there is no controller');
      await client.coordinator(target.group, timeoutMs);
    });
    return stepOf(part, [], 'as_wanted', `${brokers} brokers`);
  } catch (error) {
    if (brokers === null) return { part, state: 'unreachable', detail: reasonOf(error), findings: [] };
    const finding = {
      what: 'brokers and a coordinator of groups',
      found: reasonOf(error),
      wanted: `${wanted} brokers, and one that keeps the offsets of group ${target.group}`,
      breaks: 'an acknowledged event survives the loss of a broker, and what is stored is known',
      mend: 'start the brokers that are missing, or set --kafka-replication-factor to as many as there are',
    };
    return stepOf(part, [finding], 'as_wanted');
  }
}

function notReady(detail: string): EssError {
  return new EssError('log_unavailable', detail);
}

async function topicStep(work: Work, name: string, isCompacted: boolean): Promise<Step> {
  const part = `kafka topic ${name}`;
  const { client, config, mode } = work;
  try {
    const found = await findTopic(work, part, name);
    if (found === null) return await missingStep(work, part, madeTopic(config, name, isCompacted));
    const wanted = wantedTopic(work, found, isCompacted);
    const differences = compareTopic(found, wanted);
    const { changed, refusal } =
      mode === 'apply' ? await change(work, found, wanted, differences) : { changed: [], refusal: null };
    let left = differences;
    if (changed.length > 0) {
      client.forget();
      const now = await readTopic(client, name);
      if (now !== null) left = compareTopic(now, wanted);
    }
    const details = [
      ...(changed.length > 0 ? changed : [described(found)]),
      ...(refusal === null ? [] : [`not changed: ${refusal}`]),
    ];
    const otherwise = changed.length > 0 ? 'changed' : 'as_wanted';
    return stepOf(part, findingsOf(work, left, wanted), otherwise, details.join('; '));
  } catch (error) {
    return { part, state: 'unreachable', detail: reasonOf(error), findings: [] };
  }
}

/** The topic, or null if there is none. Where nothing may be made, it is asked for again before that is believed. */
async function findTopic(
  { client, mode, patience }: Work,
  part: string,
  name: string,
): Promise<TopicFound | null> {
  const believedAtMs = performance.now() + missingAfterMs;
  let isMissing = false;
  try {
    return await patience.until(part, async () => {
      const found = await readTopic(client, name);
      isMissing = found === null;
      if (isMissing && mode === 'check' && performance.now() < believedAtMs)
        throw notReady(`no broker knows topic ${name}`);
      return found;
    });
  } catch (error) {
    if (isMissing) return null;
    throw error;
  }
}

async function missingStep(
  { client, mode, patience }: Work,
  part: string,
  wanted: TopicWanted,
): Promise<Step> {
  const detail = `${wanted.partitions} partitions, ${wanted.replicationFactor} replicas`;
  let mend = 'ess init';
  if (mode !== 'check') {
    const refusal = await patience
      .until(part, async () => {
        try {
          await createTopic(client, wanted);
          return null;
        } catch (error) {
          const isFinal =
            error instanceof KafkaError &&
            error.kind === 'protocol' &&
            !transientCodes.has(error.protocolCode);
          if (!isFinal) throw error;
          return reasonOf(error);
        }
      })
      .catch(reasonOf);
    if (refusal === null) return stepOf(part, [], 'made', detail);
    mend = `ess init, once this no longer is so: ${refusal}`;
  }
  const breaks = wanted.isCompacted
    ? 'an event that cannot be stored is kept until it is dealt with'
    : 'ack=log: no event can be taken';
  return stepOf(part, [{ what: 'topic', found: 'missing', wanted: detail, breaks, mend }], 'as_wanted');
}

/** A topic as it is made. */
function madeTopic(config: Config, name: string, isCompacted: boolean): TopicWanted {
  return {
    name,
    partitions: isCompacted ? 1 : config.partitions,
    replicationFactor: config.kafkaReplicationFactor,
    minInsyncReplicas: config.kafkaMinInsyncReplicas,
    isCompacted,
    maxMessageBytes: Math.max(maxMessageBytesDefault, config.eventBytesMax + recordOverheadBytes),
  };
}

/** A topic as it has to be, given one that is there: what it can do without breaking a promise is not asked for. */
function wantedTopic(
  { config, isPartitionsGiven }: Work,
  found: TopicFound,
  isCompacted: boolean,
): TopicWanted {
  const made = madeTopic(config, found.name, isCompacted);
  // Batches that are too large for the topic are cut, down to a single event.
  const maxMessageBytes = config.eventBytesMax + recordOverheadBytes;
  if (isCompacted || isPartitionsGiven) return { ...made, maxMessageBytes };
  // A log keeps its number of partitions, as long as it can be divided among the shards.
  const shards = shardCount(config);
  return { ...made, maxMessageBytes, partitions: Math.ceil(found.partitions / shards) * shards };
}

function described({ partitions, replicationFactor, configs }: TopicFound): string {
  const settings = configs === null ? '; its settings may not be read' : '';
  return `${partitions} partitions, ${replicationFactor} replicas${settings}`;
}

interface Change {
  /** What was done. */
  readonly changed: readonly string[];
  /** Why the rest was not; null if there was no rest. */
  readonly refusal: string | null;
}

/** Changes what can be changed without losing anything. Rejects with KafkaError for want of an answer. */
async function change(
  work: Work,
  found: TopicFound,
  wanted: TopicWanted,
  differences: readonly Difference[],
): Promise<Change> {
  const changed: string[] = [];
  try {
    changed.push(...(await changeConfigs(work, found, wanted, differences)));
    if (!wanted.isCompacted && found.partitions < wanted.partitions) {
      await addPartitions(work, found, wanted.partitions);
      changed.push(
        `partitions ${found.partitions} to ${wanted.partitions}: warning, from now on a key may go to another partition, so that an event without \`time\` that is sent again across this change can count twice`,
      );
    }
    return { changed, refusal: null };
  } catch (error) {
    if (!(error instanceof KafkaError) || error.kind !== 'protocol') throw error;
    return { changed, refusal: reasonOf(error) };
  }
}

async function changeConfigs(
  { client, config }: Work,
  found: TopicFound,
  wanted: TopicWanted,
  differences: readonly Difference[],
): Promise<string[]> {
  const target = wantedConfigs(madeTopic(config, wanted.name, wanted.isCompacted));
  // Only what differs: AlterConfigs, which takes the whole of them, would put back what somebody has changed since, or
  // what the broker that was asked had not heard of yet.
  const configs = new Map<string, string>();
  const changed: string[] = [];
  for (const difference of differences) {
    const name = nameOf(difference, wanted);
    const value = target.get(name);
    if (value === undefined) continue;
    configs.set(name, value);
    changed.push(`${name} ${difference.found} to ${value}`);
  }
  if (changed.length === 0) return changed;
  const asked = alterConfigsCall([{ type: configResources.topic, name: found.name, configs }]);
  for (const { errorCode, errorMessage } of await client.send('any', asked, changeTimeoutMs)) {
    if (errorCode !== kafkaErrors.NONE.code) throw refusal(errorCode, errorMessage);
  }
  const isThere = (now: TopicFound): boolean =>
    [...configs].every(([name, value]) => now.configs?.get(name) === value);
  await untilHeard(client, found.name, isThere);
  return changed;
}

async function addPartitions({ client }: Work, { name }: TopicFound, count: number): Promise<void> {
  await client.withBroker('any', changeTimeoutMs, (broker) =>
    broker.createPartitions({ topicPartitions: [{ topic: name, count }], timeout: changeTimeoutMs }),
  );
  await untilHeard(client, name, (now) => now.partitions === count);
}

/** The controller has made a change; the brokers hear of it one after the other. Gives up without a word. */
async function untilHeard(
  client: KafkaClient,
  topic: string,
  isThere: (now: TopicFound) => boolean,
): Promise<void> {
  const endMs = performance.now() + changeTimeoutMs;
  while (performance.now() < endMs) {
    client.forget();
    const now = await readTopic(client, topic);
    if (now !== null && isThere(now)) return;
    await sleep(changePollMs);
  }
}

function findingsOf(work: Work, differences: readonly Difference[], wanted: TopicWanted): Finding[] {
  return differences.map((difference) => {
    const what = nameOf(difference, wanted);
    if (what !== 'partitions') return { ...difference, what };
    if (wanted.isCompacted) {
      return { ...difference, what, mend: 'another --kafka-dead-letter-topic, which ess init makes' };
    }
    const shards = shardCount(work.config);
    if (Number(difference.found) % shards === 0) return { ...difference, what };
    return {
      ...difference,
      what,
      breaks: 'exactly once: a partition has to stay on its shard when partitions or shards are added',
      mend: Number(difference.found) < wanted.partitions ? 'ess init --apply' : 'another --kafka-topic',
    };
  });
}

/** The name of what differs, without the topic's before it: the step has that. */
function nameOf({ what }: Difference, { name }: TopicWanted): string {
  const prefix = `${name}: `;
  return what.startsWith(prefix) ? what.slice(prefix.length) : what;
}
