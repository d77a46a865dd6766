// Ledgers for tests, made whole and broken on purpose, and a table in memory that counts as a store does.

import fc from 'fast-check';
import type { Finding } from '../../src/verify/findings.ts';
import { LedgerAudit, type LedgerRange, type LogEnds } from '../../src/verify/ledger_audit.ts';
import { RowAudit, type RowSource } from '../../src/verify/row_audit.ts';

/** What one partition has, everywhere. */
export interface Everything {
  readonly ranges: LedgerRange[];
  /** Offsets of dead letters, ascending. */
  readonly letters: number[];
  /** By shard: the offset of each row. */
  readonly rows: number[][];
  readonly ends: LogEnds;
}

export const shards = 3;
/** Shards that the partition is or was on; it never was on the others. */
export const owners: readonly number[] = [1, 0];

/** One offset of the log: what became of it. */
type Fate = 'row' | 'duplicate' | 'parked' | 'hole';

const fates = fc.array(fc.constantFrom<Fate>('row', 'row', 'row', 'duplicate', 'parked', 'hole'), {
  minLength: 1,
  maxLength: 12,
});

/** A partition of which nothing is wrong, with some records in flight. */
export const whole: fc.Arbitrary<Everything> = fc
  .record({
    ranges: fc.array(fates, { minLength: 2, maxLength: 40 }),
    moved: fc.double({ min: 0, max: 1, noNaN: true }),
    inFlight: fc.nat(20),
    retained: fc.double({ min: 0, max: 1, noNaN: true }),
  })
  .map(({ ranges: all, moved, inFlight, retained }) => {
    const made: Everything = {
      ranges: [],
      letters: [],
      rows: Array.from({ length: shards }, () => []),
      ends: { start: 0, end: 0, committed: 0 },
    };
    let next = 0;
    for (const [i, range] of all.entries()) {
      // On the former shard first, then on the one that it moved to.
      const shard = i < all.length * moved ? 0 : 1;
      add(made, shard, next, range);
      next += range.length;
    }
    // Rows of the range that is just being stored.
    if (inFlight > 0) made.rows[1]?.push(next);
    const ends = { start: Math.floor(next * retained), end: next + inFlight, committed: next };
    return { ...made, ends };
  });

function add(made: Everything, shard: number, first: number, range: readonly Fate[]): void {
  const count = (fate: Fate): number => range.filter((each) => each === fate).length;
  made.ranges.push({
    shard,
    first,
    last: first + range.length - 1,
    rows: count('row'),
    duplicates: count('duplicate'),
    parked: count('parked'),
    holes: count('hole'),
  });
  for (const [i, fate] of range.entries()) {
    if (fate === 'row') made.rows[shard]?.push(first + i);
    if (fate === 'parked') made.letters.push(first + i);
  }
}

/** Everything that is found, as the proof finds it. */
export async function audit({ ranges, letters, rows, ends }: Everything): Promise<Finding[]> {
  const findings: Finding[] = [];
  const report = (finding: Finding): void => void findings.push(finding);
  const ledger = new LedgerAudit(3, letters, (shard) => owners.includes(shard), report);
  const tables = rows.map((offsets, shard) => new RowAudit(3, shard, tableOf(offsets), report));
  for (const range of ranges.toSorted((a, b) => a.first - b.first || a.last - b.last)) {
    ledger.take(range);
    await tables[range.shard]?.take(range);
  }
  const { ledgerEnd } = ledger.end(ends);
  for (const table of tables) await table.end(ledgerEnd);
  return findings;
}

/** Rows in memory. */
function tableOf(offsets: readonly number[]): RowSource {
  const within = (from: number, to: number): number[] => offsets.filter((each) => each >= from && each < to);
  const some = (numbers: Iterable<number>): number[] =>
    [...new Set(numbers)].sort((a, b) => a - b).slice(0, 5);
  return {
    count: async (starts, to) =>
      starts.flatMap((start, i) => {
        const found = within(start, starts[i + 1] ?? to);
        return found.length === 0 ? [] : { start, rows: found.length, offsets: new Set(found).size };
      }),
    doubled: async (from, to) => {
      const found = within(from, to);
      return some(found.filter((each, i) => found.indexOf(each) !== i));
    },
    present: async (from, to) => some(within(from, to)),
    absent: async (from, to) => {
      const there = new Set(within(from, to));
      return some(Array.from({ length: to - from }, (_, i) => from + i).filter((each) => !there.has(each)));
    },
  };
}
