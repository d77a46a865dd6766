// The topic changes under a running engine: its leaders move, it gets more partitions, it is deleted and made anew. What
// is answered 200 is stored exactly once through all of it, and no request hangs. Also the two mixes of drivers: Kafka
// with the embedded store, the embedded log with ClickHouse nodes.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { pinEmbeddedEngine } from '../../src/store/chdb_engine.ts';
import { openStore } from '../../src/store/client.ts';
import { type Outcome, run as runTopics } from '../cli/topics_run.ts';
import { Journal } from '../crash/journal.ts';
import { type LoadOptions, load, sendOne } from '../crash/load.ts';
import { between, type Random, seededRandom, testSeed } from '../crash/random.ts';
import { EssProcess, type StatsJson } from '../support/ess_process.ts';
import { needsKafka } from '../support/kafka_cluster.ts';
import { essVerifyJson } from '../verify/by_hand.ts';
import { ClusterRig, type Flags, type Scope } from './rig.ts';

/** How long something that has to come may take on a slow, busy machine, ms. */
const patienceMs = 120_000;
const lightly: LoadOptions = { clients: 6, pauseMs: 20 };
const flags: Flags = { 'sink-inserts-per-second': 50, 'http-deadline-ms': 5000 };

async function until(
  what: string,
  holds: () => Promise<boolean>,
  seen: () => string = () => '',
): Promise<void> {
  const untilMs = Date.now() + patienceMs;
  while (!(await holds())) {
    if (Date.now() > untilMs) assert.fail(`waited in vain for ${what} ${seen()}`);
    await sleep(50);
  }
}

const argvOf = (scope: Scope): string[] =>
  Object.entries(scope.flags).flatMap(([name, value]) => [`--${name}`, String(value)]);

/** `ess topics`; `--partitions` of `serve` is another option there. */
function essTopics(scope: Scope, ...argv: readonly string[]): Promise<Outcome> {
  const { partitions: _, ...flags } = scope.flags;
  return runTopics([
    ...argv,
    ...Object.entries(flags).flatMap(([name, value]) => [`--${name}`, String(value)]),
  ]);
}

/** The proof, as an operator has it. */
async function isExact(scope: Scope): Promise<void> {
  const report = await essVerifyJson([...argvOf(scope), '--deep'], 0);
  assert.deepEqual([report.exact, report.in_flight, report.findings], [true, 0, []]);
}

const statsOf = (ess: EssProcess): Promise<StatsJson> => ess.getJson<StatsJson>('/stats');

/** Waits until so many events more have been promised. */
async function untilPromised(journal: Journal, count: number): Promise<void> {
  const promised = (): number => journal.events.filter((event) => event.isPromised).length;
  const before = promised();
  await until('promises', async () => promised() >= before + count);
}

/** Waits until the process works on a log of this epoch and number of partitions, and has nothing to complain of. */
async function untilOpened(ess: EssProcess, epoch: string, partitions: number): Promise<void> {
  let last = '';
  await until(
    `log ${epoch} with ${partitions} partitions`,
    async () => {
      const stats = (await statsOf(ess)) as StatsJson & { readonly epoch: string };
      last = JSON.stringify([stats.epoch, stats.partitions.length, stats.reasons]);
      return stats.epoch === epoch && stats.partitions.length === partitions && stats.status === 'ready';
    },
    () => last,
  );
}

/** Codes of refusals while the topic is another one. A request that hangs, or dies, would show none of them. */
const codesMeanwhile = ['log_changed', 'log_unavailable', 'overloaded', 'outcome_unknown'];

/** One client more, which looks at how requests are answered: 200, or 503 with one of the codes, and Retry-After. */
async function watchAnswers(
  ess: EssProcess,
  journal: Journal,
  isOver: () => boolean,
): Promise<Map<string, number>> {
  const seen = new Map<string, number>();
  while (!isOver() && ess.isRunning) {
    const event = journal.create();
    event.outcomes.add('unknown');
    const response = await ess.post(event.json, '?ack=log');
    const { code = 'ok' } = (await response.json()) as { readonly code?: string };
    seen.set(code, (seen.get(code) ?? 0) + 1);
    if (code === 'ok') event.outcomes.add('promised');
    if (code === 'ok') assert.equal(response.status, 200);
    else {
      assert.equal(response.status, 503);
      assert.ok(codesMeanwhile.includes(code), code);
      assert.ok(Number(response.headers.get('retry-after')) > 0);
    }
    await sleep(5);
  }
  return seen;
}

describe('a topic that changes', needsKafka(), () => {
  const random: Random = seededRandom(testSeed());
  let rig: ClusterRig;

  before(async () => {
    rig = await ClusterRig.start({ replicas: 1 });
  });
  after(() => rig.dispose());

  async function withScope(work: (scope: Scope) => Promise<void>, more: Flags = {}): Promise<void> {
    const scope = await rig.scope({ ...flags, ...more });
    try {
      await work(scope);
    } finally {
      await scope.end();
    }
  }

  /**
   * Loads the first process while the work is done, and watches the answers of all of them; gives how often each answer
   * came, by process. Rejects with what the work throws, with the last words of the processes.
   */
  async function underLoad(
    processes: readonly EssProcess[],
    journal: Journal,
    work: () => Promise<void>,
    options: LoadOptions = lightly,
  ): Promise<Map<string, number>[]> {
    const [first] = processes;
    assert.ok(first !== undefined);
    let isOver = false;
    const loading = load(first, journal, random, () => isOver, options);
    const watching = Promise.allSettled(processes.map((ess) => watchAnswers(ess, journal, () => isOver)));
    try {
      await work();
    } catch (error) {
      for (const ess of processes) console.error(ess.output.slice(-40).join(''));
      throw error;
    } finally {
      isOver = true;
      await loading;
    }
    const seen: Map<string, number>[] = [];
    for (const watched of await watching) {
      if (watched.status === 'rejected') throw watched.reason;
      seen.push(watched.value);
    }
    return seen;
  }

  test('leaders that move and partitions that are added, one shard being down, lose nothing and double nothing', () =>
    withScope(async (scope) => {
      const all = await scope.start('all');
      const sink = await scope.start('sink');
      const { kafka } = rig;
      const journal = new Journal('grown');
      await underLoad([all], journal, async () => {
        for (let moves = 0; moves < 4; moves += 1) {
          const partition = between(random, 0, 11);
          const leader = await kafka.leaderOf(scope.topic, partition);
          const { replicas } = await kafka.partition(scope.topic, partition);
          const others = replicas.filter((node) => node !== leader);
          const next = others[between(random, 0, others.length - 1)];
          assert.ok(next !== undefined);
          await kafka.moveLeader(scope.topic, partition, next);
          await untilPromised(journal, 30);
        }
      });
      const epoch = await kafka.topicId(scope.topic);
      assert.ok(epoch !== undefined);
      // A retry may meet another partition after the change, where nobody knows of the first copy.
      const [node] = rig.nodes;
      await underLoad(
        [all],
        journal,
        async () => {
          await node?.kill();
          await untilPromised(journal, 50);
          const added = await essTopics(scope, 'add-partitions', '36', '--yes');
          assert.equal(added.code, 0, `${added.out}${added.err}`);
          // Degraded by the shard that is down, but on the new log.
          await until('36 partitions', async () => (await statsOf(all)).partitions.length === 36);
          await until('36 partitions', async () => (await statsOf(sink)).partitions.length === 36);
          await untilPromised(journal, 100);
          await node?.restart();
          await untilOpened(all, epoch, 36);
          await untilOpened(sink, epoch, 36);
        },
        { ...lightly, hasRetries: false },
      );
      journal.endRetries();
      await underLoad([all], journal, () => untilPromised(journal, 200));
      await scope.hold(journal);
      const { partitions } = await statsOf(all);
      assert.ok(
        partitions.slice(12).some(({ end }) => end > 0),
        'the new partitions are used',
      );
      await journal.checkReads(all);
      await isExact(scope);
      assert.equal(await all.end('SIGTERM'), 0);
      assert.equal(await sink.end('SIGTERM'), 0);
    }));

  test('replicas that leave a broker and come back lose nothing and double nothing', () =>
    withScope(
      async (scope) => {
        const all = await scope.start('all');
        const sink = await scope.start('sink');
        const journal = new Journal('moved');
        // Faster than anything here: only that it is set and taken away.
        const throttle = ['--throttle-bytes', '1000000000'];
        await underLoad([all], journal, async () => {
          for (const brokers of ['0,1', '1,2', '0,1,2']) {
            const moved = await essTopics(scope, 'move', '--brokers', brokers, '--yes', ...throttle);
            assert.equal(moved.code, 0, `${moved.out}${moved.err}`);
            assert.ok(moved.out.includes('The throttle is taken away.'), moved.out);
            const { replicas } = await rig.kafka.partition(scope.topic, 0);
            assert.ok(replicas.every((node) => brokers.includes(String(node))));
            const elected = await essTopics(scope, 'elect');
            assert.equal(elected.code, 0, `${elected.out}${elected.err}`);
            await untilPromised(journal, 100);
          }
        });
        await scope.hold(journal);
        await isExact(scope);
        for (const ess of [all, sink]) assert.equal(await ess.end('SIGTERM'), 0);
      },
      // One broker fewer than there are, so that replicas have somewhere to go.
      { 'kafka-replication-factor': 2 },
    ));

  test('a topic that is deleted and made anew is another epoch: all that is sent to it is stored, once', () =>
    withScope(async (scope) => {
      const { kafka } = rig;
      const all = await scope.start('all');
      const sink = await scope.start('sink');
      const ingest = await scope.start('ingest');
      const journal = new Journal('anew');
      const earlier: string[] = [];
      for (const events of [40, 400]) {
        // Few events: the new topic's offsets soon pass those at which the old one was left.
        await underLoad([all], journal, () => untilPromised(journal, events));
        await scope.hold(journal, patienceMs, earlier);
        const epoch = await kafka.topicId(scope.topic);
        assert.ok(epoch !== undefined);
        earlier.push(epoch);
        // Held just now: these are stored, whatever becomes of the topic.
        const stored = new Set(journal.events.filter((event) => event.isPromised));
        let created = '';
        await underLoad([all, ingest], journal, async () => {
          await untilPromised(journal, 20);
          await kafka.deleteTopic(scope.topic);
          // Seen to be gone, or replaced before anybody noticed.
          if (events > 100) await sleep(between(random, 0, 12_000));
          created = await kafka.createTopic({ topic: scope.topic, partitions: 12 });
        });
        // What was taken until now may have gone with the old topic.
        journal.excuse(journal.events.filter((event) => !stored.has(event)));
        const seen = await underLoad([all, ingest], journal, async () => {
          for (const ess of [all, sink, ingest]) await untilOpened(ess, created, 12);
          await untilPromised(journal, 100);
        });
        for (const answers of seen) assert.ok((answers.get('ok') ?? 0) > 0);
        await scope.hold(journal, patienceMs, earlier);
      }
      await journal.checkReads(all);
      for (const ess of [all, sink, ingest]) assert.equal(await ess.end('SIGTERM'), 0);
    }));

  test('Kafka with the embedded store, and the embedded log with ClickHouse nodes, keep the same promises', async () => {
    await withScope(async (scope) => {
      const { clickhouse: _nodes, 'clickhouse-database': _database, ...kafkaOnly } = scope.flags;
      const ess = await EssProcess.start({ flags: { ...kafkaOnly, role: 'all' } });
      scope.processes.push(ess);
      const journal = new Journal('kafka-chdb');
      await underLoad([ess], journal, () => untilPromised(journal, 300));
      await ess.drained();
      await journal.checkReads(ess);
      assert.equal(await ess.end('SIGTERM'), 0);
      await pinEmbeddedEngine();
      const store = await openStore({ kind: 'embedded', path: `${ess.dataDir}/store` });
      const log = await scope.openLog();
      try {
        const ends = (await log.states()).map(({ end }) => end);
        await journal.hold([store], log.epoch, ends, []);
      } finally {
        await store.close();
        await log.close();
      }
    });
    await withScope(async (scope) => {
      const clickhouseOnly = Object.fromEntries(
        Object.entries(scope.flags).filter(([name]) => !name.startsWith('kafka-')),
      );
      const ess = await EssProcess.start({ flags: { ...clickhouseOnly, role: 'all' } });
      scope.processes.push(ess);
      const journal = new Journal('lmdb-nodes');
      await underLoad([ess], journal, async () => {
        await untilPromised(journal, 150);
        await rig.nodes[1]?.restart();
        await untilPromised(journal, 150);
      });
      const stats = (await ess.drained()) as StatsJson & { readonly epoch: string };
      await journal.checkReads(ess);
      assert.equal(await sendOne(ess, journal.create(), '?ack=store'), 'promised');
      const { partitions } = await ess.drained();
      assert.equal(await ess.end('SIGTERM'), 0);
      const stores = await scope.openStores();
      try {
        await journal.hold(
          stores,
          stats.epoch,
          partitions.map(({ end }) => end),
          [],
        );
      } finally {
        for (const store of stores) await store.close();
      }
    });
  });
});
