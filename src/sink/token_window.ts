// For how long a block's token is surely still known to its shard: the deduplication window counts blocks, so that it
// is a question of how fast all sinks of a deployment together can push a token out. A pure function of what is
// configured; no thread of its own.

import { deduplicationWindowBlocks, deduplicationWindowSeconds } from '../store/schema.ts';

/** What decides how many blocks a second one shard can be given by all sinks together. */
export interface BlockRateLimits {
  /** Partitions of the log. */
  readonly partitions: number;
  readonly shards: number;
  /** Of one process; all processes are taken to be configured alike. */
  readonly insertsPerSecond: number;
  readonly batchRowsMax: number;
  readonly batchBytesMax: number;
}

/**
 * More than one shard takes in, whatever it runs on: a core of the machine that ESS was measured on stores 1.2 million
 * rows a second of small events, and 130 MB. Full blocks are not held back by the budget of inserts, only by this.
 */
const rowsPerSecondMax = 4_000_000;
const bytesPerSecondMax = 1024 ** 3;

/**
 * How far the estimate may be wrong: processes with other settings, blocks that are cut short at the end of a month,
 * and the halves of blocks with a refused row, which no budget holds back.
 */
const safetyFactor = 2;

/**
 * Blocks a second that one shard's `events` get at most. The number of processes is not known here, but a partition
 * has one owner: at worst each partition of the shard is a process of its own, which spends its whole budget on it.
 * The ledger gets no more, since one of its blocks takes the rows of several ranges.
 */
export function blocksPerSecondMax(limits: BlockRateLimits): number {
  const { partitions, shards, insertsPerSecond, batchRowsMax, batchBytesMax } = limits;
  const owners = Math.ceil(partitions / shards);
  return owners * insertsPerSecond + rowsPerSecondMax / batchRowsMax + bytesPerSecondMax / batchBytesMax;
}

/**
 * A token that was stored is still known for this long afterwards: until then a block may be sent again blindly. Past
 * it the rows have to be looked for first. ms, at least 1. Both windows count, whichever kind of table it is: a table
 * that is not replicated has none in seconds, which only makes it longer.
 */
export function tokenKnownMs(limits: BlockRateLimits): number {
  const seconds = Math.min(
    deduplicationWindowBlocks / blocksPerSecondMax(limits),
    deduplicationWindowSeconds,
  );
  return Math.max(1, Math.floor((seconds * 1000) / safetyFactor));
}
