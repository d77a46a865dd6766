// Sending one range's block until the store has it or refuses it for good. Runs on sink threads. Whatever happens,
// the token stays that of the range, so that a block which landed without our knowing is not stored again.
//
// A token alone proves nothing: a table that is not replicated writes it down before the part is in its place
// (MergeTreeData::Transaction, MergeTreeDeduplicationLog::addPart), so that a node which is killed in between remembers
// the token and has no row. It would take a repeat of the block and store nothing. So after any attempt without a clear
// answer, of this process or of one before, the rows are counted; where there are none, and nobody is storing them, the
// block is sent under a token of its own, which is again always the same one for the range.

import { nowUs } from '../stats/clock.ts';
import type { EngineCounters } from '../stats/counters.ts';
import type { StageRecorder } from '../stats/recorder.ts';
import { eventColumns } from '../store/schema.ts';
import { type Store, StoreError } from '../store/store.ts';
import { failurePolicy, retryPauseMsMax, retryPauseMsMin, stopPauseMs } from './failure.ts';
import { describe, type Patience } from './patience.ts';
import type { SinkRange } from './range.ts';

const eventColumnNames = eventColumns.map((column) => column.name);

export interface InsertParts {
  readonly store: Store;
  readonly counters: EngineCounters;
  readonly recorder: StageRecorder;
  readonly patience: Patience;
  /** Rows of the range that the store has: of this very range, since nobody else may store a part of it. */
  readonly countLanded: () => Promise<number>;
  /** True if the store is working on an insert under this token. */
  readonly isUnderWay: (token: string) => Promise<boolean>;
  /** For so long after a block was stored its token is surely known (token_window.ts), ms. */
  readonly tokenKnownMs: number;
  /**
   * A moment from which on an earlier attempt at this very range, of another owner perhaps, may have landed: its rows
   * were looked for then, and not found. Epoch ms; 0 if there was no such attempt.
   */
  readonly unclearSinceMs: number;
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
  const { store, counters, recorder, patience, tokenKnownMs } = parts;
  const pieces = range.block.pieces(storeTimeMs);
  let pauseMs = retryPauseMsMin;
  /** The earliest moment at which an attempt without a clear answer may have landed, epoch ms; 0 if there was none. */
  let unclearMs = parts.unclearSinceMs;
  /** How often the block was taken for a repeat of one that is not there. */
  let swallowed = 0;
  const look = (): Promise<number> =>
    patience.untilAnswered(() => {
      // What was not there when it was looked for can only have landed since.
      unclearMs = Date.now();
      return parts.countLanded();
    });
  /** The same once no insert under the token is being worked on: what is not there then will not come. */
  const lookWhenDone = async (used: string): Promise<number> => {
    for (;;) {
      await parts.assertOwned();
      if (!(await patience.untilAnswered(() => parts.isUnderWay(used)))) return look();
      await patience.pause(retryPauseMsMin);
    }
  };
  for (;;) {
    await parts.assertOwned();
    if (unclearMs > 0 && Date.now() - unclearMs > tokenKnownMs) {
      const rows = await look();
      if (rows > 0) return { kind: 'stored', rows };
      await parts.assertOwned();
    }
    const startUs = nowUs();
    const startMs = Date.now();
    // What may have landed before this call leaves less time in which a sibling may be tried.
    const repeatWithinMs = unclearMs > 0 ? Math.max(0, unclearMs + tokenKnownMs - startMs) : tokenKnownMs;
    const used = swallowed === 0 ? token : `${token}:${swallowed}`;
    try {
      await store.insertNative('events', eventColumnNames, pieces, { token: used, repeatWithinMs });
    } catch (error) {
      counters.add('insert_failures');
      const policy = failurePolicy(error);
      const isClear = error instanceof StoreError && error.outcome === 'refused';
      if (!isClear && unclearMs === 0) unclearMs = startMs;
      if (policy === 'poison') {
        const code = String(error instanceof StoreError ? error.code : 0);
        const poison = { kind: 'poison', code, reason: describe(error) } as const;
        if (unclearMs === 0) return poison;
        // An earlier attempt may have landed: only the rows can tell.
        const rows = await look();
        return rows > 0 ? { kind: 'stored', rows } : poison;
      }
      parts.onTrouble(`cannot insert: ${describe(error)}`);
      await patience.pause(policy === 'stop' ? stopPauseMs : pauseMs);
      pauseMs = Math.min(pauseMs * 2, retryPauseMsMax);
      counters.add('insert_retries');
      continue;
    }
    recorder.record('insert', nowUs() - startUs);
    counters.add('inserts');
    counters.add('rows_inserted', range.block.rows);
    if (unclearMs === 0) return { kind: 'stored', rows: range.block.rows };
    // A repeat may have been taken for one. What is there counts: another owner's block under this token may have come
    // first, which told duplicates apart by other means; or none, see the head of this file.
    const rows = (await look()) || (await lookWhenDone(used));
    if (rows > 0) return { kind: 'stored', rows };
    swallowed += 1;
    counters.add('tokens_without_rows');
  }
}
