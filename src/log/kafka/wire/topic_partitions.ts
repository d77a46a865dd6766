// Partitions by topic, as requests of flexible versions name what they are about, and answers say what became of each.

import type { RequestWriter } from './request_writer.ts';
import type { ResponseReader } from './response_reader.ts';

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

/** An answer about one partition. */
export interface PartitionOutcome {
  readonly topic: string;
  readonly partition: number;
  /** 0, or a code of errors.ts. */
  readonly errorCode: number;
  readonly errorMessage: string | null;
}

/** Reads the array of topics, each with its partitions; `read` leaves the tags of a partition to this. */
export function readTopicPartitions<T>(body: ResponseReader, read: (topic: string) => T): T[] {
  const topics = body.compactArray(() => {
    const topic = body.compactString();
    const partitions = body.compactArray(() => {
      const found = read(topic);
      body.skipTags();
      return found;
    });
    body.skipTags();
    return partitions;
  });
  return topics.flat();
}

export function readOutcomes(body: ResponseReader): PartitionOutcome[] {
  return readTopicPartitions(body, (topic) => ({
    topic,
    partition: body.int32(),
    errorCode: body.int16(),
    errorMessage: body.compactNullableString(),
  }));
}
