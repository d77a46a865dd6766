// A whole cluster for tests: three real brokers, ClickHouse nodes over the real engine, and any number of ESS
// processes in front of them. One rig serves the tests of a file: each takes a scope of its own, with its own topic,
// group and database, so that what one leaves behind does not meet the next.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { kafkaTarget } from '../../src/config/kafka.ts';
import { loadConfig } from '../../src/config/load.ts';
import type { LogAppender, PartitionState } from '../../src/log/log.ts';
import { openAppender } from '../../src/log/open.ts';
import { openStore } from '../../src/store/client.ts';
import type { Store } from '../../src/store/store.ts';
import type { Journal } from '../crash/journal.ts';
import { ClickHouseNode } from '../support/clickhouse_node.ts';
import { EssProcess } from '../support/ess_process.ts';
import { KafkaCluster } from '../support/kafka_cluster.ts';

/** How long a cluster may take to come to rest on a slow, busy machine, ms. */
const patienceMs = 180_000;

export interface RigOptions {
  /** Default 2. */
  readonly shards?: number;
  /** Ports over each shard's engine, which stand for its replicas. Default 2. */
  readonly replicas?: 1 | 2;
  /** Brokers. Default 3. */
  readonly brokers?: number;
  /** Added to every broker's server.properties. */
  readonly properties?: Readonly<Record<string, string>>;
  /** The brokers listen for this user, too (`kafka.listeners.sasl`). */
  readonly sasl?: { readonly username: string; readonly password: string };
}

export type Flags = Readonly<Record<string, string | number>>;

export class ClusterRig {
  readonly kafka: KafkaCluster;
  /** By shard. */
  readonly nodes: readonly ClickHouseNode[];
  #scopes = 0;

  private constructor(kafka: KafkaCluster, nodes: readonly ClickHouseNode[]) {
    this.kafka = kafka;
    this.nodes = nodes;
  }

  static async start(options: RigOptions = {}): Promise<ClusterRig> {
    const { shards = 2, replicas = 2, brokers = 3, properties = {}, sasl } = options;
    const nodes: ClickHouseNode[] = [];
    const starting = KafkaCluster.start({
      nodes: brokers,
      properties,
      ...(sasl === undefined ? {} : { sasl }),
    });
    try {
      for (let shard = 0; shard < shards; shard += 1) {
        nodes.push(
          await ClickHouseNode.start({ replicas, isReplicated: replicas > 1, shard: `0${shard + 1}` }),
        );
      }
      return new ClusterRig(await starting, nodes);
    } catch (error) {
      for (const node of nodes) await node.dispose();
      await (await starting.catch(() => null))?.dispose();
      throw error;
    }
  }

  /** `--clickhouse`: all nodes. */
  get clickhouse(): string {
    return clickhouseOf(this.nodes);
  }

  /** A topic, a group and a database that nobody else uses, made by `ess init`. `nodes`: by shard; default all. */
  async scope(flags: Flags = {}, nodes = this.nodes): Promise<Scope> {
    this.#scopes += 1;
    const scope = new Scope(this, `t${this.#scopes}`, flags, nodes);
    await scope.init();
    return scope;
  }

  async dispose(): Promise<void> {
    await this.kafka.dispose();
    for (const node of this.nodes) await node.dispose();
  }
}

/** One test's part of the cluster, and the ESS processes that it started. */
export class Scope {
  readonly rig: ClusterRig;
  readonly topic: string;
  readonly group: string;
  readonly database: string;
  readonly processes: EssProcess[] = [];
  /** How many shards there have been, one after the other. */
  readonly counts: number[];
  #nodes: readonly ClickHouseNode[];
  #flags: Flags;

  constructor(rig: ClusterRig, name: string, flags: Flags, nodes: readonly ClickHouseNode[]) {
    this.rig = rig;
    this.counts = [nodes.length];
    this.#nodes = nodes;
    this.topic = `events-${name}`;
    this.group = `group-${name}`;
    this.database = `db_${name}`;
    this.#flags = {
      'kafka-brokers': rig.kafka.brokers.join(','),
      'kafka-topic': this.topic,
      'kafka-group': this.group,
      'kafka-replication-factor': Math.min(3, rig.kafka.brokers.length),
      // Which replica comes first must not depend on the machine's name.
      'sink-ordinal': 0,
      'kafka-min-insync-replicas': Math.min(2, rig.kafka.brokers.length),
      'kafka-session-timeout-ms': 10_000,
      partitions: 12,
      clickhouse: clickhouseOf(nodes),
      'clickhouse-database': this.database,
      'clickhouse-request-timeout-ms': 5_000,
      ...flags,
    };
  }

  /** By shard. */
  get nodes(): readonly ClickHouseNode[] {
    return this.#nodes;
  }

  /** Given to every process of the scope. */
  get flags(): Flags {
    return this.#flags;
  }

  /** From now on processes are given these nodes as shards. */
  grow(nodes: readonly ClickHouseNode[]): void {
    this.#nodes = nodes;
    this.#flags = { ...this.#flags, clickhouse: clickhouseOf(nodes) };
    this.counts.push(nodes.length);
  }

  /** Runs `ess init` with these flags added; rejects with its output if it does not end with 0. */
  async init(more: readonly string[] = []): Promise<string> {
    const { code, output } = await this.tryInit(more);
    assert.equal(code, 0, `ess init: ${output}`);
    return output;
  }

  /** Runs `ess init` with these flags added; gives its exit code and what it wrote. */
  async tryInit(
    more: readonly string[] = [],
  ): Promise<{ readonly code: number | null; readonly output: string }> {
    const argv = Object.entries(this.flags).flatMap(([name, value]) => [`--${name}`, String(value)]);
    const entry = fileURLToPath(new URL('./ess.js', import.meta.url));
    const child = spawn(process.execPath, ['--enable-source-maps', entry, 'init', ...argv, ...more], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk: Buffer) => {
        output += chunk.toString();
      });
    }
    const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
    return { code, output };
  }

  /** Starts `ess serve` in this role. */
  async start(
    role: 'all' | 'ingest' | 'sink',
    more: {
      readonly flags?: Flags;
      readonly env?: Readonly<Record<string, string>>;
      readonly dataDir?: string;
    } = {},
  ): Promise<EssProcess> {
    const { flags = {}, ...options } = more;
    const process = await EssProcess.start({ flags: { ...this.flags, role, ...flags }, ...options });
    this.processes.push(process);
    return process;
  }

  /** A handle on the topic, for looking at it. The caller closes it. */
  openLog(): Promise<LogAppender> {
    const argv = Object.entries(this.flags).flatMap(([name, value]) => [`--${name}`, String(value)]);
    const target = kafkaTarget(loadConfig(argv, {}, 2));
    assert.ok(target !== null);
    return openAppender(target);
  }

  /** A handle on each shard's engine. The caller closes them. */
  openStores(): Promise<Store[]> {
    return Promise.all(
      this.nodes.map((node) => {
        const [target] = node.targets(this.database);
        assert.ok(target !== undefined);
        return openStore(target);
      }),
    );
  }

  /** Waits until every record is in the ledger and the group's positions are at the log's ends. */
  async drained(waitMs = patienceMs): Promise<readonly PartitionState[]> {
    const log = await this.openLog();
    const stores = await this.openStores();
    const untilMs = Date.now() + waitMs;
    try {
      for (;;) {
        const states = await log.states();
        const nexts = await ledgerEnds(stores, log.epoch);
        const behind = states.flatMap(({ end, committed }, partition) =>
          committed === end && (nexts.get(partition) ?? 0) === end
            ? []
            : [{ partition, end, committed, ledger: nexts.get(partition) ?? 0 }],
        );
        if (behind.length === 0) return states;
        if (Date.now() > untilMs) {
          const output = this.processes.map((process) => process.output.slice(-30).join('')).join('\n--\n');
          assert.fail(`not drained: ${JSON.stringify(behind)}\n${output}`);
        }
        await sleep(100);
      }
    } finally {
      for (const store of stores) await store.close();
      await log.close();
    }
  }

  /**
   * Waits until everything is stored, then holds every promise of the journal against topic, ledger and tables.
   * `earlier`: epochs of topics of the same name that are gone.
   */
  async hold(journal: Journal, waitMs = patienceMs, earlier: readonly string[] = []): Promise<void> {
    const states = await this.drained(waitMs);
    const log = await this.openLog();
    const stores = await this.openStores();
    try {
      const letters = await log.deadLetters(1_000_000);
      await journal.hold(
        stores,
        log.epoch,
        states.map(({ end }) => end),
        letters,
        earlier,
        this.counts,
      );
    } finally {
      for (const store of stores) await store.close();
      await log.close();
    }
  }

  /** Ends every process of the scope that still runs. */
  async end(signal: 'SIGTERM' | 'SIGKILL' = 'SIGKILL'): Promise<void> {
    await Promise.all(
      this.processes.map(async (process) => {
        process.child.kill('SIGCONT');
        await process.end(signal);
        await process.dispose();
      }),
    );
  }
}

/** First offset past the ledger, by partition, over all shards. */
async function ledgerEnds(stores: readonly Store[], epoch: string): Promise<Map<number, number>> {
  const all = await Promise.all(
    stores.map((store) =>
      store.rows<{ partition: number; next: string }>(
        `SELECT l.partition AS partition, max(l.last) + 1 AS next FROM ledger AS l FINAL
         WHERE l.epoch = {epoch:String} GROUP BY l.partition`,
        { epoch },
      ),
    ),
  );
  const ends = new Map<number, number>();
  for (const { partition, next } of all.flat())
    ends.set(Number(partition), Math.max(Number(next), ends.get(Number(partition)) ?? 0));
  return ends;
}

/** `--clickhouse` for these shards. */
export function clickhouseOf(nodes: readonly ClickHouseNode[]): string {
  return nodes.map((node) => node.urls.join(',')).join(';');
}
