// A thread that reads from an embedded store of its own without a pause, and then ends in the way it was asked to.

import { setTimeout as delay } from 'node:timers/promises';
import { parentPort, workerData } from 'node:worker_threads';
import { openStore } from '../../src/store/client.ts';

interface Orders {
  readonly path: string;
  readonly ending: string;
}

const { path, ending } = workerData as Orders;
const store = await openStore({ kind: 'embedded', path });
let isOver = false;

async function read(): Promise<void> {
  while (!isOver) {
    const [row] = await store.rows<{ s: string }>('SELECT sum(number) AS s FROM numbers({n:UInt32})', {
      n: 100_000,
    });
    if (row?.s !== '4999950000') throw new Error(`read ${row?.s}`);
  }
}

const reads = [read(), read()];
parentPort?.postMessage('reading');
if (ending === 'when told') await new Promise((resolve) => parentPort?.once('message', resolve));
else await delay(50);

isOver = true;
await Promise.all(reads);
if (ending === 'process.exit') process.exit(0);
if (ending === 'uncaught error')
  throw Object.assign(new Error('thrown on purpose'), { code: 'thrown on purpose' });
if (ending !== 'by itself, store open') await store.close();
