// Sending one range's block until the store has it or refuses it for good. Runs on sink threads. Whatever happens,
// the token stays that of the range, so that a block which landed without our knowing is not stored again.

import { nowUs } from '../stats/clock.ts';
import type { EngineCounters } from '../stats/counters.ts';
import type { StageRecorder } from '../stats/recorder.ts';
import { eventColumns } from '../store/schema.ts';
import { type Store, StoreError } from '../store/store.ts';
import { failurePolicy, retryPauseMsMax, retryPauseMsMin, stopPauseMs } from './failure.ts';
import { describe, type Patience } from './patience.ts';
import type { SinkRange } from './range.ts';

const eventColumnNames = eventColumns.map((column) => column.name);

/**
 * Past this time since an attempt without a clear answer, the rows are looked for before the block is sent again: by
 * then its token may have left the deduplication window. Far below the time in which 10,000 blocks can be stored. ms.
 */
const lookAfterMs = 30_000;

export interface InsertParts {
  readonly store: Store;
  readonly counters: EngineCounters;
  readonly recorder: StageRecorder;
  readonly patience: Patience;
  /** Rows of the range that the store has: of this very range, since nobody else may store a part of it. */
  readonly countLanded: () => Promise<number>;
  /** Rejects with Stopped if this thread may no longer send the range. */
  readonly assertOwned: () => Promise<void>;
  readonly onTrouble: (text: string) => void;
}

/** How an insert ended: rows in the store, or why no row of it can ever get there as it is. */
export type InsertEnd =
  | { readonly kind: 'stored'; readonly rows: number }
  | { readonly kind: 'poison'; readonly code: string; readonly reason: string };

/** Tries until the block is stored or refused for good. Rejects with Stopped only. */
export async function insertRange(
  parts: InsertParts,
  range: SinkRange,
  token: string,
  storeTimeMs: number,
): Promise<InsertEnd> {
  const { store, counters, recorder, patience } = parts;
  const pieces = range.block.pieces(storeTimeMs);
  let pauseMs = retryPauseMsMin;
  /** When the first attempt without a clear answer was made, epoch ms; 0 if there was none. */
  let ambiguousMs = 0;
  for (;;) {
    await parts.assertOwned();
    if (ambiguousMs > 0 && Date.now() - ambiguousMs > lookAfterMs) {
      const rows = await patience.untilAnswered(parts.countLanded);
      if (rows > 0) return { kind: 'stored', rows };
    }
    const startUs = nowUs();
    const startMs = Date.now();
    try {
      await store.insertNative('events', eventColumnNames, pieces, { token });
      recorder.record('insert', nowUs() - startUs);
      counters.add('inserts');
      counters.add('rows_inserted', range.block.rows);
      return { kind: 'stored', rows: range.block.rows };
    } catch (error) {
      counters.add('insert_failures');
      const policy = failurePolicy(error);
      const isClear = error instanceof StoreError && error.outcome === 'refused';
      if (!isClear && ambiguousMs === 0) ambiguousMs = startMs;
      if (policy === 'poison') {
        const code = String(error instanceof StoreError ? error.code : 0);
        const poison = { kind: 'poison', code, reason: describe(error) } as const;
        if (ambiguousMs === 0) return poison;
        // An earlier attempt may have landed: only the rows can tell.
        const rows = await patience.untilAnswered(parts.countLanded);
        return rows > 0 ? { kind: 'stored', rows } : poison;
      }
      parts.onTrouble(`cannot insert: ${describe(error)}`);
      await patience.pause(policy === 'stop' ? stopPauseMs : pauseMs);
      pauseMs = Math.min(pauseMs * 2, retryPauseMsMax);
      counters.add('insert_retries');
    }
  }
}
