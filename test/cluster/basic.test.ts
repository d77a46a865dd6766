// The engine on three brokers and four nodes (two shards of two replicas), whole and in halves: what is answered 200
// is stored exactly once, whichever way the roles are dealt out.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Journal } from '../crash/journal.ts';
import { load } from '../crash/load.ts';
import { seededRandom, testSeed } from '../crash/random.ts';
import { needsKafka } from '../support/kafka_cluster.ts';
import { ClusterRig, type Scope } from './rig.ts';

describe('on a cluster', needsKafka(), () => {
  const random = seededRandom(testSeed());
  let rig: ClusterRig;

  before(async () => {
    rig = await ClusterRig.start();
  });
  after(() => rig.dispose());

  async function withScope(work: (scope: Scope) => Promise<void>): Promise<void> {
    const scope = await rig.scope();
    try {
      await work(scope);
    } finally {
      await scope.end();
    }
  }

  test('role all stores exactly once what it answered, over both shards', () =>
    withScope(async (scope) => {
      const ess = await scope.start('all');
      const journal = new Journal('all');
      const untilMs = Date.now() + 5000;
      await load(ess, journal, random, () => Date.now() > untilMs);
      await scope.hold(journal);
      await journal.checkReads(ess);
      assert.equal(await ess.end('SIGTERM'), 0);
    }));

  test('one ingest and two sink processes do what role all does, ack=store included', () =>
    withScope(async (scope) => {
      const ingest = await scope.start('ingest');
      await scope.start('sink');
      await scope.start('sink');
      const journal = new Journal('halves');
      const untilMs = Date.now() + 5000;
      await load(ingest, journal, random, () => Date.now() > untilMs);
      await scope.hold(journal);
      await journal.checkReads(ingest);
    }));
});
