// `ess doctor` against a real cluster of three brokers with a running ess: nothing is wrong at first, and then each
// fault is made for real, one after the other. What cannot be broken here for real is in doctor.test.ts.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { appendFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { Writable } from 'node:stream';
import { test } from 'node:test';
import { Kafka, logLevel } from 'kafkajs';
import { runInit } from '../../src/cli/init.ts';
import { kafkaTarget } from '../../src/config/kafka.ts';
import { loadConfig } from '../../src/config/load.ts';
import { openDataDir } from '../../src/engine/data_dir.ts';
import { KafkaClient } from '../../src/log/kafka/client.ts';
import { joinCall } from '../../src/log/kafka/group_calls.ts';
import { stampText } from '../../src/log/kafka/position_stamp.ts';
import { ClickHouseNode } from '../support/clickhouse_node.ts';
import { EssProcess } from '../support/ess_process.ts';
import { KafkaCluster, needsKafka } from '../support/kafka_cluster.ts';
import { assertHas, examine, examineAtOffset, faults, has, needsFaketime, untilHas } from './doctor_run.ts';

const minute = 60_000;
const day = 86_400_000;
const folder = mkdtempSync(join(tmpdir(), 'ess-doctor-'));

test('a deployment on Kafka', { ...needsKafka(), timeout: 15 * minute }, async (context) => {
  const cluster = await KafkaCluster.start();
  context.after(() => cluster.dispose());
  const clickhouse = await ClickHouseNode.start();
  context.after(() => clickhouse.dispose());
  context.after(() => rmSync(folder, { recursive: true, force: true }));
  const flags = {
    'kafka-brokers': cluster.brokers.join(','),
    clickhouse: clickhouse.urls.join(','),
    partitions: 12,
    'data-dir': folder,
  };
  const at = (more: Readonly<Record<string, string | number>> = {}): string[] =>
    Object.entries({ 'wait-ms': 20_000, ...flags, ...more }).flatMap(([name, value]) => [
      `--${name}`,
      `${value}`,
    ]);
  const config = loadConfig(
    Object.entries(flags).flatMap(([name, value]) => [`--${name}`, `${value}`]),
    {},
    8,
  );
  const topic = config.kafkaTopic;
  const stdout = new Writable({ write: (_chunk, _encoding, done) => done() });
  const io = { env: {}, cores: 8, stdout, stderr: stdout, openDataDir };
  assert.equal(await runInit(at({ 'wait-ms': 60_000 }), io), 0);
  const ess = await EssProcess.start({ flags: { ...flags, sinks: 1 }, dataDir: folder });
  context.after(() => ess.dispose());
  for (let i = 0; i < 24; i += 1) assert.equal((await ess.post(`{"id":"${i}"}`)).status, 200);
  await ess.drained();

  await context.test('that ess init made and that runs has no error and no warning', async () => {
    const report = await examine(at({ url: ess.url }));
    assert.deepEqual(faults(report), [], JSON.stringify(report.lines));
    for (const check of [
      'kafka_brokers',
      'kafka_quorum',
      'kafka_clock',
      'kafka_log_dirs',
      'topic_retention',
      'group_members',
      'topic_identity',
      'clickhouse_tables',
      'service_conservation',
    ] as const)
      assertHas(report, check, 'ok');
  });

  await context.test('a machine whose clock is wrong', needsFaketime(), async () => {
    const late = await examineAtOffset('-10s', at());
    assertHas(late, 'kafka_clock', 'warning', 'ahead of');
    assertHas(late, 'clickhouse_clock', 'warning', 'ahead of');
    const early = await examineAtOffset('+600s', at());
    assertHas(early, 'kafka_clock', 'error', 'behind');
    assertHas(early, 'clickhouse_clock', 'error', 'behind');
  });

  await context.test('settings of the topics that do harm', async () => {
    const letters = `${topic}-dead-letters`;
    await cluster.setConfig(letters, { 'cleanup.policy': 'delete' });
    await cluster.setConfig(topic, {
      'min.insync.replicas': '3',
      'unclean.leader.election.enable': 'true',
      'max.message.bytes': '500000',
      'retention.ms': '60000',
      'retention.bytes': '1048576',
      'cleanup.policy': 'compact',
      'message.timestamp.type': 'LogAppendTime',
    });
    await untilHas(at(), [
      ['topic_min_isr', 'warning', 'one broker'],
      ['topic_unclean_election', 'error', 'ess init --apply'],
      ['topic_message_size', 'error', '500000'],
      ['topic_retention', 'error', 'retention.ms is 60000'],
      ['topic_retention', 'warning', 'for each partition'],
      ['topic_cleanup', 'error', `${topic} `],
      ['topic_cleanup', 'error', letters],
      ['topic_timestamps', 'error'],
    ]);
    await cluster.setConfig(letters, { 'cleanup.policy': 'compact' });
    await cluster.setConfig(topic, {
      'min.insync.replicas': '1',
      'unclean.leader.election.enable': 'false',
      'max.message.bytes': '2097152',
      'retention.ms': '7200000',
      'retention.bytes': String(1024 ** 5),
      'cleanup.policy': 'delete',
      'message.timestamp.type': 'CreateTime',
    });
    await untilHas(at(), [
      ['topic_min_isr', 'error', 'is 1'],
      ['topic_message_size', 'warning', 'larger batches are cut'],
      ['topic_retention', 'warning', '2 h'],
      ['topic_retention', 'warning', 'its disks have'],
    ]);
    await cluster.setConfig(topic, {
      'retention.bytes': null,
      'min.insync.replicas': '2',
      'max.message.bytes': '16777216',
      'retention.ms': null,
    });
    const mended = await untilHas(at(), [
      // By name: the same checks pass on the dead letters, which were not touched.
      ['topic_min_isr', 'ok', `${topic} min.insync.replicas`],
      ['topic_message_size', 'ok', `${topic} max.message.bytes`],
      ['topic_retention', 'ok', topic],
    ]);
    assert.deepEqual(faults(mended), []);
  });

  await context.test('a store that is away, as the service itself tells', async () => {
    await clickhouse.setFault(0, 'down');
    const { code } = await untilHas(at({ url: ess.url }), [
      ['clickhouse_nodes', 'error'],
      ['service_status', 'warning', '/operations#store-node-down'],
    ]);
    assert.equal(code, 1);
    await clickhouse.setFault(0, 'none');
  });

  await context.test('a topic with too few partitions and replicas, and none for dead letters', async () => {
    await cluster.createTopic({ topic: 'few', partitions: 1, replicationFactor: 2 });
    const { clickhouse: node } = flags;
    const argv = at({ 'kafka-topic': 'few', 'kafka-group': 'few' }).filter((each, i, all) => {
      const isPartitions = each === '--partitions' || all[i - 1] === '--partitions';
      return !isPartitions;
    });
    const report = await untilHas(argv, [
      ['topic_partitions', 'warning', '1 partition for 4 sinks'],
      ['topic_replicas', 'error', 'kafka-reassign-partitions.sh'],
      ['topic_exists', 'error', 'few-dead-letters'],
      // Kafka's own default for a topic, 1 MiB, is above the event limit and below what a producer commits at once.
      ['topic_message_size', 'warning', '1048588'],
      // Of two copies, the two that the cluster asks for.
      ['topic_min_isr', 'warning', 'of 2 replicas'],
    ]);
    assert.equal(report.code, 1);
    const odd = await examine([...argv, '--clickhouse', `${node};http://127.0.0.1:1`]);
    assertHas(odd, 'topic_partitions', 'error', 'but must be 2');
    assertHas(odd, 'clickhouse_nodes', 'error', '127.0.0.1:1');
  });

  const few = (group: string, more: Readonly<Record<string, string | number>> = {}): string[] =>
    at({ 'kafka-topic': 'few', 'kafka-group': group, ...more });

  await context.test(
    'a group without members, records that wait for long, and near their retention',
    async () => {
      const kafka = new Kafka({ brokers: cluster.brokers, logLevel: logLevel.NOTHING });
      const producer = kafka.producer();
      await producer.connect();
      const timestamp = String(Date.now() - 5 * day);
      await producer.send({
        topic: 'few',
        messages: [
          { value: '{}', timestamp },
          { value: '{}', timestamp },
        ],
      });
      await producer.disconnect();
      await untilHas(few('nobody'), [
        ['group_members', 'error', '2 records wait'],
        ['group_lag', 'warning', 'partition 0'],
        ['topic_retention', 'error', 'older than half'],
      ]);
    },
  );

  await context.test(
    'positions of another topic, of somebody else, before the beginning, beyond the end',
    async () => {
      const topicId = (await cluster.topicId('few')) ?? '';
      await cluster.setGroupOffset('former', 'few', 0, 1, stampText(`${'0'.repeat(31)}1`, ''));
      assertHas(await examine(few('former')), 'topic_identity', 'error', topicId);
      await cluster.setGroupOffset('foreign', 'few', 0, 2);
      assertHas(await examine(few('foreign')), 'group_positions', 'warning', 'not written by ESS');
      await cluster.setGroupOffset('beyond', 'few', 0, 9, stampText(topicId, ''));
      assertHas(await examine(few('beyond')), 'group_positions', 'error', 'beyond the end');
      await cluster.setGroupOffset('late', 'few', 0, 1, stampText(topicId, ''));
      assert.equal(await cluster.deleteRecords('few', 0, -1), 2);
      assertHas(await examine(few('late')), 'group_positions', 'error', '0 (1 to 1)');
    },
  );

  await context.test('a member that joins and never takes its share', async () => {
    const target = kafkaTarget(config);
    assert.ok(target !== null);
    const client = new KafkaClient(target, { name: 'stuck', requestTimeoutMs: 10_000 });
    const group = 'stuck';
    const coordinator = await client.coordinator(group, 10_000);
    const request = {
      group,
      sessionTimeoutMs: 60_000,
      rebalanceTimeoutMs: 60_000,
      protocol: 'stuck',
      subscription: Buffer.alloc(0),
    };
    const { memberId } = await client.send(coordinator, joinCall({ ...request, memberId: '' }), 10_000);
    await client.send(coordinator, joinCall({ ...request, memberId }), 10_000);
    assertHas(await examine(few(group)), 'group_members', 'error', 'CompletingRebalance');
    await client.close();
  });

  await context.test('leaders that all lie on one broker', async () => {
    await cluster.createTopic({ topic: 'skewed', partitions: 6 });
    for (let partition = 0; partition < 6; partition += 1) await cluster.moveLeader('skewed', partition, 0);
    await untilHas(at({ 'kafka-topic': 'skewed' }), [['partition_skew', 'warning', 'broker 0 leads 6 of 6']]);
  });

  await context.test('brokers that do less than ESS is told to expect', async () => {
    const report = await examine(at({ 'kafka-replication-factor': 5 }));
    assertHas(report, 'kafka_defaults', 'warning', 'default.replication.factor is 3');
    assertHas(report, 'offsets_replicas', 'warning');
    assertHas(report, 'kafka_quorum', 'error', '3 of 5 brokers');
  });

  await context.test('no sink, a broker that hangs, and then is gone', async () => {
    await cluster.createTopic({ topic: 'alone', partitions: 3, replicationFactor: 1 });
    await ess.end('SIGTERM');
    await untilHas(at(), [['group_members', 'warning', 'no member']]);

    const node = cluster.node(2);
    node.pause();
    const startMs = performance.now();
    const hanging = await examine(at({ 'wait-ms': 6_000 }));
    // Not a matter of speed: the bound that was asked for, and what a busy machine needs beside it.
    assert.ok(performance.now() - startMs < 30_000);
    assertHas(hanging, 'kafka_brokers', 'error', 'broker 2');
    assertHas(hanging, 'kafka_bootstrap', 'warning', node.broker);
    // Others answer for themselves.
    assertHas(hanging, 'clickhouse_tables', 'ok');
    assert.ok(hanging.lines.some(({ group, verdict }) => group === 'topics' && verdict === 'ok'));

    await node.kill();
    await untilHas(at({ 'kafka-min-insync-replicas': 3 }), [
      ['kafka_brokers', 'error', 'broker 2'],
      ['kafka_quorum', 'warning', 'not up to date'],
      ['partition_replicas', 'error', 'fewer than 3'],
      ['partition_leaders', 'warning', 'not on the preferred'],
    ]);
    assertHas(await examine(at()), 'partition_replicas', 'warning', 'broker 2');
    await untilHas(at({ 'kafka-topic': 'alone' }), [['partition_leaders', 'error', 'broker 2']]);
  });

  await context.test('a quorum that is lost, and a cluster that is gone', async () => {
    await cluster.node(1).kill();
    await untilHas(at({ 'wait-ms': 10_000 }), [['kafka_quorum', 'error', 'no controller']]);
    await cluster.node(0).kill();
    const gone = await examine(at({ 'wait-ms': 4_000 }));
    assertHas(gone, 'kafka_brokers', 'error');
    assertHas(gone, 'kafka_bootstrap', 'error');
    assertHas(gone, 'group_coordinator', 'error');
    assert.ok(has(gone, 'topic_retention', 'unknown') && has(gone, 'clickhouse_tables', 'ok'));
  });
});

test('a broker as Kafka comes by default', { ...needsKafka(), timeout: 15 * minute }, async (context) => {
  const cluster = await KafkaCluster.start({
    nodes: 1,
    properties: { 'auto.create.topics.enable': 'true', 'socket.request.max.bytes': '1048576' },
  });
  context.after(() => cluster.dispose());
  const topic = 'plain';
  await cluster.createTopic({ topic, partitions: 4 });
  const dataDir = mkdtempSync(join(tmpdir(), 'ess-doctor-'));
  context.after(() => rmSync(dataDir, { recursive: true, force: true }));
  const argv = ['--kafka-brokers', cluster.brokers.join(','), '--kafka-topic', topic, '--data-dir', dataDir];
  const report = await examine(argv);
  assertHas(report, 'kafka_defaults', 'warning', 'auto.create.topics.enable');
  assertHas(report, 'kafka_defaults', 'warning', 'default.replication.factor is 1');
  assertHas(report, 'offsets_replicas', 'warning', '1 replica');
  assertHas(report, 'topic_replicas', 'error');
  const alone = [...argv, '--kafka-replication-factor', '1', '--kafka-min-insync-replicas', '1'];
  assertHas(await examine(alone), 'topic_min_isr', 'warning', '1 of 1 replica');
  await cluster.setConfig(topic, { 'max.message.bytes': '16777216' });
  await untilHas(alone, [['kafka_request_size', 'error', 'socket.request.max.bytes']]);

  // A second disk, which then fails: its directory is gone when the broker next writes a checkpoint there.
  const node = cluster.node(0);
  await node.stop();
  const second = join(cluster.folder, 'second');
  mkdirSync(second);
  const identity = readFileSync(join(node.folder, 'meta.properties'), 'utf8');
  const own = `directory.id=${randomBytes(16).toString('base64url')}`;
  writeFileSync(join(second, 'meta.properties'), identity.replace(/^directory\.id=.*$/m, own));
  appendFileSync(
    join(cluster.folder, 'node0.properties'),
    `log.dirs=${node.folder},${second}\nreplica.high.watermark.checkpoint.interval.ms=500\n`,
  );
  await node.restart();
  await cluster.createTopic({ topic: 'spread', partitions: 6 });
  const spread = [...alone, '--kafka-topic', 'spread'];
  assertHas(await examine(spread), 'kafka_log_dirs', 'ok', 'none of 2');
  rmSync(second, { recursive: true });
  await untilHas(spread, [['kafka_log_dirs', 'error', second]]);

  // Bootstrap answers, and what it says of itself leads nowhere.
  await node.stop();
  appendFileSync(
    join(cluster.folder, 'node0.properties'),
    `log.dirs=${node.folder}\nadvertised.listeners=PLAINTEXT://127.0.0.1:1\n`,
  );
  await node.restart();
  const nowhere = await examine(alone);
  assertHas(nowhere, 'kafka_brokers', 'error', '127.0.0.1:1, the address that it advertises');
  assertHas(nowhere, 'kafka_bootstrap', 'ok');
});
