// The text that a sink commits beside its position (the metadata of the consumer offset in Kafka). It says which
// range is about to be inserted, so that after a crash exactly that range is looked for or sent again.

/** A range of records that is being inserted, both ends inclusive. */
export interface Intent {
  /** The log's epoch. */
  readonly epoch: string;
  readonly first: number;
  readonly last: number;
  /**
   * Version of the shards' layout by which the range is sent: its block and its ledger row may still be on their way to
   * the shard that had the partition then, so that is where the range has to be completed.
   */
  readonly layout: number;
  /** Nothing is being inserted: the range was gone from the log when ESS first came, and is written down as holes. */
  readonly isGone?: true;
}

const formatVersion = 1;
/** The layout stands at the end, unless it is the first one. */
const pattern = /^(\d+) ([0-9a-zA-Z_-]+) (\d+)-(\d+)( gone)?(?: layout-(\d+))?$/;

/** At most 100 bytes; Kafka takes 4,096 by default. */
export function encodeIntent({ epoch, first, last, layout, isGone }: Intent): string {
  const gone = isGone === true ? ' gone' : '';
  return `${formatVersion} ${epoch} ${first}-${last}${gone}${layout === 1 ? '' : ` layout-${layout}`}`;
}

/** What a committed text says: an intent, nothing pending, or something written by a newer version. */
export function decodeIntent(text: string): Intent | 'none' | 'unknown' {
  if (text === '') return 'none';
  const parts = pattern.exec(text);
  if (parts === null || Number(parts[1]) !== formatVersion) return 'unknown';
  const [, , epoch = '', first, last, gone, layout = '1'] = parts;
  const range = { epoch, first: Number(first), last: Number(last), layout: Number(layout) };
  return gone === undefined ? range : { ...range, isGone: true };
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
