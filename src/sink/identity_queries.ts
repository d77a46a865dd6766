// What a sink asks the store about identities: those of the retry window at start, and single ones that it has
// forgotten because its bound was reached.

import { msPerHour } from '../store/schema.ts';
import type { Store } from '../store/store.ts';
import { hashIdentity, type Identities } from './identities.ts';
import type { OpenQuestion } from './range.ts';

/**
 * UTF-16 units of ids in one question to the store: a node takes a parameter of up to 128 KiB over HTTP
 * (http_max_field_value_size), which no request can raise, and a unit may take three bytes, quoted some more.
 */
const idUnitsPerQuestion = 24 * 1024;

export interface ReloadRange {
  readonly partition: number;
  readonly epoch: string;
  /** Rows of this epoch at or past this offset do not count: they are still to be dealt with. */
  readonly before: number;
  /** Ingest time from which on rows count, epoch ms. */
  readonly sinceMs: number;
  readonly countMax: number;
}

/** Identities as a store gives them: ingest time, id and source, the newest first. */
interface StoredIdentities {
  readonly bytes: Buffer;
  /** Where each one that is not taken yet begins. */
  readonly starts: number[];
}

/**
 * Fills `identities` with what the partition stored since `sinceMs` in all these stores, the latest `countMax` of them.
 * Gives the latest ingest time in each store, epoch ms; -Infinity where there is none.
 */
export async function reloadIdentities(
  stores: readonly Store[],
  identities: Identities,
  range: ReloadRange,
): Promise<number[]> {
  const all = await Promise.all(stores.map((store) => readIdentities(store, range)));
  const latestMs = all.map((stored) => ingestMsAt(stored, 0));
  let left = all.reduce((count, { starts }) => count + starts.length, 0);
  let isCut = left > range.countMax || all.some(({ starts }) => starts.length >= range.countMax);
  identities.forgetBefore(range.sinceMs);
  // Newest first in the answers, oldest first into the set.
  const at = { position: 0 };
  for (let stored = oldest(all); stored !== null; stored = oldest(all)) {
    const { bytes, starts } = stored;
    at.position = starts.pop() ?? 0;
    left -= 1;
    if (left >= range.countMax) continue;
    const ingestMs = Number(bytes.readBigInt64LE(at.position));
    at.position += 8;
    const idStart = skipText(bytes, at);
    const idEnd = at.position;
    const sourceStart = skipText(bytes, at);
    hashIdentity(bytes, idStart, idEnd, sourceStart, at.position);
    if (isCut) identities.forgetBefore(ingestMs + 1);
    isCut = false;
    identities.add(ingestMs);
  }
  return latestMs;
}

async function readIdentities(store: Store, range: ReloadRange): Promise<StoredIdentities> {
  const bytes = await store.bytes(
    `SELECT toUnixTimestamp64Milli(ingest_time) AS ingest_ms, id, source
     FROM events
     WHERE partition = {partition:UInt16}
       AND ingest_time >= fromUnixTimestamp64Milli({since:Int64}, 'UTC')
       AND NOT (epoch = {epoch:String} AND offset >= {before:UInt64})
     ORDER BY ingest_time DESC, offset DESC
     LIMIT {countMax:UInt64}
     FORMAT RowBinary`,
    {
      partition: range.partition,
      since: range.sinceMs,
      epoch: range.epoch,
      before: range.before,
      countMax: range.countMax,
    },
  );
  const starts: number[] = [];
  const at = { position: 0 };
  while (at.position < bytes.length) {
    starts.push(at.position);
    at.position += 8;
    skipText(bytes, at);
    skipText(bytes, at);
  }
  return { bytes, starts };
}

/** Ingest time of the identity at this place, epoch ms; -Infinity if there is none. */
function ingestMsAt({ bytes, starts }: StoredIdentities, index: number): number {
  const start = starts.at(index);
  return start === undefined ? Number.NEGATIVE_INFINITY : Number(bytes.readBigInt64LE(start));
}

/** The answer whose last identity is the oldest of all; null once all are taken. */
function oldest(all: readonly StoredIdentities[]): StoredIdentities | null {
  let best: StoredIdentities | null = null;
  for (const stored of all) {
    if (stored.starts.length === 0) continue;
    if (best === null || ingestMsAt(stored, -1) < ingestMsAt(best, -1)) best = stored;
  }
  return best;
}

/** Moves past a RowBinary string (LEB128 length, then bytes); gives where its bytes begin. */
function skipText(bytes: Buffer, at: { position: number }): number {
  let length = 0;
  for (let shift = 0; ; shift += 7) {
    const byte = bytes[at.position] ?? 0;
    at.position += 1;
    length |= (byte & 0x7f) << shift;
    if (byte < 0x80) break;
  }
  const start = at.position;
  at.position += length;
  return start;
}

/** What a question about copies is asked for. */
export interface CopyScope {
  readonly epoch: string;
  readonly partition: number;
  /** First offset of the range that is asked about: rows of this epoch from there on are its own. */
  readonly before: number;
  readonly retryWindowMs: number;
  /** The store is a shard that the partition was on before. */
  readonly isFormer: boolean;
}

/**
 * Offsets of those events of which an older copy was stored within the retry window: in the hours before theirs, since
 * in the same hour the table itself makes one of both; on a former shard, where nothing replaces it, in any hour.
 */
export async function findOlderCopies(
  store: Store,
  questions: readonly OpenQuestion[],
  { epoch, partition, before, retryWindowMs, isFormer }: CopyScope,
): Promise<number[]> {
  const copies: number[] = [];
  for (const some of inParts(questions)) {
    const times = some.map((question) => question.ingestTimeMs);
    const latestMs = times.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
    const earliestMs = times.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
    const rows = await store.rows<{ source: string; id: string; ingest_ms: string }>(
      `SELECT source, id, toString(max(toUnixTimestamp64Milli(ingest_time))) AS ingest_ms
       FROM events
       WHERE ({isFormer:UInt8} = 1 OR hour BETWEEN {firstHour:Int32} AND {lastHour:Int32})
         AND ingest_time >= fromUnixTimestamp64Milli({since:Int64}, 'UTC')
         AND NOT (epoch = {epoch:String} AND partition = {partition:UInt16} AND offset >= {before:UInt64})
         AND id IN {ids:Array(String)}
       GROUP BY source, id`,
      {
        isFormer: Number(isFormer),
        epoch,
        partition,
        before,
        firstHour: Math.floor((earliestMs - retryWindowMs) / msPerHour),
        lastHour: Math.floor(latestMs / msPerHour) - 1,
        since: Math.floor(earliestMs - retryWindowMs),
        ids: some.map((question) => question.id),
      },
    );
    const stored = new Map(rows.map((row) => [JSON.stringify([row.source, row.id]), Number(row.ingest_ms)]));
    for (const { source, id, offset, ingestTimeMs } of some) {
      const storedMs = stored.get(JSON.stringify([source, id]));
      if (storedMs !== undefined && storedMs >= ingestTimeMs - retryWindowMs) copies.push(offset);
    }
  }
  return copies;
}

/** The questions in runs whose ids fit one parameter. */
function* inParts(questions: readonly OpenQuestion[]): Generator<readonly OpenQuestion[]> {
  let first = 0;
  let units = 0;
  for (const [i, { id }] of questions.entries()) {
    if (units > 0 && units + id.length > idUnitsPerQuestion) {
      yield questions.slice(first, i);
      first = i;
      units = 0;
    }
    // Quotes and a comma come on top.
    units += id.length + 3;
  }
  if (first < questions.length) yield questions.slice(first);
}
