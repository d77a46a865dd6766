// The deployment of docs/deploy.md on machines of their own: ingest on A, the sink on B, Kafka and ClickHouse on a third, each
// a network namespace with cables between them. No event is lost or doubled, also while a cable is pulled. Needs root
// and `ip netns`; skipped, and that is said, where they cannot be had.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { EssProcess, type StatsJson } from '../support/ess_process.ts';
import { kafkaAvailable, needsKafka } from '../support/kafka_cluster.ts';
import type { Services } from './services.worker.ts';

type Machine = 'a' | 'b' | 'services';

/** How long the deployment may take to get somewhere on a slow, busy machine, ms. */
const patienceMs = 120_000;
/** Addresses: services 10.83.0.1 to both, A 10.83.3.1 and B 10.83.3.2 to each other. */
const ingestUrl = 'http://10.83.3.1:8080';
const sinkUrl = 'http://10.83.3.2:8081';
const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url));

const spaceOf = (machine: Machine): string => `ess-${process.pid}-${machine}`;
const on = (machine: Machine): string[] => ['ip', 'netns', 'exec', spaceOf(machine)];
const ip = (...args: readonly string[]): string => {
  const { status, error, stderr } = spawnSync('ip', args, { encoding: 'utf8' });
  return status === 0 ? '' : `ip ${args.join(' ')}: ${error?.message ?? stderr}`;
};

/** Machines and cables; what could not be done, or nothing. */
function connect(): string {
  const [a, b, services] = [spaceOf('a'), spaceOf('b'), spaceOf('services')];
  const cable = (left: string, leftAddress: string, right: string, rightAddress: string, name: string) => [
    ['-n', left, 'link', 'add', name, 'type', 'veth', 'peer', 'name', name, 'netns', right],
    ['-n', left, 'addr', 'add', `${leftAddress}/24`, 'dev', name],
    ['-n', right, 'addr', 'add', `${rightAddress}/24`, 'dev', name],
    ['-n', left, 'link', 'set', name, 'up'],
    ['-n', right, 'link', 'set', name, 'up'],
  ];
  const steps = [
    ...[a, b, services].flatMap((space) => [
      ['netns', 'add', space],
      ['-n', space, 'link', 'set', 'lo', 'up'],
    ]),
    ['-n', services, 'addr', 'add', '10.83.0.1/32', 'dev', 'lo'],
    ...cable(services, '10.83.1.1', a, '10.83.1.2', 'cable-a'),
    ...cable(services, '10.83.2.1', b, '10.83.2.2', 'cable-b'),
    ...cable(a, '10.83.3.1', b, '10.83.3.2', 'cable-ab'),
    ['-n', a, 'route', 'add', '10.83.0.1', 'via', '10.83.1.1'],
    ['-n', b, 'route', 'add', '10.83.0.1', 'via', '10.83.2.1'],
  ];
  for (const step of steps) {
    const failure = ip(...step);
    if (failure !== '') return failure;
  }
  return '';
}

function disconnect(): void {
  for (const machine of ['a', 'b', 'services'] as const) ip('netns', 'del', spaceOf(machine));
}

function skipReason(): string | false {
  if (!kafkaAvailable()) return needsKafka().skip;
  const failure = connect();
  if (failure === '') return false;
  disconnect();
  console.error(`SKIPPED: no network namespaces here: ${failure}`);
  return failure;
}

interface Answer {
  readonly status: number;
  readonly body: string;
}

/** Asks from a machine, as a client there would. */
function ask(machine: Machine, url: string, body?: string): Promise<Answer> {
  const script = `
    const [url, body] = process.argv.slice(1);
    const headers = { 'content-type': 'application/x-ndjson' };
    const response = await fetch(url, body === undefined ? {} : { method: 'POST', body, headers });
    console.log(JSON.stringify({ status: response.status, body: await response.text() }));`;
  const argv = ['--input-type=module', '-e', script, url, ...(body === undefined ? [] : [body])];
  return run(machine, argv).then(({ code, output }) => {
    assert.equal(code, 0, output);
    return JSON.parse(output) as Answer;
  });
}

/** Runs Node.js on a machine until it ends. */
async function run(machine: Machine, argv: readonly string[]): Promise<{ code: number; output: string }> {
  const [file = '', ...args] = [...on(machine), process.execPath, ...argv];
  const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  const [code] = (await once(child, 'close')) as [number | null];
  return { code: code ?? 1, output };
}

const events = (name: string, count: number): string =>
  Array.from({ length: count }, (_, i) => `{"id":"${name}-${i}"}\n`).join('');

describe('an ingest on one machine and a sink on another', { skip: skipReason() }, () => {
  let services: ChildProcess;
  let ingest: EssProcess;
  let sink: EssProcess;
  let flags: Readonly<Record<string, string | number>>;

  const ess = (machine: Machine, command: string, ...more: readonly string[]) => {
    const argv = Object.entries(flags).flatMap(([name, value]) => [`--${name}`, String(value)]);
    return run(machine, [here('./ess.js'), command, ...argv, ...more]);
  };
  const statsOf = async (machine: Machine, url: string): Promise<StatsJson> =>
    JSON.parse((await ask(machine, `${url}/stats`)).body) as StatsJson;
  const until = async (what: string, isSo: () => Promise<boolean>): Promise<void> => {
    const untilMs = Date.now() + patienceMs;
    while (!(await isSo())) {
      const output = (): string => [...ingest.output.slice(-20), ...sink.output.slice(-20)].join('');
      assert.ok(Date.now() < untilMs, `${what} took too long\n${output()}`);
      await sleep(250);
    }
  };

  before(async () => {
    const [file = '', ...args] = [
      ...on('services'),
      process.execPath,
      here('./services.worker.js'),
      '10.83.0.1',
    ];
    services = spawn(file, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    assert.ok(services.stdout !== null);
    const died = once(services, 'exit').then(() => assert.fail('Kafka and ClickHouse did not start'));
    died.catch(() => {});
    const ready = once(createInterface(services.stdout), 'line');
    const [line] = (await Promise.race([ready, died])) as [string];
    const { brokers, clickhouse } = JSON.parse(line) as Services;
    flags = { 'kafka-brokers': brokers, clickhouse, 'kafka-session-timeout-ms': 6_000, 'sink-ordinal': 0 };
    const { code, output } = await ess('a', 'init');
    assert.equal(code, 0, output);
    const start = (machine: Machine, role: string, port: number): Promise<EssProcess> =>
      EssProcess.start({ flags: { ...flags, role, host: '0.0.0.0', port }, under: on(machine) });
    ingest = await start('a', 'ingest', 8080);
    sink = await start('b', 'sink', 8081);
  });
  after(async () => {
    await ingest?.dispose();
    await sink?.dispose();
    if (services !== undefined) {
      services.stdin?.end();
      if (services.exitCode === null) await once(services, 'exit');
    }
    disconnect();
  });

  test('an event of one machine is read on the other as soon as it is answered', async () => {
    // Until the sink has its partitions the answer may be outcome_unknown.
    await until('an answer that they are stored', async () => {
      const { status } = await ask('b', `${ingestUrl}/events/?ack=store`, events('first', 50));
      return status === 200;
    });
    for (const [machine, url] of [
      ['a', sinkUrl],
      ['b', ingestUrl],
    ] as const)
      assert.equal((await ask(machine, `${url}/events/first-49`)).status, 200);
  });

  test('the doctor finds nothing wrong from either machine', async () => {
    for (const [machine, url] of [
      ['a', ingestUrl],
      ['b', sinkUrl],
    ] as const) {
      const { code, output } = await ess(machine, 'doctor', '--url', url, '--wait-ms', '60000');
      assert.equal(code, 0, output);
      assert.match(output, /\n0 errors, .* 0 unknown,/);
    }
  });

  test('a pulled cable stops nothing but what needs it, and costs nothing', async () => {
    assert.equal(ip('-n', spaceOf('b'), 'link', 'set', 'cable-b', 'down'), '');
    const sent = await ask('b', `${ingestUrl}/events/`, events('meanwhile', 30));
    assert.equal(sent.status, 200, sent.body);
    let cut: StatsJson | undefined;
    await until('giving the partitions up', async () => {
      cut = await statsOf('a', sinkUrl);
      return cut.partitions.every(({ owner }) => owner === null);
    });
    // What it had stored itself does not wait, whatever it can no longer ask.
    assert.ok((cut?.conservation.in_flight ?? 51) <= 30, JSON.stringify(cut?.conservation));

    assert.equal(ip('-n', spaceOf('b'), 'link', 'set', 'cable-b', 'up'), '');
    // The route went with the cable.
    ip('-n', spaceOf('b'), 'route', 'replace', '10.83.0.1', 'via', '10.83.2.1');
    await until('storing what came meanwhile', async () => {
      const { conservation } = await statsOf('b', ingestUrl);
      return conservation.stored === 80 && conservation.in_flight === 0;
    });
    const { code, output } = await ess('b', 'verify', '--deep');
    assert.equal(code, 0, output);
    assert.match(output, /exact: \d+ records = 80 rows/);
  });
});
