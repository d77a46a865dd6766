// How many single-event POSTs a second ESS takes into Kafka, beside what people run today for the same: FastAPI with
// aiokafka, and Benthos. Every 200 means that all in-sync replicas have the event. This process only starts the others
// and looks on; wrk is the generator.

import { tmpdir } from 'node:os';
import { type ServerName, serverMissing, serverNames, startServer } from './peers/servers.ts';
import { BenchKafka, brokersMethod, kafkaMissing } from './support/kafka.ts';
import { describeMachine, type Machine } from './support/machine.ts';
import { median, ratio } from './support/median.ts';
import { type BenchOptions, readOptions } from './support/options.ts';
import { cpuSecondsOf, memoryUsage, untilQuiet } from './support/process_usage.ts';
import { type Aim, finish, print, printHead, printTable } from './support/report.ts';
import { runMain } from './support/run.ts';
import { Scratch } from './support/scratch.ts';
import { runWrk, type WrkResult, wrkVersion } from './support/wrk.ts';

const numbers = {
  seconds: { description: 'seconds of each measured load', default: 5, defaultSaved: 10, min: 1 },
  warmupSeconds: { description: 'seconds of load before each measured one, not counted', default: 3, min: 1 },
  brokerWarmupSeconds: {
    description:
      'seconds of load on the brokers before the first round, for their compilers, by each server in turn',
    default: 3,
    // After 20 s of one server the first round was still three times as slow as the second.
    defaultSaved: 90,
    min: 1,
  },
  rounds: {
    description: 'rounds; each loads every server with both numbers of connections',
    default: 3,
    min: 1,
  },
  connections: { description: 'connections of wrk', default: 256, min: 1 },
  manyConnections: {
    description: 'connections of wrk in the other half of the loads',
    default: 3500,
    min: 1,
  },
  partitions: { description: 'partitions of each topic', default: 12, min: 1 },
  secondLines: {
    description: '0 leaves FastAPI with two workers and Benthos with batches out',
    default: 1,
    min: 0,
  },
  settleSeconds: { description: 'longest wait for a quiet machine before each load', default: 10, min: 0 },
} as const;
type Options = BenchOptions<keyof typeof numbers>;

const secondLines: ReadonlySet<ServerName> = new Set(['FastAPI, 2 workers', 'Benthos, 5 ms batches']);

/** A longer answer is an error. With 3,500 connections the slowest peer needs more than wrk's own two seconds. */
const answerSecondsMax = 30;

interface Round extends WrkResult {
  readonly server: ServerName;
  readonly connections: number;
  readonly requests_per_second: number;
  /** Of all processes of the server. */
  /** Null where nothing was answered. */
  readonly server_cpu_s_per_100k: number | null;
  readonly broker_cpu_s_per_100k: number | null;
  /** Largest RSS of each process of the server, together. */
  readonly server_peak_rss_mib: number;
  /** Answers with another status than 2xx, and connections that failed. */
  readonly errors: number;
  /** Those answers by the server's own codes, where it tells. */
  readonly refusals: Readonly<Record<string, number>>;
  /** Records that the measured load left in the topic. */
  readonly records: number;
  readonly faults: readonly string[];
}

async function main(argv: readonly string[]): Promise<void> {
  const options = readOptions('npm run bench:peers -- [options]', numbers, argv, tmpdir());
  const version = wrkVersion();
  const lacking = version === null ? 'needs wrk: node scripts/tools.mjs wrk' : kafkaMissing();
  if (lacking !== null) {
    process.stderr.write(`bench:peers ${lacking}\n`);
    process.exitCode = 2;
    return;
  }
  const machine = describeMachine(options.dir);
  const method =
    `single-event POST /events/ of 175 bytes, the same to each server, into ${brokersMethod}; every 200 after ` +
    `acks=all; ${version} with 1 thread; the servers take turns, each started anew for its load, brokers and wrk on ` +
    'the same machine, nothing pinned';
  printHead('peers', method, machine, options);
  const wanted = serverNames.filter((name) => options.numbers.secondLines > 0 || !secondLines.has(name));
  const missing = wanted.flatMap((name) => {
    const why = serverMissing(name);
    return why === null ? [] : [{ name, why }];
  });
  for (const { name, why } of missing) print(`  NOT MEASURED: ${name}: ${why}`);
  const names = wanted.filter((name) => missing.every((each) => each.name !== name));

  const scratch = new Scratch(options);
  const rounds: Round[] = [];
  try {
    const kafka = await BenchKafka.start();
    try {
      for (const name of names) await warmBrokers(name, kafka, options, names.length);
      for (let round = 0; round < options.numbers.rounds; round += 1) {
        for (const connections of levels(options)) {
          for (let i = 0; i < names.length; i += 1) {
            // Another one goes first in each round, so that none always follows the same one.
            const name = names[(round + i) % names.length];
            if (name === undefined) continue;
            const figures = await measure(name, connections, kafka, rounds.length, options);
            rounds.push(figures);
            printRound(round, figures);
          }
        }
      }
    } finally {
      await kafka.cluster.dispose();
    }
  } finally {
    scratch.remove();
  }
  report(rounds, names, method, machine, options);
}

function levels({ numbers: { connections, manyConnections } }: Options): readonly number[] {
  return [...new Set([connections, manyConnections])];
}

/** Each server makes requests of another kind: the brokers' compilers have to have seen all of them. */
async function warmBrokers(
  name: ServerName,
  kafka: BenchKafka,
  options: Options,
  servers: number,
): Promise<void> {
  const { brokerWarmupSeconds, connections, partitions } = options.numbers;
  const seconds = Math.max(1, Math.round(brokerWarmupSeconds / servers));
  const topic = `warm-${name.replaceAll(/[^A-Za-z0-9]+/g, '-')}`;
  const server = await startServer(name, { kafka, topic, partitions }, options);
  try {
    await runWrk({ url: server.url, connections, seconds, run: 1_999_999, shape: 'peer' });
  } finally {
    await server.end();
    await kafka.cluster.deleteTopic(topic);
  }
}

async function measure(
  name: ServerName,
  connections: number,
  kafka: BenchKafka,
  index: number,
  options: Options,
): Promise<Round> {
  const { seconds, warmupSeconds, partitions, settleSeconds } = options.numbers;
  const topic = `load-${index}`;
  const server = await startServer(name, { kafka, topic, partitions }, options);
  try {
    const { url } = server;
    const load = { url, connections, shape: 'peer', timeoutSeconds: answerSecondsMax } as const;
    const run = 1_000_000 + index * 2;
    await runWrk({ ...load, seconds: warmupSeconds, run: run + 1 });
    await untilQuiet([...server.pids, ...kafka.pids], settleSeconds);

    const recordsBefore = await kafka.records(topic, partitions);
    const refusalsBefore = await server.refusals();
    const serverBefore = cpuSecondsOf(server.pids);
    const brokersBefore = cpuSecondsOf(kafka.pids);
    const wrk = await runWrk({ ...load, seconds, run });
    const serverCpu = cpuSecondsOf(server.pids) - serverBefore;
    const brokersCpu = cpuSecondsOf(kafka.pids) - brokersBefore;
    const refusals = [...(await server.refusals())]
      .map(([code, count]): [string, number] => [code, count - (refusalsBefore.get(code) ?? 0)])
      .filter(([, count]) => count > 0);
    const records = (await kafka.records(topic, partitions)) - recordsBefore;
    const answered = wrk.requests - wrk.non_2xx;
    const faults =
      records < answered ? [`${name}: ${answered} events answered 200, ${records} in the topic`] : [];
    const perHundredThousand = (cpuS: number): number | null =>
      wrk.requests === 0 ? null : Math.round((cpuS / wrk.requests) * 1e7) / 100;
    return {
      server: name,
      ...wrk,
      connections,
      requests_per_second: Math.round(answered / wrk.seconds),
      server_cpu_s_per_100k: perHundredThousand(serverCpu),
      broker_cpu_s_per_100k: perHundredThousand(brokersCpu),
      server_peak_rss_mib: server.pids.reduce((sum, pid) => sum + memoryUsage(pid).peak, 0),
      errors: wrk.non_2xx + wrk.connect_errors + wrk.read_errors + wrk.write_errors + wrk.timeouts,
      refusals: Object.fromEntries(refusals),
      records,
      faults,
    };
  } finally {
    await server.end();
    await kafka.cluster.deleteTopic(topic);
  }
}

function printRound(round: number, figures: Round): void {
  const { server, connections, requests_per_second: rps, p50_ms, p99_ms, errors, refusals } = figures;
  const kinds = Object.entries(refusals).map(([code, count]) => `${count} ${code}`);
  print(
    `  round ${round + 1}, ${connections} connections, ${server}: ${rps} requests/s, p50 ${p50_ms} ms, ` +
      `p99 ${p99_ms} ms, ${[`${errors} errors`, ...kinds].join(', ')}, wrk on ${figures.generator_core_share} of a core`,
  );
}

/** At least so many times the peer's requests a second, with few and with many connections. */
const aimsOver: readonly (readonly [peer: ServerName, few: number, many: number])[] = [
  ['FastAPI, 1 worker', 5, 8],
  ['Benthos', 2, 3],
  ['Benthos, 5 ms batches', 2, 3],
];
const serverCpuAim = 3.5;

function report(
  rounds: readonly Round[],
  names: readonly ServerName[],
  method: string,
  machine: Machine,
  options: Options,
): void {
  const medians: Record<string, Record<string, number | null>> = {};
  const ratios: Record<string, number | null> = {};
  const aims: Aim[] = [];
  for (const connections of levels(options)) {
    const keyOf = (name: ServerName): string => `${name}, ${connections} connections`;
    for (const name of names) {
      const own = rounds.filter((round) => round.server === name && round.connections === connections);
      const of = (figure: (round: Round) => number | null): number | null =>
        median(own.map(figure).filter((value) => value !== null));
      medians[keyOf(name)] = {
        requests_per_second: of((round) => round.requests_per_second),
        p50_ms: of((round) => round.p50_ms),
        p95_ms: of((round) => round.p95_ms),
        p99_ms: of((round) => round.p99_ms),
        server_cpu_s_per_100k: of((round) => round.server_cpu_s_per_100k),
        broker_cpu_s_per_100k: of((round) => round.broker_cpu_s_per_100k),
        server_peak_rss_mib: of((round) => round.server_peak_rss_mib),
        errors: of((round) => round.errors),
        generator_core_share: of((round) => round.generator_core_share),
      };
    }
    const rate = (name: ServerName): number | null => medians[keyOf(name)]?.['requests_per_second'] ?? null;
    for (const name of names)
      if (name !== 'ESS')
        ratios[`${connections} connections, ESS / ${name}`] = ratio(rate('ESS'), rate(name));
    for (const [peer, few, many] of aimsOver) {
      const least = connections === options.numbers.connections ? few : many;
      const figure = ratio(rate('ESS'), rate(peer));
      const what = `${connections} connections, requests/s of ESS / ${peer}`;
      aims.push({ what, figure, aim: `>= ${least}`, isMet: figure === null ? null : figure >= least });
    }
    const cpu = medians[keyOf('ESS')]?.['server_cpu_s_per_100k'] ?? null;
    aims.push({
      what: `${connections} connections, server CPU s of ESS per 100,000 requests`,
      figure: cpu,
      aim: `<= ${serverCpuAim}`,
      isMet: cpu === null ? null : cpu <= serverCpuAim,
    });
    print('');
    printTable(
      [
        `median, ${connections} connections`,
        'requests/s',
        'ESS to it',
        'p50 ms',
        'p95 ms',
        'p99 ms',
        'CPU-s/100k',
        'brokers',
        'peak MiB',
        'errors',
        'wrk cores',
      ],
      names.map((name) => {
        const own = medians[keyOf(name)] ?? {};
        return [
          name,
          rate(name),
          ratio(rate('ESS'), rate(name)),
          own['p50_ms'] ?? null,
          own['p95_ms'] ?? null,
          own['p99_ms'] ?? null,
          own['server_cpu_s_per_100k'] ?? null,
          own['broker_cpu_s_per_100k'] ?? null,
          own['server_peak_rss_mib'] ?? null,
          own['errors'] ?? null,
          own['generator_core_share'] ?? null,
        ];
      }),
    );
  }
  const faults = rounds.flatMap((round) => round.faults);
  finish({ bench: 'peers', method, rounds, medians, ratios, aims, faults }, machine, options);
}

await runMain(main);
