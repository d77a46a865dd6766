// Whether a replica has every block that was acknowledged before it was asked. Used by what a sink decides by
// (shard_store.ts) and by reads (queries/read_session.ts); runs on any thread that has a store.
//
// An insert is acknowledged once its entry is in the table's log in Keeper; the other replicas copy that log into
// queues of their own and fetch the parts. So a replica has everything if its queue was level with the log at one
// moment, and held no insert at a later one:
//
//   first   log_pointer > log_max_index    every entry of the log is in this replica's queue
//   then    inserts_in_queue = 0           every insert that was in the queue is done
//
// The other way round, an entry could come into the queue between the two looks. A scalar subquery is run while the
// statement is being analysed, so before the rest of it. (absolute_delay alone is 0 in the first second after an
// insert.) Without Keeper both positions of the log are shown as 0 or as they were, so that only a replica that has a
// session with it, at both moments, can say anything. What is left: the log is as this replica's Keeper node knows it,
// which may be behind its leader by some milliseconds; and the very first entry of a table's log looks like none.

import type { QueryOptions, Store } from './store.ts';

const ofOurs = 'FROM system.replicas WHERE database = currentDatabase() AND table IN {tables:Array(String)}';
const hasSession = "zookeeper_exception = '' AND is_session_expired = 0 AND is_readonly = 0";

const statement = `
  SELECT toUInt32(count()) AS tables, countIf(NOT (${hasSession})) AS lost, max(absolute_delay) AS delay,
    sum(inserts_in_queue) AS inserts,
    (SELECT countIf(NOT (${hasSession}
       AND (log_pointer > log_max_index OR (log_pointer = 0 AND log_max_index = 0)))) ${ofOurs}) AS behind
  ${ofOurs}`;

type ReplicaRow = Record<'tables' | 'lost' | 'delay' | 'inserts' | 'behind', string | number>;

export interface ReplicaState {
  /** How many of the tables that were asked for are replicated. */
  readonly tables: number;
  /** All of these have every block; a table that is not replicated has no other copies to be behind of. */
  readonly isCurrent: boolean;
  /** By how much it is behind as it knows itself, seconds; Infinity without a session with Keeper. */
  readonly delayS: number;
}

/** What a replica can say of these tables. Rejects with StoreError. */
export async function readReplicaState(
  store: Store,
  tables: readonly string[],
  options: QueryOptions,
): Promise<ReplicaState> {
  const [row] = await store.rows<ReplicaRow>(statement, { tables }, options);
  const found = Number(row?.tables ?? 0);
  if (row === undefined || found === 0) return { tables: 0, isCurrent: true, delayS: 0 };
  if (Number(row.lost) > 0) return { tables: found, isCurrent: false, delayS: Number.POSITIVE_INFINITY };
  const delayS = Number(row.delay);
  const isCurrent = Number(row.behind) === 0 && Number(row.inserts) === 0 && delayS === 0;
  return { tables: found, isCurrent, delayS };
}
