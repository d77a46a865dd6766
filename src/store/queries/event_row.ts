// One event as a read answers it. The JSON that was received is put in between byte for byte: parsing and printing it
// again would change numbers and the order of members. Runs on reader threads.

import { recordFlags } from '../../event/record.ts';
import type { RowBinaryCursor } from './row_binary.ts';

/** What `readEventRow` expects, in this order, in RowBinary. */
export const eventRowColumns = `hour, source, id, version, type,
  toUnixTimestamp64Milli(time), toUnixTimestamp64Milli(ingest_time), toUnixTimestamp64Milli(store_time),
  flags, partition, offset, body`;

export interface EventRow {
  readonly hour: number;
  readonly source: string;
  readonly id: string;
  /** Of several physical copies the one with the highest version is the event. */
  readonly version: bigint;
  readonly type: string;
  readonly timeMs: number;
  readonly ingestTimeMs: number;
  readonly storeTimeMs: number;
  readonly flags: number;
  readonly partition: number;
  readonly offset: bigint;
  /** A view into the answer that was read. */
  readonly body: Buffer;
}

export function readEventRow(cursor: RowBinaryCursor): EventRow {
  return {
    hour: cursor.int32(),
    source: cursor.text(),
    id: cursor.text(),
    version: cursor.uint64(),
    type: cursor.text(),
    timeMs: Number(cursor.int64()),
    ingestTimeMs: Number(cursor.int64()),
    storeTimeMs: Number(cursor.int64()),
    flags: cursor.uint16(),
    partition: cursor.uint16(),
    offset: cursor.uint64(),
    body: cursor.blob(),
  };
}

/** RFC 3339 in UTC with milliseconds. */
export function timeText(ms: number): string {
  return new Date(ms).toISOString();
}

/** Appends the pieces of the event's JSON object; `more`: text of further members, empty or beginning with a comma. */
export function pushEventJson(pieces: Uint8Array[], row: EventRow, more = ''): void {
  const head =
    `{"id":${JSON.stringify(row.id)},"source":${JSON.stringify(row.source)},"type":${JSON.stringify(row.type)},` +
    `"time":"${timeText(row.timeMs)}","event":`;
  const tail =
    `,"ingest_time":"${timeText(row.ingestTimeMs)}","store_time":"${timeText(row.storeTimeMs)}",` +
    `"partition":${row.partition},"offset":${row.offset}${more}}`;
  pieces.push(Buffer.from(head), eventJson(row), Buffer.from(tail));
}

/** The event as received; bytes of foreign origin that are not JSON become a JSON string. */
function eventJson(row: EventRow): Uint8Array {
  // What ESS wrote itself was validated when it came in.
  if ((row.flags & recordFlags.isForeign) === 0) return row.body;
  const text = row.body.toString('utf8');
  try {
    JSON.parse(text);
    return row.body;
  } catch {
    return Buffer.from(JSON.stringify(text));
  }
}

/**
 * The pieces as one run of bytes with a memory of its own, so that it can be handed to another thread without a copy.
 */
export function joinPieces(pieces: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const piece of pieces) length += piece.length;
  const joined = new Uint8Array(length);
  let end = 0;
  for (const piece of pieces) {
    joined.set(piece, end);
    end += piece.length;
  }
  return joined;
}
