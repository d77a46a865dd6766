// Opens the log that the configuration names. The only place that knows which drivers there are.

import { openEmbeddedAppender, openEmbeddedConsumer } from './embedded/open.ts';
import type { LogAppender, LogConsumer } from './log.ts';

/** How to reach the log; travels to worker threads as it is. */
export type LogTarget = {
  readonly kind: 'embedded';
  readonly path: string;
  readonly partitions: number;
  readonly bytesMax: number;
  readonly retentionMs: number;
  readonly retentionBytes: number;
};

export function openAppender(target: LogTarget): Promise<LogAppender> {
  return openEmbeddedAppender(target);
}

/** The consumer of sink thread `index` of `count`. `pollMs` 0 where the producers' doorbell tells of new records. */
export function openConsumer(
  target: LogTarget,
  placement: { readonly index: number; readonly count: number; readonly pollMs: number },
): Promise<LogConsumer> {
  return openEmbeddedConsumer({ ...target, ...placement });
}
