// Which shards there are and which of them a node is, as the node itself has it recorded: the table `layout`, a row for
// each version. What is configured has to agree with it, because a partition's shard follows from the number of shards:
// a sink that counted other shards would look for a partition's ledger where it is not, and store everything again.
//
// Shards are only ever added at the end, so a shard keeps its number in every version. A node of a shard that came later
// has the versions before it too, so that each node tells the whole history.

import { EssError } from '../errors.ts';
import { type Store, StoreError, shardOf } from './store.ts';

/** Where a node stands among the shards. */
export interface ShardPlace {
  /** Number of its shard, from 0. */
  readonly shard: number;
  /** Number of all shards. */
  readonly shards: number;
}

/** One version of the layout, as a node has it. `shard` is not below `shards` where the node's shard came later. */
export interface LayoutVersion extends ShardPlace {
  /** From 1, without gaps. */
  readonly version: number;
  /** When it was recorded, epoch ms. */
  readonly recordedMs: number;
}

/** ClickHouse's number for a table that is not there. */
const unknownTable = 60;

/**
 * The versions that a node has recorded, the latest last; empty if there are none, or no table for them. Rejects with
 * StoreError, and with EssError `format_unknown` for rows that no ESS has written.
 */
export async function readLayouts(store: Store): Promise<LayoutVersion[]> {
  let rows: Record<'version' | 'shards' | 'shard' | 'recorded_ms', string | number>[];
  try {
    // Grouped, because a row that was written again may be there twice until a merge.
    rows = await store.rows(
      `SELECT version, shards, shard, max(toUnixTimestamp64Milli(recorded_time)) AS recorded_ms
       FROM layout GROUP BY version, shards, shard ORDER BY version, shards, shard`,
    );
  } catch (error) {
    if (error instanceof StoreError && error.code === unknownTable) return [];
    throw error;
  }
  const history = rows.map((row) => ({
    version: Number(row.version),
    shards: Number(row.shards),
    shard: Number(row.shard),
    recordedMs: Number(row.recorded_ms),
  }));
  for (const [i, { version, shards, shard }] of history.entries()) {
    const before = history[i - 1];
    const follows = before === undefined || (before.shards < shards && before.shard === shard);
    if (version === i + 1 && follows) continue;
    throw new EssError(
      'format_unknown',
      `${store.name}: table layout has version ${version} (shard ${shard} of ${shards}) ${
        before === undefined
          ? 'and none before it'
          : `after version ${before.version} (shard ${before.shard} of ${before.shards})`
      }`,
    );
  }
  const latest = history.at(-1);
  if (latest !== undefined && latest.shard >= latest.shards) {
    const text = `${store.name}: table layout says shard ${latest.shard} of ${latest.shards}`;
    throw new EssError('format_unknown', text);
  }
  return history;
}

/** Writes versions that a node does not have yet. To write one again changes nothing. Rejects with StoreError. */
export async function recordLayouts(store: Store, versions: readonly LayoutVersion[]): Promise<void> {
  // One after the other, the oldest first: what is there of a history is always its beginning.
  for (const { version, shards, shard, recordedMs } of versions) {
    await store.command(
      `INSERT INTO layout (version, shards, shard, recorded_time)
       SELECT {version:UInt32}, {shards:UInt16}, {shard:UInt16}, fromUnixTimestamp64Milli({recorded:Int64}, 'UTC')`,
      { version, shards, shard, recorded: recordedMs },
      // Not taken for a repeat of a row that somebody has removed since.
      { settings: { insert_deduplicate: 0, async_insert: 0 } },
    );
  }
}

/**
 * For a store that knows of no other node: records the place as version 1 if nothing is recorded, then checks it.
 * Rejects as `checkLayout`.
 */
export async function ensureLayout(store: Store, place: ShardPlace): Promise<void> {
  if ((await readLayouts(store)).length === 0)
    await recordLayouts(store, [{ ...place, version: 1, recordedMs: Date.now() }]);
  await checkLayout(store, place);
}

/**
 * The versions that a node has recorded, if the latest is the place that it is configured at. Rejects with EssError
 * `bad_option`, naming the node, both places and the command that mends it; and as `readLayouts`.
 */
export async function checkLayout(store: Store, place: ShardPlace): Promise<LayoutVersion[]> {
  const history = await readLayouts(store);
  const latest = history.at(-1);
  if (latest?.shard === place.shard && latest.shards === place.shards) return history;
  throw new EssError(
    'bad_option',
    `${store.name} is recorded as ${placeText(latest)}, but --clickhouse makes it ${placeText(place)}; this mends it: ${mendOf(latest, place)}`,
  );
}

/** A place in words: "shard 0 of 2", with the version that says so where it is known. */
export function placeText(place: ShardPlace | LayoutVersion | undefined): string {
  if (place === undefined) return 'no shard';
  const text = `shard ${place.shard} of ${place.shards}`;
  return 'version' in place ? `${text} (layout version ${place.version})` : text;
}

/** The command that makes both agree, or what a person has to do. */
function mendOf(latest: LayoutVersion | undefined, place: ShardPlace): string {
  if (latest === undefined) return 'ess init';
  if (latest.shard !== place.shard) return 'the shards in --clickhouse in the order that ess init shows';
  if (latest.shards > place.shards) return `all ${latest.shards} shards in --clickhouse`;
  return 'ess init --apply, if shards were added at the end';
}

/**
 * Shards that had a partition before the one that has it now, each once, the latest first; empty if it never moved.
 * `history`: the latest version last.
 */
export function formerShards(history: readonly ShardPlace[], partition: number): number[] {
  const owners = new Set(history.toReversed().map(({ shards }) => shardOf(partition, shards)));
  return [...owners].slice(1);
}
