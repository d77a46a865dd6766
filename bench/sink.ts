// How fast one sink thread brings a topic's backlog into a ClickHouse node, exactly once, beside the aiokafka consumer
// that it replaces, which does so at least once. Both read the same records and write to the same node, one after the
// other; each begins with its partitions assigned and ends when the last row can be read.

import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { consumerStarted, createConsumerTable, startConsumer } from './peers/consumer.ts';
import { peersPython } from './peers/servers.ts';
import { writeBacklog } from './support/backlog.ts';
import { BenchKafka, brokersMethod, kafkaMissing, kafkaTargetOf, runInit } from './support/kafka.ts';
import { describeMachine, type Machine } from './support/machine.ts';
import { median, ratio } from './support/median.ts';
import { BenchNode } from './support/node.ts';
import { type BenchOptions, readOptions } from './support/options.ts';
import { cpuSecondsOf, memoryUsage, processTree, untilQuiet } from './support/process_usage.ts';
import { finish, print, printHead, printTable } from './support/report.ts';
import { runMain } from './support/run.ts';
import { Scratch } from './support/scratch.ts';
import { endService, pidOf, startService, untilStored } from './support/service.ts';

const numbers = {
  events: { description: 'events in the topic', default: 100_000, defaultSaved: 1_000_000, min: 1 },
  groupEvents: {
    description: 'events of one append to the topic, over all partitions',
    default: 1000,
    min: 1,
  },
  partitions: { description: 'partitions of the topic', default: 12, min: 1 },
  batchRows: { description: "most rows of one of the peer's inserts", default: 10_000, min: 1 },
  rounds: { description: 'rounds; each drains the topic with both', default: 1, defaultSaved: 3, min: 1 },
  settleSeconds: { description: 'longest wait for a quiet machine before each drain', default: 10, min: 0 },
  drainSeconds: { description: 'longest wait until everything is stored', default: 600, min: 1 },
} as const;
type Options = BenchOptions<keyof typeof numbers>;

const drainers = ['ess', 'aiokafka'] as const;
type Drainer = (typeof drainers)[number];

const topic = 'drain';
/** How often the node is asked for the number of rows, ms: the resolution of a drain's end. */
const lookEveryMs = 50;

interface Round {
  readonly drainer: Drainer;
  readonly events_per_second: number;
  readonly seconds: number;
  /** All threads of the drainer's process, of the node, and of the brokers together. */
  readonly cpu_us_per_event: number;
  readonly node_cpu_us_per_event: number;
  readonly brokers_cpu_us_per_event: number;
  readonly peak_rss_mib: number;
  /**
   * What the time runs from. `assignment`: the partitions were assigned. `process`: its process was started, since the
   * partitions were assigned before anybody could look.
   */
  readonly from: 'assignment' | 'process';
  readonly rows: number;
  readonly ids: number;
  readonly faults: readonly string[];
}

interface Place {
  readonly kafka: BenchKafka;
  readonly node: BenchNode;
  readonly options: Options;
}

async function main(argv: readonly string[]): Promise<void> {
  const options = readOptions('npm run bench:sink -- [options]', numbers, argv, tmpdir());
  const lacking = kafkaMissing();
  if (lacking !== null) {
    process.stderr.write(`bench:sink ${lacking}\n`);
    process.exitCode = 2;
    return;
  }
  const machine = describeMachine(options.dir);
  const method =
    `a backlog of 175-byte events in a topic of ${brokersMethod}, written in ESS's record form, into one ClickHouse ` +
    'node (the engine behind HTTP): ess --role sink --sinks 1 beside an aiokafka consumer with JSONEachRow, in turns; ' +
    'from the assignment of the partitions until the last row can be read';
  printHead('sink', method, machine, options);
  const isPeerThere = existsSync(peersPython);
  if (!isPeerThere)
    print('  NOT MEASURED: aiokafka: its packages are missing: node scripts/tools.mjs peers-python');
  const names = drainers.filter((name) => name === 'ess' || isPeerThere);

  const scratch = new Scratch(options);
  const rounds: Round[] = [];
  try {
    const kafka = await BenchKafka.start();
    try {
      const node = await BenchNode.start();
      try {
        await fillTopic({ kafka, node, options });
        for (let index = 0; index < options.numbers.rounds; index += 1) {
          for (let i = 0; i < names.length; i += 1) {
            const name = names[(index + i) % names.length];
            if (name === undefined) continue;
            const round = await drain(name, index, { kafka, node, options });
            rounds.push(round);
            print(`  round ${index + 1}, ${name}: ${round.events_per_second} events/s`);
          }
        }
      } finally {
        await node.dispose();
      }
    } finally {
      await kafka.cluster.dispose();
    }
  } finally {
    scratch.remove();
  }
  report(rounds, names, method, machine, options);
}

async function fillTopic({ kafka, options }: Place): Promise<void> {
  const { events, groupEvents, partitions } = options.numbers;
  const flags = kafka.flags(topic, partitions);
  await runInit({ ...flags, role: 'ingest' });
  const startedMs = performance.now();
  await writeBacklog({
    log: kafkaTargetOf(flags),
    run: 40_000_000,
    events,
    shape: 'peer',
    groupEvents,
    ingestTimeMs: Date.now(),
  });
  const records = await kafka.records(topic, partitions);
  if (records !== events) throw new Error(`${events} events were written, the topic has ${records} records`);
  print(`  ${events} events in the topic after ${((performance.now() - startedMs) / 1000).toFixed(1)} s`);
}

/** Drains the whole topic with a new group into a new database, which is dropped again. */
async function drain(name: Drainer, index: number, place: Place): Promise<Round> {
  const { kafka, node, options } = place;
  const database = `${name}_${index}`;
  await node.query(`CREATE DATABASE ${database}`);
  try {
    await untilQuiet([node.pid, ...kafka.pids], options.numbers.settleSeconds);
    return await (name === 'ess' ? drainWithEss(database, place) : drainWithPeer(database, place));
  } finally {
    await node.query(`DROP DATABASE ${database} SYNC`);
  }
}

async function drainWithEss(database: string, place: Place): Promise<Round> {
  const { kafka, node, options } = place;
  const { partitions, events, drainSeconds } = options.numbers;
  const flags = {
    ...kafka.flags(topic, partitions),
    'kafka-group': database,
    clickhouse: node.url,
    'clickhouse-database': database,
  };
  await runInit({ ...flags, role: 'sink' });
  const spawnedMs = Date.now();
  const service = await startService('sink', options, { ...flags, sinks: 1 });
  try {
    const assignedMs = await untilAssigned((path) => service.getJson(path));
    const measured = await measure(
      {
        name: 'ess',
        from: assignedMs === null ? 'process' : 'assignment',
        startedMs: assignedMs ?? spawnedMs,
        pids: processTree(pidOf(service)),
        table: `${database}.events`,
      },
      place,
    );
    const faults = [...measured.faults];
    const stats = await untilStored(service, drainSeconds);
    if (stats === null) faults.push(`ess: not everything was in the ledger within ${drainSeconds} s`);
    else if (!stats.conservation.exact || stats.conservation.stored !== events)
      faults.push(`ess: conservation is not exact: ${JSON.stringify(stats.conservation)}`);
    const [rows, ids, merged] = await node.numbers(
      `SELECT count(), uniqExact(source, id), (SELECT count() FROM ${database}.events FINAL) FROM ${database}.events`,
    );
    if (rows !== events || ids !== events || merged !== events)
      faults.push(`ess: ${events} events, ${rows} rows (${merged} with FINAL), ${ids} identities`);
    const [ledger] = await node.numbers(`SELECT sum(rows) FROM ${database}.ledger FINAL`);
    if (ledger !== events) faults.push(`ess: ${events} events, ${ledger} rows in the ledger`);
    return { ...measured, faults };
  } finally {
    await endService(service);
  }
}

/**
 * When the sink was last seen without its partitions, epoch ms: it cannot have begun before. Null if it had them when
 * it was looked at first.
 */
async function untilAssigned(getJson: (path: string) => Promise<unknown>): Promise<number | null> {
  for (let beforeMs: number | null = null; ; ) {
    const lookMs = Date.now();
    // Our own answer, which is checked by tests of its own.
    const stats = (await getJson('/stats?window=10s')) as {
      readonly partitions: readonly { readonly owner: string | null }[];
    };
    if (stats.partitions.some(({ owner }) => owner !== null)) return beforeMs;
    beforeMs = lookMs;
  }
}

async function drainWithPeer(database: string, place: Place): Promise<Round> {
  const { kafka, node, options } = place;
  const { partitions, batchRows } = options.numbers;
  const table = `${database}.events`;
  await node.query(createConsumerTable(table));
  const consumer = startConsumer({
    brokers: kafka.brokers,
    topic,
    partitions,
    group: database,
    batchRows,
    clickhouse: node.url,
    table,
  });
  try {
    const startedMs = await consumerStarted(consumer);
    const { pids } = consumer;
    return await measure({ name: 'aiokafka', from: 'assignment', startedMs, pids, table }, place);
  } finally {
    await consumer.end();
  }
}

interface Running {
  readonly name: Drainer;
  readonly from: Round['from'];
  readonly startedMs: number;
  readonly pids: readonly number[];
  readonly table: string;
}

/** Waits until all events can be read from the table. */
async function measure(running: Running, { kafka, node, options }: Place): Promise<Round> {
  const { name, from, startedMs, pids, table } = running;
  const { events, drainSeconds } = options.numbers;
  const cpuBefore = cpuSecondsOf(pids);
  const nodeBefore = cpuSecondsOf([node.pid]);
  const brokersBefore = cpuSecondsOf(kafka.pids);
  const faults: string[] = [];
  for (;;) {
    const [rows = 0] = await node.numbers(`SELECT count() FROM ${table}`);
    if (rows >= events) break;
    if (Date.now() > startedMs + drainSeconds * 1000) {
      faults.push(`${name}: only ${rows} of ${events} rows after ${drainSeconds} s`);
      break;
    }
    await sleep(lookEveryMs);
  }
  const seconds = (Date.now() - startedMs) / 1000;
  const perEvent = (cpuS: number): number => Math.round((cpuS / events) * 1e8) / 100;
  const figures = {
    events_per_second: Math.round(events / seconds),
    seconds: Math.round(seconds * 1000) / 1000,
    cpu_us_per_event: perEvent(cpuSecondsOf(pids) - cpuBefore),
    node_cpu_us_per_event: perEvent(cpuSecondsOf([node.pid]) - nodeBefore),
    brokers_cpu_us_per_event: perEvent(cpuSecondsOf(kafka.pids) - brokersBefore),
    peak_rss_mib: pids.reduce((sum, pid) => sum + memoryUsage(pid).peak, 0),
  };
  const [rows = 0, ids = 0] = await node.numbers(`SELECT count(), uniqExact(id) FROM ${table}`);
  return { drainer: name, ...figures, from, rows, ids, faults };
}

function report(
  rounds: readonly Round[],
  names: readonly Drainer[],
  method: string,
  machine: Machine,
  options: Options,
): void {
  const of = (name: Drainer, figure: (round: Round) => number): number | null =>
    median(rounds.filter((round) => round.drainer === name).map(figure));
  const rate = (name: Drainer): number | null => of(name, (round) => round.events_per_second);
  const medians = Object.fromEntries(
    names.map((name) => [
      name,
      {
        events_per_second: rate(name),
        cpu_us_per_event: of(name, (round) => round.cpu_us_per_event),
        node_cpu_us_per_event: of(name, (round) => round.node_cpu_us_per_event),
        brokers_cpu_us_per_event: of(name, (round) => round.brokers_cpu_us_per_event),
        peak_rss_mib: of(name, (round) => round.peak_rss_mib),
      },
    ]),
  );
  const ratios = { 'ess / aiokafka': ratio(rate('ess'), rate('aiokafka')) };
  print('');
  printTable(
    ['median', 'events/s', 'CPU us/event', 'node', 'brokers', 'peak MiB'],
    names.map((name) => [
      name,
      rate(name),
      medians[name]?.cpu_us_per_event ?? null,
      medians[name]?.node_cpu_us_per_event ?? null,
      medians[name]?.brokers_cpu_us_per_event ?? null,
      medians[name]?.peak_rss_mib ?? null,
    ]),
  );
  const figure = ratios['ess / aiokafka'];
  const aims = [
    {
      what: 'events/s of one sink thread / aiokafka',
      figure,
      aim: '>= 1.0',
      isMet: figure === null ? null : figure >= 1,
    },
  ];
  const faults = rounds.flatMap((round) => round.faults);
  finish({ bench: 'sink', method, rounds, medians, ratios, aims, faults }, machine, options);
}

await runMain(main);
