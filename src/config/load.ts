// Resolves the configuration once, at start, on the main thread: flags over environment over the JSON file over
// defaults, every value checked wherever it came from. It also adds up the memory that the configured bounds allow.
// Nothing is ignored: an unknown name is an error, because a misspelt bound would otherwise silently not hold.

import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { EssError } from '../errors.ts';
import { viewerBacklogBytesMax, viewersMax } from '../live/bounds.ts';
import { appendsMax } from '../log/kafka/target.ts';
import { checkClickhouse, shardCount } from './clickhouse.ts';
import { checkKafka, hasKafka } from './kafka.ts';
import {
  type Config,
  type Option,
  type OptionName,
  optionFlag,
  optionKey,
  optionNames,
  optionRange,
  options,
  optionVariable,
} from './options.ts';

/** Variables that begin with ESS_ and are not options: the file's name, and what the tests set. */
const otherVariables: readonly string[] = ['ESS_CONFIG', 'ESS_FAULT', 'ESS_REQUIRE_ALL'];
const testVariablePrefix = 'ESS_TEST_';

/** Bytes kept free of a ring beside its two largest bodies: record headers, ids and the padding at the wrap. */
const ringReserveBytes = 4096;

/** A value before it was checked. */
interface Given {
  readonly value: unknown;
  /** Where it came from, in words for an error message. */
  readonly origin: string;
}

/** The origin of what nobody gave. */
const defaultOrigin = 'the default';

/** A flag of a command line. */
export interface Flag {
  readonly type: 'boolean' | 'string';
  /** True if it may be given several times; otherwise the last one counts. */
  readonly isRepeatable?: boolean;
}

/** A command line taken apart, but with values still unchecked. */
export interface ParsedFlags {
  /** Values by flag name without dashes, in the order given; a boolean flag has the value `true`. */
  readonly values: ReadonlyMap<string, readonly string[]>;
  readonly positionals: readonly string[];
}

/** A configuration, and which of its options somebody gave a value (`auto` is none). */
export interface Loaded {
  readonly config: Config;
  readonly given: ReadonlySet<OptionName>;
}

/**
 * The configuration for a command line (without `node` and the script), an environment and a number of cores.
 * Throws EssError `bad_option`, whose message names the option, its origin, the value and what is allowed.
 */
export function loadConfig(argv: readonly string[], env: NodeJS.ProcessEnv, cores: number): Config {
  return configFrom(parseConfigFlags(argv), env, cores).config;
}

/** Takes a command line with options of the table apart; `more` are the command's own flags. See `parseFlags`. */
export function parseConfigFlags(
  argv: readonly string[],
  more: ReadonlyMap<string, Flag> = new Map(),
): ParsedFlags {
  refuseSecretFlags(argv);
  const flags = parseFlags(argv, new Map([...configFlags, ...more]));
  const unexpected = flags.positionals[0];
  if (unexpected !== undefined) {
    throw new EssError('bad_option', `unexpected argument ${JSON.stringify(unexpected)}`);
  }
  return flags;
}

/** The configuration that flags, the environment and the file named by either make together. See `loadConfig`. */
export function configFrom(flags: ParsedFlags, env: NodeJS.ProcessEnv, cores: number): Loaded {
  const given = new Map<OptionName, Given>();
  // From the weakest source to the strongest: a later one replaces what an earlier one gave.
  const configFlag = flags.values.get('config')?.at(-1);
  const configFile = configFlag ?? env['ESS_CONFIG'] ?? '';
  if (configFile !== '') takeFile(configFile, given);
  else if (configFlag !== undefined) throw new EssError('bad_option', '--config needs the name of a file');
  takeEnvironment(env, given);
  for (const name of optionNames) {
    // A secret is in no flag: `parseFlags` did not know it.
    const value = flags.values.get(optionFlag(name))?.at(-1);
    if (value !== undefined) give(given, name, fromText(options[name], value), 'the command line');
  }

  const values = Object.fromEntries(
    optionNames.map((name) => [name, given.get(name)?.value ?? options[name].default]),
  );
  // Every value was checked against its option's type when it was given.
  const config = hideSecrets(resolveAuto(values as Unresolved, cores));
  checkTogether(config, given);
  const names = [...given].filter(([, { value }]) => value !== 'auto').map(([name]) => name);
  return { config, given: new Set(names) };
}

/** Refuses passwords on the command line; see SecretOption for the reason. */
function refuseSecretFlags(argv: readonly string[]): void {
  for (const name of secretNames) {
    const flag = `--${optionFlag(name)}`;
    if (argv.some((argument) => argument === flag || argument.startsWith(`${flag}=`))) {
      throw new EssError('bad_option', `${flag} is refused: ${secretAdvice(name)}`);
    }
  }
}

/** What to do instead of giving a secret where others can read it. */
function secretAdvice(name: OptionName): string {
  const option: Option = options[name];
  const file = option.type === 'secret' ? ` or name its file with --${optionFlag(option.fileOption)}` : '';
  return `others could read the password there; set ${optionVariable(name)} instead,${file}`;
}

/** Makes the secrets properties that printing, copying and sending to another thread leave out. */
function hideSecrets(config: Config): Config {
  for (const name of secretNames) Object.defineProperty(config, name, { enumerable: false });
  return config;
}

/** A Config whose numbers may still be 'auto'. */
type Unresolved = { readonly [N in keyof Config]: Config[N] extends number ? number | 'auto' : Config[N] };

const secretNames = optionNames.filter((name) => options[name].type === 'secret');

const configFlags: ReadonlyMap<string, Flag> = new Map([
  ['config', { type: 'string' }],
  ...optionNames
    .filter((name) => !secretNames.includes(name))
    .map((name): [string, Flag] => [optionFlag(name), { type: 'string' }]),
]);

function takeFile(file: string, given: Map<OptionName, Given>): void {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    throw new EssError('bad_option', `--config: cannot read ${file}: ${reasonOf(cause)}`, { cause });
  }
  let content: unknown;
  try {
    content = JSON.parse(text.replace(/^\uFEFF/, ''));
  } catch (cause) {
    throw new EssError('bad_option', `--config: ${file} is not valid JSON: ${reasonOf(cause)}`, { cause });
  }
  if (typeof content !== 'object' || content === null || Array.isArray(content)) {
    throw new EssError('bad_option', `--config: ${file} must hold one JSON object`);
  }
  const byKey = new Map(optionNames.map((name) => [optionKey(name), name]));
  for (const [key, value] of Object.entries(content)) {
    const name = byKey.get(key);
    if (name === undefined) {
      throw new EssError(
        'bad_option',
        `unknown key ${JSON.stringify(key)} in ${file}${suggestion(key, [...byKey.keys()])}`,
      );
    }
    const origin = `key ${JSON.stringify(key)} of ${file}`;
    if (secretNames.includes(name)) throw new EssError('bad_option', `${origin}: ${secretAdvice(name)}`);
    give(given, name, value, origin);
  }
}

function takeEnvironment(env: NodeJS.ProcessEnv, given: Map<OptionName, Given>): void {
  const byVariable = new Map(optionNames.map((name) => [optionVariable(name), name]));
  for (const [variable, value] of Object.entries(env)) {
    if (!variable.startsWith('ESS_') || value === undefined) continue;
    if (otherVariables.includes(variable) || variable.startsWith(testVariablePrefix)) continue;
    const name = byVariable.get(variable);
    if (name === undefined) {
      throw new EssError(
        'bad_option',
        // Without its value: it may be a password under a misspelt name.
        `unknown environment variable ${variable}${suggestion(variable, [...byVariable.keys()])}`,
      );
    }
    // Compose files pass variables on that may be unset: `ESS_PORT=` means the same as no ESS_PORT.
    if (value !== '') give(given, name, fromText(options[name], value), `environment variable ${variable}`);
  }
}

/** Text as the type that the option has; text that is not a number stays text and fails the check. */
function fromText(option: Option, text: string): unknown {
  return option.type === 'number' && /^(?:0|-?[1-9]\d{0,14})$/.test(text) ? Number(text) : text;
}

function give(given: Map<OptionName, Given>, name: OptionName, value: unknown, origin: string): void {
  const option: Option = options[name];
  const fault = faultOf(option, value);
  if (fault !== null) {
    throw new EssError('bad_option', `${stated(name, value, origin)}, but must ${fault}`);
  }
  given.set(name, { value, origin });
}

/** What a value must be and is not, in words after "but must"; null if it is valid. */
function faultOf(option: Option, value: unknown): string | null {
  if (!isValid(option, value)) {
    return `be ${option.type === 'number' ? 'a whole number from ' : ''}${optionRange(option)}`;
  }
  if (option.type !== 'string' || option.fault === undefined || value === option.default) return null;
  return option.fault(String(value));
}

/** An option with its origin and value. A secret is named by its variable, and its value not shown. */
function stated(name: OptionName, value: unknown, origin: string): string {
  if (options[name].type === 'secret') return `${optionVariable(name)} is set`;
  const text = JSON.stringify(value);
  // Somebody may have written a password into an address.
  const shown = text.includes('@') ? 'not shown here, since it has an @' : text;
  return `--${optionFlag(name)} (${origin === defaultOrigin ? origin : `from ${origin}`}) is ${shown}`;
}

function isValid(option: Option, value: unknown): boolean {
  if (option.type === 'number') {
    if (value === 'auto') return option.default === 'auto';
    return typeof value === 'number' && Number.isInteger(value) && value >= option.min && value <= option.max;
  }
  if (typeof value !== 'string') return false;
  if (option.type === 'choice') return option.choices.includes(value);
  return (value !== '' || option.default === '') && !value.includes('\0');
}

function resolveAuto(config: Unresolved, cores: number): Config {
  const partitions = config.partitions === 'auto' ? automaticPartitions(config) : config.partitions;
  const automatic = {
    producers: Math.max(1, Math.floor((cores * 3) / 8)),
    // A partition belongs to one thread: more threads than partitions would idle.
    sinks: Math.min(Math.max(1, Math.floor(cores / 2)), partitions),
    readers: Math.max(2, Math.floor(cores / 4)),
  };
  const resolved = {
    ...config,
    partitions,
    producers: config.producers === 'auto' ? clamp('producers', automatic.producers) : config.producers,
    sinks: config.sinks === 'auto' ? clamp('sinks', automatic.sinks) : config.sinks,
    readers: config.readers === 'auto' ? clamp('readers', automatic.readers) : config.readers,
  };
  // No other option has 'auto' as its default, and `isValid` refuses it where it is not the default.
  return resolved as Config;
}

/** Partitions of a new log, before ClickHouse's shards are looked at. A topic's number is hard to raise later. */
const embeddedPartitions = 4;
const kafkaPartitions = 12;

function automaticPartitions(config: Unresolved): number {
  const shards = shardCount(config);
  const least = hasKafka(config) ? kafkaPartitions : embeddedPartitions;
  return Math.ceil(least / shards) * shards;
}

function clamp(name: 'producers' | 'sinks' | 'readers', value: number): number {
  return Math.min(Math.max(value, options[name].min), options[name].max);
}

/** Combinations in which each value is allowed and yet no request could ever succeed. */
function checkTogether(config: Config, given: ReadonlyMap<OptionName, Given>): void {
  const describe = (name: OptionName): string =>
    stated(name, config[name], given.get(name)?.origin ?? defaultOrigin);
  for (const name of ['ringBytes', 'ackRingBytes'] as const) {
    if (!Number.isInteger(Math.log2(config[name]))) {
      throw new EssError('bad_option', `${describe(name)}, but must be a power of two`);
    }
  }
  const atMost = (name: NumberName, limit: number, limitWords: string, limitName: NumberName): void => {
    if (config[name] <= limit) return;
    throw new EssError(
      'bad_option',
      `${describe(name)}, but must be at most ${limit} (${limitWords}), as ${describe(limitName)}`,
    );
  };
  atMost(
    'httpBodyBytesMax',
    config.ringBytes / 2 - ringReserveBytes,
    `half of ring-bytes less ${ringReserveBytes}`,
    'ringBytes',
  );
  atMost('httpBodyBytesMax', config.httpPendingBytesMax, 'http-pending-bytes-max', 'httpPendingBytesMax');
  atMost(
    'eventBytesMax',
    config.httpDecompressedBytesMax,
    'http-decompressed-bytes-max',
    'httpDecompressedBytesMax',
  );
  if (!hasKafka(config)) atMost('eventBytesMax', config.logBytesMax, 'log-bytes-max', 'logBytesMax');
  checkKafka(config, describe);
  checkClickhouse(config, describe);
}

type NumberName = { [N in OptionName]: Config[N] extends number ? N : never }[OptionName];

/**
 * Takes a command line apart. Throws EssError `bad_option` for a flag that is not in `flags`, one without its value,
 * and a value for one that has none.
 */
export function parseFlags(argv: readonly string[], flags: ReadonlyMap<string, Flag>): ParsedFlags {
  const { tokens } = parseArgs({
    args: [...argv],
    options: Object.fromEntries([...flags].map(([name, flag]) => [name, { type: flag.type }])),
    // Not strict, for the sake of better messages: parseArgs knows no nearest name.
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  const values = new Map<string, string[]>();
  const positionals: string[] = [];
  for (const token of tokens) {
    if (token.kind === 'positional') positionals.push(token.value);
    if (token.kind !== 'option') continue;
    const flag = flags.get(token.name);
    if (flag === undefined) {
      const known = [...flags.keys()].map((name) => `--${name}`);
      throw new EssError('bad_option', `unknown option ${token.rawName}${suggestion(token.rawName, known)}`);
    }
    values.set(token.name, [
      ...((flag.isRepeatable && values.get(token.name)) || []),
      flagValue(token, flag),
    ]);
  }
  return { values, positionals };
}

interface OptionToken {
  readonly rawName: string;
  readonly value: string | undefined;
  readonly inlineValue: boolean | undefined;
}

function flagValue(token: OptionToken, flag: Flag): string {
  if (flag.type === 'boolean') {
    if (token.value === undefined) return 'true';
    throw new EssError(
      'bad_option',
      `${token.rawName} takes no value, but has ${JSON.stringify(token.value)}`,
    );
  }
  // A negative number is a value (though none is in range); any other dash means that the value was forgotten.
  const isNextFlag = !token.inlineValue && token.value !== undefined && /^-[^\d]/.test(token.value);
  if (token.value === undefined || isNextFlag) {
    throw new EssError(
      'bad_option',
      `${token.rawName} needs a value (${token.rawName}=VALUE if it begins with a dash)`,
    );
  }
  return token.value;
}

/** `; did you mean X?` for the candidate nearest to a misspelt name, or nothing if none is near. */
export function suggestion(name: string, candidates: readonly string[]): string {
  // Case and separators do not count: --sinkLingerMs and SINK_LINGER_MS are the same mistake.
  const plain = (text: string): string => text.toLowerCase().replace(/[^a-z\d]/g, '');
  const wanted = plain(name);
  let nearest = '';
  // Further away than this is another word rather than a slip.
  let distance = Math.floor(wanted.length * 0.4) + 1;
  for (const candidate of candidates) {
    const d = editDistance(wanted, plain(candidate));
    if (d < distance) {
      distance = d;
      nearest = candidate;
    }
  }
  return nearest === '' ? '' : `; did you mean ${nearest}?`;
}

/** Edit distance: characters inserted, removed, replaced, or two neighbours swapped. */
function editDistance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i += 1) {
    const row = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const isSame = a[i - 1] === b[j - 1];
      const isSwapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      row.push(
        Math.min(
          (last[j - 1] ?? 0) + (isSame ? 0 : 1),
          (last[j] ?? 0) + 1,
          (row[j - 1] ?? 0) + 1,
          isSwapped ? (beforeLast[j - 2] ?? 0) + 1 : Number.POSITIVE_INFINITY,
        ),
      );
    }
    beforeLast = last;
    last = row;
  }
  return last[b.length] ?? 0;
}

function reasonOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}

/** One bounded use of memory. */
export interface MemoryBound {
  readonly name: string;
  readonly bytes: number;
  /** How the number comes about. */
  readonly why: string;
}

/** A 128-bit hash with its time in a table at most half full (40 B), and 32 bits in each of up to 7 filters. */
const identityBytes = 64;
/** A waiting response: the slot's own numbers, and uWebSockets.js's socket with its buffers. */
const slotBytes = 1024;
/** A waiting read: its parameters and the promise that waits for it. */
const queuedReadBytes = 16 * 1024;
/** One block fills while one is encoded and one is on its way to the store. */
const blocksPerSink = 3;
/** Appends of one producer under way at once in the embedded log: lmdb commits one transaction after the other. */
const embeddedAppendsMax = 1;

/**
 * Every bound that the configuration sets, in bytes: their sum is the most memory that load can make this process
 * use, on top of what Node.js, each thread and an embedded store need when idle.
 */
export function memoryBudget(config: Config): MemoryBound[] {
  const isKafka = hasKafka(config);
  // With Kafka as many again may wait for a broker in trouble.
  const appends = isKafka ? 2 * appendsMax : embeddedAppendsMax;
  // One more fills while these are being made durable.
  const groups = appends + 1;
  const ingest: MemoryBound[] = [
    {
      name: 'ingest rings',
      bytes: config.producers * config.ringBytes,
      why: `${config.producers} producers x ring-bytes`,
    },
    {
      name: 'ack rings',
      bytes: config.producers * config.ackRingBytes,
      why: `${config.producers} producers x ack-ring-bytes`,
    },
    {
      name: 'bodies still arriving',
      bytes: config.httpPendingBytesMax,
      why: 'http-pending-bytes-max, all requests together',
    },
    {
      name: 'slots of waiting responses',
      bytes: config.slotsMax * slotBytes,
      why: `${config.slotsMax} slots x about ${slotBytes} B`,
    },
    {
      name: 'decompressed bodies',
      bytes: config.producers * config.httpDecompressedBytesMax,
      why: `${config.producers} producers x http-decompressed-bytes-max, one body at a time`,
    },
    {
      name: 'log groups',
      bytes: config.producers * groups * config.groupBytesMax,
      why: `${config.producers} producers x ${groups} x group-bytes-max: one fills, ${appends} being written`,
    },
  ];
  const sink: MemoryBound[] = [
    {
      name: 'sink blocks',
      bytes: config.sinks * blocksPerSink * config.sinkBatchBytesMax,
      why: `${config.sinks} sinks x ${blocksPerSink} x sink-batch-bytes-max: one fills, one is encoded, one is sent`,
    },
    {
      name: 'identities',
      bytes: config.identitiesMax * identityBytes,
      why: `${config.identitiesMax} identities x about ${identityBytes} B, all partitions together`,
    },
    {
      name: 'waiting reads',
      bytes: config.readQueueMax * queuedReadBytes,
      why: `${config.readQueueMax} reads x about ${queuedReadBytes} B`,
    },
  ];
  if (isKafka) {
    ingest.push({
      name: 'requests to Kafka',
      bytes: config.producers * appends * config.groupBytesMax,
      why: `${config.producers} producers x ${appends} x group-bytes-max: the groups being written, as record batches`,
    });
    sink.push({
      name: 'fetched records',
      bytes: config.sinks * config.kafkaFetchBytesMax,
      why: `${config.sinks} sinks x kafka-fetch-bytes-max`,
    });
  }
  const every: MemoryBound[] = [
    {
      name: 'pages that watch',
      bytes: viewersMax * viewerBacklogBytesMax,
      why: `${viewersMax} viewers x ${viewerBacklogBytesMax} B of snapshots that they have not taken yet`,
    },
  ];
  if (config.role === 'ingest') return [...ingest, ...every];
  return config.role === 'sink' ? [...sink, ...every] : [...ingest, ...sink, ...every];
}
