// The peer of the batch bench: the rows that ESS would store, as JSONEachRow straight into chDB, as somebody does who
// has no service between. A process of its own with a database of its own; the same tables, so that fsync, index and
// sorting cost the same. Making the text is not counted, only the inserts.

import { mkdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Session } from 'chdb';
import { createTables, eventColumns, msPerHour } from '../src/store/schema.ts';
import { EventBatch } from './support/event_batch.ts';
import { answerRequests } from './support/helper.ts';

/** How the text reaches chDB. */
export interface InsertMode {
  /** `file`: INSERT ... FROM INFILE; `inline`: Session.insert with the bytes. */
  readonly way: 'file' | 'inline';
  /** Inserts in flight. */
  readonly concurrency: number;
}

export const insertModes: readonly InsertMode[] = [
  { way: 'file', concurrency: 1 },
  { way: 'inline', concurrency: 1 },
  { way: 'file', concurrency: 2 },
  { way: 'inline', concurrency: 2 },
];

export type InsertRequest =
  | { readonly type: 'open'; readonly path: string }
  /** Makes the text of `rows` rows. */
  | {
      readonly type: 'prepare';
      readonly run: number;
      readonly rows: number;
      readonly blockRows: number;
      readonly way: InsertMode['way'];
    }
  /** Inserts what was prepared. */
  | { readonly type: 'insert'; readonly concurrency: number }
  | { readonly type: 'count' };

export interface InsertReply {
  readonly rows: number;
  readonly seconds: number;
  /** Of this process, the engine's threads included. */
  readonly cpu_s: number;
}

/** chDB's own default is the engine's: more rows in one text are cut into several blocks. */
const settings = 'max_insert_block_size = 1048576';
const columns = eventColumns.map(({ name }) => name);
let session: Session | null = null;
let blocks: (string | Buffer)[] = [];
let preparedRows = 0;
let folder = '';

async function answer(request: InsertRequest): Promise<InsertReply> {
  switch (request.type) {
    case 'open': {
      session = new Session(request.path);
      for (const statement of createTables('plain')) session.query(statement);
      folder = join(request.path, 'bench-rows');
      return { rows: 0, seconds: 0, cpu_s: 0 };
    }
    case 'prepare':
      prepare(request);
      return { rows: request.rows, seconds: 0, cpu_s: 0 };
    case 'insert':
      return insert(request.concurrency);
    case 'count': {
      const counted = opened().query('SELECT count() FROM events', 'TabSeparated');
      return { rows: Number(counted), seconds: 0, cpu_s: 0 };
    }
  }
}

function opened(): Session {
  if (session === null) throw new Error('the database is not open');
  return session;
}

function prepare(request: Extract<InsertRequest, { type: 'prepare' }>): void {
  const { run, rows, blockRows, way } = request;
  removeFiles();
  blocks = [];
  preparedRows = rows;
  const target = way === 'file' ? fileFolder(rows) : '';
  for (let first = 0; first < rows; first += blockRows) {
    const count = Math.min(blockRows, rows - first);
    const text = rowsText(run, first, count);
    if (way === 'inline') {
      blocks.push(text);
      continue;
    }
    const file = join(target, `ess-bench-${process.pid}-${run}-${first}.json`);
    writeFileSync(file, text);
    blocks.push(file);
  }
}

/** Memory if the files take at most half of what is free there, else the data directory. */
function fileFolder(rows: number): string {
  const bytesAbout = rows * 700;
  try {
    const { bavail, bsize } = statfsSync('/dev/shm');
    if (bavail * bsize > bytesAbout * 2) return '/dev/shm';
  } catch {}
  mkdirSync(folder, { recursive: true });
  return folder;
}

function removeFiles(): void {
  for (const block of blocks) if (typeof block === 'string') rmSync(block, { force: true });
}

/** The rows as ESS would have made them of the same events. */
function rowsText(run: number, first: number, count: number): Buffer {
  const batch = new EventBatch(count, run);
  batch.stamp(first);
  const nowMs = Date.now();
  const now = new Date(nowMs).toISOString().replace('T', ' ').replace('Z', '');
  const hour = Math.floor(nowMs / msPerHour);
  const lines: string[] = [];
  for (let i = 0; i < count; i += 1) {
    const id = batch.id(i);
    const offset = first + i;
    const version = (1n << 64n) - 1n - ((BigInt(nowMs) << 20n) | (BigInt(offset) & 0xfffffn));
    const body = batch.bytes.toString('latin1', batch.lineStart(i), batch.lineEnd(i));
    lines.push(
      `{"hour":${hour},"source":"","id":"${id}","type":"${batch.type(i)}","subject":"${batch.subject(i)}","key":"${id}",` +
        `"time":"${now}","ingest_time":"${now}","store_time":"${now}","flags":4,` +
        `"epoch":"00000000000000000000000000000000","partition":${offset % 4},"offset":${offset},` +
        `"version":${version},"body":${JSON.stringify(body)}}\n`,
    );
  }
  return Buffer.from(lines.join(''), 'latin1');
}

async function insert(concurrency: number): Promise<InsertReply> {
  const database = opened();
  const list = columns.map((name) => `\`${name}\``).join(', ');
  const waiting = [...blocks];
  const work = async (): Promise<void> => {
    for (let block = waiting.shift(); block !== undefined; block = waiting.shift()) {
      if (typeof block === 'string') {
        await database.queryAsync(
          `INSERT INTO events (${list}) FROM INFILE '${block}' COMPRESSION 'none' SETTINGS ${settings} FORMAT JSONEachRow`,
        );
      } else {
        await database.insert({
          table: 'events',
          values: block,
          format: 'JSONEachRow',
          columns,
          settings: { max_insert_block_size: 1_048_576 },
        });
      }
    }
  };
  const cpuBefore = process.cpuUsage();
  const startedMs = performance.now();
  await Promise.all(Array.from({ length: concurrency }, work));
  const seconds = (performance.now() - startedMs) / 1000;
  const { user, system } = process.cpuUsage(cpuBefore);
  const rows = preparedRows;
  removeFiles();
  blocks = [];
  preparedRows = 0;
  return { rows, seconds, cpu_s: (user + system) / 1e6 };
}

answerRequests<InsertRequest, InsertReply>(answer, async () => {
  removeFiles();
  session?.close();
});
