// Packed records become rows of the `events` table: the parts of a record are copied into columns, nothing is decoded
// and no object is made for a row. Runs on sink threads; one EventBlock is filled while the pieces of another one are
// on their way.

import { EssError } from '../../errors.ts';
import { type RecordCursor, recordFlags } from '../../event/record.ts';
import { eventColumns, msPerHour } from '../schema.ts';
import { NativeBlock } from './block.ts';
import { isDateTime64Ms } from './wide_column.ts';

/** Bits of `version` that hold the offset; above them stands the ingest time. */
const versionOffsetMask = 0xf_ffff;
/** Bits of the ingest time that share the low half of `version` with the offset. */
const versionLowTimeMask = 0xfff;
const versionLowTimeShift = 20;
const versionHighTimeUnit = 2 ** 12;

const partitionMax = 0xffff;

export class EventBlock {
  readonly #block = new NativeBlock(eventColumns);
  readonly #hour = this.#block.column('hour');
  readonly #source = this.#block.column('source');
  readonly #id = this.#block.column('id');
  readonly #type = this.#block.column('type');
  readonly #subject = this.#block.column('subject');
  readonly #key = this.#block.column('key');
  readonly #time = this.#block.column('time');
  readonly #ingestTime = this.#block.column('ingest_time');
  readonly #logTime = this.#block.column('log_time');
  readonly #storeTime = this.#block.column('store_time');
  readonly #flags = this.#block.column('flags');
  readonly #epoch = this.#block.column('epoch');
  readonly #partition = this.#block.column('partition');
  readonly #offset = this.#block.column('offset');
  readonly #version = this.#block.column('version');
  readonly #body = this.#block.column('body');

  get rows(): number {
    return this.#hour.rows;
  }

  /** Bytes of the block, within a few hundred and without `store_time`, which is 8 bytes a row. */
  get approximateBytes(): number {
    return this.#block.approximateBytes;
  }

  /**
   * Appends the cursor's current record, taken out of the log at `logTimeMs` (epoch ms). Its times (epoch milliseconds,
   * rounded down) lie within 1900-2299, partition within 0-65,535, offset is a safe integer of at least 0: anything else
   * throws `internal` and appends nothing.
   */
  append(cursor: RecordCursor, epoch: string, partition: number, offset: number, logTimeMs: number): void {
    const timeMs = Math.floor(cursor.timeMs);
    const ingestTimeMs = Math.floor(cursor.ingestTimeMs);
    // All checks come before the first column, so that a refused record leaves no part of a row behind.
    if (!isDateTime64Ms(timeMs) || !isDateTime64Ms(ingestTimeMs))
      throw new EssError('internal', `record ${partition}:${offset} has a time outside 1900-2299`);
    if (!(partition >= 0 && partition <= partitionMax && Number.isSafeInteger(offset) && offset >= 0))
      throw new EssError('internal', `not a position in a log: ${partition}:${offset}`);

    const { buffer, idStart, typeStart, sourceStart, subjectStart, keyStart, bodyStart, flags } = cursor;
    this.#hour.append(Math.floor(timeMs / msPerHour));
    this.#source.append(buffer, sourceStart, subjectStart);
    this.#id.append(buffer, idStart, typeStart);
    this.#type.append(buffer, typeStart, sourceStart);
    this.#subject.append(buffer, subjectStart, keyStart);
    if ((flags & recordFlags.isKeyId) !== 0) this.#key.append(buffer, idStart, typeStart);
    else this.#key.append(buffer, keyStart, bodyStart);
    this.#time.append(timeMs);
    this.#ingestTime.append(ingestTimeMs);
    this.#logTime.append(logTimeMs);
    this.#flags.append(flags);
    this.#epoch.appendText(epoch);
    this.#partition.append(partition);
    this.#offset.append(offset);
    this.#appendVersion(ingestTimeMs, offset);
    this.#body.append(buffer, bodyStart, cursor.end);
  }

  /** Takes back the last rows, so that `rows` remain. */
  truncate(rows: number): void {
    this.#block.truncate(rows);
  }

  /** Forgets all rows and keeps the memory. */
  reset(): void {
    this.#block.reset();
  }

  /**
   * Seals the rows with one store_time and gives the block's bytes: views, valid until the next append, truncate or
   * reset. May be called again, with another time too.
   */
  pieces(storeTimeMs: number): Uint8Array[] {
    this.#storeTime.reset();
    this.#storeTime.appendRepeated(storeTimeMs, this.rows);
    return this.#block.pieces();
  }

  /**
   * version = (2^64 - 1) - (ingest time in ms * 2^20 + offset mod 2^20): of two copies of an event the earlier one has
   * the higher version, which is the one that ReplacingMergeTree keeps. Ingest times before 1970 count as 1970.
   * Subtracting from 2^64 - 1 is to flip every bit, so that the two halves can be made apart:
   *
   *   high half: ingest time, bits 12-43     low half: ingest time, bits 0-11 (12 bits) | offset, bits 0-19 (20 bits)
   */
  #appendVersion(ingestTimeMs: number, offset: number): void {
    const countedMs = Math.max(ingestTimeMs, 0);
    const high = Math.floor(countedMs / versionHighTimeUnit);
    const low = ((countedMs & versionLowTimeMask) << versionLowTimeShift) | (offset & versionOffsetMask);
    this.#version.appendHalves(~low, ~high);
  }
}
