// Connections to the brokers of one cluster, for one thread and one purpose: producing, fetching and group membership
// each hold a client of their own, so that a long poll never delays a commit. Runs on the thread that made it. Every
// wait has a deadline: a broker that hangs costs its caller that deadline and its connection, and nobody anything else.
// It never repeats a request: whoever asked knows what a repeat would mean.

import { connect as connectTcp, isIP, type Socket } from 'node:net';
import { performance } from 'node:perf_hooks';
import { connect as connectTls, type ConnectionOptions as TlsOptions } from 'node:tls';
import Broker from 'kafkajs/src/broker/index.js';
import ConnectionPool, {
  type Connection,
  type Logger,
  type RawAnswer,
  type SocketRequest,
} from 'kafkajs/src/network/connectionPool.js';
import type { KafkaTarget } from './target.ts';
import type { WireCall } from './wire/call.ts';
import { type ClusterMetadata, metadataCall } from './wire/metadata.ts';

export type { Broker };

/** TCP, TLS, ApiVersions and SASL together, ms: a broker that takes longer is treated as one that is not there. */
const connectTimeoutMs = 5_000;
/** Pause after a connection failed, ms: doubled by each failure in a row up to the bound, so that a broker that is
 * down costs next to nothing, and one that comes back is used within a second. Each pause varies by a fifth. */
const backOffFirstMs = 50;
const backOffMaxMs = 1_000;
/** A metadata request that has no answer after this is asked of the next broker as well, ms. */
const hedgeMs = 500;
/** Age up to which `metadata()` answers from memory unless told otherwise, ms. */
const metadataAgeMaxMs = 30_000;
/** A SASL session is renewed this long before it ends, ms. */
const reauthenticationThresholdMs = 10_000;

const unsupportedVersion = 35;
/** UNSUPPORTED_SASL_MECHANISM, ILLEGAL_SASL_STATE, SASL_AUTHENTICATION_FAILED. */
const saslCodes: ReadonlySet<number | undefined> = new Set([33, 34, 58]);
const groupCoordinatorType = 0;

export interface ClientOptions {
  /** Client id as brokers log it: [A-Za-z0-9._-]. */
  readonly name: string;
  /** Bound on one metadata or coordinator look-up over all brokers, ms. */
  readonly requestTimeoutMs: number;
  readonly onLog?: (
    level: 'debug' | 'info' | 'warn' | 'error',
    message: string,
    fields: Record<string, unknown>,
  ) => void;
}

/** One partition of a topic, as a broker's metadata has it. */
export interface PartitionView {
  readonly partition: number;
  /** Node id; -1 if there is none now. */
  readonly leader: number;
  readonly leaderEpoch: number;
  readonly replicas: readonly number[];
  readonly inSync: readonly number[];
  readonly offline: readonly number[];
}

export interface BrokerView {
  readonly nodeId: number;
  readonly host: string;
  readonly port: number;
}

/** A topic and the brokers of its cluster, as one broker saw them. */
export interface TopicView {
  /** 32 hex digits: another topic of the same name has another one. */
  readonly topicId: string;
  readonly brokers: readonly BrokerView[];
  readonly controllerId: number;
  /** In partition order, without gaps. */
  readonly partitions: readonly PartitionView[];
}

export type KafkaErrorKind = 'unreachable' | 'authentication' | 'timeout' | 'closed' | 'protocol';

/** Why a broker gave no usable answer. Stays inside `log/kafka`, which turns it into an EssError for its callers. */
export class KafkaError extends Error {
  override readonly name = 'KafkaError';
  readonly kind: KafkaErrorKind;
  /** False: the request provably never left this process, so the broker cannot have acted on it. */
  readonly isSent: boolean;
  /** Kafka's error code, for kind `protocol` if the broker gave one. */
  readonly protocolCode?: number;

  constructor(
    kind: KafkaErrorKind,
    isSent: boolean,
    message: string,
    options: { readonly protocolCode?: number; readonly cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.kind = kind;
    this.isSent = isSent;
    if (options.protocolCode !== undefined) this.protocolCode = options.protocolCode;
  }
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** kafkajs names its errors but exports no types for them. */
function nameOf(error: unknown): string {
  return error instanceof Error ? error.name : '';
}

/** The first code of Kafka's in an error of kafkajs; CreateTopics wraps one for each topic. */
function protocolCodeOf(error: unknown): number | undefined {
  if (typeof error !== 'object' || error === null) return undefined;
  if ('code' in error && typeof error.code === 'number') return error.code;
  if ('errors' in error && Array.isArray(error.errors)) {
    for (const inner of error.errors) {
      const code = protocolCodeOf(inner);
      if (code !== undefined) return code;
    }
  }
  return undefined;
}

/** Takes an error of kafkajs's apart. `isSent` is what is known of the request at that moment. */
function toKafkaError(error: unknown, isSent: boolean, address: string): KafkaError {
  if (error instanceof KafkaError) return error;
  const message = `${address}: ${messageOf(error)}`;
  switch (nameOf(error)) {
    case 'KafkaJSSASLAuthenticationError':
      return new KafkaError('authentication', false, message, { cause: error });
    case 'KafkaJSConnectionError':
    case 'KafkaJSConnectionClosedError':
    case 'KafkaJSLockTimeout':
      return new KafkaError('unreachable', isSent, message, { cause: error });
    case 'KafkaJSRequestTimeoutError':
      return new KafkaError('timeout', isSent, message, { cause: error });
    default: {
      const protocolCode = protocolCodeOf(error);
      if (saslCodes.has(protocolCode))
        return new KafkaError('authentication', false, message, { cause: error });
      return new KafkaError('protocol', isSent, message, {
        cause: error,
        ...(protocolCode === undefined ? {} : { protocolCode }),
      });
    }
  }
}

/** A connection that is ready for requests, with the kafkajs broker that speaks over it. */
interface Opened {
  readonly broker: Broker;
  readonly connection: Connection;
}

/** "host:port", "[v6]:port" into its parts. */
function splitAddress(address: string): { host: string; port: number } {
  const colon = address.lastIndexOf(':');
  const host = address.slice(0, colon);
  return { host: host.startsWith('[') ? host.slice(1, -1) : host, port: Number(address.slice(colon + 1)) };
}

const addressOf = (host: string, port: number): string =>
  host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;

/**
 * kafkajs re-arms this timer from itself, with a delay below zero, after the first answer and until the connection
 * ends (https://github.com/tulios/kafkajs/issues/1704): a thousand wake-ups a second for each connection. It is
 * needed only while requests wait for the end of a throttle.
 */
function calmQueue(connection: Connection): void {
  const queue = connection.requestQueue;
  queue.scheduleCheckPendingRequests = () => {
    if (queue.throttleCheckTimeoutId !== null || queue.pending.length === 0) return;
    queue.throttleCheckTimeoutId = setTimeout(
      () => {
        queue.throttleCheckTimeoutId = null;
        queue.checkPendingRequests();
      },
      Math.max(queue.throttledUntil - Date.now(), 1),
    );
  };
}

/** Ends a connection at once, whatever it is doing: what waits for an answer on it is rejected with `error`. */
function destroy(connection: Connection, error: KafkaError): void {
  const isConnecting = connection.connectionStatus !== 'connected';
  connection.connectionStatus = 'disconnected';
  connection.requestQueue.rejectAll(error);
  connection.requestQueue.destroy();
  connection.authHandlers?.onError();
  // kafkajs ends the timer of an attempt to connect only when the socket says that it failed.
  connection.socket?.destroy(isConnecting ? error : undefined);
}

/** What a link needs of the client that owns it. */
interface LinkOwner {
  readonly target: KafkaTarget;
  readonly name: string;
  readonly logger: Logger;
  readonly tls: TlsOptions | null;
  bounded<T>(work: Promise<T>, ms: number, late: () => KafkaError, isSent?: () => boolean): Promise<T>;
}

/** At most one connection to one address, opened when needed and never reused once in doubt. */
class Link {
  readonly address: string;
  readonly #owner: LinkOwner;
  #opened: Opened | null = null;
  #connecting: Promise<Opened> | null = null;
  #connectingTo: Connection | null = null;
  #failures = 0;
  /** No new connection before this, by the monotonic clock. */
  #notBeforeMs = 0;
  #lastError: KafkaError | null = null;
  /** Requests under way or waiting. */
  #users = 0;

  constructor(owner: LinkOwner, address: string) {
    this.#owner = owner;
    this.address = address;
  }

  get isOpen(): boolean {
    return this.#opened !== null && this.#opened.connection.connectionStatus === 'connected';
  }

  /** True while a new connection would have to wait. */
  get isBackingOff(): boolean {
    return !this.isOpen && performance.now() < this.#notBeforeMs;
  }

  get isIdle(): boolean {
    return this.#users === 0;
  }

  /** Ends the connection, if there is one; the next request opens another. */
  end(error: KafkaError): void {
    const opened = this.#opened;
    this.#opened = null;
    if (opened !== null) destroy(opened.connection, error);
    if (this.#connectingTo !== null) destroy(this.#connectingTo, error);
  }

  async reach(deadlineMs: number): Promise<void> {
    this.#users += 1;
    try {
      await this.#open(deadlineMs);
    } finally {
      this.#users -= 1;
    }
  }

  /** Sends one request of ours; settles by `deadlineMs` of the monotonic clock. */
  async exchange<T>(call: WireCall<T>, deadlineMs: number): Promise<T> {
    this.#users += 1;
    try {
      return await this.#exchange(call, deadlineMs);
    } finally {
      this.#users -= 1;
    }
  }

  /** Lets `work` speak through kafkajs's broker; settles by `deadlineMs` of the monotonic clock. */
  async use<T>(work: (broker: Broker) => Promise<T>, deadlineMs: number): Promise<T> {
    this.#users += 1;
    try {
      const opened = await this.#open(deadlineMs);
      return await this.#answerOf(opened, work(opened.broker), deadlineMs, () => true);
    } finally {
      this.#users -= 1;
    }
  }

  async #exchange<T>(call: WireCall<T>, deadlineMs: number): Promise<T> {
    const { request, response } = call;
    const opened = await this.#open(deadlineMs);
    const { broker, connection } = opened;
    const range = broker.versions?.[request.apiKey];
    if (
      range === undefined ||
      request.apiVersion < range.minVersion ||
      request.apiVersion > range.maxVersion
    ) {
      const speaks = range === undefined ? 'none' : `${range.minVersion}..${range.maxVersion}`;
      throw new KafkaError(
        'protocol',
        false,
        `${this.address}: ESS speaks ${request.apiName} version ${request.apiVersion}, this broker speaks ${speaks}: Kafka 2.8 or later is needed`,
        { protocolCode: unsupportedVersion },
      );
    }
    const payload = await request.encode();
    let isSent = false;
    const raw = new Promise<RawAnswer>((resolve, reject) => {
      const { socket, clientId } = connection;
      // What was awaited above gave the connection time to end.
      if (socket === undefined || connection.connectionStatus !== 'connected') {
        reject(new KafkaError('unreachable', false, `${this.address}: the connection ended`));
        return;
      }
      const correlationId = connection.nextCorrelationId();
      const nameBytes = Buffer.byteLength(clientId);
      // size, api key, api version, correlation id, client id: request header v1. Written apart from the payload,
      // which kafkajs would copy twice.
      const header = Buffer.allocUnsafe(14 + nameBytes);
      header.writeInt32BE(10 + nameBytes + payload.buffer.length, 0);
      header.writeInt16BE(request.apiKey, 4);
      header.writeInt16BE(request.apiVersion, 6);
      header.writeInt32BE(correlationId, 8);
      header.writeInt16BE(nameBytes, 12);
      header.write(clientId, 14);
      connection.requestQueue.push({
        entry: { ...request, correlationId, resolve, reject },
        expectResponse: true,
        requestTimeout: null,
        sendRequest: () => {
          isSent = true;
          socket.cork();
          socket.write(header);
          socket.write(payload.buffer);
          socket.uncork();
        },
      });
    });
    const { payload: bytes } = await this.#answerOf(opened, raw, deadlineMs, () => isSent);
    try {
      const decoded = await response.decode(bytes);
      connection.requestQueue.maybeThrottle(decoded.clientSideThrottleTime);
      return await response.parse(decoded);
    } catch (error) {
      // Nothing that this connection says can be trusted to be in step any more.
      const broken = toKafkaError(error, true, this.address);
      if (broken.protocolCode === undefined) this.#drop(opened, broken);
      throw broken;
    }
  }

  /** Waits for an answer; past the deadline the connection is destroyed, since its answers come in order. */
  async #answerOf<T>(
    opened: Opened,
    work: Promise<T>,
    deadlineMs: number,
    isSent: () => boolean,
  ): Promise<T> {
    try {
      const late = () => {
        const error = new KafkaError('timeout', isSent(), `${this.address} did not answer in time`);
        this.#drop(opened, error);
        return error;
      };
      return await this.#owner.bounded(work, deadlineMs - performance.now(), late, isSent);
    } catch (error) {
      const failure = toKafkaError(error, isSent(), this.address);
      // One that ended the connection for all says of each whether it had been written.
      if (!failure.isSent || isSent()) throw failure;
      throw new KafkaError(failure.kind, false, failure.message, { cause: failure });
    }
  }

  #drop(opened: Opened, error: KafkaError): void {
    if (this.#opened === opened) this.#opened = null;
    destroy(
      opened.connection,
      new KafkaError('unreachable', true, `${this.address}: the connection was given up`, { cause: error }),
    );
  }

  async #open(deadlineMs: number): Promise<Opened> {
    const opened = this.#opened;
    if (opened !== null && opened.connection.connectionStatus === 'connected') {
      // A session that is about to end is renewed first; without SASL there is nothing to renew.
      if (this.#owner.target.sasl === null || opened.connection.isAuthenticated()) return opened;
      await this.#answerOf(opened, opened.connection.authenticate(), deadlineMs, () => false);
      return opened;
    }
    if (opened !== null) {
      // It ended by itself. Its timers may not have.
      this.#opened = null;
      destroy(
        opened.connection,
        new KafkaError('unreachable', true, `${this.address}: the connection ended`),
      );
    }
    const pauseMs = this.#notBeforeMs - performance.now();
    if (pauseMs > 0 && this.#connecting === null) {
      if (performance.now() + pauseMs >= deadlineMs) throw this.#unreachable();
      let timer: NodeJS.Timeout | undefined;
      const pause = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, pauseMs);
      });
      try {
        await this.#owner.bounded(pause, deadlineMs - performance.now(), () => this.#unreachable());
      } finally {
        clearTimeout(timer);
      }
      return this.#open(deadlineMs);
    }
    this.#connecting ??= this.#connect();
    return this.#owner.bounded(
      this.#connecting,
      deadlineMs - performance.now(),
      () => new KafkaError('unreachable', false, `${this.address}: no connection in time`),
    );
  }

  #unreachable(): KafkaError {
    const last = this.#lastError;
    return new KafkaError(
      last?.kind === 'authentication' ? 'authentication' : 'unreachable',
      false,
      last?.message ?? `${this.address} cannot be reached`,
      { cause: last },
    );
  }

  async #connect(): Promise<Opened> {
    const { target, logger, name, tls } = this.#owner;
    const connectionPool = new ConnectionPool({
      ...splitAddress(this.address),
      rack: null,
      ssl: tls,
      // kafkajs keeps state in this object.
      sasl: target.sasl === null ? null : { ...target.sasl },
      clientId: name,
      socketFactory: openSocket,
      connectionTimeout: connectTimeoutMs,
      // Requests are timed here, where the connection can be destroyed: kafkajs would only stop waiting.
      requestTimeout: connectTimeoutMs,
      enforceRequestTimeout: false,
      maxInFlightRequests: null,
      instrumentationEmitter: null,
      logger,
      reauthenticationThreshold: reauthenticationThresholdMs,
    });
    const connection = connectionPool.pool[0];
    if (connection === undefined)
      throw new KafkaError('unreachable', false, `${this.address}: no connection`);
    calmQueue(connection);
    const broker = new Broker({
      connectionPool,
      logger,
      authenticationTimeout: connectTimeoutMs,
      allowAutoTopicCreation: false,
    });
    this.#connectingTo = connection;
    try {
      await this.#owner.bounded(
        broker.connect(),
        connectTimeoutMs,
        () => new KafkaError('unreachable', false, `${this.address} takes connections but does not answer`),
      );
      this.#opened = { broker, connection };
      this.#failures = 0;
      this.#notBeforeMs = 0;
      this.#lastError = null;
      return this.#opened;
    } catch (error) {
      const failure = toKafkaError(error, false, this.address);
      destroy(connection, failure);
      // Whatever was said on it, it was not the request of anybody who waits for this connection.
      const refused = new KafkaError(
        failure.kind === 'authentication' || failure.kind === 'closed' ? failure.kind : 'unreachable',
        false,
        failure.message,
        { cause: error },
      );
      const pauseMs = Math.min(backOffFirstMs * 2 ** this.#failures, backOffMaxMs);
      this.#failures += 1;
      this.#notBeforeMs = performance.now() + pauseMs * (0.8 + 0.4 * Math.random());
      this.#lastError = refused;
      throw refused;
    } finally {
      this.#connecting = null;
      this.#connectingTo = null;
    }
  }
}

/** kafkajs's own factory leaves Nagle's algorithm on, which holds back a request that follows another. */
function openSocket({ host, port, ssl, onConnect }: SocketRequest): Socket {
  const socket =
    ssl === null
      ? connectTcp({ host, port }, onConnect)
      : connectTls({ host, port, ...(isIP(host) === 0 ? { servername: host } : {}), ...ssl }, onConnect);
  socket.setNoDelay(true);
  socket.setKeepAlive(true, 60_000);
  return socket;
}

interface Remembered {
  readonly view: TopicView;
  readonly atMs: number;
}

/** See the head of this file. Requests for one broker share one connection to it and are answered in order. */
export class KafkaClient implements LinkOwner {
  readonly target: KafkaTarget;
  readonly name: string;
  readonly logger: Logger;
  readonly tls: TlsOptions | null;
  readonly #requestTimeoutMs: number;
  /** By address: what is sent to a broker by its node id. */
  readonly #links = new Map<string, Link>();
  /**
   * By address: questions to any broker. Apart from the others, because a broker answers a connection's requests in
   * order: metadata asked behind an append that waits for replicas would come after it.
   */
  readonly #controlLinks = new Map<string, Link>();
  readonly #addresses = new Map<number, string>();
  readonly #views = new Map<string, Remembered>();
  readonly #asking = new Map<string, Promise<TopicView>>();
  /** By topic: the latest that is known of each partition, which `forget` leaves alone. */
  readonly #latest = new Map<string, Pick<TopicView, 'topicId' | 'partitions'>>();
  /** What `close` has to reject. */
  readonly #waiting = new Set<() => void>();
  #lastAnswering: Link | null = null;
  #isClosed = false;

  /** No I/O. */
  constructor(target: KafkaTarget, options: ClientOptions) {
    this.target = target;
    this.name = options.name;
    this.#requestTimeoutMs = options.requestTimeoutMs;
    const onLog = options.onLog;
    const tell = (message: string, extra: Record<string, unknown> = {}) => {
      const { stack: _, ...fields } = extra;
      onLog?.('debug', message, { client: options.name, ...fields });
    };
    // kafkajs's debug lines are one per request, with the request in it: they go nowhere.
    const logger: Logger = { namespace: () => logger, debug: () => {}, info: tell, warn: tell, error: tell };
    this.logger = logger;
    const { tls } = target;
    this.tls =
      tls === null
        ? null
        : {
            ...(tls.ca === '' ? {} : { ca: tls.ca }),
            ...(tls.cert === '' ? {} : { cert: tls.cert }),
            ...(tls.key === '' ? {} : { key: tls.key }),
          };
  }

  /**
   * The topic (the target's, unless another is named) and the brokers, from memory if not older than `maxAgeMs`
   * (default 30,000), else from whichever broker answers first. Callers at the same time share one question. Rejects
   * with KafkaError: `protocol` with Kafka's code (3: there is no such topic), else why no broker answered.
   */
  async metadata(
    maxAgeMs = metadataAgeMaxMs,
    signal?: AbortSignal,
    topic: string = this.target.topic,
  ): Promise<TopicView> {
    const known = this.#views.get(topic);
    if (known !== undefined && performance.now() - known.atMs < maxAgeMs) return known.view;
    let asking = this.#asking.get(topic);
    if (asking === undefined) {
      asking = this.#ask(topic).finally(() => this.#asking.delete(topic));
      this.#asking.set(topic, asking);
    }
    if (signal === undefined) return asking;
    return abortable(asking, signal);
  }

  /** The next `metadata()` asks anew, for every topic, and not of the broker that answered last: it may lag. */
  forget(): void {
    this.#views.clear();
    this.#lastAnswering = null;
  }

  /** Takes addresses from another client's metadata, so that this one need not ask for them. */
  learn(brokers: readonly BrokerView[]): void {
    for (const { nodeId, host, port } of brokers) this.#addresses.set(nodeId, addressOf(host, port));
  }

  /** Opens the connection to a broker if there is none, within `timeoutMs`: rejects with KafkaError, never sent. */
  async reach(nodeId: number, timeoutMs: number): Promise<void> {
    const deadlineMs = performance.now() + timeoutMs;
    await (await this.#linkOf(nodeId, deadlineMs)).reach(deadlineMs);
  }

  /** True if a request to this broker needs no new connection. */
  isOpen(nodeId: number): boolean {
    const address = this.#addresses.get(nodeId);
    return address !== undefined && (this.#links.get(address)?.isOpen ?? false);
  }

  /** True if requests to this broker would have to wait, because it could not be reached a moment ago. */
  isBackingOff(nodeId: number): boolean {
    const address = this.#addresses.get(nodeId);
    return address !== undefined && (this.#links.get(address)?.isBackingOff ?? false);
  }

  /**
   * Sends one request once. 'any' takes the next broker only as long as nothing was sent. Rejects with KafkaError at
   * the latest `timeoutMs` after the call; a connection whose answer is late is destroyed.
   */
  async send<T>(nodeId: number | 'any', call: WireCall<T>, timeoutMs: number): Promise<T> {
    const deadlineMs = performance.now() + timeoutMs;
    if (nodeId !== 'any') return (await this.#linkOf(nodeId, deadlineMs)).exchange(call, deadlineMs);
    return this.#onAny((link) => link.exchange(call, deadlineMs), deadlineMs);
  }

  /**
   * Requests that kafkajs encodes. An error of Kafka's arrives as KafkaError `protocol` with its code and kafkajs's
   * error as the cause. Past `timeoutMs` it rejects and the connection is destroyed.
   */
  async withBroker<T>(
    nodeId: number | 'any',
    timeoutMs: number,
    work: (broker: Broker) => Promise<T>,
  ): Promise<T> {
    const deadlineMs = performance.now() + timeoutMs;
    if (nodeId !== 'any') return (await this.#linkOf(nodeId, deadlineMs)).use(work, deadlineMs);
    return this.#onAny((link) => link.use(work, deadlineMs), deadlineMs);
  }

  /** Node id of the broker that keeps this consumer group. Rejects with KafkaError, code 15 while there is none. */
  async coordinator(group: string, timeoutMs: number): Promise<number> {
    const deadlineMs = performance.now() + timeoutMs;
    const { coordinator } = await this.#hedged(
      (link) =>
        link.use(
          (broker) => broker.findGroupCoordinator({ groupId: group, coordinatorType: groupCoordinatorType }),
          deadlineMs,
        ),
      deadlineMs,
    );
    this.#addresses.set(coordinator.nodeId, addressOf(coordinator.host, coordinator.port));
    return coordinator.nodeId;
  }

  /** Ends every connection at once and rejects what waits with kind `closed`. */
  async close(): Promise<void> {
    this.#isClosed = true;
    for (const reject of [...this.#waiting]) reject();
    const error = new KafkaError('closed', true, 'the client was closed');
    for (const link of [...this.#links.values(), ...this.#controlLinks.values()]) link.end(error);
    this.#links.clear();
    this.#controlLinks.clear();
  }

  /**
   * Settles as `work` does, or rejects after `ms` or at `close`, whichever is first. `work` itself goes on, unheard.
   */
  bounded<T>(
    work: Promise<T>,
    ms: number,
    late: () => KafkaError,
    isSent: () => boolean = () => false,
  ): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const end = () => {
        clearTimeout(timer);
        this.#waiting.delete(close);
      };
      const fail = (error: unknown) => {
        end();
        reject(error);
      };
      const close = () => fail(new KafkaError('closed', isSent(), 'the client was closed'));
      const timer = setTimeout(() => fail(late()), Math.max(ms, 0));
      work.then((value) => {
        end();
        resolve(value);
      }, fail);
      if (this.#isClosed) close();
      else this.#waiting.add(close);
    });
  }

  async #ask(topic: string): Promise<TopicView> {
    const deadlineMs = performance.now() + this.#requestTimeoutMs;
    const call = metadataCall([topic]);
    const answer: ClusterMetadata = await this.#hedged((link) => link.exchange(call, deadlineMs), deadlineMs);
    this.#learn(answer);
    const found = answer.topics.find(({ name }) => name === topic);
    if (found === undefined)
      throw new KafkaError('protocol', true, `the answer about topic ${topic} does not have it`);
    if (found.errorCode !== 0) {
      throw new KafkaError('protocol', true, `topic ${topic}: Kafka error ${found.errorCode}`, {
        protocolCode: found.errorCode,
      });
    }
    const told = [...found.partitions].sort((a, b) => a.partition - b.partition);
    if (told.some(({ partition }, index) => partition !== index))
      throw new KafkaError('protocol', true, `topic ${topic}: its partitions are not numbered without gaps`);
    const { brokers, controllerId } = answer;
    const latest = this.#latest.get(topic);
    const known = latest?.topicId === found.topicId ? latest.partitions : [];
    // A broker that stood still tells of leaders of before, and who has heard of a later one does not believe it.
    const partitions = told.map((view, i): PartitionView => {
      const before = known[i];
      return before !== undefined && before.leaderEpoch > view.leaderEpoch ? before : view;
    });
    this.#latest.set(topic, { topicId: found.topicId, partitions });
    const view: TopicView = { topicId: found.topicId, brokers, controllerId, partitions };
    this.#views.set(topic, { view, atMs: performance.now() });
    return view;
  }

  #learn({ brokers }: ClusterMetadata): void {
    this.learn(brokers);
    const listed = new Set([...this.target.brokers, ...this.#addresses.values()]);
    // An address that left the cluster keeps no connection, but what is under way on it may still be answered.
    for (const links of [this.#links, this.#controlLinks]) {
      for (const [address, link] of links) {
        if (listed.has(address) || !link.isIdle) continue;
        links.delete(address);
        link.end(new KafkaError('unreachable', true, `${address} left the cluster`));
      }
    }
  }

  async #linkOf(nodeId: number, deadlineMs: number): Promise<Link> {
    if (!this.#addresses.has(nodeId)) {
      await this.bounded(
        this.metadata(0).catch((error: unknown) => {
          // The brokers were learnt even if the topic is not there.
          if (!(error instanceof KafkaError) || error.kind !== 'protocol') throw error;
        }),
        deadlineMs - performance.now(),
        () => new KafkaError('unreachable', false, `no broker tells the address of broker ${nodeId}`),
      ).catch((error: unknown) => {
        const kind = error instanceof KafkaError && error.kind !== 'timeout' ? error.kind : 'unreachable';
        throw new KafkaError(kind, false, messageOf(error), { cause: error });
      });
    }
    const address = this.#addresses.get(nodeId);
    if (address === undefined)
      throw new KafkaError('unreachable', false, `broker ${nodeId} is not in the cluster`);
    return this.#link(this.#links, address);
  }

  #link(links: Map<string, Link>, address: string): Link {
    if (this.#isClosed) throw new KafkaError('closed', false, 'the client was closed');
    let link = links.get(address);
    if (link === undefined) {
      link = new Link(this, address);
      links.set(address, link);
    }
    return link;
  }

  /** Brokers to ask, the most promising first: the last that answered, those with a connection, those not failing. */
  #candidates(): Link[] {
    const addresses = new Set([...this.#addresses.values(), ...this.target.brokers]);
    const links = [...addresses].map((address) => this.#link(this.#controlLinks, address));
    const rank = (link: Link): number => {
      if (link.isOpen) return link === this.#lastAnswering ? 0 : 1;
      return link.isBackingOff ? 3 : 2;
    };
    return links
      .map((link) => ({ link, order: rank(link) + Math.random() / 2 }))
      .sort((a, b) => a.order - b.order)
      .map(({ link }) => link);
  }

  /** For questions that change nothing: asks one broker after another, and the next as well if one takes long. */
  #hedged<T>(ask: (link: Link) => Promise<T>, deadlineMs: number): Promise<T> {
    const links = this.#candidates();
    const asked = new Promise<T>((resolve, reject) => {
      const failures: KafkaError[] = [];
      let next = 0;
      let isDone = false;
      let timer: NodeJS.Timeout | undefined;
      const start = () => {
        clearTimeout(timer);
        const link = links[next];
        if (isDone || link === undefined) return;
        next += 1;
        if (next < links.length) timer = setTimeout(start, hedgeMs);
        ask(link).then(
          (answer) => {
            isDone = true;
            clearTimeout(timer);
            this.#lastAnswering = link;
            resolve(answer);
          },
          (error: unknown) => {
            failures.push(toKafkaError(error, true, link.address));
            if (failures.length < links.length) {
              start();
              return;
            }
            isDone = true;
            reject(noneAnswered(failures));
          },
        );
      };
      start();
    });
    return this.bounded(
      asked,
      deadlineMs - performance.now(),
      () => new KafkaError('unreachable', true, `none of ${this.target.brokers.join(', ')} answered in time`),
    );
  }

  /** For requests that must not be made twice: the next broker only while nothing was sent. */
  async #onAny<T>(ask: (link: Link) => Promise<T>, deadlineMs: number): Promise<T> {
    const failures: KafkaError[] = [];
    for (const link of this.#candidates()) {
      try {
        const answer = await ask(link);
        this.#lastAnswering = link;
        return answer;
      } catch (error) {
        const failure = toKafkaError(error, true, link.address);
        if (failure.isSent || failure.kind === 'closed') throw failure;
        failures.push(failure);
        if (performance.now() >= deadlineMs) break;
      }
    }
    throw noneAnswered(failures);
  }
}

/** One error for several brokers: the most telling one, with all of them named. */
function noneAnswered(failures: readonly KafkaError[]): KafkaError {
  const told =
    failures.find(({ kind }) => kind === 'authentication') ??
    failures.find(({ kind, protocolCode }) => kind === 'protocol' && protocolCode !== undefined) ??
    failures.find(({ kind }) => kind === 'closed');
  const text = failures.map(({ message }) => message).join('; ');
  const isSent = failures.some((failure) => failure.isSent);
  return new KafkaError(told?.kind ?? 'unreachable', isSent, text, {
    cause: failures[0],
    ...(told?.protocolCode === undefined ? {} : { protocolCode: told.protocolCode }),
  });
}

function abortable<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const abort = () => reject(new KafkaError('closed', true, 'no longer wanted', { cause: signal.reason }));
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}
