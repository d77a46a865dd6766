// `ess init` against what it is for: the data directory, a real Kafka node, and ClickHouse nodes over chDB.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { after, before, test } from 'node:test';
import { commandOf } from '../../src/cli/command.ts';
import type { Finding, Step } from '../../src/cli/init/step.ts';
import { checkDependencies, refusalOf, runInit } from '../../src/cli/init.ts';
import { loadConfig } from '../../src/config/load.ts';
import { openDataDir } from '../../src/engine/data_dir.ts';
import { openStore } from '../../src/store/client.ts';
import { ClickHouseNode } from '../support/clickhouse_node.ts';
import { KafkaCluster, needsKafka } from '../support/kafka_cluster.ts';

const secret = 'correct-horse-battery-staple';
const folder = mkdtempSync(join(tmpdir(), 'ess-init-'));
after(() => rmSync(folder, { recursive: true, force: true }));

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

/** Runs `ess init`; a minute is enough for whatever is there, on a slow machine too. */
async function run(argv: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Outcome> {
  const stdout = new Sink();
  const stderr = new Sink();
  const code = await runInit(['--wait-ms', '60000', ...argv], { env, cores: 8, stdout, stderr, openDataDir });
  return { code, out: stdout.text, err: stderr.text };
}

/** Runs it with --json; gives the steps by part, each asserted to be in the output of a run without it as well. */
async function steps(
  argv: readonly string[],
  code: number,
  env: NodeJS.ProcessEnv = {},
): Promise<Map<string, Step>> {
  const outcome = await run(['--json', ...argv], env);
  const answer: { readonly is_as_wanted: boolean; readonly steps: readonly Step[] } = JSON.parse(outcome.out);
  assert.equal(outcome.code, code, outcome.out);
  assert.equal(answer.is_as_wanted, code === 0);
  return new Map(answer.steps.map((step) => [step.part, step]));
}

function states(found: ReadonlyMap<string, Step>): string[] {
  return [...found.values()].map(({ part, state }) => `${part}: ${state}`);
}

function finding(found: ReadonlyMap<string, Step>, part: string, what: string): Finding {
  const match = found.get(part)?.findings.find((candidate) => candidate.what === what);
  assert.ok(match !== undefined, `${what} of ${part} is not in ${JSON.stringify([...found.values()])}`);
  for (const text of Object.values(match)) assert.notEqual(text, '');
  return match;
}

/** A port of this machine on which nobody listens. */
async function closedPort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  await new Promise((resolve) => server.close(resolve));
  return address.port;
}

test('init is a command of its own, with its own help', () => {
  assert.deepEqual(commandOf(['init', '--apply']), { type: 'init', argv: ['--apply'] });
  assert.deepEqual(commandOf(['help', 'init']), { type: 'init', argv: ['--help'] });
  assert.deepEqual(commandOf(['init', '--help']), { type: 'init', argv: ['--help'] });
});

test('the help is written to standard output and nothing is made', async () => {
  for (const flag of ['--help', '-h']) {
    const { code, out, err } = await run([flag, '--data-dir', join(folder, 'never')]);
    assert.deepEqual([code, err], [0, '']);
    for (const name of ['--apply', '--wait-ms', '--json']) assert.ok(out.includes(name));
    for (const line of out.split('\n')) assert.ok(line.length <= 100, line);
  }
});

test('an option that is not valid gives 2, its name and no secret', async () => {
  const bad: [string[], string][] = [
    [['--aply'], '--aply'],
    [['--wait-ms', '-1'], '--wait-ms'],
    [['--wait-ms', '3600001'], '--wait-ms'],
    [['--port', 'x'], '--port'],
    [['--clickhouse-password', secret], '--clickhouse-password'],
    [['--clickhouse', `http://u:${secret}@a:1`], '--clickhouse'],
    [['--kafka-brokers', 'a'], '--kafka-brokers'],
    [
      ['--clickhouse', 'http://a:1', '--clickhouse-password-file', join(folder, 'none')],
      '--clickhouse-password-file',
    ],
  ];
  for (const [argv, name] of bad) {
    const { code, out, err } = await run(argv);
    assert.deepEqual([code, out], [2, '']);
    assert.ok(err.includes(name) && !err.includes(secret), err);
  }
});

test('with nothing configured the embedded log and store are made once, and then are as wanted', async () => {
  const dataDir = join(folder, 'data');
  const argv = ['--data-dir', dataDir, '--partitions', '3'];
  const log = `embedded log ${join(dataDir, 'log')}`;
  const store = `embedded store ${join(dataDir, 'store')}`;
  assert.deepEqual(states(await steps(argv, 0)), [`${log}: made`, `${store}: made`]);
  assert.deepEqual(states(await steps(argv, 0)), [`${log}: as_wanted`, `${store}: as_wanted`]);
  const { code, out } = await run(argv);
  assert.equal(code, 0);
  assert.ok(out.includes(log) && out.includes(store));
});

// ---- ClickHouse -----------------------------------------------------------------------------------------------

let plain: ClickHouseNode;
let pair: ClickHouseNode;
before(async () => {
  [plain, pair] = await Promise.all([
    ClickHouseNode.start({ user: 'ess', password: secret }),
    ClickHouseNode.start({ replicas: 2, isReplicated: true, user: 'ess', password: secret }),
  ]);
});
after(() => Promise.all([plain?.dispose(), pair?.dispose()]));

const password = { ESS_CLICKHOUSE_PASSWORD: secret };
/** Options of a ClickHouse test; the embedded log beside it is in a folder that all share. */
const on = (urls: readonly string[], ...argv: string[]): string[] => [
  '--data-dir',
  join(folder, 'clickhouse'),
  '--clickhouse',
  urls.join(','),
  '--clickhouse-user',
  'ess',
  ...argv,
];
const partOf = (url: string | undefined): string => `clickhouse ${new URL(url ?? '').host}`;

/** Runs statements on the first replica of a node. */
async function execute(node: ClickHouseNode, database: string, ...statements: string[]): Promise<void> {
  const [target] = node.targets(database);
  assert.ok(target !== undefined);
  const store = await openStore(target);
  for (const statement of statements) await store.command(statement);
  await store.close();
}

test('database and tables are made on a node where they are missing, and a repeat finds them', async () => {
  const [url] = plain.urls;
  const argv = on(plain.urls, '--clickhouse-database', 'fresh-1');
  const made = (await steps(argv, 0, password)).get(partOf(url));
  assert.equal(made?.state, 'made');
  for (const part of ['fresh-1', 'events', 'ledger', 'layout'])
    assert.ok(made.detail.includes(part), made.detail);
  assert.equal((await steps(argv, 0, password)).get(partOf(url))?.state, 'as_wanted');
});

test('every replica gets its tables, and the replicas are compared with each other', async () => {
  const found = await steps(on(pair.urls), 0, password);
  for (const url of pair.urls) assert.ok(found.has(partOf(url)));
  assert.equal(found.get('clickhouse replicas')?.state, 'as_wanted');
  assert.equal([...found.values()].filter(({ state }) => state === 'differs').length, 0);
});

test('a table that differs is named with what mends it, and changed with --apply only', async () => {
  const database = 'differing';
  const part = partOf(plain.urls[0]);
  const argv = on(plain.urls, '--clickhouse-database', database);
  await steps(argv, 0, password);
  await execute(plain, database, 'ALTER TABLE events MODIFY SETTING fsync_after_insert = 0');
  const what = 'table events: fsync_after_insert';
  for (let repeat = 0; repeat < 2; repeat += 1) {
    const { mend } = finding(await steps(argv, 1, password), part, what);
    assert.ok(mend.includes('--apply'));
  }
  const { code, out } = await run(argv, password);
  assert.equal(code, 1);
  for (const text of [part, what, '--apply']) assert.ok(out.includes(text), out);
  assert.equal((await steps([...argv, '--apply'], 0, password)).get(part)?.state, 'changed');
  assert.equal((await steps(argv, 0, password)).get(part)?.state, 'as_wanted');
});

test('what no statement mends stays as it is, with --apply too', async () => {
  const database = 'foreign';
  const argv = on(plain.urls, '--clickhouse-database', database);
  await execute(plain, 'default', `CREATE DATABASE ${database}`);
  await execute(plain, database, 'CREATE TABLE events (id String) ENGINE = MergeTree ORDER BY id');
  const part = partOf(plain.urls[0]);
  finding(await steps([...argv, '--apply'], 1, password), part, 'table events: engine');
  // The table that was missing was made nevertheless.
  const found = await steps(argv, 1, password);
  assert.ok(found.get(part)?.findings.every(({ what }) => what.startsWith('table events')));
});

test('a node that cannot be reached is named with the reason, and the others are made', async () => {
  const closed = `http://127.0.0.1:${await closedPort()}`;
  const list = ['--clickhouse', `${closed};${plain.urls[0]}`, '--clickhouse-database', 'beside'];
  const found = await steps([...on(plain.urls), ...list, '--wait-ms', '0'], 1, password);
  assert.equal(found.get(partOf(closed))?.state, 'unreachable');
  assert.notEqual(found.get(partOf(closed))?.detail, '');
  assert.equal(found.get(partOf(plain.urls[0]))?.state, 'made');
});

test('a node that hangs costs its time only, and a wrong password is a reason', async () => {
  await pair.setFault(0, 'hang');
  const [hanging, other] = pair.urls;
  const found = await steps(on(pair.urls, '--wait-ms', '0'), 1, password);
  assert.equal(found.get(partOf(hanging))?.state, 'unreachable');
  assert.equal(found.get(partOf(other))?.state, 'as_wanted');
  await pair.setFault(0, 'none');
  const refused = await run(on(plain.urls, '--wait-ms', '0'), { ESS_CLICKHOUSE_PASSWORD: `not ${secret}` });
  assert.equal(refused.code, 1);
  assert.ok(!refused.out.includes(secret) && !refused.err.includes(secret));
});

test('a node that is not there yet is waited for, with its name on standard error', async () => {
  await pair.setFault(0, 'down');
  const stdout = new Sink();
  const stderr = new Sink();
  const argv = on(pair.urls, '--wait-ms', '60000');
  const running = runInit(argv, { env: password, cores: 8, stdout, stderr, openDataDir });
  while (!stderr.text.includes(partOf(pair.urls[0]))) await new Promise((resolve) => setTimeout(resolve, 50));
  await pair.setFault(0, 'none');
  assert.equal(await running, 0, stdout.text);
});

test('the check before a start finds what is missing, makes nothing, and names the command that mends it', async () => {
  const config = (...argv: string[]) => loadConfig(on(plain.urls, ...argv), password, 8);
  const missing = config('--clickhouse-database', 'unmade');
  for (let repeat = 0; repeat < 2; repeat += 1) {
    const found = await checkDependencies(missing);
    const refusal = refusalOf(found);
    assert.equal(refusal?.code, 'bad_option');
    for (const text of [partOf(plain.urls[0]), 'unmade', 'ess init'])
      assert.ok(refusal?.message.includes(text));
  }
  // Ingest does without it, and what cannot be reached may come back.
  assert.deepEqual(
    await checkDependencies(config('--clickhouse-database', 'unmade', '--role', 'ingest')),
    [],
  );
  const away = await checkDependencies(config('--clickhouse', `http://127.0.0.1:${await closedPort()}`), 0);
  assert.deepEqual([away[0]?.state, refusalOf(away)], ['unreachable', null]);
  await steps(on(plain.urls), 0, password);
  const fine = await checkDependencies(config());
  assert.deepEqual([fine.map(({ state }) => state), refusalOf(fine)], [['as_wanted', 'as_wanted'], null]);
  assert.deepEqual(await checkDependencies(loadConfig([], {}, 8)), []);
});

// ---- Kafka ----------------------------------------------------------------------------------------------------

test('Kafka', needsKafka(), async (context) => {
  const cluster = await KafkaCluster.start({ nodes: 1, sasl: { username: 'ess', password: secret } });
  context.after(() => cluster.dispose());
  /** Options of one test: topics of its own, the store embedded in a folder that all share. */
  const at = (topic: string, ...argv: string[]): string[] => [
    '--data-dir',
    join(folder, 'kafka'),
    '--kafka-brokers',
    cluster.brokers.join(','),
    '--kafka-topic',
    topic,
    '--kafka-replication-factor',
    '1',
    '--kafka-min-insync-replicas',
    '1',
    ...argv,
  ];
  const topicStates = (found: ReadonlyMap<string, Step>): (string | undefined)[] =>
    [...found.values()].filter(({ part }) => part.startsWith('kafka topic')).map(({ state }) => state);

  await context.test('both topics are made, and a repeat finds them as wanted', async () => {
    const found = await steps(at('made', '--partitions', '5'), 0);
    assert.equal(found.get('kafka cluster')?.state, 'as_wanted');
    assert.deepEqual(topicStates(found), ['made', 'made']);
    assert.ok(found.has('kafka topic made') && found.has('kafka topic made-dead-letters'));
    assert.notEqual(await cluster.topicId('made'), undefined);
    assert.notEqual(await cluster.topicId('made-dead-letters'), undefined);
    assert.deepEqual(topicStates(await steps(at('made', '--partitions', '5'), 0)), [
      'as_wanted',
      'as_wanted',
    ]);
  });

  await context.test('several at once make each topic once', async () => {
    const found = await Promise.all([1, 2, 3].map(() => run(at('raced', '--json'))));
    // The embedded store beside it has one owner at a time, which is not what this is about.
    for (const { out } of found) {
      const answer: { readonly steps: readonly Step[] } = JSON.parse(out);
      for (const { part, state } of answer.steps) {
        if (part.startsWith('kafka')) assert.ok(state === 'made' || state === 'as_wanted', out);
      }
    }
  });

  await context.test('settings that break a promise are named, and changed with --apply only', async () => {
    const topic = 'differing';
    const config = {
      'cleanup.policy': 'compact',
      'message.timestamp.type': 'LogAppendTime',
      'unclean.leader.election.enable': 'true',
      'max.message.bytes': '100000',
      'retention.ms': '12345678',
    };
    await cluster.createTopic({ topic, partitions: 2, replicationFactor: 1, config });
    const part = `kafka topic ${topic}`;
    const broken = [
      'cleanup.policy',
      'message.timestamp.type',
      'unclean.leader.election.enable',
      'max.message.bytes',
    ];
    for (let repeat = 0; repeat < 2; repeat += 1) {
      const found = await steps(at(topic), 1);
      assert.equal(found.get(part)?.state, 'differs');
      for (const what of broken) assert.ok(finding(found, part, what).mend.includes('--apply'));
      assert.equal(found.get(part)?.findings.length, broken.length);
    }
    const refusal = refusalOf(await checkDependencies(loadConfig([...at(topic), '--role', 'ingest'], {}, 8)));
    assert.ok(refusal?.message.includes(part) && refusal.message.includes('--apply'));
    assert.equal((await steps(at(topic, '--apply'), 0)).get(part)?.state, 'changed');
    assert.equal((await steps(at(topic), 0)).get(part)?.state, 'as_wanted');
    // What it does not look after is as before.
    assert.equal(await settingOf(cluster, topic, 'retention.ms'), '12345678');
    const fine = await checkDependencies(loadConfig([...at(topic), '--role', 'ingest'], {}, 8));
    assert.deepEqual([fine.length, refusalOf(fine)], [2, null]);
  });

  await context.test(
    'a topic keeps its partitions unless more are asked for and --apply is given',
    async () => {
      const topic = 'growing';
      const part = `kafka topic ${topic}`;
      await cluster.createTopic({ topic, partitions: 2, replicationFactor: 1 });
      assert.equal((await steps(at(topic), 0)).get(part)?.state, 'as_wanted');
      assert.ok(
        finding(await steps(at(topic, '--partitions', '4'), 1), part, 'partitions').mend.includes('--apply'),
      );
      assert.equal((await steps(at(topic, '--partitions', '4', '--apply'), 0)).get(part)?.state, 'changed');
      assert.equal((await steps(at(topic, '--partitions', '4'), 0)).get(part)?.state, 'as_wanted');
      // Fewer cannot be had.
      finding(await steps(at(topic, '--partitions', '2', '--apply'), 1), part, 'partitions');
    },
  );

  await context.test('partitions that cannot be divided among the shards are a difference', async () => {
    const topic = 'uneven';
    await cluster.createTopic({ topic, partitions: 3, replicationFactor: 1 });
    const closed = [await closedPort(), await closedPort()]
      .map((port) => `http://127.0.0.1:${port}`)
      .join(';');
    const argv = at(topic, '--clickhouse', closed, '--wait-ms', '0');
    const { wanted } = finding(await steps(argv, 1), `kafka topic ${topic}`, 'partitions');
    assert.equal(wanted, '4');
    const config = loadConfig([...at(topic, '--role', 'ingest'), '--clickhouse', closed], {}, 8);
    assert.ok(refusalOf(await checkDependencies(config))?.message.includes('partitions'));
  });

  await context.test('a topic of dead letters that is not as it should be is a difference', async () => {
    await cluster.createTopic({ topic: 'odd-dead-letters', partitions: 2, replicationFactor: 1 });
    const part = 'kafka topic odd-dead-letters';
    const found = await steps(at('odd', '--apply'), 1);
    finding(found, part, 'partitions');
    assert.equal(found.get(part)?.findings.length, 1);
    assert.equal(await settingOf(cluster, 'odd-dead-letters', 'cleanup.policy'), 'compact');
  });

  await context.test('the check before a start names what is missing and makes nothing', async () => {
    const config = loadConfig([...at('unmade'), '--role', 'ingest'], {}, 8);
    for (let repeat = 0; repeat < 2; repeat += 1) {
      const found = await checkDependencies(config);
      assert.deepEqual(
        found.map(({ state }) => state),
        ['differs', 'differs'],
      );
      assert.ok(refusalOf(found)?.message.includes('ess init'));
    }
    assert.equal(await cluster.topicId('unmade'), undefined);
  });

  await context.test('too few brokers are named with the number that is there', async () => {
    const argv = [...at('lonely', '--wait-ms', '0'), '--kafka-replication-factor', '2'];
    const found = await steps(argv, 1);
    assert.equal(found.get('kafka cluster')?.state, 'differs');
    finding(found, 'kafka topic lonely', 'topic');
    assert.equal(await cluster.topicId('lonely'), undefined);
  });

  await context.test(
    'a login by a password file works, and a wrong password is a reason that is not shown',
    async () => {
      const file = join(folder, 'password');
      const login = [
        '--kafka-brokers',
        cluster.listeners.sasl?.join(',') ?? '',
        '--kafka-sasl-mechanism',
        'scram-sha-256',
        '--kafka-sasl-username',
        'ess',
        '--kafka-sasl-password-file',
        file,
      ];
      writeFileSync(file, `${secret}\n`);
      assert.deepEqual(topicStates(await steps([...at('login'), ...login], 0)), ['made', 'made']);
      writeFileSync(file, `not ${secret}\n`);
      const { code, out, err } = await run([...at('login'), ...login, '--wait-ms', '0', '--json']);
      assert.equal(code, 1);
      assert.ok(!out.includes(secret) && !err.includes(secret));
      const answer: { readonly steps: readonly Step[] } = JSON.parse(out);
      assert.equal(answer.steps.find(({ part }) => part === 'kafka cluster')?.state, 'unreachable');
    },
  );

  await context.test(
    'a cluster that is not there yet is waited for, and one that never comes is named',
    async () => {
      await cluster.node(0).kill();
      const { code, out } = await run(at('later', '--wait-ms', '0', '--json'));
      assert.equal(code, 1);
      assert.ok(out.includes('"kafka cluster"'));
      const away = await checkDependencies(loadConfig([...at('later'), '--role', 'ingest'], {}, 8), 0);
      assert.deepEqual([away[0]?.state, refusalOf(away)], ['unreachable', null]);
      const running = steps(at('later'), 0);
      await cluster.node(0).restart();
      assert.deepEqual(topicStates(await running), ['made', 'made']);
    },
  );
});

/** A setting of a topic in force. */
async function settingOf(cluster: KafkaCluster, topic: string, name: string): Promise<string | undefined> {
  const { KafkaClient } = await import('../../src/log/kafka/client.ts');
  const { readTopic } = await import('../../src/log/kafka/topics.ts');
  const { kafkaTarget } = await import('../../src/config/kafka.ts');
  const target = kafkaTarget(loadConfig(['--kafka-brokers', cluster.brokers.join(',')], {}, 8));
  assert.ok(target !== null);
  const client = new KafkaClient(target, { name: 'test', requestTimeoutMs: 30_000 });
  try {
    return (await readTopic(client, topic))?.configs?.get(name);
  } finally {
    await client.close();
  }
}
