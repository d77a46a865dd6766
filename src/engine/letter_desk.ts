// Replays and discards dead letters for a person. Runs on the main thread, one request after the other.
//
// A replay appends the letter's record to the log again: the same identity, key, time and ingest time, so that however
// often it is appended it is one event in the store. In this order:
//   1. look in the store: a client's own retry, or an earlier replay, may have stored the event
//   2. write `replaying`: where the record goes, and where that partition ended      durable
//   3. append the record                                                            durable
//   4. write `replayed`: the record that counts now                                 durable
// After a crash between 2 and 4 nobody knows whether the record is in the log. A letter that is found `replaying` is
// therefore not appended again before everything up to the log's end is stored and the event is neither in the store nor
// among the later dead letters of that partition.

import { createHash } from 'node:crypto';
import type { Logger } from 'pino';
import { EssError } from '../errors.ts';
import { type EventLimits, EventParser } from '../event/parser.ts';
import { partitionOf } from '../event/partition.ts';
import { RecordCursor, RecordWriter, recordFlags } from '../event/record.ts';
import { faultPoint } from '../faults.ts';
import type { LetterDesk, LetterOutcome } from '../http/letter_commands.ts';
import type { LetterChange, LetterReplaying } from '../log/letter_state.ts';
import type { AppendBatch, DeadLetter, LetterPlace, LogAppender } from '../log/log.ts';

/** Requests that wait for the one in progress; each may hold an event. */
const waitingMax = 8;
/** How long one request waits for the sinks: to find out what became of earlier replays, and then of its own. ms */
const storedWithinMs = 5_000;
const lookEveryMs = 50;
/** Records that are held and appended together, unless one alone is larger. Bytes. */
const appendBytesMax = 4 * 1024 * 1024;
/** Letters read at a time while one among them is looked for. */
const pageLetters = 256;

export interface LetterDeskParts {
  /** The main thread's log handle of the session that there is now. */
  readonly log: () => LogAppender;
  /** Where the stored event of an identity comes from; null if it is not there. May reject. */
  readonly findStored: (id: string, source: string) => Promise<LetterPlace | null>;
  /** Records were appended to this partition, up to this offset. */
  readonly onAppended: (partition: number, end: number) => void;
  readonly isStopping: () => boolean;
  readonly limits: EventLimits;
  readonly logger: Logger;
}

/** A letter that is to be replayed, with what would be appended. */
interface Replay {
  readonly letter: DeadLetter;
  readonly record: Buffer;
  readonly id: string;
  readonly source: string;
  readonly digest: string;
  readonly partition: number;
}

export class Desk implements LetterDesk {
  readonly #parts: LetterDeskParts;
  readonly #parser: EventParser;
  #last: Promise<unknown> = Promise.resolve();
  #waiting = 0;

  constructor(parts: LetterDeskParts) {
    this.#parts = parts;
    this.#parser = new EventParser(parts.limits);
  }

  replay(places: readonly LetterPlace[], event: string | null): Promise<LetterOutcome[]> {
    return this.#inTurn((log) => this.#replay(log, places, event));
  }

  discard(places: readonly LetterPlace[], reason: string): Promise<LetterOutcome[]> {
    return this.#inTurn((log) => this.#discard(log, places, reason));
  }

  async open(limit: number, after: LetterPlace | undefined, code: string | null): Promise<LetterPlace[]> {
    const log = this.#parts.log();
    const found: LetterPlace[] = [];
    for (let from = after; ; ) {
      const page = await log.deadLetters(pageLetters, from, 'parked');
      for (const letter of page) {
        if (found.length === limit) return found;
        const { partition, offset } = letter;
        if (code === null || letter.code === code) found.push({ partition, offset });
      }
      from = page.at(-1);
      if (page.length < pageLetters) return found;
    }
  }

  openCount(): Promise<number> {
    return this.#parts.log().deadLetterCount('parked');
  }

  /** Settles when nothing is in progress any more; for the end of the process, when nothing new is taken. */
  async idle(): Promise<void> {
    await this.#last;
  }

  #inTurn<T>(work: (log: LogAppender) => Promise<T>): Promise<T> {
    const { isStopping, log } = this.#parts;
    if (this.#waiting >= waitingMax)
      return Promise.reject(new EssError('overloaded', 'other replays and discards are in progress'));
    this.#waiting += 1;
    const turn = this.#last.then(async () => {
      try {
        if (isStopping()) throw new EssError('stopping', 'this process is stopping');
        return await work(log());
      } finally {
        this.#waiting -= 1;
      }
    });
    this.#last = turn.catch(() => {});
    return turn;
  }

  // ---- replay ---------------------------------------------------------------------------------------------------

  async #replay(
    log: LogAppender,
    places: readonly LetterPlace[],
    event: string | null,
  ): Promise<LetterOutcome[]> {
    const outcomes = new Map<LetterPlace, LetterOutcome>();
    let changes: LetterChange[] = [];
    let replays = new Map<LetterPlace, Replay>();
    let bytes = 0;
    const untilMs = Date.now() + storedWithinMs;
    const flush = async (): Promise<void> => {
      for (const [place, outcome] of await this.#append(log, replays, changes)) outcomes.set(place, outcome);
      changes = [];
      replays = new Map();
      bytes = 0;
    };
    for (const place of places) {
      const letter = await log.deadLetter(place);
      const settled = settledOutcome(place, letter, 'replayed');
      if (settled !== null) outcomes.set(place, settled);
      if (settled !== null || letter === null) continue;
      try {
        const replay = this.#planned(log, letter, event);
        const found = await this.#found(log, letter, replay, untilMs);
        if (found === null) {
          replays.set(place, replay);
          bytes += replay.record.length;
        } else {
          changes.push({ ...place, state: { type: 'replayed', timeMs: Date.now(), ...found } });
          outcomes.set(place, { ...place, state: 'replayed', outcome: 'replayed', replayedTo: found });
        }
      } catch (error) {
        outcomes.set(place, refused(place, letter, error));
      }
      if (bytes >= appendBytesMax) await flush();
    }
    await flush();
    const told = places.flatMap((place) => outcomes.get(place) ?? []);
    return await this.#withStages(log, told);
  }

  /** What would be appended for a letter, and where. Throws EssError if that cannot be. */
  #planned(log: LogAppender, letter: DeadLetter, event: string | null): Replay {
    const { partition, offset, state } = letter;
    const record = event === null ? letter.record : this.#replacement(log, letter, event);
    const cursor = new RecordCursor();
    cursor.open(record);
    if (!cursor.next())
      throw new EssError('not_replayable', `nothing is known of the record at ${partition}:${offset}`);
    if ((cursor.flags & recordFlags.isBroken) !== 0)
      throw new EssError('not_replayable', `what is at ${partition}:${offset} never was an event`);
    const { buffer, idStart, typeStart, sourceStart, subjectStart, keyStart, bodyStart } = cursor;
    const text = (start: number, end: number): string => buffer.toString('utf8', start, end);
    const id = text(idStart, typeStart);
    const source = text(sourceStart, subjectStart);
    const key = (cursor.flags & recordFlags.isKeyId) !== 0 ? id : text(keyStart, bodyStart);
    const digest = createHash('sha256').update(record).digest('hex');
    const isBegun = state?.type === 'replaying';
    if (isBegun && state.digest !== digest) {
      const text = `a replay of ${partition}:${offset} with other content has begun (event ${JSON.stringify(state.id)}): repeat that one`;
      throw new EssError('letter_settled', text);
    }
    const target = isBegun ? state.partition : partitionOf(key, log.partitions);
    return { letter, record, id, source, digest, partition: target };
  }

  /**
   * The packed record of the event that a person gave. Without an id it has the letter's; its ingest time is the
   * letter's, so that the same file gives the same record each time.
   */
  #replacement(log: LogAppender, letter: DeadLetter, event: string): Buffer {
    const cursor = new RecordCursor();
    cursor.open(letter.record);
    const hasRecord = cursor.next();
    const ingestTimeMs = hasRecord ? cursor.ingestTimeMs : letter.timeMs;
    const body = Buffer.from(event.trim());
    const parser = this.#parser;
    const fault = parser.parse(body, 0, body.length, ingestTimeMs);
    if (fault !== null) throw new EssError(fault.code, `the event given: ${fault.message}`);
    let { id } = parser;
    if ((parser.flags & recordFlags.isIdGenerated) !== 0) {
      id = hasRecord ? cursor.buffer.toString('utf8', cursor.idStart, cursor.typeStart) : '';
      if (id === '') id = `${log.epoch}:${letter.partition}:${letter.offset}`;
    }
    const { flags, type, source, subject, key, timeMs } = parser;
    const writer = new RecordWriter(body.length + 1024);
    writer.append(flags, id, type, source, subject, key, ingestTimeMs, timeMs, body, 0, body.length);
    return Buffer.from(writer.bytes);
  }

  /**
   * Where the event is already: in the store, or in the log by a replay that nobody saw the end of. Null if it is
   * nowhere; `outcome_unknown` if that cannot be told yet.
   */
  async #found(
    log: LogAppender,
    { state }: DeadLetter,
    { id, source }: Pick<Replay, 'id' | 'source'>,
    untilMs: number,
  ): Promise<LetterPlace | null> {
    const { findStored } = this.#parts;
    const stored = await findStored(id, source);
    if (stored !== null || state?.type !== 'replaying') return stored;
    const { partition, from } = state;
    const end = (await log.states())[partition]?.end ?? 0;
    if (!(await this.#storedUpTo(log, new Map([[partition, end]]), untilMs))) {
      const text = `an earlier replay may be in partition ${partition}, which is not stored up to its end yet`;
      throw new EssError('outcome_unknown', text);
    }
    return (await findStored(id, source)) ?? (await parkedAgain(log, state, from));
  }

  /** Steps 2 to 4 for all of them, with a crash at any moment in mind; `changes` are written with step 2. */
  async #append(
    log: LogAppender,
    replays: ReadonlyMap<LetterPlace, Replay>,
    changes: readonly LetterChange[],
  ): Promise<Map<LetterPlace, LetterOutcome>> {
    const outcomes = new Map<LetterPlace, LetterOutcome>();
    const states = replays.size === 0 ? [] : await log.states();
    const begun: LetterChange[] = [];
    const byPartition = new Map<number, [LetterPlace, Replay][]>();
    for (const [place, replay] of replays) {
      const { letter, partition, id, source, digest } = replay;
      const from = states[partition]?.end ?? 0;
      if (letter.state?.type !== 'replaying') {
        const state: LetterReplaying = {
          type: 'replaying',
          timeMs: Date.now(),
          partition,
          from,
          id,
          source,
          digest,
        };
        begun.push({ partition: place.partition, offset: place.offset, state });
      }
      byPartition.set(partition, [...(byPartition.get(partition) ?? []), [place, replay]]);
    }
    await log.setLetterStates([...changes, ...begun]);
    faultPoint('replay.after_intent');
    if (replays.size === 0) return outcomes;
    const runs = [...byPartition];
    const batches = runs.map(([partition, run]): AppendBatch => {
      const bytes = Buffer.concat(run.map(([, { record }]) => record));
      return { partition, count: run.length, bytes };
    });
    const results = await log.append(batches).catch((error: unknown) => {
      if (!(error instanceof EssError)) throw error;
      return batches.map(() => error);
    });
    faultPoint('replay.after_append');
    const done: LetterChange[] = [];
    for (const [i, [partition, run]] of runs.entries()) {
      const result = results[i];
      if (typeof result === 'number') this.#parts.onAppended(partition, result + run.length);
      for (const [n, [place, { letter }]] of run.entries()) {
        if (typeof result !== 'number') {
          const error = result ?? new EssError('outcome_unknown', 'the log gave no result for a batch');
          outcomes.set(place, { ...refused(place, letter, error), state: 'replaying' });
          continue;
        }
        const to = { partition, offset: result + n };
        const { partition: ofLetter, offset } = place;
        done.push({ partition: ofLetter, offset, state: { type: 'replayed', timeMs: Date.now(), ...to } });
        outcomes.set(place, { ...place, state: 'replayed', outcome: 'replayed', replayedTo: to });
        this.#parts.logger.info({ ...place, replayed_to: to }, 'replayed a dead letter');
      }
    }
    await log.setLetterStates(done);
    faultPoint('replay.after_state');
    return outcomes;
  }

  /** The outcomes, with how far what was replayed has come by now. */
  async #withStages(log: LogAppender, outcomes: readonly LetterOutcome[]): Promise<LetterOutcome[]> {
    const ends = new Map<number, number>();
    for (const { replayedTo } of outcomes) {
      if (replayedTo === undefined) continue;
      const { partition, offset } = replayedTo;
      ends.set(partition, Math.max(ends.get(partition) ?? 0, offset + 1));
    }
    try {
      const isStored = await this.#storedUpTo(log, ends, Date.now() + storedWithinMs);
      return await Promise.all(
        outcomes.map(async (outcome): Promise<LetterOutcome> => {
          const { replayedTo } = outcome;
          if (replayedTo === undefined) return outcome;
          if (!isStored) return { ...outcome, stage: 'log' };
          const isParked = await log.isParked(replayedTo.partition, replayedTo.offset);
          return { ...outcome, stage: isParked ? 'parked' : 'store' };
        }),
      );
    } catch (error) {
      // What was done is done: that nobody tells how far it has come does not change it.
      if (!(error instanceof EssError)) throw error;
      return [...outcomes];
    }
  }

  /** Waits for the sinks until then (epoch ms), and looks once at least; true if they have come to all these offsets. */
  async #storedUpTo(log: LogAppender, ends: ReadonlyMap<number, number>, untilMs: number): Promise<boolean> {
    const partitions = [...ends.keys()];
    if (partitions.length === 0) return true;
    for (;;) {
      const committed = await log.committed(partitions);
      if (partitions.every((partition, i) => (committed[i] ?? 0) >= (ends.get(partition) ?? 0))) return true;
      if (Date.now() > untilMs || this.#parts.isStopping()) return false;
      await new Promise((resolve) => setTimeout(resolve, lookEveryMs));
    }
  }

  // ---- discard --------------------------------------------------------------------------------------------------

  async #discard(log: LogAppender, places: readonly LetterPlace[], reason: string): Promise<LetterOutcome[]> {
    const outcomes: LetterOutcome[] = [];
    const changes: LetterChange[] = [];
    const untilMs = Date.now() + storedWithinMs;
    for (const place of places) {
      const letter = await log.deadLetter(place);
      const settled = settledOutcome(place, letter, 'discarded');
      if (settled !== null || letter === null) {
        if (settled !== null) outcomes.push(settled);
        continue;
      }
      try {
        // One whose replay has begun may be stored: then it is not discarded any more.
        const found =
          letter.state?.type === 'replaying' ? await this.#found(log, letter, letter.state, untilMs) : null;
        if (found === null) {
          changes.push({ ...place, state: { type: 'discarded', timeMs: Date.now(), reason } });
          outcomes.push({ ...place, state: 'discarded', outcome: 'discarded' });
        } else {
          changes.push({ ...place, state: { type: 'replayed', timeMs: Date.now(), ...found } });
          const detail = 'a replay that had begun has stored it';
          outcomes.push({
            ...refused(place, letter, new EssError('letter_settled', detail)),
            state: 'replayed',
          });
        }
      } catch (error) {
        outcomes.push(refused(place, letter, error));
      }
    }
    await log.setLetterStates(changes);
    for (const { partition, offset, state } of changes)
      if (state.type === 'discarded')
        this.#parts.logger.info({ partition, offset, reason }, 'discarded a dead letter');
    return outcomes;
  }
}

/** What there is to say of a letter that is not there, or was dealt with before; null for one that is open. */
function settledOutcome(
  place: LetterPlace,
  letter: DeadLetter | null,
  wanted: 'replayed' | 'discarded',
): LetterOutcome | null {
  if (letter === null) {
    const detail = `there is no dead letter at ${place.partition}:${place.offset}`;
    return { ...place, state: null, outcome: 'refused', code: 'not_found', detail };
  }
  const { state } = letter;
  if (state === undefined || state.type === 'replaying') return null;
  if (state.type !== wanted) {
    const detail = `it was ${state.type} at ${new Date(state.timeMs).toISOString()}`;
    return { ...place, state: state.type, outcome: 'refused', code: 'letter_settled', detail };
  }
  if (state.type === 'discarded') return { ...place, state: 'discarded', outcome: 'already_discarded' };
  const replayedTo = { partition: state.partition, offset: state.offset };
  return { ...place, state: 'replayed', outcome: 'already_replayed', replayedTo };
}

/** The outcome for a letter with which nothing, or not everything, could be done. Throws what is no EssError. */
function refused(place: LetterPlace, { state }: DeadLetter, error: unknown): LetterOutcome {
  if (!(error instanceof EssError)) throw error;
  const { code, message: detail } = error;
  const outcome = code === 'outcome_unknown' ? 'unknown' : 'refused';
  return { ...place, state: state?.type ?? 'parked', outcome, code, detail };
}

/** Where the record of a replay was parked again: it was appended, and the store refused it. */
async function parkedAgain(
  log: LogAppender,
  { partition, digest }: LetterReplaying,
  from: number,
): Promise<LetterPlace | null> {
  for (let after: LetterPlace = { partition, offset: from - 1 }; ; ) {
    const page = await log.deadLetters(pageLetters, after, 'all');
    for (const letter of page) {
      if (letter.partition !== partition) return null;
      const isSame = createHash('sha256').update(letter.record).digest('hex') === digest;
      if (isSame) return { partition, offset: letter.offset };
    }
    const last = page.at(-1);
    if (last === undefined || page.length < pageLetters) return null;
    after = last;
  }
}
