// Invariant: whoever breaks a cluster on purpose, under load, learns from doctor, page and docs what it was, and after mending
// it as they say `ess verify --deep` says exact; what was really lost is named, and exact once a person accepted it.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type TroubleKind, troubleAnchor } from '../../src/live/troubles.ts';
import type { Store } from '../../src/store/store.ts';
import { type Report, untilHas } from '../cli/doctor_run.ts';
import { Journal } from '../crash/journal.ts';
import { load, sendBatch } from '../crash/load.ts';
import { seededRandom, testSeed } from '../crash/random.ts';
import { dlq, listed } from '../support/dlq_command.ts';
import type { EssProcess, StatsJson } from '../support/ess_process.ts';
import { needsKafka } from '../support/kafka_cluster.ts';
import { kcat, needsKcat } from '../support/kcat.ts';
import { LiveViewer } from '../support/live_viewer.ts';
import { needsSmallDisk, SmallDisk } from '../support/small_disk.ts';
import { essVerify } from '../verify/by_hand.ts';
import { ClusterRig, type Scope } from './rig.ts';

const MiB = 1024 * 1024;
const patienceMs = 120_000;
const partitions = 6;
const canRun = needsKafka().skip === false ? needsKcat() : needsKafka();
const folder = mkdtempSync(join(tmpdir(), 'ess-mishaps-'));

describe('a mishap', { ...canRun, timeout: 900_000 }, () => {
  const random = seededRandom(testSeed());
  const journal = new Journal('mishap');
  let rig: ClusterRig;
  let scope: Scope;
  let ingest: EssProcess;
  let sink: EssProcess;
  let help = '';
  let isOver = false;
  /** Events of the journal from here on were sent after all losses. */
  let acceptedAt = 0;
  let traffic: Promise<void> = Promise.resolve();

  before(async () => {
    rig = await ClusterRig.start({
      shards: 2,
      replicas: 1,
      // So that what is past its time goes while somebody watches.
      properties: { 'log.retention.check.interval.ms': '1000' },
    });
    scope = await rig.scope({ partitions, producers: 1, sinks: 2, readers: 1, 'http-deadline-ms': 5_000 });
    ingest = await scope.start('ingest');
    sink = await scope.start('sink');
    help = await (await fetch(`${ingest.url}/operations`)).text();
    traffic = load(ingest, journal, random, () => isOver, { clients: 2, pauseMs: 50, hasRetries: false });
  });
  after(async () => {
    isOver = true;
    await traffic;
    await scope?.end();
    await rig?.dispose();
    rmSync(folder, { recursive: true, force: true });
  });

  const argv = (): string[] =>
    Object.entries(scope.flags).flatMap(([name, value]) => [`--${name}`, String(value)]);
  type Expected = Parameters<typeof untilHas>[1];
  /** What `ess doctor` says of the cluster, and of this process. */
  const doctor = (ess: EssProcess, expected: Expected): Promise<Report> =>
    untilHas([...argv(), '--data-dir', folder, '--wait-ms', '6000', '--url', ess.url], expected);
  const mendOf = (report: Report, check: string, text: string): string =>
    report.lines.find((line) => line.check === check && line.mend.includes(text))?.mend ?? '';

  /** Waits until the page of a process shows this, and holds that it leads to a section that there is. */
  async function shows(ess: EssProcess, kind: TroubleKind, text = ''): Promise<void> {
    const viewer = await LiveViewer.open(ess.url);
    try {
      await viewer.until(
        ({ troubles }) => troubles.some((each) => each.kind === kind && each.text.includes(text)),
        patienceMs,
      );
    } finally {
      viewer.drop();
    }
    assert.ok(help.includes(`id="${troubleAnchor(kind)}"`), kind);
  }

  /** Waits until an event of a new id is answered so. */
  async function answers(status: number): Promise<void> {
    const untilMs = Date.now() + patienceMs;
    for (let last = 0; last !== status; ) {
      assert.ok(Date.now() < untilMs, `${last} instead of ${status}`);
      last = (await ingest.post(JSON.stringify({}))).status;
    }
  }

  /** Waits until nothing is wrong any more, under load, and proves it. */
  async function isWell(): Promise<void> {
    const untilMs = Date.now() + patienceMs;
    for (const ess of [ingest, sink]) {
      for (;;) {
        const { reasons, lag } = await ess.getJson<StatsJson>('/stats');
        if (reasons.length === 0 && lag.seconds < 10) break;
        assert.ok(Date.now() < untilMs, `${reasons.join('; ')}\n${ess.output.slice(-20).join('')}`);
        await sleep(200);
      }
    }
    const proof = await essVerify([...argv(), '--deep']);
    assert.equal(proof.code, 0, proof.out + proof.err);
    assert.match(proof.out, /^exact: /);
    assert.equal((await essVerify(argv())).code, 0);
  }

  async function withStore<T>(shard: number, work: (store: Store) => Promise<T>): Promise<T> {
    const stores = await scope.openStores();
    try {
      const store = stores[shard];
      assert.ok(store !== undefined);
      return await work(store);
    } finally {
      for (const store of stores) await store.close();
    }
  }

  const dropBoth = (shard: number): Promise<void> =>
    withStore(shard, async (store) => {
      await store.command('DROP TABLE IF EXISTS events SYNC');
      await store.command('DROP TABLE IF EXISTS ledger SYNC');
    });

  /** Holds that every event that was answered 200, from the one numbered `first` on, is stored on one of the shards. */
  async function holds(first: number): Promise<void> {
    const promised = journal.events.slice(first).filter(({ isPromised }) => isPromised);
    await scope.drained();
    const stored = new Set<string>();
    for (const shard of [0, 1]) {
      const rows = await withStore(shard, (store) =>
        store.rows<{ id: string }>('SELECT id FROM events FINAL'),
      );
      for (const { id } of rows) stored.add(id);
    }
    assert.ok(promised.length > 0);
    assert.deepEqual(
      promised.filter(({ id }) => !stored.has(id)).map(({ id }) => id),
      [],
    );
  }

  /** Waits until the doctor itself has nothing more to say about a node. */
  const tablesAreWell = (): Promise<Report> =>
    doctor(sink, [
      ['clickhouse_tables', 'ok'],
      ['clickhouse_rows', 'ok'],
    ]);

  test('with brokers: one that is stopped changes nothing for clients, two stop events, all is well when they are back', async () => {
    await rig.kafka.node(2).kill();
    await doctor(ingest, [
      ['kafka_brokers', 'error', 'systemctl start kafka'],
      ['service_status', 'warning', '/operations#broker-down'],
    ]);
    await shows(ingest, 'broker_down', '2');
    await answers(200);
    await rig.kafka.node(1).kill();
    await answers(503);
    await doctor(ingest, [['kafka_quorum', 'error', 'start the controllers']]);
    await shows(ingest, 'log_unavailable');
    const ready = await fetch(`${ingest.url}/readyz`);
    assert.deepEqual([ready.status, /"log: /.test(await ready.text())], [503, true]);
    await Promise.all([rig.kafka.node(1).restart(), rig.kafka.node(2).restart()]);
    await answers(200);
    await isWell();
  });

  test('with garbage in the topic: it is kept apart with its reason, and the rest is stored', async () => {
    const { brokers } = rig.kafka;
    const write = (lines: readonly string[], options: Parameters<typeof kcat.produce>[3]): Promise<void> =>
      kcat.produce(brokers, scope.topic, lines, options);
    await write(['not JSON', '[1]', '{"id":7'], { partition: 0 });
    await write(['no value\t'], { partition: 1, keyDelimiter: '\t', isEmptyNull: true });
    await write([JSON.stringify({ text: 'x'.repeat(2 * MiB) })], {
      partition: 2,
      properties: { 'message.max.bytes': String(8 * MiB) },
    });
    for (const codec of ['gzip', 'snappy', 'lz4', 'zstd'] as const)
      await write([`{"id":"by-${codec}"}`, 'not JSON'], { partition: 3, codec });
    await shows(ingest, 'dead_letters');
    await doctor(ingest, [['service_status', 'warning', '/operations#dead-letters']]);
    await scope.drained();
    const letters = await listed(ingest.url);
    assert.deepEqual(letters.map(({ partition, code }) => `${partition} ${code}`).toSorted(), [
      '0 invalid_event',
      '0 malformed_json',
      '0 malformed_json',
      '1 no_value',
      '2 too_large',
      '3 malformed_json',
      '3 malformed_json',
      '3 malformed_json',
      '3 malformed_json',
    ]);
    assert.deepEqual(await listed(ingest.url, 'discarded'), []);
    const gone = await dlq(ingest.url, ['discard', '--all', '--reason', 'ada: garbage of a test']);
    assert.equal(gone.code, 0, gone.out + gone.err);
    assert.deepEqual(await listed(ingest.url), []);
    await isWell();
  });

  test('with a table: one that was just dropped is had back with all its rows, as the doctor says', async () => {
    for (const table of ['events', 'ledger']) {
      await withStore(0, (store) => store.command(`DROP TABLE ${table}`));
      const report = await doctor(sink, [
        ['clickhouse_tables', 'error', `table ${table} is missing`],
        ['service_status', 'warning', '/operations#partition-waiting'],
      ]);
      await shows(sink, 'partition_waiting');
      await answers(200);
      const [statement = ''] = mendOf(report, 'clickhouse_tables', 'UNDROP').split(' (');
      assert.equal(statement, `UNDROP TABLE \`${scope.database}\`.${table}`);
      // Told by habit, it would make an empty one, and the rows could not be had back any more.
      const init = await scope.tryInit();
      assert.deepEqual([init.code, init.output.includes(statement)], [1, true], init.output);
      await withStore(0, (store) => store.command(statement));
      await isWell();
    }
  });

  test('with a table: one that is gone is filled again from the log, and nobody says exact before', async () => {
    // Far more than come while somebody looks: without --deep it is seen only if most rows of a partition are gone.
    for (let batch = 0; batch < 10; batch += 1) {
      const events = Array.from({ length: 1000 }, () => journal.create(false));
      await sendBatch(ingest, events, '?ack=log');
    }
    await scope.drained();
    for (const [shard, table] of [
      [0, 'events'],
      [1, 'ledger'],
    ] as const) {
      await withStore(shard, (store) => store.command(`DROP TABLE ${table} SYNC`));
      await doctor(sink, [['clickhouse_tables', 'error', 'Lost rows']]);
      await shows(sink, 'partition_waiting', 'ess init');
      await scope.init();
      // New events are stored again; that makes nothing good.
      for (;;) {
        const { reasons } = await sink.getJson<StatsJson>('/stats');
        if (reasons.length === 0) break;
        await sleep(200);
      }
      await scope.drained();
      const shallow = await essVerify(argv());
      assert.equal(shallow.code, 1, shallow.out);
      assert.match(shallow.out, table === 'events' ? /rows_missing/ : /ledger_gap/);
      if (table === 'events') await doctor(sink, [['clickhouse_rows', 'error', 'Lost rows']]);
      // As "Lost rows" says.
      assert.ok(help.includes('id="lost-rows"'));
      if (table === 'ledger') {
        const anew = await essVerify([...argv(), '--accept-losses']);
        assert.equal(anew.code, 0, anew.out + anew.err);
      } else {
        assert.equal(await sink.end('SIGTERM'), 0);
        await dropBoth(shard);
        await scope.init();
        sink = await scope.start('sink');
      }
      await isWell();
      await tablesAreWell();
    }
    // Nothing that has happened so far has cost an event.
    await holds(0);
  });

  test('with the retention: what it takes is named, and exact once somebody has accepted it', async () => {
    assert.equal(await sink.end('SIGTERM'), 0);
    await answers(200);
    await rig.kafka.setConfig(scope.topic, { 'retention.ms': '1000' });
    const report = await doctor(ingest, [['topic_retention', 'error', 'retention.ms is 1000']]);
    await doctor(ingest, [['group_positions', 'error', 'ess verify --accept-losses']]);
    // Everybody can paste it.
    const [tool = '', ...words] = mendOf(report, 'topic_retention', 'retention.ms=604800000').split(' ');
    assert.equal(tool, 'kafka-configs.sh');
    const jars = resolve('.cache/tools/kafka-3.7.0/libs/*');
    const altered = spawnSync('java', ['-cp', jars, 'kafka.admin.ConfigCommand', ...words], {
      encoding: 'utf8',
    });
    assert.equal(altered.status, 0, altered.stdout + altered.stderr);
    sink = await scope.start('sink');
    await shows(sink, 'partition_halted', 'gap');
    await doctor(sink, [['service_status', 'error', '/operations#partition-halted']]);
    const lost = await essVerify([...argv(), '--deep']);
    assert.equal(lost.code, 1);
    assert.match(lost.out, /records_gone partition \d.*--accept-losses/);
    await answers(200);
    const accepted = await essVerify([...argv(), '--accept-losses']);
    assert.equal(accepted.code, 0, accepted.out + accepted.err);
    assert.match(accepted.out, /^exact: .* [1-9]\d* holes/);
    await isWell();
    // A table that is lost now is filled as far as the log goes, and the rest is accepted.
    assert.equal(await sink.end('SIGTERM'), 0);
    await dropBoth(0);
    await scope.init();
    sink = await scope.start('sink');
    await shows(sink, 'partition_halted', 'gap');
    const again = await essVerify([...argv(), '--accept-losses']);
    assert.equal(again.code, 0, again.out + again.err);
    await isWell();
    acceptedAt = journal.events.length;
  });

  test(
    "with a broker's disk: it stops, the others go on, and it comes back when there is room",
    needsSmallDisk(),
    async () => {
      const node = rig.kafka.node(2);
      await node.stop();
      const kept = join(folder, 'node');
      cpSync(node.folder, kept, { recursive: true });
      const disk = new SmallDisk(node.folder, 160);
      try {
        cpSync(kept, node.folder, { recursive: true });
        await node.restart();
        await doctor(ingest, [['kafka_brokers', 'ok']]);
        disk.fill(0);
        await doctor(ingest, [['kafka_brokers', 'error', 'broker 2']]);
        await shows(ingest, 'broker_down', '2');
        await answers(200);
        disk.relieve();
        await node.restart();
        await isWell();
      } finally {
        await node.kill();
        disk.unmount();
      }
    },
  );

  test('costs nothing of what was sent after the losses', async () => {
    isOver = true;
    await traffic;
    await rig.kafka.node(2).restart();
    await holds(acceptedAt);
  });
});
