// Invariant: files of the data directory that somebody removes make no answer untrue: with its log gone a process refuses
// events and says why, a store that is gone is filled again, and what nobody has any more is exact once it is accepted.

import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { EssProcess, type StatsJson } from '../support/ess_process.ts';
import { essVerify } from '../verify/by_hand.ts';

const flags = {
  producers: 1,
  sinks: 1,
  readers: 1,
  partitions: 2,
  'log-retention-ms': 0,
  'log-retention-bytes': 0,
};
const patienceMs = 60_000;

test('a log that is removed takes nothing, a store that is removed is accepted as lost', {
  timeout: 180_000,
}, async () => {
  let ess = await EssProcess.start({ flags });
  const { dataDir } = ess;
  const until = async (isIt: (stats: StatsJson) => boolean): Promise<void> => {
    const untilMs = Date.now() + patienceMs;
    for (;;) {
      const stats = await ess.getJson<StatsJson>('/stats');
      if (isIt(stats)) return;
      assert.ok(Date.now() < untilMs, JSON.stringify(stats.troubles));
      await sleep(50);
    }
  };
  try {
    assert.equal((await ess.post('{"id":"before"}', '?ack=store')).status, 200);
    rmSync(join(dataDir, 'log', 'data.mdb'));
    const refused = await ess.post('{"id":"refused"}');
    assert.equal(refused.status, 503);
    assert.match(await refused.text(), /somebody has removed .*data\.mdb: restart ess/);
    assert.equal((await fetch(`${ess.url}/readyz`)).status, 503);
    // A stop in order would wait for the position that it cannot commit.
    await ess.end('SIGKILL');
    ess = await EssProcess.start({ flags, dataDir });
    assert.equal((await ess.post('{"id":"after"}', '?ack=store')).status, 200);
    assert.equal((await fetch(`${ess.url}/events/before`)).status, 200);

    // The log keeps nothing that is stored, so that nothing fills the store again.
    await until(({ partitions }) =>
      partitions.every((each) => !('start' in each) || each.start === each.end),
    );
    assert.equal(await ess.end('SIGTERM'), 0);
    rmSync(join(dataDir, 'store'), { recursive: true });
    ess = await EssProcess.start({ flags, dataDir });
    await until(({ troubles }) => troubles.some(({ kind }) => kind === 'partition_halted'));
    const lost = await essVerify(['--url', ess.url]);
    assert.equal(lost.code, 1);
    assert.match(lost.out, /records_gone .*--accept-losses/);
    const held = await essVerify(['--data-dir', dataDir, '--accept-losses']);
    assert.equal(held.code, 1);
    assert.match(held.err, /stop ess for --accept-losses/);
    assert.equal(await ess.end('SIGTERM'), 0);
    const accepted = await essVerify(['--data-dir', dataDir, '--accept-losses']);
    assert.equal(accepted.code, 0, accepted.out + accepted.err);
    assert.match(accepted.out, /^exact: 1 records = 0 rows .* 1 holes/);
    ess = await EssProcess.start({ flags, dataDir });
    assert.equal((await ess.post('{"id":"again"}', '?ack=store')).status, 200);
    await ess.drained();
    const proof = await essVerify(['--url', ess.url, '--deep']);
    assert.equal(proof.code, 0, proof.out + proof.err);
    assert.deepEqual((await ess.getJson<StatsJson>('/stats')).reasons, []);
  } finally {
    await ess.dispose();
  }
});
