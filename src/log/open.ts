// Opens the log that the configuration names. The only place that knows which drivers there are.

import { openEmbeddedAppender, openEmbeddedConsumer } from './embedded/open.ts';
import type { KafkaTarget } from './kafka/target.ts';
import type { LogAppender, LogConsumer } from './log.ts';

/** The log in the data directory. */
export interface EmbeddedLogTarget {
  readonly kind: 'embedded';
  readonly path: string;
  readonly partitions: number;
  readonly bytesMax: number;
  readonly retentionMs: number;
  readonly retentionBytes: number;
}

/** How to reach the log; travels to worker threads as it is. */
export type LogTarget = EmbeddedLogTarget | KafkaTarget;

/** Where a consumer stands among the others. */
export interface ConsumerPlacement {
  /** Sink thread `index` of `count` in this process. */
  readonly index: number;
  readonly count: number;
  /** Embedded log: 0 where the producers' doorbell tells of new records, else ms between looks. */
  readonly pollMs: number;
  /** Kafka: the shard whose node this thread owns, the number of shards, and the node's name. */
  readonly shard: number;
  readonly shards: number;
  readonly node: string;
}

// Kafka's driver is loaded where it is used: each thread that does without it saves its memory.

export async function openAppender(target: LogTarget): Promise<LogAppender> {
  if (target.kind === 'embedded') return openEmbeddedAppender(target);
  const { openKafkaAppender } = await import('./kafka/appender.ts');
  return openKafkaAppender(target);
}

export async function openConsumer(target: LogTarget, placement: ConsumerPlacement): Promise<LogConsumer> {
  if (target.kind === 'embedded') return openEmbeddedConsumer({ ...target, ...placement });
  const { openKafkaConsumer } = await import('./kafka/consumer.ts');
  return openKafkaConsumer(target, placement);
}
