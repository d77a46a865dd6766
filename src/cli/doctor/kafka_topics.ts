// What `ess doctor` looks at in the two topics: what `ess init` would find, and beyond it what breaks no promise but does
// harm. Runs on the main thread of a process of its own.

import type { Config } from '../../config/options.ts';
import { type TopicFound, topicConfigNames } from '../../log/kafka/topics.ts';
import type { PartitionMetadata } from '../../log/kafka/wire/metadata.ts';
import { settleKafka } from '../init/kafka.ts';
import { Patience } from '../init/patience.ts';
import type { Finding, Step } from '../init/step.ts';
import type { CheckId } from './checks.ts';
import type { KafkaFacts } from './kafka_facts.ts';
import { bytesText, counted, durationText, listed } from './names.ts';
import type { Deadline, Task } from './patient.ts';
import { failure, type Line, ok, unknown, warning } from './report.ts';

/** A store that is down over a night is mended in the morning: what the topic keeps for less may be lost. ms */
const retentionMsCalm = 86_400_000;
/** Nobody mends anything in less. ms */
const retentionMsLeast = 3_600_000;
/** Per partition: less is filled in minutes by one busy key. bytes */
const retentionBytesCalm = 1024 ** 3;
/** Share of what a partition holds that waits to be stored, above which the next to be dropped is not stored yet. */
const waitingShareMax = 0.5;

/** Which check a finding of `ess init` belongs to. */
const checkOf: Readonly<Record<string, CheckId>> = {
  topic: 'topic_exists',
  partitions: 'topic_partitions',
  replicas: 'topic_replicas',
  [topicConfigNames.minInsyncReplicas]: 'topic_min_isr',
  [topicConfigNames.uncleanElection]: 'topic_unclean_election',
  [topicConfigNames.maxMessageBytes]: 'topic_message_size',
  [topicConfigNames.cleanupPolicy]: 'topic_cleanup',
  [topicConfigNames.timestampType]: 'topic_timestamps',
};

const settingChecks: readonly CheckId[] = [
  'topic_exists',
  'topic_partitions',
  'topic_replicas',
  'topic_min_isr',
  'topic_unclean_election',
  'topic_message_size',
  'topic_cleanup',
  'topic_timestamps',
];

export function topicTasks(
  facts: KafkaFacts,
  config: Config,
  isPartitionsGiven: boolean,
  deadline: Deadline,
): Task[] {
  const { topic, deadLetterTopic } = facts.target;
  const onTopic = (id: CheckId, run: () => Promise<readonly Line[]>): Task => ({
    ids: [id],
    subject: topic,
    run,
  });
  return [
    {
      ids: settingChecks,
      subject: '',
      run: async () => {
        const patience = new Patience(deadline.questionMs);
        return settingLines(
          facts,
          config,
          await settleKafka(facts.target, config, isPartitionsGiven, 'check', patience),
        );
      },
    },
    onTopic('topic_retention', () => retentionLines(facts)),
    ...[topic, deadLetterTopic].flatMap((name): Task[] => [
      { ids: ['partition_leaders'], subject: name, run: () => onPartitions(facts, name, leaderLines) },
      {
        ids: ['partition_replicas'],
        subject: name,
        run: () =>
          onPartitions(facts, name, (_name, partitions) => replicaLines(facts, config, name, partitions)),
      },
    ]),
    onTopic('partition_skew', () => skewLines(facts)),
  ];
}

/** Lines of both topics from the steps of `ess init`. */
async function settingLines(facts: KafkaFacts, config: Config, steps: readonly Step[]): Promise<Line[]> {
  const lines: Line[] = [];
  for (const name of [facts.target.topic, facts.target.deadLetterTopic]) {
    const step = steps.find(({ part }) => part === `kafka topic ${name}`);
    if (step === undefined || step.state === 'unreachable') {
      const reason = step?.detail ?? steps.at(-1)?.detail ?? 'not asked';
      lines.push(...settingChecks.map((id) => unknown(id, name, reason)));
      continue;
    }
    const isMissing = step.findings.some(({ what }) => what === 'topic');
    lines.push(...step.findings.map((finding) => findingLine(name, finding)));
    if (isMissing) continue;
    const found = await facts.topic(name);
    if (found === null) continue;
    lines.push(...(name === facts.target.topic ? eventTopicLines(facts, found, config) : []));
    for (const id of settingChecks) {
      if (!lines.some(({ check, subject }) => check === id && subject === name))
        lines.push(calmLine(id, name, found));
    }
  }
  return lines;
}

function findingLine(topic: string, { what, found, wanted, mend }: Finding): Line {
  const text = what === 'topic' ? found : `${what} is ${found}, but must be ${wanted}`;
  return failure(checkOf[what] ?? 'topic_exists', topic, text, mend);
}

/** What breaks no promise by itself. */
function eventTopicLines(facts: KafkaFacts, found: TopicFound, config: Config): Line[] {
  const lines: Line[] = [];
  const { name, partitions, replicationFactor, configs } = found;
  if (config.role !== 'ingest' && partitions < config.sinks) {
    const text = `${counted(partitions, 'partition')} for ${counted(config.sinks, 'sink')}`;
    const mend = `ess init --apply --partitions ${config.sinks} (sends new events of a key elsewhere), or --sinks ${partitions}`;
    lines.push(warning('topic_partitions', name, text, mend));
  }
  const least = Number(configs?.get(topicConfigNames.minInsyncReplicas) ?? Number.NaN);
  if (least >= replicationFactor) {
    const text = `${topicConfigNames.minInsyncReplicas} is ${least} of ${counted(replicationFactor, 'replica')}: one broker that stops, stops every append`;
    // One less is right only where it is still as many as ESS asks for.
    const mend =
      replicationFactor > config.kafkaMinInsyncReplicas
        ? facts.settingMend(name, topicConfigNames.minInsyncReplicas, replicationFactor - 1)
        : `${facts.tool('kafka-reassign-partitions.sh')} --execute --reassignment-json-file FILE, with ${config.kafkaMinInsyncReplicas + 1} replicas for each partition of ${name}, then ess init --apply`;
    lines.push(warning('topic_min_isr', name, text, mend));
  }
  const largest = Number(configs?.get(topicConfigNames.maxMessageBytes) ?? Number.NaN);
  if (largest < config.groupBytesMax) {
    const text = `${topicConfigNames.maxMessageBytes} is ${largest}, below --group-bytes-max (${config.groupBytesMax}): larger batches are cut`;
    const mend = facts.settingMend(name, topicConfigNames.maxMessageBytes, config.groupBytesMax * 2);
    lines.push(warning('topic_message_size', name, text, mend));
  }
  return lines;
}

function calmLine(id: CheckId, topic: string, { partitions, replicationFactor, configs }: TopicFound): Line {
  if (id === 'topic_exists') {
    if (configs !== null) return ok(id, topic, 'there');
    return unknown(
      id,
      topic,
      'its settings may not be read by this user',
      'kafka-acls.sh --add --operation DescribeConfigs',
    );
  }
  if (id === 'topic_partitions') return ok(id, topic, counted(partitions, 'partition'));
  if (id === 'topic_replicas') return ok(id, topic, counted(replicationFactor, 'replica'));
  const [setting = ''] = Object.entries(checkOf).find(([, check]) => check === id) ?? [];
  const value = configs?.get(setting);
  if (value === undefined) return unknown(id, topic, `${setting} is not told to this user`);
  return ok(id, topic, `${setting} is ${value}`);
}

/** Of one partition: how much of what it holds waits. */
interface Waiting {
  readonly partition: number;
  readonly share: number;
  readonly bytes: number;
}

async function retentionLines(facts: KafkaFacts): Promise<Line[]> {
  const check = 'topic_retention';
  const { topic } = facts.target;
  const configs = (await facts.topic(topic))?.configs ?? null;
  if (configs === null) return [unknown(check, topic, 'the settings of the topic cannot be read')];
  const ms = Number(configs.get(topicConfigNames.retentionMs) ?? -1);
  const bytes = Number(configs.get(topicConfigNames.retentionBytes) ?? -1);
  const set = (name: string, value: number): string => facts.settingMend(topic, name, value);
  const lines: Line[] = [];
  if (ms >= 0 && ms < retentionMsCalm) {
    const text = `retention.ms is ${ms} (${durationText(ms)}): what is not stored by then is lost`;
    const mend = set(topicConfigNames.retentionMs, 7 * 86_400_000);
    lines.push(ms < retentionMsLeast ? failure(check, topic, text, mend) : warning(check, topic, text, mend));
  }
  if (bytes >= 0 && bytes < retentionBytesCalm) {
    const text = `retention.bytes is ${bytesText(bytes)} for each partition: what is not stored when it holds more is lost`;
    lines.push(warning(check, topic, text, set(topicConfigNames.retentionBytes, -1)));
  }
  lines.push(...(bytes > 0 ? await roomLines(facts, bytes, set) : []));
  lines.push(...(await lagAgainst(facts, ms, bytes, set)));
  if (lines.length > 0) return lines;
  const time = ms < 0 ? 'no limit in time' : durationText(ms);
  const size = bytes < 0 ? 'no limit in bytes' : `${bytesText(bytes)} for each partition`;
  return [ok(check, topic, `${time}, ${size}`)];
}

/** What all partitions on a broker may take together, since the limit is of each, against the disks that it has. */
async function roomLines(
  facts: KafkaFacts,
  bytes: number,
  set: (name: string, value: number) => string,
): Promise<Line[]> {
  const { topic } = facts.target;
  const partitions = await facts.partitions();
  const lines: Line[] = [];
  for (const [nodeId, asked] of await facts.logDirs()) {
    if (!('answer' in asked)) continue;
    const room = asked.answer.dirs.reduce((sum, { totalBytes }) => sum + Math.max(totalBytes, 0), 0);
    const copies = partitions.filter(({ replicas }) => replicas.includes(nodeId)).length;
    if (room === 0 || copies * bytes <= room) continue;
    const text = `retention.bytes is of each partition: ${copies} on broker ${nodeId} may take ${bytesText(copies * bytes)}, and its disks have ${bytesText(room)}`;
    const mend = set(topicConfigNames.retentionBytes, Math.floor(room / copies / 2));
    lines.push(warning('topic_retention', topic, text, mend));
  }
  return lines;
}

/** Lines about records that may be dropped next and are not stored. What cannot be asked is left out: group_lag says so. */
async function lagAgainst(
  facts: KafkaFacts,
  ms: number,
  bytes: number,
  set: (name: string, value: number) => string,
): Promise<Line[]> {
  const { topic } = facts.target;
  const lines: Line[] = [];
  try {
    const committed = new Map((await facts.positions()).map((each) => [each.partition, each.offset]));
    if (bytes >= 0) {
      const near = (await waitingOf(facts, committed)).filter(
        ({ share, bytes: held }) => share > waitingShareMax && held > bytes * waitingShareMax,
      );
      if (near.length > 0) {
        const text = `partition ${listed(near.map(({ partition }) => partition))}: most of what it holds waits, and it is near retention.bytes`;
        lines.push(failure('topic_retention', topic, text, set(topicConfigNames.retentionBytes, -1)));
      }
    }
    if (ms >= 0) {
      const halfway = await facts.offsetsAt(Math.floor(Date.now() - ms / 2));
      const bounds = await facts.bounds();
      const old = [...bounds].filter(([partition, { start, end }]) => {
        const next = Math.max(committed.get(partition) ?? start, start);
        const young = halfway.get(partition) ?? 0;
        return next < end && (young < 0 || next < young);
      });
      if (old.length > 0) {
        const text = `partition ${listed(old.map(([partition]) => partition))}: what waits is older than half of retention.ms`;
        lines.push(failure('topic_retention', topic, text, set(topicConfigNames.retentionMs, -1)));
      }
    }
  } catch {
    // Whatever does not answer is a line of its own check.
  }
  return lines;
}

async function waitingOf(facts: KafkaFacts, committed: ReadonlyMap<number, number>): Promise<Waiting[]> {
  const sizes = new Map<number, number>();
  for (const asked of (await facts.logDirs()).values()) {
    if (!('answer' in asked)) continue;
    for (const { partitions } of asked.answer.dirs) {
      for (const [partition, size] of partitions)
        sizes.set(partition, Math.max(size, sizes.get(partition) ?? 0));
    }
  }
  return [...(await facts.bounds())].map(([partition, { start, end }]) => {
    const next = Math.max(committed.get(partition) ?? start, start);
    return { partition, share: (end - next) / Math.max(end - start, 1), bytes: sizes.get(partition) ?? 0 };
  });
}

/** Lines about the partitions of a topic; none if it is not there, which topic_exists tells. */
async function onPartitions(
  facts: KafkaFacts,
  topic: string,
  look: (
    topic: string,
    partitions: readonly PartitionMetadata[],
  ) => readonly Line[] | Promise<readonly Line[]>,
): Promise<readonly Line[]> {
  const found = await facts.metadataOf(topic);
  return found === null ? [] : look(topic, found.partitions);
}

function leaderLines(topic: string, partitions: readonly PartitionMetadata[]): Line[] {
  const check = 'partition_leaders';
  const lines: Line[] = [];
  const without = partitions.filter(({ leader }) => leader < 0);
  if (without.length > 0) {
    const replicas = [...new Set(without.flatMap((each) => each.replicas))].sort((a, b) => a - b);
    const text = `no broker leads partition ${listed(without.map(({ partition }) => partition))}`;
    lines.push(
      failure(
        check,
        topic,
        text,
        `systemctl start kafka, on broker ${listed(replicas)}, which have the copies`,
      ),
    );
  }
  const moved = partitions.filter(({ leader, replicas }) => leader >= 0 && leader !== replicas[0]);
  if (moved.length > 0) {
    const text = `not on the preferred leader: partition ${listed(moved.map(({ partition }) => partition))}`;
    const mend =
      'ess topics elect, once their brokers are back (auto.leader.rebalance.enable does it by itself)';
    lines.push(warning(check, topic, text, mend));
  }
  if (lines.length > 0) return lines;
  return [ok(check, topic, `${counted(partitions.length, 'partition')} on the preferred leaders`)];
}

async function replicaLines(
  facts: KafkaFacts,
  config: Config,
  topic: string,
  partitions: readonly PartitionMetadata[],
): Promise<Line[]> {
  const check = 'partition_replicas';
  const behind = partitions.filter(({ inSync, replicas }) => inSync.length < replicas.length);
  if (behind.length === 0)
    return [ok(check, topic, `every replica of ${counted(partitions.length, 'partition')} is in sync`)];
  const inForce = Number((await facts.topic(topic))?.configs?.get(topicConfigNames.minInsyncReplicas) ?? 0);
  const least = Math.max(inForce, config.kafkaMinInsyncReplicas);
  const short = behind.filter(({ inSync }) => inSync.length < least);
  const lacking = [
    ...new Set(behind.flatMap(({ replicas, inSync }) => replicas.filter((id) => !inSync.includes(id)))),
  ].sort((a, b) => a - b);
  const mend = `systemctl start kafka, on broker ${listed(lacking)}; if it runs, look there for a slow disk or network`;
  if (short.length > 0) {
    const text = `fewer than ${least} in sync: partition ${listed(short.map(({ partition }) => partition))}; appends are refused`;
    return [failure(check, topic, text, mend)];
  }
  const text = `not all in sync: partition ${listed(behind.map(({ partition }) => partition))}`;
  return [warning(check, topic, text, mend)];
}

/** Brokers with their leaders and copies of the topic, and the bytes of those; null where a broker does not tell. */
export interface BrokerLoad {
  readonly nodeId: number;
  readonly leaders: number;
  readonly copies: number;
  readonly bytes: number | null;
}

/** A topic this small lies as it falls, bytes. */
const skewBytesMin = 1024 ** 3;

/** What is uneven, in words; empty if nothing is. */
export function skewOf(loads: readonly BrokerLoad[]): string[] {
  const uneven: string[] = [];
  const total = loads.reduce((sum, { leaders }) => sum + leaders, 0);
  // One more than an even share is as even as it gets where they are not divisible, and one more for a move under way.
  const leadersMax = Math.ceil(total / Math.max(loads.length, 1)) + 1;
  const busy = loads.filter(({ leaders }) => leaders > leadersMax);
  for (const { nodeId, leaders } of busy) uneven.push(`broker ${nodeId} leads ${leaders} of ${total}`);
  const copies = loads.reduce((sum, load) => sum + load.copies, 0);
  for (const load of loads) {
    if (load.copies === 0 && copies >= loads.length) uneven.push(`broker ${load.nodeId} has no copy at all`);
  }
  const sizes = loads.flatMap(({ bytes }) => (bytes === null ? [] : [bytes]));
  const largest = Math.max(0, ...sizes);
  if (largest > skewBytesMin && largest > 2 * Math.min(...sizes)) {
    const names = loads.map(
      ({ nodeId, bytes }) => `${nodeId}: ${bytes === null ? 'unknown' : bytesText(bytes)}`,
    );
    uneven.push(`bytes by broker ${names.join(', ')}`);
  }
  return uneven;
}

async function skewLines(facts: KafkaFacts): Promise<Line[]> {
  const check = 'partition_skew';
  const { topic } = facts.target;
  const partitions = await facts.partitions();
  const { brokers } = await facts.cluster();
  const dirs = await facts.logDirs();
  const loads = brokers.map(({ nodeId }): BrokerLoad => {
    const asked = dirs.get(nodeId);
    const sizes = asked !== undefined && 'answer' in asked ? asked.answer.dirs : null;
    return {
      nodeId,
      leaders: partitions.filter(({ leader }) => leader === nodeId).length,
      copies: partitions.filter(({ replicas }) => replicas.includes(nodeId)).length,
      bytes:
        sizes?.flatMap((dir) => [...dir.partitions.values()]).reduce((sum, size) => sum + size, 0) ?? null,
    };
  });
  const uneven = skewOf(loads);
  if (uneven.length > 0) {
    const mend = `ess topics move --brokers ${brokers.map(({ nodeId }) => nodeId).join(',')} shows the plan, --yes carries it out; leaders alone: ess topics elect`;
    return [warning(check, topic, uneven.join('; '), mend)];
  }
  const text = loads.map(
    ({ nodeId, leaders, bytes }) => `${nodeId}: ${leaders}${bytes === null ? '' : ` (${bytesText(bytes)})`}`,
  );
  return [ok(check, topic, `leaders by broker ${listed(text)}`)];
}
