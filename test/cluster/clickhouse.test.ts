// ClickHouse in every kind of trouble, with Kafka in front: what is answered 200 is stored exactly once, whatever the
// nodes refuse, lose or keep to themselves; a shard that is not there holds up its own partitions and nobody else.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Store } from '../../src/store/store.ts';
import { Journal } from '../crash/journal.ts';
import { load, sendOne } from '../crash/load.ts';
import { between, pick, type Random, seededRandom, testSeed } from '../crash/random.ts';
import { ClickHouseNode, type Fault } from '../support/clickhouse_node.ts';
import type { EssProcess, StatsJson } from '../support/ess_process.ts';
import { needsKafka } from '../support/kafka_cluster.ts';
import { ClusterRig, type Flags, type Scope } from './rig.ts';

/** How long something that has to come may take on a slow, busy machine, ms. */
const patienceMs = 120_000;
/** Longer than after an unclear answer a sink looks for the rows instead of repeating the block (sink/insert.ts), ms. */
const pastLookMs = 32_000;

/** Short limits, so that many faults fit into a short test. */
const flags: Flags = {
  'clickhouse-request-timeout-ms': 1000,
  'sink-inserts-per-second': 50,
  'http-deadline-ms': 3000,
  'read-timeout-ms': 4000,
};
/** Enough to keep every partition busy; faults, not load, are what is tested. */
const lightly = { clients: 6, pauseMs: 20 };

async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  const untilMs = Date.now() + patienceMs;
  while (!(await holds())) {
    if (Date.now() > untilMs) assert.fail(`waited in vain for ${what}`);
    await sleep(20);
  }
}

function shuffled<T>(random: Random, items: readonly T[]): T[] {
  const left = [...items];
  const result: T[] = [];
  while (left.length > 0) result.push(...left.splice(between(random, 0, left.length - 1), 1));
  return result;
}

async function countOf(store: Store): Promise<number> {
  const [row] = await store.rows<{ n: string }>('SELECT count() AS n FROM events');
  return Number(row?.n);
}

interface Ready {
  readonly status: string;
  readonly reasons: readonly string[];
}

/** What /readyz says; a store in trouble never makes a process unready. */
async function readyOf(ess: EssProcess): Promise<Ready> {
  const response = await fetch(`${ess.url}/readyz`);
  const ready = (await response.json()) as Ready;
  assert.equal(response.status, 200, JSON.stringify(ready));
  return ready;
}

/** Waits until the process names one of these nodes as its trouble. */
function untilNamed(ess: EssProcess, node: ClickHouseNode, text = ''): Promise<void> {
  const names = node.urls.map((url) => new URL(url).host);
  return until(`the trouble of ${names} ${text}`, async () => {
    const { status, reasons } = await readyOf(ess);
    return (
      status === 'degraded' &&
      reasons.some((reason) => names.some((name) => reason.includes(name)) && reason.includes(text))
    );
  });
}

/** Everything that was in trouble is well again, and says so. */
async function untilWell(ess: EssProcess): Promise<void> {
  await until('everything to be well', async () => {
    const stats = await ess.getJson<StatsJson>('/stats');
    return stats.status === 'ready' && stats.lag.events === 0 && stats.conservation.exact;
  });
}

describe('with ClickHouse in trouble', { ...needsKafka(), concurrency: 2 }, () => {
  const random = seededRandom(testSeed());
  let rig: ClusterRig;

  before(async () => {
    rig = await ClusterRig.start({ brokers: 1 });
  });
  after(() => rig.dispose());

  async function withScope(
    work: (scope: Scope) => Promise<void>,
    more: Flags = {},
    nodes?: readonly ClickHouseNode[],
  ): Promise<void> {
    const scope = await rig.scope({ ...flags, ...more }, nodes);
    try {
      await work(scope);
    } finally {
      for (const node of scope.nodes) node.resume();
      await scope.end();
    }
  }

  function nodeOf(shard: number): ClickHouseNode {
    const node = rig.nodes[shard];
    assert.ok(node !== undefined);
    return node;
  }

  describe('two shards of two replicas', { concurrency: 1 }, () => {
    test('whatever one replica or both say, every event is stored once or is a dead letter', () =>
      withScope(async (scope) => {
        const ess = await scope.start('all');
        const journal = new Journal('faults');
        journal.isAnyRefused = true;
        let isOver = false;
        const loading = load(ess, journal, random, () => isOver, lightly);
        try {
          for (const isBoth of [false, true]) {
            for (const fault of shuffled(random, everyFault))
              await strike(random, nodeOf(between(random, 0, 1)), fault, isBoth);
          }
          await withTooManyParts(scope, ess, nodeOf(0));
        } finally {
          isOver = true;
          await loading;
        }
        await scope.hold(journal);
        await untilWell(ess);
        assert.equal(await ess.end('SIGTERM'), 0);
      }));

    test('a shard that is killed, or stands still, holds up its own partitions only, and catches up', () =>
      withScope(async (scope) => {
        const ingest = await scope.start('ingest');
        const sink = await scope.start('sink');
        const journal = new Journal('shards');
        let isOver = false;
        const loading = load(ingest, journal, random, () => isOver, lightly);
        const stores = await scope.openStores();
        try {
          for (const trouble of ['killed', 'paused', 'paused_briefly'] as const) {
            const shard = trouble === 'paused_briefly' ? between(random, 0, 1) : trouble === 'killed' ? 1 : 0;
            const node = nodeOf(shard);
            const other = stores[1 - shard];
            assert.ok(other !== undefined);
            await until('rows in every shard', async () =>
              (await Promise.all(stores.map(countOf))).every((n) => n > 0),
            );
            if (trouble === 'killed') await node.kill();
            else node.pause();
            if (trouble === 'paused_briefly') await sleep(between(random, 100, 1500));
            else await standStill(journal, ingest, sink, node, shard, other);
            if (trouble === 'killed') await node.restart();
            else node.resume();
          }
        } finally {
          isOver = true;
          await loading;
          for (const store of stores) await store.close();
        }
        await scope.hold(journal);
        await untilWell(sink);
        await journal.checkReads(ingest);
        await until('whole answers', async () => (await readList(ingest)).partial === undefined);
        assert.equal(await sink.end('SIGTERM'), 0);
        assert.equal(await ingest.end('SIGTERM'), 0);
      }));
  });

  test('a block whose answer was lost, and whose token is forgotten when it is sent again, is no second row', async () => {
    const node = await ClickHouseNode.start({ replicas: 2 });
    try {
      const [own = '', aside] = node.targets();
      assert.ok(own !== '' && aside !== undefined);
      await withScope((scope) => outliveWindow(scope, node), { clickhouse: own.url }, [node]);
    } finally {
      await node.dispose();
    }
  });

  async function outliveWindow(scope: Scope, node: ClickHouseNode): Promise<void> {
    const ess = await scope.start('all');
    const journal = new Journal('window');
    // The second port over the same engine, of which ESS does not know.
    const [, aside] = await openBoth(node, scope.database);
    try {
      for (const table of ['events', 'ledger'])
        await aside.command(`ALTER TABLE ${table} MODIFY SETTING non_replicated_deduplication_window = 3`);
      // The window is what it is said to be: without a look at the rows, a repeat would be stored again.
      await pushOthers(aside, 'control', 1);
      await pushOthers(aside, 'other', 5);
      await pushOthers(aside, 'control', 1);
      const [control] = await aside.rows<{ n: string }>(
        `SELECT count() AS n FROM events WHERE epoch = '${filler}' AND id = 'control0'`,
      );
      assert.equal(control?.n, '2');

      const token = await loseAnswer(journal, ess, node);
      const lostMs = Date.now();
      const loading = load(ess, journal, random, () => Date.now() > lostMs + pastLookMs, {
        clients: 2,
        pauseMs: 100,
      });
      await untilNamed(ess, node);
      await pushOthers(aside, 'past', 20);
      await loading;
      await node.setFault(0, 'none');
      await scope.drained();
      const sent = (await node.inserts(0)).filter((insert) => insert.token === token && insert.isDone);
      assert.equal(sent.length, 1, 'its rows were found: it was not sent again');
      await aside.command(`ALTER TABLE events DELETE WHERE epoch = '${filler}' SETTINGS mutations_sync = 2`);
      await scope.hold(journal);
      await untilWell(ess);
    } finally {
      await aside.close();
    }
  }
});
