// ClickHouse in every kind of trouble, with Kafka in front: what is answered 200 is stored exactly once, whatever the
// nodes refuse, lose or keep to themselves; a shard that is not there holds up its own partitions and nobody else.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { openStore } from '../../src/store/client.ts';
import { deduplicationWindowBlocks } from '../../src/store/schema.ts';
import type { Store } from '../../src/store/store.ts';
import { Journal } from '../crash/journal.ts';
import { load, sendOne } from '../crash/load.ts';
import { between, type Random, seededRandom, testSeed } from '../crash/random.ts';
import { ClickHouseNode, type Fault } from '../support/clickhouse_node.ts';
import type { EssProcess, StatsJson } from '../support/ess_process.ts';
import { needsKafka } from '../support/kafka_cluster.ts';
import { ClusterRig, type Flags, type Scope } from './rig.ts';

/** How long something that has to come may take on a slow, busy machine, ms. */
const patienceMs = 120_000;
/** Longer than a token is taken to be known (sink/token_window.ts): then a sink looks for the rows before a repeat, ms. */
const pastLookMs = 32_000;

/** Short limits, so that many faults fit into a short test. */
const flags: Flags = {
  'clickhouse-request-timeout-ms': 1000,
  'sink-inserts-per-second': 50,
  'http-deadline-ms': 3000,
  'read-timeout-ms': 15_000,
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

// ---- faults ---------------------------------------------------------------------------------------------------

interface Strike {
  readonly fault: Fault;
  /** Only the next few INSERTs are struck, or every request for a while, or one of both. */
  readonly strikes: 'inserts' | 'everything' | 'either';
}

/** Every kind of trouble that a replica can make; codes as in store/failure.ts and store/outcome.ts. */
const everyFault: readonly Strike[] = [
  // Try again: clear refusals, and some that do not say whether the block landed.
  ...[252, 241, 202, 243, 285, 999, 319, 209].map((code) => refusal(code, 'either')),
  // Poison. Without a limit everything would become a dead letter, which is right and proves little.
  ...[117, 27].map((code) => refusal(code, 'inserts')),
  // A person must act. A partition pauses for ten seconds after each.
  ...[60, 497].map((code) => refusal(code, 'inserts')),
  { fault: 'hang', strikes: 'either' },
  { fault: 'drop_before', strikes: 'either' },
  { fault: 'drop_after', strikes: 'either' },
  // Slow, and so slow that the block lands after it was given up.
  { fault: { delay: 300 }, strikes: 'either' },
  { fault: { delay: 1500 }, strikes: 'inserts' },
  { fault: 'down', strikes: 'everything' },
];

function refusal(code: number, strikes: Strike['strikes']): Strike {
  return { fault: { reject: code }, strikes };
}

const bothReplicas = [0, 1] as const;

async function receivedBy(node: ClickHouseNode): Promise<number[]> {
  return Promise.all(bothReplicas.map(async (replica) => (await node.inserts(replica)).length));
}

/** The replica that gets the next INSERT. */
async function busyReplica(node: ClickHouseNode): Promise<number> {
  const before = await receivedBy(node);
  let busy = -1;
  await until('an INSERT', async () => {
    const now = await receivedBy(node);
    busy = now.findIndex((count, replica) => count > (before[replica] ?? 0));
    return busy >= 0;
  });
  return busy;
}

/** Makes trouble at one replica, one that is in use, or at both, until it has struck and for a moment longer. */
async function strike(
  random: Random,
  node: ClickHouseNode,
  { fault, strikes }: Strike,
  isBoth: boolean,
): Promise<void> {
  const isLimited = strikes === 'inserts' || (strikes === 'either' && random() < 0.5);
  const inserts = isLimited ? between(random, 1, 4) : null;
  const lastMs = between(random, 50, 600);
  for (let isStruck = false; !isStruck; ) {
    const replicas = isBoth ? bothReplicas : [await busyReplica(node)];
    const before = await receivedBy(node);
    for (const replica of replicas) await node.setFault(replica, fault, inserts);
    await sleep(lastMs);
    // A replica that refuses every request gets no INSERT, since it is looked at first.
    isStruck = !isLimited;
    for (let i = 0; i < 100 && !isStruck; i += 1) {
      await sleep(20);
      const now = await receivedBy(node);
      isStruck = replicas.some((replica) => (now[replica] ?? 0) > (before[replica] ?? 0));
    }
    for (const replica of replicas) await node.setFault(replica, 'none');
  }
}

/** The engine itself says TOO_MANY_PARTS until its merges go on. */
async function withTooManyParts(scope: Scope, ess: EssProcess, node: ClickHouseNode): Promise<void> {
  const [store] = await openPorts(node, scope.database);
  try {
    await store.command('SYSTEM STOP MERGES events');
    const [row] = await store.rows<{ parts: number }>(
      `SELECT toUInt32(count()) AS parts FROM system.parts
       WHERE database = currentDatabase() AND table = 'events' AND active`,
    );
    const parts = row?.parts ?? 0;
    await store.command(
      `ALTER TABLE events MODIFY SETTING parts_to_delay_insert = ${parts + 2}, parts_to_throw_insert = ${parts + 6}`,
    );
    await untilNamed(ess, node, '252');
    await sleep(500);
    await store.command('ALTER TABLE events RESET SETTING parts_to_delay_insert, parts_to_throw_insert');
    await store.command('SYSTEM START MERGES events');
  } finally {
    await store.close();
  }
}

// ---- a shard that is not there --------------------------------------------------------------------------------

interface ListJson {
  readonly partial?: boolean;
  readonly missing_shards?: readonly number[];
}

function readList(ess: EssProcess): Promise<ListJson> {
  return ess.getJson<ListJson>('/events/?limit=5');
}

/** A shard does not answer: everything else goes on, and says what is missing. */
async function othersGoOn(
  journal: Journal,
  ingest: EssProcess,
  sink: EssProcess,
  missing: { readonly node: ClickHouseNode; readonly shard: number },
  other: Store,
): Promise<void> {
  await untilNamed(sink, missing.node);
  const rows = await countOf(other);
  const promised = (): number => journal.events.filter((event) => event.isPromised).length;
  const before = promised();
  await until('rows in the other shard', async () => (await countOf(other)) > rows + 50);
  await until('promises', async () => promised() > before + 50);
  await until('a partial answer', async () => {
    const { partial, missing_shards: shards } = await readList(ingest);
    return partial === true && shards?.length === 1 && shards[0] === missing.shard;
  });
  await readyOf(ingest);
}

// ---- a window that is too short -------------------------------------------------------------------------------

/** Epoch of rows that the test itself puts into the tables. */
const filler = 'filler';

/** A store for each port of a node. The caller closes them. */
async function openPorts(node: ClickHouseNode, database: string): Promise<[Store, Store]> {
  const [first, second] = node.targets(database);
  assert.ok(first !== undefined && second !== undefined);
  return [await openStore(first), await openStore(second)];
}

/** Puts blocks into both tables, each under a token of its own. */
async function pushOthers(store: Store, name: string, count: number): Promise<void> {
  for (let i = 0; i < count; i += 1) {
    const settings = { insert_deduplication_token: `${name}${i}`, async_insert: 0 };
    await store.command(
      `INSERT INTO events (epoch, id, ingest_time) VALUES ('${filler}', '${name}${i}', now64(3))`,
      {},
      { settings },
    );
    await store.command(`INSERT INTO ledger (epoch, first) VALUES ('${filler}', ${i})`, {}, { settings });
  }
}

/** Sets how many blocks' tokens both tables remember; older ones are forgotten with the next block. */
async function setWindows(store: Store, blocks: number): Promise<void> {
  for (const table of ['events', 'ledger'])
    await store.command(
      `ALTER TABLE ${table} MODIFY SETTING non_replicated_deduplication_window = ${blocks}`,
    );
}

/**
 * Has a node store one block of events and lose the answer, and closes its port before the block is sent again. Gives
 * the block's token.
 */
async function loseAnswer(
  journal: Journal,
  scope: Scope,
  ess: EssProcess,
  node: ClickHouseNode,
): Promise<string> {
  for (;;) {
    await scope.drained();
    const before = (await node.inserts(0)).length;
    await node.setFault(0, 'drop_after', 1);
    const sending = sendOne(ess, journal.create(), '?ack=log');
    let token = '';
    await until('a block', async () => {
      const done = (await node.inserts(0)).slice(before).find(({ isDone }) => isDone);
      token = done?.token ?? '';
      return done !== undefined;
    });
    await node.setFault(0, 'down');
    await sending;
    if ((await sentUnder(token, node)) === 1) return token;
    // It was sent again before the port was closed: that is what the window is for.
    await node.setFault(0, 'none');
  }
}

/** How often a block reached the engine. */
async function sentUnder(token: string, node: ClickHouseNode): Promise<number> {
  return (await node.inserts(0)).filter((insert) => insert.token === token && insert.isDone).length;
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
    } catch (error) {
      for (const { output } of scope.processes) console.error(output.slice(-30).join(''));
      throw error;
    } finally {
      await scope.end();
      // Ends every fault, and starts a node that a test that failed has left dead.
      for (const node of scope.nodes) await node.restart();
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
            else await othersGoOn(journal, ingest, sink, { node, shard }, other);
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
        await until('whole answers', async () => (await readList(ingest)).partial === undefined);
        await journal.checkReads(ingest);
        assert.equal(await sink.end('SIGTERM'), 0);
        assert.equal(await ingest.end('SIGTERM'), 0);
      }));
  });

  test('a block whose answer was lost, and whose token is forgotten when it is sent again, is no second row', async () => {
    const node = await ClickHouseNode.start({ replicas: 2 });
    try {
      const [url = ''] = node.urls;
      await withScope((scope) => outliveWindow(scope, node), { clickhouse: url }, [node]);
    } finally {
      await node.dispose();
    }
  });

  async function outliveWindow(scope: Scope, node: ClickHouseNode): Promise<void> {
    const ess = await scope.start('all');
    const journal = new Journal('window');
    // The second port over the same engine, of which ESS does not know.
    const [direct, aside] = await openPorts(node, scope.database);
    try {
      await setWindows(aside, 3);
      // The window is what it is said to be: without a look at the rows, a repeat would be stored again.
      await pushOthers(aside, 'control', 1);
      await pushOthers(aside, 'other', 5);
      await pushOthers(aside, 'control', 1);
      const [control] = await aside.rows<{ n: string }>(
        `SELECT count() AS n FROM events WHERE epoch = '${filler}' AND id = 'control0'`,
      );
      assert.equal(control?.n, '2');
      // Sinks refuse tables with so short a window, and rightly: they find them as they made them.
      await setWindows(aside, deduplicationWindowBlocks);

      const token = await loseAnswer(journal, scope, ess, node);
      const lostMs = Date.now();
      const loading = load(ess, journal, random, () => Date.now() > lostMs + pastLookMs, {
        clients: 2,
        pauseMs: 100,
      });
      await untilNamed(ess, node);
      // The node forgets the token while nobody can ask it anything.
      await setWindows(aside, 3);
      await pushOthers(aside, 'past', 20);
      await setWindows(aside, deduplicationWindowBlocks);
      await loading;
      await node.setFault(0, 'none');
      await scope.drained();
      assert.equal(await sentUnder(token, node), 1, 'its rows were found: it was not sent again');
      await aside.command(`ALTER TABLE events DELETE WHERE epoch = '${filler}' SETTINGS mutations_sync = 2`);
      await scope.hold(journal);
      await untilWell(ess);
    } finally {
      await direct.close();
      await aside.close();
    }
  }
});
