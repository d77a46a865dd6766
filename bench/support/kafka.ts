// Three real brokers for a bench, and `ess` aimed at them.

import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { kafkaTarget } from '../../src/config/kafka.ts';
import { loadConfig } from '../../src/config/load.ts';
import { EssError } from '../../src/errors.ts';
import type { KafkaTarget } from '../../src/log/kafka/target.ts';
import { KafkaCluster, kafkaAvailable } from '../../test/support/kafka_cluster.ts';

export type Flags = Readonly<Record<string, string | number>>;

/** Said where there is no Kafka; null if it can be started. */
export function kafkaMissing(): string | null {
  return kafkaAvailable() ? null : 'needs Kafka and Java: node scripts/kafka.mjs 3.7.0';
}

const replicationFactor = 3;
const minInsyncReplicas = 2;

/** For the heads of benches. */
export const brokersMethod = `three Kafka brokers, replication factor ${replicationFactor}, min.insync.replicas ${minInsyncReplicas}`;

export class BenchKafka {
  readonly cluster: KafkaCluster;

  private constructor(cluster: KafkaCluster) {
    this.cluster = cluster;
  }

  /** Node folders are made in os.tmpdir(). */
  static async start(): Promise<BenchKafka> {
    return new BenchKafka(await KafkaCluster.start({ nodes: replicationFactor, jvm: 'throughput' }));
  }

  get brokers(): string {
    return this.cluster.brokers.join(',');
  }

  get pids(): number[] {
    return this.cluster.nodes.flatMap(({ pid }) => (pid === undefined ? [] : [pid]));
  }

  /** The flags with which an `ess` uses this topic, and a group of the same name. */
  flags(topic: string, partitions: number): Flags {
    return {
      'kafka-brokers': this.brokers,
      'kafka-topic': topic,
      'kafka-group': topic,
      'kafka-replication-factor': replicationFactor,
      'kafka-min-insync-replicas': minInsyncReplicas,
      partitions,
    };
  }

  /** A topic as `ess init` makes it, but for a peer. */
  async createTopic(topic: string, partitions: number): Promise<void> {
    await this.cluster.createTopic({
      topic,
      partitions,
      replicationFactor,
      config: { 'min.insync.replicas': String(minInsyncReplicas) },
    });
  }

  /** Records that were ever written to the topic. */
  async records(topic: string, partitions: number): Promise<number> {
    let records = 0;
    for (let partition = 0; partition < partitions; partition += 1)
      records += (await this.cluster.offsets(topic, partition)).end;
    return records;
  }
}

/** What these flags make of Kafka, for a log handle of the bench's own. */
export function kafkaTargetOf(flags: Flags): KafkaTarget {
  const target = kafkaTarget(loadConfig(argvOf(flags), {}, 2));
  if (target === null) throw new EssError('bad_option', 'the flags name no Kafka brokers');
  return target;
}

/** Runs `ess init` with these flags; rejects with its output if it does not end well. */
export async function runInit(flags: Flags): Promise<void> {
  const entry = fileURLToPath(new URL('./ess.js', import.meta.url));
  const argv = ['--enable-source-maps', entry, 'init', ...argvOf(flags)];
  const child = spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (chunk: string) => {
      output += chunk;
    });
  }
  const code = await new Promise((resolve) => child.once('close', resolve));
  if (code !== 0) throw new Error(`ess init ended with ${code}:\n${output}`);
}

function argvOf(flags: Flags): string[] {
  return Object.entries(flags).flatMap(([name, value]) => [`--${name}`, String(value)]);
}
