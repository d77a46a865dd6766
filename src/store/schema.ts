// Every table of ESS, as DDL, in one place. A sink checks them at start; nobody else writes DDL.
//
// Why this sorting key: ARCHITECTURE.md, "The events table". In short: `hour` first, so that a time range reads only
// its hours; then the identity, so that a retry with the same time replaces its first copy; the id's bloom filter
// finds one id without a range.

/** Version of the tables' shape, recorded in the data directory. A newer one is refused. */
export const schemaVersion = 3;

/**
 * Columns of `events` in the order in which the sink writes them. `log_time`: when the sink took the record out of the
 * log, so that it was durable by then; 1970 in rows of before format 3, which had no such column.
 */
export const eventColumns = [
  { name: 'hour', type: 'Int32' },
  { name: 'source', type: 'String' },
  { name: 'id', type: 'String' },
  { name: 'type', type: 'LowCardinality(String)' },
  { name: 'subject', type: 'String' },
  { name: 'key', type: 'String' },
  { name: 'time', type: "DateTime64(3, 'UTC')" },
  { name: 'ingest_time', type: "DateTime64(3, 'UTC')" },
  { name: 'log_time', type: "DateTime64(3, 'UTC')" },
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
  { name: 'holes', type: 'UInt64' },
  { name: 'store_time', type: "DateTime64(3, 'UTC')" },
] as const;

/** Columns of `layout`: what shard_layout.ts reads and writes. */
export const layoutColumns = [
  { name: 'version', type: 'UInt32' },
  { name: 'shards', type: 'UInt16' },
  { name: 'shard', type: 'UInt16' },
  { name: 'recorded_time', type: "DateTime64(3, 'UTC')" },
] as const;

/** Milliseconds in the unit of the `hour` column: floor(time / msPerHour), also before 1970. */
export const msPerHour = 3_600_000;

/**
 * Rows that a block has at most, whatever is configured. More than these past the ledger's end are not what a sink left
 * half done: the ledger is lost.
 */
export const blockRowsMax = 1_000_000;

/**
 * Deduplication windows, set explicitly because they are off by default on tables that are not replicated.
 * 10,000 blocks: with twelve partitions of one shard and 5 inserts a second (sink_inserts_per_second) in each of as
 * many processes, a token stays known for more than a minute at full load, and for hours otherwise: far beyond the
 * seconds in which an insert is usually repeated. sink/token_window.ts computes it; later the rows are looked for.
 */
export const deduplicationWindowBlocks = 10_000;

/**
 * Replicated tables forget a token by its age too. Seven days: so that a weekend's outage in a calm system, where the
 * blocks would have kept it far longer, does not make a token forgotten. Seconds.
 */
export const deduplicationWindowSeconds = 604_800;

/** How the tables of a node are kept: for itself alone, or as one of several copies. */
export type TableKind = 'plain' | 'replicated';

/** The kind of table for a shard of so many replicas. */
export function tableKind(replicas: number): TableKind {
  return replicas > 1 ? 'replicated' : 'plain';
}

/** An insert is acknowledged by one replica before the others have it: so a replicated table is flushed to disk too. */
const insertDurability = 'fsync_after_insert = 1, fsync_part_directory = 1';

/** The engine of a table; `version` is the column by which the last of several copies of a row is chosen. */
function engineOf(kind: TableKind, table: string, version: string): string {
  if (kind === 'plain') return `ReplacingMergeTree(${version})`;
  // ClickHouse puts in the database itself, and the macros `shard` and `replica` from each node's configuration.
  return `ReplicatedReplacingMergeTree('/clickhouse/tables/ess/{database}/{shard}/${table}', '{replica}', ${version})`;
}

function settingsOf(kind: TableKind): string {
  if (kind === 'plain')
    return `non_replicated_deduplication_window = ${deduplicationWindowBlocks}, ${insertDurability}`;
  return `replicated_deduplication_window = ${deduplicationWindowBlocks},
    replicated_deduplication_window_seconds = ${deduplicationWindowSeconds}, ${insertDurability}`;
}

/** Statements that make the tables, each safe to repeat; to be run on every replica. */
export function createTables(kind: TableKind): readonly string[] {
  return [createEvents(kind), createLedger(kind), createLayout(kind)];
}

/** Makes `events`, if it is not there. */
export function createEvents(kind: TableKind): string {
  return `CREATE TABLE IF NOT EXISTS events (
    hour Int32,
    source String,
    id String,
    type LowCardinality(String),
    subject String,
    key String,
    time DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    ingest_time DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    log_time DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
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
  ENGINE = ${engineOf(kind, 'events', 'version')}
  PARTITION BY toYYYYMM(ingest_time, 'UTC')
  ORDER BY (hour, source, id)
  SETTINGS ${settingsOf(kind)}`;
}

/** Makes `ledger`, if it is not there. */
export function createLedger(kind: TableKind): string {
  return `CREATE TABLE IF NOT EXISTS ledger (
    epoch String,
    partition UInt16,
    first UInt64,
    last UInt64,
    rows UInt32,
    duplicates UInt32,
    parked UInt32,
    holes UInt64,
    store_time DateTime64(3, 'UTC')
  )
  ENGINE = ${engineOf(kind, 'ledger', 'store_time')}
  ORDER BY (epoch, partition, first, last)
  SETTINGS ${settingsOf(kind)}`;
}

/** Makes `layout`, if it is not there. Two places recorded under one version stay two rows: nobody may choose for us. */
export function createLayout(kind: TableKind): string {
  return `CREATE TABLE IF NOT EXISTS layout (
    version UInt32,
    shards UInt16,
    shard UInt16,
    recorded_time DateTime64(3, 'UTC')
  )
  ENGINE = ${engineOf(kind, 'layout', 'recorded_time')}
  ORDER BY (version, shards, shard)
  SETTINGS ${settingsOf(kind)}`;
}
