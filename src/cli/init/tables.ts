// The tables of one store, embedded or a ClickHouse node: compared with what the sinks need, made where they are
// missing, and changed where that is allowed and touches no row. Runs on the main thread.

import {
  compareSchema,
  type Difference,
  isMissingTable,
  mendOf,
  subjectOf,
  tableNames,
} from '../../store/migrate.ts';
import type { TableKind } from '../../store/schema.ts';
import { type Store, StoreError } from '../../store/store.ts';
import { missingTableMend, undropStatements } from './dropped.ts';
import type { Finding } from './step.ts';

/** What may be done: look only, make what is missing, or also change what differs. */
export type Mode = 'check' | 'make' | 'apply';

/** What was done to a store and what is left. */
export interface TablesOutcome {
  /** In words: "table events made". */
  readonly made: readonly string[];
  readonly changed: readonly string[];
  readonly findings: readonly Finding[];
}

/**
 * A table that was dropped and can be had back is made anew only with `apply`. Rejects with StoreError only for want of
 * an answer: a statement that is refused leaves its finding, with the reason.
 */
export async function settleTables(store: Store, kind: TableKind, mode: Mode): Promise<TablesOutcome> {
  const made: string[] = [];
  const changed: string[] = [];
  /** Why a statement did not help, by statement. */
  const refusals = new Map<string, string>();
  const differences = await compareSchema(store, kind);
  const undrops = differences.some(isMissingTable)
    ? await undropStatements(store)
    : new Map<string, string>();
  for (const difference of differences) {
    const { mend } = difference;
    const isMissing = isMissingTable(difference);
    const isSafe = isMissing && !undrops.has(difference.table);
    if (mend === null || mode === 'check' || (mode === 'make' && !isSafe)) continue;
    try {
      await store.command(mend);
      (isMissing ? made : changed).push(subjectOf(difference));
    } catch (error) {
      if (!(error instanceof StoreError) || error.outcome !== 'refused') throw error;
      refusals.set(mend, error.message);
    }
  }
  const isTouched = made.length > 0 || changed.length > 0;
  const left = isTouched ? await compareSchema(store, kind) : differences;
  const hasOthers = left.filter(isMissingTable).length < tableNames.length;
  const findings = left.map((difference): Finding => {
    const finding = findingOf(difference, refusals);
    if (!isMissingTable(difference) || refusals.has(difference.mend ?? '')) return finding;
    return { ...finding, mend: missingTableMend(undrops.get(difference.table), hasOthers) };
  });
  return { made, changed, findings };
}

/** A difference of the store in the form in which `ess init` shows all. */
export function findingOf(
  difference: Difference,
  refusals: ReadonlyMap<string, string> = new Map(),
): Finding {
  const { found, expected, mend } = difference;
  const refusal = mend === null ? undefined : refusals.get(mend);
  return {
    what: subjectOf(difference),
    found,
    wanted: expected,
    breaks: breaksOf(difference),
    mend: refusal === undefined ? mendOf(difference) : `${mend} (tried; refused: ${refusal})`,
  };
}

function breaksOf({ what }: Difference): string {
  if (what === 'table' || what.startsWith('column ') || what.startsWith('macro ')) {
    return 'ack=store: nothing can be stored here';
  }
  if (what.startsWith('fsync_')) return 'ack=store: an answered event could be lost with the power';
  return 'exactly once: an event could be stored twice, or be replaced by another';
}
