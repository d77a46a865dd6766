// Partitions by topic, as requests of flexible versions name what they are about.

import type { RequestWriter } from './request_writer.ts';

/** Writes the array of topics, each with its partitions. */
export function writeTopicPartitions(
  body: RequestWriter,
  topics: ReadonlyMap<string, readonly number[]>,
): void {
  body.compactCount(topics.size);
  for (const [topic, partitions] of topics) {
    body.compactString(topic);
    body.compactCount(partitions.length);
    for (const partition of partitions) body.int32(partition);
    body.noTags();
  }
}
