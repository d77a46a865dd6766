// How many events a second ESS stores from NDJSON batches, beside the same rows inserted straight into chDB in the same
// run. This process starts the others and looks on; a sender process is the generator.

import { rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { EssProcess } from '../test/support/ess_process.ts';
import type { SendReply, SendRequest } from './batch_sender.ts';
import { type InsertMode, type InsertReply, type InsertRequest, insertModes } from './direct_insert.ts';
import { Helper } from './support/helper.ts';
import { describeMachine } from './support/machine.ts';
import { median, ratio } from './support/median.ts';
import { type BenchOptions, readOptions } from './support/options.ts';
import { cpuSeconds, memoryUsage, untilQuiet } from './support/process_usage.ts';
import { finish, print, printHead, printTable } from './support/report.ts';
import { runMain } from './support/run.ts';
import { endService, newDataDir, pidOf, startService, untilStored } from './support/service.ts';

const numbers = {
  events: {
    description: 'events of each round, for each side',
    default: 200_000,
    defaultSaved: 1_000_000,
    min: 1,
  },
  batchEvents: { description: 'events of one request', default: 1000, min: 1 },
  connections: { description: 'keep-alive connections of the sender', default: 6, min: 1 },
  blockRows: { description: "rows of one insert of the peer's", default: 100_000, min: 1 },
  rounds: { description: 'rounds; each runs both sides once', default: 3, min: 1 },
  settleSeconds: { description: 'longest wait for a quiet machine before each side', default: 10, min: 0 },
  drainSeconds: { description: 'longest wait until everything is stored', default: 300, min: 1 },
} as const;
type Options = BenchOptions<keyof typeof numbers>;

interface ServiceRound {
  readonly side: 'ess';
  readonly events_per_second: number;
  /** From the first byte sent to the last row readable. */
  readonly seconds: number;
  /** Until the last batch was answered: durable in the log. */
  readonly answered_s: number;
  readonly answer_p50_ms: number;
  readonly answer_p99_ms: number;
  readonly cpu_us_per_event: number;
  readonly sender_cpu_us_per_event: number;
  readonly peak_rss_mib: number;
  readonly faults: readonly string[];
}

interface DirectRound {
  readonly side: 'direct';
  readonly events_per_second: number;
  readonly seconds: number;
  readonly cpu_us_per_event: number;
  readonly peak_rss_mib: number;
  readonly faults: readonly string[];
}

/** Blocks inserted in each way to find out which way is the fastest here. */
const blocksTried = 4;

async function main(argv: readonly string[]): Promise<void> {
  const options = readOptions('npm run bench:batch -- [options]', numbers, argv, tmpdir());
  const { events, blockRows, rounds: roundsMax, settleSeconds } = options.numbers;
  const machine = describeMachine(options.dir);
  const method =
    `NDJSON batches to role all, until all rows are readable (a sender process of its own stamps prepared texts), ` +
    'beside JSONEachRow of the same rows into the same table of a chDB of its own, in the way that is fastest here ' +
    '(its text is made before the time runs)';
  printHead('batch', method, machine, options);

  const sender = new Helper<SendRequest, SendReply>('bench.batch_sender');
  const direct = new Helper<InsertRequest, InsertReply>('bench.direct_insert');
  const directDir = newDataDir(options);
  const rounds: (ServiceRound | DirectRound)[] = [];
  let service: EssProcess | null = null;
  let mode: InsertMode;
  try {
    await direct.ask({ type: 'open', path: join(directDir, 'store') });
    service = await startService('all', options);
    const pids = [pidOf(service), direct.pid];
    mode = await fastestMode(direct, Math.min(blockRows, Math.ceil(events / blocksTried)));
    print(
      `  the peer inserts ${mode.way === 'file' ? 'from a file' : 'inline'}, ${mode.concurrency} at a time`,
    );
    // The service's own warm-up, as the peer had one.
    await measureService(service, sender, 99, {
      ...options,
      numbers: { ...options.numbers, events: events / 4 },
    });
    for (let round = 0; round < roundsMax; round += 1) {
      for (const side of round % 2 === 0 ? ['ess', 'direct'] : ['direct', 'ess']) {
        await untilQuiet(pids, settleSeconds);
        const figures =
          side === 'ess'
            ? await measureService(service, sender, round, options)
            : await measureDirect(direct, round, mode, options);
        rounds.push(figures);
        print(`  round ${round + 1}, ${side}: ${figures.events_per_second} events/s`);
      }
    }
  } finally {
    if (service !== null) await endService(service);
    await Promise.all([sender.end(), direct.end()]);
    rmSync(directDir, { recursive: true, force: true });
  }
  report(rounds, mode, method, machine, options);
}

/** Tries every way with a few blocks: the peer is to be at its best. */
async function fastestMode(
  direct: Helper<InsertRequest, InsertReply>,
  blockRows: number,
): Promise<InsertMode> {
  let best: { readonly mode: InsertMode; readonly seconds: number } | null = null;
  // The first inserts of a process pay for what all later ones find ready.
  for (const [i, mode] of [...insertModes.slice(0, 2), ...insertModes].entries()) {
    const rows = blockRows * blocksTried;
    await direct.ask({ type: 'prepare', run: 80_000_000 + i, rows, blockRows, way: mode.way });
    const { seconds } = await direct.ask({ type: 'insert', concurrency: mode.concurrency });
    if (i >= 2 && (best === null || seconds < best.seconds)) best = { mode, seconds };
  }
  return best?.mode ?? { way: 'file', concurrency: 1 };
}

async function measureService(
  service: EssProcess,
  sender: Helper<SendRequest, SendReply>,
  round: number,
  options: Options,
): Promise<ServiceRound> {
  const { events, batchEvents, connections, drainSeconds } = options.numbers;
  const pid = pidOf(service);
  const faults: string[] = [];
  const storedBefore = (await untilStored(service, drainSeconds))?.conservation.stored ?? 0;
  const cpuBefore = cpuSeconds(pid);
  const startedMs = performance.now();
  const reply = await sender.ask({
    url: service.url,
    run: 10_000_000 + round,
    events,
    batchEvents,
    connections,
  });
  const stats = await untilStored(service, drainSeconds);
  const seconds = (performance.now() - startedMs) / 1000;
  const cpuS = cpuSeconds(pid) - cpuBefore;
  const stored = (stats?.conservation.stored ?? 0) - storedBefore;
  if (stats === null) faults.push(`not everything was stored within ${drainSeconds} s`);
  else if (!stats.conservation.exact) faults.push('conservation is not exact');
  if (stored !== reply.accepted) faults.push(`${reply.accepted} events accepted, ${stored} stored`);
  if (reply.accepted !== reply.sent) {
    faults.push(`${reply.sent} events sent, ${reply.accepted} accepted: ${JSON.stringify(reply.refusals)}`);
  }
  return {
    side: 'ess',
    events_per_second: Math.round(stored / seconds),
    seconds,
    answered_s: reply.seconds,
    answer_p50_ms: reply.answer_p50_ms,
    answer_p99_ms: reply.answer_p99_ms,
    cpu_us_per_event: (cpuS / stored) * 1e6,
    sender_cpu_us_per_event: (reply.cpu_s / reply.sent) * 1e6,
    peak_rss_mib: memoryUsage(pid).peak,
    faults,
  };
}

async function measureDirect(
  direct: Helper<InsertRequest, InsertReply>,
  round: number,
  mode: InsertMode,
  options: Options,
): Promise<DirectRound> {
  const { events, blockRows, settleSeconds } = options.numbers;
  await direct.ask({ type: 'prepare', run: 10_000_000 + round, rows: events, blockRows, way: mode.way });
  await untilQuiet([direct.pid], settleSeconds);
  const before = await direct.ask({ type: 'count' });
  const { seconds, cpu_s, rows } = await direct.ask({ type: 'insert', concurrency: mode.concurrency });
  const added = (await direct.ask({ type: 'count' })).rows - before.rows;
  return {
    side: 'direct',
    events_per_second: Math.round(rows / seconds),
    seconds,
    cpu_us_per_event: (cpu_s / rows) * 1e6,
    peak_rss_mib: memoryUsage(direct.pid).peak,
    faults: added === rows ? [] : [`the peer inserted ${rows} rows, the table has ${added} more`],
  };
}

function report(
  rounds: readonly (ServiceRound | DirectRound)[],
  mode: InsertMode,
  method: string,
  machine: ReturnType<typeof describeMachine>,
  options: Options,
): void {
  const ess = rounds.filter((round) => round.side === 'ess');
  const direct = rounds.filter((round) => round.side === 'direct');
  const essRate = median(ess.map((round) => round.events_per_second));
  const directRate = median(direct.map((round) => round.events_per_second));
  const answeredRate = median(ess.map((round) => options.numbers.events / round.answered_s));
  const medians = {
    ess: {
      events_per_second: essRate,
      answered_per_second: answeredRate,
      cpu_us_per_event: median(ess.map((round) => round.cpu_us_per_event)),
      sender_cpu_us_per_event: median(ess.map((round) => round.sender_cpu_us_per_event)),
      answer_p50_ms: median(ess.map((round) => round.answer_p50_ms)),
      answer_p99_ms: median(ess.map((round) => round.answer_p99_ms)),
      peak_rss_mib: median(ess.map((round) => round.peak_rss_mib)),
    },
    direct: {
      ...mode,
      events_per_second: directRate,
      cpu_us_per_event: median(direct.map((round) => round.cpu_us_per_event)),
      peak_rss_mib: median(direct.map((round) => round.peak_rss_mib)),
    },
  };
  const ratios = { 'ess / direct': ratio(essRate, directRate) };
  print('');
  printTable(
    ['median', 'events/s', 'to direct', 'CPU us/event', 'sender us', 'p50 ms', 'p99 ms', 'peak MiB'],
    [
      [
        'ess, stored',
        essRate,
        ratios['ess / direct'],
        medians.ess.cpu_us_per_event,
        medians.ess.sender_cpu_us_per_event,
        medians.ess.answer_p50_ms,
        medians.ess.answer_p99_ms,
        medians.ess.peak_rss_mib,
      ],
      ['ess, answered', answeredRate, ratio(answeredRate, directRate), null, null, null, null, null],
      [
        'direct',
        directRate,
        1,
        medians.direct.cpu_us_per_event,
        null,
        null,
        null,
        medians.direct.peak_rss_mib,
      ],
    ],
  );
  const figure = ratios['ess / direct'];
  const aims = [
    { what: 'ess / direct', figure, aim: '>= 0.8', isMet: figure === null ? null : figure >= 0.8 },
  ];
  const faults = rounds.flatMap((round) => round.faults);
  finish({ bench: 'batch', method, rounds, medians, ratios, aims, faults }, machine, options);
}

await runMain(main);
