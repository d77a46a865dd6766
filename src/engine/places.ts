// Which ClickHouse node each sink thread of this process owns, so that all threads of all processes together own every
// shard, and prefer every replica, as evenly as they can without asking each other. Pure.
//
// All nodes stand in a row, the first replicas of all shards first, then the second ones. The threads of all processes
// are counted through along it, round and round: process number k, of n threads, begins at place k * n. A process does
// not know the others, only its own number; what it says of itself is the same for as long as it lives, since another
// word would be a rebalance.

import type { StoreLayout } from '../store/store.ts';

/** A node within the layout. */
export interface NodePlace {
  readonly shard: number;
  readonly replica: number;
  /** Number of the thread among those of all processes: of shards that are not its own it prefers this replica. */
  readonly turn: number;
}

/** The places of the threads of process `ordinal` (from 0), of which each process has `count`. */
export function sinkPlaces({ shards }: StoreLayout, ordinal: number, count: number): NodePlace[] {
  const depth = Math.max(...shards.map((replicas) => replicas.length));
  const nodes = Array.from({ length: depth }, (_, replica) =>
    shards.flatMap((replicas, shard) => (replica < replicas.length ? [{ shard, replica }] : [])),
  ).flat();
  return Array.from({ length: count }, (_, index) => {
    const turn = ordinal * count + index;
    return { ...(nodes[turn % nodes.length] ?? { shard: 0, replica: 0 }), turn };
  });
}
