// Fills a log with events that nobody has consumed, as an ingest role leaves them: packed records, in groups that are
// durable one after the other, dealt to partitions by the hash of their ids.

import { partitionOf } from '../../src/event/partition.ts';
import { RecordWriter } from '../../src/event/record.ts';
import type { AppendBatch } from '../../src/log/log.ts';
import { type LogTarget, openAppender } from '../../src/log/open.ts';
import { EventBatch, type EventShape } from './event_batch.ts';

export interface BacklogOptions {
  readonly log: LogTarget;
  readonly run: number;
  readonly events: number;
  /** @default ours */
  readonly shape?: EventShape;
  /** Events of one append: what a loaded producer commits at once. */
  readonly groupEvents: number;
  /** Ingest time of the first event, epoch ms; each group is a millisecond later than the one before. */
  readonly ingestTimeMs: number;
}

/** Rejects with the log's error if it did not take everything. */
export async function writeBacklog(options: BacklogOptions): Promise<void> {
  const { events, run, groupEvents } = options;
  const log = await openAppender(options.log);
  const writers = Array.from({ length: log.partitions }, () => new RecordWriter());
  const batch = new EventBatch(groupEvents, run, options.shape);
  for (let first = 0; first < events; first += groupEvents) {
    batch.stamp(first);
    const timeMs = options.ingestTimeMs + first / groupEvents;
    for (let i = 0; i < Math.min(groupEvents, events - first); i += 1) {
      const id = batch.id(i);
      writers[partitionOf(id, log.partitions)]?.append(
        0,
        id,
        batch.type(i),
        '',
        batch.subject(i),
        null,
        timeMs,
        timeMs,
        batch.bytes,
        batch.lineStart(i),
        batch.lineEnd(i),
      );
    }
    const batches: AppendBatch[] = [];
    for (const [partition, { count, bytes }] of writers.entries()) {
      if (count > 0) batches.push({ partition, count, bytes });
    }
    for (const result of await log.append(batches)) if (typeof result !== 'number') throw result;
    for (const writer of writers) writer.reset();
  }
  await log.close();
}

/** The log of a data directory, with the defaults of the options. */
export function logOf(path: string, partitions: number): LogTarget {
  const GiB = 2 ** 30;
  return {
    kind: 'embedded',
    path,
    partitions,
    bytesMax: 64 * GiB,
    retentionMs: 3_600_000,
    retentionBytes: 64 * GiB,
  };
}
