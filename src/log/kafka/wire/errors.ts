// The error codes of the Kafka protocol that ESS can meet, as one closed table with what each means for a produced
// batch. Producer and sink workers look codes up here; nobody else writes a number.
// Numbers and names: Errors.java of Apache Kafka. Meanings: ReplicaManager.scala (appendToLocalLog, appendRecords),
// Partition.scala (appendRecordsToLeader, checkEnoughReplicasReachOffset), DelayedProduce.scala and KafkaApis.scala
// (handleProduceRequest) of 3.9.

/**
 * What an error says of a batch that the broker did not append when the error arose. 'retry': nothing was written, and
 * another attempt after a look at the metadata may succeed. 'refused': nothing was written, and a repeat of the same
 * batch will not help. 'unknown': it may have been written. Which it is takes the answer's base offset, too: see
 * `produceOutcome` in produce.ts.
 */
export type ProduceVerdict = 'retry' | 'refused' | 'unknown';

export interface KafkaErrorKind {
  readonly code: number;
  readonly produce: ProduceVerdict;
}

export const kafkaErrors = {
  /** Anything that the broker did not expect, at any moment. */
  UNKNOWN_SERVER_ERROR: { code: -1, produce: 'unknown' },
  NONE: { code: 0, produce: 'unknown' },
  OFFSET_OUT_OF_RANGE: { code: 1, produce: 'unknown' },
  /** The checksum was wrong when the batch arrived: it was damaged on its way. */
  CORRUPT_MESSAGE: { code: 2, produce: 'retry' },
  UNKNOWN_TOPIC_OR_PARTITION: { code: 3, produce: 'retry' },
  INVALID_FETCH_SIZE: { code: 4, produce: 'unknown' },
  LEADER_NOT_AVAILABLE: { code: 5, produce: 'retry' },
  NOT_LEADER_OR_FOLLOWER: { code: 6, produce: 'retry' },
  /** Written by the leader; not by enough of the others within the request's time. */
  REQUEST_TIMED_OUT: { code: 7, produce: 'unknown' },
  BROKER_NOT_AVAILABLE: { code: 8, produce: 'unknown' },
  REPLICA_NOT_AVAILABLE: { code: 9, produce: 'retry' },
  MESSAGE_TOO_LARGE: { code: 10, produce: 'refused' },
  OFFSET_METADATA_TOO_LARGE: { code: 12, produce: 'unknown' },
  NETWORK_EXCEPTION: { code: 13, produce: 'unknown' },
  COORDINATOR_LOAD_IN_PROGRESS: { code: 14, produce: 'unknown' },
  COORDINATOR_NOT_AVAILABLE: { code: 15, produce: 'unknown' },
  NOT_COORDINATOR: { code: 16, produce: 'unknown' },
  INVALID_TOPIC_EXCEPTION: { code: 17, produce: 'refused' },
  /** Larger than a segment of the log. */
  RECORD_LIST_TOO_LARGE: { code: 18, produce: 'refused' },
  /** Fewer in-sync replicas than min.insync.replicas, seen before the append. */
  NOT_ENOUGH_REPLICAS: { code: 19, produce: 'retry' },
  /** The same, seen after it. */
  NOT_ENOUGH_REPLICAS_AFTER_APPEND: { code: 20, produce: 'unknown' },
  INVALID_REQUIRED_ACKS: { code: 21, produce: 'refused' },
  ILLEGAL_GENERATION: { code: 22, produce: 'unknown' },
  INCONSISTENT_GROUP_PROTOCOL: { code: 23, produce: 'unknown' },
  INVALID_GROUP_ID: { code: 24, produce: 'unknown' },
  UNKNOWN_MEMBER_ID: { code: 25, produce: 'unknown' },
  INVALID_SESSION_TIMEOUT: { code: 26, produce: 'unknown' },
  REBALANCE_IN_PROGRESS: { code: 27, produce: 'unknown' },
  INVALID_COMMIT_OFFSET_SIZE: { code: 28, produce: 'unknown' },
  TOPIC_AUTHORIZATION_FAILED: { code: 29, produce: 'refused' },
  GROUP_AUTHORIZATION_FAILED: { code: 30, produce: 'unknown' },
  CLUSTER_AUTHORIZATION_FAILED: { code: 31, produce: 'refused' },
  /** A record's time is further from the broker's clock than the topic allows. */
  INVALID_TIMESTAMP: { code: 32, produce: 'refused' },
  UNSUPPORTED_SASL_MECHANISM: { code: 33, produce: 'refused' },
  ILLEGAL_SASL_STATE: { code: 34, produce: 'refused' },
  UNSUPPORTED_VERSION: { code: 35, produce: 'refused' },
  TOPIC_ALREADY_EXISTS: { code: 36, produce: 'unknown' },
  INVALID_PARTITIONS: { code: 37, produce: 'unknown' },
  INVALID_REPLICATION_FACTOR: { code: 38, produce: 'unknown' },
  INVALID_REPLICA_ASSIGNMENT: { code: 39, produce: 'unknown' },
  INVALID_CONFIG: { code: 40, produce: 'unknown' },
  NOT_CONTROLLER: { code: 41, produce: 'unknown' },
  INVALID_REQUEST: { code: 42, produce: 'refused' },
  UNSUPPORTED_FOR_MESSAGE_FORMAT: { code: 43, produce: 'refused' },
  POLICY_VIOLATION: { code: 44, produce: 'refused' },
  /** The disk failed, perhaps after the batch reached it. */
  KAFKA_STORAGE_ERROR: { code: 56, produce: 'unknown' },
  SASL_AUTHENTICATION_FAILED: { code: 58, produce: 'refused' },
  REASSIGNMENT_IN_PROGRESS: { code: 60, produce: 'unknown' },
  NON_EMPTY_GROUP: { code: 68, produce: 'unknown' },
  GROUP_ID_NOT_FOUND: { code: 69, produce: 'unknown' },
  FETCH_SESSION_ID_NOT_FOUND: { code: 70, produce: 'unknown' },
  INVALID_FETCH_SESSION_EPOCH: { code: 71, produce: 'unknown' },
  /** A broker has no listener of the name that this connection uses. */
  LISTENER_NOT_FOUND: { code: 72, produce: 'unknown' },
  /** The client's metadata are older than the broker's. */
  FENCED_LEADER_EPOCH: { code: 74, produce: 'unknown' },
  /** The broker's metadata are older than the client's. */
  UNKNOWN_LEADER_EPOCH: { code: 75, produce: 'unknown' },
  UNSUPPORTED_COMPRESSION_TYPE: { code: 76, produce: 'refused' },
  /** A new leader does not know yet up to where it may answer. */
  OFFSET_NOT_AVAILABLE: { code: 78, produce: 'unknown' },
  MEMBER_ID_REQUIRED: { code: 79, produce: 'unknown' },
  /** The preferred replica of a partition is down or not in sync. */
  PREFERRED_LEADER_NOT_AVAILABLE: { code: 80, produce: 'unknown' },
  GROUP_MAX_SIZE_REACHED: { code: 81, produce: 'unknown' },
  FENCED_INSTANCE_ID: { code: 82, produce: 'unknown' },
  ELECTION_NOT_NEEDED: { code: 84, produce: 'unknown' },
  NO_REASSIGNMENT_IN_PROGRESS: { code: 85, produce: 'unknown' },
  /** The broker's validation refused a record. */
  INVALID_RECORD: { code: 87, produce: 'refused' },
  UNSTABLE_OFFSET_COMMIT: { code: 88, produce: 'unknown' },
  THROTTLING_QUOTA_EXCEEDED: { code: 89, produce: 'unknown' },
  UNKNOWN_TOPIC_ID: { code: 100, produce: 'unknown' },
  INCONSISTENT_TOPIC_ID: { code: 103, produce: 'unknown' },
  OFFSET_MOVED_TO_TIERED_STORAGE: { code: 109, produce: 'unknown' },
} as const satisfies Record<string, KafkaErrorKind>;

const byCode = new Map<number, KafkaErrorKind & { readonly name: string }>(
  Object.entries(kafkaErrors).map(([name, kind]) => [kind.code, { name, ...kind }]),
);

/** The kind of an error code; one that is not in the table has a name made of its number, and proves nothing. */
export function kafkaError(code: number): KafkaErrorKind & { readonly name: string } {
  return byCode.get(code) ?? { name: `KAFKA_ERROR_${code}`, code, produce: 'unknown' };
}
