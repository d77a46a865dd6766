// The proof that nothing was lost or doubled, on a system that may be moving. Runs in the command's own process, or on the
// main thread of a running one, where it only waits for the store and the log.
//
// What is read, in the order that makes a moving system consistent, for each partition:
//   1. where its ledgers end: of the shard that it is on, then of those before (as sink/totals.ts); no range past these ends
//      is looked at, and those before them do not change any more
//   2. its dead letters: a letter is durable before the ledger row that counts it
//   3. the last offsets that have a row (deep)
//   4. the log's ends: a record is in the log before anything else is said of it
//   5. the ranges, and the rows of each (deep): a range's rows are stored before its ledger row
// Records between the ledger's end and the log's, and rows there, are in flight. What is found is reported only if another
// look, a moment later, finds the same again.

import { setTimeout as sleep } from 'node:timers/promises';
import { EssError } from '../errors.ts';
import type { LogAppender } from '../log/log.ts';
import type { RecordReader } from '../log/records.ts';
import { blockRowsMax } from '../store/schema.ts';
import { checkLayout, formerShards, type LayoutVersion } from '../store/shard_layout.ts';
import { type Store, shardOf } from '../store/store.ts';
import { type Finding, findingKey } from './findings.ts';
import { LedgerAudit, type PartitionTotals } from './ledger_audit.ts';
import { lostEvents } from './missing_rows.ts';
import {
  countIdentities,
  countRows,
  lastRowOffset,
  ledgerBound,
  ledgerRanges,
  mergedRanges,
  rowSource,
  rowsPast,
} from './queries.ts';
import { RowAudit } from './row_audit.ts';
import { areMostGone } from './rows_share.ts';

/** What is asked of the log. */
export type VerifyLog = Pick<
  LogAppender,
  'epoch' | 'partitions' | 'states' | 'deadLetters' | 'deadLetterCount'
>;

export interface VerifyParts {
  readonly log: VerifyLog;
  /** By shard. */
  readonly stores: readonly Store[];
  /** Compares the ledger with the table, too. */
  readonly isDeep: boolean;
  /** Within it two copies are one event, ms. */
  readonly retryWindowMs: number;
  /** Gives up when aborted: rejects with StoreError or EssError `stopping`. */
  readonly signal: AbortSignal;
  /** Hears how much of the work is done. */
  readonly onProgress: (done: number, total: number) => void;
  /** Partitions of whose ends the log does not really know, because no leader answers. */
  readonly leaderless: () => Promise<ReadonlySet<number>>;
  /** Opens a way to the log's records; only asked for when rows are missing. Closed here. */
  readonly openRecords: () => Promise<RecordReader>;
  /** Between two looks at what seems wrong, ms. Default 500. */
  readonly lookAgainMs?: number;
}

export interface PartitionReport extends PartitionTotals {
  readonly partition: number;
  readonly start: number;
  readonly end: number;
  /** Below the ledger's end; null where there are too many to tell them apart. */
  readonly deadLetters: number | null;
  readonly isExact: boolean;
}

export interface VerifyReport {
  readonly isExact: boolean;
  readonly isDeep: boolean;
  readonly epoch: string;
  readonly partitions: readonly PartitionReport[];
  /** Deep only: events as reads see them, over all shards. */
  readonly events: { readonly events: number; readonly identities: number } | null;
  /** At most `findingsMax` of them. */
  readonly findings: readonly Finding[];
  readonly findingsTotal: number;
  readonly tookMs: number;
}

/** Findings that are kept; of more only the number. */
export const findingsMax = 1_000;
/** Dead letters up to which they are held against each range: what is kept of them is an offset each. */
const lettersMax = 100_000;
/** Letters that are fetched at once: each may be as large as an event. */
const lettersPage = 50;
const looksMax = 3;
const lookAgainMsDefault = 500;

/**
 * Compares log, ledger, dead letters and, if deep, the table. Rejects with StoreError or EssError where one of them does
 * not answer, or a shard is recorded otherwise than it is configured: then nothing is proven.
 */
export async function verify(parts: VerifyParts): Promise<VerifyReport> {
  const startedMs = performance.now();
  const { log, stores, isDeep, signal } = parts;
  const work = new Work(parts, await log.states());
  const kept = new Kept();
  const partitions: PartitionReport[] = [];
  const isLettersListed = (await log.deadLetterCount()) <= lettersMax;
  for (let partition = 0; partition < log.partitions; partition += 1) {
    const { findings, report, letters } = await proven(parts, () =>
      lookAtPartition(parts, partition, isLettersListed, work),
    );
    const confirmed = await withoutMerged(parts, findings, letters);
    partitions.push(report(confirmed));
    kept.add(confirmed);
    work.partitionDone(partition);
  }
  if (!isLettersListed) {
    const parked = partitions.reduce((sum, each) => sum + each.parked, 0);
    const letters = await log.deadLetterCount();
    if (letters < parked) {
      const detail = `${letters} dead letters in all, but the ledger says ${parked} parked`;
      const nowhere = { partition: null, shard: null, first: null, last: null };
      kept.add([{ ...nowhere, kind: 'letters_missing', count: parked - letters, detail, examples: [] }]);
    }
  }
  if (!isDeep) kept.add((await proven(parts, () => emptyTables(parts, partitions))).findings);
  const events = { events: 0, identities: 0 };
  for (const [shard, store] of isDeep ? stores.entries() : []) {
    const { findings, counts } = await proven(parts, async () => {
      const scope = { store, epoch: log.epoch, signal };
      const found = await countIdentities(scope, parts.retryWindowMs, (done, passes) =>
        work.identitiesDone(shard, done / passes),
      );
      return { counts: found, findings: doubledIdentities(shard, found) };
    });
    events.events += counts.events;
    events.identities += counts.identities;
    kept.add(findings);
  }
  return {
    isExact: kept.total === 0,
    isDeep,
    epoch: log.epoch,
    partitions,
    events: isDeep ? events : null,
    findings: kept.findings,
    findingsTotal: kept.total,
    tookMs: Math.round(performance.now() - startedMs),
  };
}

/** Looks until nothing is found, or the same was found by two looks in succession: only that counts. */
async function proven<T extends { readonly findings: readonly Finding[] }>(
  { lookAgainMs = lookAgainMsDefault, signal }: VerifyParts,
  look: () => Promise<T>,
): Promise<T> {
  let before: ReadonlySet<string> | null = null;
  for (let i = 1; ; i += 1) {
    if (signal.aborted) throw new EssError('stopping', 'given up');
    const seen: T = await look();
    const earlier: ReadonlySet<string> = before ?? new Set();
    const again = seen.findings.filter((finding) => earlier.has(findingKey(finding)));
    // The second look decides, unless all that it found is new.
    const isSettled = seen.findings.length === 0 || again.length > 0 || i >= looksMax;
    if (isSettled) return { ...seen, findings: again };
    before = new Set(seen.findings.map(findingKey));
    await sleep(lookAgainMs);
  }
}

/**
 * Without looking at ranges: partitions of which most rows are gone, as after a table was dropped and made anew. What is
 * less than that only the deep comparison can tell from late retries that a merge dropped.
 */
async function emptyTables(
  { stores, log: { epoch }, signal }: VerifyParts,
  partitions: readonly PartitionReport[],
): Promise<{ readonly findings: readonly Finding[] }> {
  const counts = await Promise.all(stores.map((store) => countRows({ store, epoch, signal })));
  const findings = partitions.flatMap(({ partition, rows, ledgerEnd }): Finding[] => {
    const found = counts.reduce((sum, count) => sum + (count.get(partition) ?? 0), 0);
    if (!areMostGone(found, rows)) return [];
    const detail = `${found} rows in the whole table, but the ledger says ${rows}`;
    const place = { partition, shard: null, first: 0, last: ledgerEnd - 1 };
    return [{ kind: 'rows_missing', ...place, count: rows - found, detail, examples: [] }];
  });
  return { findings };
}

/** Leaves out missing rows that are none, and names the events of the others. */
async function withoutMerged(
  { stores, log: { epoch }, signal, openRecords }: VerifyParts,
  findings: readonly Finding[],
  letters: readonly number[] | null,
): Promise<Finding[]> {
  if (!findings.some(({ kind }) => kind === 'rows_missing')) return [...findings];
  const records = await openRecords();
  const confirmed: Finding[] = [];
  try {
    for (const finding of findings) {
      const store = finding.kind === 'rows_missing' ? stores[finding.shard ?? -1] : undefined;
      if (signal.aborted) throw new EssError('stopping', 'given up');
      const scope = store === undefined ? null : { store, epoch, signal };
      const found = scope === null ? finding : await lostEvents({ scope, stores, records, letters }, finding);
      if (found !== null) confirmed.push(found);
    }
  } finally {
    await records.close();
  }
  return confirmed;
}

interface PartitionLook {
  readonly findings: readonly Finding[];
  readonly letters: readonly number[] | null;
  /** The partition's line, given what of the findings is confirmed. */
  readonly report: (confirmed: readonly Finding[]) => PartitionReport;
}

async function lookAtPartition(
  parts: VerifyParts,
  partition: number,
  isLettersListed: boolean,
  work: Work,
): Promise<PartitionLook> {
  const { log, stores, isDeep, signal, leaderless } = parts;
  const { epoch } = log;
  const owners = await ownersOf(stores, partition);
  const scopes = stores.map((store) => ({ store, epoch, signal }));
  const bounds: number[] = scopes.map(() => 0);
  for (const shard of [...owners, ...stores.keys()].filter((each, i, all) => all.indexOf(each) === i)) {
    const scope = scopes[shard];
    if (scope !== undefined) bounds[shard] = await ledgerBound(scope, partition);
  }
  const ledgerEnd = Math.max(...bounds);
  const letters = isLettersListed ? await lettersOf(log, partition, ledgerEnd) : null;
  const lastRows: number[] = [];
  for (const scope of isDeep ? scopes : []) lastRows.push(await lastRowOffset(scope, partition));
  const state = (await log.states())[partition];
  if (state === undefined) throw new EssError('internal', `partition ${partition} is not in the log`);
  const isBeyond = ledgerEnd > state.end || lastRows.some((last) => last >= state.end);
  if (isBeyond && (await leaderless()).has(partition))
    throw new EssError('log_unavailable', `no leader of partition ${partition} answers`);

  const found = new Kept();
  const report = (finding: Finding): void => found.add([finding]);
  const audit = new LedgerAudit(partition, letters, (shard) => owners.includes(shard), report);
  const rows = isDeep
    ? scopes.map((scope, shard) => new RowAudit(partition, shard, rowSource(scope, partition), report))
    : [];
  const sources = scopes.map((scope, shard) => ledgerRanges(scope, partition, shard, bounds[shard] ?? 0));
  for await (const range of mergedRanges(sources)) {
    audit.take(range);
    await rows[range.shard]?.take(range);
    work.reached(partition, range.last);
  }
  for (const each of rows) await each.end(ledgerEnd);
  for (const [shard, last] of lastRows.entries()) {
    if (last < state.end) continue;
    const detail = `rows up to offset ${last}, and the log ends at ${state.end}`;
    const at = { partition, shard, first: state.end, last };
    report({
      kind: 'rows_beyond_log',
      ...at,
      count: last - state.end + 1,
      detail,
      examples: [`${partition}:${last}`],
    });
  }
  for (const [shard, scope] of scopes.entries()) {
    if ((lastRows[shard] ?? -1) < ledgerEnd) continue;
    const past = await rowsPast(scope, partition, ledgerEnd, state.end);
    // Up to so many are what a sink has under way, or left half done.
    if (past.count <= blockRowsMax) continue;
    const detail = `the ledger ends at offset ${ledgerEnd}, but ${past.count} rows are past it`;
    const at = { partition, shard, first: ledgerEnd, last: past.last };
    report({ kind: 'ledger_gap', ...at, count: past.last - ledgerEnd + 1, detail, examples: [] });
  }
  const { start, end } = state;
  const totals = audit.end(state);
  return {
    findings: found.findings,
    letters,
    report: (confirmed) => ({
      partition,
      start,
      end,
      ...totals,
      deadLetters: letters?.length ?? null,
      isExact: confirmed.length === 0,
    }),
  };
}

/** The shard that a partition is on, then those that it was on, as they are recorded. Rejects as `checkLayout`. */
async function ownersOf(stores: readonly Store[], partition: number): Promise<number[]> {
  const shard = shardOf(partition, stores.length);
  const store = stores[shard];
  if (store === undefined) throw new EssError('internal', `there is no shard ${shard}`);
  const history: LayoutVersion[] = await checkLayout(store, { shard, shards: stores.length });
  return [shard, ...formerShards(history, partition)];
}

/** Offsets of a partition's dead letters below an offset, ascending. */
async function lettersOf(log: VerifyLog, partition: number, below: number): Promise<number[]> {
  const offsets: number[] = [];
  for (let after = -1; ; ) {
    const letters = await log.deadLetters(lettersPage, { partition, offset: after });
    for (const letter of letters) {
      if (letter.partition !== partition || letter.offset >= below) return offsets;
      offsets.push(letter.offset);
      after = letter.offset;
    }
    if (letters.length < lettersPage) return offsets;
  }
}

function doubledIdentities(
  shard: number,
  { doubled, examples }: Awaited<ReturnType<typeof countIdentities>>,
): Finding[] {
  if (doubled === 0) return [];
  const [only] = examples;
  return [
    {
      kind: 'identity_doubled',
      partition: doubled === 1 && only !== undefined ? only.partition : null,
      shard,
      first: null,
      last: null,
      count: doubled,
      detail: `${doubled} identities`,
      examples: examples.map(({ partition, source, id }) => JSON.stringify({ partition, source, id })),
    },
  ];
}

/** Findings, of which only so many are kept. */
class Kept {
  readonly findings: Finding[] = [];
  total = 0;

  add(findings: readonly Finding[]): void {
    this.total += findings.length;
    for (const finding of findings) if (this.findings.length < findingsMax) this.findings.push(finding);
  }
}

/** How much is done, in offsets of the ledgers; the identities of a shard count as much as its offsets. */
class Work {
  readonly #parts: VerifyParts;
  readonly #sizes: readonly number[];
  readonly #total: number;
  #before = 0;
  #done = 0;

  constructor(parts: VerifyParts, states: readonly { readonly end: number }[]) {
    this.#parts = parts;
    this.#sizes = states.map(({ end }) => Math.max(1, end));
    this.#total = this.#offsets * (parts.isDeep ? 2 : 1);
  }

  get #offsets(): number {
    return this.#sizes.reduce((sum, size) => sum + size, 0);
  }

  /** A look that is repeated shows no progress. */
  reached(partition: number, offset: number): void {
    this.#show(this.#before + Math.min(offset, this.#sizes[partition] ?? 0));
  }

  partitionDone(partition: number): void {
    this.#before += this.#sizes[partition] ?? 0;
    this.#show(this.#before);
  }

  identitiesDone(shard: number, share: number): void {
    this.#show(this.#offsets * (1 + (shard + share) / this.#parts.stores.length));
  }

  #show(done: number): void {
    this.#done = Math.min(this.#total, Math.max(this.#done, Math.round(done)));
    this.#parts.onProgress(this.#done, this.#total);
  }
}
