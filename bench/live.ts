// What the live page costs the main thread: its CPU time with no viewer, one and ten, while idle and under a steady load
// of single events, in one run. The page must cost nothing when nobody looks.

import { tmpdir } from 'node:os';
import type { EssProcess } from '../test/support/ess_process.ts';
import { LiveViewer } from '../test/support/live_viewer.ts';
import { Connection, postHead } from './support/connection.ts';
import { describeMachine, type Machine } from './support/machine.ts';
import { median } from './support/median.ts';
import { type BenchOptions, readOptions } from './support/options.ts';
import { mainThreadSeconds, untilQuiet } from './support/process_usage.ts';
import { finish, print, printHead, printTable } from './support/report.ts';
import { runMain } from './support/run.ts';
import { endService, pidOf, startService, untilStored } from './support/service.ts';

const numbers = {
  seconds: { description: 'seconds of each measurement', default: 5, defaultSaved: 20, min: 1 },
  rounds: { description: 'rounds; each measures everything once', default: 1, defaultSaved: 5, min: 1 },
  viewers: { description: 'most viewers', default: 10, min: 1 },
  rate: { description: 'single events a second under load', default: 200, defaultSaved: 1000, min: 1 },
  connections: { description: 'connections that send them', default: 8, min: 1 },
  partitions: { description: 'partitions of the log', default: 12, min: 1 },
  settleSeconds: { description: 'longest wait for a quiet machine before', default: 10, min: 0 },
  drainSeconds: { description: 'longest wait until everything is stored', default: 120, min: 1 },
} as const;
type Options = BenchOptions<keyof typeof numbers>;

interface Round {
  readonly load: 'idle' | 'loaded';
  readonly viewers: number;
  /** CPU time of the main thread as a share of the time that passed, percent. */
  readonly main_cpu_percent: number;
  /** Share of the time in which its event loop was busy, percent, as /metrics tells it. */
  readonly main_loop_percent: number;
  readonly snapshots: number;
  readonly snapshot_bytes: number | null;
  readonly answered: number;
  readonly faults: readonly string[];
}

async function main(argv: readonly string[]): Promise<void> {
  const options = readOptions('npm run bench:live -- [options]', numbers, argv, tmpdir());
  const machine = describeMachine(options.dir);
  const method =
    'one ess --role all in a new data directory, viewers of /live and a steady load from this process; CPU time of its ' +
    'main thread from /proc/PID/schedstat, so that the load on other threads does not count';
  printHead('live', method, machine, options);
  const { rounds: roundsMax, viewers, partitions } = options.numbers;
  const service = await startService('all', options, { partitions });
  const rounds: Round[] = [];
  try {
    for (let round = 0; round < roundsMax; round += 1) {
      for (const load of ['idle', 'loaded'] as const) {
        const counts = [...new Set([0, 1, viewers])];
        // Another one goes first in each round, so that none always follows the same one.
        for (let i = 0; i < counts.length; i += 1) {
          const count = counts[(round + i) % counts.length] ?? 0;
          const figures = await measure(service, load, count, options);
          rounds.push(figures);
          print(
            `  round ${round + 1}, ${load}, ${count} viewers: ${figures.main_cpu_percent} % of the main thread, ` +
              `${figures.snapshots} snapshots`,
          );
        }
      }
    }
  } finally {
    await endService(service);
  }
  report(rounds, method, machine, options);
}

async function measure(
  service: EssProcess,
  load: Round['load'],
  count: number,
  options: Options,
): Promise<Round> {
  const { seconds, rate, connections, settleSeconds, drainSeconds } = options.numbers;
  const pid = pidOf(service);
  const faults: string[] = [];
  await untilStored(service, drainSeconds);
  await untilQuiet([pid], settleSeconds);
  const viewers = await Promise.all(Array.from({ length: count }, () => LiveViewer.open(service.url)));
  const sender = load === 'loaded' ? new SteadyLoad(service.url, rate, connections) : null;
  await sender?.start();
  // The first snapshots have to find out about nodes and disks; they are not what a page costs that stays open.
  await new Promise((resolve) => setTimeout(resolve, 1000));
  for (const viewer of viewers) {
    await viewer.until(() => true);
    viewer.forget();
  }
  await mainLoopPercent(service);
  const snapshotsBefore = await snapshotsOf(service);
  const cpuBefore = mainThreadSeconds(pid);
  const startedMs = performance.now();
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  const cpuS = mainThreadSeconds(pid) - cpuBefore;
  const elapsedS = (performance.now() - startedMs) / 1000;
  const snapshots = (await snapshotsOf(service)) - snapshotsBefore;
  const loopPercent = await mainLoopPercent(service);
  const answered = (await sender?.stop()) ?? 0;
  const sizes = viewers.flatMap((viewer) => viewer.snapshots.map((each) => JSON.stringify(each).length));
  for (const viewer of viewers) {
    if (viewer.closeCode !== null) faults.push(`a viewer was closed with ${viewer.closeCode}`);
    viewer.drop();
  }
  if (count === 0 && snapshots > 0) faults.push(`${snapshots} snapshots were made for nobody`);
  if (count > 0 && snapshots === 0) faults.push('no snapshot was made');
  if (snapshots > elapsedS + 2) faults.push(`${snapshots} snapshots in ${Math.round(elapsedS)} s`);
  return {
    load,
    viewers: count,
    main_cpu_percent: percent(cpuS / elapsedS),
    main_loop_percent: loopPercent,
    snapshots,
    snapshot_bytes: median(sizes),
    answered,
    faults,
  };
}

async function snapshotsOf(service: EssProcess): Promise<number> {
  const { counters } = await service.getJson<{ readonly counters: Readonly<Record<string, number>> }>(
    '/stats?window=10s',
  );
  return counters['live_snapshots'] ?? 0;
}

/** Of the time since it was last asked. */
async function mainLoopPercent(service: EssProcess): Promise<number> {
  const text = await (await fetch(`${service.url}/metrics`)).text();
  return percent(Number(/^ess_event_loop_utilization\{thread="main"\} (\S+)$/m.exec(text)?.[1]));
}

function percent(share: number): number {
  return Math.round(share * 100_000) / 1000;
}

/** Sends single events at a steady rate, whether they are answered in time or not: less would flatter the viewers. */
class SteadyLoad {
  readonly #url: string;
  readonly #rate: number;
  readonly #connectionsMax: number;
  readonly #free: Connection[] = [];
  readonly #open = new Set<Connection>();
  #timer: NodeJS.Timeout | undefined;
  #sent = 0;
  #answered = 0;

  constructor(url: string, rate: number, connections: number) {
    this.#url = url;
    this.#rate = rate;
    this.#connectionsMax = connections;
  }

  async start(): Promise<void> {
    for (let i = 0; i < this.#connectionsMax; i += 1) {
      const connection = await Connection.open(this.#url);
      this.#free.push(connection);
      this.#open.add(connection);
    }
    const startedMs = performance.now();
    this.#timer = setInterval(() => {
      const due = Math.floor(((performance.now() - startedMs) / 1000) * this.#rate);
      while (this.#sent < due) {
        const connection = this.#free.pop();
        if (connection === undefined) return;
        void this.#send(connection);
      }
    }, 5);
  }

  /** Gives the number of events that were answered 200. */
  async stop(): Promise<number> {
    clearInterval(this.#timer);
    while (this.#free.length < this.#open.size) await new Promise((resolve) => setTimeout(resolve, 5));
    for (const connection of this.#open) connection.close();
    return this.#answered;
  }

  async #send(connection: Connection): Promise<void> {
    this.#sent += 1;
    const body = Buffer.from(`{"type":"bench","source":"live","data":{"number":${this.#sent}}}`);
    const head = postHead(new URL(this.#url).host, '', 'application/json', body.length);
    const { status } = await connection.send(head, body);
    if (status === 200) this.#answered += 1;
    this.#free.push(connection);
  }
}

const aimPercent = 2;

function report(rounds: readonly Round[], method: string, machine: Machine, options: Options): void {
  const { viewers: most } = options.numbers;
  const of = (load: Round['load'], viewers: number, figure: (round: Round) => number | null): number | null =>
    median(
      rounds
        .filter((round) => round.load === load && round.viewers === viewers)
        .map(figure)
        .filter((value) => value !== null),
    );
  const cpu = (round: Round): number => round.main_cpu_percent;
  const medians = Object.fromEntries(
    (['idle', 'loaded'] as const).flatMap((load) =>
      [...new Set([0, 1, most])].map((viewers) => [
        `${load}, ${viewers} viewers`,
        {
          main_cpu_percent: of(load, viewers, cpu),
          main_loop_percent: of(load, viewers, (round) => round.main_loop_percent),
          snapshot_bytes: of(load, viewers, (round) => round.snapshot_bytes),
        },
      ]),
    ),
  );
  print('');
  printTable(
    ['median', 'main CPU %', 'main loop %', 'snapshot B'],
    Object.entries(medians).map(([name, figures]) => [
      name,
      figures.main_cpu_percent,
      figures.main_loop_percent,
      figures.snapshot_bytes,
    ]),
  );
  const aims = (['idle', 'loaded'] as const).map((load) => {
    const without = of(load, 0, cpu);
    const withMost = of(load, most, cpu);
    const figure = without === null || withMost === null ? null : withMost - without;
    return {
      what: `main thread, ${load}: ${most} viewers more than none, percentage points`,
      figure,
      aim: `< ${aimPercent}`,
      isMet: figure === null ? null : figure < aimPercent,
    };
  });
  const faults = rounds.flatMap((round) => round.faults);
  finish({ bench: 'live', method, rounds, medians, ratios: {}, aims, faults }, machine, options);
}

await runMain(main);
