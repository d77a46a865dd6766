// Types of the few files of kafkajs 2.2.4 that ESS imports directly; the package publishes none for them. Only what
// is used is declared. The package is frozen at this version, and its internals with it.

/** kafkajs's logger: an object of functions that gives an object like itself for each part of the library. */
interface KafkajsLogger {
  namespace(name: string): KafkajsLogger;
  debug(message: string, extra?: Record<string, unknown>): void;
  info(message: string, extra?: Record<string, unknown>): void;
  warn(message: string, extra?: Record<string, unknown>): void;
  error(message: string, extra?: Record<string, unknown>): void;
}

/** What kafkajs asks its socket factory for. */
interface KafkajsSocketRequest {
  readonly host: string;
  readonly port: number;
  readonly ssl: import('node:tls').ConnectionOptions | null;
  readonly onConnect: () => void;
}

declare module 'kafkajs/src/network/connectionPool.js' {
  export type Logger = KafkajsLogger;
  export type SocketRequest = KafkajsSocketRequest;

  export interface ConnectionOptions {
    readonly host: string;
    readonly port: number;
    readonly rack: string | null;
    readonly ssl: import('node:tls').ConnectionOptions | null;
    readonly sasl: { mechanism: string; username: string; password: string } | null;
    readonly clientId: string;
    readonly socketFactory: (request: KafkajsSocketRequest) => import('node:net').Socket;
    /** Time for the TCP and TLS handshakes, ms. */
    readonly connectionTimeout: number;
    /** Time for an answer, ms; only used if `enforceRequestTimeout`. */
    readonly requestTimeout: number;
    readonly enforceRequestTimeout: boolean;
    readonly maxInFlightRequests: number | null;
    readonly instrumentationEmitter: null;
    readonly logger: KafkajsLogger;
    /** A session is renewed this long before it ends, ms. */
    readonly reauthenticationThreshold: number;
  }

  /** An answer as it came: everything after the correlation id. */
  export interface RawAnswer {
    readonly payload: Buffer;
  }

  export interface RequestQueue {
    readonly pending: readonly unknown[];
    throttledUntil: number;
    throttleCheckTimeoutId: NodeJS.Timeout | null;
    push(request: {
      readonly entry: {
        readonly apiKey: number;
        readonly apiName: string;
        readonly apiVersion: number;
        readonly correlationId: number;
        readonly resolve: (answer: RawAnswer) => void;
        readonly reject: (error: Error) => void;
      };
      readonly expectResponse: boolean;
      readonly requestTimeout: number | null;
      readonly sendRequest: () => void;
    }): void;
    rejectAll(error: Error): void;
    /** Holds back the next requests for this long, ms. */
    maybeThrottle(ms: number): void;
    checkPendingRequests(): void;
    scheduleCheckPendingRequests(): void;
    /** Ends its timers. */
    destroy(): void;
  }

  export interface Connection {
    readonly clientId: string;
    connectionStatus: 'connected' | 'disconnecting' | 'disconnected';
    readonly socket?: import('node:net').Socket;
    readonly requestQueue: RequestQueue;
    readonly authHandlers: { onError(): void } | null;
    isAuthenticated(): boolean;
    authenticate(): Promise<void>;
    nextCorrelationId(): number;
  }

  export default class ConnectionPool {
    constructor(options: ConnectionOptions);
    /** Two connections: the first for everything, the second for kafkajs's own Fetch requests. */
    readonly pool: readonly Connection[];
  }
}

declare module 'kafkajs/src/broker/index.js' {
  import type ConnectionPool from 'kafkajs/src/network/connectionPool.js';

  export interface ConfigEntry {
    readonly configName: string;
    readonly configValue: string | null;
    readonly isDefault: boolean;
    /** Where the value comes from; 1: set for this topic. */
    readonly configSource: number;
    readonly isSensitive: boolean;
    readonly readOnly: boolean;
  }

  /** Requests of kafkajs 2.2.4. Each rejects with KafkaJSProtocolError (`type`, `code`) on an error code. */
  export default class Broker {
    constructor(options: {
      readonly connectionPool: ConnectionPool;
      readonly logger: KafkajsLogger;
      readonly nodeId?: number | null;
      readonly authenticationTimeout: number;
      readonly allowAutoTopicCreation: boolean;
    });
    /** Versions of each request that the broker takes; set by `connect`. */
    readonly versions: Readonly<Record<number, { minVersion: number; maxVersion: number }>> | null;
    readonly brokerAddress: string;
    connect(): Promise<void>;

    findGroupCoordinator(request: {
      readonly groupId: string;
      /** 0: a consumer group. */
      readonly coordinatorType: number;
    }): Promise<{ readonly coordinator: { nodeId: number; host: string; port: number } }>;
    describeGroups(request: { readonly groupIds: readonly string[] }): Promise<{
      readonly groups: readonly {
        readonly groupId: string;
        readonly state: string;
        readonly members: readonly {
          readonly clientId: string;
          readonly clientHost: string;
          readonly memberMetadata: Buffer;
          readonly memberAssignment: Buffer;
        }[];
      }[];
    }>;
    offsetFetch(request: {
      readonly groupId: string;
      readonly topics: readonly {
        readonly topic: string;
        readonly partitions: readonly { readonly partition: number }[];
      }[];
    }): Promise<{
      readonly responses: readonly {
        readonly topic: string;
        readonly partitions: readonly {
          readonly partition: number;
          /** "-1" if none. */
          readonly offset: string;
          readonly metadata: string | null;
        }[];
      }[];
    }>;
    createTopics(request: {
      readonly topics: readonly {
        readonly topic: string;
        readonly numPartitions: number;
        readonly replicationFactor: number;
        readonly configEntries: readonly { readonly name: string; readonly value: string }[];
      }[];
      readonly validateOnly?: boolean;
      readonly timeout: number;
    }): Promise<unknown>;
    createPartitions(request: {
      readonly topicPartitions: readonly { readonly topic: string; readonly count: number }[];
      readonly validateOnly?: boolean;
      readonly timeout: number;
    }): Promise<unknown>;
    describeConfigs(request: {
      readonly resources: readonly {
        /** 2: a topic. */
        readonly type: number;
        readonly name: string;
        readonly configNames?: readonly string[];
      }[];
      readonly includeSynonyms?: boolean;
    }): Promise<{
      readonly resources: readonly {
        readonly resourceName: string;
        readonly configEntries: readonly ConfigEntry[];
      }[];
    }>;
    /** Sets the given entries and every other entry of the resource back to its default. */
    alterConfigs(request: {
      readonly resources: readonly {
        readonly type: number;
        readonly name: string;
        readonly configEntries: readonly { readonly name: string; readonly value: string }[];
      }[];
      readonly validateOnly?: boolean;
    }): Promise<unknown>;
  }
}
