// The parts of a sink's work, each alone, on a log that a backlog was written to: what the drain's time goes into. A
// process of its own, so that its CPU time is that of the part, the engine's threads included.

import { RecordCursor } from '../src/event/record.ts';
import type { LogConsumer } from '../src/log/log.ts';
import { openConsumer } from '../src/log/open.ts';
import { hashIdentity, Identities } from '../src/sink/identities.ts';
import { pinEmbeddedEngine } from '../src/store/chdb_engine.ts';
import { openStore } from '../src/store/client.ts';
import { ensureSchema } from '../src/store/migrate.ts';
import { EventBlock } from '../src/store/native/event_block.ts';
import { eventColumns } from '../src/store/schema.ts';
import { logOf } from './support/backlog.ts';
import { answerRequests } from './support/helper.ts';

export const drainStages = ['read', 'encode', 'insert'] as const;
export type DrainStage = (typeof drainStages)[number];

export interface StageRequest {
  readonly stage: DrainStage;
  readonly logPath: string;
  /** Directory of a new database. */
  readonly storePath: string;
  readonly blockRows: number;
}

export interface StageReply {
  readonly rows: number;
  readonly seconds: number;
  readonly cpu_s: number;
}

/** As a sink thread does it. */
const turnBytes = 1024 * 1024;
const blockBytes = 32 * 1024 * 1024;
const insertsAtOnce = 2;
/** identities-max of the service, all partitions together. */
const identitiesMax = 2_000_000;

async function answer(request: StageRequest): Promise<StageReply> {
  const log = await openConsumer(logOf(request.logPath, 1), {
    index: 0,
    count: 1,
    pollMs: 0,
    shard: 0,
    shards: 1,
    node: 'chdb',
  });
  try {
    switch (request.stage) {
      case 'read':
        return await timed(async () => readAll(log));
      case 'encode':
        return await timed(async () => encodeAll(log, request.blockRows));
      case 'insert':
        return await insertAll(log, request);
    }
  } finally {
    await log.close();
  }
}

async function timed(work: () => Promise<number>): Promise<StageReply> {
  const cpuBefore = process.cpuUsage();
  const startedMs = performance.now();
  const rows = await work();
  const seconds = (performance.now() - startedMs) / 1000;
  const { user, system } = process.cpuUsage(cpuBefore);
  return { rows, seconds, cpu_s: (user + system) / 1e6 };
}

/** Visits every record of a partition, a turn at a time. */
function walk(
  log: LogConsumer,
  partition: number,
  visit: (offset: number, cursor: RecordCursor) => void,
): void {
  const cursor = new RecordCursor();
  for (let next = 0; ; ) {
    const after = log.read(partition, next, turnBytes, (base, _count, bytes) => {
      cursor.open(bytes);
      for (let offset = base; cursor.next(); offset += 1) visit(offset, cursor);
    });
    if (after === next) return;
    next = after;
  }
}

function readAll(log: LogConsumer): number {
  let rows = 0;
  for (let partition = 0; partition < log.partitions; partition += 1) {
    walk(log, partition, () => {
      rows += 1;
    });
  }
  return rows;
}

/** Fills blocks as a sink does, with the look at each identity; `take` gets each full one and gives the next. */
function encode(
  log: LogConsumer,
  blockRows: number,
  first: EventBlock,
  take: (block: EventBlock) => EventBlock,
): number {
  let rows = 0;
  let block = first;
  for (let partition = 0; partition < log.partitions; partition += 1) {
    const identities = new Identities(identitiesMax / log.partitions, 660_000);
    walk(log, partition, (offset, cursor) => {
      hashIdentity(cursor.buffer, cursor.idStart, cursor.typeStart, cursor.sourceStart, cursor.subjectStart);
      if (identities.find() >= cursor.ingestTimeMs) return;
      identities.add(cursor.ingestTimeMs);
      block.append(cursor, log.epoch, partition, offset, Date.now());
      rows += 1;
      if (block.rows >= blockRows || block.approximateBytes >= blockBytes) block = take(block);
    });
    if (block.rows > 0) block = take(block);
  }
  return rows;
}

function encodeAll(log: LogConsumer, blockRows: number): number {
  return encode(log, blockRows, new EventBlock(), (block) => {
    block.pieces(Date.now());
    block.reset();
    return block;
  });
}

async function insertAll(log: LogConsumer, request: StageRequest): Promise<StageReply> {
  await pinEmbeddedEngine();
  const store = await openStore({ kind: 'embedded', path: request.storePath });
  await ensureSchema(store);
  const blocks: Uint8Array[][] = [];
  const rows = encode(log, request.blockRows, new EventBlock(), (block) => {
    blocks.push(block.pieces(Date.now()));
    return new EventBlock();
  });
  const columns = eventColumns.map(({ name }) => name);
  let inserted = 0;
  const work = async (): Promise<void> => {
    for (let block = blocks.shift(); block !== undefined; block = blocks.shift()) {
      inserted += 1;
      await store.insertNative('events', columns, block, { token: `bench-${inserted}` });
    }
  };
  try {
    return await timed(async () => {
      await Promise.all(Array.from({ length: insertsAtOnce }, work));
      return rows;
    });
  } finally {
    await store.close();
  }
}

answerRequests<StageRequest, StageReply>(answer);
