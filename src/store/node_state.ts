// How one ClickHouse node stands: rows, parts, disk. One cheap statement over system tables, for /stats and the page.

import type { QueryOptions, Store } from './store.ts';

/** Null: this user may not read it. */
export interface NodeState {
  /** Rows in `events`, copies that are not merged yet included. */
  readonly rows: number | null;
  /** Active parts in the table partition of `events` that has most of them. */
  readonly parts: number | null;
  /** Number of them at which the node refuses inserts (parts_to_throw_insert). */
  readonly partsMax: number | null;
  /** Of the disk with the smallest free share. */
  readonly diskFreeBytes: number | null;
  readonly diskTotalBytes: number | null;
}

/** UInt64 comes as text. */
interface NodeRow {
  readonly rows: string | number;
  readonly parts: string | number;
  readonly own_limit: string;
  readonly limit: string | null;
  readonly disk: readonly [number, number, number];
}

const statement = `SELECT
  (SELECT sum(rows) FROM system.parts WHERE database = currentDatabase() AND table = 'events' AND active) AS rows,
  (SELECT max(parts) FROM (
    SELECT count() AS parts FROM system.parts
    WHERE database = currentDatabase() AND table = 'events' AND active GROUP BY partition_id)) AS parts,
  (SELECT any(extract(engine_full, 'parts_to_throw_insert = ([0-9]+)')) FROM system.tables
    WHERE database = currentDatabase() AND name = 'events') AS own_limit,
  (SELECT any(value) FROM system.merge_tree_settings WHERE name = 'parts_to_throw_insert') AS limit,
  (SELECT min((free_space / total_space, toFloat64(free_space), toFloat64(total_space))) FROM system.disks
    WHERE total_space > 0) AS disk`;

/** Nothing but that it answers. */
export const unknownNodeState: NodeState = {
  rows: null,
  parts: null,
  partsMax: null,
  diskFreeBytes: null,
  diskTotalBytes: null,
};

/** Rejects with StoreError: `refused` with a code means that the node is there and does not tell. */
export async function readNodeState(store: Store, options: QueryOptions): Promise<NodeState> {
  const [row] = await store.rows<NodeRow>(statement, {}, options);
  if (row === undefined) return unknownNodeState;
  const [, free, total] = row.disk;
  const limit = Number(row.own_limit === '' ? row.limit : row.own_limit);
  return {
    rows: Number(row.rows),
    parts: Number(row.parts),
    partsMax: limit > 0 ? limit : null,
    diskFreeBytes: total > 0 ? free : null,
    diskTotalBytes: total > 0 ? total : null,
  };
}
