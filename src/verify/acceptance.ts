// Writing losses down that a person accepts: what the ledger says and nobody has any more becomes holes, so that a proof
// is exact again and a halted partition goes on. Only `ess verify --accept-losses` runs it; it touches no row of events.

import { randomUUID } from 'node:crypto';
import { type Store, shardOf } from '../store/store.ts';
import type { Finding, FindingKindName } from './findings.ts';
import type { VerifyLog, VerifyReport } from './verify.ts';

/** What can be written down: offsets whose events are nowhere, or whose ledger row is. */
const acceptable: readonly FindingKindName[] = ['records_gone', 'ledger_gap', 'rows_missing'];

const columns = 'epoch, partition, first, last, rows, duplicates, parked, holes, store_time';
const stored = `(SELECT uniqExact(e.offset) FROM events AS e WHERE e.epoch = {epoch:String}
  AND e.partition = {partition:UInt16} AND e.offset BETWEEN {first:UInt64} AND {last:UInt64})`;

/** A ledger row for offsets that have none: rows where there are rows, letters where there are letters, and holes. */
const addRange = `INSERT INTO ledger (${columns})
  WITH ${stored} AS n
  SELECT {epoch:String}, {partition:UInt16}, {first:UInt64}, {last:UInt64}, n, 0, {letters:UInt32},
    toUInt64({last:UInt64} - {first:UInt64} + 1 - n - {letters:UInt32}), now64(3)`;

/** The same ledger row once more, with the rows that there are: the later one of the same key counts. */
const correctRange = `INSERT INTO ledger (${columns})
  WITH ${stored} AS n
  SELECT l.epoch, l.partition, l.first, l.last, n, l.duplicates, l.parked, toUInt64(l.holes + l.rows - n), now64(3)
  FROM ledger AS l FINAL
  WHERE l.epoch = {epoch:String} AND l.partition = {partition:UInt16} AND l.first = {first:UInt64}
    AND l.last = {last:UInt64} AND l.rows > n`;

/** Dead letters that are fetched at once: each may be as large as an event. */
const lettersPage = 50;

/**
 * Writes down what a deep report found to be lost, and gives how many of its findings that were. Rejects with StoreError
 * or EssError where store or log do not answer; what was written by then stays.
 */
export async function acceptLosses(
  log: VerifyLog,
  stores: readonly Store[],
  report: VerifyReport,
): Promise<number> {
  let accepted = 0;
  for (const finding of report.findings) {
    const { kind, partition, first, last } = finding;
    if (!acceptable.includes(kind) || partition === null || first === null || last === null) continue;
    const store = stores[finding.shard ?? shardOf(partition, stores.length)];
    if (store === undefined) continue;
    const letters = kind === 'rows_missing' ? 0 : await lettersWithin(log, finding);
    const statement = kind === 'rows_missing' ? correctRange : addRange;
    const params = { epoch: log.epoch, partition, first, last, letters };
    // A token of its own, as every write to the ledger has: a repeat is no repeat of another one.
    await store.command(statement, params, { settings: { insert_deduplication_token: randomUUID() } });
    accepted += 1;
  }
  return accepted;
}

async function lettersWithin(log: VerifyLog, { partition, first, last }: Finding): Promise<number> {
  if (partition === null || first === null || last === null) return 0;
  let count = 0;
  for (let after = first - 1; ; ) {
    const letters = await log.deadLetters(lettersPage, { partition, offset: after });
    for (const letter of letters) {
      if (letter.partition !== partition || letter.offset > last) return count;
      count += 1;
      after = letter.offset;
    }
    if (letters.length < lettersPage) return count;
  }
}
