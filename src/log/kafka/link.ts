// At most one connection to one broker's address, and the requests on it. Runs on the thread of the client that owns it.
// A connection whose answer is late is destroyed: answers come in order, so nothing after it could be trusted either.

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
import { KafkaError, toKafkaError } from './kafka_error.ts';
import type { KafkaTarget } from './target.ts';
import type { WireCall } from './wire/call.ts';
import { kafkaErrors } from './wire/errors.ts';

/** TCP, TLS, ApiVersions and SASL together, ms: a broker that takes longer is treated as one that is not there. */
const connectTimeoutMs = 5_000;
/** Pause after a connection failed, ms: doubled by each failure in a row up to the bound, so that a broker that is
 * down costs next to nothing, and one that comes back is used within a second. Each pause varies by a fifth. */
const backOffFirstMs = 50;
const backOffMaxMs = 1_000;
/** A SASL session is renewed this long before it ends, ms. */
const reauthenticationThresholdMs = 10_000;

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

/** As a client keeps its links by. */
export const addressOf = (host: string, port: number): string =>
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
export interface LinkOwner {
  readonly target: KafkaTarget;
  readonly name: string;
  readonly logger: Logger;
  readonly tls: TlsOptions | null;
  bounded<T>(work: Promise<T>, ms: number, late: () => KafkaError, isSent?: () => boolean): Promise<T>;
}

/** At most one connection to one address, opened when needed and never reused once in doubt. */
export class Link {
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

  async #exchange<T>(asked: WireCall<T>, deadlineMs: number): Promise<T> {
    const opened = await this.#open(deadlineMs);
    const { broker, connection } = opened;
    const { request, response } = this.#spoken(broker, asked);
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

  /** The newest form of a call that the broker takes. */
  #spoken<T>(broker: Broker, asked: WireCall<T>): WireCall<T> {
    const range = broker.versions?.[asked.request.apiKey];
    for (let call = asked; ; ) {
      const { apiName, apiVersion } = call.request;
      if (range !== undefined && apiVersion >= range.minVersion && apiVersion <= range.maxVersion)
        return call;
      if (call.older !== undefined) {
        call = call.older();
        continue;
      }
      const speaks = range === undefined ? 'none' : `${range.minVersion}..${range.maxVersion}`;
      throw new KafkaError(
        'protocol',
        false,
        `${this.address}: ESS speaks ${apiName} version ${apiVersion}, this broker speaks ${speaks}: Kafka 2.8 or later is needed`,
        { protocolCode: kafkaErrors.UNSUPPORTED_VERSION.code },
      );
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
