// What `ess doctor` looks at where a table was dropped: whether the rows are there that the ledger tells of. Runs on the
// main thread of a process of its own; reads only.

import type { Store } from '../../store/store.ts';
import { areMostGone } from '../../verify/rows_share.ts';
import { lostRows } from '../init/dropped.ts';
import { failure, type Line, ok, unknown } from './report.ts';

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
  if (!areMostGone(found, told)) return [ok(check, subject, text)];
  const mend = `${lostRows}: what the log still holds can be had back; ess verify --deep names what is missing`;
  return [failure(check, subject, text, mend)];
}
