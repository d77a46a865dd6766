// Writing and reading the ledger: one row for every range of the log that was dealt with. Written after the range's
// block and before the position moves on, so that ledger and rows can differ only by the one range in progress.

import { randomUUID } from 'node:crypto';
import { type LedgerRow, ledgerBlock } from '../store/native/ledger_block.ts';
import { ledgerColumns } from '../store/schema.ts';
import type { Store } from '../store/store.ts';
import { failurePolicy, retryPauseMsMax, retryPauseMsMin, stopPauseMs } from './failure.ts';

const columnNames = ledgerColumns.map((column) => column.name);

interface WaitingRow {
  readonly row: LedgerRow;
  readonly done: () => void;
}

/** Groups the ledger rows of a sink thread's partitions: one insert at a time, the next takes all that waited. */
export class LedgerWriter {
  readonly #store: Store;
  readonly #onState: (error: unknown) => void;
  #waiting: WaitingRow[] = [];
  #isWriting = false;
  #isOver = false;

  /** `onState` hears of every failure, and null once rows are stored, or nothing more is tried, after one. */
  constructor(store: Store, onState: (error: unknown) => void) {
    this.#store = store;
    this.#onState = onState;
  }

  /** Tries no more: rows that are not stored by then never settle, and the next owner writes them. */
  end(): void {
    this.#isOver = true;
    this.#onState(null);
  }

  /** Settles when the row is stored; tries until it is. */
  add(row: LedgerRow): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting.push({ row, done: resolve });
      if (!this.#isWriting) void this.#write();
    });
  }

  async #write(): Promise<void> {
    this.#isWriting = true;
    while (this.#waiting.length > 0) {
      const rows = this.#waiting;
      this.#waiting = [];
      const block = ledgerBlock(rows.map((waiting) => waiting.row));
      let pauseMs = retryPauseMsMin;
      let hasFailed = false;
      for (;;) {
        try {
          // A token of its own for every attempt: a node that was killed at the wrong moment remembers a token and has
          // no row, and would take a repeat under the same one without storing it. A row that is written twice has the
          // same key, and reads with FINAL see one.
          await this.#store.insertNative('ledger', columnNames, block, { token: randomUUID() });
          if (hasFailed) this.#onState(null);
          break;
        } catch (error) {
          if (this.#isOver) return;
          hasFailed = true;
          this.#onState(error);
          const policy = failurePolicy(error);
          await new Promise((resolve) => setTimeout(resolve, policy === 'stop' ? stopPauseMs : pauseMs));
          pauseMs = Math.min(pauseMs * 2, retryPauseMsMax);
          if (this.#isOver) return;
        }
      }
      for (const waiting of rows) waiting.done();
    }
    this.#isWriting = false;
  }
}

/** What the ledger says of a partition. */
export interface LedgerTotals {
  readonly rows: number;
  readonly duplicates: number;
  readonly parked: number;
  readonly holes: number;
  /** Offsets covered by all ranges together. */
  readonly covered: number;
  /** First offset after the last range; 0 if there is none. */
  readonly next: number;
}

/** Of a partition of which no range was dealt with. */
export const noTotals: LedgerTotals = { rows: 0, duplicates: 0, parked: 0, holes: 0, covered: 0, next: 0 };

/** Sums up one store's ledger of one partition in one epoch. */
export async function readLedger(store: Store, epoch: string, partition: number): Promise<LedgerTotals> {
  return (await readLedgers(store, epoch, [partition])).get(partition) ?? noTotals;
}

/** Sums up one store's ledger of several partitions, by partition; without those that it has no range of. */
export async function readLedgers(
  store: Store,
  epoch: string,
  partitions: readonly number[],
): Promise<Map<number, LedgerTotals>> {
  const rows = await store.rows<Record<keyof LedgerTotals | 'number', string | number>>(
    `SELECT l.partition AS number, sum(l.rows) AS rows, sum(l.duplicates) AS duplicates, sum(l.parked) AS parked,
            sum(l.holes) AS holes, sum(l.last - l.first + 1) AS covered, max(l.last) + 1 AS next
     FROM ledger AS l FINAL
     WHERE epoch = {epoch:String} AND partition IN {partitions:Array(UInt16)}
     GROUP BY l.partition`,
    { epoch, partitions },
  );
  return new Map(
    rows.map((row) => [
      Number(row.number),
      {
        rows: Number(row.rows),
        duplicates: Number(row.duplicates),
        parked: Number(row.parked),
        holes: Number(row.holes),
        covered: Number(row.covered),
        next: Number(row.next),
      },
    ]),
  );
}

/** Rows of `events` from a partition at or past an offset: what an interrupted sink stored without a ledger row. */
export interface LandedRows {
  readonly count: number;
  readonly first: number;
  readonly last: number;
}

/** Counts the stored rows of a partition with `first <= offset <= last`. */
export async function findLanded(
  store: Store,
  epoch: string,
  partition: number,
  first: number,
  last: number,
): Promise<LandedRows> {
  const [row] = await store.rows<Record<'count' | 'first' | 'last', string>>(
    `SELECT count() AS count, min(e.offset) AS first, max(e.offset) AS last
     FROM events AS e
     WHERE epoch = {epoch:String} AND partition = {partition:UInt16}
       AND offset >= {first:UInt64} AND offset <= {last:UInt64}`,
    { epoch, partition, first, last },
  );
  return { count: Number(row?.count ?? 0), first: Number(row?.first ?? 0), last: Number(row?.last ?? 0) };
}

/** True if a node is working on an insert into `events` under this token. */
export async function isInsertRunning(store: Store, token: string): Promise<boolean> {
  const [row] = await store.rows<{ count: string }>(
    `SELECT count() AS count FROM system.processes
     WHERE query_kind = 'Insert' AND Settings['insert_deduplication_token'] = {token:String}`,
    { token },
  );
  return Number(row?.count ?? 0) > 0;
}
