// Invariant: whichever process dies, stands still, comes or goes, at whatever moment, every event that was answered 200
// is stored exactly once, the ledger has neither gap nor overlap, and whoever is left catches up.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Journal, poison } from '../crash/journal.ts';
import { load, sendBatch } from '../crash/load.ts';
import { between, seededRandom, testSeed } from '../crash/random.ts';
import type { Fault } from '../support/clickhouse_node.ts';
import type { EssProcess } from '../support/ess_process.ts';
import { needsKafka } from '../support/kafka_cluster.ts';
import { ClusterRig, type Flags, type Scope } from './rig.ts';

/** ESS_TEST_LONG=1: more kills of the same kinds. */
const isLong = process.env['ESS_TEST_LONG'] === '1';
/** How long anything may take on a slow, busy machine, ms. */
const patienceMs = 120_000;
const pollMs = 100;

/** Small blocks and many of them, so that every window is passed often. */
const flags: Flags = {
  producers: 1,
  sinks: 2,
  readers: 1,
  'sink-linger-ms': 20,
  'sink-batch-rows-max': 100,
  'sink-inserts-per-second': 100,
  // Short, since every kill is noticed by its end only. The brokers of tests allow it; others take no less than 6,000.
  'kafka-session-timeout-ms': 3_000,
  // Clients that wait for a store without a sink go on with other events after this time.
  'http-deadline-ms': 3_000,
};

interface Stats {
  readonly reasons: readonly string[];
  readonly conservation: { readonly exact: boolean | null; readonly in_flight: number };
  readonly counters: Readonly<Record<string, number>>;
  readonly partitions: readonly { readonly owner: string | null }[];
  readonly threads: readonly { readonly name: string; readonly restarts: number }[];
}

describe('sinks of a cluster', needsKafka(), () => {
  const seed = testSeed();
  const random = seededRandom(seed);
  /** Of faults alone: how many numbers the clients draw depends on the machine. */
  const chance = seededRandom(seed + 1);
  let rig: ClusterRig;
  /** Of the scenario that runs. */
  let traffic: Traffic | undefined;

  before(async () => {
    rig = await ClusterRig.start();
  });
  after(() => rig?.dispose());

  async function withScope(work: (scope: Scope) => Promise<void>): Promise<void> {
    const scope = await rig.scope(flags);
    try {
      await work(scope);
    } finally {
      traffic?.stop();
      await scope.end();
      await breakInserts('none');
    }
  }

  /** What is wrong with every replica of both shards from now on. */
  async function breakInserts(fault: Fault, inserts: number | null = null): Promise<void> {
    for (const node of rig.nodes) {
      for (const replica of node.urls.keys()) await node.setFault(replica, fault, inserts);
    }
  }

  /** Blocks of events that the nodes have executed, repeats among them. */
  async function landedBlocks(): Promise<number> {
    let count = 0;
    for (const node of rig.nodes) {
      for (const replica of node.urls.keys()) {
        const inserts = await node.inserts(replica);
        count += inserts.filter(({ table, isDone }) => isDone && table === 'events').length;
      }
    }
    return count;
  }

  test('killed at random moments, as is the ingest, lose nothing and double nothing', () =>
    withScope(async (scope) => {
      let [ingest, one, two] = await Promise.all([
        scope.start('ingest'),
        scope.start('sink'),
        scope.start('sink'),
      ]);
      traffic = new Traffic('kills', () => ingest);
      for (let round = isLong ? 24 : 4; round > 0; round -= 1) {
        await sleep(between(chance, 100, 2000));
        // The last rounds take each in turn, those before them any.
        const victim = round <= 3 ? round : between(chance, 1, 3);
        const dying = victim === 1 ? ingest : victim === 2 ? one : two;
        assert.equal(await dying.end('SIGKILL'), 'SIGKILL');
        if (victim === 1) ingest = await scope.start('ingest');
        else if (victim === 2) one = await scope.start('sink');
        else two = await scope.start('sink');
      }
      await finish(scope, traffic, [ingest, one, two]);
    }));

  test('killed between any two steps of a range are taken over without a trace', () =>
    withScope(async (scope) => {
      for (const store of await scope.openStores()) {
        await store.command(
          `ALTER TABLE events ADD CONSTRAINT no_poison CHECK position(body, '${poison}') = 0`,
        );
        await store.close();
      }
      const [ingest, steady] = await Promise.all([scope.start('ingest'), scope.start('sink')]);
      traffic = new Traffic('windows', () => ingest, 0.005);
      const points = ['sink.after_intent', 'sink.after_insert', 'sink.after_ledger', 'sink.after_park'];
      for (const point of isLong ? [...points, ...points, ...points] : points) {
        // Few events are parked.
        await dieAt(scope, `${point}:${between(chance, 1, point === 'sink.after_park' ? 2 : 6)}`);
      }
      // A block that landed, and whose answer nobody got: what died is not the one who looks for it.
      // With blocks this large a token is surely known for long: the block is sent again before it is looked for.
      const unlucky = await scope.start('sink', { flags: { 'sink-batch-rows-max': 100_000 } });
      await untilOwning(unlucky);
      await steady.end('SIGKILL');
      const landed = await landedBlocks();
      // Poisoned blocks are told of, or all partitions might come to wait behind one before enough blocks have landed.
      await breakInserts('drop_success', 1000);
      // Some may have been under way before the answers were taken away, one for each thread and shard twice.
      const untilMs = Date.now() + patienceMs;
      while ((await landedBlocks()) < landed + 12) {
        assert.ok(Date.now() < untilMs, 'no block lands');
        await sleep(pollMs);
      }
      await unlucky.end('SIGKILL');
      await breakInserts('none');
      const heirs = [await scope.start('sink'), await scope.start('sink')];
      await finish(scope, traffic, [ingest, ...heirs]);
      const output = outputOf(scope.processes);
      assert.match(output, /sending a pending range again/, 'a range was sent again after sink.after_intent');
      assert.match(output, /parked events/);
      assert.match(outputOf(heirs), /completing a stored range/, 'a block was found whose answer was lost');
    }));

  test('stopped beyond their session change nothing when they go on, notice it, and join again', () =>
    withScope(async (scope) => {
      const [ingest, sleeper, other] = await Promise.all([
        scope.start('ingest'),
        scope.start('sink'),
        scope.start('sink'),
      ]);
      traffic = new Traffic('sleep', () => ingest);
      await untilOwning(sleeper);
      await untilOwning(other);
      // Once with nothing special, once with blocks on their way that land only when others have long gone on.
      for (const isLate of [false, true]) {
        await sleep(between(chance, 0, 1000));
        if (isLate) {
          for (const node of rig.nodes) await node.setFault(0, { delay: 8_000 }, 8);
          await sleep(between(chance, 200, 1000));
        }
        const before = await statsOf(sleeper);
        sleeper.child.kill('SIGSTOP');
        await untilStats(other, (stats) => ownedBy(stats) === stats.partitions.length);
        const stored = (await statsOf(other)).counters['rows_inserted'] ?? 0;
        await untilStats(other, ({ counters }) => (counters['rows_inserted'] ?? 0) > stored + 100);
        if (isLate) await sleep(between(chance, 0, 4000));
        const lostBefore = countOf(sleeper, 'gave up its partitions');
        sleeper.child.kill('SIGCONT');
        await untilStats(sleeper, (stats) => {
          const joined = (stats.counters['rebalances'] ?? 0) - (before.counters['rebalances'] ?? 0);
          return joined > 0 && ownedBy(stats) > 0;
        });
        assert.ok(countOf(sleeper, 'gave up its partitions') > lostBefore, 'it noticed');
      }
      await finish(scope, traffic, [ingest, sleeper, other]);
    }));

  test('that come and go in the middle of work cost each of the others one rebalance for each thread', () =>
    withScope(async (scope) => {
      // Longer than any pause of a busy machine: no rebalance comes of a session that ended.
      const patient = { flags: { 'kafka-session-timeout-ms': 60_000 } };
      const ingest = await scope.start('ingest');
      const stayers = [await scope.start('sink', patient), await scope.start('sink', patient)];
      traffic = new Traffic('guests', () => ingest);
      for (const stayer of stayers) await untilOwning(stayer);
      const threads = Number(flags['sinks']);
      for (let visit = isLong ? 6 : 1; visit > 0; visit -= 1) {
        const calm = await rebalancesOf(stayers);
        const guest = await scope.start('sink', patient);
        await untilOwning(guest);
        await sleep(between(chance, 0, 1500));
        const come = await rebalancesOf(stayers);
        assert.equal(await guest.end('SIGTERM'), 0, guest.output.slice(-30).join(''));
        await untilStats(stayers[0], (stats) => ownedBy(stats) > 0);
        await untilAllOwned(stayers);
        await sleep(1000);
        const gone = await rebalancesOf(stayers);
        for (const [i, before] of calm.entries()) {
          // Each stayer has as many threads, and each of the guest's threads joins and leaves by itself.
          assert.ok((come[i] ?? 0) - before <= threads * threads, `${come[i]} after ${before}`);
          assert.ok((gone[i] ?? 0) - (come[i] ?? 0) <= threads * threads, `${gone[i]} after ${come[i]}`);
        }
      }
      await finish(scope, traffic, [ingest, ...stayers]);
    }));

  test('in two whole processes, one of which is killed, go on in the other', () =>
    withScope(async (scope) => {
      let [mortal, witness] = await Promise.all([scope.start('all'), scope.start('all')]);
      traffic = new Traffic(
        'twins',
        () => mortal,
        0,
        () => witness,
      );
      for (let round = isLong ? 8 : 2; round > 0; round -= 1) {
        await sleep(between(chance, 500, 3000));
        await mortal.end('SIGKILL');
        await sleep(between(chance, 0, 3000));
        mortal = await scope.start('all');
      }
      await finish(scope, traffic, [mortal, witness]);
      for (const ess of [mortal, witness]) assert.equal(await ess.end('SIGTERM'), 0);
    }));

  /** Clients that go on for as long as the scenario lasts, with whichever process takes events now. */
  class Traffic {
    readonly journal: Journal;
    readonly #fronts: readonly (() => EssProcess)[];
    readonly #running: Promise<unknown>;
    #isOver = false;

    constructor(name: string, front: () => EssProcess, poisonShare = 0, ...more: (() => EssProcess)[]) {
      this.journal = new Journal(name);
      this.#fronts = [front, ...more];
      const clients = Math.ceil(8 / this.#fronts.length);
      this.#running = Promise.all(this.#fronts.map((each) => this.#send(each, { clients, poisonShare })));
      this.#running.catch(() => {});
    }

    async #send(front: () => EssProcess, options: { clients: number; poisonShare: number }): Promise<void> {
      while (!this.#isOver) {
        await load(front(), this.journal, random, () => this.#isOver, options);
        await sleep(pollMs);
      }
    }

    stop(): void {
      this.#isOver = true;
    }

    /**
     * Ends the load once it was worth something, and sends again what nobody knows about, as a client would, until it
     * is known.
     */
    async settle(): Promise<void> {
      // However long the faults held it up.
      await until('five hundred events answered 200', () => this.#promised > 500);
      this.stop();
      await this.#running;
      const ess = this.#fronts[0]?.();
      assert.ok(ess !== undefined);
      const isOpen = ({ outcomes }: { outcomes: ReadonlySet<string> }): boolean =>
        outcomes.has('unknown') && !outcomes.has('promised') && !outcomes.has('parked');
      const untilMs = Date.now() + patienceMs;
      for (let open = this.journal.events.filter(isOpen); open.length > 0; open = open.filter(isOpen)) {
        assert.ok(Date.now() < untilMs, `${open.length} events are never answered`);
        await sendBatch(ess, open.slice(0, 500), '?ack=log');
      }
    }

    get #promised(): number {
      return this.journal.events.filter((event) => event.isPromised).length;
    }
  }

  /** Ends the load and holds everything that was promised; then those that are left must be at rest, and well. */
  async function finish(scope: Scope, traffic: Traffic, left: readonly EssProcess[]): Promise<void> {
    await traffic.settle();
    await scope.hold(traffic.journal);
    for (const ess of left) {
      const { threads } = await untilStats(ess, ({ reasons, conservation }) => {
        return reasons.length === 0 && conservation.in_flight === 0 && conservation.exact !== false;
      });
      for (const { name, restarts } of threads) assert.equal(restarts, 0, `${name} died`);
    }
    const complaints = /.*(a worker thread died|a gap or an overlap|"text":"[^"]*halted).*/;
    assert.doesNotMatch(outputOf(scope.processes), complaints);
  }

  /** Starts a sink that kills itself at this point, and waits for it. */
  async function dieAt(scope: Scope, fault: string): Promise<void> {
    let ess: EssProcess;
    try {
      ess = await scope.start('sink', { env: { ESS_FAULT: fault } });
    } catch (error) {
      // It may get there before it says that it is ready.
      if (String(error).includes('SIGKILL')) return;
      throw error;
    }
    for (const untilMs = Date.now() + patienceMs; ess.isRunning && Date.now() < untilMs; )
      await sleep(pollMs);
    assert.equal(await ess.end('SIGTERM'), 'SIGKILL', `it never came to ${fault}`);
  }
});

async function until(what: string, holds: () => boolean): Promise<void> {
  const untilMs = Date.now() + patienceMs;
  while (!holds()) {
    assert.ok(Date.now() < untilMs, `waited in vain for ${what}`);
    await sleep(pollMs);
  }
}

async function statsOf(ess: EssProcess): Promise<Stats> {
  return ess.getJson<Stats>('/stats');
}

/** Waits until the process says so of itself; gives what it said. */
async function untilStats(ess: EssProcess | undefined, holds: (stats: Stats) => boolean): Promise<Stats> {
  assert.ok(ess !== undefined);
  const untilMs = Date.now() + patienceMs;
  for (;;) {
    const stats = await statsOf(ess);
    if (holds(stats)) return stats;
    if (Date.now() > untilMs) {
      const { reasons, conservation, counters, partitions } = stats;
      const said = JSON.stringify({ reasons, conservation, counters, partitions });
      assert.fail(`never: ${holds}\n${said}\n${ess.output.slice(-30).join('')}`);
    }
    await sleep(pollMs);
  }
}

function ownedBy({ partitions }: Stats): number {
  return partitions.filter(({ owner }) => owner !== null).length;
}

function untilOwning(ess: EssProcess): Promise<Stats> {
  return untilStats(ess, (stats) => ownedBy(stats) > 0);
}

/** Waits until these processes own all partitions together. */
async function untilAllOwned(sinks: readonly EssProcess[]): Promise<void> {
  const untilMs = Date.now() + patienceMs;
  for (;;) {
    const all = await Promise.all(sinks.map(statsOf));
    const owned = all.reduce((total, stats) => total + ownedBy(stats), 0);
    if (owned === all[0]?.partitions.length) return;
    assert.ok(Date.now() < untilMs, `only ${owned} partitions are owned`);
    await sleep(pollMs);
  }
}

function rebalancesOf(sinks: readonly EssProcess[]): Promise<number[]> {
  return Promise.all(sinks.map(async (ess) => (await statsOf(ess)).counters['rebalances'] ?? 0));
}

/** How often a process said something. */
function countOf(ess: EssProcess, text: string): number {
  return ess.output.join('').split(text).length - 1;
}

function outputOf(processes: readonly EssProcess[]): string {
  return processes.map(({ output }) => output.join('')).join('');
}
