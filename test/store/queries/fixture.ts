// A chDB of its own for tests of the reads, rows put into it by SQL, and reads of it as a client would see them.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pinEmbeddedEngine } from '../../../src/store/chdb_engine.ts';
import { openStore } from '../../../src/store/client.ts';
import { handleRead, type ReadAnswer } from '../../../src/store/queries/handle.ts';
import { createTables, msPerHour } from '../../../src/store/schema.ts';
import type { Store, StoreTarget } from '../../../src/store/store.ts';

/** One physical row; what is left out gets a value from `rowDefaults` or from the other members. */
export interface TestRow {
  readonly id: string;
  readonly source?: string;
  readonly type?: string;
  readonly subject?: string;
  readonly key?: string;
  readonly timeMs?: number;
  readonly ingestMs?: number;
  readonly logMs?: number;
  readonly storeMs?: number;
  readonly flags?: number;
  readonly partition?: number;
  readonly offset?: number;
  /** Of copies of an event the one with the highest version counts. */
  readonly version?: bigint;
  /** The JSON as received. */
  readonly body?: string;
}

export const noon = Date.UTC(2026, 10, 1, 12);
/** "Now" of the reads in tests. */
export const nowMs = noon + msPerHour;

export type FullRow = Required<TestRow>;

export function fullRow(row: TestRow): FullRow {
  const timeMs = row.timeMs ?? noon;
  const ingestMs = row.ingestMs ?? noon;
  return {
    id: row.id,
    source: row.source ?? '',
    type: row.type ?? 'event',
    subject: row.subject ?? '',
    key: row.key ?? row.id,
    timeMs,
    ingestMs,
    logMs: row.logMs ?? ingestMs + 50,
    storeMs: row.storeMs ?? ingestMs + 100,
    flags: row.flags ?? 1,
    partition: row.partition ?? 0,
    offset: row.offset ?? 0,
    version: row.version ?? 1000n,
    body: row.body ?? JSON.stringify({ id: row.id }),
  };
}

export class Fixture {
  readonly store: Store;
  readonly target: StoreTarget;
  readonly #folder: string;

  private constructor(store: Store, target: StoreTarget, folder: string) {
    this.store = store;
    this.target = target;
    this.#folder = folder;
  }

  static async open(): Promise<Fixture> {
    await pinEmbeddedEngine();
    const folder = mkdtempSync(join(tmpdir(), 'ess-queries-'));
    const target: StoreTarget = { kind: 'embedded', path: join(folder, 'db') };
    const store = await openStore(target);
    for (const statement of createTables('plain')) await store.command(statement);
    return new Fixture(store, target, folder);
  }

  async close(): Promise<void> {
    await this.store.close();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async clear(): Promise<void> {
    await this.store.command('TRUNCATE TABLE events');
  }

  /** Inserts rows as one part; copies of one event stay apart only in different calls. */
  async insert(rows: readonly TestRow[]): Promise<void> {
    const full = rows.map(fullRow);
    const column = <K extends keyof FullRow>(name: K): FullRow[K][] => full.map((row) => row[name]);
    await this.store.command(
      `INSERT INTO events SELECT
         toInt32((time_ms - positiveModulo(time_ms, 3600000)) / 3600000), source, id, type, subject, key,
         fromUnixTimestamp64Milli(time_ms, 'UTC'), fromUnixTimestamp64Milli(ingest_ms, 'UTC'),
         fromUnixTimestamp64Milli(log_ms, 'UTC'),
         fromUnixTimestamp64Milli(store_ms, 'UTC'), flags, 'test', partition, offset, version, body
       FROM system.one ARRAY JOIN
         {ids:Array(String)} AS id, {sources:Array(String)} AS source, {types:Array(String)} AS type,
         {subjects:Array(String)} AS subject, {keys:Array(String)} AS key, {times:Array(Int64)} AS time_ms,
         {ingests:Array(Int64)} AS ingest_ms, {logs:Array(Int64)} AS log_ms,
         {stores:Array(Int64)} AS store_ms, {flags:Array(UInt16)} AS flags,
         {partitions:Array(UInt16)} AS partition, {offsets:Array(UInt64)} AS offset,
         {versions:Array(UInt64)} AS version, {bodies:Array(String)} AS body`,
      {
        ids: column('id'),
        sources: column('source'),
        types: column('type'),
        subjects: column('subject'),
        keys: column('key'),
        times: column('timeMs'),
        ingests: column('ingestMs'),
        logs: column('logMs'),
        stores: column('storeMs'),
        flags: column('flags'),
        partitions: column('partition'),
        offsets: column('offset'),
        versions: column('version'),
        bodies: column('body'),
      },
    );
  }

  /** Inserts many rows whose members are SQL expressions over `number`, 0 to count - 1, which is also the id. */
  async insertSeries(
    count: number,
    { subject = "''", timeMs = `${noon}`, storeMs = `${noon}` },
  ): Promise<void> {
    await this.store.command(
      `INSERT INTO events (* EXCEPT log_time) SELECT toInt32(intDiv(time_ms, 3600000)), '', toString(number), 'event', ${subject}, '',
         fromUnixTimestamp64Milli(toInt64(${timeMs}) AS time_ms, 'UTC'),
         fromUnixTimestamp64Milli({noon:Int64}, 'UTC'), fromUnixTimestamp64Milli(toInt64(${storeMs}), 'UTC'),
         1, 'test', 0, number, 1000, '{}'
       FROM numbers({count:UInt64})`,
      { noon, count },
    );
  }

  async read(path: string, query = '', accept = ''): Promise<ReadAnswer> {
    return handleRead(this.store, { path, query, accept }, { timeoutMs: 60_000, nowMs });
  }

  /** The parsed body of an answer that has to be a 200 with JSON. */
  async json<T>(path: string, query = ''): Promise<T> {
    const answer = await this.read(path, query);
    assert.equal(answer.status, 200, bodyText(answer));
    assert.equal(answer.contentType, 'application/json');
    return JSON.parse(bodyText(answer)) as T;
  }

  /** The parsed problem document of an answer that has to be one. */
  async problem(path: string, query = ''): Promise<Problem> {
    const answer = await this.read(path, query);
    return problemOf(answer);
  }
}

export interface Problem {
  readonly status: number;
  readonly code: string;
  readonly parameter?: string;
  readonly sources?: readonly string[];
}

export function problemOf(answer: ReadAnswer): Problem {
  assert.equal(answer.contentType, 'application/problem+json');
  const problem = JSON.parse(bodyText(answer)) as Problem;
  assert.equal(answer.status, problem.status);
  return problem;
}

export function bodyText(answer: ReadAnswer): string {
  return typeof answer.body === 'string' ? answer.body : Buffer.from(answer.body).toString('utf8');
}

/** Query string of the given parameters, percent-encoded. */
export function query(parameters: Readonly<Record<string, string | number>>): string {
  return Object.entries(parameters)
    .map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(value)}`)
    .join('&');
}

export interface SummaryJson {
  readonly count: number;
  readonly unique_subjects: number;
  readonly rate_per_s: number;
  readonly lag_ms: Readonly<Record<'avg' | 'p50' | 'p90' | 'p95' | 'p99', number | null>>;
  readonly value?: Readonly<
    Record<'count' | 'sum' | 'avg' | 'min' | 'max' | 'p50' | 'p95' | 'p99', number | null>
  >;
}

export interface StatisticsJson {
  readonly from: string;
  readonly to: string;
  readonly bucket_s: number;
  readonly total: SummaryJson;
  readonly groups: readonly (SummaryJson & {
    readonly group: Readonly<Record<string, string | null>>;
    readonly buckets: readonly (SummaryJson & { readonly t: string })[];
  })[];
}

export interface EventJson {
  readonly id: string;
  readonly source: string;
  readonly type: string;
  readonly time: string;
  readonly event: unknown;
  readonly ingest_time: string;
  readonly store_time: string;
  readonly partition: number;
  readonly offset: number;
}

export interface ListJson {
  readonly events: readonly EventJson[];
  readonly next_cursor: string | null;
}
