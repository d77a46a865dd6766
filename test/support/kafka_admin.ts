// Administers the Kafka nodes of a test: what kafkajs's Admin cannot do (topic ids, the quorum's leader, leader
// elections). What moves events is not used for it, so that a test does not believe the code that it is about. Every request
// is one plaintext connection to one node, so that a node which was killed or paused costs a bounded wait and leaves nothing
// behind.

import { connect } from 'node:net';
import { alterConfigsCall, configResources } from '../../src/log/kafka/wire/alter_configs.ts';

/** Numbers of the requests, with the version used: each is "flexible" and known to Kafka 3.7 and 4.1. */
const requests = {
  listOffsets: [2, 7],
  metadata: [3, 12],
  offsetCommit: [8, 8],
  offsetFetch: [9, 8],
  findCoordinator: [10, 4],
  createTopics: [19, 7],
  deleteTopics: [20, 6],
  deleteRecords: [21, 2],
  createPartitions: [37, 3],
  electLeaders: [43, 2],
  alterPartitionReassignments: [45, 0],
  describeQuorum: [55, 1],
} as const;

/** Kafka's error codes that this file knows by name. */
export const kafkaErrors = {
  none: 0,
  unknownTopic: 3,
  leaderNotAvailable: 5,
  notLeader: 6,
  requestTimedOut: 7,
  networkException: 13,
  coordinatorLoading: 14,
  coordinatorNotAvailable: 15,
  notCoordinator: 16,
  topicExists: 36,
  notController: 41,
  electionNotNeeded: 84,
} as const;

/** Another try, or another node, may do better. */
const canRetry: ReadonlySet<number> = new Set([
  kafkaErrors.leaderNotAvailable,
  kafkaErrors.notLeader,
  kafkaErrors.requestTimedOut,
  kafkaErrors.networkException,
  kafkaErrors.coordinatorLoading,
  kafkaErrors.coordinatorNotAvailable,
  kafkaErrors.notCoordinator,
  kafkaErrors.notController,
]);

/** What a request that a node refused fails with. */
export class KafkaRefusal extends Error {
  override readonly name = 'KafkaRefusal';
  /** Kafka's number of the error. */
  readonly code: number;

  constructor(request: string, code: number, detail: string | null) {
    super(`${request}: Kafka error ${code}${detail === null ? '' : `: ${detail}`}`);
    this.code = code;
  }

  get canRetry(): boolean {
    return canRetry.has(this.code);
  }
}

/** Writes a request of a flexible version. */
class RequestWriter {
  readonly #parts: Buffer[] = [];

  int8(value: number): this {
    return this.#add(1, (bytes) => bytes.writeInt8(value));
  }

  int16(value: number): this {
    return this.#add(2, (bytes) => bytes.writeInt16BE(value));
  }

  int32(value: number): this {
    return this.#add(4, (bytes) => bytes.writeInt32BE(value));
  }

  int64(value: number): this {
    return this.#add(8, (bytes) => bytes.writeBigInt64BE(BigInt(value)));
  }

  boolean(value: boolean): this {
    return this.int8(value ? 1 : 0);
  }

  varint(value: number): this {
    let rest = value;
    for (; rest > 127; rest >>>= 7) this.#parts.push(Buffer.of((rest & 127) | 128));
    this.#parts.push(Buffer.of(rest));
    return this;
  }

  string(value: string | null): this {
    if (value === null) return this.varint(0);
    const bytes = Buffer.from(value);
    this.varint(bytes.length + 1);
    this.#parts.push(bytes);
    return this;
  }

  /** Structures end with tagged fields: none here. */
  array<T>(items: readonly T[] | null, write: (item: T) => void): this {
    this.varint(items === null ? 0 : items.length + 1);
    for (const item of items ?? []) {
      write(item);
      this.end();
    }
    return this;
  }

  int32s(items: readonly number[]): this {
    this.varint(items.length + 1);
    for (const item of items) this.int32(item);
    return this;
  }

  zeros(count: number): this {
    this.#parts.push(Buffer.alloc(count));
    return this;
  }

  bytes(value: Buffer): this {
    this.#parts.push(value);
    return this;
  }

  /** No tagged fields. */
  end(): this {
    return this.varint(0);
  }

  toBuffer(): Buffer {
    return Buffer.concat(this.#parts);
  }

  #add(size: number, write: (bytes: Buffer) => void): this {
    const bytes = Buffer.alloc(size);
    write(bytes);
    this.#parts.push(bytes);
    return this;
  }
}

/** Reads an answer of a flexible version. */
class AnswerReader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  int8(): number {
    this.#at += 1;
    return this.#bytes.readInt8(this.#at - 1);
  }

  int16(): number {
    this.#at += 2;
    return this.#bytes.readInt16BE(this.#at - 2);
  }

  int32(): number {
    this.#at += 4;
    return this.#bytes.readInt32BE(this.#at - 4);
  }

  int64(): number {
    this.#at += 8;
    return Number(this.#bytes.readBigInt64BE(this.#at - 8));
  }

  boolean(): boolean {
    return this.int8() !== 0;
  }

  varint(): number {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = this.#bytes.readUInt8(this.#at);
      this.#at += 1;
      value |= (byte & 127) << shift;
      if (byte < 128) return value >>> 0;
    }
  }

  string(): string | null {
    const length = this.varint();
    if (length === 0) return null;
    this.#at += length - 1;
    return this.#bytes.toString('utf8', this.#at - length + 1, this.#at);
  }

  text(): string {
    return this.string() ?? '';
  }

  /** 16 bytes as 32 hex digits. */
  uuid(): string {
    this.#at += 16;
    return this.#bytes.toString('hex', this.#at - 16, this.#at);
  }

  array<T>(read: () => T): T[] {
    const count = this.varint();
    const items: T[] = [];
    for (let i = 1; i < count; i += 1) {
      items.push(read());
      this.end();
    }
    return items;
  }

  int32s(): number[] {
    const count = this.varint();
    const items: number[] = [];
    for (let i = 1; i < count; i += 1) items.push(this.int32());
    return items;
  }

  /** Skips tagged fields. */
  end(): void {
    for (let left = this.varint(); left > 0; left -= 1) {
      this.varint();
      const size = this.varint();
      this.#at += size;
    }
  }
}

/** A node's view of a partition. Nodes are named by their ids; leader -1 if there is none. */
export interface PartitionView {
  readonly partition: number;
  readonly leader: number;
  readonly leaderEpoch: number;
  readonly replicas: readonly number[];
  readonly inSync: readonly number[];
}

/** A node's view of the cluster. */
export interface ClusterView {
  /** Ids of the nodes that the cluster takes for alive. */
  readonly nodes: readonly number[];
  readonly topics: ReadonlyMap<
    string,
    { readonly id: string; readonly partitions: readonly PartitionView[] }
  >;
}

/**
 * One request to the node that listens on this port of the loopback address; gives its answer after the correlation id.
 * `rest`: what follows the client id in the request's header, and the body.
 */
function exchange(
  port: number,
  { name, key, version }: { readonly name: string; readonly key: number; readonly version: number },
  rest: Buffer,
  waitMs: number,
): Promise<Buffer> {
  const header = new RequestWriter().int16(key).int16(version).int32(1).int16(-1).toBuffer();
  const size = Buffer.alloc(4);
  size.writeInt32BE(header.length + rest.length);
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1');
    const chunks: Buffer[] = [];
    let received = 0;
    const fail = (why: string): void => {
      clearTimeout(timer);
      socket.destroy();
      reject(new KafkaRefusal(`${name} to port ${port}`, kafkaErrors.networkException, why));
    };
    const timer = setTimeout(() => fail(`no answer within ${waitMs} ms`), waitMs);
    socket.once('error', (error) => fail(error.message));
    socket.once('close', () => fail('the connection was closed'));
    socket.once('connect', () => socket.write(Buffer.concat([size, header, rest])));
    socket.on('data', (chunk) => {
      chunks.push(chunk);
      received += chunk.length;
      if (received < 4) return;
      const all = Buffer.concat(chunks);
      const length = all.readInt32BE(0);
      if (received < 4 + length) return;
      clearTimeout(timer);
      socket.removeAllListeners('close');
      socket.destroy();
      resolve(all.subarray(8, 4 + length));
    });
  });
}

/** Throws what a node answered, unless that is no error. */
function check(
  request: string,
  code: number,
  detail: string | null = null,
  ...accepted: readonly number[]
): void {
  if (code !== kafkaErrors.none && !accepted.includes(code)) throw new KafkaRefusal(request, code, detail);
}

/**
 * Requests to one node, by its port. Each settles within `waitMs`, by default 5 s, and throws KafkaRefusal. Nothing is
 * tried again here: the cluster (kafka_cluster.ts) does that, and chooses the node.
 */
export class KafkaAdmin {
  readonly #port: number;
  readonly #waitMs: number;

  constructor(port: number, waitMs = 5000) {
    this.#port = port;
    this.#waitMs = waitMs;
  }

  /** The topics named, or all of them; unknown ones are left out. */
  async view(topics: readonly string[] | null): Promise<ClusterView> {
    const body = new RequestWriter();
    body.array(topics, (topic) => body.zeros(16).string(topic));
    const answer = await this.#ask('metadata', body.boolean(false).boolean(false));
    answer.int32();
    const nodes = answer.array(() => {
      const node = answer.int32();
      answer.string();
      answer.int32();
      answer.string();
      return node;
    });
    answer.string();
    answer.int32();
    const known: [string, { id: string; partitions: PartitionView[] }][] = [];
    answer.array(() => {
      const code = answer.int16();
      const topic = answer.text();
      const id = answer.uuid();
      answer.boolean();
      const partitions = answer.array(() => {
        answer.int16();
        const view = {
          partition: answer.int32(),
          leader: answer.int32(),
          leaderEpoch: answer.int32(),
          replicas: answer.int32s(),
          inSync: answer.int32s(),
        };
        answer.int32s();
        return view;
      });
      answer.int32();
      check('metadata', code, topic, kafkaErrors.unknownTopic, kafkaErrors.leaderNotAvailable);
      if (code !== kafkaErrors.unknownTopic) known.push([topic, { id, partitions }]);
    });
    return { nodes, topics: new Map(known) };
  }

  /** Id of the node that coordinates a consumer group. */
  async coordinatorOf(group: string): Promise<number> {
    const body = new RequestWriter().int8(0).varint(2).string(group);
    const answer = await this.#ask('findCoordinator', body);
    answer.int32();
    const [found] = answer.array(() => {
      answer.string();
      const node = answer.int32();
      answer.string();
      answer.int32();
      check('findCoordinator', answer.int16(), answer.string());
      return node;
    });
    return found ?? -1;
  }

  /** Id of the node that leads the controllers' quorum. */
  async controller(): Promise<number> {
    const body = new RequestWriter();
    body.array(['__cluster_metadata'], (topic) => {
      body.string(topic).array([0], (partition) => body.int32(partition));
    });
    const answer = await this.#ask('describeQuorum', body);
    check('describeQuorum', answer.int16());
    // Read by hand, since only the first fields of the only partition matter.
    answer.varint();
    answer.string();
    answer.varint();
    answer.int32();
    check('describeQuorum', answer.int16());
    return answer.int32();
  }

  async createTopic(
    topic: string,
    partitions: number,
    replicas: number,
    config: Readonly<Record<string, string>>,
  ): Promise<void> {
    const body = new RequestWriter();
    body.array([topic], (name) => {
      body.string(name).int32(partitions).int16(replicas).varint(1);
      body.array(Object.entries(config), ([key, value]) => body.string(key).string(value));
    });
    const answer = await this.#ask('createTopics', body.int32(this.#waitMs).boolean(false));
    answer.int32();
    answer.varint();
    answer.string();
    answer.uuid();
    check('createTopics', answer.int16(), answer.string());
  }

  async deleteTopic(topic: string): Promise<void> {
    const body = new RequestWriter();
    body.array([topic], (name) => body.string(name).zeros(16));
    const answer = await this.#ask('deleteTopics', body.int32(this.#waitMs));
    answer.int32();
    answer.varint();
    answer.string();
    answer.uuid();
    check('deleteTopics', answer.int16(), answer.string());
  }

  /** Raises the number of partitions to `count`. */
  async createPartitions(topic: string, count: number): Promise<void> {
    const body = new RequestWriter();
    body.array([topic], (name) => body.string(name).int32(count).varint(0));
    const answer = await this.#ask('createPartitions', body.int32(this.#waitMs).boolean(false));
    answer.int32();
    answer.varint();
    answer.string();
    check('createPartitions', answer.int16(), answer.string());
  }

  /** Sets these options of a topic and leaves the others; null takes the option's default again. */
  async setConfig(topic: string, config: Readonly<Record<string, string | null>>): Promise<void> {
    const configs = new Map(Object.entries(config));
    const { request, response } = alterConfigsCall([{ type: configResources.topic, name: topic, configs }]);
    const { apiKey: key, apiVersion: version, apiName: name } = request;
    const { buffer } = await request.encode();
    const raw = await exchange(this.#port, { name, key, version }, buffer, this.#waitMs);
    const { answer } = await response.decode(raw);
    for (const { errorCode, errorMessage } of answer) check(name, errorCode, errorMessage);
  }

  /** Asked of the partition's leader: drops the records before `offset`; gives the new first offset. */
  async deleteRecords(topic: string, partition: number, offset: number): Promise<number> {
    const body = new RequestWriter();
    body.array([topic], (name) => {
      body.string(name).array([partition], (index) => body.int32(index).int64(offset));
    });
    const answer = await this.#ask('deleteRecords', body.int32(this.#waitMs));
    answer.int32();
    answer.varint();
    answer.string();
    answer.varint();
    answer.int32();
    const first = answer.int64();
    check('deleteRecords', answer.int16());
    return first;
  }

  /** Asked of the partition's leader. -2: the first offset, -1: the next one to be read (the high watermark). */
  async offset(topic: string, partition: number, which: -2 | -1): Promise<number> {
    const body = new RequestWriter().int32(-1).int8(0);
    body.array([topic], (name) => {
      body.string(name).array([partition], (index) => body.int32(index).int32(-1).int64(which));
    });
    const answer = await this.#ask('listOffsets', body);
    answer.int32();
    answer.varint();
    answer.string();
    answer.varint();
    answer.int32();
    check('listOffsets', answer.int16());
    answer.int64();
    return answer.int64();
  }

  /** Asked of the group's coordinator. Refused while the group has members. */
  async setGroupOffset(
    group: string,
    topic: string,
    partition: number,
    offset: number,
    metadata: string,
  ): Promise<void> {
    const body = new RequestWriter().string(group).int32(-1).string('').string(null);
    body.array([topic], (name) => {
      body.string(name).array([partition], (index) => {
        body.int32(index).int64(offset).int32(-1).string(metadata);
      });
    });
    const answer = await this.#ask('offsetCommit', body);
    answer.int32();
    answer.varint();
    answer.string();
    answer.varint();
    answer.int32();
    check('offsetCommit', answer.int16());
  }

  /** Asked of the group's coordinator; offset -1 if none was committed. */
  async groupOffset(
    group: string,
    topic: string,
    partition: number,
  ): Promise<{ readonly offset: number; readonly metadata: string }> {
    const body = new RequestWriter();
    body.array([group], (name) => {
      body.string(name).array([topic], (asked) => body.string(asked).int32s([partition]));
    });
    const answer = await this.#ask('offsetFetch', body.boolean(false));
    answer.int32();
    let position = { offset: -1, metadata: '' };
    answer.array(() => {
      answer.string();
      answer.array(() => {
        answer.string();
        answer.array(() => {
          answer.int32();
          const offset = answer.int64();
          answer.int32();
          position = { offset, metadata: answer.text() };
          check('offsetFetch', answer.int16());
        });
      });
      check('offsetFetch', answer.int16());
    });
    return position;
  }

  /** Puts a partition on these nodes; the first is the one that should lead it. */
  async setReplicas(topic: string, partition: number, nodes: readonly number[]): Promise<void> {
    const body = new RequestWriter().int32(this.#waitMs);
    body.array([topic], (name) => {
      body.string(name).array([partition], (index) => body.int32(index).int32s(nodes));
    });
    const answer = await this.#ask('alterPartitionReassignments', body);
    answer.int32();
    check('alterPartitionReassignments', answer.int16(), answer.string());
    answer.varint();
    answer.string();
    answer.varint();
    answer.int32();
    check('alterPartitionReassignments', answer.int16(), answer.string());
  }

  /** Makes the first replica of a partition its leader. */
  async electLeader(topic: string, partition: number): Promise<void> {
    const body = new RequestWriter().int8(0);
    body.array([topic], (name) => body.string(name).int32s([partition]));
    const answer = await this.#ask('electLeaders', body.int32(this.#waitMs));
    answer.int32();
    check('electLeaders', answer.int16());
    answer.array(() => {
      answer.string();
      answer.array(() => {
        answer.int32();
        check('electLeaders', answer.int16(), answer.string(), kafkaErrors.electionNotNeeded);
      });
    });
  }

  async #ask(request: keyof typeof requests, body: RequestWriter): Promise<AnswerReader> {
    const [key, version] = requests[request];
    const rest = new RequestWriter().end().bytes(body.end().toBuffer()).toBuffer();
    const raw = await exchange(this.#port, { name: request, key, version }, rest, this.#waitMs);
    const answer = new AnswerReader(raw);
    answer.end();
    return answer;
  }
}
