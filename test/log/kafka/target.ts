// A target for tests: how to reach a topic of a test cluster, with the names that the test chooses.

import type { KafkaTarget } from '../../../src/log/kafka/target.ts';

/** Session 6 s, 16 MiB of fetched records, events of 1 MB; what is given wins. */
export function targetOf(
  brokers: readonly string[],
  topic: string,
  changes: Partial<KafkaTarget> = {},
): KafkaTarget {
  return {
    kind: 'kafka',
    brokers,
    topic,
    deadLetterTopic: `${topic}-dead-letters`,
    group: `${topic}-group`,
    tls: null,
    sasl: null,
    compression: 'none',
    minInsyncReplicas: 2,
    appendDeadlineMs: 20_000,
    sessionTimeoutMs: 6_000,
    fetchBytesMax: 16 * 1024 * 1024,
    eventBytesMax: 1_000_000,
    eventDepthMax: 64,
    ...changes,
  };
}
