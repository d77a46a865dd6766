// Invariant: whatever moment a `kill -9` comes, every event that was answered with 200 is stored exactly once, every
// other one at most once, and the ledger covers the log without gap or overlap.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { EssProcess } from '../support/ess_process.ts';
import { Journal } from './journal.ts';
import { load } from './load.ts';
import { between, seededRandom, testSeed } from './random.ts';

const rounds = 22;

// Small blocks, many of them: the more of everything there is in progress, the more a kill can hit.
const flags = {
  producers: 2,
  sinks: 2,
  readers: 1,
  partitions: 4,
  'sink-linger-ms': 5,
  'sink-batch-rows-max': 200,
  'sink-inserts-per-second': 200,
  'log-retention-bytes': 200_000,
};

test(`${rounds} kills at random moments, restarted at once`, { timeout: 300_000 }, async (context) => {
  const random = seededRandom(testSeed());
  const journal = new Journal('crash');
  let ess = await EssProcess.start({ flags });
  try {
    for (let round = 0; round < rounds; round += 1) {
      let isOver = false;
      const loading = load(ess, journal, random, () => isOver);
      await sleep(between(random, 20, 900));
      await ess.end('SIGKILL');
      isOver = true;
      await loading;
      ess = await EssProcess.start({ flags, dataDir: ess.dataDir });
    }
    // The last one also has to do with load while it makes up for what the killed ones left.
    let isOver = false;
    const loading = load(ess, journal, random, () => isOver);
    await sleep(500);
    isOver = true;
    await loading;
    const stats = await ess.drained();
    const { conservation } = stats;
    assert.equal(conservation.exact, true);
    assert.equal(conservation.accepted, conservation.stored + conservation.duplicates + conservation.parked);
    await journal.checkReads(ess);
    assert.equal(await ess.end('SIGTERM'), 0);
    await journal.check(ess.dataDir);
    const promised = journal.events.filter((event) => event.isPromised).length;
    context.diagnostic(`${journal.events.length} events sent, ${promised} promised`);
  } finally {
    await ess.dispose();
  }
});
