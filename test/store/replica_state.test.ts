// What a replica says of itself. The engine of the tests cannot replicate: a table of the same columns stands for
// system.replicas, and the statement itself is the real one.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import { pinEmbeddedEngine } from '../../src/store/chdb_engine.ts';
import { openStore } from '../../src/store/client.ts';
import { type ReplicaState, readReplicaState } from '../../src/store/replica_state.ts';
import type { Store } from '../../src/store/store.ts';

interface Row {
  readonly table: string;
  readonly isReadonly?: number;
  readonly isSessionExpired?: number;
  readonly keeperException?: string;
  readonly logPointer?: number;
  readonly logMaxIndex?: number;
  readonly insertsInQueue?: number;
  readonly absoluteDelay?: number;
}

describe('the state of a replica', () => {
  const folder = mkdtempSync(join(tmpdir(), 'ess-state-'));
  let store: Store;

  /** The state that follows from these rows of system.replicas. */
  const stateOf = async (rows: readonly Row[], tables = ['events', 'ledger']): Promise<ReplicaState> => {
    for (const row of rows) {
      const { table, isReadonly = 0, isSessionExpired = 0, keeperException = '' } = row;
      const { logPointer = 8, logMaxIndex = 7, insertsInQueue = 0, absoluteDelay = 0 } = row;
      await store.command(
        `INSERT INTO replicas VALUES (currentDatabase(), '${table}', ${isReadonly}, ${isSessionExpired},
           '${keeperException}', ${logPointer}, ${logMaxIndex}, ${insertsInQueue}, ${absoluteDelay})`,
      );
    }
    const pretended: Store = {
      name: store.name,
      insertNative: (...insert) => store.insertNative(...insert),
      bytes: (...read) => store.bytes(...read),
      command: (...command) => store.command(...command),
      close: async () => {},
      rows: (sql, params, options) =>
        store.rows(sql.replaceAll('system.replicas', 'replicas'), params, options),
    };
    return readReplicaState(pretended, tables, {});
  };

  before(async () => {
    await pinEmbeddedEngine();
    store = await openStore({ kind: 'embedded', path: folder });
    await store.command(
      `CREATE TABLE replicas (database String, table String, is_readonly UInt8, is_session_expired UInt8,
         zookeeper_exception String, log_pointer UInt64, log_max_index UInt64, inserts_in_queue UInt32,
         absolute_delay UInt64) ENGINE = MergeTree ORDER BY table`,
    );
  });
  after(async () => {
    await store.close();
    rmSync(folder, { recursive: true, force: true });
  });
  beforeEach(() => store.command('TRUNCATE TABLE replicas'));

  const well: Row = { table: 'ledger' };

  test('it is current if it is level with the log and has nothing to fetch', async () => {
    assert.deepEqual(await stateOf([well, { table: 'events' }]), { tables: 2, isCurrent: true, delayS: 0 });
  });

  test('a table into which nothing was ever inserted is current', async () => {
    const { isCurrent } = await stateOf([well, { table: 'events', logPointer: 0, logMaxIndex: 0 }]);
    assert.equal(isCurrent, true);
  });

  for (const [name, row] of [
    ['entries of the log are not yet in its queue', { logPointer: 7 }],
    ['an insert is in its queue', { insertsInQueue: 1 }],
    ['it says so', { absoluteDelay: 3 }],
  ] as const)
    test(`it is behind if ${name}, of whichever table`, async () => {
      const { isCurrent, delayS } = await stateOf([well, { table: 'events', ...row }]);
      assert.deepEqual([isCurrent, delayS], [false, 'absoluteDelay' in row ? 3 : 0]);
    });

  for (const [name, row] of [
    ['is read-only', { isReadonly: 1 }],
    // As it looks when the session has just ended: no delay, no queue, and no log to be behind of.
    ['has lost its session', { isSessionExpired: 1, logMaxIndex: 0 }],
    ['could not ask Keeper', { keeperException: 'Session expired', logMaxIndex: 0 }],
  ] as const)
    test(`a replica that ${name} cannot tell whether it is behind`, async () => {
      const state = await stateOf([well, { table: 'events', ...row }]);
      assert.deepEqual(state, { tables: 2, isCurrent: false, delayS: Number.POSITIVE_INFINITY });
    });

  test('only the tables that were asked for count', async () => {
    const state = await stateOf([{ table: 'events' }, { table: 'ledger', absoluteDelay: 9 }], ['events']);
    assert.deepEqual(state, { tables: 1, isCurrent: true, delayS: 0 });
  });

  test('tables that are not replicated have no other copies', async () => {
    assert.deepEqual(await stateOf([]), { tables: 0, isCurrent: true, delayS: 0 });
  });
});
