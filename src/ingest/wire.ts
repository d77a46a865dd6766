// What the main thread and a producer worker say to each other through their two rings: the meaning of a ring
// record's type and flags, and the layout of its payload. Nobody else writes these numbers.
//
// Ingest ring, one record a request (payload):          Ack ring, one or more records an answer (payload):
//   0        8                                            0        2          4
//   +--------+-----------------------                     +--------+----------+---------------------
//   | taken  | body as received                           | status | retry    | body of the answer
//   | f64 us | (maybe compressed)                         | u16    | u16 s    | (JSON text)
//   +--------+-----------------------                     +--------+----------+---------------------
//   taken: microseconds on the shared clock               retry: Retry-After in seconds, 0 for none.
//   (stats/clock.ts) when the request was whole.          Continuation records carry body bytes only.

/** Record types of the ingest ring: how the body is made up. */
export const requestTypes = { json: 1, ndjson: 2 } as const;

/** Record types of the ack ring. */
export const answerTypes = {
  /** A JSON answer with its status. */
  answer: 1,
  /** More body for the answer before it. */
  more: 2,
} as const;

/** Flag of an answer record: at least one `more` record follows. */
export const answerHasMore = 1;

/** What a 200 promises; the values are the low two bits of a request's flags. */
export const ackLevels = ['memory', 'log', 'store'] as const;
export type AckLevel = (typeof ackLevels)[number];

/** Content-Encoding of a request body; the values are bits 2-4 of a request's flags. */
export const encodings = ['identity', 'gzip', 'br', 'deflate', 'zstd'] as const;
export type Encoding = (typeof encodings)[number];

const ackMask = 0x03;
const encodingShift = 2;
const encodingMask = 0x07;
const wantsIdsFlag = 0x20;

/** The flags of a request record. */
export function requestFlags(ack: AckLevel, encoding: Encoding, wantsIds: boolean): number {
  return (
    ackLevels.indexOf(ack) | (encodings.indexOf(encoding) << encodingShift) | (wantsIds ? wantsIdsFlag : 0)
  );
}

export function ackOf(flags: number): AckLevel {
  return ackLevels[(flags & ackMask) as 0 | 1 | 2] ?? 'log';
}

export function encodingOf(flags: number): Encoding {
  return encodings[(flags >>> encodingShift) & encodingMask] ?? 'identity';
}

export function wantsIdsOf(flags: number): boolean {
  return (flags & wantsIdsFlag) !== 0;
}

/** Payload bytes before the body of a request. */
export const requestHeaderBytes = 8;
export const takenUsAt = 0;

/** Payload bytes before the body of an answer. */
export const answerHeaderBytes = 4;
export const statusAt = 0;
export const retryAfterAt = 2;
