// Makes the tables of schema.ts on a node where they are missing, and refuses tables of another shape: rows written
// into them could be lost or doubled without a sign. Runs once on each sink thread before its first insert.

import { EssError } from '../errors.ts';
import { createTables, deduplicationWindowBlocks, eventColumns, ledgerColumns } from './schema.ts';
import type { Store } from './store.ts';

interface TableShape {
  readonly name: string;
  readonly columns: readonly { readonly name: string; readonly type: string }[];
  readonly sortingKey: string;
  readonly partitionKey: string;
  /** Version column of ReplacingMergeTree. */
  readonly version: string;
}

/** What the statements in schema.ts make; the tests run both against each other. */
const tables: readonly TableShape[] = [
  {
    name: 'events',
    columns: eventColumns,
    sortingKey: 'hour, source, id',
    partitionKey: "toYYYYMM(ingest_time, 'UTC')",
    version: 'version',
  },
  {
    name: 'ledger',
    columns: ledgerColumns,
    sortingKey: 'epoch, partition, first, last',
    partitionKey: '',
    version: 'store_time',
  },
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
 * Makes missing tables and checks all of them. Safe to repeat and to run on several threads at once. Rejects with
 * EssError `format_unknown`, naming the first difference, or with StoreError. Nothing is ever altered or dropped.
 */
export async function ensureSchema(store: Store): Promise<void> {
  let found = await readTables(store);
  // CREATE only where something is missing: a user without that right can still run on tables made beforehand.
  if (tables.some(({ name }) => !found.has(name))) {
    for (const statement of createTables) await store.command(statement);
    found = await readTables(store);
  }
  const columns = await store.rows<ColumnRow>(
    `SELECT table, name, type, default_kind FROM system.columns
     WHERE database = currentDatabase() AND table IN {tables:Array(String)}`,
    { tables: tables.map(({ name }) => name) },
  );
  for (const shape of tables) {
    const row = found.get(shape.name);
    if (row === undefined)
      throw new EssError('internal', `table ${shape.name} is not there after CREATE TABLE`);
    checkTable(shape, row);
    checkColumns(
      shape,
      columns.filter(({ table }) => table === shape.name),
    );
  }
}

async function readTables(store: Store): Promise<Map<string, TableRow>> {
  const rows = await store.rows<TableRow>(
    `SELECT name, engine_full, sorting_key, partition_key FROM system.tables
     WHERE database = currentDatabase() AND name IN {tables:Array(String)}`,
    { tables: tables.map(({ name }) => name) },
  );
  return new Map(rows.map((row) => [row.name, row]));
}

function checkTable(shape: TableShape, row: TableRow): void {
  const engine = engineCall.exec(row.engine_full);
  if (engine === null) throw differs(shape, 'engine', row.engine_full, 'a ReplacingMergeTree');
  const version = engine[2]?.split(',').at(-1)?.trim() ?? '';
  if (version !== shape.version) throw differs(shape, 'version column', version, shape.version);
  if (row.sorting_key !== shape.sortingKey)
    throw differs(shape, 'sorting key', row.sorting_key, shape.sortingKey);
  if (row.partition_key !== shape.partitionKey)
    throw differs(shape, 'partition key', row.partition_key, shape.partitionKey);
  if (engine[1] === undefined) {
    checkSetting(shape, row, 'non_replicated_deduplication_window', deduplicationWindowBlocks);
    checkSetting(shape, row, 'fsync_after_insert', 1);
    checkSetting(shape, row, 'fsync_part_directory', 1);
  } else {
    // Durable by its copies; the window is on by default there, but a default may change.
    checkSetting(shape, row, 'replicated_deduplication_window', deduplicationWindowBlocks);
  }
}

/** A setting of a table stands in its engine's text, once it is set explicitly. */
function checkSetting(shape: TableShape, row: TableRow, setting: string, least: number): void {
  const value = new RegExp(`[ ,]${setting} = '?(\\d+)`).exec(row.engine_full)?.[1];
  if (value === undefined || Number(value) < least)
    throw differs(shape, setting, value ?? 'not set', `at least ${least}`);
}

function checkColumns(shape: TableShape, rows: readonly ColumnRow[]): void {
  for (const { name, type } of shape.columns) {
    const row = rows.find((candidate) => candidate.name === name);
    if (row === undefined) throw differs(shape, `column ${name}`, 'missing', type);
    if (row.type !== type) throw differs(shape, `column ${name}`, row.type, type);
    // An expression of somebody else's could stand in for what we insert, or refuse it.
    if (row.default_kind !== '') throw differs(shape, `column ${name}`, row.default_kind, 'no expression');
  }
  // A column that somebody has added and that fills itself is harmless; a plain one may belong to a newer ESS.
  const extra = rows.find(
    (row) => row.default_kind === '' && !shape.columns.some(({ name }) => name === row.name),
  );
  if (extra !== undefined) throw differs(shape, `column ${extra.name}`, extra.type, 'no such column');
}

function differs(shape: TableShape, what: string, found: string, expected: string): EssError {
  return new EssError('format_unknown', `table ${shape.name}: ${what} is ${found}, expected ${expected}`);
}
