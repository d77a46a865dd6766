// What each kind of read takes on a table of flight-like events in chDB, warm: the median of five runs after a first
// one, through handleRead, so with the making of the answer but without HTTP. Runs alone in a process of its own.
//   --rows N    events, default 200,000 (the figures in ARCHITECTURE.md are for 5,000,000)
//   --hours N   the span that they are spread over, default 720; with 1 nearly all are in one hour

import { mkdtempSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { EssError } from '../src/errors.ts';
import { pinEmbeddedEngine } from '../src/store/chdb_engine.ts';
import { openStore } from '../src/store/client.ts';
import { handleRead } from '../src/store/queries/handle.ts';
import { createTables, msPerHour } from '../src/store/schema.ts';
import type { Store } from '../src/store/store.ts';

const runs = 5;
const blockRows = 250_000;
/** Time of the first event, epoch ms: on an hour, so that the hours are as full as they can be. */
const startMs = 489_000 * msPerHour;
const timeoutMs = 600_000;

/** Goals, ms, at 5 M rows over 720 hours on 2 cores. */
interface Read {
  readonly name: string;
  readonly goalMs: number | null;
  readonly path: string;
  readonly query: string;
}

function reads(rows: number, hours: number): Read[] {
  const time = (hour: number): string => new Date(startMs + hour * msPerHour).toISOString();
  const hour = Math.floor(hours / 2);
  const oneHour = `from=${time(hour)}&to=${time(hour + 1)}`;
  const all = `from=${time(0)}&to=${time(hours)}`;
  const statistics = (name: string, goalMs: number | null, query: string): Read => ({
    name,
    goalMs,
    path: '/events/statistics',
    query,
  });
  const list = (name: string, goalMs: number | null, query: string): Read => ({
    name,
    goalMs,
    path: '/events/',
    query,
  });
  return [
    { name: 'by id', goalMs: 30, path: `/events/event-77-${Math.floor(rows / 1000)}`, query: '' },
    { name: 'by id, unknown', goalMs: 30, path: '/events/nothing', query: '' },
    list('last 100', 60, ''),
    list('last 100 of a type', 60, 'type=flight'),
    list('last 100 of a subject', null, 'subject=N77'),
    list('first 100', null, 'order=asc'),
    list('100 before the middle', null, `to=${time(hours / 2)}`),
    list('last 10,000', null, 'limit=10000'),
    statistics('one hour', 60, oneHour),
    statistics('one hour by origin', null, `${oneHour}&group_by=origin`),
    statistics('one hour by arrival', null, `${oneHour}&clock=ingest`),
    statistics('all', 1000, all),
    statistics('all, default range', 1000, ''),
    statistics('all, exact', null, `${all}&exact=1`),
    statistics('all by type', 1000, `${all}&group_by=type`),
    statistics('all by subject', null, `${all}&group_by=subject`),
    statistics('all by origin', 3000, `${all}&group_by=origin`),
    statistics('all, value delay', 3000, `${all}&value=delay`),
    statistics('all, where origin', 3000, `${all}&where=origin:ATL`),
    statistics('all by origin, value delay', null, `${all}&group_by=origin&value=delay`),
  ];
}

/** Inserts the events in SQL: identities and a body like those of the seeds' load test. */
async function fill(store: Store, rows: number, hours: number): Promise<void> {
  for (const statement of createTables('plain')) await store.command(statement);
  for (let first = 0; first < rows; first += blockRows) {
    await store.command(
      `INSERT INTO events (* EXCEPT log_time) SELECT
         toInt32(intDiv(ms, {hour:Int64})), 'flights',
         concat('event-', toString(number % 500), '-', toString(intDiv(number, 500))) AS id,
         'flight', concat('N', toString(cityHash64(number) % 5000)) AS subject, id,
         fromUnixTimestamp64Milli(ms, 'UTC'), fromUnixTimestamp64Milli(ms + 20, 'UTC'),
         fromUnixTimestamp64Milli(ms + 20 + number % 97, 'UTC'),
         1, 'bench', number % 4, intDiv(number, 4), 18446744073709551615 - number,
         concat('{"id":"', id, '","type":"flight","source":"flights","subject":"', subject,
           '","time":', toString(ms),
           ',"origin":"', ['ABQ','ALB','ATL','AUS','BDL','BHM','BNA','BOS','BUF','BUR'][1 + cityHash64(number, 1) % 10],
           '","destination":"', ['SFO','LAX','JFK','ORD','DEN'][1 + cityHash64(number, 2) % 5],
           '","delay":', toString(toInt32(cityHash64(number, 3) % 200) - 20),
           ',"distance":', toString(100 + cityHash64(number, 4) % 2000), '}')
       FROM (
         SELECT number, {start:Int64} + toInt64(number * {step:Float64}) AS ms
         FROM numbers({first:UInt64}, {count:UInt64})
       )`,
      {
        hour: msPerHour,
        start: startMs,
        step: (hours * msPerHour) / rows,
        first,
        count: Math.min(blockRows, rows - first),
      },
    );
  }
}

function medianOf(values: number[]): number {
  return values.sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

/** Runs the bench and prints a table. Rejects if a read is not answered with 200 (or 404 for the unknown id). */
export async function main(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: { rows: { type: 'string', default: '200000' }, hours: { type: 'string', default: '720' } },
  });
  const rows = Number(values.rows);
  const hours = Number(values.hours);
  if (!Number.isInteger(rows) || rows < 1 || !Number.isInteger(hours) || hours < 1)
    throw new EssError('bad_option', '--rows and --hours are positive integers');
  const folder = mkdtempSync(join(tmpdir(), 'ess-bench-queries-'));
  await pinEmbeddedEngine();
  const store = await openStore({ kind: 'embedded', path: join(folder, 'db') }, { blocking: true });
  try {
    const fillStart = performance.now();
    await fill(store, rows, hours);
    const fillS = (performance.now() - fillStart) / 1000;
    console.log(
      `${rows} events over ${hours} hours, ${availableParallelism()} cores, Node ${process.version}, ` +
        `filled in ${fillS.toFixed(1)} s; median and slowest of ${runs} warm runs, ms`,
    );
    for (const read of reads(rows, hours)) {
      const times: number[] = [];
      let bytes = 0;
      for (let run = 0; run <= runs; run += 1) {
        const start = performance.now();
        const request = { path: read.path, query: read.query, accept: '' };
        const answer = await handleRead(store, request, { timeoutMs, nowMs: startMs + hours * msPerHour });
        // The first run warms up.
        if (run > 0) times.push(performance.now() - start);
        if (answer.status !== 200 && answer.status !== 404)
          throw new EssError('internal', `${read.name}: ${answer.status} ${String(answer.body)}`);
        bytes = answer.body.length;
      }
      const median = medianOf(times);
      const goal = read.goalMs === null ? '' : `goal ${read.goalMs}`;
      console.log(
        `${read.name.padEnd(28)}${median.toFixed(1).padStart(9)}${(times.at(-1) ?? 0).toFixed(1).padStart(9)}` +
          `${String(bytes).padStart(10)} B  ${goal}`,
      );
    }
  } finally {
    await store.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main(process.argv.slice(2));
