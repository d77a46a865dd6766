// `ess topics` against a real cluster of three brokers, of the newest Kafka that the tests know: what it says and does, also
// where it is cancelled or interrupted. What becomes of events meanwhile: test/cluster/topics.test.ts, on an older Kafka.

import assert from 'node:assert/strict';
import { PassThrough, type Readable } from 'node:stream';
import { test } from 'node:test';
import { commandOf } from '../../src/cli/command.ts';
import type { PartitionReport, TopicReport, TopicsReport } from '../../src/cli/topics/describe.ts';
import { until } from '../log/eventually.ts';
import { KafkaAdmin } from '../support/kafka_admin.ts';
import { KafkaCluster, needsKafka } from '../support/kafka_cluster.ts';
import { kcat, needsKcat } from '../support/kcat.ts';
import { needsTerminal, Terminal } from '../support/terminal.ts';
import { run } from './topics_run.ts';

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
    [['move', '--throttle-bytes', '5000', ...kafka], '--brokers'],
    [['move', '--brokers', '0', '--throttle-bytes', '10', ...kafka], '1024'],
    [['move', '--cancel', '--throttle-bytes', '0', ...kafka], '--cancel'],
    [['elect', '--wait-ms', '-1', ...kafka], '--wait-ms'],
    [['add-partitions', '9', '--clickhouse', 'http://a:1;http://b:1', ...kafka], '2 shards'],
  ];
  for (const [argv, part] of bad) {
    const { code, out, err } = await run(argv);
    assert.deepEqual([code, out], [2, ''], argv.join(' '));
    assert.ok(err.includes(part), err);
  }
});

const skipping = needsKafka('4.1.0').skip === false ? needsKcat() : needsKafka('4.1.0');

test('topics of a cluster', skipping, async (context) => {
  const cluster = await KafkaCluster.start({
    version: '4.1.0',
    // So long brokers wait for a controller that stands still before they look for the next. Default 30 s.
    properties: { 'controller.socket.timeout.ms': '3000' },
  });
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
      await until(async () => (await preferred()) === others[0]);
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

  await context.test('replicas leave a broker and come back, some or all', async () => {
    const away = await run(at('move', '--brokers', '0,1', '--yes'));
    assert.equal(away.code, 0, `${away.out}${away.err}`);
    assert.deepEqual([...(await holders())].sort(), [0, 1]);
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
    const { findings, brokers } = await report();
    assert.ok(!findings.some((finding) => finding.includes('uneven')), findings.join());
    assert.ok(
      brokers.every(({ replicas }) => replicas >= 4),
      JSON.stringify(brokers),
    );
    const again = await run(at('move', '--brokers', '0,1,2', '--yes'));
    assert.ok(again.out.includes('Nothing to move'), again.out);
  });

  await context.test('a throttle holds a move back while it lasts, and is gone after it', async () => {
    // More than what one fetch brings, which is let through before the rate is known.
    const records = Array.from({ length: 200 }, () => 'x'.repeat(10_000));
    for (let partition = 0; partition < 6; partition += 1)
      await kcat.produce(cluster.brokers, topic, records, { partition });
    /** Bytes a second that the brokers have, and whether both, or either, of the topics is under it. */
    const throttle = async (): Promise<unknown> => {
      const { brokers, topics } = await report();
      return [brokers.map((broker) => broker.throttle_bytes), topics.some((each) => each.is_throttled)];
    };
    const none = [[null, null, null], false];
    assert.deepEqual(await throttle(), none);
    const slowly = ['--yes', '--throttle-bytes', '1024', '--wait-ms', '0'];
    const slow = await run(at('move', '--brokers', '0,1', ...slowly));
    assert.equal(slow.code, 1, `${slow.out}${slow.err}`);
    assert.ok(slow.out.includes('ess topics move --throttle-bytes 0'), slow.out);
    assert.deepEqual(await throttle(), [[1024, 1024, 1024], true]);
    const moving = await report();
    assert.ok(
      moving.findings.some((finding) => finding.includes('throttled') && finding.includes('is under way')),
      moving.findings.join(),
    );
    // At that rate it would take an hour.
    const away = await run(at('move', '--brokers', '0,1', '--yes', '--throttle-bytes', '100000000'));
    assert.equal(away.code, 0, `${away.out}${away.err}`);
    assert.deepEqual(await throttle(), none);
    assert.deepEqual([...(await holders())].sort(), [0, 1]);

    assert.equal((await run(at('move', '--brokers', '0,1,2', ...slowly))).code, 1);
    const cancelled = await run(at('move', '--cancel'));
    assert.equal(cancelled.code, 0, cancelled.out);
    assert.deepEqual(await throttle(), none);

    assert.equal((await run(at('move', '--brokers', '0,1,2', ...slowly))).code, 1);
    const free = await run(at('move', '--throttle-bytes', '0'));
    assert.deepEqual([free.code, free.out], [0, 'The throttle is taken away.\n']);
    assert.deepEqual(await throttle(), none);
    assert.equal((await run(at('move', '--brokers', '0,1,2', '--yes'))).code, 0);
    assert.equal((await run(at('move', '--throttle-bytes', '0'))).out, 'There is no throttle.\n');
  });

  await context.test(
    'Ctrl-C ends the watch, not the move, and answers no to a question',
    needsTerminal(),
    async () => {
      const move = new Terminal(
        at('topics', 'move', '--brokers', '0,1', '--yes', '--throttle-bytes', '1024'),
      );
      await move.until(/of \d+ replicas in sync \| \d+ partitions left/);
      move.interrupt();
      assert.equal(await move.end(), 130, move.output);
      assert.match(move.output, /goes on without this command[\s\S]*ess topics move --throttle-bytes 0/);
      assert.ok(events(await report()).partitions.some(({ adding }) => adding.length > 0));
      const cancelled = await run(at('move', '--cancel'));
      assert.ok(cancelled.out.includes('The throttle is taken away.'), cancelled.out);
      const question = new Terminal(at('topics', 'add-partitions', '8'));
      await question.until(/Go on\?/);
      question.interrupt();
      assert.equal(await question.end(), 130, question.output);
      assert.match(question.output, /Nothing was changed/);
    },
  );

  await context.test('a watch that ends early is gone on with, and a move can be cancelled', async () => {
    // The hardest to be without: the controller, which has to be elected anew before anything can be changed.
    const still = cluster.node(await cluster.controller());
    const others = cluster.nodes.map(({ index }) => index).filter((index) => index !== still.index);
    assert.equal((await run(at('move', '--brokers', others.join(','), '--yes'))).code, 0);
    const command = at('move', '--brokers', '0,1,2', '--yes');
    // A broker that stands still gets no replica into sync.
    await cluster.untilHealthy(topic);
    still.pause();
    try {
      const late = await run([...command, '--wait-ms', '0']);
      assert.equal(late.code, 1, `${late.out}${late.err}`);
      assert.ok(late.out.includes('--cancel'), `${late.out}${late.err}`);
      const moving = await report();
      assert.ok(
        moving.findings.some((finding) => finding.includes('being moved')),
        moving.findings.join(),
      );
      assert.ok(events(moving).partitions.some(({ adding }) => adding.includes(still.index)));
      const cancelled = await run(at('move', '--cancel'));
      assert.equal(cancelled.code, 0, cancelled.out);
      assert.ok(!(await holders()).has(still.index));
    } finally {
      still.resume();
    }
    assert.ok((await run(at('move', '--cancel'))).out.includes('Nothing is under way'));
    // It was taken for dead, and is not known everywhere at once again.
    for (const { port } of cluster.nodes)
      await until(async () => (await new KafkaAdmin(port).view([topic])).nodes.length === 3);
    await cluster.untilHealthy(topic);
    still.pause();
    try {
      const early = await run(command, { signal: AbortSignal.abort() });
      assert.deepEqual([early.code, early.out], [130, '']);
      const interrupt = new AbortController();
      const interrupting = run(command, { signal: interrupt.signal });
      const isOnItsWay = ({ adding }: PartitionReport): boolean => adding.includes(still.index);
      await until(async () => events(await report()).partitions.some(isOnItsWay));
      interrupt.abort();
      const interrupted = await interrupting;
      assert.equal(interrupted.code, 130, interrupted.out);
      assert.ok(interrupted.out.includes('goes on without this command'), interrupted.out);
    } finally {
      still.resume();
    }
    const again = await run(command);
    assert.equal(again.code, 0, `${again.out}${again.err}`);
    assert.ok((await holders()).has(still.index));
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
