// The ClickHouse side of a sink thread, one for each shard: where the shard's blocks go, and its ledger.

import type { Store } from '../store/store.ts';
import type { LedgerWriter } from './ledger.ts';

export interface Shard {
  /** Inserts and reads of this shard's replicas. */
  readonly store: Store;
  readonly ledger: LedgerWriter;
}
