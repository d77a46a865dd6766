// What `ess doctor` looks at where a table was dropped: whether the rows are there that the ledger tells of, and whether a
// table can still be had back. Runs on the main thread of a process of its own; reads only.

import { quoteIdentifier } from '../../store/query_params.ts';
import type { Store } from '../../store/store.ts';
import { failure, type Line, ok, unknown } from './report.ts';

/** Merges drop late retries, which the ledger counts as rows, but hardly ever so many. */
const rowsShareMin = 0.5;

export const lostRows = 'the section Lost rows of docs/operations.md';

/** Rejects with StoreError. */
export async function rowLines(subject: string, store: Store): Promise<Line[]> {
  const check = 'clickhouse_rows';
  const [tables] = await store.rows<{ n: string }>(
    "SELECT count() AS n FROM system.tables WHERE database = currentDatabase() AND name IN ('events', 'ledger')",
  );
  if (Number(tables?.n) < 2) return [unknown(check, subject, 'its tables are not there')];
  const [row] = await store.rows<{ found: string; told: string }>(
    `SELECT (SELECT count() FROM events) AS found, (SELECT sum(l.rows) FROM ledger AS l FINAL) AS told`,
  );
  const found = Number(row?.found ?? 0);
  const told = Number(row?.told ?? 0);
  const text = `events has ${found} rows, and the ledger tells of ${told}`;
  if (found >= told * rowsShareMin) return [ok(check, subject, text)];
  const mend = `${lostRows}: what the log still holds can be had back; ess verify --deep names what is missing`;
  return [failure(check, subject, text, mend)];
}

/** Those of the node's missing tables that were dropped a short while ago. None where the node does not tell. */
export async function droppedTables(store: Store): Promise<ReadonlySet<string>> {
  try {
    const rows = await store.rows<{ table: string }>(
      'SELECT table FROM system.dropped_tables WHERE database = currentDatabase()',
    );
    return new Set(rows.map(({ table }) => table));
  } catch {
    // A version before 23.8, or a user who may not see it.
    return new Set();
  }
}

/** What brings a missing table of ours back, or makes it anew. `hasOthers`: other tables of ours are there. */
export function tableMend(
  database: string,
  table: string,
  dropped: ReadonlySet<string>,
  hasOthers: boolean,
): string {
  const name = `${quoteIdentifier(database)}.${table}`;
  if (dropped.has(table))
    return `UNDROP TABLE ${name} (SQL, on this node, before anything makes it anew: it was dropped within the last minutes, and has all its rows)`;
  return hasOthers ? `ess init; its rows are gone: ${lostRows}` : 'ess init';
}
