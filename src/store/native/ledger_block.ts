// Rows of the `ledger` table as a Native block: one row for each block of events, so a handful at a time. Runs on sink
// threads.

import { ledgerColumns } from '../schema.ts';
import { NativeBlock } from './block.ts';

/** What became of one range of offsets of one partition. */
export interface LedgerRow {
  readonly epoch: string;
  readonly partition: number;
  /** First and last offset of the range, both inclusive. */
  readonly first: number;
  readonly last: number;
  /** Rows of the range that were sent to `events`. */
  readonly rows: number;
  /** Records left out because the same event is already stored. */
  readonly duplicates: number;
  /** Records that became dead letters. */
  readonly parked: number;
  /** Offsets of the range that hold no record. */
  readonly holes: number;
  /** Epoch milliseconds. */
  readonly storeTimeMs: number;
}

/** The pieces of a block with these rows; nobody else writes to their memory. */
export function ledgerBlock(rows: readonly LedgerRow[]): Uint8Array[] {
  const block = new NativeBlock(ledgerColumns);
  const epoch = block.column('epoch');
  const partition = block.column('partition');
  const first = block.column('first');
  const last = block.column('last');
  const rowCount = block.column('rows');
  const duplicates = block.column('duplicates');
  const parked = block.column('parked');
  const holes = block.column('holes');
  const storeTime = block.column('store_time');
  for (const row of rows) {
    epoch.appendText(row.epoch);
    partition.append(row.partition);
    first.append(row.first);
    last.append(row.last);
    rowCount.append(row.rows);
    duplicates.append(row.duplicates);
    parked.append(row.parked);
    holes.append(row.holes);
    storeTime.append(row.storeTimeMs);
  }
  return block.pieces();
}
