// The ring between two threads: millions of records through a small ring, across the places where positions wrap.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { createDoorbell } from '../../src/ring/doorbell.ts';
import { controlIndex, createRing, openRing } from '../../src/ring/layout.ts';
import type { TortureEnd, TortureResult } from './ring_torture.worker.ts';

/** A run in which no record moves for this long has lost a wake. */
const stallMs = 60_000;

async function torture(capacityBytes: number, startPosition: number, records: number): Promise<number> {
  const seed = Number(process.env['RING_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
  console.log(`seed: RING_SEED=${seed}`);
  const ring = createRing(capacityBytes, startPosition);
  const progress = new SharedArrayBuffer(8);
  const shared = {
    ring,
    writerBell: createDoorbell(),
    readerBell: createDoorbell(),
    progress,
    records,
    seed,
  };
  const workers: Worker[] = [];
  const run = (role: TortureEnd['role']): Promise<TortureResult> =>
    new Promise((resolve, reject) => {
      const workerData: TortureEnd = { role, ...shared };
      const worker = new Worker(new URL('./ring_torture.worker.js', import.meta.url), { workerData });
      workers.push(worker);
      worker.once('message', resolve);
      worker.once('error', reject);
      worker.once('exit', () => reject(new assert.AssertionError({ message: `${role} ended early` })));
    });
  let stopWatching = (): void => {};
  const stalled = new Promise<never>((_, reject) => {
    let last = '';
    const watch = setInterval(() => {
      const now = new Int32Array(progress).join(' records written, read ');
      if (now === last) reject(new assert.AssertionError({ message: `no progress: ${now} (seed ${seed})` }));
      last = now;
    }, stallMs);
    stopWatching = () => clearInterval(watch);
  });
  try {
    const results = await Promise.race([Promise.all([run('writer'), run('reader')]), stalled]);
    for (const { role, sleeps } of results) assert.ok(sleeps > 0, `the ${role} slept at times`);
  } finally {
    stopWatching();
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
  const { control } = openRing(ring);
  const tail = Atomics.load(control, controlIndex.tail);
  assert.equal(Atomics.load(control, controlIndex.head), tail);
  return tail;
}

test('ten million records pass between two threads unharmed while positions turn negative', async () => {
  const startPosition = 2 ** 31 - 2 ** 28;
  const tail = await torture(2 ** 16, startPosition, 10_000_000);
  assert.ok(tail < 0, `from ${startPosition} to ${tail}`);
});

test('a million records pass between two threads unharmed while positions turn positive, in a ring of 4 KiB', async () => {
  const startPosition = -(2 ** 20);
  const tail = await torture(2 ** 12, startPosition, 1_000_000);
  assert.ok(tail > 0, `from ${startPosition} to ${tail}`);
});
