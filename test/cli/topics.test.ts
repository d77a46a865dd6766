// `ess topics` against a real cluster of three brokers, some of it while records are written. Invariant: whatever is moved,
// cancelled or interrupted, no acknowledged record is missing. (kcat may repeat one itself.)

import assert from 'node:assert/strict';
import { PassThrough, Readable, Writable } from 'node:stream';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { commandOf } from '../../src/cli/command.ts';
import type { TopicReport, TopicsReport } from '../../src/cli/topics/describe.ts';
import { runTopics } from '../../src/cli/topics.ts';
import { KafkaAdmin } from '../support/kafka_admin.ts';
import { KafkaCluster, needsKafka } from '../support/kafka_cluster.ts';
import { kcat, needsKcat } from '../support/kcat.ts';

class Sink extends Writable {
  text = '';
  override _write(chunk: Buffer, _encoding: string, callback: () => void): void {
    this.text += chunk.toString();
    callback();
  }
}

interface Outcome {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

interface Circumstances {
  readonly signal?: AbortSignal;
  readonly stdin?: Readable & { readonly isTTY?: boolean };
}

/** Runs `ess topics`; three minutes are enough for any change here, on a slow machine too. */
async function run(argv: readonly string[], circumstances: Circumstances = {}): Promise<Outcome> {
  const stdout = new Sink();
  const stderr = new Sink();
  const { signal = new AbortController().signal, stdin = Readable.from([]) } = circumstances;
  const isWaiting = argv.includes('--wait-ms') || argv.length === 0 || argv.includes('--help');
  const waiting = isWaiting ? [] : ['--wait-ms', '180000'];
  const code = await runTopics([...argv, ...waiting], { env: {}, cores: 2, stdin, stdout, stderr, signal });
  return { code, out: stdout.text, err: stderr.text };
}

test('topics is a command of its own, with its own help', async () => {
  assert.deepEqual(commandOf(['topics', 'move']), { type: 'topics', argv: ['move'] });
  assert.deepEqual(commandOf(['help', 'topics']), { type: 'topics', argv: ['--help'] });
  const { code, out } = await run(['--help']);
  assert.equal(code, 0);
  for (const name of ['describe', 'add-partitions', 'move', 'elect', '--brokers', '--wait-ms'])
    assert.ok(out.includes(name));
  for (const line of out.split('\n')) assert.ok(line.length <= 100, line);
});

test('a command line that is not valid gives 2 and says what is wrong with it', async () => {
  const kafka = ['--kafka-brokers', '127.0.0.1:1'];
  const bad: [string[], string][] = [
    [[], 'describe'],
    [['describ', ...kafka], 'describe'],
    [['describe'], '--kafka-brokers'],
    [['describe', '--yes', ...kafka], '--yes'],
    [['move', ...kafka], '--brokers'],
    [['move', '--brokers', '0,x', ...kafka], '--brokers'],
    [['move', '--brokers', '0', '--cancel', ...kafka], '--cancel'],
    [['move', '--brokers', '0', '--partitions', '1-3', ...kafka], '--partitions'],
    [['add-partitions', ...kafka], 'NUMBER'],
    [['add-partitions', 'many', ...kafka], 'partitions'],
    [['elect', '--wait-ms', '-1', ...kafka], '--wait-ms'],
    [['add-partitions', '9', '--clickhouse', 'http://a:1;http://b:1', ...kafka], '2 shards'],
  ];
  for (const [argv, part] of bad) {
    const { code, out, err } = await run(argv);
    assert.deepEqual([code, out], [2, ''], argv.join(' '));
    assert.ok(err.includes(part), err);
  }
});

const skipping = needsKafka().skip === false ? needsKcat() : needsKafka();

test('topics of a cluster', skipping, async (context) => {
  const cluster = await KafkaCluster.start({ nodes: 3 });
  context.after(() => cluster.dispose());
  const topic = 'seen';
  const letters = `${topic}-dead-letters`;
  const group = 'readers';
  await cluster.createTopic({ topic, partitions: 6, replicationFactor: 2 });
  await cluster.createTopic({
    topic: letters,
    partitions: 1,
    replicationFactor: 2,
    config: { 'cleanup.policy': 'compact' },
  });
  const at = (...argv: string[]): string[] => [
    ...argv,
    ...['--kafka-brokers', cluster.brokers.join(','), '--kafka-topic', topic, '--kafka-group', group],
  ];
  const report = async (): Promise<TopicsReport> => {
    const { code, out, err } = await run(at('describe', '--json'));
    assert.equal(code, 0, err);
    return JSON.parse(out) as TopicsReport;
  };
  const events = ({ topics }: TopicsReport): TopicReport => {
    const found = topics.find(({ role }) => role === 'events');
    assert.ok(found !== undefined);
    return found;
  };
  const holders = async (): Promise<Set<number>> =>
    new Set((await report()).topics.flatMap(({ partitions }) => partitions.flatMap((each) => each.replicas)));

  await context.test('describe says what Kafka says', async () => {
    await kcat.produce(cluster.brokers, topic, ['a', 'b', 'c', 'd', 'e'], { partition: 2 });
    await cluster.deleteRecords(topic, 2, 1);
    await cluster.setGroupOffset(group, topic, 2, 3);
    const found = await report();
    assert.deepEqual(
      found.brokers.map(({ id, address }) => [id, address]),
      cluster.brokers.map((address, id) => [id, address]),
    );
    const [controller] = found.brokers.filter((broker) => broker.is_controller);
    assert.ok(controller !== undefined);
    assert.deepEqual(
      found.topics.map((each) => [each.topic, each.partition_count, each.replication_factor]),
      [
        [topic, 6, 2],
        [letters, 1, 2],
      ],
    );
    assert.equal(events(found).topic_id, await cluster.topicId(topic));
    assert.equal(found.topics[1]?.settings?.['cleanup.policy'], 'compact');
    for (const { partition, ...told } of events(found).partitions) {
      const kafka = await cluster.partition(topic, partition);
      const offsets = await cluster.offsets(topic, partition);
      assert.deepEqual(
        [told.leader, told.replicas, told.in_sync_replicas, told.start_offset, told.end_offset],
        [kafka.leader, kafka.replicas, kafka.inSync, offsets.start, offsets.end],
      );
    }
    const second = events(found).partitions[2];
    assert.deepEqual([second?.start_offset, second?.end_offset, second?.position, second?.lag], [1, 5, 3, 2]);
    assert.ok((second?.bytes ?? 0) > 0);
    const { out } = await run(at('describe'));
    for (const text of [topic, letters, 'position', 'min.insync.replicas'])
      assert.ok(out.includes(text), out);
  });

  await context.test('a leader that is not the preferred one is named, and elect gives it back', async () => {
    const { replicas, leader } = await cluster.partition(topic, 0);
    const others = replicas.filter((node) => node !== leader);
    await new KafkaAdmin(cluster.node(0).port).setReplicas(topic, 0, [...others, leader]);
    // All brokers have to know, or the one that is asked may not.
    for (const { port } of cluster.nodes) {
      const preferred = async (): Promise<number | undefined> => {
        const view = await new KafkaAdmin(port).view([topic]);
        const found = view.topics.get(topic)?.partitions.find(({ partition }) => partition === 0);
        return found?.replicas[0];
      };
      while ((await preferred()) !== others[0]) await sleep(50);
    }
    const found = await report();
    assert.ok(
      found.findings.some((finding) => finding.includes('ess topics elect')),
      found.findings.join(),
    );
    const { code, out } = await run(at('elect'));
    assert.equal(code, 0, out);
    assert.ok(out.includes(`${topic}-0: ${leader} -> ${others[0]}`), out);
    assert.equal(await cluster.leaderOf(topic, 0), others[0]);
    assert.equal((await run(at('elect'))).code, 0);
  });

  await context.test('a plan is printed and nothing is changed without --yes', async () => {
    const before = events(await report()).partitions.map(({ replicas }) => replicas);
    for (const more of [[], ['--yes', '--dry-run']]) {
      const { code, out } = await run(at('move', '--brokers', '0,1', ...more));
      assert.equal(code, 0);
      assert.ok(out.includes('Plan') && out.includes('--yes'), out);
    }
    assert.deepEqual(
      events(await report()).partitions.map(({ replicas }) => replicas),
      before,
    );
    for (const [brokers, more, part] of [
      ['0,7', [], '7'],
      ['0', [], '2 at least'],
      ['0,1', ['--partitions', '6'], '--partitions'],
    ] as const) {
      const { code, err } = await run(at('move', '--brokers', brokers, ...more));
      assert.equal(code, 2);
      assert.ok(err.includes(part), err);
    }
  });

  await context.test('replicas leave a broker and come back under load, and nothing is lost', async () => {
    let isLoading = true;
    let sent = 0;
    const loading = (async () => {
      while (isLoading) {
        const records = Array.from({ length: 500 }, (_, i) => `record-${sent + i}`);
        await kcat.produce(cluster.brokers, topic, records);
        sent += records.length;
      }
    })();
    try {
      const away = await run(at('move', '--brokers', '0,1', '--yes'));
      assert.equal(away.code, 0, `${away.out}${away.err}`);
      assert.deepEqual([...(await holders())].sort(), [0, 1]);
      assert.equal((await run(at('elect'))).code, 0);
      const some = await run(at('move', '--brokers', '1,2', '--partitions', '0,1', '--yes'));
      assert.equal(some.code, 0, `${some.out}${some.err}`);
      const [zero, one, two] = events(await report()).partitions.map(({ replicas }) => [...replicas].sort());
      assert.deepEqual(
        [zero, one, two],
        [
          [1, 2],
          [1, 2],
          [0, 1],
        ],
      );
      const back = await run(at('move', '--brokers', '0,1,2', '--yes'));
      assert.equal(back.code, 0, `${back.out}${back.err}`);
    } finally {
      isLoading = false;
      await loading;
    }
    const { findings, brokers } = await report();
    assert.ok(!findings.some((finding) => finding.includes('uneven')), findings.join());
    assert.ok(
      brokers.every(({ replicas }) => replicas >= 4),
      JSON.stringify(brokers),
    );
    assert.equal(
      (await run(at('move', '--brokers', '0,1,2', '--yes'))).out.includes('Nothing to move'),
      true,
    );
    const records = await kcat.consume(cluster.brokers, topic);
    const values = records.map(({ value }) => String(value)).filter((value) => value.startsWith('record-'));
    const missing = new Set(Array.from({ length: sent }, (_, i) => `record-${i}`));
    for (const value of values) missing.delete(value);
    assert.equal(missing.size, 0);
  });

  await context.test('a watch that ends early is gone on with, and a move can be cancelled', async () => {
    assert.equal((await run(at('move', '--brokers', '0,1', '--yes'))).code, 0);
    const command = at('move', '--brokers', '0,1,2', '--yes');
    // A broker that stands still gets no replica into sync.
    await cluster.untilHealthy(topic);
    cluster.node(2).pause();
    try {
      const late = await run([...command, '--wait-ms', '0']);
      assert.equal(late.code, 1, `${late.out}${late.err}`);
      assert.ok(late.out.includes('--cancel'), late.out);
      const moving = await report();
      assert.ok(
        moving.findings.some((finding) => finding.includes('being moved')),
        moving.findings.join(),
      );
      assert.ok(events(moving).partitions.some(({ adding }) => adding.includes(2)));
      const cancelled = await run(at('move', '--cancel'));
      assert.equal(cancelled.code, 0, cancelled.out);
      assert.ok(!(await holders()).has(2));
    } finally {
      cluster.node(2).resume();
    }
    assert.ok((await run(at('move', '--cancel'))).out.includes('Nothing is under way'));
    // It was taken for dead, and is not known everywhere at once again.
    for (const { port } of cluster.nodes)
      while ((await new KafkaAdmin(port).view([topic])).nodes.length < 3) await sleep(100);
    await cluster.untilHealthy(topic);
    cluster.node(2).pause();
    try {
      const interrupted = await run(command, { signal: AbortSignal.abort() });
      assert.equal(interrupted.code, 1, interrupted.out);
      assert.ok(interrupted.out.includes('goes on without this command'), interrupted.out);
    } finally {
      cluster.node(2).resume();
    }
    const again = await run(command);
    assert.equal(again.code, 0, `${again.out}${again.err}`);
    assert.ok((await holders()).has(2));
    await cluster.untilHealthy(topic, 6);
  });

  await context.test('partitions are added when that is confirmed, and every broker knows them', async () => {
    const refused = await run(at('add-partitions', '8'));
    assert.equal(refused.code, 1);
    assert.ok(refused.out.includes('--yes'));
    const terminal = (answer: string): Readable & { readonly isTTY?: boolean } => {
      const stdin = Object.assign(new PassThrough(), { isTTY: true });
      stdin.write(`${answer}\n`);
      return stdin;
    };
    assert.equal((await run(at('add-partitions', '8'), { stdin: terminal('no') })).code, 1);
    assert.equal(events(await report()).partition_count, 6);
    const added = await run(at('add-partitions', '8'), { stdin: terminal('yes') });
    assert.equal(added.code, 0, `${added.out}${added.err}`);
    for (const node of cluster.nodes) {
      const view = await new KafkaAdmin(node.port).view([topic]);
      assert.equal(view.topics.get(topic)?.partitions.length, 8);
    }
    assert.equal((await run(at('add-partitions', '12', '--yes'))).code, 0);
    assert.ok((await run(at('add-partitions', '12', '--yes'))).out.includes('already'));
    assert.equal((await run(at('add-partitions', '11', '--yes'))).code, 2);
  });

  await context.test('a topic that is missing is an error with a cure', async () => {
    const { code, err } = await run([
      'describe',
      '--kafka-brokers',
      cluster.brokers.join(','),
      '--kafka-topic',
      'no',
    ]);
    assert.equal(code, 1);
    assert.ok(err.includes('ess init'), err);
  });
});
