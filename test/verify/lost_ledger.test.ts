// Invariant: where the ledger is lost and the rows are not, no partition is made one range that does not fit into memory:
// it halts, a proof names what has no ledger row, and the ledger written anew from the rows makes it exact.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { pinEmbeddedEngine } from '../../src/store/chdb_engine.ts';
import { openStore } from '../../src/store/client.ts';
import { blockRowsMax } from '../../src/store/schema.ts';
import { EssProcess, type StatsJson } from '../support/ess_process.ts';
import { essVerify, essVerifyJson } from './by_hand.ts';

const patienceMs = 120_000;
const batchEvents = 20_000;
const flags = { producers: 1, sinks: 1, readers: 1, partitions: 1, 'http-deadline-ms': patienceMs };

test('a lost ledger of more rows than one range may have is written anew on demand', {
  timeout: 600_000,
}, async () => {
  let ess = await EssProcess.start({ flags });
  const { dataDir } = ess;
  try {
    const count = blockRowsMax + batchEvents;
    for (let first = 0; first < count; first += batchEvents) {
      const batch = Array.from({ length: batchEvents }, (_, i) => `{"id":"${first + i}"}`);
      assert.equal((await ess.post(`[${batch.join()}]`)).status, 200);
    }
    await ess.drained();
    assert.equal(await ess.end('SIGTERM'), 0);
    const files = ['--data-dir', dataDir];
    await pinEmbeddedEngine();
    const store = await openStore({ kind: 'embedded', path: join(dataDir, 'store') });
    await store.command('TRUNCATE TABLE ledger');
    await store.close();

    const lost = await essVerifyJson([...files, '--deep'], 1);
    const places = lost.findings.map(({ kind, first, last }) => [kind, first, last]);
    assert.deepEqual(places, [['ledger_gap', 0, count - 1]]);
    ess = await EssProcess.start({ flags, dataDir });
    for (const untilMs = Date.now() + patienceMs; ; await sleep(100)) {
      const { reasons } = await ess.getJson<StatsJson>('/stats');
      if (reasons.some((reason) => /ledger is lost.* --accept-losses/.test(reason))) break;
      assert.ok(Date.now() < untilMs, reasons.join('; '));
    }
    assert.equal((await ess.post('{"id":"while it is halted"}')).status, 200);
    assert.equal(await ess.end('SIGTERM'), 0);

    const anew = await essVerify([...files, '--accept-losses']);
    assert.equal(anew.code, 0, anew.out + anew.err);
    ess = await EssProcess.start({ flags, dataDir });
    await ess.drained();
    const whole = await ess.getJson<{ readonly exact: boolean; readonly rows: number }>('/verify?deep=1');
    assert.deepEqual([whole.exact, whole.rows], [true, count + 1]);
    assert.equal(await ess.end('SIGTERM'), 0);
  } finally {
    await ess.dispose();
  }
});
