// What the live page, /stats and /metrics tell of three brokers and four ClickHouse nodes: who is in the group and owns
// what, and that a broker or a node that goes away shows, and shows as well when it is back.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { LiveMember, LiveSnapshot } from '../../src/live/snapshot.ts';
import type { TroubleKind } from '../../src/live/troubles.ts';
import { Journal } from '../crash/journal.ts';
import { load } from '../crash/load.ts';
import { seededRandom, testSeed } from '../crash/random.ts';
import type { EssProcess } from '../support/ess_process.ts';
import { needsKafka } from '../support/kafka_cluster.ts';
import { LiveViewer } from '../support/live_viewer.ts';
import { ClusterRig, type Scope } from './rig.ts';

const partitions = 12;
const sinks = 2;
/** How long anything may take on a slow, busy machine, ms. */
const patienceMs = 120_000;
/** /stats waits 0.7 s for brokers and nodes; the rest is for a busy machine. ms */
const statsMsMax = 4_000;

interface Stats extends Pick<LiveSnapshot, 'group' | 'nodes' | 'partitions'> {
  readonly brokers: LiveSnapshot['log']['brokers'];
  readonly troubles: readonly { readonly kind: TroubleKind; readonly text: string; readonly help: string }[];
  readonly reasons: readonly string[];
  readonly ages_s: Readonly<Record<string, number | null>>;
}

const kindsOf = ({ troubles }: Pick<LiveSnapshot, 'troubles'>): TroubleKind[] =>
  troubles.map(({ kind }) => kind);

/** The group is settled and everybody is up. */
function isWhole({ group, log, nodes, partitions: all, troubles }: LiveSnapshot): boolean {
  return (
    group?.state === 'Stable' &&
    group.members.length === 2 * sinks &&
    group.members.flatMap((member) => member.partitions).length === partitions &&
    log.brokers.length === 3 &&
    log.brokers.every((broker) => broker.is_up) &&
    nodes.length === 4 &&
    nodes.every((node) => node.is_up) &&
    all.every(({ in_sync: inSync, owner }) => inSync?.length === 3 && owner !== null) &&
    troubles.length === 0
  );
}

async function metricsOf(ess: EssProcess): Promise<ReadonlyMap<string, number>> {
  const text = await (await fetch(`${ess.url}/metrics`)).text();
  return new Map(
    text
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'))
      .map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))]),
  );
}

describe('what is told of a cluster', needsKafka(), () => {
  let rig: ClusterRig;
  let scope: Scope;
  let here: EssProcess;
  let there: EssProcess;
  let viewer: LiveViewer;

  before(async () => {
    rig = await ClusterRig.start();
    scope = await rig.scope({
      sinks,
      producers: 1,
      readers: 1,
      partitions,
      'kafka-session-timeout-ms': 6_000,
    });
    here = await scope.start('all');
    there = await scope.start('sink');
    viewer = await LiveViewer.open(here.url);
    await viewer.until(isWhole, patienceMs);
  });
  after(async () => {
    viewer?.drop();
    await scope?.end();
    await rig?.dispose();
  });

  /** The next snapshot that is so. */
  function next(isIt: (snapshot: LiveSnapshot) => boolean): Promise<LiveSnapshot> {
    viewer.forget();
    return viewer.until(isIt, patienceMs);
  }

  test('members and owners are right, also where two processes have sinks of the same name', async () => {
    const snapshot = await next(isWhole);
    const group = snapshot.group;
    assert.ok(group !== null);
    assert.equal(group.id, scope.group);
    assert.ok(group.rebalances > 0 && group.last_rebalance_ms !== null);
    assert.deepEqual(
      group.members.flatMap((member) => member.partitions).toSorted((a, b) => a - b),
      Array.from({ length: partitions }, (_, i) => i),
    );
    const owned = (all: LiveSnapshot): number[] =>
      all.partitions.filter(({ owner }) => owner?.startsWith('sink-')).map(({ partition }) => partition);
    const mine = group.members.filter((member) => member.is_here).flatMap((member) => member.partitions);
    assert.equal(group.members.filter((member) => member.is_here).length, sinks);
    assert.deepEqual(
      mine.toSorted((a, b) => a - b),
      owned(snapshot),
    );
    for (const { partition, owner } of snapshot.partitions) {
      const member: LiveMember | undefined = group.members.find((each) =>
        each.partitions.includes(partition),
      );
      if (member?.is_here === false) assert.equal(owner, member.name);
    }
    const other = await LiveViewer.open(there.url);
    const theirs = await other.until(isWhole, patienceMs);
    other.drop();
    assert.deepEqual(
      [...owned(theirs), ...owned(snapshot)].toSorted((a, b) => a - b),
      Array.from({ length: partitions }, (_, i) => i),
    );
  });

  test('brokers, leaders and nodes agree with what Kafka and the nodes say, and with /stats and /metrics', async () => {
    const random = seededRandom(testSeed());
    const journal = new Journal('live');
    await load(here, journal, random, () => journal.events.length > 300);
    await scope.drained();
    const stored = ({ nodes }: LiveSnapshot): number =>
      [0, 1].reduce((sum, shard) => sum + (nodes.find((node) => node.shard === shard)?.rows ?? 0), 0);
    const snapshot = await next(
      (each) =>
        isWhole(each) && (each.conservation.stored ?? 0) > 0 && stored(each) === each.conservation.stored,
    );
    const { brokers } = snapshot.log;
    assert.deepEqual(brokers.map(({ address }) => address).toSorted(), [...rig.kafka.brokers].toSorted());
    assert.deepEqual(
      brokers.filter((broker) => broker.is_controller).map(({ id }) => id),
      [brokers.find((broker) => broker.is_controller)?.id],
    );
    assert.equal(snapshot.log.min_in_sync_replicas, 2);
    for (const { partition, leader, replicas } of snapshot.partitions) {
      assert.equal(leader, await rig.kafka.leaderOf(scope.topic, partition));
      assert.equal(replicas?.length, 3);
    }
    assert.deepEqual(
      snapshot.nodes.map(({ name, shard, replica }) => [`http://${name}`, shard, replica]),
      scope.nodes.flatMap(({ urls }, shard) => urls.map((url, replica) => [url, shard, replica])),
    );
    for (const { parts, parts_max: limit, disk_total_bytes: total } of snapshot.nodes)
      assert.ok((parts ?? 0) > 0 && (limit ?? 0) > 0 && (total ?? 0) > 0);
    const stats = await here.getJson<Stats>('/stats');
    assert.deepEqual(stats.brokers, brokers);
    assert.deepEqual(stats.group, snapshot.group);
    assert.deepEqual(
      stats.nodes.map(({ name, rows }) => [name, rows]),
      snapshot.nodes.map(({ name, rows }) => [name, rows]),
    );
    assert.deepEqual(
      stats.partitions.map(({ leader, in_sync: inSync }) => [leader, inSync?.toSorted()]),
      snapshot.partitions.map(({ leader, in_sync: inSync }) => [leader, inSync?.toSorted()]),
    );
    assert.deepEqual([stats.troubles, stats.reasons], [[], []]);
    const metrics = await metricsOf(here);
    for (const { id } of brokers) assert.equal(metrics.get(`ess_broker_up{broker="${id}"}`), 1);
    assert.equal(metrics.get('ess_group_members'), 2 * sinks);
    assert.equal(metrics.get('ess_group_stable'), 1);
    assert.equal(metrics.get('ess_min_in_sync_replicas'), 2);
    assert.equal(metrics.get('ess_partition_in_sync_replicas{partition="0"}'), 3);
    assert.equal(metrics.get('ess_dead_letters'), 0);
    for (const { name, shard, replica, rows } of snapshot.nodes) {
      const labels = `{node="${name}",shard="${shard}",replica="${replica}"}`;
      assert.equal(metrics.get(`ess_store_node_up${labels}`), 1);
      assert.equal(metrics.get(`ess_store_node_rows${labels}`), rows);
    }
  });

  test('a broker that is killed is down, its copies are not in sync, and both end when it is back', async () => {
    const [node] = rig.kafka.nodes;
    assert.ok(node !== undefined);
    const isDown = ({ log }: LiveSnapshot): boolean =>
      log.brokers.find(({ address }) => address === node.broker)?.is_up === false;
    await node.kill();
    const down = await next((each) => isDown(each) && kindsOf(each).includes('broker_down'));
    const id = down.log.brokers.find(({ address }) => address === node.broker)?.id ?? -1;
    assert.equal(down.log.brokers.filter((broker) => !broker.is_up).length, 1);
    assert.ok(down.troubles.some(({ kind, text }) => kind === 'broker_down' && text.includes(node.broker)));
    // One of three: two are enough.
    await next(({ partitions: all }) =>
      all.every(
        ({ in_sync: inSync, leader }) => inSync?.length === 2 && !inSync.includes(id) && leader !== id,
      ),
    );
    const shrunk = await next(({ group }) => group?.state === 'Stable');
    assert.ok(!kindsOf(shrunk).includes('in_sync_replicas'));
    const ready = await fetch(`${here.url}/readyz`);
    const said = (await ready.json()) as { readonly status: string; readonly reasons: readonly string[] };
    assert.deepEqual([ready.status, said.status], [200, 'degraded']);
    assert.ok(said.reasons.some((reason) => reason.includes(node.broker)));
    const stats = await here.getJson<Stats>('/stats');
    assert.equal(stats.troubles.find(({ kind }) => kind === 'broker_down')?.help, '/operations#broker-down');
    const metrics = await metricsOf(here);
    assert.equal(metrics.get(`ess_broker_up{broker="${id}"}`), 0);
    assert.equal(metrics.get('ess_partition_in_sync_replicas{partition="0"}'), 2);
    await node.restart();
    await rig.kafka.untilHealthy(scope.topic);
    await next(isWhole);
  });

  test('a broker that hangs is down too, and delays no answer of /stats', async () => {
    const [, node] = rig.kafka.nodes;
    assert.ok(node !== undefined);
    node.pause();
    try {
      await next(({ log }) => log.brokers.some((each) => each.address === node.broker && !each.is_up));
      const startMs = performance.now();
      const { brokers } = await here.getJson<Stats>('/stats');
      assert.ok(performance.now() - startMs < statsMsMax);
      assert.deepEqual(
        brokers.filter((broker) => !broker.is_up).map(({ address }) => address),
        [node.broker],
      );
    } finally {
      node.resume();
    }
    await rig.kafka.untilHealthy(scope.topic);
    await next(isWhole);
  });

  test('a ClickHouse replica that is down, or hangs, is named until it is back', async () => {
    const [shard] = rig.nodes;
    assert.ok(shard !== undefined);
    const name = new URL(shard.urls[1] ?? '').host;
    const isOnlyDown = ({ nodes }: LiveSnapshot): boolean =>
      nodes.every((node) => node.is_up !== (node.name === name));
    for (const fault of ['down', 'hang'] as const) {
      await shard.setFault(1, fault);
      const down = await next((each) => isOnlyDown(each) && kindsOf(each).includes('store_node_down'));
      assert.ok(down.nodes.find((node) => node.name === name)?.error);
      const startMs = performance.now();
      const stats = await here.getJson<Stats>('/stats');
      assert.ok(performance.now() - startMs < statsMsMax);
      assert.ok(stats.reasons.some((reason) => reason.includes(name)));
      assert.equal((await fetch(`${here.url}/readyz`)).status, 200);
      const metrics = await metricsOf(here);
      assert.equal(metrics.get(`ess_store_node_up{node="${name}",shard="0",replica="1"}`), 0);
      await shard.setFault(1, 'none');
      await next(isWhole);
    }
  });

  test('a shard whose process is killed has no replica up, and the others are not concerned', async () => {
    const [, shard] = rig.nodes;
    assert.ok(shard !== undefined);
    await shard.kill();
    await next(({ nodes }) => nodes.every((node) => node.is_up === (node.shard !== 1)));
    await shard.restart();
    await next(isWhole);
  });

  test('a member that leaves is gone, and its partitions have owners again', async () => {
    assert.equal(await there.end('SIGTERM'), 0);
    const snapshot = await next(
      ({ group, partitions: all }) =>
        group?.state === 'Stable' &&
        group.members.length === sinks &&
        all.every(({ owner }) => owner?.startsWith('sink-') === true),
    );
    assert.ok(snapshot.group?.members.every((member) => member.is_here));
    assert.equal(snapshot.group?.members.flatMap((member) => member.partitions).length, partitions);
  });

  test('nothing is made for the page once nobody watches', async () => {
    viewer.drop();
    await sleep(3000);
    const before = (await here.getJson<{ counters: Record<string, number> }>('/stats')).counters;
    await sleep(2000);
    const now = (await here.getJson<{ counters: Record<string, number> }>('/stats')).counters;
    assert.equal(now['live_snapshots'], before['live_snapshots']);
  });
});
