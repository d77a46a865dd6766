// The reads of the HTTP interface: from a path, a query string and an Accept header to a whole answer. Runs on reader
// threads, which piscina feeds; it may wait for the store as long as it likes, within the time limit.
//
//   GET /events/statistics   statistics.ts
//   GET /events/ or /events  event_list.ts
//   GET /events/{id}         event_by_id.ts; an event whose id is "statistics" is /events/%73tatistics
//
// Events are spread over shards. Every read asks all of them (fan_out.ts), and what a shard did not answer is never left
// out in silence (partial.ts).

import { type ErrorCode, EssError, errorKinds, type ProblemExtras, problemJson } from '../../errors.ts';
import { type Store, StoreError } from '../store.ts';
import { chooseType } from './accept.ts';
import { type Cursor, decodeCursor, encodeCursor, type ListFilter } from './cursor.ts';
import { AmbiguousIdError, findEvent } from './event_by_id.ts';
import { type EventPage, listEvents } from './event_list.ts';
import { joinPieces, pushEventJson } from './event_row.ts';
import { FanOut, StoreUnavailableError } from './fan_out.ts';
import { journeyJson } from './journey.ts';
import { checkRange, decodePiece, ParameterError, Parameters } from './parameters.ts';
import { type PartialMembers, partialHeaders, partialMembers, partialText } from './partial.ts';
import { Shards } from './shards.ts';
import { readStatistics } from './statistics.ts';
import { statisticsCsv, statisticsJson } from './statistics_answer.ts';
import { parseStatisticsRequest } from './statistics_request.ts';
import { TimeLimit } from './time_limit.ts';

export interface ReadRequest {
  /** As it stands in the request line, still percent-encoded: /events/abc%20d */
  readonly path: string;
  /** As it stands after the question mark; may be empty. */
  readonly query: string;
  /** The Accept header; may be empty. */
  readonly accept: string;
}

export interface ReadAnswer {
  readonly status: number;
  readonly contentType: string;
  readonly body: string | Uint8Array;
  readonly headers?: Record<string, string>;
}

export interface ReadLimits {
  /** For the whole read, ms, at least 1. */
  readonly timeoutMs: number;
  /** The time of day, epoch ms. */
  readonly nowMs: number;
}

const jsonType = 'application/json';
const ndjsonType = 'application/x-ndjson';
const csvType = 'text/csv';
const problemType = 'application/problem+json';

const listDefault = 100;
const listMax = 10_000;

const comma = Buffer.from(',');
const newline = Buffer.from('\n');

/** ClickHouse's TIMEOUT_EXCEEDED and TOO_SLOW. */
const timeoutCodes: readonly number[] = [159, 160];
/** ClickHouse's MEMORY_LIMIT_EXCEEDED, and TOO_MANY_ROWS_OR_BYTES for an answer that we would have to hold. */
const memoryCodes: readonly number[] = [241, 396];
/** Advice for a client that was not served, seconds. */
const retryAfterS = 1;

/**
 * Answers a read; what is wrong with the request or the store is an answer too. `stores`: the shards, or one store that
 * holds everything.
 */
export async function handleRead(
  stores: Shards | Store,
  request: ReadRequest,
  limits: ReadLimits,
): Promise<ReadAnswer> {
  const shards = stores instanceof Shards ? stores : Shards.ofOne(stores);
  const fanOut = new FanOut(shards, new TimeLimit(limits.timeoutMs));
  const answer = await answerOrProblem(fanOut, request, limits.nowMs);
  const headers = { ...answer.headers, ...partialHeaders(fanOut) };
  return Object.keys(headers).length === 0 ? answer : { ...answer, headers };
}

/** The answer to a read that no store could be asked for. */
export function unavailableAnswer(detail: string): ReadAnswer {
  return problem('store_unavailable', detail);
}

async function answerOrProblem(fanOut: FanOut, request: ReadRequest, nowMs: number): Promise<ReadAnswer> {
  try {
    if (request.path === '/events/statistics') return await answerStatistics(fanOut, request, nowMs);
    if (request.path === '/events' || request.path === '/events/') return await answerList(fanOut, request);
    if (request.path.startsWith('/events/')) return await answerEvent(fanOut, request);
    throw new EssError('not_found', 'reads are /events/, /events/{id} and /events/statistics');
  } catch (error) {
    return problemOf(error, partialMembers(fanOut));
  }
}

async function answerEvent(fanOut: FanOut, request: ReadRequest): Promise<ReadAnswer> {
  const id = decodePiece(request.path.slice('/events/'.length), 'id');
  const source = new Parameters(request.query, ['source']).text('source');
  const pieces: Uint8Array[] = [];
  const event = await findEvent(fanOut, id, source).catch((error: unknown) => {
    throw isProven(fanOut, error) ? error : new EssError('store_unavailable', unprovenText(fanOut));
  });
  const { row, journey } = event;
  pushEventJson(pieces, row, `,"journey":${journeyJson(row, journey)}${partialText(fanOut)}`);
  return { status: 200, contentType: jsonType, body: joinPieces(pieces) };
}

/** That an event is not there can only be said by all shards. */
function isProven({ missing, stale }: FanOut, error: unknown): boolean {
  const isNotFound = error instanceof EssError && error.code === 'not_found';
  return !isNotFound || (missing.length === 0 && stale.length === 0);
}

function unprovenText({ missing, stale }: FanOut): string {
  const parts: string[] = [];
  if (missing.length > 0) parts.push(`shard ${missing.join(' and shard ')} does not answer`);
  if (stale.length > 0) parts.push(`shard ${stale.join(' and shard ')} is behind`);
  return `the event was not found, but it may be there: ${parts.join('; ')}`;
}

async function answerList(fanOut: FanOut, request: ReadRequest): Promise<ReadAnswer> {
  const { filter, cursor, limit } = parseListRequest(request.query);
  const page = await listEvents(fanOut, filter, cursor?.position ?? null, limit);
  const nextCursor = page.next === null ? null : encodeCursor({ filter, position: page.next });
  if (chooseType(request.accept, [jsonType, ndjsonType]) === jsonType)
    return { status: 200, contentType: jsonType, body: listJson(page, nextCursor, partialText(fanOut)) };
  const answer = { status: 200, contentType: ndjsonType, body: listNdjson(page) };
  if (nextCursor === null) return answer;
  // The cursor brings the filter along.
  const next = `${request.path}?limit=${limit}&cursor=${nextCursor}`;
  return { ...answer, headers: { link: `<${next}>; rel="next"` } };
}

interface ListRequest {
  readonly filter: ListFilter;
  readonly cursor: Cursor | null;
  readonly limit: number;
}

const filterParameters = ['from', 'to', 'type', 'source', 'subject', 'order'] as const;

function parseListRequest(query: string): ListRequest {
  const parameters = new Parameters(query, [...filterParameters, 'limit', 'cursor']);
  const cursorText = parameters.text('cursor');
  const cursor = cursorText === null ? null : decodeCursor(cursorText);
  const given = {
    from: parameters.timeMs('from'),
    to: parameters.timeMs('to'),
    type: parameters.text('type'),
    source: parameters.text('source'),
    subject: parameters.text('subject'),
    order: parameters.choice('order', ['desc', 'asc']),
  };
  const limit = parameters.integer('limit', 1, listMax) ?? listDefault;
  if (cursor === null) {
    checkRange(given.from, given.to);
    const { from: fromMs, to: toMs, type, source, subject } = given;
    return {
      filter: { order: given.order ?? 'desc', fromMs, toMs, type, source, subject },
      cursor,
      limit,
    };
  }
  const { filter } = cursor;
  const made = { ...filter, from: filter.fromMs, to: filter.toMs };
  for (const name of filterParameters) {
    if (given[name] === null || given[name] === made[name]) continue;
    throw new ParameterError(
      'cursor',
      `it belongs to a query with another ${name}`,
      'the same query as for the page before, or the cursor alone',
    );
  }
  return { filter, cursor, limit };
}

/** `more`: text of further members, empty or beginning with a comma. */
function listJson(page: EventPage, nextCursor: string | null, more: string): Uint8Array {
  const pieces: Uint8Array[] = [Buffer.from('{"events":[')];
  for (const [i, event] of page.events.entries()) {
    if (i > 0) pieces.push(comma);
    pushEventJson(pieces, event);
  }
  pieces.push(Buffer.from(`],"next_cursor":${JSON.stringify(nextCursor)}${more}}`));
  return joinPieces(pieces);
}

const lineFeed = 0x0a;
const carriageReturn = 0x0d;
const space = 0x20;

function listNdjson(page: EventPage): Uint8Array {
  const pieces: Uint8Array[] = [];
  for (const event of page.events) {
    const first = pieces.length;
    pushEventJson(pieces, event);
    for (const piece of pieces.slice(first)) joinLines(piece);
    pieces.push(newline);
  }
  return joinPieces(pieces);
}

/** JSON has line ends only between its tokens: as spaces they mean the same and leave it on one line. */
function joinLines(json: Uint8Array): void {
  for (const end of [lineFeed, carriageReturn])
    for (let i = json.indexOf(end); i >= 0; i = json.indexOf(end, i + 1)) json[i] = space;
}

async function answerStatistics(fanOut: FanOut, request: ReadRequest, nowMs: number): Promise<ReadAnswer> {
  const asked = parseStatisticsRequest(request.query);
  const statistics = await readStatistics(fanOut, asked, nowMs);
  const headers = statistics.isGroupChoiceUncertain ? { headers: { 'ess-groups': 'uncertain' } } : {};
  if (chooseType(request.accept, [jsonType, csvType]) === jsonType) {
    const body = statisticsJson(asked, statistics, partialMembers(fanOut));
    return { status: 200, contentType: jsonType, body, ...headers };
  }
  const contentType = `${csvType}; charset=utf-8; header=present`;
  return { status: 200, contentType, body: statisticsCsv(asked, statistics), ...headers };
}

/** The problem document for what was thrown; throws again what nobody throws on purpose. */
function problemOf(error: unknown, partial: PartialMembers): ReadAnswer {
  if (error instanceof ParameterError)
    return problem('invalid_parameter', error.message, { parameter: error.parameter });
  if (error instanceof AmbiguousIdError)
    return problem('ambiguous_id', error.message, { sources: error.sources, ...partial });
  if (error instanceof StoreUnavailableError)
    return problem(error.code, error.message, { missing_shards: error.shards });
  if (error instanceof EssError) return problem(error.code, error.message, { ...partial });
  if (!(error instanceof StoreError)) throw error;
  if (timeoutCodes.includes(error.code)) return problem('query_timeout', error.message);
  if (memoryCodes.includes(error.code))
    return problem(
      'query_timeout',
      `the read needs more memory than one may have: narrow the time range, group by something with fewer values, or leave exact out. ${error.message}`,
    );
  return problem('store_unavailable', error.message);
}

function problem(code: ErrorCode, detail: string, extras: ProblemExtras = {}): ReadAnswer {
  const { status } = errorKinds[code];
  const answer = { status, contentType: problemType, body: problemJson(code, detail, extras) };
  return status === 503 ? { ...answer, headers: { 'retry-after': String(retryAfterS) } } : answer;
}
