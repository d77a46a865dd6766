// What brokers tell of a topic and of its cluster, checked and put in order. Plain data; every thread that talks to Kafka
// has its own copy.

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
