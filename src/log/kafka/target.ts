// How to reach a topic: what the configuration says of Kafka, in the form in which it travels to worker threads.

/**
 * How many appends of one producer worker may be under way at once. A round trip with acks from all replicas takes
 * milliseconds, in which one append at a time would leave the worker idle; each more holds one more group in memory
 * (group-bytes-max), which is why the memory budget reads this number too.
 */
export const appendsMax = 4;

/** Secrets are in memory only: they come from files or the environment, never from the command line. */
export interface KafkaTarget {
  readonly kind: 'kafka';
  /** "host:port" of at least one broker, IPv6 as "[address]:port"; the others are learnt from it. */
  readonly brokers: readonly string[];
  readonly topic: string;
  /** Compacted topic with one partition, for records that can never be stored. */
  readonly deadLetterTopic: string;
  /** Consumer group of the sinks. */
  readonly group: string;
  /** PEM texts; null for plaintext. Empty strings are not given to TLS. */
  readonly tls: { readonly ca: string; readonly cert: string; readonly key: string } | null;
  readonly sasl: {
    readonly mechanism: 'plain' | 'scram-sha-256' | 'scram-sha-512';
    readonly username: string;
    readonly password: string;
  } | null;
  readonly compression: 'none' | 'gzip' | 'zstd';
  /** Replicas that must have a record before it counts as durable; appends are checked against it at open. */
  readonly minInsyncReplicas: number;
  /** Time within which every append settles, ms; below the HTTP deadline. */
  readonly appendDeadlineMs: number;
  /** A member that is silent for this long loses its partitions, ms. */
  readonly sessionTimeoutMs: number;
  /** Bytes of fetched records that a consumer holds at most, all its partitions together. */
  readonly fetchBytesMax: number;
  /** Largest event, bytes: a foreign record beyond it is broken. */
  readonly eventBytesMax: number;
  /** Deepest nesting of an event's JSON. */
  readonly eventDepthMax: number;
}
