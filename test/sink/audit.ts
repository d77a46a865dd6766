// The invariant that everything about exactly-once comes down to, checked in the store itself: the ledger covers the
// log's offsets without gap or overlap, and every range holds the rows that it says.

import assert from 'node:assert/strict';
import type { Store } from '../../src/store/store.ts';

export interface LedgerRange {
  readonly partition: number;
  readonly first: number;
  readonly last: number;
  readonly rows: number;
  readonly duplicates: number;
  readonly parked: number;
  readonly holes: number;
}

export interface StoredEvent {
  readonly source: string;
  readonly id: string;
  readonly partition: number;
  readonly offset: number;
}

/** The epoch's ledger in (partition, first) order. */
export async function ledgerOf(store: Store, epoch: string): Promise<LedgerRange[]> {
  const rows = await store.rows<Record<keyof LedgerRange, string | number>>(
    `SELECT l.partition AS partition, l.first AS first, l.last AS last, l.rows AS rows,
            l.duplicates AS duplicates, l.parked AS parked, l.holes AS holes
     FROM ledger AS l FINAL WHERE l.epoch = {epoch:String} ORDER BY l.partition, l.first, l.last`,
    { epoch },
  );
  return rows.map((row) => ({
    partition: Number(row.partition),
    first: Number(row.first),
    last: Number(row.last),
    rows: Number(row.rows),
    duplicates: Number(row.duplicates),
    parked: Number(row.parked),
    holes: Number(row.holes),
  }));
}

/**
 * Every row of `events`, or of one epoch; with `final` as reads see them, without as they lie in the table.
 */
export async function eventsOf(store: Store, final: boolean, epoch = ''): Promise<StoredEvent[]> {
  const rows = await store.rows<StoredEvent & { readonly offset: string }>(
    `SELECT source, id, partition, offset FROM events ${final ? 'FINAL' : ''}
     WHERE {epoch:String} IN ('', epoch) ORDER BY partition, offset`,
    { epoch },
  );
  return rows.map((row) => ({ ...row, offset: Number(row.offset) }));
}

/**
 * Checks the ledger against the log's ends and the tables: of one store, or of one for each shard. `areRowsExact`
 * false: copies reached the table on purpose, where merges may have dropped them since. `earlier`: epochs of topics of
 * the same name that are gone, of which rows may be there too. `counts`: how many shards there have been, one after the
 * other; a partition's ranges may be on each shard that it was on.
 */
export async function auditLedger(
  store: Store | readonly Store[],
  epoch: string,
  ends: readonly number[],
  areRowsExact = true,
  earlier: readonly string[] = [],
  counts?: readonly number[],
): Promise<{
  readonly rows: number;
  readonly duplicates: number;
  readonly parked: number;
  readonly holes: number;
}> {
  const stores = 'rows' in store ? [store] : store;
  const totals = { rows: 0, duplicates: 0, parked: 0, holes: 0 };
  /** By partition, then by shard: the offsets of the rows there. */
  const offsets = ends.map(() => stores.map((): Set<number> => new Set()));
  const ledger: (LedgerRange & { readonly shard: number })[] = [];
  for (const [shard, node] of stores.entries()) {
    const [foreign] = await node.rows<{ n: string }>(
      'SELECT count() AS n FROM events WHERE epoch NOT IN {epochs:Array(String)}',
      { epochs: [epoch, ...earlier] },
    );
    assert.equal(foreign?.n, '0', 'every row is of this epoch');
    const isOwner = (partition: number): boolean =>
      (counts ?? [stores.length]).some((count) => partition % count === shard);
    for (const { partition, offset } of await eventsOf(node, false, epoch)) {
      const seen = offsets[partition];
      assert.ok(seen !== undefined, `partition ${partition} exists`);
      assert.ok(isOwner(partition), `partition ${partition} belongs to another shard than ${shard}`);
      assert.ok(
        !seen.some((there) => there.has(offset)),
        `offset ${offset} of partition ${partition} is one row`,
      );
      seen[shard]?.add(offset);
    }
    for (const range of await ledgerOf(node, epoch)) {
      assert.ok(isOwner(range.partition), `partition ${range.partition} has a ledger on shard ${shard}`);
      ledger.push({ ...range, shard });
    }
  }
  ledger.sort((a, b) => a.first - b.first || a.last - b.last);
  for (const [partition, end] of ends.entries()) {
    let next = 0;
    for (const range of ledger.filter((candidate) => candidate.partition === partition)) {
      assert.equal(range.first, next, `the ledger of partition ${partition} has neither gap nor overlap`);
      const known = range.rows + range.duplicates + range.parked + range.holes;
      assert.equal(known, range.last - range.first + 1);
      const rows = takeRange(offsets[partition]?.[range.shard] ?? new Set(), range.first, range.last);
      if (areRowsExact) assert.equal(rows, range.rows, `rows of ${partition}:${range.first}-${range.last}`);
      else assert.ok(rows <= range.rows);
      totals.rows += range.rows;
      totals.duplicates += range.duplicates;
      totals.parked += range.parked;
      totals.holes += range.holes;
      next = range.last + 1;
    }
    assert.equal(next, end, `the ledger of partition ${partition} reaches the log's end`);
    const left = offsets[partition]?.reduce((sum, there) => sum + there.size, 0);
    assert.equal(left, 0, `no row of partition ${partition} lies outside the ledger`);
  }
  return totals;
}

/**
 * Checks what is left of an epoch whose topic is gone: its ledger has neither gap nor overlap, and every range has the
 * rows that it says. Rows past the ledger's end may be there: their sink lost its partitions before it wrote the range.
 */
export async function auditEarlier(stores: readonly Store[], epoch: string): Promise<void> {
  for (const store of stores) {
    const offsets = new Map<number, Set<number>>();
    for (const { partition, offset } of await eventsOf(store, false, epoch)) {
      const seen = offsets.get(partition) ?? new Set();
      offsets.set(partition, seen);
      assert.ok(!seen.has(offset), `offset ${offset} of partition ${partition} is one row`);
      seen.add(offset);
    }
    const nexts = new Map<number, number>();
    for (const { partition, first, last, rows } of await ledgerOf(store, epoch)) {
      assert.equal(
        first,
        nexts.get(partition) ?? 0,
        `the ledger of ${partition} has neither gap nor overlap`,
      );
      assert.equal(takeRange(offsets.get(partition) ?? new Set(), first, last), rows);
      nexts.set(partition, last + 1);
    }
    for (const [partition, left] of offsets)
      assert.ok(Math.min(...left) >= (nexts.get(partition) ?? 0), `rows of ${partition} lie past its ledger`);
  }
}

/** Takes the offsets of a range out of the set; gives how many there were. */
function takeRange(offsets: Set<number>, first: number, last: number): number {
  let taken = 0;
  for (let offset = first; offset <= last; offset += 1) if (offsets.delete(offset)) taken += 1;
  return taken;
}
