// How fast one sink thread works off a backlog, and what its time goes into. The backlog is written while the sink's
// process is stopped by SIGSTOP, and its time runs from SIGCONT: so it has started already, and has not read anything.

import { rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openDataDir } from '../src/engine/data_dir.ts';
import { msPerHour } from '../src/store/schema.ts';
import type { StatsJson } from '../test/support/ess_process.ts';
import { type DrainStage, drainStages, type StageReply, type StageRequest } from './drain_stages.ts';
import { logOf, writeBacklog } from './support/backlog.ts';
import { Helper } from './support/helper.ts';
import { describeMachine } from './support/machine.ts';
import { median, ratio } from './support/median.ts';
import { type BenchOptions, readOptions } from './support/options.ts';
import { cpuSeconds, memoryUsage, untilQuiet } from './support/process_usage.ts';
import { finish, print, printHead, printTable } from './support/report.ts';
import { runMain } from './support/run.ts';
import { endService, newDataDir, pidOf, startService } from './support/service.ts';

const numbers = {
  events: { description: 'events of the backlog', default: 200_000, defaultSaved: 1_000_000, min: 1 },
  groupEvents: { description: 'events of one append to the log', default: 1000, min: 1 },
  partitions: { description: 'partitions of the log', default: 4, min: 1 },
  blockRows: { description: 'most rows of a block (sink-batch-rows-max)', default: 100_000, min: 1 },
  minute: {
    description:
      "minute of the hour in which the events arrived: early in an hour, events of the hour before are within the retry window, which matters once the sink's identities are full",
    default: 30,
    min: 0,
  },
  rounds: { description: 'rounds, each with a new backlog', default: 1, defaultSaved: 3, min: 1 },
  settleSeconds: { description: 'longest wait for a quiet machine before each part', default: 10, min: 0 },
  drainSeconds: { description: 'longest wait until everything is stored', default: 600, min: 1 },
} as const;
type Options = BenchOptions<keyof typeof numbers>;

interface Part {
  readonly rows_per_second: number;
  readonly cpu_us_per_row: number;
  readonly seconds: number;
}

interface Round {
  readonly drain: Part & { readonly peak_rss_mib: number };
  readonly stages: Readonly<Record<DrainStage, Part>>;
  /** Seconds since the start, and records stored then. */
  readonly progress: readonly (readonly [seconds: number, stored: number])[];
  readonly faults: readonly string[];
}

/** How often the sink's progress is looked at, ms. */
const lookEveryMs = 100;

async function main(argv: readonly string[]): Promise<void> {
  const options = readOptions('npm run bench:drain -- [options]', numbers, argv, tmpdir());
  const machine = describeMachine(options.dir);
  const method =
    'ess --role sink --sinks 1 on a backlog of 176-byte events, until everything is stored and in the ledger; ' +
    'beside it the parts of its work alone, each in a process of its own on the same log';
  printHead('drain', method, machine, options);
  const rounds: Round[] = [];
  for (let i = 0; i < options.numbers.rounds; i += 1) {
    const round = await measure(i, options);
    rounds.push(round);
    print(`  round ${i + 1}: ${round.drain.rows_per_second} rows/s`);
  }
  report(rounds, method, machine, options);
}

async function measure(index: number, options: Options): Promise<Round> {
  const { events, groupEvents, partitions, blockRows, settleSeconds } = options.numbers;
  const dataDir = newDataDir(options);
  const scratchDir = newDataDir(options);
  const { logPath } = openDataDir(dataDir);
  const log = logOf(logPath, partitions);
  const faults: string[] = [];
  const flags = { sinks: 1, partitions, 'sink-batch-rows-max': blockRows };
  const service = await startService('sink', options, flags, dataDir);
  const pid = pidOf(service);
  const progress: [number, number][] = [];
  let drain: Round['drain'];
  const stages: Partial<Record<DrainStage, Part>> = {};
  try {
    await untilQuiet([pid], settleSeconds);
    service.child.kill('SIGSTOP');
    try {
      const ingestTimeMs = arrivalMs(options.numbers.minute);
      await writeBacklog({ log, run: 20_000_000 + index, events, groupEvents, ingestTimeMs });
    } finally {
      service.child.kill('SIGCONT');
    }
    const cpuBefore = cpuSeconds(pid);
    const startedMs = performance.now();
    const untilMs = startedMs + options.numbers.drainSeconds * 1000;
    let stats: StatsJson;
    for (;;) {
      stats = await service.getJson<StatsJson>('/stats?window=10s');
      const seconds = (performance.now() - startedMs) / 1000;
      const { stored, duplicates } = stats.conservation;
      progress.push([Math.round(seconds * 100) / 100, stored + duplicates]);
      // What is in the log is counted by the sink itself, ten times a second: at first it has not seen anything.
      if (stored + duplicates >= events && stats.conservation.in_flight === 0) break;
      if (performance.now() > untilMs) {
        faults.push(`only ${stored} of ${events} events were stored: ${stats.reasons.join('; ')}`);
        break;
      }
      await new Promise((resolve) => setTimeout(resolve, lookEveryMs));
    }
    const { stored, exact } = stats.conservation;
    if (!exact) faults.push('conservation is not exact');
    if (stored !== events) faults.push(`${events} events in the log, ${stored} rows`);
    const seconds = (performance.now() - startedMs) / 1000;
    const part = partOf({ rows: events, seconds, cpu_s: cpuSeconds(pid) - cpuBefore });
    drain = { ...part, peak_rss_mib: memoryUsage(pid).peak };
    await service.end('SIGTERM');
    for (const stage of drainStages) {
      const helper = new Helper<StageRequest, StageReply>('bench.drain_stages');
      const reply = await helper.ask({ stage, logPath, storePath: join(scratchDir, 'store'), blockRows });
      await helper.end();
      if (reply.rows !== events) faults.push(`${stage}: ${reply.rows} rows of ${events}`);
      stages[stage] = partOf(reply);
    }
  } finally {
    await endService(service);
    rmSync(scratchDir, { recursive: true, force: true });
  }
  const { read = nothing, encode = nothing, insert = nothing } = stages;
  return { drain, stages: { read, encode, insert }, progress, faults };
}

const nothing: Part = { rows_per_second: 0, cpu_us_per_row: 0, seconds: 0 };

function partOf({ rows, seconds, cpu_s }: StageReply): Part {
  return {
    rows_per_second: Math.round(rows / seconds),
    cpu_us_per_row: Math.round((cpu_s / rows) * 1e8) / 100,
    seconds: Math.round(seconds * 1000) / 1000,
  };
}

/** The latest past moment at this minute of an hour. */
function arrivalMs(minute: number): number {
  const nowMs = Date.now();
  const thisHourMs = Math.floor(nowMs / msPerHour) * msPerHour + minute * 60_000;
  return thisHourMs <= nowMs ? thisHourMs : thisHourMs - msPerHour;
}

function report(
  rounds: readonly Round[],
  method: string,
  machine: ReturnType<typeof describeMachine>,
  options: Options,
): void {
  const of = (pick: (round: Round) => Part) => ({
    rows_per_second: median(rounds.map((round) => pick(round).rows_per_second)),
    cpu_us_per_row: median(rounds.map((round) => pick(round).cpu_us_per_row)),
  });
  const medians = {
    drain: {
      ...of((round) => round.drain),
      peak_rss_mib: median(rounds.map((round) => round.drain.peak_rss_mib)),
    },
    read: of((round) => round.stages.read),
    encode: of((round) => round.stages.encode),
    insert: of((round) => round.stages.insert),
  };
  const rate = medians.drain.rows_per_second;
  const ratios = { 'drain / insert alone': ratio(rate, medians.insert.rows_per_second) };
  const labels: readonly (readonly [keyof typeof medians, string])[] = [
    ['drain', 'drain: ess --role sink, whole process'],
    ['read', '(a) read the log and walk its records'],
    ['encode', '(b) the same, identities and columns'],
    ['insert', '(c) insert ready blocks, 2 at a time'],
  ];
  print('');
  printTable(
    ['median', 'rows/s', 'CPU us/row'],
    labels.map(([name, label]) => [label, medians[name].rows_per_second, medians[name].cpu_us_per_row]),
  );
  const aims = [
    {
      what: 'rows/s of one sink thread',
      figure: rate,
      aim: '>= 200,000',
      isMet: rate === null ? null : rate >= 200_000,
    },
  ];
  const faults = rounds.flatMap((round) => round.faults);
  finish({ bench: 'drain', method, rounds, medians, ratios, aims, faults }, machine, options);
}

await runMain(main);
