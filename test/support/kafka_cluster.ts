// Real Kafka for tests: combined controllers and brokers from the jars that scripts/kafka.mjs fetches, on free ports
// of the loopback address, in a temporary folder. The nodes can be killed, paused and started again one by one; they
// die with the thread that started them, however it ends.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type ClusterView,
  KafkaAdmin,
  KafkaRefusal,
  kafkaErrors,
  type PartitionView,
} from './kafka_admin.ts';
import { endTurn, takeTurn } from './turn.ts';

export type KafkaVersion = '3.7.0' | '4.1.0';

/** How long a start, a stop, or a change of the cluster may take on a slow, busy machine, ms. */
const patienceMs = 120_000;
const pollMs = 50;
/** Lines of a node's output that are kept for failure messages. */
const outputLinesMax = 200;
/**
 * Heartbeats refused in a row after which a node that is starting is started anew: if the controllers change their
 * leader while it registers, the registration may be lost, and the node never asks for another.
 */
const staleBeatsMax = 4;
/** Tries to find ports that nobody takes between our look and the node's start. */
const startsMax = 3;

/**
 * Below the range from which Linux takes the local ports of outgoing connections: else one of those might hold the
 * port of a killed node when it starts again.
 */
const portMin = 20_000;
const portMax = 32_000;

export interface KafkaClusterOptions {
  /** Default 3. */
  readonly nodes?: number;
  /** Default 3.7.0. */
  readonly version?: KafkaVersion;
  /** Added to every node's server.properties; they win over those of this file. */
  readonly properties?: Readonly<Record<string, string>>;
  /** Adds a listener that asks for this user by PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512. No `,[]=` in either. */
  readonly sasl?: { readonly username: string; readonly password: string };
  /** Adds a TLS listener (and with `sasl` one that has both); `required` asks the clients for certificates. */
  readonly tls?: { readonly clientAuth: 'none' | 'required' };
  /**
   * `quick_start` (default): 512 MiB, simple compiler. `throughput`: 1 GiB, all compilers; starts in about twice the
   * time, for benches.
   */
  readonly jvm?: 'quick_start' | 'throughput';
  /** The nodes listen on every address and advertise this one, in a network of their own. Default: 127.0.0.1 alone. */
  readonly host?: string;
}

/** PEM texts: what a client needs for the TLS listeners, and the names of the files that hold them. */
export interface KafkaCertificates {
  readonly ca: string;
  /** Of a client, signed by the same authority. */
  readonly cert: string;
  readonly key: string;
  readonly files: { readonly ca: string; readonly cert: string; readonly key: string };
}

type ListenerName = 'plaintext' | 'sasl' | 'tls' | 'sasl_tls';

const securityProtocols: Readonly<Record<ListenerName, string>> = {
  plaintext: 'PLAINTEXT',
  sasl: 'SASL_PLAINTEXT',
  tls: 'SSL',
  sasl_tls: 'SASL_SSL',
};

const homeOf = (version: KafkaVersion): string => resolve('.cache/tools', `kafka-${version}`);

/** True if these versions (default 3.7.0) and a Java to run them are here. */
export function kafkaAvailable(...versions: readonly KafkaVersion[]): boolean {
  const wanted: readonly KafkaVersion[] = versions.length === 0 ? ['3.7.0'] : versions;
  return (
    wanted.every((version) => existsSync(join(homeOf(version), 'whole.json'))) &&
    spawnSync('java', ['-version'], { stdio: 'ignore' }).status === 0
  );
}

/**
 * Options for a test or a suite that needs Kafka: it is skipped, and that is said loudly, where Kafka cannot be had.
 * With ESS_REQUIRE_ALL=1 that is a failure.
 */
export function needsKafka(...versions: readonly KafkaVersion[]): { readonly skip: string | false } {
  if (kafkaAvailable(...versions)) return { skip: false };
  const why = 'Java or the jars of Apache Kafka are missing (node scripts/kafka.mjs fetches them)';
  assert.notEqual(process.env['ESS_REQUIRE_ALL'], '1', `${why}, and ESS_REQUIRE_ALL=1`);
  console.error(`SKIPPED: ${why}`);
  return { skip: why };
}

/** Ports that are free now, all different. */
export async function freePorts(count: number): Promise<number[]> {
  const ports = new Set<number>();
  while (ports.size < count) {
    const port = portMin + Math.floor(Math.random() * (portMax - portMin));
    const server = createServer();
    const isFree = await new Promise<boolean>((settle) => {
      server.once('error', () => settle(false));
      server.listen(port, '127.0.0.1', () => settle(true));
    });
    if (isFree) {
      ports.add(port);
      await new Promise((settle) => server.close(settle));
    }
  }
  return [...ports];
}

/** The lines of a Java properties file: a backslash would otherwise escape what follows it. */
const propertiesText = (properties: Readonly<Record<string, string>>): string =>
  Object.entries(properties)
    .map(([name, value]) => `${name}=${value.replaceAll('\\', '\\\\')}\n`)
    .join('');

const javaQuoted = (text: string): string => `"${text.replace(/[\\"]/g, '\\$&')}"`;

function must(command: string, args: readonly string[], cwd: string): void {
  const { status, error, stderr } = spawnSync(command, args, { cwd, encoding: 'utf8', timeout: patienceMs });
  assert.equal(status, 0, `${command} ${args.join(' ')}: ${error?.message ?? stderr}`);
}

/** An authority, a certificate of the nodes and one of a client, all in `folder`. */
function makeCertificates(folder: string): KafkaCertificates {
  mkdirSync(folder);
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  const days = ['-days', '30'];
  const self = ['req', '-x509', ...key, ...days, '-subj', '/CN=test authority'];
  must('openssl', [...self, '-keyout', 'ca.key', '-out', 'ca.pem'], folder);
  for (const [name, names] of [
    ['node', 'subjectAltName=IP:127.0.0.1,DNS:localhost'],
    ['client', 'subjectAltName=DNS:client'],
  ] as const) {
    const asked = ['req', ...key, '-subj', `/CN=${name}`, '-keyout', `${name}.key`, '-out', `${name}.csr`];
    must('openssl', asked, folder);
    writeFileSync(join(folder, `${name}.ext`), `${names}\n`);
    const signer = ['-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-extfile', `${name}.ext`];
    must(
      'openssl',
      ['x509', '-req', '-in', `${name}.csr`, ...signer, ...days, '-out', `${name}.pem`],
      folder,
    );
  }
  const read = (name: string): string => readFileSync(join(folder, name), 'utf8');
  // Kafka wants the private key and the chain in one file.
  writeFileSync(join(folder, 'node_store.pem'), read('node.key') + read('node.pem'));
  return {
    ca: read('ca.pem'),
    cert: read('client.pem'),
    key: read('client.key'),
    files: {
      ca: join(folder, 'ca.pem'),
      cert: join(folder, 'client.pem'),
      key: join(folder, 'client.key'),
    },
  };
}

/** One process: a broker that is a controller, too. Its index is its id in the cluster. */
export class KafkaNode {
  readonly index: number;
  /** Of the plaintext listener, on 127.0.0.1. */
  readonly port: number;
  /** Its data: one folder a partition. */
  readonly folder: string;
  readonly #arguments: readonly string[];
  readonly #output: string[] = [];
  #child: ChildProcess | null = null;
  #isPaused = false;

  /** Made by KafkaCluster.start. */
  constructor(index: number, port: number, folder: string, javaArguments: readonly string[]) {
    this.index = index;
    this.port = port;
    this.folder = folder;
    this.#arguments = javaArguments;
  }

  /** host:port of the plaintext listener. */
  get broker(): string {
    return `127.0.0.1:${this.port}`;
  }

  /** True while its process is there, paused or not. */
  get isRunning(): boolean {
    return this.#child !== null && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  get isPaused(): boolean {
    return this.isRunning && this.#isPaused;
  }

  /** Process id; undefined if it does not run. */
  get pid(): number | undefined {
    return this.isRunning ? this.#child?.pid : undefined;
  }

  /** The last lines that it wrote. */
  get output(): string {
    return this.#output.join('\n');
  }

  /** Starts the process, without waiting for anything. */
  launch(): void {
    if (this.isRunning) return;
    this.#isPaused = false;
    this.#removeUnnamed();
    // The kernel kills the node when the thread that started it ends: a killed test leaves no node behind.
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', 'java', ...this.#arguments], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    child.once('error', (error) => this.#output.push(error.message));
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (chunk: string) => {
        this.#output.push(...chunk.trimEnd().split('\n'));
        this.#output.splice(0, this.#output.length - outputLinesMax);
      });
    }
    this.#child = child;
  }

  /** Waits until it serves requests; throws with its output if it ends before, or takes too long. */
  async ready(): Promise<void> {
    const admin = new KafkaAdmin(this.port);
    const untilMs = Date.now() + patienceMs;
    for (;;) {
      try {
        // The listener opens only when the controller has taken the broker up.
        if ((await admin.view([])).nodes.includes(this.index)) return;
      } catch (error) {
        if (!(error instanceof KafkaRefusal)) throw error;
      }
      if (!this.isRunning) throw new Error(`Kafka node ${this.index} ended:\n${this.output}`);
      if (this.output.split('STALE_BROKER_EPOCH').length > staleBeatsMax) {
        await this.kill();
        this.#output.length = 0;
        this.launch();
      }
      if (Date.now() > untilMs) throw new Error(`Kafka node ${this.index} did not start:\n${this.output}`);
      await sleep(pollMs);
    }
  }

  /** SIGKILL; settles when the process has ended. */
  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  /** SIGKILL, without waiting: for a process that is just ending. */
  signalKill(): void {
    if (this.isRunning) this.#child?.kill('SIGKILL');
  }

  /** SIGTERM: gives its partitions away in order, which needs a controller that works. */
  async stop(): Promise<void> {
    this.resume();
    await this.#end('SIGTERM');
  }

  /** Frozen, with its connections open: what a peer sees of a machine that hangs. */
  pause(): void {
    if (this.isRunning) this.#isPaused = this.#child?.kill('SIGSTOP') === true;
  }

  resume(): void {
    if (this.isPaused) this.#child?.kill('SIGCONT');
    this.#isPaused = false;
  }

  /**
   * Starts it again on the same ports and data, and waits until it serves requests. One that still runs is killed
   * before. After a kill that takes as long as the controller still believes in the dead one: 4 to 7 s.
   */
  async restart(): Promise<void> {
    await this.kill();
    this.launch();
    await this.ready();
  }

  /**
   * Kafka 3.7.0 refuses to start ("does not have a topic ID", KAFKA-16814) when a kill came between its making a
   * partition's folder and its writing the topic's id there. The id is written before the first record is, so such
   * a folder is empty: the node makes it anew.
   */
  #removeUnnamed(): void {
    for (const name of readdirSync(this.folder)) {
      const folder = join(this.folder, name);
      // Partitions only: not the metadata's own log, nor the plain files.
      if (!/-\d+$/.test(name) || name.startsWith('__cluster_metadata')) continue;
      if (existsSync(join(folder, 'partition.metadata'))) continue;
      const logs = readdirSync(folder).filter((file) => file.endsWith('.log'));
      if (logs.every((file) => statSync(join(folder, file)).size === 0)) rmSync(folder, { recursive: true });
    }
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    if (child === null || !this.isRunning) return;
    const timer = setTimeout(() => child.kill('SIGKILL'), patienceMs);
    const ended = once(child, 'exit');
    child.kill(signal);
    await ended;
    clearTimeout(timer);
    if (signal === 'SIGTERM' && child.signalCode === 'SIGKILL')
      throw new Error(`Kafka node ${this.index} did not stop:\n${this.output}`);
  }
}

export interface TopicOptions {
  readonly topic: string;
  /** Default 1. */
  readonly partitions?: number;
  /** Default 3, or as many as there are nodes. */
  readonly replicationFactor?: number;
  readonly config?: Readonly<Record<string, string>>;
}

/**
 * A running cluster. Everything that asks it something tries again, at any node that is not down, until it is
 * answered, and throws after two minutes with the nodes' output.
 */
export class KafkaCluster {
  readonly version: KafkaVersion;
  readonly nodes: readonly KafkaNode[];
  /** host:port of every node, by listener; only those asked for. */
  readonly listeners: Readonly<Partial<Record<ListenerName, readonly string[]>>>;
  /** Null without TLS. */
  readonly certificates: KafkaCertificates | null;
  /** The temporary folder. */
  readonly folder: string;
  readonly #onExit: () => void;

  private constructor(
    version: KafkaVersion,
    nodes: readonly KafkaNode[],
    listeners: Readonly<Partial<Record<ListenerName, readonly string[]>>>,
    certificates: KafkaCertificates | null,
    folder: string,
  ) {
    this.version = version;
    this.nodes = nodes;
    this.listeners = listeners;
    this.certificates = certificates;
    this.folder = folder;
    this.#onExit = () => {
      // First, since a node that still writes would make its folder anew.
      for (const node of nodes) node.signalKill();
      rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
    };
    process.once('exit', this.#onExit);
  }

  /**
   * Starts the nodes and waits until each of them knows all, and consumer groups have a coordinator. Auto-creation of
   * topics and unclean leader elections are off; with three nodes or more, topics have min.insync.replicas=2; a dead
   * node loses its partitions after 4 s, and 3 s later if it led the controllers.
   */
  static async start(options: KafkaClusterOptions = {}): Promise<KafkaCluster> {
    await takeTurn();
    for (let attempt = 1; ; attempt += 1) {
      const cluster = await KafkaCluster.#prepare(options).catch((error: unknown) => {
        endTurn();
        throw error;
      });
      try {
        for (const node of cluster.nodes) node.launch();
        await Promise.all(cluster.nodes.map((node) => node.ready()));
        await cluster.coordinatorOf('any');
        await cluster.untilHealthy('__consumer_offsets');
        return cluster;
      } catch (error) {
        const isPortTaken = cluster.nodes.some((node) => /BindException|already in use/.test(node.output));
        await cluster.dispose();
        if (!isPortTaken || attempt === startsMax) throw error;
        await takeTurn();
      }
    }
  }

  static async #prepare(options: KafkaClusterOptions): Promise<KafkaCluster> {
    const { version = '3.7.0' } = options;
    const home = homeOf(version);
    assert.ok(existsSync(join(home, 'whole.json')), `no Kafka ${version}: run node scripts/kafka.mjs`);
    const folder = mkdtempSync(join(tmpdir(), 'ess-kafka-'));
    try {
      return await KafkaCluster.#prepareIn(folder, options);
    } catch (error) {
      rmSync(folder, { recursive: true, force: true });
      throw error;
    }
  }

  static async #prepareIn(folder: string, options: KafkaClusterOptions): Promise<KafkaCluster> {
    const {
      nodes: count = 3,
      version = '3.7.0',
      properties = {},
      sasl,
      tls,
      jvm = 'quick_start',
      host,
    } = options;
    const home = homeOf(version);
    const certificates = tls === undefined ? null : makeCertificates(join(folder, 'tls'));

    const names: readonly ListenerName[] = [
      'plaintext',
      ...(sasl === undefined ? [] : ['sasl' as const]),
      ...(tls === undefined ? [] : ['tls' as const]),
      ...(sasl === undefined || tls === undefined ? [] : ['sasl_tls' as const]),
    ];
    const perNode = names.length + 1;
    const ports = await freePorts(count * perNode);
    const portOf = (node: number, listener: number): number => ports[node * perNode + listener] ?? 0;
    const replicas = String(Math.min(3, count));
    const inSyncMin = count >= 3 ? '2' : '1';
    const listener = (name: string): string => name.toUpperCase();
    const indexes = Array.from({ length: count }, (_, index) => index);

    const common: Record<string, string> = {
      'process.roles': 'broker,controller',
      'controller.listener.names': 'CONTROLLER',
      'controller.quorum.voters': indexes
        .map((node) => `${node}@127.0.0.1:${portOf(node, names.length)}`)
        .join(','),
      'inter.broker.listener.name': 'PLAINTEXT',
      'listener.security.protocol.map': [
        'CONTROLLER:PLAINTEXT',
        ...names.map((name) => `${listener(name)}:${securityProtocols[name]}`),
      ].join(','),
      // Elections are settled sooner; a candidate still gets the default time to be heard.
      'controller.quorum.election.backoff.max.ms': '200',
      'broker.session.timeout.ms': '4000',
      'broker.heartbeat.interval.ms': '500',
      'replica.lag.time.max.ms': '10000',
      'min.insync.replicas': inSyncMin,
      'default.replication.factor': replicas,
      'auto.create.topics.enable': 'false',
      'unclean.leader.election.enable': 'false',
      // Only an operator, that is a test, moves leaders back.
      'auto.leader.rebalance.enable': 'false',
      'group.initial.rebalance.delay.ms': '0',
      'group.min.session.timeout.ms': '1000',
      'offsets.topic.num.partitions': '4',
      'offsets.topic.replication.factor': replicas,
      'transaction.state.log.num.partitions': '4',
      'transaction.state.log.replication.factor': replicas,
      'transaction.state.log.min.isr': inSyncMin,
      // 128 MiB of heap by default, from the start.
      'log.cleaner.dedupe.buffer.size': '4194304',
    };
    if (sasl !== undefined) {
      const { username, password } = sasl;
      const plain = 'org.apache.kafka.common.security.plain.PlainLoginModule required';
      const scram = 'org.apache.kafka.common.security.scram.ScramLoginModule required;';
      common['sasl.enabled.mechanisms'] = 'PLAIN,SCRAM-SHA-256,SCRAM-SHA-512';
      for (const name of names.filter((each) => each.startsWith('sasl'))) {
        const user = javaQuoted(password);
        common[`listener.name.${name}.plain.sasl.jaas.config`] = `${plain} user_${username}=${user};`;
        common[`listener.name.${name}.scram-sha-256.sasl.jaas.config`] = scram;
        common[`listener.name.${name}.scram-sha-512.sasl.jaas.config`] = scram;
      }
    }
    if (tls !== undefined) {
      common['ssl.keystore.type'] = 'PEM';
      common['ssl.keystore.location'] = join(folder, 'tls/node_store.pem');
      common['ssl.truststore.type'] = 'PEM';
      common['ssl.truststore.location'] = join(folder, 'tls/ca.pem');
      // Per listener: the general option is overruled for a SASL_SSL listener by its protocol's default.
      for (const name of names.filter((each) => each.endsWith('tls')))
        common[`listener.name.${name}.ssl.client.auth`] = tls.clientAuth;
    }

    const jars = readdirSync(join(home, 'libs')).sort();
    const classPath = jars.map((name) => join(home, 'libs', name)).join(':');
    const temporary = join(folder, 'tmp');
    mkdirSync(temporary);
    const java = [
      ...(jvm === 'quick_start'
        ? ['-Xmx512m', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1']
        : ['-Xmx1g', '-XX:+UseG1GC']),
      `-XX:SharedArchiveFile=${join(home, 'classes.jsa')}`,
      '-Xshare:auto',
      '-XX:-UsePerfData',
      // Compression libraries unpack themselves there.
      `-Djava.io.tmpdir=${temporary}`,
      '-Dorg.slf4j.simpleLogger.defaultLogLevel=warn',
      '-Dorg.slf4j.simpleLogger.showDateTime=true',
      '-cp',
      classPath,
    ];
    // A first character of its own: one of them in 64 would be a dash, and StorageTool take the id for an option.
    const clusterId = `e${randomBytes(16).toString('base64url').slice(1)}`;
    const nodes = indexes.map((index) => {
      const data = join(folder, `node${index}`);
      mkdirSync(data);
      const file = join(folder, `node${index}.properties`);
      const endpointsAt = (address: string): string[] =>
        names.map((name, i) => `${listener(name)}://${address}:${portOf(index, i)}`);
      const controller = `CONTROLLER://127.0.0.1:${portOf(index, names.length)}`;
      const own = {
        'node.id': String(index),
        listeners: [...endpointsAt(host === undefined ? '127.0.0.1' : '0.0.0.0'), controller].join(','),
        'advertised.listeners': endpointsAt(host ?? '127.0.0.1').join(','),
        'log.dirs': data,
      };
      writeFileSync(file, propertiesText({ ...common, ...own, ...properties }));
      if (sasl === undefined) {
        // What StorageTool writes, without the second that a Java takes to start.
        copyFileSync(join(home, 'bootstrap.checkpoint'), join(data, 'bootstrap.checkpoint'));
        const directoryId = randomBytes(16).toString('base64url');
        writeFileSync(
          join(data, 'meta.properties'),
          propertiesText({
            version: '1',
            'cluster.id': clusterId,
            'node.id': String(index),
            'directory.id': directoryId,
          }),
        );
      } else {
        const user = `name=${sasl.username},password=${sasl.password}`;
        const scram = ['SHA-256', 'SHA-512'].flatMap((hash) => ['--add-scram', `SCRAM-${hash}=[${user}]`]);
        const format = ['kafka.tools.StorageTool', 'format', '-t', clusterId, '-c', file, ...scram];
        must('java', [...java, ...format], folder);
      }
      return new KafkaNode(index, portOf(index, 0), data, [...java, 'kafka.Kafka', file]);
    });
    const listeners = Object.fromEntries(
      names.map((name, i) => [name, indexes.map((index) => `127.0.0.1:${portOf(index, i)}`)]),
    );
    return new KafkaCluster(version, nodes, listeners, certificates, folder);
  }

  /** host:port of every node's plaintext listener. */
  get brokers(): string[] {
    return this.nodes.map((node) => node.broker);
  }

  node(index: number): KafkaNode {
    const node = this.nodes[index];
    assert.ok(node !== undefined, `there is no node ${index}`);
    return node;
  }

  /** The output of every node, for failure messages. */
  get output(): string {
    return this.nodes
      .map((node) => `--- node ${node.index}, ${node.isRunning ? 'running' : 'down'}\n${node.output}`)
      .join('\n');
  }

  /** Index of the partition's leader as the cluster believes: it may have died just now. -1: there is none. */
  async leaderOf(topic: string, partition: number): Promise<number> {
    return (await this.partition(topic, partition)).leader;
  }

  /** Index of the partition's leader as soon as that is another than `from`. */
  async untilLeaderMoved(topic: string, partition: number, from: number): Promise<number> {
    return this.#until(`another leader than ${from} for ${topic}-${partition}`, async (admin) => {
      const leader = partitionOf(await admin.view([topic]), topic, partition)?.leader ?? -1;
      return leader === -1 || leader === from ? undefined : leader;
    });
  }

  /** A partition as the cluster sees it. */
  async partition(topic: string, partition: number): Promise<PartitionView> {
    return this.#until(`${topic}-${partition} to be known`, async (admin) =>
      partitionOf(await admin.view([topic]), topic, partition),
    );
  }

  /** Index of the node that coordinates this consumer group. */
  async coordinatorOf(group: string): Promise<number> {
    return this.#until(`the coordinator of ${group}`, (admin) => admin.coordinatorOf(group));
  }

  /** Index of the node that leads the controllers. */
  async controller(): Promise<number> {
    return this.#until('a controller', async (admin) => {
      const leader = await admin.controller();
      return leader === -1 ? undefined : leader;
    });
  }

  /** The topic's id, 32 hex digits; undefined if there is no such topic. */
  async topicId(topic: string): Promise<string | undefined> {
    const found = await this.#until('an answer', async (admin) => ({ view: await admin.view([topic]) }));
    return found.view.topics.get(topic)?.id;
  }

  /** Settles when every running node knows the topic and its leaders; gives its id. */
  async createTopic(options: TopicOptions): Promise<string> {
    const {
      topic,
      partitions = 1,
      replicationFactor = Math.min(3, this.nodes.length),
      config = {},
    } = options;
    await this.#until(`${topic} to be created`, async (admin, attempt) => {
      // Exists: an earlier try went through, unless this is the first.
      const accepted = attempt === 1 ? [] : [kafkaErrors.topicExists];
      await accepting(accepted, () => admin.createTopic(topic, partitions, replicationFactor, config));
      return true;
    });
    await this.untilHealthy(topic, partitions);
    return (await this.topicId(topic)) ?? '';
  }

  /** Settles when no running node knows it any more. */
  async deleteTopic(topic: string): Promise<void> {
    await this.#until(`${topic} to be deleted`, async (admin, attempt) => {
      const accepted = attempt === 1 ? [] : [kafkaErrors.unknownTopic];
      await accepting(accepted, () => admin.deleteTopic(topic));
      return true;
    });
    await this.#everywhere(`${topic} to be gone`, (view) => !view.topics.has(topic), [topic]);
  }

  /** Raises the number of partitions to `count`. */
  async createPartitions(topic: string, count: number): Promise<void> {
    await this.#until(`${topic} to have ${count} partitions`, async (admin) => {
      const now = (await admin.view([topic])).topics.get(topic)?.partitions.length;
      if (now !== count) await admin.createPartitions(topic, count);
      return true;
    });
    await this.untilHealthy(topic, count);
  }

  /** Makes a node lead a partition of which it has a replica; settles when all running nodes know. */
  async moveLeader(topic: string, partition: number, node: number): Promise<void> {
    const { replicas } = await this.partition(topic, partition);
    assert.ok(replicas.includes(node), `node ${node} has no replica of ${topic}-${partition}`);
    const wanted = [node, ...replicas.filter((replica) => replica !== node)];
    await this.#until(`${topic}-${partition} to prefer node ${node}`, async (admin) => {
      await admin.setReplicas(topic, partition, wanted);
      return true;
    });
    const leads = (view: ClusterView): boolean => partitionOf(view, topic, partition)?.leader === node;
    await this.#until(`node ${node} to lead ${topic}-${partition}`, async (admin) => {
      const view = await admin.view([topic]);
      if (partitionOf(view, topic, partition)?.replicas[0] !== node) return undefined;
      if (!leads(view)) await admin.electLeader(topic, partition);
      return true;
    });
    await this.#everywhere(`node ${node} to lead ${topic}-${partition}`, leads, [topic]);
  }

  /** Sets these options of a topic, null for the default again, and leaves the others. Nodes learn it soon after. */
  async setConfig(topic: string, config: Readonly<Record<string, string | null>>): Promise<void> {
    await this.#until(`${topic} to be configured`, async (admin) => {
      await admin.setConfig(topic, config);
      return true;
    });
  }

  /** Drops the records before `offset` (-1: all that are there); gives the partition's new first offset. */
  async deleteRecords(topic: string, partition: number, offset: number): Promise<number> {
    return this.#until(`${topic}-${partition} to be cut`, async () =>
      (await this.#leader(topic, partition))?.deleteRecords(topic, partition, offset),
    );
  }

  /** The first offset that is still there, and the next one that readers will get. */
  async offsets(topic: string, partition: number): Promise<{ readonly start: number; readonly end: number }> {
    return this.#until(`the offsets of ${topic}-${partition}`, async () => {
      const leader = await this.#leader(topic, partition);
      if (leader === undefined) return undefined;
      const start = await leader.offset(topic, partition, -2);
      return { start, end: await leader.offset(topic, partition, -1) };
    });
  }

  /** Refused while the group has members: a commit from outside would go against theirs. */
  async setGroupOffset(
    group: string,
    topic: string,
    partition: number,
    offset: number,
    metadata = '',
  ): Promise<void> {
    await this.#until(`the offset of ${group} to be set`, async () => {
      const coordinator = this.node(await this.coordinatorOf(group));
      await new KafkaAdmin(coordinator.port).setGroupOffset(group, topic, partition, offset, metadata);
      return true;
    });
  }

  /** What a group has committed; offset -1 if nothing. */
  async groupOffset(
    group: string,
    topic: string,
    partition: number,
  ): Promise<{ readonly offset: number; readonly metadata: string }> {
    return this.#until(`the offset of ${group}`, async () => {
      const coordinator = this.node(await this.coordinatorOf(group));
      return new KafkaAdmin(coordinator.port).groupOffset(group, topic, partition);
    });
  }

  /**
   * Settles when every running node sees the topic, of so many partitions if given, with each partition led by a
   * running node and all its replicas in sync.
   */
  async untilHealthy(topic: string, partitions?: number): Promise<void> {
    const isUp = (id: number): boolean => {
      const node = this.nodes[id];
      return node?.isRunning === true && !node.isPaused;
    };
    await this.#everywhere(
      `${topic} to be healthy`,
      (view) => {
        const known = view.topics.get(topic)?.partitions;
        if (known === undefined || (partitions !== undefined && known.length !== partitions)) return false;
        return known.every(
          ({ leader, replicas, inSync }) => isUp(leader) && inSync.length === replicas.length,
        );
      },
      [topic],
    );
  }

  /** Kills all nodes and removes their folder. */
  async dispose(): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.kill()));
    process.removeListener('exit', this.#onExit);
    this.#onExit();
    if (!this.#isDisposed) endTurn();
    this.#isDisposed = true;
  }
  #isDisposed = false;

  /** The nodes that can be asked. */
  #askable(): readonly KafkaNode[] {
    return this.nodes.filter((node) => node.isRunning && !node.isPaused);
  }

  async #leader(topic: string, partition: number): Promise<KafkaAdmin | undefined> {
    const node = this.nodes[await this.leaderOf(topic, partition)];
    return node === undefined ? undefined : new KafkaAdmin(node.port);
  }

  /** Asks one node after another until one gives a value; throws at once what cannot be tried again. */
  async #until<T>(
    what: string,
    tryOnce: (admin: KafkaAdmin, attempt: number) => Promise<T | undefined>,
  ): Promise<T> {
    const untilMs = Date.now() + patienceMs;
    let reason = 'no node runs';
    for (let attempt = 1; Date.now() < untilMs; attempt += 1) {
      const askable = this.#askable();
      const node = askable[attempt % Math.max(1, askable.length)];
      try {
        const value = node === undefined ? undefined : await tryOnce(new KafkaAdmin(node.port), attempt);
        if (value !== undefined) return value;
      } catch (error) {
        if (!(error instanceof KafkaRefusal) || !error.canRetry) throw error;
        reason = error.message;
      }
      await sleep(pollMs);
    }
    throw new Error(`waited in vain for ${what}: ${reason}\n${this.output}`);
  }

  /** Waits until it holds in the view of every node that can be asked. */
  async #everywhere(
    what: string,
    holds: (view: ClusterView) => boolean,
    topics: readonly string[],
  ): Promise<void> {
    let seen = '';
    const untilMs = Date.now() + patienceMs;
    while (Date.now() < untilMs) {
      try {
        const views = await Promise.all(
          this.#askable().map((node) => new KafkaAdmin(node.port).view(topics)),
        );
        if (views.length > 0 && views.every(holds)) return;
        seen = JSON.stringify(views.map((view) => [view.nodes, [...view.topics]]));
      } catch (error) {
        if (!(error instanceof KafkaRefusal) || !error.canRetry) throw error;
        seen = error.message;
      }
      await sleep(pollMs);
    }
    throw new Error(`waited in vain for ${what}: ${seen}\n${this.output}`);
  }
}

function partitionOf(view: ClusterView, topic: string, partition: number): PartitionView | undefined {
  return view.topics.get(topic)?.partitions.find((each) => each.partition === partition);
}

async function accepting(codes: readonly number[], action: () => Promise<void>): Promise<void> {
  try {
    await action();
  } catch (error) {
    if (!(error instanceof KafkaRefusal) || !codes.includes(error.code)) throw error;
  }
}
