// What one shard answers to shardStatement: groups and their cells, each with the numbers of this shard alone and the
// states by which it can be merged with those of other shards. Runs on reader threads.

import type { RowBinaryCursor } from './row_binary.ts';
import { shardGroupsMax } from './statistics_statement.ts';

/** The numbers of a cell, of a group or of all events of a shard. */
export interface ShardSummary {
  /** Start of the bucket, epoch ms; 0 of a group. */
  readonly tMs: number;
  readonly count: number;
  readonly subjects: number;
  readonly subjectsState: Buffer;
  readonly lagSum: bigint;
  readonly lagQuantiles: readonly number[];
  readonly lagState: Buffer;
  /** Null where no value was asked for. */
  readonly value: ShardValues | null;
}

/** Of the numbers at the `value` path; what is not finite stands for nothing, or for a sum beyond the doubles. */
export interface ShardValues {
  readonly count: number;
  readonly sum: number;
  readonly min: number;
  readonly max: number;
  readonly quantiles: readonly number[];
  readonly state: Buffer;
}

export interface ShardGroup {
  readonly values: readonly (string | null)[];
  readonly count: number;
  /** Null where only the count was sent. */
  readonly summary: ShardSummary | null;
  readonly cells: readonly ShardSummary[];
}

export interface ShardGroups {
  /** Null where there are no events. */
  readonly total: ShardSummary | null;
  /** Largest first. */
  readonly groups: readonly ShardGroup[];
  /** There are more groups than these. */
  readonly isCut: boolean;
  /** Cells of the groups that have a summary; if that is more than an answer may have, they were not sent. */
  readonly cellsOfAll: number;
}

/** Reads a whole answer. `isGrouped`: there were group_by paths; else the total is also the only group. */
export function readShardGroups(cursor: RowBinaryCursor, isGrouped: boolean, hasValue: boolean): ShardGroups {
  const groups: ShardGroup[] = [];
  let total: ShardSummary | null = null;
  let cellsOfAll = 0;
  while (!cursor.isAtEnd) {
    const isTotal = cursor.uint8() === 1;
    const values = cursor.array(() => cursor.nullable(() => cursor.text()));
    const count = Number(cursor.uint64());
    const [summary = null] = cursor.array(() => readSummary(cursor, hasValue));
    cellsOfAll = Number(cursor.uint64());
    const cells = cursor.array(() => readSummary(cursor, hasValue));
    // Without GROUP BY there is a row even if there are no events.
    if (count === 0) continue;
    if (isTotal) total = summary;
    if (!isTotal || !isGrouped) groups.push({ values, count, summary, cells });
  }
  const isCut = groups.length > shardGroupsMax;
  return { total, groups: groups.slice(0, shardGroupsMax), isCut, cellsOfAll };
}

function readSummary(cursor: RowBinaryCursor, hasValue: boolean): ShardSummary {
  return {
    tMs: Number(cursor.int64()),
    count: Number(cursor.uint64()),
    subjects: Number(cursor.uint64()),
    subjectsState: cursor.blob(),
    lagSum: cursor.int64(),
    lagQuantiles: cursor.array(() => cursor.float64()),
    lagState: cursor.blob(),
    value: hasValue ? readValues(cursor) : null,
  };
}

function readValues(cursor: RowBinaryCursor): ShardValues {
  return {
    count: Number(cursor.uint64()),
    sum: cursor.float64(),
    min: cursor.float64(),
    max: cursor.float64(),
    quantiles: cursor.array(() => cursor.float64()),
    state: cursor.blob(),
  };
}
