// What `ess doctor` looks at in the cluster itself: brokers, quorum, disks, and the settings of the brokers that ESS
// cannot set for its topics. Runs on the main thread of a process of its own.

import type { Config } from '../../config/options.ts';
import { topicConfigNames } from '../../log/kafka/topics.ts';
import { kafkaError, kafkaErrors } from '../../log/kafka/wire/errors.ts';
import type { LogDir } from '../../log/kafka/wire/log_dirs.ts';
import { reasonOf } from '../init/patience.ts';
import { clockLine } from './clock.ts';
import { type Asked, type KafkaFacts, offsetsTopic } from './kafka_facts.ts';
import { counted, listed } from './names.ts';
import type { Task } from './patient.ts';
import { failure, type Line, ok, unknown, warning } from './report.ts';
import { spaceLine } from './space.ts';

/** A controller that has not heard of the latest for so long is no help when the leader goes, ms. */
const voterBehindMs = 10_000;
/** Beyond this difference one disk of a broker will be full long before another. Share of a disk. */
const unevenShareMax = 0.4;
/** Room that a request has beside its batches, bytes. */
const requestOverheadBytes = 64 * 1024;

export function clusterTasks(facts: KafkaFacts, config: Config): Task[] {
  const task = (id: Task['ids'][number], run: () => Promise<readonly Line[]>): Task => ({
    ids: [id],
    subject: '',
    run,
  });
  return [
    task('kafka_bootstrap', () => bootstrapLines(facts)),
    task('kafka_brokers', () => brokerLines(facts)),
    task('kafka_quorum', () => quorumLines(facts, config)),
    task('kafka_clock', () => clockLines(facts)),
    { ids: ['kafka_log_dirs', 'kafka_disk'], subject: '', run: () => diskLines(facts) },
    task('kafka_defaults', () => defaultsLines(facts, config)),
    task('kafka_request_size', () => requestSizeLines(facts)),
    task('offsets_replicas', () => offsetsLines(facts, config)),
  ];
}

async function bootstrapLines(facts: KafkaFacts): Promise<Line[]> {
  const asked = [...(await facts.bootstrap())];
  const silent = asked.filter(([, each]) => 'reason' in each);
  if (silent.length === 0)
    return [ok('kafka_bootstrap', '', `all ${asked.length} of --kafka-brokers answer`)];
  const found = silent
    .map(([address, each]) => `${address}: ${'reason' in each ? each.reason : ''}`)
    .join('; ');
  const mend = 'start the broker, or name another one in --kafka-brokers';
  if (silent.length === asked.length)
    return [failure('kafka_bootstrap', '', `no address answers: ${found}`, mend)];
  return [
    warning('kafka_bootstrap', '', `${silent.length} of ${asked.length} do not answer: ${found}`, mend),
  ];
}

async function brokerLines(facts: KafkaFacts): Promise<Line[]> {
  let cluster: Awaited<ReturnType<KafkaFacts['cluster']>>;
  try {
    cluster = await facts.cluster();
  } catch (error) {
    return [
      failure(
        'kafka_brokers',
        '',
        reasonOf(error),
        'start the brokers (systemctl start kafka, on each of them)',
      ),
    ];
  }
  const lines: Line[] = [];
  const silence = await facts.silence();
  for (const { nodeId, host, port } of cluster.brokers) {
    const reason = silence.get(nodeId);
    if (reason === null || reason === undefined) continue;
    lines.push(
      failure(
        'kafka_brokers',
        `broker ${nodeId}`,
        `does not answer at ${host}:${port}, the address that it advertises: ${reason}`,
        `systemctl restart kafka, on that broker; if it runs, correct advertised.listeners in its server.properties: ${host} has to lead to it from here`,
      ),
    );
  }
  const listedIds = new Set(cluster.brokers.map(({ nodeId }) => nodeId));
  const replicas = cluster.topics.flatMap(({ partitions }) => partitions.flatMap((each) => each.replicas));
  for (const nodeId of [...new Set(replicas)].filter((id) => !listedIds.has(id)).sort((a, b) => a - b)) {
    const found = 'has copies of our partitions and is not in the cluster now';
    lines.push(failure('kafka_brokers', `broker ${nodeId}`, found, 'systemctl start kafka, on that broker'));
  }
  if (lines.length > 0) return lines;
  return [
    ok(
      'kafka_brokers',
      '',
      `${counted(listedIds.size, 'broker')} at the advertised addresses: ${listed(cluster.brokers.map(({ host, port }) => `${host}:${port}`))}`,
    ),
  ];
}

async function quorumLines(facts: KafkaFacts, config: Config): Promise<Line[]> {
  const check = 'kafka_quorum';
  const lines: Line[] = [];
  const wanted = config.kafkaReplicationFactor;
  const { brokers, controllerId } = await facts.cluster();
  if (brokers.length < wanted) {
    const found = `${brokers.length} of ${wanted} brokers are there`;
    const mend =
      'start the brokers that are missing, or set --kafka-replication-factor to as many as there are';
    lines.push(failure(check, '', found, mend));
  }
  const mend =
    'start the controllers that are missing: more than half of controller.quorum.voters have to run';
  try {
    const { leader, voters } = await facts.quorum();
    if (leader < 0) return [...lines, failure(check, '', 'no controller leads', mend)];
    const newestMs = Math.max(...voters.map(({ caughtUpMs }) => caughtUpMs));
    const behind = voters.filter(({ caughtUpMs }) => newestMs - caughtUpMs > voterBehindMs);
    if (behind.length > 0) {
      const names = listed(behind.map(({ nodeId }) => nodeId));
      const found = `controller ${leader} leads; ${names} of ${voters.length} voters ${behind.length === 1 ? 'is' : 'are'} not up to date`;
      return [...lines, warning(check, '', found, mend)];
    }
    if (lines.length > 0) return lines;
    return [ok(check, '', `controller ${leader} leads, ${counted(voters.length, 'voter')} up to date`)];
  } catch (error) {
    const reason = reasonOf(error);
    if (/AUTHORIZATION/.test(reason)) {
      const acl = `${facts.tool('kafka-acls.sh')} --add --cluster --operation Describe --allow-principal User:NAME, for the user of ess doctor`;
      return [...lines, unknown(check, '', reason, acl)];
    }
    const isOld = reasonOf(error).includes('DescribeQuorum');
    if (!isOld) return [...lines, failure(check, '', `no controller answers: ${reasonOf(error)}`, mend)];
    if (controllerId < 0) return [...lines, failure(check, '', 'there is no controller', mend)];
    return lines.length > 0 ? lines : [ok(check, '', `broker ${controllerId} is the controller`)];
  }
}

async function clockLines(facts: KafkaFacts): Promise<Line[]> {
  const { leader, voters, sentMs, receivedMs } = await facts.quorum();
  const thereMs = voters.find(({ nodeId }) => nodeId === leader)?.caughtUpMs ?? -1;
  if (thereMs < 0) return [unknown('kafka_clock', '', 'the controller does not tell its time')];
  return [clockLine('kafka_clock', `controller ${leader}`, { sentMs, thereMs, receivedMs })];
}

async function diskLines(facts: KafkaFacts): Promise<Line[]> {
  const failed: Line[] = [];
  const disks: Line[] = [];
  const offline = new Map<number, number[]>();
  const { brokers, topics } = await facts.cluster();
  for (const { partition, offline: nodes } of topics.flatMap(({ partitions }) => partitions)) {
    for (const node of nodes) offline.set(node, [...(offline.get(node) ?? []), partition]);
  }
  for (const [nodeId, asked] of await facts.logDirs()) {
    const subject = `broker ${nodeId}`;
    if ('reason' in asked || asked.answer.errorCode !== 0) {
      const reason = 'reason' in asked ? asked.reason : kafkaError(asked.answer.errorCode).name;
      failed.push(unknown('kafka_log_dirs', subject, reason));
      disks.push(unknown('kafka_disk', subject, reason));
      continue;
    }
    const lost = offline.get(nodeId)?.length ?? 0;
    failed.push(...failedDirLines(subject, asked.answer.dirs, lost));
    const uneven = unevenLine(subject, asked.answer.dirs);
    if (uneven !== null) disks.push(uneven);
    for (const { path, totalBytes, usableBytes, errorCode } of asked.answer.dirs) {
      if (errorCode !== 0) continue;
      const where = `${subject}, ${path}`;
      const mend =
        'a larger disk; until then lower retention.ms or retention.bytes of the largest topics (kafka-log-dirs.sh --describe)';
      if (totalBytes <= 0) disks.push(unknown('kafka_disk', where, 'the broker does not tell'));
      else disks.push(spaceLine('kafka_disk', where, usableBytes, totalBytes, mend));
    }
  }
  const known = new Set(brokers.map(({ nodeId }) => nodeId));
  if (failed.length === 0) failed.push(unknown('kafka_log_dirs', '', `none of ${known.size} brokers tells`));
  return [...failed, ...disks];
}

/** Where the disks of one broker are filled very differently: Kafka counts partitions, not bytes. Null where not. */
export function unevenLine(subject: string, dirs: readonly LogDir[]): Line | null {
  const shares = dirs
    .filter(({ errorCode, totalBytes }) => errorCode === 0 && totalBytes > 0)
    .map(({ totalBytes, usableBytes }) => 1 - usableBytes / totalBytes);
  if (Math.max(...shares) - Math.min(...shares) <= unevenShareMax || shares.length < 2) return null;
  const text = `its disks are ${listed(shares.map((share) => `${Math.round(share * 100)} %`))} full`;
  const mend =
    'kafka-reassign-partitions.sh --execute, with log_dirs in the plan: it moves copies from one disk to another';
  return warning('kafka_disk', subject, text, mend);
}

/** Of one broker; `lost`: copies of our partitions that the cluster calls offline there. */
export function failedDirLines(subject: string, dirs: readonly LogDir[], lost: number): Line[] {
  const broken = dirs.filter(({ errorCode }) => errorCode === kafkaErrors.KAFKA_STORAGE_ERROR.code);
  const mend =
    'mend or replace the disk, empty its directory in log.dirs, then systemctl restart kafka on that broker: it copies everything from the others';
  const copies = lost > 0 ? `; ${counted(lost, 'replica')} of our partitions offline` : '';
  if (broken.length > 0)
    return [
      failure('kafka_log_dirs', subject, `failed: ${listed(broken.map(({ path }) => path))}${copies}`, mend),
    ];
  if (lost > 0) return [failure('kafka_log_dirs', subject, `on a failed directory${copies}`, mend)];
  return [ok('kafka_log_dirs', subject, `none of ${dirs.length} has failed`)];
}

/** Value of one setting on each broker that tells it. */
function valuesOf(
  asked: ReadonlyMap<number, Asked<ReadonlyMap<string, string>>>,
  name: string,
): [number, string][] {
  return [...asked].flatMap(([nodeId, each]): [number, string][] => {
    const value = 'answer' in each ? each.answer.get(name) : undefined;
    return value === undefined ? [] : [[nodeId, value]];
  });
}

const alterBrokers = (name: string, value: string | number): string =>
  `${name}=${value} in server.properties of every broker, and restart them one by one`;

async function defaultsLines(facts: KafkaFacts, config: Config): Promise<Line[]> {
  const check = 'kafka_defaults';
  const asked = await facts.brokerConfigs();
  const lines: Line[] = [];
  const creating = valuesOf(asked, 'auto.create.topics.enable');
  const defaults = valuesOf(asked, 'default.replication.factor');
  if (creating.length === 0 || defaults.length === 0) {
    const reasons = [...asked.values()].flatMap((each) => ('reason' in each ? [each.reason] : []));
    return [
      unknown(check, '', `the settings of the brokers cannot be read: ${reasons[0] ?? 'they do not tell'}`),
    ];
  }
  const eager = creating.filter(([, value]) => value === 'true').map(([nodeId]) => nodeId);
  if (eager.length > 0) {
    const found = `auto.create.topics.enable is true on broker ${listed(eager)}`;
    lines.push(warning(check, '', found, alterBrokers('auto.create.topics.enable', 'false')));
  }
  const wanted = config.kafkaReplicationFactor;
  const few = defaults.filter(([, value]) => Number(value) < wanted);
  if (few.length > 0) {
    const found = `default.replication.factor is ${few[0]?.[1]} on broker ${listed(few.map(([nodeId]) => nodeId))}, and ESS is to have ${wanted}`;
    lines.push(warning(check, '', found, alterBrokers('default.replication.factor', wanted)));
  }
  if (lines.length > 0) return lines;
  return [ok(check, '', `no topic is made by accident; default.replication.factor is ${defaults[0]?.[1]}`)];
}

async function requestSizeLines(facts: KafkaFacts): Promise<Line[]> {
  const check = 'kafka_request_size';
  const asked = await facts.brokerConfigs();
  const topic = await facts.topic(facts.target.topic);
  const largest = Number(topic?.configs?.get(topicConfigNames.maxMessageBytes) ?? Number.NaN);
  const requests = valuesOf(asked, 'socket.request.max.bytes');
  if (!(largest > 0) || requests.length === 0)
    return [unknown(check, '', 'the settings of the topic or of the brokers cannot be read')];
  const small = requests.filter(([, value]) => Number(value) < largest + requestOverheadBytes);
  if (small.length > 0) {
    const found = `socket.request.max.bytes is ${small[0]?.[1]} on broker ${listed(small.map(([nodeId]) => nodeId))}, below max.message.bytes of the topic (${largest})`;
    return [failure(check, '', found, alterBrokers('socket.request.max.bytes', 104_857_600))];
  }
  const fetches = valuesOf(asked, 'replica.fetch.max.bytes').map(([, value]) => Number(value));
  const isBelow = fetches.some((value) => value < largest);
  const replicas = isBelow
    ? 'replica.fetch.max.bytes is smaller, which stops nothing since Kafka 0.10.1: a replica gets one batch of any size'
    : 'replica.fetch.max.bytes too';
  return [ok(check, '', `requests may have max.message.bytes (${largest}); ${replicas}`)];
}

async function offsetsLines(facts: KafkaFacts, config: Config): Promise<Line[]> {
  const check = 'offsets_replicas';
  const found = await facts.metadataOf(offsetsTopic);
  if (found === null) return [unknown(check, offsetsTopic, 'it is not there yet: the first group makes it')];
  const fewest = Math.min(...found.partitions.map(({ replicas }) => replicas.length));
  const wanted = config.kafkaReplicationFactor;
  const text = `${counted(fewest, 'replica')} (${found.partitions.length} partitions)`;
  if (fewest >= wanted) return [ok(check, offsetsTopic, text)];
  const mend = `kafka-reassign-partitions.sh --execute, with ${wanted} replicas for each partition of ${offsetsTopic}; offsets.topic.replication.factor is for new clusters only`;
  return [warning(check, offsetsTopic, `${text}, and ESS is to have ${wanted}`, mend)];
}
