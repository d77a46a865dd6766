// Reads and writes topics with kcat (librdkafka): a client that shares no code with ours, so that what one writes the
// other can be held against. Used on the test's own thread; kcat runs as a process of its own.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';

/** How long one run may take on a slow, busy machine, ms. */
const patienceMs = 120_000;
/** Bytes of lines that are handed to the pipe at once. */
const chunkBytes = 256 * 1024;

export interface KcatRecord {
  readonly partition: number;
  readonly offset: number;
  /** Epoch ms. */
  readonly timestampMs: number;
  /** Exact bytes; null if there is none. */
  readonly key: Buffer | null;
  /** Exact bytes; null for a tombstone. */
  readonly value: Buffer | null;
  /** In order; a name may come twice. */
  readonly headers: readonly { readonly name: string; readonly value: Buffer | null }[];
}

/** librdkafka's own options: {'security.protocol': 'ssl'}. */
type Properties = Readonly<Record<string, string>>;

export interface KcatConsumeOptions {
  /** Default: every partition; records of several come interleaved. */
  readonly partition?: number;
  /** Where to begin; default `beginning`. */
  readonly offset?: number | 'beginning';
  /** Waits until there were as many. Default: stops at the end of each partition. */
  readonly count?: number;
  readonly properties?: Properties;
}

export interface KcatProduceOptions {
  /** Separates the records of the input; default a line feed. */
  readonly delimiter?: string;
  /** Separates a record's key from its value. Default: no record has a key. */
  readonly keyDelimiter?: string;
  /** Default: by the key's murmur2, as Java's clients do, and without a key at random. */
  readonly partition?: number;
  readonly codec?: 'none' | 'gzip' | 'snappy' | 'lz4' | 'zstd';
  /** The same for every record. */
  readonly headers?: Properties;
  /** Writes a record without value (a tombstone) for an empty one. */
  readonly isEmptyNull?: boolean;
  readonly properties?: Properties;
}

/** True if kcat can be run. */
export function kcatAvailable(): boolean {
  return spawnSync('kcat', ['-V'], { stdio: 'ignore' }).status === 0;
}

/** As needsKafka of kafka_cluster.ts: skips loudly, or fails with ESS_REQUIRE_ALL=1. */
export function needsKcat(): { readonly skip: string | false } {
  if (kcatAvailable()) return { skip: false };
  const why = 'kcat is not on PATH (node scripts/tools.mjs kcat installs it)';
  assert.notEqual(process.env['ESS_REQUIRE_ALL'], '1', `${why}, and ESS_REQUIRE_ALL=1`);
  console.error(`SKIPPED: ${why}`);
  return { skip: why };
}

const propertyArguments = (properties: Properties): string[] =>
  Object.entries(properties).flatMap(([name, value]) => ['-X', `${name}=${value}`]);

/** kcat's notation for delimiters: control characters as \xNN. */
const delimiterArgument = (text: string): string =>
  [...Buffer.from(text)]
    .map((byte) =>
      byte < 32 || byte > 126 ? `\\x${byte.toString(16).padStart(2, '0')}` : String.fromCharCode(byte),
    )
    .join('');

/**
 * kcat writes strings into its JSON byte for byte, valid UTF-8 or not. Read as Latin-1, every byte is one character of
 * the text, so that the bytes come back exactly.
 */
const bytesOf = (text: string | null | undefined): Buffer | null =>
  text === null || text === undefined ? null : Buffer.from(text, 'latin1');

function recordOf(line: string): KcatRecord {
  const {
    partition,
    offset,
    ts,
    key,
    payload,
    headers = [],
  } = JSON.parse(line) as {
    readonly partition: number;
    readonly offset: number;
    readonly ts: number;
    readonly key: string | null;
    readonly payload: string | null;
    readonly headers?: readonly (string | null)[];
  };
  const pairs = Array.from({ length: headers.length / 2 }, (_, i) => ({
    name: bytesOf(headers[2 * i])?.toString() ?? '',
    value: bytesOf(headers[2 * i + 1]),
  }));
  return { partition, offset, timestampMs: ts, key: bytesOf(key), value: bytesOf(payload), headers: pairs };
}

/** Settles when kcat has ended well; rejects with what it said if not. */
function ended(child: ChildProcess): Promise<void> {
  let said = '';
  child.stderr?.setEncoding('utf8').on('data', (chunk: string) => {
    said = (said + chunk).slice(-4000);
  });
  const timer = setTimeout(() => child.kill('SIGKILL'), patienceMs);
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => {
      clearTimeout(timer);
      // A record that could not be delivered does not always show in the exit code.
      if (code === 0 && !said.includes('Delivery failed')) resolve();
      else reject(new Error(`kcat ended with ${code ?? signal}: ${said}`));
    });
  });
}

/** Reads records; rejects if kcat does not come to its end within two minutes. */
async function consume(
  brokers: readonly string[],
  topic: string,
  options: KcatConsumeOptions = {},
): Promise<KcatRecord[]> {
  const { partition, offset = 'beginning', count, properties = {} } = options;
  if (count === 0) return [];
  const child = spawn(
    'kcat',
    [
      ...['-C', '-q', '-J', '-b', brokers.join(','), '-t', topic, '-o', String(offset)],
      ...(partition === undefined ? [] : ['-p', String(partition)]),
      ...(count === undefined ? ['-e'] : ['-c', String(count)]),
      // Its own wait for more data would be half a second at each end of a partition.
      ...propertyArguments({ 'fetch.wait.max.ms': '50', ...properties }),
    ],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  const done = ended(child);
  const records: KcatRecord[] = [];
  let unfinished = '';
  child.stdout.setEncoding('latin1').on('data', (chunk: string) => {
    const lines = (unfinished + chunk).split('\n');
    unfinished = lines.pop() ?? '';
    for (const line of lines) records.push(recordOf(line));
  });
  await done;
  return records;
}

/** The lines, with the delimiter between them, in chunks that a pipe takes well. */
function* chunks(records: Iterable<string | Buffer>, delimiter: Buffer): Generator<Buffer> {
  let parts: Buffer[] = [];
  let bytes = 0;
  for (const record of records) {
    const part = typeof record === 'string' ? Buffer.from(record) : record;
    parts.push(part, delimiter);
    bytes += part.length + delimiter.length;
    if (bytes >= chunkBytes) {
      yield Buffer.concat(parts);
      parts = [];
      bytes = 0;
    }
  }
  if (parts.length > 0) yield Buffer.concat(parts);
}

/**
 * Writes records (or a file of them) and settles when all are acknowledged by every in-sync replica. Rejects if one
 * was not.
 */
async function produce(
  brokers: readonly string[],
  topic: string,
  records: Iterable<string | Buffer> | { readonly file: string },
  options: KcatProduceOptions = {},
): Promise<void> {
  const {
    delimiter = '\n',
    keyDelimiter,
    partition,
    codec = 'none',
    headers = {},
    isEmptyNull = false,
    properties = {},
  } = options;
  const file = 'file' in records ? openSync(records.file, 'r') : null;
  try {
    const child = spawn(
      'kcat',
      [
        ...['-P', '-q', '-b', brokers.join(','), '-t', topic, '-z', codec],
        ...['-D', delimiterArgument(delimiter)],
        ...(keyDelimiter === undefined ? [] : ['-K', delimiterArgument(keyDelimiter)]),
        ...(partition === undefined ? [] : ['-p', String(partition)]),
        ...Object.entries(headers).flatMap(([name, value]) => ['-H', `${name}=${value}`]),
        ...(isEmptyNull ? ['-Z'] : []),
        ...propertyArguments({ acks: 'all', partitioner: 'murmur2_random', ...properties }),
      ],
      { stdio: [file ?? 'pipe', 'ignore', 'pipe'] },
    );
    const done = ended(child);
    if (child.stdin !== null && !('file' in records)) {
      const input = Readable.from(chunks(records, Buffer.from(delimiter)));
      // When kcat ends early its own words say why, not the broken pipe.
      await Promise.all([done, pipeline(input, child.stdin).catch(() => done)]);
    }
    await done;
  } finally {
    if (file !== null) closeSync(file);
  }
}

export const kcat = { consume, produce };
