// Entry of the process that holds Kafka and the ClickHouse nodes for two_machines.test.ts, in a network namespace: they
// take every address there, and are known by the one given as argument. One line of JSON (Services) when all are ready;
// ends with its standard input.

import { ClickHouseNode } from '../support/clickhouse_node.ts';
import { KafkaCluster } from '../support/kafka_cluster.ts';

/** What --kafka-brokers and --clickhouse are on the machines. */
export interface Services {
  readonly brokers: string;
  readonly clickhouse: string;
}

const host = process.argv[2] ?? '127.0.0.1';
const starting = KafkaCluster.start({ host });
const shards: ClickHouseNode[] = [];
for (const shard of ['01', '02'])
  shards.push(await ClickHouseNode.start({ replicas: 2, isReplicated: true, shard, host: '0.0.0.0' }));
const kafka = await starting;
process.stdin.resume().once('end', async () => {
  for (const service of [kafka, ...shards]) await service.dispose();
  process.exit();
});
const services: Services = {
  brokers: kafka.brokers.join(','),
  clickhouse: shards.map(({ urls }) => urls.join(',')).join(';'),
};
console.log(JSON.stringify(services).replaceAll('127.0.0.1', host));
