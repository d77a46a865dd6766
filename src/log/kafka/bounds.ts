// Where partitions begin and end, asked of the broker that leads them. Runs on sink threads and producer threads.

import type { KafkaClient } from './client.ts';
import { KafkaError } from './kafka_error.ts';
import type { PartitionView } from './topic_view.ts';
import { kafkaErrors } from './wire/errors.ts';
import { listOffsetsCall } from './wire/list_offsets.ts';

/** Where a partition begins and ends. */
export interface Bounds {
  /** First offset still held. */
  readonly start: number;
  /** The last stable offset. */
  readonly end: number;
}

/** Partitions by the node that leads them; those without a leader are left out. */
export function byLeader(partitions: Iterable<PartitionView>): Map<number, PartitionView[]> {
  const led = new Map<number, PartitionView[]>();
  for (const view of partitions) {
    if (view.leader < 0) continue;
    const own = led.get(view.leader);
    if (own === undefined) led.set(view.leader, [view]);
    else own.push(view);
  }
  return led;
}

/**
 * Bounds of partitions that one broker leads; without those of which it does not tell, which are all of them if it does
 * not answer within `timeoutMs`: `onFailure` hears of that. One that has not heard of the leader epoch tells of nothing.
 */
export async function askBounds(
  client: Pick<KafkaClient, 'send'>,
  topic: string,
  leader: number,
  partitions: readonly Pick<PartitionView, 'partition' | 'leaderEpoch'>[],
  timeoutMs: number,
  onFailure: (error: KafkaError) => void = () => {},
): Promise<Map<number, Bounds>> {
  const found = new Map<number, Bounds>();
  try {
    const [starts, ends] = await Promise.all([
      client.send(leader, listOffsetsCall({ topic, at: 'earliest', partitions }), timeoutMs),
      client.send(leader, listOffsetsCall({ topic, at: 'latest', partitions }), timeoutMs),
    ]);
    const endOf = new Map(ends.map((end) => [end.partition, end]));
    for (const { partition, errorCode, offset: start } of starts) {
      const end = endOf.get(partition);
      if (end === undefined || errorCode !== kafkaErrors.NONE.code || end.errorCode !== kafkaErrors.NONE.code)
        continue;
      found.set(partition, { start, end: end.offset });
    }
  } catch (error) {
    if (!(error instanceof KafkaError)) throw error;
    onFailure(error);
  }
  return found;
}
