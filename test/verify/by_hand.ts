// Faults that somebody makes by hand in the tables, each on a partition of its own, and `ess verify` as its own process.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Store } from '../../src/store/store.ts';

/** The part of the report that tests look at. */
export interface ReportJson {
  readonly exact: boolean;
  readonly deep: boolean;
  readonly records: number;
  readonly rows: number;
  readonly duplicates: number;
  readonly parked: number;
  readonly in_flight: number;
  readonly events: number | null;
  readonly identities: number | null;
  readonly findings: readonly {
    readonly kind: string;
    readonly partition: number | null;
    readonly first: number | null;
    readonly last: number | null;
    readonly examples: readonly string[];
    readonly text: string;
  }[];
  readonly findings_total: number;
}

export interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** Runs `ess verify`. */
export async function essVerify(argv: readonly string[]): Promise<Ended> {
  const entry = fileURLToPath(new URL('./ess.js', import.meta.url));
  const child = spawn(process.execPath, ['--enable-source-maps', entry, 'verify', ...argv], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let out = '';
  let err = '';
  child.stdout.on('data', (chunk: Buffer) => {
    out += chunk.toString();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    err += chunk.toString();
  });
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  return { code, out, err };
}

/** Runs `ess verify --json`, which has to end with this code. */
export async function essVerifyJson(argv: readonly string[], code: number): Promise<ReportJson> {
  const ended = await essVerify([...argv, '--json']);
  assert.equal(ended.code, code, `${ended.out}\n${ended.err}`);
  return JSON.parse(ended.out) as ReportJson;
}

interface Range {
  readonly first: number;
  readonly last: number;
  readonly rows: number;
}

/** A range in the middle of a partition's ledger, with rows and of several offsets. */
async function someRange(store: Store, epoch: string, partition: number): Promise<Range> {
  const rows = await store.rows<Record<keyof Range, string>>(
    `SELECT l.first AS first, l.last AS last, l.rows AS rows FROM ledger AS l FINAL
     WHERE epoch = {epoch:String} AND partition = {partition:UInt16} AND l.rows > 0 AND l.last > l.first
       AND l.last < (SELECT max(last) FROM ledger WHERE epoch = {epoch:String} AND partition = {partition:UInt16})
     ORDER BY l.first LIMIT 1`,
    { epoch, partition },
  );
  const [row] = rows;
  assert.ok(row !== undefined, `partition ${partition} has several ranges`);
  return { first: Number(row.first), last: Number(row.last), rows: Number(row.rows) };
}

async function firstRow(store: Store, epoch: string, partition: number, range: Range): Promise<number> {
  const [row] = await store.rows<{ found: string }>(
    `SELECT min(e.offset) AS found FROM events AS e
     WHERE epoch = {epoch:String} AND partition = {partition:UInt16} AND offset BETWEEN {first:UInt64} AND {last:UInt64}`,
    { epoch, partition, first: range.first, last: range.last },
  );
  return Number(row?.found);
}

/** Examples of partition 0 that are all of the same event: a client may have sent it several times within the range. */
export const aLostEvent = /^0:\d+ (\{"source":"[^"]*","id":"[^"]+"\})(?:,0:\d+ \1)*$/;

/** What is to be found, as "kind partition:first". */
export type Expected = string;

/** Deletes a row. */
export async function deleteRow(store: Store, epoch: string, partition: number): Promise<Expected[]> {
  const range = await someRange(store, epoch, partition);
  const offset = await firstRow(store, epoch, partition, range);
  await store.command(
    `ALTER TABLE events DELETE WHERE epoch = {epoch:String} AND partition = {partition:UInt16} AND offset = {offset:UInt64}
     SETTINGS mutations_sync = 2`,
    { epoch, partition, offset },
  );
  return [`rows_missing ${partition}:${range.first}`];
}

/** Inserts a row again, as a sink would that knows nothing of tokens. */
export async function doubleRow(store: Store, epoch: string, partition: number): Promise<Expected[]> {
  const range = await someRange(store, epoch, partition);
  const offset = await firstRow(store, epoch, partition, range);
  await store.command(
    // Under another id, or a merge might make one row of both before anybody has looked.
    `INSERT INTO events SELECT * REPLACE(concat(id, '-again') AS id) FROM events
     WHERE epoch = {epoch:String} AND partition = {partition:UInt16} AND offset = {offset:UInt64}`,
    { epoch, partition, offset },
    { settings: { insert_deduplication_token: `by hand ${partition}:${offset}` } },
  );
  return [`rows_doubled ${partition}:${range.first}`];
}

/** Deletes a ledger row. */
export async function deleteRange(store: Store, epoch: string, partition: number): Promise<Expected[]> {
  const { first } = await someRange(store, epoch, partition);
  await store.command(
    `ALTER TABLE ledger DELETE WHERE epoch = {epoch:String} AND partition = {partition:UInt16} AND first = {first:UInt64}
     SETTINGS mutations_sync = 2`,
    { epoch, partition, first },
  );
  return [`ledger_gap ${partition}:${first}`, `rows_outside ${partition}:${first}`];
}

/** Inserts a ledger row of one offset that has one already. */
export async function addRange(store: Store, epoch: string, partition: number): Promise<Expected[]> {
  const { last } = await someRange(store, epoch, partition);
  const has = await store.rows<{ n: string }>(
    `SELECT count() AS n FROM events
     WHERE epoch = {epoch:String} AND partition = {partition:UInt16} AND offset = {last:UInt64}`,
    { epoch, partition, last },
  );
  const rows = Number(has[0]?.n ?? 0);
  await store.command(
    `INSERT INTO ledger (epoch, partition, first, last, rows, duplicates, parked, holes, store_time)
     SELECT {epoch:String}, {partition:UInt16}, {last:UInt64}, {last:UInt64}, {rows:UInt32}, 0, 0, {holes:UInt32}, now64(3)`,
    { epoch, partition, last, rows, holes: 1 - rows },
    { settings: { insert_deduplication_token: `by hand ${partition}:${last}` } },
  );
  return [`ledger_overlap ${partition}:${last}`];
}

/** What was found, in the same words. */
export function foundIn({ findings }: ReportJson): string[] {
  return findings.map(({ kind, partition, first }) => `${kind} ${partition}:${first}`).sort();
}
