// Where a partition goes on after it was assigned: from the ledger, never from the committed position alone. Runs on
// sink threads, once for each assignment; it writes nothing but the ledger row of what was gone before ESS first came.
//
// That row needs an intent like any other range: its end is where the log starts, which may move before another owner
// comes, while the row of the first one is still on its way. So the range is committed, at the position after it and
// with a word that tells it from a range of records, before its row is written, and every later owner writes that row.
// What goes from the log after that moment is a gap: ESS was there, and has not stored it.

import { EssError } from '../errors.ts';
import { RecordCursor } from '../event/record.ts';
import type { LogConsumer, LogPosition, PartitionState } from '../log/log.ts';
import { blockRowsMax } from '../store/schema.ts';
import type { Send } from '../thread/port.ts';
import type { Identities } from './identities.ts';
import { reloadIdentities } from './identity_queries.ts';
import { decodeIntent, encodeIntent, type Intent } from './intent.ts';
import { findLanded, type LandedRows, type LedgerTotals } from './ledger.ts';
import { Owners, type RangeHome } from './owners.ts';
import type { Patience } from './patience.ts';
import type { Shard } from './shard.ts';
import { readTotals } from './totals.ts';

/** What a partition starts from. */
export interface Recovery {
  /** First offset to read: the ledger covers everything before it. */
  readonly resume: number;
  /** Last offset of the range that begins at `resume` and must be cut exactly so; -1 if there is none. */
  readonly forcedLast: number;
  /** Rows of that range that are in the store already; 0 if it has to be sent. */
  readonly landedRows: number;
  /** When its rows began to be looked for, epoch ms: what was not there can only have landed since. */
  readonly lookedMs: number;
  /** Where that range goes: to the shard that had the partition when it was begun. */
  readonly replayHome: RangeHome;
  readonly owners: Owners;
  readonly state: PartitionState;
}

export interface RecoveryParts {
  readonly log: LogConsumer;
  /** By number. */
  readonly shards: readonly Shard[];
  readonly partition: number;
  readonly send: Send;
  /** Hears what the ledger and the log say before anything is decided, also where the partition cannot go on then. */
  readonly onLedger: (totals: LedgerTotals, state: PartitionState) => void;
}

/**
 * Finds out where to go on. Rejects with StoreError while the store does not answer, as LogConsumer.commit where that is
 * needed, with EssError `bad_option` while a shard of the partition is recorded otherwise than it is configured, and with
 * EssError `internal` where records are gone that the ledger does not cover, or the ledger is: a person must look, and
 * nothing is stepped over.
 */
export async function recover(parts: RecoveryParts, position: LogPosition): Promise<Recovery> {
  const { log, shards, partition, send, onLedger } = parts;
  const { epoch } = log;
  const say = (level: 'info' | 'warn' | 'error', message: string, fields: Record<string, unknown>): void =>
    send({ type: 'log', level, message, fields: { partition, ...fields } });
  const intent = decodeIntent(position.metadata);
  if (intent === 'unknown') {
    throw new EssError('format_unknown', `the committed text "${position.metadata}" is of a newer format`);
  }
  const state = (await log.states(partition))[partition];
  if (state === undefined) throw new EssError('internal', `partition ${partition} is not in the log`);
  const owners = await Owners.read(shards, partition);
  const stores = owners.all.map(({ store }) => store);
  let totals = await readTotals(stores, epoch, partition);
  const gone = totals.next === 0 ? await goneRange(parts, position, intent, state, owners) : null;
  if (gone !== null) {
    const { first, last } = gone;
    // A topic that was in use before ESS: what is gone already is written down, so that the ledger covers all offsets.
    say('warn', 'records were gone before the first read', { first, last });
    const counts = { rows: 0, duplicates: 0, parked: 0, holes: last - first + 1, storeTimeMs: Date.now() };
    const { ledger } = owners.homeIn(gone.layout).shard;
    await ledger.add({ epoch, partition, first, last, ...counts });
    totals = await readTotals(stores, epoch, partition);
  }
  onLedger(totals, state);
  if (totals.covered !== totals.next) {
    say('error', 'the ledger has a gap or an overlap', { covered: totals.covered, next: totals.next });
  }
  const resume = totals.next;
  if (resume < state.start || resume > state.end) {
    // Records that the ledger does not know are gone, or the store knows more than the log: a person must look.
    throw new EssError(
      'internal',
      `gap: the ledger ends at offset ${resume}, but the log holds ${state.start} to ${state.end}`,
    );
  }
  const isPending =
    intent !== 'none' && intent.isGone !== true && intent.epoch === epoch && intent.first === resume;
  const lookedMs = Date.now();
  const begun = isPending ? owners.homeIn(intent.layout) : null;
  const { landed, home } = await findPending(owners, begun, epoch, partition, resume);
  // They would have to be held in memory, all of them, to be made one range.
  if (landed.count > blockRowsMax) {
    throw new EssError(
      'internal',
      `the ledger is lost: it ends at offset ${resume}, but ${landed.count} rows are past it; ess verify --accept-losses writes it anew`,
    );
  }
  let forcedLast = -1;
  if (landed.count > 0) forcedLast = isPending ? Math.max(intent.last, landed.last) : landed.last;
  else if (isPending) forcedLast = intent.last;
  if (forcedLast >= 0) {
    const fields = { first: resume, last: forcedLast, rows: landed.count };
    say('info', landed.count > 0 ? 'completing a stored range' : 'sending a pending range again', fields);
  }
  if (position.isForeign === true)
    say('warn', 'the position was moved by hand, or is of an older ESS', { committed: position.offset });
  if (position.offset > resume) {
    const fields = { committed: position.offset, ledger: resume };
    say('warn', 'position is ahead of the ledger: going on from the ledger', fields);
  }
  return { resume, forcedLast, landedRows: landed.count, replayHome: home, owners, lookedMs, state };
}

/**
 * Rows past the ledger's end, and where the range that they are of has to be completed: where it was begun, as its
 * intent says, or where its rows are. A block, or a ledger row, that a sink sent before it died may land at any time: on
 * the same shard it is known by its token or its key, on another it would be there a second time. Rejects with EssError
 * `internal` if rows are where they cannot be: a person must look.
 */
async function findPending(
  owners: Owners,
  begun: RangeHome | null,
  epoch: string,
  partition: number,
  resume: number,
): Promise<{ readonly landed: LandedRows; readonly home: RangeHome }> {
  let landed: LandedRows = { count: 0, first: 0, last: 0 };
  let home = begun ?? owners.home;
  for (const shard of owners.all) {
    const found = await findLanded(shard.store, epoch, partition, resume, Number.MAX_SAFE_INTEGER);
    if (found.count === 0) continue;
    if (landed.count > 0 || (begun !== null && begun.shard !== shard)) {
      const text = `rows past the ledger's end at offset ${resume} are on ${shard.store.name}, and the range is one of ${home.shard.store.name}`;
      throw new EssError('internal', text);
    }
    landed = found;
    // Without an intent none will be written: the version by which the rows got there does not matter any more.
    if (begun === null) home = { shard, layout: owners.home.layout };
  }
  return { landed, home };
}

/**
 * The range that was gone before ESS first came, durably announced; null if there is none. What an owner before has
 * announced counts, wherever the log starts by now. Rejects as LogConsumer.commit.
 */
async function goneRange(
  { log, partition }: RecoveryParts,
  position: LogPosition,
  intent: Intent | 'none',
  state: PartitionState,
  { home }: Owners,
): Promise<Intent | null> {
  const { epoch } = log;
  if (intent !== 'none' && intent.isGone === true && intent.epoch === epoch) return intent;
  if (position.offset >= 0 || state.start === 0) return null;
  const gone: Intent = { epoch, first: 0, last: state.start - 1, layout: home.layout, isGone: true };
  await log.commit(partition, state.start, encodeIntent(gone));
  return gone;
}

/** How often a record that has to be fetched first is looked for, ms. */
const lookEveryMs = 10;

/**
 * The packed record at exactly this offset, waiting until the log has fetched it; null if there is no record at this
 * offset. Rejects with Stopped at the end of patience.
 */
export async function recordAt(
  log: LogConsumer,
  partition: number,
  offset: number,
  patience: Patience,
): Promise<Buffer | null> {
  const cursor = new RecordCursor();
  let record: Buffer | null = null;
  for (;;) {
    let isFirst = true;
    const next = log.read(partition, offset, 1, (base, _count, bytes) => {
      if (!isFirst) return;
      isFirst = false;
      if (base !== offset) return;
      cursor.open(bytes);
      if (cursor.next()) record = Buffer.from(bytes.subarray(cursor.start, cursor.end));
    });
    if (next > offset) return record;
    await patience.pause(lookEveryMs);
  }
}

/**
 * Learns the identities that were stored within `windowMs` before the record at `resume`, or before now. Gives the latest
 * ingest time (epoch ms) that a former shard has within that time: what is not known here of the time before it may be
 * there, where no row of the present shard replaces it. -Infinity if there is none.
 */
export async function reload(
  parts: RecoveryParts,
  { resume, state, owners }: Recovery,
  identities: Identities,
  windowMs: number,
  patience: Patience,
): Promise<number> {
  const { log, partition } = parts;
  let firstIngestMs = Date.now();
  if (resume < state.end) {
    const record = await recordAt(log, partition, resume, patience);
    if (record !== null) {
      const cursor = new RecordCursor();
      cursor.open(record);
      if (cursor.next()) firstIngestMs = Math.min(firstIngestMs, cursor.ingestTimeMs);
    }
  }
  const stores = owners.all.map(({ store }) => store);
  const [, ...former] = await reloadIdentities(stores, identities, {
    partition,
    epoch: log.epoch,
    before: resume,
    sinceMs: Math.floor(firstIngestMs) - windowMs,
    countMax: identities.capacityMax,
  });
  return Math.max(Number.NEGATIVE_INFINITY, ...former);
}
