// Tables of ours that somebody has dropped: whether the node can still bring them back, which making them anew would end,
// and what to say where it cannot. Runs on the main thread of `ess init` and `ess doctor`; reads only.

import { quoteIdentifier } from '../../store/query_params.ts';
import type { Store } from '../../store/store.ts';

/** Where to read on. */
export const lostRows = 'the section Lost rows of docs/operations.md';

/** By table of the store's database: the statement that brings it back. Empty where the node does not tell. */
export async function undropStatements(store: Store): Promise<ReadonlyMap<string, string>> {
  try {
    const rows = await store.rows<{ database: string; table: string }>(
      'SELECT DISTINCT database, table FROM system.dropped_tables WHERE database = currentDatabase()',
    );
    return new Map(
      rows.map(({ database, table }) => [table, `UNDROP TABLE ${quoteIdentifier(database)}.${table}`]),
    );
  } catch {
    // A version before 23.8, or a user who may not see it.
    return new Map();
  }
}

/** What brings a missing table back, or makes it anew. `undrop`: its statement, if it can be had back. */
export function missingTableMend(undrop: string | undefined, hasOthers: boolean): string {
  if (undrop !== undefined)
    return `${undrop} (SQL, on this node: it was dropped within the last minutes, and has all its rows; ess init --apply makes an empty one instead)`;
  return hasOthers ? `ess init; its rows are gone: ${lostRows}` : 'ess init';
}
