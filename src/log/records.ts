// Reading records of the log apart from every consumer: for somebody who wants to know what was at an offset. Runs
// wherever that is asked; takes part in no group, owns nothing and moves no position.

import { setTimeout as sleep } from 'node:timers/promises';
import { EssError } from '../errors.ts';
import type { RecordVisitor } from './log.ts';
import type { LogTarget } from './open.ts';

export interface RecordReader {
  /**
   * Visits the records of a partition from `first` to `last` and perhaps some after it, in offset order. Gives the offset
   * before which all that there is was visited: past `last`, or short of it where the log does not hold the rest any more.
   * Rejects with `log_unavailable` if it does not answer.
   */
  read(partition: number, first: number, last: number, visit: RecordVisitor): Promise<number>;
  close(): Promise<void>;
}

/** What is asked for at once, bytes. */
const readBytes = 256 * 1024;
/** A leader that gives nothing for so long is given up, ms. */
const silenceMsMax = 15_000;
const lookEveryMs = 5;

/** Rejects as the log's own consumers do when they are opened. */
export async function openRecords(target: LogTarget): Promise<RecordReader> {
  if (target.kind === 'embedded') {
    const { openEmbeddedConsumer } = await import('./embedded/open.ts');
    // Never started: it is told of nothing.
    const log = await openEmbeddedConsumer({ ...target, index: 0, count: 1, pollMs: 0 });
    return {
      read: (partition, first, last, visit) =>
        readAll(first, last, (from) => log.read(partition, from, readBytes, visit)),
      close: () => log.close(),
    };
  }
  const { KafkaClient } = await import('./kafka/client.ts');
  const { Fetcher } = await import('./kafka/fetcher.ts');
  const { openTopic } = await import('./kafka/opening.ts');
  const client = new KafkaClient(target, { name: 'ess-records', requestTimeoutMs: 5_000 });
  try {
    const view = await openTopic(client, target, () => client.metadata(0));
    const { topic, eventBytesMax, eventDepthMax } = target;
    const fetcher = new Fetcher(client, {
      topic,
      epoch: view.topicId,
      partitions: view.partitions.length,
      bytesMax: readBytes,
      limits: { eventBytesMax, eventDepthMax },
      onData: () => {},
      onChanged: () => {},
    });
    fetcher.start();
    return {
      read: async (partition, first, last, visit) => {
        fetcher.add(partition, first);
        try {
          return await readAll(first, last, (from) => fetcher.read(partition, from, readBytes, visit));
        } finally {
          fetcher.clear();
        }
      },
      close: async () => {
        fetcher.close();
        await client.close();
      },
    };
  } catch (error) {
    await client.close();
    throw error;
  }
}

/** Reads on until past `last`, or until the log says that there is a gap. */
async function readAll(first: number, last: number, readFrom: (from: number) => number): Promise<number> {
  let next = first;
  let heardMs = performance.now();
  while (next <= last) {
    let after = next;
    try {
      after = readFrom(next);
    } catch (error) {
      // Of an offset that is not held any more, or not yet.
      if (error instanceof EssError && error.code === 'internal') return next;
      throw error;
    }
    if (after > next) {
      next = after;
      heardMs = performance.now();
      // A log in this process answers at once: others of the thread have their turn between two reads.
      await new Promise((resolve) => setImmediate(resolve));
      continue;
    }
    if (performance.now() - heardMs > silenceMsMax)
      throw new EssError('log_unavailable', `the log gives no records from offset ${next} on`);
    await sleep(lookEveryMs);
  }
  return next;
}
