// From the configuration to how the log and the store are reached, in the form in which it travels to worker threads.
// Runs once, at start, on the main thread: files with secrets are read here and nowhere else.

import { clickhouseNodes } from '../config/clickhouse.ts';
import { kafkaTarget } from '../config/kafka.ts';
import type { Config } from '../config/options.ts';
import type { LogTarget } from '../log/open.ts';
import type { StoreLayout } from '../store/store.ts';

/** Kafka where brokers are configured, else the log below the data directory. */
export function logTargetOf(config: Config, path: string): LogTarget {
  const kafka = kafkaTarget(config);
  if (kafka !== null) return kafka;
  return {
    kind: 'embedded',
    path,
    partitions: config.partitions,
    bytesMax: config.logBytesMax,
    retentionMs: config.logRetentionMs,
    retentionBytes: config.logRetentionBytes,
  };
}

/** ClickHouse nodes where they are configured, else the store below the data directory. */
export function storeLayoutOf(config: Config, path: string): StoreLayout {
  const nodes = clickhouseNodes(config);
  if (nodes === null) return { shards: [[{ kind: 'embedded', path }]] };
  return {
    shards: nodes.map((replicas) =>
      replicas.map(({ url, user, password, database, tlsCa, compression }) => ({
        kind: 'http',
        url,
        user,
        password,
        database,
        tls: tlsCa === '' ? null : { ca: tlsCa },
        isCompressed: compression === 'gzip',
      })),
    ),
  };
}
