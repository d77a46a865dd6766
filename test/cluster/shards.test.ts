// Invariant: while a shard is added to a cluster that takes events, every event that was answered 200 is stored exactly
// once, on one shard or another, retries of events from before included; and nothing runs on other shards than recorded.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Journal } from '../crash/journal.ts';
import { load } from '../crash/load.ts';
import { between, seededRandom, testSeed } from '../crash/random.ts';
import type { EssProcess } from '../support/ess_process.ts';
import { needsKafka } from '../support/kafka_cluster.ts';
import { essVerifyJson } from '../verify/by_hand.ts';
import { ClusterRig, clickhouseOf, type Flags, type Scope } from './rig.ts';

/** How long anything may take on a slow, busy machine, ms. */
const patienceMs = 180_000;
const pollMs = 100;

/** Small blocks and many of them, so that a kill is likely to be between two steps of one. */
const flags: Flags = {
  producers: 1,
  sinks: 3,
  readers: 1,
  'sink-linger-ms': 20,
  'sink-batch-rows-max': 100,
  'sink-inserts-per-second': 100,
  // The least that brokers allow unless they are told otherwise.
  'kafka-session-timeout-ms': 6_000,
  // Clients that wait for a store without a sink go on with other events after this time.
  'http-deadline-ms': 3_000,
};

interface Stats {
  readonly reasons: readonly string[];
  readonly conservation: { readonly exact: boolean | null; readonly in_flight: number };
}

describe('adding a shard', needsKafka(), () => {
  const seed = testSeed();
  const random = seededRandom(seed);
  /** Of kills alone: how many numbers the clients draw depends on the machine. */
  const chance = seededRandom(seed + 1);
  let rig: ClusterRig;
  before(async () => {
    rig = await ClusterRig.start({ shards: 3, brokers: 1 });
  });
  after(() => rig?.dispose());

  async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
    const untilMs = Date.now() + patienceMs;
    while (!(await holds())) {
      assert.ok(Date.now() < untilMs, `in vain: ${what}`);
      await sleep(pollMs);
    }
  }

  const statsOf = (ess: EssProcess): Promise<Stats> => ess.getJson<Stats>('/stats');
  /** Events on a shard. */
  const countOn = async (scope: Scope, shard: number): Promise<number> => {
    const stores = await scope.openStores();
    try {
      const rows = await stores[shard]?.rows<{ n: string }>('SELECT count() AS n FROM events');
      return Number(rows?.[0]?.n ?? 0);
    } finally {
      for (const store of stores) await store.close();
    }
  };

  test('under load, with a sink that was killed, keeps every event once over old and new shards', async () => {
    const scope = await rig.scope(flags, rig.nodes.slice(0, 2));
    const journal = new Journal('shards');
    let isOver = false;
    let traffic: Promise<void> = Promise.resolve();
    try {
      let ingest = await scope.start('ingest');
      let sink = await scope.start('sink');
      const send = (): void => {
        traffic = load(ingest, journal, random, () => isOver, { clients: 6, pauseMs: 5 });
      };
      send();
      await until(
        'both shards have events',
        async () => (await countOn(scope, 0)) > 50 && (await countOn(scope, 1)) > 50,
      );
      await sleep(between(chance, 0, 2_000));
      await sink.end('SIGKILL');

      scope.grow(rig.nodes);
      const swapped = clickhouseOf(rig.nodes.slice(0, 2).toReversed());
      await assert.rejects(
        scope.start('sink', { flags: { clickhouse: swapped } }),
        /layout of .* is shard 1 of 2 \(layout version 1\), but must be shard 0 of 2/,
      );
      const shown = await scope.tryInit();
      assert.equal(shown.code, 1, shown.output);
      assert.match(
        shown.output,
        /shard 0 of 2 \(layout version 1\)[\s\S]*shard 0 of 3[\s\S]*ess init --apply/,
      );
      await assert.rejects(scope.start('sink'), /must be shard 0 of 3.*ess init --apply/);
      const steady = await scope.start('sink', {
        flags: { clickhouse: clickhouseOf(rig.nodes.slice(0, 2)) },
      });
      const refused = await scope.tryInit(['--apply', '--wait-ms', '1000']);
      assert.equal(refused.code, 1, refused.output);
      assert.match(refused.output, /once this no longer is so: \d+ sink threads are running/);
      await sleep(between(chance, 0, 2_000));
      await steady.end('SIGKILL');
      // Waits until the dead member has left the group.
      assert.match(await scope.init(['--apply']), /version 2: 3 shards/);

      sink = await scope.start('sink');
      await until('the new shard has events', async () => (await countOn(scope, 2)) > 50);
      await until('an ingest that was not told says so', async () =>
        (await statsOf(ingest)).reasons.some((reason) => /all 3 shards/.test(reason)),
      );
      await sleep(between(chance, 0, 2_000));
      await sink.end('SIGKILL');
      sink = await scope.start('sink');
      isOver = true;
      await traffic;
      assert.equal(await ingest.end('SIGTERM'), 0);
      isOver = false;
      ingest = await scope.start('ingest');
      send();
      await sleep(3_000);
      isOver = true;
      await traffic;

      await scope.hold(journal, patienceMs);
      const argv = Object.entries(scope.flags).flatMap(([name, value]) => [`--${name}`, String(value)]);
      const proof = await essVerifyJson([...argv, '--deep'], 0);
      assert.deepEqual([proof.exact, proof.in_flight, proof.findings], [true, 0, []]);
      await journal.checkReads(ingest);
      for (const ess of [ingest, sink]) {
        await until('the figures are whole', async () => (await statsOf(ess)).conservation.in_flight === 0);
        assert.equal((await statsOf(ess)).conservation.exact, true);
        assert.deepEqual((await statsOf(ess)).reasons, []);
      }
      await assert.rejects(
        scope.start('sink', { flags: { clickhouse: clickhouseOf(rig.nodes.slice(0, 2)) } }),
        /list all 3 shards/,
      );
    } finally {
      isOver = true;
      await traffic;
      await scope.end();
    }
  });
});
