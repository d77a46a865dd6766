// What `ess verify` asks of a store. Counting is ClickHouse's work; what comes back is bounded: pages of the ledger, counts
// of segments, a few examples. Runs where the proof does.

import type { QueryOptions, Store } from '../store/store.ts';
import { examplesMax } from './findings.ts';
import type { LedgerRange } from './ledger_audit.ts';
import type { RowSource, SegmentCount } from './row_audit.ts';

/** Ledger rows that are fetched at once: parsed within a few ms, so that a main thread has time for others. */
const pageRows = 2_000;
/** One statement of the deep comparison may read a whole table, ms. */
const deepTimeoutMs = 1_800_000;
const pageTimeoutMs = 60_000;
/** Identities that are counted at once: about 1 GB of the node's memory at most, spilled to its disk above 256 MB. */
const identitiesPerPass = 4_000_000;
const spillBytes = 268_435_456;
/** Doubled identities of one pass that are looked at one by one. */
const doubledMax = 1_000;

/** What every question is about. */
export interface QueryScope {
  readonly store: Store;
  readonly epoch: string;
  readonly signal: AbortSignal;
}

/** First offset past everything that a store's ledger has of a partition; 0 if it has nothing. */
export async function ledgerBound(scope: QueryScope, partition: number): Promise<number> {
  const [row] = await scope.store.rows<{ bound: string }>(
    `SELECT if(count() = 0, 0, max(l.last) + 1) AS bound FROM ledger AS l
     WHERE epoch = {epoch:String} AND partition = {partition:UInt16}`,
    { epoch: scope.epoch, partition },
    { timeoutMs: pageTimeoutMs, signal: scope.signal },
  );
  return Number(row?.bound ?? 0);
}

/** The ranges of a store's ledger that end before `bound`, in (first, last) order, a page at a time. */
export async function* ledgerRanges(
  { store, epoch, signal }: QueryScope,
  partition: number,
  shard: number,
  bound: number,
): AsyncGenerator<LedgerRange> {
  let after = { first: -1, last: -1 };
  while (bound > 0) {
    const rows = await store.rows<Record<Exclude<keyof LedgerRange, 'shard'>, string | number>>(
      `SELECT l.first AS first, l.last AS last, l.rows AS rows, l.duplicates AS duplicates, l.parked AS parked,
              l.holes AS holes
       FROM ledger AS l FINAL
       WHERE epoch = {epoch:String} AND partition = {partition:UInt16} AND l.last < {bound:UInt64}
         AND (l.first > {first:Int64} OR (l.first = {first:Int64} AND l.last > {last:Int64}))
       ORDER BY l.first, l.last LIMIT {limit:UInt32}`,
      { epoch, partition, bound, ...after, limit: pageRows },
      { timeoutMs: pageTimeoutMs, signal },
    );
    for (const row of rows) {
      yield {
        shard,
        first: Number(row.first),
        last: Number(row.last),
        rows: Number(row.rows),
        duplicates: Number(row.duplicates),
        parked: Number(row.parked),
        holes: Number(row.holes),
      };
    }
    const latest = rows.at(-1);
    if (rows.length < pageRows || latest === undefined) return;
    after = { first: Number(latest.first), last: Number(latest.last) };
  }
}

/** Ranges of several ledgers in (first, last) order. */
export async function* mergedRanges(
  sources: readonly AsyncGenerator<LedgerRange>[],
): AsyncGenerator<LedgerRange> {
  const heads = await Promise.all(sources.map((source) => source.next()));
  for (;;) {
    let least = -1;
    for (const [i, head] of heads.entries()) {
      const best = heads[least];
      if (head.done === true) continue;
      if (best === undefined || best.done === true || isBefore(head.value, best.value)) least = i;
    }
    const head = heads[least];
    const source = sources[least];
    if (head === undefined || source === undefined || head.done === true) return;
    yield head.value;
    heads[least] = await source.next();
  }
}

function isBefore(a: LedgerRange, b: LedgerRange): boolean {
  return a.first < b.first || (a.first === b.first && a.last < b.last);
}

/** The last offset of a partition that has a row in the store; -1 if none has. */
export async function lastRowOffset(scope: QueryScope, partition: number): Promise<number> {
  const [row] = await scope.store.rows<{ last: string }>(
    `SELECT if(count() = 0, -1, toInt64(max(e.offset))) AS last FROM events AS e
     WHERE epoch = {epoch:String} AND partition = {partition:UInt16}`,
    { epoch: scope.epoch, partition },
    deepOptions(scope),
  );
  return Number(row?.last ?? -1);
}

/** Rows of a partition in one store from one offset to before another, and the last offset of them. */
export async function rowsPast(
  scope: QueryScope,
  partition: number,
  from: number,
  before: number,
): Promise<{ readonly count: number; readonly last: number }> {
  const [row] = await scope.store.rows<{ n: string; last: string }>(
    `SELECT count() AS n, max(e.offset) AS last FROM events AS e
     WHERE epoch = {epoch:String} AND partition = {partition:UInt16} AND e.offset >= {from:UInt64}
       AND e.offset < {before:UInt64}`,
    { epoch: scope.epoch, partition, from, before },
    deepOptions(scope),
  );
  return { count: Number(row?.n ?? 0), last: Number(row?.last ?? 0) };
}

/** Rows of `events` by partition, in one store. Cheap: two small columns are read. */
export async function countRows(scope: QueryScope): Promise<Map<number, number>> {
  const rows = await scope.store.rows<{ number: number; n: string }>(
    'SELECT e.partition AS number, count() AS n FROM events AS e WHERE e.epoch = {epoch:String} GROUP BY number',
    { epoch: scope.epoch },
    deepOptions(scope),
  );
  return new Map(rows.map(({ number, n }) => [Number(number), Number(n)]));
}

/** The rows of `events` of one partition in one store: as they lie there, whatever FINAL would make of them. */
export function rowSource(scope: QueryScope, partition: number): RowSource {
  const { store, epoch } = scope;
  const where =
    'epoch = {epoch:String} AND partition = {partition:UInt16} AND offset >= {from:UInt64} AND offset < {to:UInt64}';
  const offsets = async (sql: string, from: number, to: number): Promise<number[]> => {
    const rows = await store.rows<{ found: string }>(
      sql,
      { epoch, partition, from, to, limit: examplesMax },
      deepOptions(scope),
    );
    return rows.map(({ found }) => Number(found));
  };
  return {
    async count(starts, to) {
      const rows = await store.rows<Record<keyof SegmentCount, string>>(
        `SELECT roundDown(e.offset, {starts:Array(UInt64)}) AS start, count() AS rows, uniqExact(e.offset) AS offsets
         FROM events AS e WHERE ${where} GROUP BY start`,
        { epoch, partition, from: starts[0] ?? 0, to, starts },
        deepOptions(scope),
      );
      return rows.map(({ start, rows: count, offsets: distinct }) => ({
        start: Number(start),
        rows: Number(count),
        offsets: Number(distinct),
      }));
    },
    doubled: (from, to) =>
      offsets(
        `SELECT e.offset AS found FROM events AS e WHERE ${where}
         GROUP BY found HAVING count() > 1 ORDER BY found LIMIT {limit:UInt32}`,
        from,
        to,
      ),
    present: (from, to) =>
      offsets(
        `SELECT DISTINCT e.offset AS found FROM events AS e WHERE ${where} ORDER BY found LIMIT {limit:UInt32}`,
        from,
        to,
      ),
    absent: (from, to) =>
      offsets(
        `SELECT number AS found FROM numbers({from:UInt64}, {to:UInt64} - {from:UInt64})
         WHERE number NOT IN (SELECT e.offset FROM events AS e WHERE ${where}) LIMIT {limit:UInt32}`,
        from,
        to,
      ),
  };
}

/** Offsets from `from` to before `to` that have a row. */
export async function storedOffsets(
  scope: QueryScope,
  partition: number,
  from: number,
  to: number,
): Promise<Set<number>> {
  const rows = await scope.store.rows<{ found: string }>(
    `SELECT DISTINCT e.offset AS found FROM events AS e
     WHERE epoch = {epoch:String} AND partition = {partition:UInt16} AND offset >= {from:UInt64} AND offset < {to:UInt64}`,
    { epoch: scope.epoch, partition, from, to },
    deepOptions(scope),
  );
  return new Set(rows.map(({ found }) => Number(found)));
}

/** Those of the identities that have a row, of whatever epoch and partition, by `identityKey`. */
export async function storedIdentities(
  scope: QueryScope,
  identities: readonly { readonly source: string; readonly id: string }[],
): Promise<string[]> {
  const rows = await scope.store.rows<{ source: string; id: string }>(
    `SELECT DISTINCT source, id FROM events
     WHERE id IN {ids:Array(String)}
       AND (source, id) IN (SELECT arrayJoin(arrayZip({sources:Array(String)}, {ids:Array(String)})))`,
    { sources: identities.map(({ source }) => source), ids: identities.map(({ id }) => id) },
    deepOptions(scope),
  );
  return rows.map(identityKey);
}

/** One text for one identity. */
export function identityKey({ source, id }: { readonly source: string; readonly id: string }): string {
  return JSON.stringify([source, id]);
}

/** Events as reads see them. */
export interface IdentityCounts {
  /** Rows with FINAL. */
  readonly events: number;
  /** Distinct identities (source, id) of a partition among them. */
  readonly identities: number;
  /** Those of which two copies came within the retry window, some of them by name. */
  readonly doubled: number;
  readonly examples: readonly { readonly partition: number; readonly source: string; readonly id: string }[];
}

/**
 * Counts a store's events and their identities in as many passes as its memory needs; `onPass` hears of each. Copies in
 * different partitions (another key) and later than the window are events of their own, as docs/guarantees.md says.
 */
export async function countIdentities(
  scope: QueryScope,
  retryWindowMs: number,
  onPass: (done: number, passes: number) => void,
): Promise<IdentityCounts> {
  const { store, epoch } = scope;
  const [size] = await store.rows<{ n: string }>('SELECT count() AS n FROM events', {}, deepOptions(scope));
  const passes = Math.max(1, Math.ceil(Number(size?.n ?? 0) / identitiesPerPass));
  const sum = { events: 0, identities: 0, doubled: 0, examples: [] as IdentityCounts['examples'][number][] };
  for (let pass = 0; pass < passes; pass += 1) {
    const params = { epoch, passes, pass, limit: doubledMax, window: retryWindowMs };
    const inPass = 'epoch = {epoch:String} AND cityHash64(source, id) % {passes:UInt32} = {pass:UInt32}';
    const [counted] = await store.rows<{ events: string; identities: string; suspects: string }>(
      `SELECT sum(copies) AS events, count() AS identities, countIf(copies > 1) AS suspects
       FROM (SELECT count() AS copies FROM events FINAL WHERE ${inPass} GROUP BY partition, source, id)`,
      params,
      deepOptions(scope),
    );
    sum.events += Number(counted?.events ?? 0);
    sum.identities += Number(counted?.identities ?? 0);
    if (Number(counted?.suspects ?? 0) > 0) {
      const doubled = await store.rows<{ partition: number; source: string; id: string }>(
        `SELECT partition, source, id
         FROM (
           SELECT partition, source, id, arraySort(groupArray(toUnixTimestamp64Milli(ingest_time))) AS times
           FROM events FINAL WHERE ${inPass} GROUP BY partition, source, id HAVING count() > 1
           LIMIT {limit:UInt32}
         )
         WHERE arrayExists((earlier, later) -> later - earlier < {window:Int64}, arrayPopBack(times), arrayPopFront(times))`,
        params,
        deepOptions(scope),
      );
      sum.doubled += doubled.length;
      sum.examples.push(...doubled.slice(0, examplesMax - sum.examples.length));
    }
    onPass(pass + 1, passes);
  }
  return sum;
}

function deepOptions({ signal }: QueryScope): QueryOptions {
  return {
    timeoutMs: deepTimeoutMs,
    signal,
    settings: { max_bytes_before_external_group_by: spillBytes, max_threads: 1 },
  };
}
