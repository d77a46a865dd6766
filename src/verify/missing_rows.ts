// Which events a range really lacks. A client retry that comes later than the retry window, with its own time, is a row
// until a merge drops it in favour of the first copy, as it should: so fewer rows than the ledger says are a loss only if
// the log holds an event there that has no row anywhere. Runs where the proof does, for what it found.

import { RecordCursor } from '../event/record.ts';
import type { RecordReader } from '../log/records.ts';
import type { Store } from '../store/store.ts';
import { examplesMax, type Finding } from './findings.ts';
import { identityKey, type QueryScope, storedIdentities, storedOffsets } from './queries.ts';

export interface MissingRowsParts {
  /** The shard where the range's rows have to be. */
  readonly scope: QueryScope;
  /** Every shard: where else a copy may be. */
  readonly stores: readonly Store[];
  readonly records: RecordReader;
  /** Offsets of the partition's dead letters; null if they are not known. */
  readonly letters: readonly number[] | null;
}

/** Offsets that are looked at together. */
const offsetsPerLook = 500;

interface Lost {
  readonly offset: number;
  readonly source: string;
  readonly id: string;
}

/**
 * The finding `rows_missing` with the events that are gone, by name; null if each of them is there, as another copy.
 * Where the log no longer holds the records nobody can tell: it stays as it is, and says so.
 */
export async function lostEvents(parts: MissingRowsParts, finding: Finding): Promise<Finding | null> {
  const { partition, first, last } = finding;
  if (partition === null || first === null || last === null) return finding;
  const { scope, stores, records } = parts;
  const letters = new Set(parts.letters);
  const lost: Lost[] = [];
  let lostTotal = 0;
  for (let from = first; from <= last; from += offsetsPerLook) {
    const to = Math.min(from + offsetsPerLook, last + 1);
    const stored = await storedOffsets(scope, partition, from, to);
    const found: Lost[] = [];
    const next = await records.read(partition, from, to - 1, (base, count, bytes) => {
      const cursor = new RecordCursor();
      cursor.open(bytes);
      for (let offset = base; offset < base + count && cursor.next(); offset += 1) {
        if (offset < from || offset >= to || stored.has(offset) || letters.has(offset)) continue;
        const text = (start: number, end: number): string => cursor.buffer.toString('utf8', start, end);
        const id = text(cursor.idStart, cursor.typeStart);
        found.push({ offset, source: text(cursor.sourceStart, cursor.subjectStart), id });
      }
    });
    if (next < to) {
      const detail = `${finding.detail}; the log no longer holds offset ${next}, so it cannot be told whether a merge dropped copies of later retries`;
      return { ...finding, detail };
    }
    if (found.length === 0) continue;
    const there = new Set<string>();
    for (const store of stores) {
      for (const key of await storedIdentities({ ...scope, store }, found)) there.add(key);
    }
    for (const event of found) {
      if (there.has(identityKey(event))) continue;
      lostTotal += 1;
      if (lost.length < examplesMax) lost.push(event);
    }
  }
  if (lostTotal === 0) return null;
  const examples = lost.map(
    ({ offset, source, id }) => `${partition}:${offset} ${JSON.stringify({ source, id })}`,
  );
  return { ...finding, count: lostTotal, examples };
}
