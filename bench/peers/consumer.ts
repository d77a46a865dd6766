// The consumer that bench:sink is measured by: aiokafka into a table like that of the service which ESS replaces.

import { resolve } from 'node:path';
import { Program } from '../support/program.ts';
import { peersPython } from './servers.ts';

export interface ConsumerOptions {
  /** host:port, comma-separated. */
  readonly brokers: string;
  readonly topic: string;
  readonly partitions: number;
  readonly group: string;
  /** Most records of an INSERT. */
  readonly batchRows: number;
  /** URL of the node. */
  readonly clickhouse: string;
  /** With its database. */
  readonly table: string;
}

/** For the events of shape `peer`. A plain table, as in that service's fastest run: nothing is deduplicated. */
export function createConsumerTable(table: string): string {
  return `CREATE TABLE ${table} (
    id String, user_id String, type String, timestamp DateTime, payload String,
    ingest_time DateTime, store_time DateTime
  ) ENGINE = MergeTree PARTITION BY toYYYYMM(ingest_time) ORDER BY (id, store_time)`;
}

export function startConsumer(options: ConsumerOptions): Program {
  return new Program({
    file: peersPython,
    argv: [resolve('bench/peers/consumer.py')],
    env: {
      KAFKA: options.brokers,
      TOPIC: options.topic,
      PARTITIONS: String(options.partitions),
      GROUP: options.group,
      BATCH: String(options.batchRows),
      CLICKHOUSE: options.clickhouse,
      TABLE: options.table,
    },
  });
}

/** Waits until it begins with the first record; gives when that was, epoch ms. */
export function consumerStarted(consumer: Program): Promise<number> {
  return consumer.until(() => {
    const seconds = /^START ([\d.]+)$/m.exec(consumer.output)?.[1];
    return seconds === undefined ? null : Number(seconds) * 1000;
  });
}
