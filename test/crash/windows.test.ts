// Invariant: a process that dies inside a critical window loses nothing that it acknowledged and doubles nothing,
// and neither does one that dies there again while it makes up for the first time.

import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { EssProcess } from '../support/ess_process.ts';
import { Journal, refusePoison } from './journal.ts';
import { load } from './load.ts';
import { between, type Random, seededRandom, testSeed } from './random.ts';

const flags = {
  producers: 1,
  sinks: 2,
  readers: 1,
  partitions: 3,
  'sink-linger-ms': 5,
  'sink-batch-rows-max': 100,
  'sink-inserts-per-second': 200,
};

/** Where a process is made to die; some of them only come by where the store refuses events. */
const points = [
  'sink.after_intent',
  'sink.after_insert',
  'sink.after_ledger',
  'sink.after_park',
  'producer.before_append',
  'producer.after_append',
  'log.append.written',
  'log.append.durable',
  'log.commit.durable',
  'log.park.durable',
] as const;

/** Two deaths for one range: the second meets what the first has left. */
const pairs = [
  ['sink.after_intent', 'sink.after_insert'],
  ['sink.after_insert', 'sink.after_ledger'],
  ['log.park.durable', 'sink.after_intent'],
] as const;

describe('a death inside a window', () => {
  const random = seededRandom(testSeed());
  const journal = new Journal('windows');
  let dataDir: string;

  before(async () => {
    const ess = await EssProcess.start({ flags });
    dataDir = ess.dataDir;
    assert.equal(await ess.end('SIGTERM'), 0);
    await refusePoison(dataDir);
  });
  after(() => {
    rmSync(dataDir, { recursive: true, force: true });
  });

  for (const point of points) {
    test(`at ${point} leaves nothing lost and nothing doubled`, async () => {
      await dieAt(point, between(random, 1, 12), random, journal, dataDir);
      await recover(dataDir);
    });
  }

  for (const [first, second] of pairs) {
    test(`at ${first}, and after the restart at ${second}, leaves nothing lost and nothing doubled`, async () => {
      await dieAt(first, between(random, 1, 12), random, journal, dataDir);
      await dieAt(second, 1, random, journal, dataDir);
      await recover(dataDir);
    });
  }

  test('at any of them leaves every promise kept in the log and in the store', () => journal.check(dataDir));
});

/** Runs the service under load until it dies at the n-th passing of the point. */
async function dieAt(
  point: string,
  n: number,
  random: Random,
  journal: Journal,
  dataDir: string,
): Promise<void> {
  const env = { ESS_FAULT: `${point}:${n}` };
  let ess: EssProcess;
  try {
    ess = await EssProcess.start({ flags, dataDir, env });
  } catch (error) {
    // What is left to do at the start may already lead through the point.
    if (String(error).includes('SIGKILL')) return;
    throw error;
  }
  try {
    await load(ess, journal, random, () => false, { poisonShare: 0.02 });
    assert.equal(await ess.ended(), 'SIGKILL');
  } finally {
    await ess.end('SIGKILL');
  }
}

/** Starts the service without a fault and lets it do what is left; one more death ends it. */
async function recover(dataDir: string): Promise<void> {
  const ess = await EssProcess.start({ flags, dataDir });
  try {
    const { conservation, reasons } = await ess.drained();
    assert.deepEqual(reasons, []);
    assert.equal(conservation.exact, true);
    assert.equal(conservation.accepted, conservation.stored + conservation.duplicates + conservation.parked);
  } finally {
    await ess.end('SIGKILL');
  }
}
