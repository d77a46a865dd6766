// How long after their arrival events can be read while more and more users send them: the load test that ESS was born
// from, against one `--role all` between three brokers and a ClickHouse node. Then events were 475 s behind on average.

import { tmpdir } from 'node:os';
import { type K6Result, k6Version, runK6 } from './support/k6.ts';
import { BenchKafka, brokersMethod, kafkaMissing, runInit } from './support/kafka.ts';
import { describeMachine, type Machine } from './support/machine.ts';
import { median } from './support/median.ts';
import { BenchNode } from './support/node.ts';
import { type BenchOptions, readOptions } from './support/options.ts';
import { cpuSeconds, cpuSecondsOf, memoryUsage, untilQuiet } from './support/process_usage.ts';
import { finish, print, printHead, printTable } from './support/report.ts';
import { runMain } from './support/run.ts';
import { Scratch } from './support/scratch.ts';
import { endService, pidOf, startService, untilStored } from './support/service.ts';
import { hasLagGrown, type Sample, StatsSampler } from './support/stats_sampler.ts';

const numbers = {
  vus: { description: "virtual users at the ramp's end", default: 350, defaultSaved: 3500, min: 1 },
  rampSeconds: { description: 'seconds of the ramp', default: 21, defaultSaved: 210, min: 1 },
  rounds: { description: 'rounds, each with a new topic and database', default: 1, min: 1 },
  partitions: { description: 'partitions of the topic', default: 12, min: 1 },
  settleSeconds: { description: 'longest wait for a quiet machine before each ramp', default: 10, min: 0 },
  drainSeconds: { description: 'longest wait until everything is stored', default: 600, min: 1 },
} as const;
type Options = BenchOptions<keyof typeof numbers>;

/** Of the end-to-end stage: from the arrival of a request to the end of its block's insert, ms. */
interface Lag {
  readonly count: number;
  readonly p50_ms: number;
  readonly p90_ms: number;
  readonly p95_ms: number;
  readonly p99_ms: number;
  readonly max_ms: number;
}

interface Round extends K6Result {
  readonly lag: Lag;
  /** From ingest_time to store_time of the rows, as the old service asked it, ms: 50 %, 90 %, 95 %, 99 %. */
  readonly table_lag_ms: readonly number[];
  readonly samples: readonly Sample[];
  readonly lag_s_max: number;
  readonly has_lag_grown: boolean;
  /** From the last answer until everything was stored. */
  readonly drain_s: number | null;
  readonly ess_cpu_s_per_100k: number;
  readonly node_cpu_s_per_100k: number;
  readonly broker_cpu_s_per_100k: number;
  readonly ess_peak_rss_mib: number;
  readonly rows: number;
  readonly faults: readonly string[];
}

interface Place {
  readonly kafka: BenchKafka;
  readonly node: BenchNode;
  readonly folder: string;
  readonly options: Options;
}

async function main(argv: readonly string[]): Promise<void> {
  const options = readOptions('npm run bench:lag -- [options]', numbers, argv, tmpdir());
  const version = k6Version();
  const lacking = version === null ? 'needs k6: node scripts/tools.mjs k6' : kafkaMissing();
  if (lacking !== null) {
    process.stderr.write(`bench:lag ${lacking}\n`);
    process.exitCode = 2;
    return;
  }
  const machine = describeMachine(options.dir);
  const method =
    `k6 ${version} with k6/load.js, a ramp of users who send single events, ack=log, to one ess --role all on ` +
    `${brokersMethod} and one ClickHouse node (the engine behind HTTP), all on the same machine, nothing pinned`;
  printHead('lag', method, machine, options);

  const scratch = new Scratch(options);
  const rounds: Round[] = [];
  try {
    const kafka = await BenchKafka.start();
    try {
      const node = await BenchNode.start();
      try {
        const place = { kafka, node, folder: scratch.folder, options };
        for (let index = 0; index < options.numbers.rounds; index += 1) {
          const round = await measure(index, place);
          rounds.push(round);
          print(
            `  round ${index + 1}: ${round.requests_per_second} requests/s, ${round.failures} failures, ` +
              `end to end p99 ${round.lag.p99_ms} ms, stored ${round.drain_s} s after the end`,
          );
          for (const [kind, count] of Object.entries(round.failure_kinds)) print(`    ${count} x ${kind}`);
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
  report(rounds, method, machine, options);
}

async function measure(index: number, { kafka, node, folder, options }: Place): Promise<Round> {
  const { vus, rampSeconds, partitions, settleSeconds, drainSeconds } = options.numbers;
  const topic = `ramp-${index}`;
  const database = `ramp_${index}`;
  const flags = {
    ...kafka.flags(topic, partitions),
    clickhouse: node.url,
    'clickhouse-database': database,
  };
  await runInit(flags);
  const service = await startService('all', options, flags);
  try {
    const pid = pidOf(service);
    await untilQuiet([pid, node.pid, ...kafka.pids], settleSeconds);
    const essBefore = cpuSeconds(pid);
    const nodeBefore = cpuSeconds(node.pid);
    const brokersBefore = cpuSecondsOf(kafka.pids);
    const sampler = new StatsSampler(service);
    const k6 = await runK6({ url: service.url, vus, rampSeconds, run: `lag-${index}`, folder });
    const samples = await sampler.stop();
    const drainingMs = performance.now();
    const drained = await untilStored(service, drainSeconds);
    const drainS = Math.round(performance.now() - drainingMs) / 1000;

    const faults: string[] = [];
    if (drained === null) faults.push(`not everything was stored within ${drainSeconds} s`);
    else if (!drained.conservation.exact) faults.push('conservation is not exact');
    const [rows = 0, ids = 0] = await node.numbers(
      `SELECT count(), uniqExact(source, id) FROM ${database}.events`,
    );
    if (rows !== ids) faults.push(`${rows} rows of ${ids} events`);
    // A request that failed may have been stored all the same.
    if (rows < k6.answered || rows > k6.requests)
      faults.push(`${k6.answered} of ${k6.requests} requests answered 200, ${rows} rows`);
    const tableLagMs = await node.numbers(
      `SELECT arrayJoin([quantilesExact(0.5, 0.9, 0.95, 0.99)(dateDiff('millisecond', ingest_time, store_time))]) AS q,
         q[1], q[2], q[3], q[4] FROM ${database}.events`,
    );
    const { stages } = await service.getJson<{ readonly stages: Readonly<Record<string, Lag>> }>('/stats');
    const {
      count = 0,
      p50_ms = 0,
      p90_ms = 0,
      p95_ms = 0,
      p99_ms = 0,
      max_ms = 0,
    } = stages['end_to_end'] ?? {};
    const perHundredThousand = (cpuS: number): number => Math.round((cpuS / k6.requests) * 1e7) / 100;
    return {
      ...k6,
      lag: { count, p50_ms, p90_ms, p95_ms, p99_ms, max_ms },
      table_lag_ms: tableLagMs.slice(1),
      samples,
      lag_s_max: Math.max(0, ...samples.map((sample) => sample.lag_s)),
      has_lag_grown: hasLagGrown(samples, k6.requests_per_second),
      drain_s: drained === null ? null : drainS,
      ess_cpu_s_per_100k: perHundredThousand(cpuSeconds(pid) - essBefore),
      node_cpu_s_per_100k: perHundredThousand(cpuSeconds(node.pid) - nodeBefore),
      broker_cpu_s_per_100k: perHundredThousand(cpuSecondsOf(kafka.pids) - brokersBefore),
      ess_peak_rss_mib: memoryUsage(pid).peak,
      rows,
      faults,
    };
  } finally {
    await endService(service);
    await kafka.cluster.deleteTopic(topic);
    await node.query(`DROP DATABASE IF EXISTS ${database} SYNC`);
  }
}

const lagAimMs = 3000;

function report(rounds: readonly Round[], method: string, machine: Machine, options: Options): void {
  const of = (figure: (round: Round) => number | null): number | null =>
    median(rounds.map(figure).filter((value) => value !== null));
  const figures = {
    requests: of((round) => round.requests),
    requests_per_second: of((round) => round.requests_per_second),
    failures: of((round) => round.failures),
    answer_p50_ms: of((round) => round.p50_ms),
    answer_p95_ms: of((round) => round.p95_ms),
    answer_p99_ms: of((round) => round.p99_ms),
    end_to_end_p50_ms: of((round) => round.lag.p50_ms),
    end_to_end_p90_ms: of((round) => round.lag.p90_ms),
    end_to_end_p95_ms: of((round) => round.lag.p95_ms),
    end_to_end_p99_ms: of((round) => round.lag.p99_ms),
    end_to_end_max_ms: of((round) => round.lag.max_ms),
    lag_s_max: of((round) => round.lag_s_max),
    drain_s: of((round) => round.drain_s),
    ess_cpu_s_per_100k: of((round) => round.ess_cpu_s_per_100k),
    node_cpu_s_per_100k: of((round) => round.node_cpu_s_per_100k),
    broker_cpu_s_per_100k: of((round) => round.broker_cpu_s_per_100k),
    ess_peak_rss_mib: of((round) => round.ess_peak_rss_mib),
    generator_core_share: of((round) => round.generator_core_share),
  };
  print('');
  printTable(
    ['median', ''],
    Object.entries(figures).map(([name, value]) => [name.replaceAll('_', ' '), value]),
  );
  const failures = rounds.reduce((sum, round) => sum + round.failures, 0);
  const p99 = figures.end_to_end_p99_ms;
  const aims = [
    {
      what: 'end to end p99 of the whole ramp, ms',
      figure: p99,
      aim: `< ${lagAimMs}`,
      isMet: p99 === null ? null : p99 < lagAimMs,
    },
    { what: 'requests that were not answered 200', figure: failures, aim: '= 0', isMet: failures === 0 },
  ];
  const faults = rounds.flatMap((round) => round.faults);
  finish(
    { bench: 'lag', method, rounds, medians: { ramp: figures }, ratios: {}, aims, faults },
    machine,
    options,
  );
}

await runMain(main);
