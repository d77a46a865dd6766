// Compares the tables of a node with schema.ts, makes those that are missing, and refuses tables of another shape: rows
// written into them could be lost or doubled without a sign. Runs at start, before a replica gets its first insert, when
// one comes back, and now and then; nothing that exists is ever altered or dropped here.

import { EssError } from '../errors.ts';
import {
  createEvents,
  createLayout,
  createLedger,
  deduplicationWindowBlocks,
  deduplicationWindowSeconds,
  eventColumns,
  layoutColumns,
  ledgerColumns,
  type TableKind,
  tableKind,
} from './schema.ts';
import { type Store, StoreError } from './store.ts';

/** One point in which a node is not as it has to be. */
export interface Difference {
  readonly table: string;
  /** What differs: "table", "engine", "column parked", the name of a setting or of a macro. */
  readonly what: string;
  readonly found: string;
  readonly expected: string;
  /** The statement that mends it without touching a row; null if a person has to decide. */
  readonly mend: string | null;
}

/** What is found where a column is not there. */
const missing = 'missing';

interface TableShape {
  readonly name: string;
  readonly columns: readonly { readonly name: string; readonly type: string }[];
  readonly sortingKey: string;
  readonly partitionKey: string;
  /** Version column of ReplacingMergeTree. */
  readonly version: string;
  readonly create: (kind: TableKind) => string;
}

/** What the statements in schema.ts make; the tests run both against each other. */
const tables: readonly TableShape[] = [
  {
    name: 'events',
    columns: eventColumns,
    sortingKey: 'hour, source, id',
    partitionKey: "toYYYYMM(ingest_time, 'UTC')",
    version: 'version',
    create: createEvents,
  },
  {
    name: 'ledger',
    columns: ledgerColumns,
    sortingKey: 'epoch, partition, first, last',
    partitionKey: '',
    version: 'store_time',
    create: createLedger,
  },
  {
    name: 'layout',
    columns: layoutColumns,
    sortingKey: 'version, shards, shard',
    partitionKey: '',
    version: 'recorded_time',
    create: createLayout,
  },
];

/** The tables that every node has. */
export const tableNames: readonly string[] = tables.map(({ name }) => name);

/** Macros of a node's configuration that the paths of replicated tables are made of. */
const macros: readonly { readonly name: string; readonly expected: string }[] = [
  { name: 'shard', expected: 'the same on all replicas of a shard, another on each shard' },
  { name: 'replica', expected: 'another on each replica of a shard' },
];

/** An engine of the family, with what stands in its parentheses: ReplicatedReplacingMergeTree('/path', 'r1', version). */
const engineCall = /^(Replicated|Shared)?ReplacingMergeTree\((.*?)\)(?: |$)/;

interface TableRow {
  readonly name: string;
  readonly engine_full: string;
  readonly sorting_key: string;
  readonly partition_key: string;
}

interface ColumnRow {
  readonly table: string;
  readonly name: string;
  readonly type: string;
  readonly default_kind: string;
}

/**
 * In what a node differs from `kind`; empty if it is as it has to be. A shard of one node may have tables of any kind,
 * one of several replicas only replicated ones. Changes nothing. Rejects with StoreError.
 */
export async function compareSchema(store: Store, kind: TableKind = 'plain'): Promise<Difference[]> {
  const rows = await store.rows<TableRow>(
    `SELECT name, engine_full, sorting_key, partition_key FROM system.tables
     WHERE database = currentDatabase() AND name IN {tables:Array(String)}`,
    { tables: tableNames },
  );
  const columns = await store.rows<ColumnRow>(
    `SELECT table, name, type, default_kind FROM system.columns
     WHERE database = currentDatabase() AND table IN {tables:Array(String)}`,
    { tables: tableNames },
  );
  const differences: Difference[] = [];
  for (const shape of tables) {
    const row = rows.find(({ name }) => name === shape.name);
    if (row === undefined) {
      const mend = shape.create(kind);
      differences.push({ table: shape.name, what: 'table', found: 'missing', expected: 'a table', mend });
      continue;
    }
    compareTable(differences, shape, row, kind);
    const ownColumns = columns.filter(({ table }) => table === shape.name);
    compareColumns(differences, shape, ownColumns);
  }
  // Tables that are there may have paths of their own making; only new ones need the macros.
  const isToBeMade = differences.some(({ what }) => what === 'table');
  if (kind === 'replicated' && isToBeMade) differences.unshift(...(await compareMacros(store)));
  return differences;
}

/**
 * Makes missing tables and checks all of them. Safe to repeat and to run on several threads at once. Rejects with
 * EssError `format_unknown`, naming the first difference, or with StoreError. Nothing is ever altered or dropped.
 */
export async function ensureSchema(store: Store, kind: TableKind = 'plain'): Promise<void> {
  let differences = await compareSchema(store, kind);
  // CREATE only where something is missing: a user without that right can still run on tables made beforehand.
  if (differences.some(isMissingTable)) {
    refuse(
      store,
      differences.find((difference) => !isMissingTable(difference)),
    );
    for (const { mend } of differences) if (mend !== null) await store.command(mend);
    differences = await compareSchema(store, kind);
  }
  refuse(store, differences[0]);
}

/**
 * Adds the columns that an embedded store of an earlier format lacks; rows that are there get the type's default. Only
 * for a store that is ours alone: on nodes `ess init --apply` does it, when a person says so. Rejects with StoreError.
 */
export async function addMissingColumns(store: Store): Promise<void> {
  for (const { what, found, mend } of await compareSchema(store)) {
    if (what.startsWith('column ') && found === missing && mend !== null) await store.command(mend);
  }
}

/**
 * Checks that the tables are as they have to be, and makes none: one that somebody has dropped from a running system
 * would come back empty, without a sign. Rejects as ensureSchema.
 */
export async function assertSchema(store: Store, kind: TableKind): Promise<void> {
  refuse(store, (await compareSchema(store, kind))[0]);
}

/** A replica that could not be asked. */
export interface Unreachable {
  /** Its name, "host:port". */
  readonly name: string;
  readonly error: StoreError;
}

/**
 * ensureSchema on every node, given by shard and replica, and whether the replicas of each shard are replicas of each
 * other. A replica that does not answer is left out, as long as one of its shard does; gives those. It has to be made
 * and checked before its first insert (shard_store.ts does). Rejects with EssError `format_unknown`, or with StoreError
 * if a whole shard does not answer.
 */
export async function ensureSchemas(shards: readonly (readonly Store[])[]): Promise<Unreachable[]> {
  const unreachable: Unreachable[] = [];
  const reachable: Store[][] = [];
  for (const replicas of shards) {
    const there: Store[] = [];
    let lastError: StoreError | null = null;
    for (const store of replicas) {
      try {
        await ensureSchema(store, tableKind(replicas.length));
        there.push(store);
      } catch (error) {
        if (!(error instanceof StoreError)) throw error;
        lastError = error;
        unreachable.push({ name: store.name, error });
      }
    }
    if (there.length === 0 && lastError !== null) throw lastError;
    reachable.push(there);
  }
  const replicated = reachable.filter((_stores, shard) => (shards[shard]?.length ?? 0) > 1);
  const difference = (await compareReplicas(replicated))[0];
  if (difference !== undefined) throw refusal('the cluster', difference);
  return unreachable;
}

/**
 * Whether the nodes, given by shard and replica, are replicas of each other as the layout says. A node of another shard
 * among the replicas would get a share of the events that nobody looks for there, and two shards on one path would
 * show every event twice. Rejects with StoreError.
 */
export async function compareReplicas(shards: readonly (readonly Store[])[]): Promise<Difference[]> {
  const differences: Difference[] = [];
  /** The node that was seen with a path, by path. */
  const shardsByPath = new Map<string, { readonly shard: number; readonly name: string }>();
  /** The node that was seen with a path and a replica name. */
  const replicas = new Map<string, string>();
  for (const [shard, stores] of shards.entries()) {
    const paths = new Map<string, { readonly path: string; readonly name: string }>();
    for (const store of stores) {
      for (const { table, path, replica } of await readReplicas(store)) {
        const differs = (what: string, found: string, expected: string): void => {
          differences.push({ table, what, found, expected, mend: null });
        };
        const sibling = paths.get(table) ?? { path, name: store.name };
        paths.set(table, sibling);
        if (sibling.path !== path) {
          const expected = `${sibling.path}, as on ${sibling.name} of the same shard`;
          differs(`Keeper path on ${store.name}`, path, expected);
        }
        const other = shardsByPath.get(path) ?? { shard, name: store.name };
        shardsByPath.set(path, other);
        if (other.shard !== shard) {
          const expected = `another than on ${other.name}, which is of another shard`;
          differs(`Keeper path on ${store.name}`, path, expected);
        }
        const key = `${path}\n${replica}`;
        const twin = replicas.get(key);
        if (twin !== undefined) differs(`replica name on ${store.name}`, replica, `another than on ${twin}`);
        replicas.set(key, store.name);
      }
    }
  }
  return differences;
}

interface ReplicaRow {
  readonly table: string;
  readonly path: string;
  readonly replica: string;
}

function readReplicas(store: Store): Promise<ReplicaRow[]> {
  return store.rows<ReplicaRow>(
    `SELECT table, zookeeper_path AS path, replica_name AS replica FROM system.replicas
     WHERE database = currentDatabase() AND table IN {tables:Array(String)}`,
    { tables: tableNames },
  );
}

/** Macros that are needed and that the node does not have. */
async function compareMacros(store: Store): Promise<Difference[]> {
  const differences: Difference[] = [];
  for (const { name, expected } of macros) {
    try {
      await store.rows(`SELECT getMacro('${name}') AS value`);
    } catch (error) {
      if (!(error instanceof StoreError) || error.code === 0 || error.outcome !== 'refused') throw error;
      const found = `not there (ClickHouse error ${error.code})`;
      differences.push({ table: '', what: `macro ${name}`, found, expected, mend: null });
    }
  }
  return differences;
}

function compareTable(differences: Difference[], shape: TableShape, row: TableRow, kind: TableKind): void {
  const differs = (what: string, found: string, expected: string): void => {
    differences.push({ table: shape.name, what, found, expected, mend: null });
  };
  const engine = engineCall.exec(row.engine_full);
  if (engine === null) {
    const expected = kind === 'plain' ? 'a ReplacingMergeTree' : 'a ReplicatedReplacingMergeTree';
    differs('engine', row.engine_full, expected);
    return;
  }
  const [, family, parameters = ''] = engine;
  if (kind === 'replicated' && family !== 'Replicated')
    differs('engine', `${family ?? ''}ReplacingMergeTree`, 'a ReplicatedReplacingMergeTree');
  const version = parameters.split(',').at(-1)?.trim() ?? '';
  if (version !== shape.version) differs('version column', version, shape.version);
  if (row.sorting_key !== shape.sortingKey) differs('sorting key', row.sorting_key, shape.sortingKey);
  if (row.partition_key !== shape.partitionKey)
    differs('partition key', row.partition_key, shape.partitionKey);
  const setting = (name: string, least: number): void => compareSetting(differences, shape, row, name, least);
  if (family === undefined) setting('non_replicated_deduplication_window', deduplicationWindowBlocks);
  else {
    // On by default there, but a default may change, and has.
    setting('replicated_deduplication_window', deduplicationWindowBlocks);
    setting('replicated_deduplication_window_seconds', deduplicationWindowSeconds);
  }
  // A SharedMergeTree keeps its parts elsewhere.
  if (family === 'Shared') return;
  setting('fsync_after_insert', 1);
  setting('fsync_part_directory', 1);
}

/** A setting of a table stands in its engine's text, once it is set explicitly. */
function compareSetting(
  differences: Difference[],
  shape: TableShape,
  row: TableRow,
  setting: string,
  least: number,
): void {
  const value = new RegExp(`[ ,]${setting} = '?(\\d+)`).exec(row.engine_full)?.[1];
  if (value !== undefined && Number(value) >= least) return;
  differences.push({
    table: shape.name,
    what: setting,
    found: value ?? 'not set',
    expected: `at least ${least}`,
    mend: `ALTER TABLE ${shape.name} MODIFY SETTING ${setting} = ${least}`,
  });
}

function compareColumns(differences: Difference[], shape: TableShape, rows: readonly ColumnRow[]): void {
  const differs = (name: string, found: string, expected: string, mend: string | null): void => {
    differences.push({ table: shape.name, what: `column ${name}`, found, expected, mend });
  };
  for (const { name, type } of shape.columns) {
    const row = rows.find((candidate) => candidate.name === name);
    // Rows that are there get the type's default, which is what columns that came later mean by it.
    if (row === undefined) {
      const isKey = shape.sortingKey.split(', ').includes(name) || name === shape.version;
      const mend = isKey ? null : `ALTER TABLE ${shape.name} ADD COLUMN ${name} ${type}`;
      differs(name, missing, type, mend);
    } else if (row.type !== type) differs(name, row.type, type, null);
    // An expression of somebody else's could stand in for what we insert, or refuse it.
    else if (row.default_kind !== '') {
      const mend = `ALTER TABLE ${shape.name} MODIFY COLUMN ${name} REMOVE ${row.default_kind}`;
      differs(name, row.default_kind, 'no expression', mend);
    }
  }
  // A column that somebody has added and that fills itself is harmless; a plain one may belong to a newer ESS.
  for (const { name, type, default_kind: expression } of rows) {
    const isOurs = shape.columns.some((column) => column.name === name);
    if (!isOurs && expression === '') differs(name, type, 'no such column', null);
  }
}

/** A table that is not there and can be made. */
export function isMissingTable({ what, mend }: Difference): boolean {
  return what === 'table' && mend !== null;
}

function refuse(store: Store, difference: Difference | undefined): void {
  if (difference !== undefined) throw refusal(store.name, difference);
}

function refusal(where: string, difference: Difference): EssError {
  const { found, expected } = difference;
  const text = `${where}: ${subjectOf(difference)} is ${found}, expected ${expected}`;
  return new EssError('format_unknown', `${text}; this mends it: ${mendOf(difference)}`);
}

/** What a difference is about, in words: "table events", "table events: column body", "macro shard". */
export function subjectOf({ table, what }: Difference): string {
  if (table === '') return what;
  return what === 'table' ? `table ${table}` : `table ${table}: ${what}`;
}

/** The command that mends a difference, or what a person has to do. */
export function mendOf(difference: Difference): string {
  if (isMissingTable(difference)) return 'ess init';
  if (difference.mend !== null) return `ess init --apply (${difference.mend})`;
  if (difference.what.startsWith('macro ')) return "a macro in the node's configuration, then ess init";
  return 'by hand: no statement does it without touching rows';
}
