// What `ess verify` can find: a closed list of kinds, each with what it means for the data and what to do. Runs wherever
// the proof does: in the command's own process, or on the main thread of a running one.

interface FindingKind {
  /** What it means for the data. */
  readonly means: string;
  /** What a person should do. */
  readonly action: string;
}

const kinds = {
  ledger_gap: {
    means: 'no ledger row covers these offsets: their records were skipped, or the ledger row is lost',
    action:
      'lengthen the retention of the log before anything else, keep the ledger as it is, and run ess verify --deep: it tells whether the rows are there. With the rows there, only the ledger row is missing (restored from a backup, deleted by hand?), and ess verify --accept-losses writes it anew; without them see "Lost rows" in docs/operations.md',
  },
  ledger_overlap: {
    means:
      'two ledger rows cover these offsets: they were dealt with twice, or a ledger row was written by hand',
    action:
      'run ess verify --deep: it tells whether rows are doubled. If none is, delete the ledger row that no sink wrote',
  },
  range_miscounted: {
    means: 'rows + duplicates + parked + holes of this ledger row are not the offsets that it covers',
    action: 'report it with the ledger and the logs of the sinks; was the ledger edited by hand?',
  },
  range_misplaced: {
    means: 'this ledger row is on a shard that never had the partition',
    action: 'compare --clickhouse with the layout that ess init shows; do not change either before that',
  },
  records_gone: {
    means: 'the log no longer holds these records, and no ledger row says what became of them: they are lost',
    action:
      'lengthen the retention of the log first; send the events again, with the same ids, if somebody has them; then ess verify --accept-losses writes them down as lost, and the partition goes on (section "Partition halted" of docs/operations.md)',
  },
  ledger_beyond_log: {
    means: 'the ledger covers offsets that the log has not reached: the log was put back to an older state',
    action: 'see "Partition halted" in docs/operations.md; was a broker or the data directory restored?',
  },
  letters_missing: {
    means: 'the ledger says that more records were parked here than there are dead letters: letters are lost',
    action: 'was the topic of dead letters emptied, or has it a retention? ess init shows its settings',
  },
  letters_unclaimed: {
    means:
      'there are more dead letters here than the ledger says: a record is parked and counted otherwise too',
    action:
      'GET /dead-letters shows them; do not replay them before it is known whether their rows are stored',
  },
  rows_missing: {
    means: 'the table has fewer rows of this range than the ledger says: stored events are gone',
    action:
      'was the table dropped, were rows deleted, a part detached, a backup restored? See "Lost rows" in docs/operations.md: what the log still holds can be had back',
  },
  rows_surplus: {
    means: 'the table has more rows of this range than the ledger says',
    action: 'were rows inserted by hand? report it otherwise, with the ledger and the rows',
  },
  rows_doubled: {
    means: 'these offsets have several rows: the record is counted twice where FINAL does not merge them',
    action: 'delete all but one row of each offset; report it unless rows were inserted by hand',
  },
  rows_outside: {
    means: 'rows that no ledger row of their shard covers',
    action:
      'beside a ledger_gap at the same offsets the events are safe and only the ledger row is lost: insert it again, with these rows. Otherwise rows were inserted by hand, or into the wrong shard',
  },
  rows_beyond_log: {
    means: 'rows with offsets that the log has not reached: no record of the log is behind them',
    action:
      'were rows inserted by hand, or the log put back to an older state? A sink that starts takes them for a range of its own: remove them before',
  },
  identity_doubled: {
    means: 'an event (source, id) is stored twice although its copies came within retry-window-ms',
    action: 'report it with both rows; every read by id shows one, statistics count both',
  },
} as const satisfies Record<string, FindingKind>;

export type FindingKindName = keyof typeof kinds;

/** Every kind with its meaning and its advice. */
export const findingKinds: Readonly<Record<FindingKindName, FindingKind>> = kinds;

export interface Finding {
  readonly kind: FindingKindName;
  /** Null where it is of no one partition. */
  readonly partition: number | null;
  /** Where it was seen; null where it is of no one shard. */
  readonly shard: number | null;
  /** Offsets that it is about, both ends inclusive; null where it is about none. */
  readonly first: number | null;
  readonly last: number | null;
  /** Offsets, rows or letters too many or too few. */
  readonly count: number;
  /** What was found, in words and figures. */
  readonly detail: string;
  /** Some of them, at most `examplesMax`: "partition:offset", or an identity. */
  readonly examples: readonly string[];
}

/** Examples that a finding names. */
export const examplesMax = 5;

/** Tells whether two looks found the same thing, whatever the figures were. */
export function findingKey({ kind, partition, shard, first }: Finding): string {
  // Where these begin moves with the log; one a partition is enough.
  const isMoving = kind === 'ledger_beyond_log' || kind === 'records_gone' || kind === 'rows_beyond_log';
  return `${kind}:${partition}:${shard}:${isMoving ? '' : first}`;
}

/** One line: where, what it means, what to do. */
export function findingText({ kind, partition, shard, first, last, detail, examples }: Finding): string {
  const { means, action } = findingKinds[kind];
  const at = [
    partition === null ? [] : `partition ${partition}`,
    first === null || last === null ? [] : first === last ? `offset ${first}` : `offsets ${first}-${last}`,
    shard === null ? [] : `shard ${shard}`,
  ].flat();
  const where = at.length === 0 ? '' : ` ${at.join(', ')}:`;
  const named = examples.length === 0 ? '' : ` (${examples.join(', ')})`;
  return `${kind}${where} ${detail}${named}; ${means}; what to do: ${action}`;
}
