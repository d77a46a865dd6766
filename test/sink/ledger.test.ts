// The writer of the ledger: what it says of a ledger that cannot be written.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LedgerWriter } from '../../src/sink/ledger.ts';
import { type Store, StoreError } from '../../src/store/store.ts';

const row = {
  epoch: 'e',
  partition: 0,
  first: 0,
  last: 0,
  rows: 1,
  duplicates: 0,
  parked: 0,
  holes: 0,
  storeTimeMs: 1,
};

/** A store whose first `failures` inserts fail. */
function storeThatFails(failures: number): Store {
  let left = failures;
  return {
    name: 'failing',
    insertNative: async () => {
      left -= 1;
      if (left >= 0) throw new StoreError(241, 'refused', 'too much memory');
    },
    rows: async () => [],
    bytes: async () => Buffer.alloc(0),
    command: async () => {},
    close: async () => {},
  };
}

test('it says what is wrong at each failure, and once that it is over', async () => {
  const said: (string | null)[] = [];
  const writer = new LedgerWriter(storeThatFails(2), (error) =>
    said.push(error instanceof Error ? error.message : null),
  );
  await writer.add(row);
  assert.deepEqual(said, ['too much memory', 'too much memory', null]);
  await writer.add(row);
  assert.equal(said.length, 3);
});
