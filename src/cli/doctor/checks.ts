// Everything that `ess doctor` looks at, as one closed list: what each check is about and why it matters. The report, the
// JSON and the table in docs/operations.md come from it. Plain data; main thread of a process of its own.

export const checkGroups = {
  machine: 'This machine',
  kafka: 'Kafka cluster',
  topics: 'Topics',
  group: 'Consumer group',
  clickhouse: 'ClickHouse',
  service: 'Running service',
} as const;

export type CheckGroup = keyof typeof checkGroups;

interface CheckInfo {
  readonly group: CheckGroup;
  /** What is looked at, in a few words that begin in lower case. */
  readonly looksAt: string;
  /** Why it matters: what happens to events where it is not as it should be. */
  readonly why: string;
}

const infos = {
  platform: {
    group: 'machine',
    looksAt: 'Node.js, glibc, and whether the HTTP server loads',
    why: 'where the native module does not load, ess serve does not start',
  },
  file_descriptors: {
    group: 'machine',
    looksAt: 'the limit of open files against --slots-max',
    why: 'beyond the limit connections are refused while slots are free: clients see resets instead of 503',
  },
  thread_pool: {
    group: 'machine',
    looksAt: 'UV_THREADPOOL_SIZE, which the embedded store needs for its sinks',
    why: 'inserts of several sinks and reads wait for each other in one small pool of threads',
  },
  data_dir: {
    group: 'machine',
    looksAt: 'that the data directory is there and can be written',
    why: 'the embedded log or store cannot be opened without it',
  },
  data_dir_space: {
    group: 'machine',
    looksAt: 'free space of the data directory',
    why: 'a full disk makes the embedded log answer 503 log_unavailable and stops the embedded store',
  },
  fsync_latency: {
    group: 'machine',
    looksAt: 'how long an fsync takes in the data directory (embedded log)',
    why: 'every ack=log waits for one fsync of its group',
  },
  kafka_bootstrap: {
    group: 'kafka',
    looksAt: 'every address of --kafka-brokers',
    why: 'a process that starts while the only address that works is down finds no cluster',
  },
  kafka_brokers: {
    group: 'kafka',
    looksAt: 'every broker, under the address that it advertises itself',
    why: 'partitions led by a broker that cannot be reached take no events and give none',
  },
  kafka_quorum: {
    group: 'kafka',
    looksAt: 'that there is a controller, and as many brokers as there are to be replicas',
    why: 'without a controller no leader is elected: the next failure of a broker stops its partitions',
  },
  kafka_log_dirs: {
    group: 'kafka',
    looksAt: 'failed log directories (offline replicas) of the brokers',
    why: 'copies on a failed disk are gone until it is mended, and nothing else tells of it',
  },
  kafka_disk: {
    group: 'kafka',
    looksAt:
      "free space of the brokers' log directories, and how evenly it is used (Kafka 3.3 or later tells it)",
    why: 'a broker stops for good when its disk is full, and puts no more on an empty one than on a full one',
  },
  kafka_defaults: {
    group: 'kafka',
    looksAt: 'auto.create.topics.enable and default.replication.factor of the brokers',
    why: 'a client that is early, or misspells a name, makes a topic with one replica, which one failure loses',
  },
  offsets_replicas: {
    group: 'kafka',
    looksAt: 'replicas of the topic __consumer_offsets',
    why: 'without its only copy the group has no coordinator: nothing is stored until that broker is back',
  },
  kafka_request_size: {
    group: 'kafka',
    looksAt: 'socket.request.max.bytes and replica.fetch.max.bytes against max.message.bytes of the topic',
    why: 'a batch that the topic takes and the broker does not ends the connection, and is sent again for ever',
  },
  kafka_clock: {
    group: 'kafka',
    looksAt: 'clock of the controller (KRaft, Kafka 3.3 or later tells it) against the clock here',
    why: 'retention by time compares the ingest time, which ESS sets, with the clock of the broker',
  },
  topic_exists: {
    group: 'topics',
    looksAt: 'that both topics are there and their settings can be read',
    why: 'no event can be taken, or none that cannot be stored can be kept',
  },
  topic_partitions: {
    group: 'topics',
    looksAt: 'partitions: a multiple of the shards, at least one for each sink, one of dead letters',
    why: 'a key has to stay on its shard, and a sink without a partition has nothing to do',
  },
  topic_replicas: {
    group: 'topics',
    looksAt: 'replication factor',
    why: 'an acknowledged event has to survive the loss of a broker',
  },
  topic_min_isr: {
    group: 'topics',
    looksAt: 'min.insync.replicas: enough of them, and fewer than there are replicas',
    why: 'too few: an acknowledged event is on one disk; all of them: one broker that stops, stops every append',
  },
  topic_unclean_election: {
    group: 'topics',
    looksAt: 'unclean.leader.election.enable',
    why: 'a replica that lags behind may become the leader, and what it lacks is lost though it was acknowledged',
  },
  topic_message_size: {
    group: 'topics',
    looksAt: 'max.message.bytes against --event-bytes-max and --group-bytes-max',
    why: 'an event that ESS accepts has to fit into the topic; batches that do not are cut, which costs time',
  },
  topic_retention: {
    group: 'topics',
    looksAt: 'retention.ms and retention.bytes (each per partition) against lag and the time to mend a store',
    why: 'what the topic drops before the sinks have read it is lost',
  },
  topic_cleanup: {
    group: 'topics',
    looksAt: 'cleanup.policy of both topics',
    why: 'compaction drops events that share a key; without it dead letters expire before anybody deals with them',
  },
  topic_timestamps: {
    group: 'topics',
    looksAt: 'message.timestamp.type',
    why: 'the time of an event in the log has to be the one that ESS set',
  },
  partition_leaders: {
    group: 'topics',
    looksAt: 'partitions without a leader, or not on their preferred one',
    why: 'a partition without a leader takes no events; leaders off their place load one broker with the work of two',
  },
  partition_replicas: {
    group: 'topics',
    looksAt: 'partitions with replicas that are not in sync',
    why: 'one more failure refuses appends (fewer in sync than min.insync.replicas)',
  },
  partition_skew: {
    group: 'topics',
    looksAt: 'how evenly leaders, copies and bytes lie on the brokers',
    why: 'Kafka moves nothing to a new broker or a new disk by itself: the oldest fill up first',
  },
  group_coordinator: {
    group: 'group',
    looksAt: 'the broker that keeps the positions of the group',
    why: 'without it nothing is stored, and ack=store is not answered',
  },
  group_members: {
    group: 'group',
    looksAt: 'members of the group of the sinks, and whether it is stable',
    why: 'without members nothing is stored; a group that never settles stores nothing either',
  },
  group_lag: {
    group: 'group',
    looksAt: 'events that wait to be stored, in number and in time',
    why: 'over 60 s nobody sees the present any more, and a lag that comes near the retention loses events',
  },
  group_positions: {
    group: 'group',
    looksAt: 'committed positions: of this topic, not before its beginning, written by ESS',
    why: 'records between a position and the beginning of the log were dropped before they were stored',
  },
  topic_identity: {
    group: 'group',
    looksAt: 'the topic id in the committed positions against the topic of now',
    why: 'the topic was made anew: what the former one held and was not stored yet is gone',
  },
  clickhouse_nodes: {
    group: 'clickhouse',
    looksAt: 'every node of --clickhouse',
    why: 'without a replica that answers, the events of its shard wait in the log',
  },
  clickhouse_version: {
    group: 'clickhouse',
    looksAt: 'version of the node',
    why: 'ESS sends settings with its statements, and a version that does not know one of them refuses the statement',
  },
  clickhouse_settings: {
    group: 'clickhouse',
    looksAt: 'async_insert, insert_deduplicate and readonly of this user',
    why: 'ESS sets them for each insert: a profile that fixes them otherwise refuses every insert',
  },
  clickhouse_tables: {
    group: 'clickhouse',
    looksAt: 'database, tables, columns, keys and engines',
    why: 'rows in tables of another shape could be lost or doubled; the sinks do not start on them',
  },
  clickhouse_rows: {
    group: 'clickhouse',
    looksAt: 'how many rows the tables have against what the ledger tells of',
    why: 'rows of a table that was dropped, emptied or restored are gone, and the sinks do not know it',
  },
  clickhouse_deduplication: {
    group: 'clickhouse',
    looksAt: 'deduplication windows of the tables',
    why: 'a repeated insert is known by its token only within the window',
  },
  clickhouse_fsync: {
    group: 'clickhouse',
    looksAt: 'fsync_after_insert and fsync_part_directory of the tables',
    why: 'an event answered with ack=store could be lost with the power',
  },
  clickhouse_layout: {
    group: 'clickhouse',
    looksAt: 'recorded layout of the shards, and that replicas are replicas of each other',
    why: 'a node in another place would get events that nobody looks for there',
  },
  clickhouse_keeper: {
    group: 'clickhouse',
    looksAt: 'session of each replica with Keeper (read-only without)',
    why: 'a replica without Keeper takes no inserts and does not hear of those of its siblings',
  },
  clickhouse_replica_lag: {
    group: 'clickhouse',
    looksAt: 'replicas that are behind their siblings',
    why: 'reads go past a replica that is behind, and its sibling carries the load of both',
  },
  clickhouse_parts: {
    group: 'clickhouse',
    looksAt: 'active parts against parts_to_throw_insert',
    why: 'at that number the node refuses inserts (TOO_MANY_PARTS), and lag grows',
  },
  clickhouse_disk: {
    group: 'clickhouse',
    looksAt: 'free space of the disks of the node',
    why: 'a full disk refuses inserts and merges',
  },
  clickhouse_clock: {
    group: 'clickhouse',
    looksAt: 'clock of the node against the clock here',
    why: 'lag is the difference of two clocks, and statistics of "the last minute" ask one about the other',
  },
  service_status: {
    group: 'service',
    looksAt: 'status and troubles of the process at --url',
    why: 'it knows what no look from outside tells: its threads, its partitions, its reads',
  },
  service_conservation: {
    group: 'service',
    looksAt: 'the conservation line of the process at --url',
    why: 'records in the log have to be stored, duplicates, parked or in flight: else events were lost or doubled',
  },
} as const satisfies Record<string, CheckInfo>;

export type CheckId = keyof typeof infos;

/** Every check by its id, in the order of the report. */
export const checks: Readonly<Record<CheckId, CheckInfo>> = infos;

/** Their ids in that order. */
export const checkIds: readonly CheckId[] = Object.keys(infos).filter(isCheckId);

function isCheckId(name: string): name is CheckId {
  return name in infos;
}

/** All of them as the Markdown table of docs/operations.md. */
export function checksTable(): string {
  const rows = checkIds.map((id) => `| \`${id}\` | ${checks[id].looksAt} | ${checks[id].why} |`);
  return ['| Check | Looks at | Why |', '| --- | --- | --- |', ...rows].join('\n');
}
