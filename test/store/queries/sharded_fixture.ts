// Shards of two replicas each for tests of the reads, real nodes over HTTP, and beside them one store with the same
// rows: what the shards answer is compared with what that one answers.

import assert from 'node:assert/strict';
import { openStore } from '../../../src/store/client.ts';
import { handleRead, type ReadAnswer } from '../../../src/store/queries/handle.ts';
import { openShards, type Shards } from '../../../src/store/queries/shards.ts';
import { quoteLiteral } from '../../../src/store/query_params.ts';
import { createTables } from '../../../src/store/schema.ts';
import type { HttpTarget, Store } from '../../../src/store/store.ts';
import { ClickHouseNode } from '../../support/clickhouse_node.ts';
import { bodyText, Fixture, type FullRow, fullRow, nowMs, query, type TestRow } from './fixture.ts';

/** A read of a test on a slow, busy machine must not run into its limit. */
const timeoutMs = 120_000;

export class ShardedFixture {
  readonly nodes: readonly ClickHouseNode[];
  readonly #stores: readonly Store[];
  readonly #shards: Shards;

  private constructor(nodes: readonly ClickHouseNode[], stores: readonly Store[], shards: Shards) {
    this.nodes = nodes;
    this.#stores = stores;
    this.#shards = shards;
  }

  static async open(shardCount = 2): Promise<ShardedFixture> {
    const nodes = await Promise.all(
      Array.from({ length: shardCount }, () => ClickHouseNode.start({ replicas: 2, isReplicated: true })),
    );
    const targets = nodes.map((node) => node.targets());
    const stores: Store[] = [];
    try {
      for (const [target] of targets) {
        if (target === undefined) continue;
        const store = await openStore(target);
        stores.push(store);
        for (const statement of createTables('replicated')) await store.command(statement);
      }
      return new ShardedFixture(nodes, stores, await openShards({ shards: targets }));
    } catch (error) {
      // Nodes that run would keep the test from ending.
      await Promise.all(nodes.map((node) => node.dispose()));
      throw error;
    }
  }

  async close(): Promise<void> {
    await this.#shards.close();
    await Promise.all(this.#stores.map((store) => store.close()));
    await Promise.all(this.nodes.map((node) => node.dispose()));
  }

  /** As targets for reader threads and for shards with a memory of their own. */
  get targets(): readonly (readonly HttpTarget[])[] {
    return this.nodes.map((node) => node.targets());
  }

  async clear(): Promise<void> {
    await Promise.all(this.#stores.map((store) => store.command('TRUNCATE TABLE events')));
  }

  /** The shard of an event: all its copies are there, as all its retries have one key. */
  shardOf({ source = '', id }: TestRow): number {
    let hash = 7;
    for (const character of `${source}/${id}`) hash = (hash * 31 + (character.codePointAt(0) ?? 0)) >>> 0;
    return (hash >>> 3) % this.nodes.length;
  }

  /** Inserts rows as one part on each shard; copies of one event stay apart only in different calls. */
  async insert(rows: readonly TestRow[]): Promise<void> {
    await Promise.all(
      this.#stores.map((store, shard) =>
        insertRows(
          store,
          rows.filter((row) => this.shardOf(row) === shard),
        ),
      ),
    );
  }

  /** `statement` makes rows of a series on one shard. */
  async command(shard: number, statement: string): Promise<void> {
    await this.#stores[shard]?.command(statement);
  }

  async read(path: string, query = '', accept = ''): Promise<ReadAnswer> {
    return readFrom(this.#shards, path, query, accept);
  }
}

export async function readFrom(
  shards: Shards,
  path: string,
  query = '',
  accept = '',
  limitMs = timeoutMs,
): Promise<ReadAnswer> {
  return handleRead(shards, { path, query, accept }, { timeoutMs: limitMs, nowMs });
}

async function insertRows(store: Store, rows: readonly TestRow[]): Promise<void> {
  if (rows.length === 0) return;
  const full = rows.map(fullRow);
  const list = (name: keyof FullRow): string =>
    `[${full.map((row) => (typeof row[name] === 'string' ? quoteLiteral(row[name]) : String(row[name]))).join(',')}]`;
  // In the statement itself: parameters would have to fit into a URL.
  await store.command(
    `INSERT INTO events SELECT
       toInt32((time_ms - positiveModulo(time_ms, 3600000)) / 3600000), source, id, type, subject, key,
       fromUnixTimestamp64Milli(time_ms, 'UTC'), fromUnixTimestamp64Milli(ingest_ms, 'UTC'),
       fromUnixTimestamp64Milli(log_ms, 'UTC'), fromUnixTimestamp64Milli(store_ms, 'UTC'), flags, 'test', partition, offset, version, body
     FROM system.one ARRAY JOIN
       ${list('id')} AS id, ${list('source')} AS source, ${list('type')} AS type, ${list('subject')} AS subject,
       ${list('key')} AS key, CAST(${list('timeMs')} AS Array(Int64)) AS time_ms, CAST(${list('ingestMs')} AS Array(Int64)) AS ingest_ms,
       CAST(${list('logMs')} AS Array(Int64)) AS log_ms,
       CAST(${list('storeMs')} AS Array(Int64)) AS store_ms, ${list('flags')} AS flags, ${list('partition')} AS partition,
       ${list('offset')} AS offset, ${list('version')} AS version, ${list('body')} AS body`,
    {},
    { settings: { max_query_size: 64 * 1024 * 1024 } },
  );
}

/** Shards, and one store in this process that has the same rows. */
export class ShardsAndWhole {
  readonly shards: ShardedFixture;
  readonly whole: Fixture;

  private constructor(shards: ShardedFixture, whole: Fixture) {
    this.shards = shards;
    this.whole = whole;
  }

  static async open(): Promise<ShardsAndWhole> {
    const shards = await ShardedFixture.open();
    return new ShardsAndWhole(shards, await Fixture.open());
  }

  async close(): Promise<void> {
    await this.shards.close();
    await this.whole.close();
  }

  async clear(): Promise<void> {
    await Promise.all([this.shards.clear(), this.whole.clear()]);
  }

  async insert(rows: readonly TestRow[]): Promise<void> {
    await Promise.all([this.shards.insert(rows), this.whole.insert(rows)]);
  }

  /** Asserts that both answer alike, and gives the text. */
  async same(path: string, parameters: Parameters = {}, accept = ''): Promise<string> {
    const text = query(parameters);
    const [actual, expected] = await Promise.all([
      this.shards.read(path, text, accept),
      this.whole.read(path, text, accept),
    ]);
    assert.deepEqual(
      { ...actual, body: comparable(bodyText(actual)) },
      { ...expected, body: comparable(bodyText(expected)) },
      `${path}?${text}`,
    );
    return bodyText(actual);
  }
}

export type Parameters = Readonly<Record<string, string | number>>;

/**
 * Numbers to 12 digits, since sums of doubles depend on their order, and no shard and part, which are different on
 * purpose; everything else as it is.
 */
function comparable(text: string): string {
  return text
    .replace(/"shard \d+, part [^"]*"/, '""')
    .replace(/-?\d+\.\d{6,}(?:e[-+]?\d+)?/g, (number) => String(Number(Number(number).toPrecision(12))));
}
