// Whether a replica has every block that was acknowledged before it was asked. Runs on reader threads.
//
// An insert is acknowledged once its entry is in the table's log in Keeper; the other replicas copy that log into
// queues of their own and fetch the parts. So a replica has everything if its queue was level with the log at one
// moment, and held no insert at a later one:
//
//   first   log_pointer > log_max_index    every entry of the log is in this replica's queue
//   then    inserts_in_queue = 0           every insert that was in the queue is done
//
// The other way round, an entry could come into the queue between the two looks. A scalar subquery is run while the
// statement is being analysed, so before the rest of it. What is left: the log is as this replica's Keeper node knows
// it, which may be behind its leader by some milliseconds; and the very first entry of a table's log looks like none.

import type { QueryOptions, Store } from '../store.ts';

const statement = `
  SELECT is_readonly, absolute_delay, inserts_in_queue,
    (SELECT max(log_pointer > log_max_index OR (log_pointer = 0 AND log_max_index = 0)) FROM system.replicas
     WHERE database = currentDatabase() AND table = 'events') AS has_whole_log
  FROM system.replicas WHERE database = currentDatabase() AND table = 'events'`;

interface ReplicaRow {
  readonly is_readonly: string | number;
  readonly absolute_delay: string | number;
  readonly inserts_in_queue: string | number;
  readonly has_whole_log: string | number | null;
}

export interface ReplicaState {
  readonly isCurrent: boolean;
  /** By how much it is behind as it knows itself, seconds; Infinity without a session with Keeper. */
  readonly delayS: number;
}

/** Rejects with StoreError. */
export async function readReplicaState(store: Store, options: QueryOptions): Promise<ReplicaState> {
  const [row] = await store.rows<ReplicaRow>(statement, {}, options);
  // A table that is not replicated has no other copies to be behind of.
  if (row === undefined) return { isCurrent: true, delayS: 0 };
  // Without Keeper it cannot know.
  if (Number(row.is_readonly) !== 0) return { isCurrent: false, delayS: Number.POSITIVE_INFINITY };
  const delayS = Number(row.absolute_delay);
  const isLevel = Number(row.has_whole_log ?? 0) === 1 && Number(row.inserts_in_queue) === 0;
  return { isCurrent: isLevel && delayS === 0, delayS };
}
