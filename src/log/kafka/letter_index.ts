// Where the letters of one epoch lie in the dead-letter topic, and how each stands; made from the topic's records in their
// order (dead_letters.ts tells of their keys). Runs wherever letters are read; no I/O.

import { EssError } from '../../errors.ts';
import { decodeLetterState, type LetterFilter, type LetterStanding, standingOf } from '../letter_state.ts';
import type { LetterPlace } from '../log.ts';
import type { BatchRecords } from './wire/batch_records.ts';

/** Letters whose place is kept, the newest ones: about 10 MB. Of older ones only the number is known. */
const indexedLettersMax = 100_000;

const keyPattern = /^([0-9a-f]{32}):(\d{1,10}):(\d{1,16})(:state)?$/;

/** Where a letter's event is in the event topic, and its letter in the other. */
export interface LetterEntry extends LetterPlace {
  readonly letterOffset: number;
  readonly standing: LetterStanding;
  /** Where the letter's state is; -1 where it has none. */
  readonly stateOffset: number;
}

/** `letterOffset` is -1 where only the state is there: compaction may leave that before the letter. */
type Entry = { -readonly [Name in keyof LetterEntry]: LetterEntry[Name] };

export class LetterIndex {
  readonly #epoch: string;
  /** By key without the epoch, in the order of the letters' offsets: the oldest is the first. */
  readonly #entries = new Map<string, Entry>();
  /** Those that were let go included. */
  readonly #counts: Record<LetterStanding, number> = { parked: 0, replayed: 0, discarded: 0 };
  /** The letters in (partition, offset) order; null after a change. */
  #sorted: Entry[] | null = null;

  constructor(epoch: string) {
    this.#epoch = epoch;
  }

  clear(): void {
    this.#entries.clear();
    this.#sorted = null;
    this.#counts.parked = 0;
    this.#counts.replayed = 0;
    this.#counts.discarded = 0;
  }

  count(which: LetterFilter): number {
    const { parked, replayed, discarded } = this.#counts;
    return which === 'all' ? parked + replayed + discarded : this.#counts[which];
  }

  find(partition: number, offset: number): LetterEntry | null {
    const entry = this.#entries.get(`${partition}:${offset}`);
    return entry === undefined || entry.letterOffset < 0 ? null : entry;
  }

  /** Every letter after this position, in (partition, offset) order. */
  after({ partition, offset }: LetterPlace): readonly LetterEntry[] {
    this.#sorted ??= [...this.#entries.values()]
      .filter(({ letterOffset }) => letterOffset >= 0)
      .sort((a, b) => a.partition - b.partition || a.offset - b.offset);
    return this.#sorted.slice(firstAfter(this.#sorted, partition, offset));
  }

  /** Those that were parked last and are still, the newest first. */
  latestParked(limit: number): readonly LetterEntry[] {
    return [...this.#entries.values()]
      .filter(({ letterOffset, standing }) => letterOffset >= 0 && standing === 'parked')
      .slice(-limit)
      .reverse();
  }

  /** Takes one record of the topic; what is none of this epoch is left alone. */
  take(records: BatchRecords): void {
    const { buffer, keyStart, keyEnd, valueStart, valueEnd, offset: recordOffset } = records;
    if (keyStart < 0) return;
    const parts = keyPattern.exec(buffer.toString('latin1', keyStart, keyEnd));
    if (parts === null || parts[1] !== this.#epoch) return;
    const partition = Number(parts[2]);
    const offset = Number(parts[3]);
    const key = `${partition}:${offset}`;
    const entry: Entry = this.#entries.get(key) ?? {
      partition,
      offset,
      letterOffset: -1,
      standing: 'parked',
      stateOffset: -1,
    };
    const isSet = valueStart >= 0;
    this.#sorted = null;
    if (entry.letterOffset >= 0) this.#counts[entry.standing] -= 1;
    if (parts[4] !== undefined) {
      entry.standing = isSet ? standingIn(buffer.subarray(valueStart, valueEnd)) : 'parked';
      entry.stateOffset = isSet ? recordOffset : -1;
    } else {
      entry.letterOffset = isSet ? recordOffset : -1;
      // The newest letter is the last.
      this.#entries.delete(key);
    }
    if (entry.letterOffset >= 0) this.#counts[entry.standing] += 1;
    if (entry.letterOffset < 0 && entry.stateOffset < 0) {
      this.#entries.delete(key);
      return;
    }
    this.#entries.set(key, entry);
    if (this.#entries.size <= indexedLettersMax) return;
    for (const oldest of this.#entries.keys()) {
      this.#entries.delete(oldest);
      break;
    }
  }
}

/** Index of the first entry after this position. */
function firstAfter(sorted: readonly Entry[], eventPartition: number, offset: number): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    const entry = sorted[middle];
    const isAfter =
      entry !== undefined &&
      (entry.partition > eventPartition || (entry.partition === eventPartition && entry.offset > offset));
    if (isAfter) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** Where a letter stands by this state; what a newer ESS wrote is at least not open. */
function standingIn(value: Buffer): LetterStanding {
  try {
    return standingOf(decodeLetterState(value));
  } catch (error) {
    if (error instanceof EssError) return 'discarded';
    throw error;
  }
}
