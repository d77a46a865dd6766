// When a count of rows alone says that rows are gone: without a look at ranges, as `ess verify` without --deep and
// `ess doctor` do it.

/** Share of the rows that the ledger tells of: merges drop late retries, but hardly ever so many. */
const rowsShareMin = 0.5;

/** True if a table has so few of the rows that the ledger tells of that no merge explains it. */
export function areMostGone(found: number, told: number): boolean {
  return found < told * rowsShareMin;
}
