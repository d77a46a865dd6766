// One partition's way into ClickHouse, exactly once. Runs on a sink thread, which owns the partition alone.
//
// The protocol for a range [first, last], in this order:
//   1. commit position `first` with the intent [first, last]     durable in the log
//   2. insert the range's rows as one block under its token      durable and readable in the store
//   3. write the range's ledger row                              durable in the store
//   4. commit position last+1, with the next intent or none      durable in the log
// A crash between any two of them leaves the ledger's last range as the truth: at start, rows past it are looked for.
// If the pending range's rows are there, only steps 3 and 4 are missing; if not, exactly that range is sent again
// under the same token. Invariant: the ledger's ranges are contiguous from 0, and every stored row lies in exactly
// one of them or in the one range in progress.

import { EssError } from '../errors.ts';
import { RecordCursor, recordFlags } from '../event/record.ts';
import { faultPoint } from '../faults.ts';
import type { Trouble } from '../live/troubles.ts';
import type { LogConsumer, LogPosition } from '../log/log.ts';
import type { PartitionBoard } from '../stats/board.ts';
import type { EngineCounters } from '../stats/counters.ts';
import type { StageRecorder } from '../stats/recorder.ts';
import { EventBlock } from '../store/native/event_block.ts';
import { msPerHour } from '../store/schema.ts';
import { shardOf } from '../store/store.ts';
import type { Send } from '../thread/port.ts';
import { retryPauseMsMax, retryPauseMsMin } from './failure.ts';
import { hashIdentity, Identities } from './identities.ts';
import { findOlderCopies } from './identity_queries.ts';
import { insertRange } from './insert.ts';
import { blockToken, encodeIntent } from './intent.ts';
import { findLanded, isInsertRunning } from './ledger.ts';
import type { RangeHome } from './owners.ts';
import { describe, Patience, Stopped } from './patience.ts';
import { type BrokenRecord, SinkRange } from './range.ts';
import { type RecoveryParts, recordAt, recover, reload } from './recovery.ts';
import type { Shard } from './shard.ts';

export interface SinkLimits {
  readonly sinkBatchRowsMax: number;
  readonly sinkBatchBytesMax: number;
  readonly retryWindowMs: number;
  /** Of this partition alone. */
  readonly identitiesMax: number;
  /** See token_window.ts, ms. */
  readonly tokenKnownMs: number;
}

/** What the partitions of a sink thread share. */
export interface SinkParts {
  readonly log: LogConsumer;
  /** By shard number: partition p belongs to shard p modulo their number. */
  readonly shards: readonly Shard[];
  readonly board: PartitionBoard;
  readonly counters: EngineCounters;
  readonly recorder: StageRecorder;
  readonly limits: SinkLimits;
  readonly topic: string;
  readonly send: Send;
  /** Called when rows became readable or a flush ended: wakes producers that wait, and the sink's own loop. */
  readonly onProgress: () => void;
}

/** A completed range is committed with an empty intent if no next range comes within this time, ms. */
export const completeAfterMs = 100;
/** Identities are kept this much longer than the retry window, because ingest times are only nearly in order, ms. */
const windowSlackMs = 60_000;

export class PartitionSink {
  readonly partition: number;
  /** Where its blocks go. */
  readonly shardNumber: number;
  readonly #parts: SinkParts;
  /** Where ranges go that are begun here; the layout is known once it is open. */
  #home: RangeHome;
  /** Where the range goes that a predecessor has begun; null if there is none, or it is stored. */
  #replayHome: RangeHome | null = null;
  /** Shards that the partition was on before, and the latest ingest time there that may matter, epoch ms. */
  #former: readonly Shard[] = [];
  #formerUntilMs = Number.NEGATIVE_INFINITY;
  readonly #epoch: string;
  readonly #identities: Identities;
  readonly #patience: Patience;
  readonly #cursor = new RecordCursor();
  /** The range being read. */
  #range: SinkRange;
  /** A range to read into while another one is being stored. */
  #spare: SinkRange;
  /** Offsets found to be copies of events that the store already has. */
  readonly #excluded = new Set<number>();
  /** End of a range that must be rebuilt exactly, or -1. */
  #forcedLast = -1;
  /** When the rows of that range were looked for and not found, epoch ms; 0 if nobody has sent it yet. */
  #unclearSinceMs = 0;
  /** Rows of that range that the store has already: it lacks only its ledger row. */
  #landedRows = 0;
  /** Most records in a range while a refused row is being isolated. */
  #recordsMax = Number.POSITIVE_INFINITY;
  /** Offset after the last range that is stored and in the ledger. */
  #done = 0;
  #doneAtMs = 0;
  #committed = 0;
  #isCompleted = true;
  #isOpen = false;
  #isStoring = false;
  #isCompleting = false;
  #isStopping = false;
  #isRevoked = false;
  /** What was said last; undefined at first, so that a successor takes back what its predecessor said. */
  #condition: string | null | undefined = undefined;

  constructor(partition: number, parts: SinkParts) {
    const shardNumber = shardOf(partition, parts.shards.length);
    const shard = parts.shards[shardNumber];
    if (shard === undefined) throw new EssError('internal', 'a sink needs at least one shard');
    this.partition = partition;
    this.shardNumber = shardNumber;
    this.#parts = parts;
    this.#home = { shard, layout: 0 };
    this.#epoch = parts.log.epoch;
    this.#identities = new Identities(parts.limits.identitiesMax, parts.limits.retryWindowMs + windowSlackMs);
    this.#patience = new Patience((text) => this.#waits(`partition ${partition}: ${text}`));
    this.#range = new SinkRange(new EventBlock());
    this.#spare = new SinkRange(new EventBlock());
  }

  /** True while a range is being stored or its completion committed. */
  get isBusy(): boolean {
    return this.#isStoring || this.#isCompleting;
  }

  get isStoring(): boolean {
    return this.#isStoring;
  }

  /** True once the start protocol is through and records are taken. */
  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** Bytes of the range being read and of the one being stored. */
  get bytesHeld(): number {
    return this.#range.bytes + (this.#isStoring ? this.#spare.bytes : 0);
  }

  /** Records that wait in the range being read. */
  get recordsHeld(): number {
    return this.#range.records;
  }

  /** Next offset to read. */
  get next(): number {
    return this.#range.next;
  }

  get canRead(): boolean {
    return this.#isOpen && !this.#range.isClosed && !this.#isStopping;
  }

  /** When the oldest waiting record was read, epoch ms; Infinity if none waits. */
  get openedMs(): number {
    return this.#range.isEmpty ? Number.POSITIVE_INFINITY : this.#range.openedMs;
  }

  /** True if there is a range that could be stored now. */
  get canStore(): boolean {
    return this.#isOpen && !this.isBusy && !this.isReplaying && !this.#range.isEmpty;
  }

  /** True if the range should be stored without waiting for more. */
  get isFull(): boolean {
    return this.#range.isClosed;
  }

  /**
   * True while a range that must be cut exactly as before is not wholly read: storing less of it would be another
   * block beside the one that may have been sent.
   */
  get isReplaying(): boolean {
    return this.#forcedLast >= 0 && !this.#range.isClosed;
  }

  /** True if a completed range still has to be committed. */
  get isAwaitingCompletion(): boolean {
    return !this.#isCompleted;
  }

  /** Takes no more records; what is held is still stored, as long as everything answers at once. */
  stop(): void {
    this.#isStopping = true;
    this.#patience.end();
  }

  /**
   * Somebody else owns the partition now: from here on this object changes nothing, neither in the log nor on the
   * board. A block on its way may still land; the next owner finds it by its rows, or sends it under the same token.
   */
  revoke(): void {
    this.#isRevoked = true;
    this.#isOpen = false;
    this.stop();
    this.#parts.board.set(this.partition, 'pendingIngestMs', 0);
    this.#setCondition(null);
  }

  // ---- start ----------------------------------------------------------------------------------------------------

  /** Finds out where to go on. Tries until the store answers; settles early, without being open, when stopped. */
  async start(position: LogPosition): Promise<void> {
    let pauseMs = retryPauseMsMin;
    while (!this.#isStopping) {
      try {
        await this.#start(position);
        return;
      } catch (error) {
        if (error instanceof Stopped) return;
        const text = `partition ${this.partition} cannot start: ${describe(error)}`;
        // A gap in the log, a ledger that does not fit: it is looked at again, but a person has to act.
        if (error instanceof EssError && error.code === 'internal') this.#halts(text);
        else this.#waits(text);
        await this.#patience.pause(pauseMs).catch(() => {});
        pauseMs = Math.min(pauseMs * 2, retryPauseMsMax);
      }
    }
  }

  async #start(position: LogPosition): Promise<void> {
    const { log, shards, board, counters, limits, send } = this.#parts;
    const { partition } = this;
    const onLedger: RecoveryParts['onLedger'] = (totals, state) => {
      this.#assertOwned();
      board.set(partition, 'rows', totals.rows);
      board.set(partition, 'duplicates', totals.duplicates);
      board.set(partition, 'parked', totals.parked);
      board.set(partition, 'holes', totals.holes);
      board.set(partition, 'ledger', totals.next);
      board.set(partition, 'stored', totals.next);
      board.raise(partition, 'end', state.end);
      board.raise(partition, 'start', state.start);
    };
    const parts: RecoveryParts = { log, shards, partition, send, onLedger };
    const recovery = await recover(parts, position);
    const { resume, owners } = recovery;
    const windowMs = limits.retryWindowMs + windowSlackMs;
    this.#formerUntilMs = await reload(parts, recovery, this.#identities, windowMs, this.#patience);
    this.#assertOwned();
    this.#home = owners.home;
    this.#former = owners.former;
    this.#replayHome = recovery.forcedLast >= 0 ? recovery.replayHome : null;
    if (recovery.forcedLast >= 0) counters.add('intents_replayed');
    this.#forcedLast = recovery.forcedLast;
    this.#landedRows = recovery.landedRows;
    this.#unclearSinceMs = recovery.forcedLast >= 0 ? recovery.lookedMs : 0;
    this.#range.reset(resume);
    this.#done = resume;
    this.#committed = Math.max(0, position.offset);
    // A pending intent stays as it is until its range is stored: it is what the next start goes by. A position that is
    // ahead of the ledger is moved back even if nothing follows: else what lies between would look consumed. One that
    // is not ours is committed anew: until then it proves to nobody that what lies before it is stored.
    const isOurs = position.metadata === '' && position.isForeign !== true;
    this.#isCompleted = this.#forcedLast >= 0 || (this.#committed === resume && isOurs);
    this.#doneAtMs = Date.now();
    board.raise(partition, 'committed', Math.min(this.#committed, resume));
    this.#setCondition(null);
    this.#isOpen = true;
    this.#parts.onProgress();
  }

  // ---- reading --------------------------------------------------------------------------------------------------

  /** Reads about `bytesMax` bytes of records into the range; gives how many offsets the range grew by. */
  read(bytesMax: number): number {
    const range = this.#range;
    const before = range.next;
    try {
      const next = this.#parts.log.read(this.partition, before, bytesMax, (base, _count, bytes) => {
        if (range.isClosed) return;
        if (base < range.next) {
          throw new EssError('internal', `the log gave offset ${base} instead of ${range.next}`);
        }
        this.#skipHoles(range, base);
        if (!range.isClosed) this.#takeRecords(range, bytes);
      });
      if (!range.isClosed) this.#skipHoles(range, next);
    } catch (error) {
      // A gap in the log must be seen by a person; the other partitions go on.
      this.#isOpen = false;
      this.#halts(`partition ${this.partition} halted: ${describe(error)}`);
    }
    return range.next - before;
  }

  /** Offsets up to `next` hold no record: they belong to the range all the same, so that ranges stay contiguous. */
  #skipHoles(range: SinkRange, next: number): void {
    if (next <= range.next) return;
    if (range.isEmpty) range.openedMs = Date.now();
    const end = this.#forcedLast >= 0 ? Math.min(next, this.#forcedLast + 1) : next;
    range.holes += end - range.next;
    range.next = end;
    range.isClosed = this.#forcedLast >= 0 && range.last >= this.#forcedLast;
  }

  #takeRecords(range: SinkRange, bytes: Buffer): void {
    const { limits, recorder, board } = this.#parts;
    const cursor = this.#cursor;
    const identities = this.#identities;
    const nowMs = Date.now();
    const isOnFormer = this.#replayHome !== null && this.#replayHome.shard !== this.#home.shard;
    let waitMs = 0;
    let waited = 0;
    cursor.open(bytes);
    while (!range.isClosed && cursor.next()) {
      const ingestMs = cursor.ingestTimeMs;
      if (range.records === 0) {
        range.openMonth(ingestMs);
        if (range.isEmpty) range.openedMs = nowMs;
        range.firstIngestMs = ingestMs;
        if (!this.#isStoring) board.set(this.partition, 'pendingIngestMs', Math.trunc(ingestMs));
        identities.expireBefore(ingestMs - limits.retryWindowMs - windowSlackMs);
      } else if (ingestMs < range.monthStartMs || ingestMs >= range.monthEndMs) {
        range.isClosed = true;
        break;
      }
      const offset = range.next;
      if (isOnFormer && ingestMs > this.#formerUntilMs) this.#formerUntilMs = ingestMs;
      this.#takeRecord(range, offset, ingestMs, nowMs);
      range.records += 1;
      range.recordOffset = offset;
      range.next = offset + 1;
      if (waitMs !== nowMs - ingestMs && waited > 0) {
        recorder.record('log_wait', waitMs * 1000, waited);
        waited = 0;
      }
      waitMs = nowMs - ingestMs;
      waited += 1;
      if (this.#forcedLast >= 0) range.isClosed = offset >= this.#forcedLast;
      else {
        range.isClosed =
          range.block.rows >= limits.sinkBatchRowsMax ||
          range.bytes >= limits.sinkBatchBytesMax ||
          range.records >= this.#recordsMax ||
          // Past this the first identities of the range itself would go, whose rows the store cannot tell of yet.
          range.identitiesAdded >= identities.capacityMax;
      }
    }
    if (waited > 0) recorder.record('log_wait', waitMs * 1000, waited);
  }

  #takeRecord(range: SinkRange, offset: number, ingestMs: number, nowMs: number): void {
    const { limits } = this.#parts;
    const cursor = this.#cursor;
    const { buffer } = cursor;
    if ((cursor.flags & recordFlags.isBroken) !== 0) {
      const code = buffer.toString('utf8', cursor.typeStart, cursor.sourceStart);
      const reason = buffer.toString('utf8', cursor.subjectStart, cursor.keyStart);
      const record = Buffer.from(buffer.subarray(cursor.start, cursor.end));
      range.broken.push({ offset, code, reason, record });
      range.bytes += record.length;
      return;
    }
    hashIdentity(buffer, cursor.idStart, cursor.typeStart, cursor.sourceStart, cursor.subjectStart);
    const windowStartMs = ingestMs - limits.retryWindowMs;
    // NaN (not known) compares false.
    if (this.#identities.find() >= windowStartMs || (this.#excluded.size > 0 && this.#excluded.has(offset))) {
      range.duplicates += 1;
      return;
    }
    // A copy with the same time replaces its first one in the table. Without a time of its own, a copy in the next
    // hour has another sorting key: there this set alone decides, and what it has forgotten the store must tell. So it is
    // with whatever a former shard may have, where nothing is replaced.
    const hourStartMs = Math.floor(ingestMs / msPerHour) * msPerHour;
    const isReplaced = windowStartMs >= hourStartMs || (cursor.flags & recordFlags.hasTime) !== 0;
    if (
      (!isReplaced || windowStartMs <= this.#formerUntilMs) &&
      this.#identities.mayBeForgotten(windowStartMs)
    ) {
      range.questions.push({
        offset,
        id: buffer.toString('utf8', cursor.idStart, cursor.typeStart),
        source: buffer.toString('utf8', cursor.sourceStart, cursor.subjectStart),
        ingestTimeMs: ingestMs,
      });
    }
    range.block.append(cursor, this.#epoch, this.partition, offset, nowMs);
    range.noteRow(ingestMs);
    range.bytes += cursor.end - cursor.start;
    this.#identities.add(ingestMs);
    range.identitiesAdded += 1;
  }

  // ---- storing --------------------------------------------------------------------------------------------------

  /** Takes the range that was read and stores it; the next one can be read meanwhile. Never rejects. */
  async store(): Promise<void> {
    if (!this.canStore) throw new EssError('internal', 'there is no range to store');
    this.#isStoring = true;
    const range = this.#range;
    this.#range = this.#spare;
    this.#range.reset(range.next);
    this.#spare = range;
    try {
      await this.#store(range);
      this.#setCondition(null);
    } catch (error) {
      // The range is not stored, so nothing after it may be: the ledger would have a gap.
      this.#isOpen = false;
      if (!(error instanceof Stopped)) this.#halts(`partition ${this.partition} halted: ${describe(error)}`);
    } finally {
      this.#isStoring = false;
      if (!this.#isRevoked) {
        const { records, firstIngestMs } = this.#range;
        const pendingMs = records > 0 ? Math.trunc(firstIngestMs) : 0;
        this.#parts.board.set(this.partition, 'pendingIngestMs', pendingMs);
      }
      this.#parts.onProgress();
    }
  }

  async #store(range: SinkRange): Promise<void> {
    const { partition } = this;
    const { first, last } = range;
    if (range.questions.length > 0 && this.#landedRows === 0) {
      this.#parts.counters.add('identity_lookups');
      const copies = await this.#patience.untilAnswered(() => this.#findCopies(range));
      if (copies.length > 0) {
        for (const offset of copies) this.#excluded.add(offset);
        this.#forcedLast = last;
        this.#rebuildFrom(range);
        return;
      }
    }
    const landedRows = this.#landedRows;
    this.#landedRows = 0;
    if (this.#forcedLast === last) this.#forcedLast = -1;
    const home = this.#replayHome ?? this.#home;
    const { layout } = home;
    this.#replayHome = null;
    await this.#parkBroken(range.broken);
    let rows = range.block.rows;
    const token = blockToken(this.#epoch, this.#parts.topic, partition, first, last);
    const storeTimeMs = Date.now();
    // Without rows too: the ledger row may still be on its way when another owner takes over, who must not cut the
    // range elsewhere then.
    if (landedRows === 0)
      await this.#commit(first, encodeIntent({ epoch: this.#epoch, first, last, layout }));
    if (landedRows > 0) {
      rows = landedRows;
      this.#unclearSinceMs = 0;
    } else if (rows > 0) {
      faultPoint('sink.after_intent');
      const end = await this.#insert(range, home, token, storeTimeMs);
      this.#unclearSinceMs = 0;
      faultPoint('sink.after_insert');
      this.#assertOwned();
      if (end.kind === 'poison') {
        if (range.records === 1) {
          await this.#park(range, home, end.code, end.reason);
          return;
        }
        this.#recordsMax = Math.floor(range.records / 2);
        this.#rebuildFrom(range);
        return;
      }
      rows = end.rows;
    }
    this.#announce(range);
    const parked = range.broken.length;
    const duplicates = range.records - rows - parked;
    await this.#finish(range, home, { rows, duplicates, parked }, storeTimeMs);
    if (this.#recordsMax < this.#parts.limits.sinkBatchRowsMax) this.#recordsMax *= 2;
    else this.#recordsMax = Number.POSITIVE_INFINITY;
  }

  /** Offsets of the range's questionable events that are copies. */
  async #findCopies({ questions, first }: SinkRange): Promise<number[]> {
    const { retryWindowMs } = this.#parts.limits;
    const scope = { epoch: this.#epoch, partition: this.partition, before: first, retryWindowMs };
    const here = findOlderCopies(this.#home.shard.store, questions, { ...scope, isFormer: false });
    const there = this.#former.map(({ store }) =>
      findOlderCopies(store, questions, { ...scope, isFormer: true }),
    );
    return (await Promise.all([here, ...there])).flat();
  }

  #insert(range: SinkRange, home: RangeHome, token: string, storeTimeMs: number) {
    const { counters, recorder } = this.#parts;
    const parts = {
      store: home.shard.store,
      counters,
      recorder,
      patience: this.#patience,
      countLanded: () => this.#countLanded(range, home),
      isUnderWay: (used: string) => isInsertRunning(home.shard.store, used),
      tokenKnownMs: this.#parts.limits.tokenKnownMs,
      unclearSinceMs: this.#unclearSinceMs,
      assertOwned: async () => this.#assertOwned(),
      onTrouble: (text: string) => this.#waits(`partition ${this.partition} ${text}`),
    };
    return insertRange(parts, range, token, storeTimeMs);
  }

  async #countLanded({ first, last }: SinkRange, { shard }: RangeHome): Promise<number> {
    return (await findLanded(shard.store, this.#epoch, this.partition, first, last)).count;
  }

  /** Throws Stopped if the partition is no longer this thread's. Asked after every wait and before every insert. */
  #assertOwned(): void {
    if (this.#isRevoked || !this.#parts.log.isOwned(this.partition)) throw new Stopped();
  }

  /** Makes readers and waiters see the range, and notes how long its events took. */
  #announce(range: SinkRange): void {
    const { board, recorder, onProgress } = this.#parts;
    // What was read is in the log, even if nobody has asked for its end since.
    board.raise(this.partition, 'end', range.next);
    board.raise(this.partition, 'stored', range.next);
    onProgress();
    const nowMs = Date.now();
    for (const [i, ingestMs] of range.runTimesMs.entries()) {
      recorder.record('end_to_end', (nowMs - ingestMs) * 1000, range.runCounts[i] ?? 0);
    }
  }

  async #finish(
    range: SinkRange,
    home: RangeHome,
    counts: { readonly rows: number; readonly duplicates: number; readonly parked: number },
    storeTimeMs: number,
  ): Promise<void> {
    const { board, counters } = this.#parts;
    const { partition } = this;
    const { first, last, holes } = range;
    const row = { epoch: this.#epoch, partition, first, last, ...counts, holes, storeTimeMs };
    await home.shard.ledger.add(row);
    faultPoint('sink.after_ledger');
    // The next owner may have read the ledger already and set the board by it: adding would count the range twice.
    this.#assertOwned();
    board.add(partition, 'rows', counts.rows);
    board.add(partition, 'duplicates', counts.duplicates);
    board.add(partition, 'parked', counts.parked);
    board.add(partition, 'holes', holes);
    board.set(partition, 'ledger', range.next);
    board.raise(partition, 'stored', range.next);
    if (counts.duplicates > 0) counters.add('duplicates_dropped', counts.duplicates);
    this.#done = range.next;
    this.#doneAtMs = Date.now();
    this.#isCompleted = false;
    this.#excluded.clear();
  }

  /** A range of one record that the store refuses: keeps it among the dead letters and goes on. */
  async #park(range: SinkRange, home: RangeHome, code: string, reason: string): Promise<void> {
    const { log } = this.#parts;
    // Not `range.first`: offsets without a record may lie before the one that there is.
    const offset = range.recordOffset;
    // The range being read goes on from after this one, so what was fetched for it is fetched again.
    const record = await recordAt(log, this.partition, offset, this.#patience);
    await this.#parkBroken([{ offset, code, reason, record: record ?? Buffer.alloc(0) }]);
    // It was not stored, so its identity must go, and with it those that were read after it.
    const { next } = range;
    this.#rebuildFrom(range);
    this.#range.reset(next);
    await this.#finish(range, home, { rows: 0, duplicates: 0, parked: 1 }, Date.now());
    this.#parts.onProgress();
    this.#recordsMax = 1;
  }

  /** Makes dead letters of records, durably; to do it again changes nothing. */
  async #parkBroken(broken: readonly BrokenRecord[]): Promise<void> {
    if (broken.length === 0) return;
    const { log, counters, send } = this.#parts;
    const { partition } = this;
    const timeMs = Date.now();
    await this.#patience.untilAnswered(() =>
      log.park(broken.map((letter) => ({ ...letter, partition, timeMs }))),
    );
    faultPoint('sink.after_park');
    counters.add('events_parked', broken.length);
    const [{ offset, code, reason } = { offset: -1, code: '', reason: '' }] = broken;
    const fields = { partition, offset, code, reason, count: broken.length };
    send({ type: 'log', level: 'warn', message: 'parked events', fields });
  }

  /** Throws away what was read from `range` on, and reads it again. */
  #rebuildFrom(range: SinkRange): void {
    this.#identities.takeBack(this.#range.identitiesAdded);
    this.#identities.takeBack(range.identitiesAdded);
    this.#range.reset(range.first);
  }

  // ---- positions ------------------------------------------------------------------------------------------------

  /** Commits a completed range that no next range has completed. */
  async completeWhenIdle(nowMs: number): Promise<void> {
    if (this.#isCompleted || this.isBusy || !this.#isOpen) return;
    if (nowMs - this.#doneAtMs < completeAfterMs && !this.#isStopping) return;
    this.#isCompleting = true;
    try {
      await this.#commit(this.#done, '');
      this.#isCompleted = true;
    } catch (error) {
      if (!(error instanceof Stopped)) this.#waits(`partition ${this.partition}: ${describe(error)}`);
    } finally {
      this.#isCompleting = false;
      this.#parts.onProgress();
    }
  }

  async #commit(offset: number, metadata: string): Promise<void> {
    const { log, board } = this.#parts;
    await this.#patience.untilAnswered(async () => {
      // The same thread may own the partition again by now, through another object: this one has no say any more.
      this.#assertOwned();
      // Where the position was ahead of the ledger (a store put back to an older state, a position moved by hand) this
      // moves it back: an intent has to be found at its range's first offset.
      await log.commit(this.partition, offset, metadata);
    });
    this.#committed = offset;
    board.raise(this.partition, 'committed', offset);
  }

  // ---- helpers --------------------------------------------------------------------------------------------------

  /** Something is tried again until it works. */
  #waits(text: string): void {
    this.#setCondition({ kind: 'partition_waiting', text });
  }

  /** Nothing here will cure it. */
  #halts(text: string): void {
    this.#setCondition({ kind: 'partition_halted', text });
  }

  #setCondition(trouble: Trouble | null): void {
    const text = trouble?.text ?? null;
    // What a step under way still meets is no trouble of a partition that somebody else owns, who would not end it.
    if (text === this.#condition || (this.#isRevoked && text !== null)) return;
    this.#condition = text;
    this.#parts.send({ type: 'condition', key: `partition-${this.partition}`, trouble });
  }
}
