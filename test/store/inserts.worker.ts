// A thread with an embedded store of its own that inserts blocks of consecutive numbers, each block twice under one
// token, closes and ends.

import { workerData } from 'node:worker_threads';
import { openStore } from '../../src/store/client.ts';
import { NativeBlock } from '../../src/store/native/block.ts';

interface Orders {
  readonly path: string;
  readonly worker: number;
  readonly blocks: number;
  readonly rows: number;
}

const { path, worker, blocks, rows } = workerData as Orders;
const store = await openStore({ kind: 'embedded', path });
const block = new NativeBlock([
  { name: 'worker', type: 'UInt8' },
  { name: 'n', type: 'UInt32' },
]);
for (let i = 0; i < blocks; i += 1) {
  block.reset();
  for (let n = i * rows; n < (i + 1) * rows; n += 1) {
    block.column('worker').append(worker);
    block.column('n').append(n);
  }
  for (let attempt = 0; attempt < 2; attempt += 1)
    await store.insertNative('shared', ['worker', 'n'], block.pieces(), { token: `${worker}:${i}` });
}
await store.close();
