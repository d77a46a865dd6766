// Opens the log that the configuration names. The only place that knows which drivers there are.

import { EssError } from '../errors.ts';
import { EmbeddedDescriber } from './embedded/describe.ts';
import { openEmbeddedAppender, openEmbeddedConsumer } from './embedded/open.ts';
import type { GroupLog } from './kafka/group.ts';
import type { KafkaTarget } from './kafka/target.ts';
import type { LogAppender, LogConsumer, LogDescriber } from './log.ts';

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

/** Which log it is. The threads of one session must all have opened the same. */
export type LogIdentity = Pick<LogAppender, 'epoch' | 'partitions'>;

/**
 * Throws `log_changed` if a handle is on another log than the one expected: a broker that is behind may have told one
 * thread of a topic, or a number of partitions, of before, or the topic changed between two threads' starts.
 */
export function assertSameLog(found: LogIdentity, expected: LogIdentity): void {
  if (found.epoch === expected.epoch && found.partitions === expected.partitions) return;
  const name = ({ epoch, partitions }: LogIdentity): string => `${epoch} with ${partitions} partitions`;
  throw new EssError('log_changed', `this thread found log ${name(found)}, the others ${name(expected)}`);
}

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

/** No I/O before it is asked. */
export async function openDescriber(target: LogTarget): Promise<LogDescriber> {
  if (target.kind === 'embedded') return new EmbeddedDescriber(target.path);
  const { KafkaDescriber } = await import('./kafka/describe.ts');
  return new KafkaDescriber(target);
}

/** `onLog` hears of joining and leaving the group and of trouble with brokers; the embedded log has none of these. */
export async function openConsumer(
  target: LogTarget,
  placement: ConsumerPlacement,
  onLog: GroupLog = () => {},
): Promise<LogConsumer> {
  if (target.kind === 'embedded') return openEmbeddedConsumer({ ...target, ...placement });
  const { openKafkaConsumer } = await import('./kafka/consumer.ts');
  return openKafkaConsumer(target, placement, onLog);
}
