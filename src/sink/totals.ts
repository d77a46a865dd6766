// What the ledgers of a partition say together. A partition whose shard changed has a ledger on each shard that it was
// on; ranges of the later one follow those of the one before. Runs on sink threads and on the main thread.

import { checkLayout, formerShards } from '../store/shard_layout.ts';
import { type Store, shardOf } from '../store/store.ts';
import { type LedgerTotals, noTotals, readLedger, readLedgers } from './ledger.ts';

/** Several ledgers of one partition as one. */
export function sumTotals(parts: readonly LedgerTotals[]): LedgerTotals {
  return parts.reduce(
    (sum, part) => ({
      rows: sum.rows + part.rows,
      duplicates: sum.duplicates + part.duplicates,
      parked: sum.parked + part.parked,
      holes: sum.holes + part.holes,
      covered: sum.covered + part.covered,
      next: Math.max(sum.next, part.next),
    }),
    noTotals,
  );
}

/** The ledger of one partition over the shards that it is or was on. Rejects with StoreError. */
export async function readTotals(
  stores: readonly Store[],
  epoch: string,
  partition: number,
): Promise<LedgerTotals> {
  return sumTotals(await Promise.all(stores.map((store) => readLedger(store, epoch, partition))));
}

/**
 * Reads the totals of those of the given partitions that belong to one shard now, each from all shards that it is or
 * was on, and tells them one by one; `stores`: by shard. Tells what it can: then rejects with the first StoreError, or
 * with EssError as `checkLayout`.
 */
export async function readShardTotals(
  stores: readonly Store[],
  shard: number,
  epoch: string,
  partitions: readonly number[],
  onTotals: (partition: number, totals: LedgerTotals) => void,
): Promise<void> {
  const store = stores[shard];
  const own = partitions.filter((partition) => shardOf(partition, stores.length) === shard);
  if (store === undefined || own.length === 0) return;
  const history = await checkLayout(store, { shard, shards: stores.length });
  // First where the ledger grows, then where it grew before: the other way round a range that is completed on a former
  // shard in between would be missing below one that follows it.
  const present = await readLedgers(store, epoch, own);
  /** Partitions by the former shards that they share. */
  const moved = new Map<string, { readonly former: readonly Store[]; readonly partitions: number[] }>();
  for (const partition of own) {
    const former = formerShards(history, partition);
    if (former.length === 0) {
      onTotals(partition, present.get(partition) ?? noTotals);
      continue;
    }
    const key = former.join();
    const group = moved.get(key) ?? {
      former: former.flatMap((number) => stores[number] ?? []),
      partitions: [],
    };
    moved.set(key, group);
    group.partitions.push(partition);
  }
  // At the same time, so that a former shard that does not answer holds up only what was there.
  const reads = [...moved.values()].map(async (group) => {
    const ledgers = await Promise.all(
      group.former.map((former) => readLedgers(former, epoch, group.partitions)),
    );
    for (const partition of group.partitions) {
      const parts = [present, ...ledgers].map((totals) => totals.get(partition) ?? noTotals);
      onTotals(partition, sumTotals(parts));
    }
  });
  for (const result of await Promise.allSettled(reads)) if (result.status === 'rejected') throw result.reason;
}
