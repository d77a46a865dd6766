// What the options say of ClickHouse: whether they fit together, and how each node is reached. Runs once, at start, on
// the main thread.

import { EssError } from '../errors.ts';
import { certificateOf, secretOf } from './file.ts';
import type { Describe } from './kafka.ts';
import type { Config } from './options.ts';
import { parseShards } from './shards.ts';

/** How to reach one node; travels to worker threads as it is. The password is in memory only. */
export interface ClickhouseNode {
  /** "http://host:port" or "https://host:port", without a path. */
  readonly url: string;
  readonly user: string;
  /** Empty where there is none. */
  readonly password: string;
  readonly database: string;
  /** PEM text of the authorities to trust with https; empty: those that Node.js knows. */
  readonly tlsCa: string;
  readonly compression: 'none' | 'gzip';
  /** Time for one insert, ms; past it the next replica is tried. */
  readonly requestTimeoutMs: number;
}

/** Shards that events are spread over: 1 where the store is embedded. */
export function shardCount(config: { readonly clickhouse: string }): number {
  return config.clickhouse === '' ? 1 : shardsOf(config).length;
}

/** Throws EssError `bad_option` for ClickHouse options that contradict each other. Files are not looked at. */
export function checkClickhouse(config: Config, describe: Describe): void {
  if (config.clickhouse === '') return;
  const shards = shardsOf(config);
  if (config.partitions % shards.length !== 0) {
    throw new EssError(
      'bad_option',
      // A key has to stay on its shard when partitions are added, and every shard gets as many of them.
      `${describe('partitions')}, but must be a multiple of the ${shards.length} shards, as ${describe('clickhouse')}`,
    );
  }
  const hasTls = shards.flat().some((url) => url.startsWith('https:'));
  if (config.clickhouseTlsCaFile !== '' && !hasTls) {
    throw new EssError(
      'bad_option',
      `${describe('clickhouseTlsCaFile')}, but no URL begins with https, as ${describe('clickhouse')}`,
    );
  }
}

/**
 * The nodes by shard and replica; null where the store is embedded. Reads the files of authorities and of the
 * password: call it once, on the main thread. Throws EssError `bad_option`, naming the option, for a file that cannot
 * be read or used.
 */
export function clickhouseNodes(config: Config): ClickhouseNode[][] | null {
  if (config.clickhouse === '') return null;
  const common = {
    user: config.clickhouseUser,
    password: secretOf(config, 'clickhousePassword'),
    database: config.clickhouseDatabase,
    tlsCa: certificateOf(config, 'clickhouseTlsCaFile'),
    compression: config.clickhouseCompression,
    requestTimeoutMs: config.clickhouseRequestTimeoutMs,
  };
  return shardsOf(config).map((replicas) => replicas.map((url) => ({ url, ...common })));
}

function shardsOf({ clickhouse }: { readonly clickhouse: string }): string[][] {
  const shards = parseShards(clickhouse);
  if (typeof shards === 'string') throw new EssError('bad_option', `--clickhouse must ${shards}`);
  return shards;
}
