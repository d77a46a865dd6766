// Every table of ESS, as DDL, in one place. A sink checks them at start; nobody else writes DDL.
//
// Why this sorting key: ARCHITECTURE.md, "The events table". In short: `hour` first, so that a time range reads only
// its hours; then the identity, so that a retry with the same time replaces its first copy; the id's bloom filter
// finds one id without a range.

/** Version of the tables' shape, recorded in the data directory. A newer one is refused. */
export const schemaVersion = 1;

/** Columns of `events` in the order in which the sink writes them. */
export const eventColumns = [
  { name: 'hour', type: 'Int32' },
  { name: 'source', type: 'String' },
  { name: 'id', type: 'String' },
  { name: 'type', type: 'LowCardinality(String)' },
  { name: 'subject', type: 'String' },
  { name: 'key', type: 'String' },
  { name: 'time', type: "DateTime64(3, 'UTC')" },
  { name: 'ingest_time', type: "DateTime64(3, 'UTC')" },
  { name: 'store_time', type: "DateTime64(3, 'UTC')" },
  { name: 'flags', type: 'UInt16' },
  { name: 'epoch', type: 'LowCardinality(String)' },
  { name: 'partition', type: 'UInt16' },
  { name: 'offset', type: 'UInt64' },
  { name: 'version', type: 'UInt64' },
  { name: 'body', type: 'String' },
] as const;

/** Columns of `ledger` in the order in which the sink writes them. */
export const ledgerColumns = [
  { name: 'epoch', type: 'String' },
  { name: 'partition', type: 'UInt16' },
  { name: 'first', type: 'UInt64' },
  { name: 'last', type: 'UInt64' },
  { name: 'rows', type: 'UInt32' },
  { name: 'duplicates', type: 'UInt32' },
  { name: 'parked', type: 'UInt32' },
  { name: 'store_time', type: "DateTime64(3, 'UTC')" },
] as const;

/** Milliseconds in the unit of the `hour` column: floor(time / msPerHour), also before 1970. */
export const msPerHour = 3_600_000;

/**
 * Deduplication windows, set explicitly because they are off by default on tables that are not replicated.
 * 10,000 blocks: at 5 inserts a second (sink_inserts_per_second) a token stays known for half an hour, far beyond the
 * seconds in which the same process may repeat an insert; after a restart the rows themselves are looked for instead.
 */
export const deduplicationWindowBlocks = 10_000;

const insertDurability = 'fsync_after_insert = 1, fsync_part_directory = 1';

/** Statements that make the tables, each safe to repeat. */
export const createTables: readonly string[] = [
  `CREATE TABLE IF NOT EXISTS events (
    hour Int32,
    source String,
    id String,
    type LowCardinality(String),
    subject String,
    key String,
    time DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    ingest_time DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    store_time DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    flags UInt16,
    epoch LowCardinality(String),
    partition UInt16,
    offset UInt64 CODEC(Delta, ZSTD(1)),
    version UInt64 CODEC(Delta, ZSTD(1)),
    body String CODEC(ZSTD(1)),
    INDEX id_bloom id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX offset_range offset TYPE minmax GRANULARITY 1,
    INDEX ingest_range ingest_time TYPE minmax GRANULARITY 1
  )
  ENGINE = ReplacingMergeTree(version)
  PARTITION BY toYYYYMM(ingest_time, 'UTC')
  ORDER BY (hour, source, id)
  SETTINGS non_replicated_deduplication_window = ${deduplicationWindowBlocks}, ${insertDurability}`,
  `CREATE TABLE IF NOT EXISTS ledger (
    epoch String,
    partition UInt16,
    first UInt64,
    last UInt64,
    rows UInt32,
    duplicates UInt32,
    parked UInt32,
    store_time DateTime64(3, 'UTC')
  )
  ENGINE = ReplacingMergeTree(store_time)
  ORDER BY (epoch, partition, first, last)
  SETTINGS non_replicated_deduplication_window = ${deduplicationWindowBlocks}, ${insertDurability}`,
];
