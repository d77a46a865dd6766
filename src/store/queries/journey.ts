// How one event came to where it is: received, durable in the log, stored, each with its time and place. Made on reader
// threads from the event's own row, so that it is as true years later.

import { recordFlags } from '../../event/record.ts';
import { type EventRow, timeText } from './event_row.ts';

/** What a row tells of its way beside what every read gives. */
export interface Journey {
  /** When a sink took the record out of the log, epoch ms; 0 in rows of before there was such a column. */
  readonly logTimeMs: number;
  /** The log's identity. */
  readonly epoch: string;
  /** The table's part that holds the row now; merges move rows into others. */
  readonly part: string;
  readonly shard: number;
}

/**
 * The member `journey` as JSON text. `durable` has the time by which the record was seen in the log: with `ack=log` the
 * answer had been sent before, and a sink that is behind sees it later.
 */
export function journeyJson(row: EventRow, { logTimeMs, epoch, part, shard }: Journey): string {
  const isForeign = (row.flags & recordFlags.isForeign) !== 0;
  return JSON.stringify([
    {
      stage: 'received',
      time: timeText(row.ingestTimeMs),
      place: isForeign ? 'by the topic, from another producer' : 'by ESS, over HTTP',
    },
    {
      stage: 'durable',
      time: logTimeMs === 0 ? null : timeText(logTimeMs),
      place: `partition ${row.partition}, offset ${row.offset} of log ${epoch}`,
    },
    { stage: 'stored', time: timeText(row.storeTimeMs), place: `shard ${shard}, part ${part}` },
  ]);
}
