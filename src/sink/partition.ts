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
import type { LogConsumer, LogPosition } from '../log/log.ts';
import type { PartitionBoard } from '../stats/board.ts';
import { nowUs } from '../stats/clock.ts';
import type { EngineCounters } from '../stats/counters.ts';
import type { StageRecorder } from '../stats/recorder.ts';
import { EventBlock } from '../store/native/event_block.ts';
import { eventColumns, msPerHour } from '../store/schema.ts';
import { type Store, StoreError } from '../store/store.ts';
import type { Send } from '../thread/port.ts';
import { failurePolicy, retryPauseMsMax, retryPauseMsMin, stopPauseMs } from './failure.ts';
import { hashIdentity, Identities } from './identities.ts';
import { findOlderCopies, reloadIdentities } from './identity_queries.ts';
import { blockToken, decodeIntent, encodeIntent } from './intent.ts';
import { findLanded, type LedgerWriter, readLedger } from './ledger.ts';
import { SinkRange } from './range.ts';

export interface SinkLimits {
  readonly sinkBatchRowsMax: number;
  readonly sinkBatchBytesMax: number;
  readonly retryWindowMs: number;
  /** Of this partition alone. */
  readonly identitiesMax: number;
}

/** What the partitions of a sink thread share. */
export interface SinkParts {
  readonly log: LogConsumer;
  readonly store: Store;
  readonly ledger: LedgerWriter;
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

const eventColumnNames = eventColumns.map((column) => column.name);

/** Thrown inside when the thread stops while something is being tried again: the intent stays for the next start. */
class Stopped extends Error {}

export class PartitionSink {
  readonly partition: number;
  readonly #parts: SinkParts;
  readonly #epoch: string;
  readonly #identities: Identities;
  readonly #cursor = new RecordCursor();
  /** The range being read. */
  #range: SinkRange;
  /** A range to read into while another one is being stored. */
  #spare: SinkRange;
  /** Offsets found to be copies of events that the store already has. */
  readonly #excluded = new Set<number>();
  /** End of a range that must be rebuilt exactly, or -1. */
  #forcedLast = -1;
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
  /** What was said last; undefined at first, so that a successor takes back what its predecessor said. */
  #condition: string | null | undefined = undefined;

  constructor(partition: number, parts: SinkParts) {
    this.partition = partition;
    this.#parts = parts;
    this.#epoch = parts.log.epoch;
    this.#identities = new Identities(parts.limits.identitiesMax, parts.limits.retryWindowMs + windowSlackMs);
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
    return this.#range.records === 0 ? Number.POSITIVE_INFINITY : this.#range.openedMs;
  }

  /** True if there is a range that could be stored now. */
  get canStore(): boolean {
    return this.#isOpen && !this.isBusy && !this.isReplaying && this.#range.records > 0;
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

  stop(): void {
    this.#isStopping = true;
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
        this.#setCondition(`partition ${this.partition} cannot start: ${describe(error)}`);
        await sleep(pauseMs);
        pauseMs = Math.min(pauseMs * 2, retryPauseMsMax);
      }
    }
  }

  async #start(position: LogPosition): Promise<void> {
    const { log, store, board, counters, send } = this.#parts;
    const { partition } = this;
    const epoch = this.#epoch;
    this.#forcedLast = -1;
    const intent = decodeIntent(position.metadata);
    if (intent === 'unknown') {
      throw new EssError('format_unknown', `the committed text "${position.metadata}" is of a newer format`);
    }
    let totals = await readLedger(store, epoch, partition);
    if (totals.covered !== totals.next) {
      send({
        type: 'log',
        level: 'error',
        message: 'the ledger has a gap or an overlap',
        fields: { partition, covered: totals.covered, next: totals.next },
      });
    }
    const state = (await log.states())[partition];
    if (state === undefined) throw new EssError('internal', `partition ${partition} is not in the log`);
    const isPending = intent !== 'none' && intent.epoch === epoch && intent.first === totals.next;
    const landed = await findLanded(store, epoch, partition, totals.next, Number.MAX_SAFE_INTEGER);
    if (landed.count > 0) {
      // The block is in the store, its ledger row is not: complete it.
      const first = totals.next;
      const last = isPending ? Math.max(intent.last, landed.last) : landed.last;
      const duplicates = last - first + 1 - landed.count;
      const storeTimeMs = Date.now();
      const row = { epoch, partition, first, last, rows: landed.count, duplicates, parked: 0, storeTimeMs };
      await this.#parts.ledger.add(row, blockToken(epoch, this.#parts.topic, partition, first, last));
      counters.add('intents_replayed');
      send({ type: 'log', level: 'info', message: 'completed a stored range', fields: { ...row } });
      totals = await readLedger(store, epoch, partition);
    } else if (isPending) {
      this.#forcedLast = intent.last;
      counters.add('intents_replayed');
      const { first, last } = intent;
      send({
        type: 'log',
        level: 'info',
        message: 'sending a pending range again',
        fields: { partition, first, last },
      });
    }
    const resume = totals.next;
    if (resume < state.start || resume > state.end) {
      // Records that the ledger does not know are gone, or the store knows more than the log: a person must look.
      throw new EssError(
        'internal',
        `gap: the ledger ends at offset ${resume}, but the log holds ${state.start} to ${state.end}`,
      );
    }
    if (position.offset > resume) {
      const fields = { partition, committed: position.offset, ledger: resume };
      send({
        type: 'log',
        level: 'warn',
        message: 'position is ahead of the ledger: going on from the ledger',
        fields,
      });
    }
    await this.#reload(resume);
    this.#range.reset(resume);
    this.#done = resume;
    this.#committed = position.offset;
    // A pending intent stays as it is until its range is stored: it is what the next start goes by.
    this.#isCompleted = this.#forcedLast >= 0 || (position.offset >= resume && position.metadata === '');
    this.#doneAtMs = Date.now();
    board.set(partition, 'rows', totals.rows);
    board.set(partition, 'duplicates', totals.duplicates);
    board.set(partition, 'parked', totals.parked);
    board.set(partition, 'ledger', resume);
    board.set(partition, 'stored', resume);
    board.raise(partition, 'committed', Math.min(position.offset, resume));
    board.raise(partition, 'end', state.end);
    board.raise(partition, 'start', state.start);
    this.#setCondition(null);
    this.#isOpen = true;
    this.#parts.onProgress();
  }

  /** Learns the identities stored within the retry window before the record at `resume`. */
  async #reload(resume: number): Promise<void> {
    const { log, store, limits } = this.#parts;
    let firstIngestMs = Date.now();
    log.read(this.partition, resume, 1, (_base, _count, bytes) => {
      this.#cursor.open(bytes);
      if (this.#cursor.next()) firstIngestMs = Math.min(firstIngestMs, this.#cursor.ingestTimeMs);
    });
    await reloadIdentities(store, this.#identities, {
      partition: this.partition,
      epoch: this.#epoch,
      before: resume,
      sinceMs: Math.floor(firstIngestMs) - limits.retryWindowMs - windowSlackMs,
      countMax: limits.identitiesMax,
    });
  }

  // ---- reading --------------------------------------------------------------------------------------------------

  /** Reads about `bytesMax` bytes of records into the range; gives the number of records taken. */
  read(bytesMax: number): number {
    const range = this.#range;
    const before = range.records;
    try {
      this.#parts.log.read(this.partition, range.next, bytesMax, (base, _count, bytes) => {
        if (base !== range.next) {
          // Either the range was closed within this read, or the log broke its promise.
          if (range.isClosed) return;
          throw new EssError('internal', `the log gave offset ${base} instead of ${range.next}`);
        }
        this.#takeRecords(range, bytes);
      });
    } catch (error) {
      // A gap in the log must be seen by a person; the other partitions go on.
      this.#isOpen = false;
      this.#setCondition(`partition ${this.partition} halted: ${describe(error)}`);
    }
    return range.records - before;
  }

  #takeRecords(range: SinkRange, bytes: Buffer): void {
    const { limits, recorder, board } = this.#parts;
    const cursor = this.#cursor;
    const identities = this.#identities;
    const nowMs = Date.now();
    let waitMs = 0;
    let waited = 0;
    cursor.open(bytes);
    while (!range.isClosed && cursor.next()) {
      const ingestMs = cursor.ingestTimeMs;
      if (range.records === 0) {
        range.openMonth(ingestMs);
        range.openedMs = nowMs;
        range.firstIngestMs = ingestMs;
        if (!this.#isStoring) board.set(this.partition, 'pendingIngestMs', Math.trunc(ingestMs));
        identities.expireBefore(ingestMs - limits.retryWindowMs - windowSlackMs);
      } else if (ingestMs < range.monthStartMs || ingestMs >= range.monthEndMs) {
        range.isClosed = true;
        break;
      }
      const offset = range.next;
      this.#takeRecord(range, offset, ingestMs);
      range.records += 1;
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

  #takeRecord(range: SinkRange, offset: number, ingestMs: number): void {
    const { limits } = this.#parts;
    const cursor = this.#cursor;
    const { buffer } = cursor;
    hashIdentity(buffer, cursor.idStart, cursor.typeStart, cursor.sourceStart, cursor.subjectStart);
    const windowStartMs = ingestMs - limits.retryWindowMs;
    // NaN (not known) compares false.
    if (this.#identities.find() >= windowStartMs || (this.#excluded.size > 0 && this.#excluded.has(offset))) {
      range.duplicates += 1;
      return;
    }
    // A copy with the same time replaces its first one in the table. Without a time of its own, a copy in the next
    // hour has another sorting key: there this set alone decides, and what it has forgotten the store must tell.
    const hourStartMs = Math.floor(ingestMs / msPerHour) * msPerHour;
    if (
      windowStartMs < hourStartMs &&
      (cursor.flags & recordFlags.hasTime) === 0 &&
      this.#identities.mayBeForgotten(windowStartMs)
    ) {
      range.questions.push({
        offset,
        id: buffer.toString('utf8', cursor.idStart, cursor.typeStart),
        source: buffer.toString('utf8', cursor.sourceStart, cursor.subjectStart),
        ingestTimeMs: ingestMs,
      });
    }
    range.block.append(cursor, this.#epoch, this.partition, offset);
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
      if (!(error instanceof Stopped))
        this.#setCondition(`partition ${this.partition} halted: ${describe(error)}`);
    } finally {
      this.#isStoring = false;
      const { records, firstIngestMs } = this.#range;
      this.#parts.board.set(this.partition, 'pendingIngestMs', records > 0 ? Math.trunc(firstIngestMs) : 0);
      this.#parts.onProgress();
    }
  }

  async #store(range: SinkRange): Promise<void> {
    const { partition } = this;
    const { first, last } = range;
    if (range.questions.length > 0) {
      this.#parts.counters.add('identity_lookups');
      const copies = await this.#untilAnswered(() =>
        findOlderCopies(this.#parts.store, range.questions, this.#parts.limits.retryWindowMs),
      );
      if (copies.length > 0) {
        for (const offset of copies) this.#excluded.add(offset);
        this.#forcedLast = last;
        this.#rebuildFrom(range);
        return;
      }
    }
    if (this.#forcedLast === last) this.#forcedLast = -1;
    let rows = range.block.rows;
    const token = blockToken(this.#epoch, this.#parts.topic, partition, first, last);
    const storeTimeMs = Date.now();
    if (rows > 0) {
      await this.#commit(first, encodeIntent({ epoch: this.#epoch, first, last }));
      faultPoint('sink.after_intent');
      const outcome = await this.#insert(range, token, storeTimeMs);
      faultPoint('sink.after_insert');
      if (outcome === 'poison') {
        if (range.records === 1) {
          await this.#park(range, token);
          return;
        }
        this.#recordsMax = Math.floor(range.records / 2);
        this.#rebuildFrom(range);
        return;
      }
      rows = outcome;
    }
    this.#announce(range);
    await this.#finish(range, token, { rows, duplicates: range.records - rows, parked: 0 }, storeTimeMs);
    if (this.#recordsMax < this.#parts.limits.sinkBatchRowsMax) this.#recordsMax *= 2;
    else this.#recordsMax = Number.POSITIVE_INFINITY;
  }

  /** Tries until the block is stored; gives its rows in the store, or 'poison' if it is refused for good. */
  async #insert(range: SinkRange, token: string, storeTimeMs: number): Promise<number | 'poison'> {
    const { store, counters, recorder } = this.#parts;
    const pieces = range.block.pieces(storeTimeMs);
    let pauseMs = retryPauseMsMin;
    let isAmbiguous = false;
    for (;;) {
      const startUs = nowUs();
      try {
        await store.insertNative('events', eventColumnNames, pieces, { token });
        recorder.record('insert', nowUs() - startUs);
        counters.add('inserts');
        counters.add('rows_inserted', range.block.rows);
        return range.block.rows;
      } catch (error) {
        counters.add('insert_failures');
        const policy = failurePolicy(error);
        if (!(error instanceof StoreError) || error.outcome === 'unknown') isAmbiguous = true;
        if (policy === 'poison') {
          this.#refusal = {
            code: String(error instanceof StoreError ? error.code : 0),
            reason: describe(error),
          };
          if (!isAmbiguous) return 'poison';
          // An earlier attempt may have landed: only the rows can tell.
          const { first, last } = range;
          const landed = await this.#untilAnswered(() =>
            findLanded(store, this.#epoch, this.partition, first, last),
          );
          return landed.count > 0 ? landed.count : 'poison';
        }
        this.#setCondition(`partition ${this.partition} cannot insert: ${describe(error)}`);
        await this.#pause(policy === 'stop' ? stopPauseMs : pauseMs);
        pauseMs = Math.min(pauseMs * 2, retryPauseMsMax);
        counters.add('insert_retries');
      }
    }
  }

  /** Makes readers and waiters see the range, and notes how long its events took. */
  #announce(range: SinkRange): void {
    const { board, recorder, onProgress } = this.#parts;
    board.raise(this.partition, 'stored', range.next);
    onProgress();
    const nowMs = Date.now();
    for (const [i, ingestMs] of range.runTimesMs.entries()) {
      recorder.record('end_to_end', (nowMs - ingestMs) * 1000, range.runCounts[i] ?? 0);
    }
  }

  async #finish(
    range: SinkRange,
    token: string,
    counts: { readonly rows: number; readonly duplicates: number; readonly parked: number },
    storeTimeMs: number,
  ): Promise<void> {
    const { board, ledger, counters } = this.#parts;
    const { partition } = this;
    const { first, last } = range;
    await ledger.add({ epoch: this.#epoch, partition, first, last, ...counts, storeTimeMs }, token);
    faultPoint('sink.after_ledger');
    board.add(partition, 'rows', counts.rows);
    board.add(partition, 'duplicates', counts.duplicates);
    board.add(partition, 'parked', counts.parked);
    board.set(partition, 'ledger', range.next);
    board.raise(partition, 'stored', range.next);
    if (counts.duplicates > 0) counters.add('duplicates_dropped', counts.duplicates);
    this.#done = range.next;
    this.#doneAtMs = Date.now();
    this.#isCompleted = false;
    this.#excluded.clear();
  }

  /** A range of one record that the store refuses: keeps it among the dead letters and goes on. */
  async #park(range: SinkRange, token: string): Promise<void> {
    const { log, counters, send } = this.#parts;
    const { partition } = this;
    let record: Buffer = Buffer.alloc(0);
    log.read(partition, range.first, 1, (base, _count, bytes) => {
      if (base !== range.first || record.length > 0) return;
      this.#cursor.open(bytes);
      if (this.#cursor.next()) record = Buffer.from(bytes.subarray(this.#cursor.start, this.#cursor.end));
    });
    const { code, reason } = this.#refusal;
    const timeMs = Date.now();
    await this.#untilAnswered(() =>
      log.park([{ partition, offset: range.first, timeMs, code, reason, record }]),
    );
    faultPoint('sink.after_park');
    counters.add('events_parked');
    send({
      type: 'log',
      level: 'warn',
      message: 'parked an event',
      fields: { partition, offset: range.first, code, reason },
    });
    // It was not stored, so its identity must go, and with it those that were read after it.
    this.#rebuildFrom(range);
    this.#range.reset(range.next);
    await this.#finish(range, token, { rows: 0, duplicates: 0, parked: 1 }, timeMs);
    this.#parts.onProgress();
    this.#recordsMax = 1;
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
      if (!(error instanceof Stopped)) this.#setCondition(`partition ${this.partition}: ${describe(error)}`);
    } finally {
      this.#isCompleting = false;
      this.#parts.onProgress();
    }
  }

  async #commit(offset: number, metadata: string): Promise<void> {
    // After a store was put back to an older state the position is ahead of the ledger: it waits until we are there.
    if (offset < this.#committed) return;
    await this.#untilAnswered(() => this.#parts.log.commit(this.partition, offset, metadata));
    this.#committed = offset;
    this.#parts.board.raise(this.partition, 'committed', offset);
  }

  // ---- helpers --------------------------------------------------------------------------------------------------

  /** Repeats something that is safe to repeat until it works or the thread stops. */
  async #untilAnswered<T>(work: () => Promise<T>): Promise<T> {
    let pauseMs = retryPauseMsMin;
    for (;;) {
      try {
        return await work();
      } catch (error) {
        if (error instanceof EssError && error.code === 'internal') throw error;
        this.#setCondition(`partition ${this.partition}: ${describe(error)}`);
        await this.#pause(pauseMs);
        pauseMs = Math.min(pauseMs * 2, retryPauseMsMax);
      }
    }
  }

  async #pause(ms: number): Promise<void> {
    const untilMs = Date.now() + ms;
    while (Date.now() < untilMs) {
      if (this.#isStopping) throw new Stopped();
      await sleep(Math.min(100, untilMs - Date.now()));
    }
    if (this.#isStopping) throw new Stopped();
  }

  #refusal: { code: string; reason: string } = { code: '0', reason: '' };

  #setCondition(text: string | null): void {
    if (text === this.#condition) return;
    this.#condition = text;
    this.#parts.send({ type: 'condition', key: `partition-${this.partition}`, text });
  }
}

function describe(error: unknown): string {
  if (error instanceof StoreError) return `ClickHouse error ${error.code}: ${error.message.slice(0, 300)}`;
  return error instanceof Error ? error.message : String(error);
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, Math.max(0, ms)));
}
