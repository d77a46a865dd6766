// The one option table. Flags (`--sink-linger-ms 100`), environment (ESS_SINK_LINGER_MS), the JSON file of --config
// ({"sink_linger_ms": 100}), --help and docs/configuration.md all come from it.

interface OptionBase {
  readonly description: string;
  readonly example: string;
}
export interface StringOption extends OptionBase {
  readonly type: 'string';
  readonly default: string;
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
  /** 'auto' is resolved from the machine (number of cores) or from other options, as `description` says. */
  readonly default: number | 'auto';
}
export type Option = StringOption | ChoiceOption | NumberOption;

const KiB = 1024;
const MiB = 1024 * KiB;
const GiB = 1024 * MiB;

/** Keys are the names in TypeScript; units come last. `optionFlag` gives the kebab-case flag. */
export const options = {
  role: {
    type: 'choice',
    choices: ['all', 'ingest', 'sink'],
    default: 'all',
    description: 'Which half runs here: HTTP to log (ingest), log to store (sink), or both (all).',
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
    default: 4,
    description: 'Partitions of a new log. An existing embedded log keeps the number it was made with.',
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
    max: 1_000_000,
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
    description: 'Blocks a second into one ClickHouse node; under load blocks wait and grow instead.',
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
  logLevel: {
    type: 'choice',
    choices: ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'],
    default: 'info',
    description: 'Least severe log lines that are written.',
    example: 'debug',
  },
} as const satisfies Record<string, Option>;

export type OptionName = keyof typeof options;

type ValueOf<O> = O extends { readonly type: 'number' }
  ? number
  : O extends { readonly choices: readonly (infer C)[] }
    ? C
    : string;

/** All options with their resolved values. */
export type Config = { readonly [N in OptionName]: ValueOf<(typeof options)[N]> };

/** Every option, in the order of the table. */
export const optionNames = Object.keys(options) as readonly OptionName[];

/** The headings of --help and docs/configuration.md; every option stands under exactly one. */
export const optionGroups: readonly { readonly title: string; readonly names: readonly OptionName[] }[] = [
  { title: 'Process', names: ['role', 'dataDir', 'stopDeadlineMs', 'logLevel'] },
  { title: 'Threads', names: ['producers', 'sinks', 'readers'] },
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

/** What a value may be, in words: `0 to 65535`, `memory, log or store`, `text`. */
export function optionRange(option: Option): string {
  if (option.type === 'string') return 'text';
  if (option.type === 'choice')
    return `${option.choices.slice(0, -1).join(', ')} or ${option.choices.at(-1)}`;
  return `${option.min} to ${option.max}${option.default === 'auto' ? ', or auto' : ''}`;
}
