// How many single-event POSTs a second ESS takes with ack=log, beside a bare uWebSockets.js server in the same run.
// This process only starts the others and looks on; wrk is the generator.

import { tmpdir } from 'node:os';
import type { EssProcess } from '../test/support/ess_process.ts';
import type { BareReply, BareRequest } from './bare_server.ts';
import { Helper } from './support/helper.ts';
import { describeMachine } from './support/machine.ts';
import { median, ratio } from './support/median.ts';
import { type BenchOptions, readOptions } from './support/options.ts';
import { cpuSeconds, memoryUsage, untilQuiet } from './support/process_usage.ts';
import { finish, print, printHead, printTable } from './support/report.ts';
import { runMain } from './support/run.ts';
import { endService, pidOf, startService, untilStored } from './support/service.ts';

import { hasLagGrown, type Sample, StatsSampler } from './support/stats_sampler.ts';
import { runWrk, type WrkResult, wrkVersion } from './support/wrk.ts';

const numbers = {
  seconds: { description: 'seconds of each measured load', default: 5, defaultSaved: 10, min: 1 },
  warmupSeconds: { description: 'seconds of load before each measured one, not counted', default: 2, min: 1 },
  rounds: { description: 'rounds; each loads every target once', default: 3, min: 1 },
  connections: { description: 'connections of wrk', default: 256, min: 1 },
  settleSeconds: { description: 'longest wait for a quiet machine before each load', default: 10, min: 0 },
  drainSeconds: { description: 'longest wait until everything is stored', default: 120, min: 1 },
} as const;
type Options = BenchOptions<keyof typeof numbers>;

const names = ['role all', 'role ingest', 'bare'] as const;
type Name = (typeof names)[number];

interface Target {
  readonly name: Name;
  readonly url: string;
  readonly pid: number;
  /** Null for the bare server. */
  readonly service: EssProcess | null;
}

interface Round extends WrkResult {
  readonly target: Name;
  readonly requests_per_second: number;
  /** All threads of the server, until what was sent is stored where the target stores. */
  readonly server_cpu_s_per_100k: number;
  readonly server_peak_rss_mib: number;
  /** Only where rows are stored. */
  readonly samples: readonly Sample[];
  readonly stage_p99_ms: Readonly<Record<string, number>>;
  readonly end_to_end_p99_ms_max: number | null;
  readonly lag_s_max: number | null;
  readonly lag_events_max: number | null;
  readonly has_lag_grown: boolean | null;
  readonly drain_s: number | null;
  readonly faults: readonly string[];
}

async function main(argv: readonly string[]): Promise<void> {
  const options = readOptions('npm run bench:ingest -- [options]', numbers, argv, tmpdir());
  const version = wrkVersion();
  if (version === null) {
    process.stderr.write('bench:ingest needs wrk: node scripts/tools.mjs, or apt-get install wrk\n');
    process.exitCode = 2;
    return;
  }
  const machine = describeMachine(options.dir);
  const method =
    `single-event POST /events/ of 176 bytes, ack=log, ${version} with 1 thread; three servers, one loaded at ` +
    'a time, all processes on the same machine and pinned nowhere';
  printHead('ingest', method, machine, options);

  const bare = new Helper<BareRequest, BareReply>('bench.bare_server');
  const services: EssProcess[] = [];
  const rounds: Round[] = [];
  try {
    const { port } = await bare.ask({ type: 'listen' });
    for (const role of ['all', 'ingest'] as const) services.push(await startService(role, options));
    const targets = [
      ...services.map((service, i) => ({
        name: names[i] ?? 'role all',
        url: service.url,
        pid: pidOf(service),
        service,
      })),
      { name: 'bare', url: `http://127.0.0.1:${port}`, pid: bare.pid, service: null } as const,
    ];
    for (let round = 0; round < options.numbers.rounds; round += 1) {
      for (let i = 0; i < targets.length; i += 1) {
        // Another one goes first in each round, so that none always follows the same one.
        const target = targets[(round + i) % targets.length];
        if (target === undefined) continue;
        const figures = await measure(target, targets, round, options);
        rounds.push(figures);
        printRound(round, figures);
      }
    }
  } finally {
    for (const service of services) await endService(service);
    await bare.end();
  }
  report(rounds, method, machine, options);
}

async function measure(
  target: Target,
  targets: readonly Target[],
  round: number,
  options: Options,
): Promise<Round> {
  const { seconds, warmupSeconds, connections, settleSeconds, drainSeconds } = options.numbers;
  const { url, pid, service } = target;
  const isStoring = target.name === 'role all';
  const run = 1_000_000 + round * 10 + targets.indexOf(target);
  const faults: string[] = [];
  const pids = targets.map((other) => other.pid);

  await runWrk({ url, connections, seconds: warmupSeconds, run: run + 5 });
  if (isStoring && service !== null) await untilStored(service, drainSeconds);
  await untilQuiet(pids, settleSeconds);

  const acceptedBefore = await acceptedBy(service);
  const cpuBefore = cpuSeconds(pid);
  const sampler = isStoring && service !== null ? new StatsSampler(service) : null;
  const wrk = await runWrk({ url, connections, seconds, run });
  const samples = (await sampler?.stop()) ?? [];
  const drainingMs = performance.now();
  let drainS: number | null = null;
  if (isStoring && service !== null) {
    const stats = await untilStored(service, drainSeconds);
    drainS = Math.round(performance.now() - drainingMs) / 1000;
    if (stats === null) faults.push(`${target.name}: not everything was stored within ${drainSeconds} s`);
    else if (!stats.conservation.exact) faults.push(`${target.name}: conservation is not exact`);
  }
  const requestsPerSecond = wrk.requests / wrk.seconds;
  if (service !== null) {
    // wrk leaves at the end of its time: what each connection had sent last may have been taken without being counted.
    const taken = (await acceptedBy(service)) - acceptedBefore;
    const answered = wrk.requests - wrk.non_2xx;
    if (taken < answered || taken > answered + connections) {
      faults.push(`${target.name}: ${taken} events taken, ${answered} answered 200`);
    }
  }
  const isSampled = samples.length > 0;
  const largest = (of: (sample: Sample) => number): number | null =>
    isSampled ? Math.max(...samples.map(of)) : null;
  return {
    target: target.name,
    ...wrk,
    requests_per_second: Math.round(requestsPerSecond),
    server_cpu_s_per_100k: Math.round(((cpuSeconds(pid) - cpuBefore) / wrk.requests) * 1e7) / 100,
    server_peak_rss_mib: memoryUsage(pid).peak,
    samples,
    stage_p99_ms: sampler?.lastStages ?? {},
    end_to_end_p99_ms_max: largest((sample) => sample.end_to_end_p99_ms),
    lag_s_max: largest((sample) => sample.lag_s),
    lag_events_max: largest((sample) => sample.lag_events),
    has_lag_grown: isSampled ? hasLagGrown(samples, requestsPerSecond) : null,
    drain_s: drainS,
    faults,
  };
}

/** Events in the service's log so far. */
async function acceptedBy(service: EssProcess | null): Promise<number> {
  if (service === null) return 0;
  const stats = await service.getJson<{ readonly conservation: { readonly accepted: number } }>('/stats');
  return stats.conservation.accepted;
}

function printRound(round: number, figures: Round): void {
  const { target, requests_per_second: rps, p50_ms, p99_ms, non_2xx, generator_core_share: share } = figures;
  const lag =
    figures.lag_s_max === null
      ? ''
      : `, lag at most ${figures.lag_s_max} s, stored ${figures.drain_s} s after the end`;
  print(
    `  round ${round + 1}, ${target}: ${rps} requests/s, p50 ${p50_ms} ms, p99 ${p99_ms} ms, ` +
      `${non_2xx} not 2xx, wrk on ${share} of a core${lag}`,
  );
}

function report(
  rounds: readonly Round[],
  method: string,
  machine: ReturnType<typeof describeMachine>,
  options: Options,
): void {
  const of = (name: Name, figure: (round: Round) => number | null): number | null =>
    median(
      rounds
        .filter((round) => round.target === name)
        .map(figure)
        .filter((value) => value !== null),
    );
  const rate = (name: Name): number | null => of(name, (round) => round.requests_per_second);
  const medians = Object.fromEntries(
    names.map((name) => [
      name,
      {
        requests_per_second: rate(name),
        p50_ms: of(name, (round) => round.p50_ms),
        p95_ms: of(name, (round) => round.p95_ms),
        p99_ms: of(name, (round) => round.p99_ms),
        server_cpu_s_per_100k: of(name, (round) => round.server_cpu_s_per_100k),
        server_peak_rss_mib: of(name, (round) => round.server_peak_rss_mib),
        generator_core_share: of(name, (round) => round.generator_core_share),
        end_to_end_p99_ms_max: of(name, (round) => round.end_to_end_p99_ms_max),
        lag_s_max: of(name, (round) => round.lag_s_max),
        drain_s: of(name, (round) => round.drain_s),
      },
    ]),
  );
  const ratios = {
    'role all / bare': ratio(rate('role all'), rate('bare')),
    'role ingest / bare': ratio(rate('role ingest'), rate('bare')),
  };
  print('');
  printTable(
    [
      'median',
      'requests/s',
      'to bare',
      'p50 ms',
      'p95 ms',
      'p99 ms',
      'CPU-s/100k',
      'peak MiB',
      'wrk cores',
      'e2e p99 ms',
      'lag s',
    ],
    names.map((name) => [
      name,
      rate(name),
      ratio(rate(name), rate('bare')),
      of(name, (round) => round.p50_ms),
      of(name, (round) => round.p95_ms),
      of(name, (round) => round.p99_ms),
      of(name, (round) => round.server_cpu_s_per_100k),
      of(name, (round) => round.server_peak_rss_mib),
      of(name, (round) => round.generator_core_share),
      of(name, (round) => round.end_to_end_p99_ms_max),
      of(name, (round) => round.lag_s_max),
    ]),
  );
  const atLeast = (what: string, figure: number | null, least: number, stretch: number) => ({
    what,
    figure,
    aim: `>= ${least} (stretch ${stretch})`,
    isMet: figure === null ? null : figure >= least,
  });
  const below = (what: string, figure: number | null, limit: number) => ({
    what,
    figure,
    aim: `< ${limit}`,
    isMet: figure === null ? null : figure < limit,
  });
  const growth = rounds.filter((round) => round.has_lag_grown !== null);
  const grown = growth.filter((round) => round.has_lag_grown).length;
  const aims = [
    atLeast('role ingest / bare', ratios['role ingest / bare'], 0.5, 0.65),
    atLeast('role all / bare', ratios['role all / bare'], 0.4, 0.55),
    below(
      'role all, end to end p99, largest sample, ms',
      of('role all', (r) => r.end_to_end_p99_ms_max),
      2000,
    ),
    below(
      'role all, answer p99, ms',
      of('role all', (r) => r.p99_ms),
      50,
    ),
    below(
      'role ingest, answer p99, ms',
      of('role ingest', (r) => r.p99_ms),
      50,
    ),
    below('rounds in which the lag grew', growth.length > 0 ? grown : null, 1),
  ];
  const faults = rounds.flatMap((round) => round.faults);
  finish({ bench: 'ingest', method, rounds, medians, ratios, aims, faults }, machine, options);
}

await runMain(main);
