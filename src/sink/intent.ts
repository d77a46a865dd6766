// The text that a sink commits beside its position (the metadata of the consumer offset in Kafka). It says which
// range is about to be inserted, so that after a crash exactly that range is looked for or sent again.

/** A range of records that is being inserted, both ends inclusive. */
export interface Intent {
  /** The log's epoch. */
  readonly epoch: string;
  readonly first: number;
  readonly last: number;
  /** Nothing is being inserted: the range was gone from the log when ESS first came, and is written down as holes. */
  readonly isGone?: true;
}

const formatVersion = 1;
const pattern = /^(\d+) ([0-9a-zA-Z_-]+) (\d+)-(\d+)( gone)?$/;

/** At most 85 bytes; Kafka takes 4,096 by default. */
export function encodeIntent(intent: Intent): string {
  const gone = intent.isGone === true ? ' gone' : '';
  return `${formatVersion} ${intent.epoch} ${intent.first}-${intent.last}${gone}`;
}

/** What a committed text says: an intent, nothing pending, or something written by a newer version. */
export function decodeIntent(text: string): Intent | 'none' | 'unknown' {
  if (text === '') return 'none';
  const parts = pattern.exec(text);
  if (parts === null || Number(parts[1]) !== formatVersion) return 'unknown';
  const range = { epoch: parts[2] ?? '', first: Number(parts[3]), last: Number(parts[4]) };
  return parts[5] === undefined ? range : { ...range, isGone: true };
}

/** The insert_deduplication_token of a range: a repeat of the same range stores nothing. */
export function blockToken(
  epoch: string,
  topic: string,
  partition: number,
  first: number,
  last: number,
): string {
  return `${formatVersion}:${epoch}:${topic}:${partition}:${first}-${last}`;
}
