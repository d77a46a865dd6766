// The one option table. Flags (`--sink-linger-ms 100`), environment (ESS_SINK_LINGER_MS), the JSON file of --config
// ({"sink_linger_ms": 100}), --help and docs/configuration.md all come from it. Read at start, on the main thread.

import { blockRowsMax } from '../store/schema.ts';
import { brokersFault } from './brokers.ts';
import { databaseFault, topicFault } from './names.ts';
import { shardsFault } from './shards.ts';

interface OptionBase {
  readonly description: string;
  readonly example: string;
}
export interface StringOption extends OptionBase {
  readonly type: 'string';
  /** Only where the default is empty may a value be empty too. */
  readonly default: string;
  /** What a value that is not the default must be and is not, in words after "but must"; null if nothing. */
  readonly fault?: (text: string) => string | null;
}
/**
 * A password. It is taken from the environment only, or from the file that another option names: other users of the
 * machine can read a command line, and configuration files are copied about. Never shown anywhere.
 */
export interface SecretOption extends OptionBase {
  readonly type: 'secret';
  readonly default: '';
  /** The option that names a file to read it from instead. */
  readonly fileOption: 'kafkaSaslPasswordFile' | 'clickhousePasswordFile';
}
export interface ChoiceOption extends OptionBase {
  readonly type: 'choice';
  readonly choices: readonly string[];
  readonly default: string;
}
export interface NumberOption extends OptionBase {
  readonly type: 'number';
  /** Inclusive; all numbers are integers. */
  readonly min: number;
  readonly max: number;
  /** 'auto' is resolved from the machine (cores, host name) or from other options, as `description` says. */
  readonly default: number | 'auto';
}
export type Option = StringOption | SecretOption | ChoiceOption | NumberOption;

const KiB = 1024;
const MiB = 1024 * KiB;
const GiB = 1024 * MiB;

/** Keys are the names in TypeScript; units come last. `optionFlag` gives the kebab-case flag. */
export const options = {
  role: {
    type: 'choice',
    choices: ['all', 'ingest', 'sink'],
    default: 'all',
    description:
      'Which half runs here: HTTP to log (ingest), log to store (sink), or both (all). Halves apart share Kafka or, as one of each on one machine, the embedded log in data-dir.',
    example: 'ingest',
  },
  host: {
    type: 'string',
    default: '127.0.0.1',
    description:
      'Address to listen on. 0.0.0.0 listens on every interface: put authentication in front of it.',
    example: '0.0.0.0',
  },
  port: {
    type: 'number',
    min: 0,
    max: 65_535,
    default: 8080,
    description: 'TCP port to listen on; 0 takes a free one and logs it.',
    example: '9000',
  },
  dataDir: {
    type: 'string',
    default: './ess-data',
    description: 'Directory of the embedded log and the embedded store.',
    example: '/var/lib/ess',
  },
  producers: {
    type: 'number',
    min: 1,
    max: 64,
    default: 'auto',
    description: 'Producer worker threads. auto: 3 of 8 cores, at least 1.',
    example: '3',
  },
  sinks: {
    type: 'number',
    min: 1,
    max: 64,
    default: 'auto',
    description: 'Sink worker threads. auto: 4 of 8 cores, at least 1, at most the number of partitions.',
    example: '4',
  },
  sinkOrdinal: {
    type: 'number',
    min: 0,
    max: 65_535,
    default: 'auto',
    description:
      'Number of this process among those that run sinks, from 0. It decides which ClickHouse nodes its sink threads own, so that all processes together own every shard and prefer every replica: give those with the same number of sink threads 0, 1, 2 and so on. auto: the digits at the end of the host name, or a hash of it, plus the port.',
    example: '2',
  },
  readers: {
    type: 'number',
    min: 1,
    max: 64,
    default: 'auto',
    description: 'Threads that answer reads. auto: a quarter of the cores, at least 2.',
    example: '2',
  },
  partitions: {
    type: 'number',
    min: 1,
    max: 1024,
    default: 'auto',
    description:
      'Partitions of a new log; a multiple of the ClickHouse shards. auto: 4 in the embedded log, 12 in Kafka, raised to the next such multiple. An existing log keeps the number it was made with.',
    example: '12',
  },
  ack: {
    type: 'choice',
    choices: ['memory', 'log', 'store'],
    default: 'log',
    description: 'What a 200 promises where a request does not say with ?ack=.',
    example: 'store',
  },
  httpBodyBytesMax: {
    type: 'number',
    min: KiB,
    max: 256 * MiB,
    default: 8 * MiB,
    description:
      'Largest request body as sent (compressed, if it is). At most half of ring-bytes less 4 KiB.',
    example: '16777216',
  },
  httpDecompressedBytesMax: {
    type: 'number',
    min: KiB,
    max: GiB,
    default: 32 * MiB,
    description: 'Largest request body after decompression; decompression stops there.',
    example: '67108864',
  },
  httpPendingBytesMax: {
    type: 'number',
    min: MiB,
    max: 16 * GiB,
    default: 64 * MiB,
    description: 'Bytes of bodies still arriving, all requests together; beyond it 503 overloaded.',
    example: '134217728',
  },
  httpDeadlineMs: {
    type: 'number',
    min: 10,
    max: 600_000,
    default: 10_000,
    description: 'Time from a whole request to its answer; past it 503 outcome_unknown.',
    example: '5000',
  },
  httpBodyTimeoutMs: {
    type: 'number',
    min: 100,
    max: 600_000,
    default: 10_000,
    description: 'Time in which a body must arrive; past it 408.',
    example: '30000',
  },
  eventBytesMax: {
    type: 'number',
    min: 256,
    max: 64 * MiB,
    default: 1_000_000,
    description: 'Largest single event.',
    example: '500000',
  },
  eventDepthMax: {
    type: 'number',
    min: 1,
    max: 1000,
    default: 64,
    description: 'Deepest nesting of objects and arrays in an event.',
    example: '32',
  },
  batchEventsMax: {
    type: 'number',
    min: 1,
    max: 10_000_000,
    default: 100_000,
    description: 'Most events in one request.',
    example: '10000',
  },
  ringBytes: {
    type: 'number',
    min: 64 * KiB,
    max: GiB,
    default: 32 * MiB,
    description: 'Size of each ingest ring (one per producer worker); a power of two.',
    example: '67108864',
  },
  ackRingBytes: {
    type: 'number',
    min: 64 * KiB,
    max: GiB,
    default: 4 * MiB,
    description: 'Size of each ack ring (one per producer worker); a power of two.',
    example: '8388608',
  },
  slotsMax: {
    type: 'number',
    min: 1,
    max: 1_000_000,
    default: 8192,
    description: 'Requests in progress at once; beyond it 503 overloaded.',
    example: '16384',
  },
  storeSlotsPercent: {
    type: 'number',
    min: 1,
    max: 100,
    default: 50,
    description: 'Share of the slots that requests with ack=store may hold.',
    example: '25',
  },
  groupBytesMax: {
    type: 'number',
    min: 4 * KiB,
    max: 256 * MiB,
    default: 4 * MiB,
    description: 'A producer worker commits at most about this many bytes of events at once.',
    example: '1048576',
  },
  logBytesMax: {
    type: 'number',
    min: 64 * KiB,
    max: 1024 * GiB,
    default: 16 * GiB,
    description: 'Unconsumed and retained bytes of the embedded log; at the bound 503 log_unavailable.',
    example: '1073741824',
  },
  logRetentionMs: {
    type: 'number',
    min: 0,
    max: 10 * 365 * 86_400_000,
    default: 3_600_000,
    description: 'Consumed batches of the embedded log are kept at most this long.',
    example: '86400000',
  },
  logRetentionBytes: {
    type: 'number',
    min: 0,
    max: 1024 * GiB,
    default: 256 * MiB,
    description:
      'Consumed batches of the embedded log are kept up to this many bytes, all partitions together.',
    example: '268435456',
  },
  sinkBatchRowsMax: {
    type: 'number',
    min: 1,
    max: blockRowsMax,
    default: 100_000,
    description: 'A block for ClickHouse has at most this many rows.',
    example: '50000',
  },
  sinkBatchBytesMax: {
    type: 'number',
    min: 4 * KiB,
    max: GiB,
    default: 32 * MiB,
    description: 'A block for ClickHouse is closed at about this many bytes.',
    example: '16777216',
  },
  sinkLingerMs: {
    type: 'number',
    min: 0,
    max: 60_000,
    default: 50,
    description: 'How long a block waits for more rows when the inserts per second allow it sooner.',
    example: '200',
  },
  sinkInsertsPerSecond: {
    type: 'number',
    min: 1,
    max: 1000,
    default: 5,
    description:
      'Blocks a second that this process inserts, into all nodes together; under load blocks wait and grow instead.',
    example: '4',
  },
  retryWindowMs: {
    type: 'number',
    min: 1000,
    max: 86_400_000,
    default: 600_000,
    description: 'A client retry of an event without `time` is recognised within this much ingest time.',
    example: '3600000',
  },
  identitiesMax: {
    type: 'number',
    min: 1024,
    max: 1_000_000_000,
    default: 2_000_000,
    description: 'Identities that the sinks remember, all partitions together; past it ClickHouse is asked.',
    example: '8000000',
  },
  readTimeoutMs: {
    type: 'number',
    min: 10,
    max: 3_600_000,
    default: 30_000,
    description: 'Longest execution of one read.',
    example: '5000',
  },
  readQueueMax: {
    type: 'number',
    min: 1,
    max: 100_000,
    default: 256,
    description: 'Reads that may wait for a reader; beyond it 503 overloaded.',
    example: '64',
  },
  stopDeadlineMs: {
    type: 'number',
    min: 100,
    max: 600_000,
    default: 20_000,
    description:
      'Time for an orderly stop; past it the process exits at once. Nothing acknowledged is lost either way.',
    example: '60000',
  },
  kafkaBrokers: {
    type: 'string',
    default: '',
    fault: brokersFault,
    description:
      'Kafka brokers to begin with, as HOST:PORT separated by commas, IPv6 addresses in brackets; the others are learnt from them. Empty: the embedded log.',
    example: 'kafka-1:9092,kafka-2:9092',
  },
  kafkaTopic: {
    type: 'string',
    default: 'events',
    fault: topicFault,
    description: 'Topic of the events. `ess init` makes it.',
    example: 'web-events',
  },
  kafkaDeadLetterTopic: {
    type: 'string',
    default: 'auto',
    fault: topicFault,
    description:
      'Compacted topic of the records that can never be stored; one ESS system each. auto: the name of kafka-topic with -dead-letters behind it. `ess init` makes it.',
    example: 'web-events-parked',
  },
  kafkaGroup: {
    type: 'string',
    default: 'event-statistics-service',
    description:
      'Consumer group of the sinks. Its committed offsets say what is stored: another name begins anew.',
    example: 'web-statistics',
  },
  kafkaReplicationFactor: {
    type: 'number',
    min: 1,
    max: 64,
    default: 3,
    description: 'Copies of each partition of the topics that `ess init` makes.',
    example: '5',
  },
  kafkaMinInsyncReplicas: {
    type: 'number',
    min: 1,
    max: 64,
    default: 2,
    description:
      'Replicas that have an event before ack=log answers 200. A topic that asks for fewer is refused at start.',
    example: '3',
  },
  kafkaCompression: {
    type: 'choice',
    choices: ['none', 'gzip', 'zstd'],
    default: 'none',
    description:
      'Compression of what is sent to Kafka. zstd needs Node.js 22.15 or later, or 23.8 or later of Node.js 23.',
    example: 'gzip',
  },
  kafkaTls: {
    type: 'choice',
    choices: ['off', 'on'],
    default: 'off',
    description: 'Encrypts connections to Kafka.',
    example: 'on',
  },
  kafkaTlsCaFile: {
    type: 'string',
    default: '',
    description:
      "PEM file of the authorities that sign the brokers' certificates. Empty: those that Node.js knows.",
    example: '/etc/ess/kafka-ca.pem',
  },
  kafkaTlsCertFile: {
    type: 'string',
    default: '',
    description: 'PEM file of the certificate with which ESS proves who it is. Empty: none.',
    example: '/etc/ess/kafka.pem',
  },
  kafkaTlsKeyFile: {
    type: 'string',
    default: '',
    description: 'PEM file of the private key of kafka-tls-cert-file, without a passphrase.',
    example: '/etc/ess/kafka-key.pem',
  },
  kafkaSaslMechanism: {
    type: 'choice',
    choices: ['none', 'plain', 'scram-sha-256', 'scram-sha-512'],
    default: 'none',
    description: 'How ESS logs in to Kafka. plain sends the password as it is: use it with kafka-tls on.',
    example: 'scram-sha-512',
  },
  kafkaSaslUsername: {
    type: 'string',
    default: '',
    description: 'User name for kafka-sasl-mechanism.',
    example: 'ess',
  },
  kafkaSaslPasswordFile: {
    type: 'string',
    default: '',
    description: 'File whose first line is the password for kafka-sasl-username. Read once, at start.',
    example: '/run/secrets/kafka_password',
  },
  kafkaSaslPassword: {
    type: 'secret',
    default: '',
    fileOption: 'kafkaSaslPasswordFile',
    description: 'The password for kafka-sasl-username, where it is not in a file.',
    example: 'from-a-secret-store',
  },
  kafkaSessionTimeoutMs: {
    type: 'number',
    min: 1000,
    max: 1_800_000,
    default: 10_000,
    description:
      'A sink that Kafka has not heard of for so long loses its partitions to the others. Brokers take 6000 to 1800000 unless they were told otherwise (group.min.session.timeout.ms).',
    example: '30000',
  },
  kafkaFetchBytesMax: {
    type: 'number',
    min: 64 * KiB,
    max: GiB,
    default: 32 * MiB,
    description:
      'Records from Kafka that a sink worker holds before their block is built, all its partitions together; a single batch may be larger.',
    example: '67108864',
  },
  clickhouse: {
    type: 'string',
    default: '',
    fault: shardsFault,
    description:
      'ClickHouse nodes by the URLs of their HTTP interface: commas separate the replicas of a shard, semicolons the shards, whose order is recorded: new ones come at the end (ess init --apply). Empty: the embedded store.',
    example: 'http://ch-1a:8123,http://ch-1b:8123;http://ch-2a:8123,http://ch-2b:8123',
  },
  clickhouseUser: {
    type: 'string',
    default: 'default',
    description: 'User on every node.',
    example: 'ess',
  },
  clickhousePasswordFile: {
    type: 'string',
    default: '',
    description: 'File whose first line is the password of clickhouse-user. Read once, at start.',
    example: '/run/secrets/clickhouse_password',
  },
  clickhousePassword: {
    type: 'secret',
    default: '',
    fileOption: 'clickhousePasswordFile',
    description: 'The password of clickhouse-user, where it is not in a file. Not set: none.',
    example: 'from-a-secret-store',
  },
  clickhouseDatabase: {
    type: 'string',
    default: 'default',
    fault: databaseFault,
    description: 'Database of the tables on every node. `ess init` makes both.',
    example: 'ess',
  },
  clickhouseTlsCaFile: {
    type: 'string',
    default: '',
    description:
      "PEM file of the authorities that sign the nodes' certificates (https). Empty: those that Node.js knows.",
    example: '/etc/ess/clickhouse-ca.pem',
  },
  clickhouseCompression: {
    type: 'choice',
    choices: ['none', 'gzip'],
    default: 'none',
    description:
      'Compression of the blocks sent to ClickHouse. gzip costs more time than it saves unless the network is slow.',
    example: 'gzip',
  },
  clickhouseRequestTimeoutMs: {
    type: 'number',
    min: 100,
    max: 600_000,
    default: 30_000,
    description:
      'Time for one insert on one node; past it the block is offered to the next replica of its shard, under the same token.',
    example: '10000',
  },
  logLevel: {
    type: 'choice',
    choices: ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'],
    default: 'info',
    description: 'Least severe log lines that are written.',
    example: 'debug',
  },
  debugProfiles: {
    type: 'choice',
    choices: ['off', 'on'],
    default: 'off',
    description:
      'Profiles of every thread at /debug/pprof/profile and /debug/pprof/heap, for whoever reaches the port. Needs the optional package @datadog/pprof.',
    example: 'on',
  },
} as const satisfies Record<string, Option>;

export type OptionName = keyof typeof options;

type ValueOf<O> = O extends { readonly type: 'number' }
  ? number
  : O extends { readonly choices: readonly (infer C)[] }
    ? C
    : string;

/**
 * All options with their resolved values. Secrets are properties that cannot be enumerated: printing, copying or
 * sending a Config to another thread leaves them out.
 */
export type Config = { readonly [N in OptionName]: ValueOf<(typeof options)[N]> };

/** Every option, in the order of the table. */
export const optionNames = Object.keys(options) as readonly OptionName[];

/** The headings of --help and docs/configuration.md; every option stands under exactly one. */
export const optionGroups: readonly { readonly title: string; readonly names: readonly OptionName[] }[] = [
  { title: 'Process', names: ['role', 'dataDir', 'stopDeadlineMs', 'logLevel', 'debugProfiles'] },
  { title: 'Threads', names: ['producers', 'sinks', 'sinkOrdinal', 'readers'] },
  {
    title: 'HTTP',
    names: [
      'host',
      'port',
      'ack',
      'httpBodyBytesMax',
      'httpDecompressedBytesMax',
      'httpPendingBytesMax',
      'httpDeadlineMs',
      'httpBodyTimeoutMs',
    ],
  },
  { title: 'Events', names: ['eventBytesMax', 'eventDepthMax', 'batchEventsMax'] },
  { title: 'Rings and slots', names: ['ringBytes', 'ackRingBytes', 'slotsMax', 'storeSlotsPercent'] },
  {
    title: 'Log',
    names: ['partitions', 'groupBytesMax', 'logBytesMax', 'logRetentionMs', 'logRetentionBytes'],
  },
  {
    title: 'Kafka',
    names: [
      'kafkaBrokers',
      'kafkaTopic',
      'kafkaDeadLetterTopic',
      'kafkaGroup',
      'kafkaReplicationFactor',
      'kafkaMinInsyncReplicas',
      'kafkaCompression',
      'kafkaTls',
      'kafkaTlsCaFile',
      'kafkaTlsCertFile',
      'kafkaTlsKeyFile',
      'kafkaSaslMechanism',
      'kafkaSaslUsername',
      'kafkaSaslPasswordFile',
      'kafkaSaslPassword',
      'kafkaSessionTimeoutMs',
      'kafkaFetchBytesMax',
    ],
  },
  {
    title: 'ClickHouse',
    names: [
      'clickhouse',
      'clickhouseUser',
      'clickhousePasswordFile',
      'clickhousePassword',
      'clickhouseDatabase',
      'clickhouseTlsCaFile',
      'clickhouseCompression',
      'clickhouseRequestTimeoutMs',
    ],
  },
  {
    title: 'Sink',
    names: [
      'sinkBatchRowsMax',
      'sinkBatchBytesMax',
      'sinkLingerMs',
      'sinkInsertsPerSecond',
      'retryWindowMs',
      'identitiesMax',
    ],
  },
  { title: 'Reads', names: ['readTimeoutMs', 'readQueueMax'] },
];

/** The flag without its dashes: `sinkLingerMs` is `sink-linger-ms`. */
export function optionFlag(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/** The key in the JSON file: `sinkLingerMs` is `sink_linger_ms`. */
export function optionKey(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** The environment variable: `sinkLingerMs` is `ESS_SINK_LINGER_MS`. */
export function optionVariable(name: string): string {
  return `ESS_${optionKey(name).toUpperCase()}`;
}

/** The default in words; one that is the empty text is `empty`. */
export function optionDefault(option: Option): string {
  if (option.type === 'secret') return 'not set';
  return option.default === '' ? 'empty' : String(option.default);
}

/** What a value may be, in words: `0 to 65535`, `memory, log or store`, `text`. */
export function optionRange(option: Option): string {
  if (option.type === 'string' || option.type === 'secret') return 'text';
  if (option.type === 'choice')
    return `${option.choices.slice(0, -1).join(', ')} or ${option.choices.at(-1)}`;
  return `${option.min} to ${option.max}${option.default === 'auto' ? ', or auto' : ''}`;
}
