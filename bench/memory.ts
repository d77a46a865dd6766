// How much memory role ingest and role all take: after many events, and with many open connections.

import { tmpdir } from 'node:os';
import type { EssProcess } from '../test/support/ess_process.ts';
import type { SendReply, SendRequest } from './batch_sender.ts';
import { Connection, postHead } from './support/connection.ts';
import { EventBatch } from './support/event_batch.ts';
import { Helper } from './support/helper.ts';
import { describeMachine } from './support/machine.ts';
import { type BenchOptions, readOptions } from './support/options.ts';
import { type MemoryUsage, memoryUsage, untilQuiet } from './support/process_usage.ts';
import { finish, print, printHead, printTable } from './support/report.ts';
import { runMain } from './support/run.ts';
import { endService, pidOf, startService, untilStored } from './support/service.ts';

const numbers = {
  events: { description: 'events sent to each role', default: 200_000, defaultSaved: 5_000_000, min: 1 },
  batchEvents: { description: 'events of one request', default: 1000, min: 1 },
  senders: { description: 'connections that send the batches', default: 6, min: 1 },
  connections: { description: 'open keep-alive connections', default: 3500, min: 1 },
  requests: { description: 'single events that each of them sends', default: 10, min: 0 },
  settleSeconds: {
    description: 'longest wait for a quiet process before it is measured',
    default: 10,
    min: 0,
  },
  drainSeconds: { description: 'longest wait until everything is stored', default: 600, min: 1 },
} as const;
type Options = BenchOptions<keyof typeof numbers>;

const roles = ['ingest', 'all'] as const;
type Role = (typeof roles)[number];
const aimsMib: Readonly<Record<Role, number>> = { ingest: 250, all: 1229 };

interface Round {
  readonly role: Role;
  readonly started: MemoryUsage;
  /** When the last batch had been answered, and stored where the role stores. */
  readonly after_events: MemoryUsage;
  /** While all connections are open, and after each has sent its requests. */
  readonly with_connections: MemoryUsage;
  readonly closed: MemoryUsage;
  readonly events_per_second: number;
  readonly faults: readonly string[];
}

async function main(argv: readonly string[]): Promise<void> {
  const options = readOptions('npm run bench:memory -- [options]', numbers, argv, tmpdir());
  const machine = describeMachine(options.dir);
  const method =
    'each role alone in a new data directory: NDJSON batches, then open connections that send single events; ' +
    'memory from /proc/PID/status and smaps_rollup, MiB';
  printHead('memory', method, machine, options);
  const rounds: Round[] = [];
  for (const role of roles) rounds.push(await measure(role, options));
  report(rounds, method, machine, options);
}

async function measure(role: Role, options: Options): Promise<Round> {
  const { events, batchEvents, senders, connections, requests, settleSeconds, drainSeconds } =
    options.numbers;
  const faults: string[] = [];
  const sender = new Helper<SendRequest, SendReply>('bench.batch_sender');
  const service = await startService(role, options);
  const pid = pidOf(service);
  const settled = async (): Promise<MemoryUsage> => {
    if (role === 'all' && (await untilStored(service, drainSeconds)) === null) {
      faults.push(`role ${role}: not everything was stored within ${drainSeconds} s`);
    }
    await untilQuiet([pid], settleSeconds);
    return memoryUsage(pid);
  };
  try {
    const started = await settled();
    const sent = await sender.ask({
      url: service.url,
      run: 30_000_000,
      events,
      batchEvents,
      connections: senders,
    });
    if (sent.accepted !== sent.sent) {
      faults.push(
        `role ${role}: ${sent.sent} sent, ${sent.accepted} accepted: ${JSON.stringify(sent.refusals)}`,
      );
    }
    const afterEvents = await settled();
    print(`  role ${role}: ${sent.accepted} events answered in ${sent.seconds.toFixed(1)} s`);
    const opened = await open(service, connections);
    const refused = await sendSingles(service, opened, requests);
    if (refused > 0) faults.push(`role ${role}: ${refused} single events were not answered 200`);
    const withConnections = await settled();
    for (const connection of opened) connection.close();
    return {
      role,
      started,
      after_events: afterEvents,
      with_connections: withConnections,
      closed: await settled(),
      events_per_second: Math.round(sent.accepted / sent.seconds),
      faults,
    };
  } finally {
    await endService(service);
    await sender.end();
  }
}

/** Connections opened at once: fewer than the backlog of a listening socket. */
const openingMax = 100;

async function open(service: EssProcess, count: number): Promise<Connection[]> {
  const opened: Connection[] = [];
  while (opened.length < count) {
    const more = Math.min(openingMax, count - opened.length);
    opened.push(...(await Promise.all(Array.from({ length: more }, () => Connection.open(service.url)))));
  }
  return opened;
}

/** Every connection sends its requests one after the other, all connections at the same time; gives how many failed. */
async function sendSingles(
  service: EssProcess,
  connections: readonly Connection[],
  requests: number,
): Promise<number> {
  const { host } = new URL(service.url);
  let refused = 0;
  let sent = 0;
  await Promise.all(
    connections.map(async (connection) => {
      const event = new EventBatch(1, 31_000_000);
      const body = event.bytes.subarray(0, event.lineEnd(0));
      const head = postHead(host, '', 'application/json', body.length);
      for (let i = 0; i < requests; i += 1) {
        event.stamp(sent);
        sent += 1;
        const { status } = await connection.send(head, body);
        if (status !== 200) refused += 1;
      }
    }),
  );
  return refused;
}

function report(
  rounds: readonly Round[],
  method: string,
  machine: ReturnType<typeof describeMachine>,
  options: Options,
): void {
  print('');
  printTable(
    ['MiB', 'RSS', 'anonymous', 'file', 'shared', 'PSS', 'peak RSS'],
    rounds.flatMap(({ role, started, after_events, with_connections, closed }) =>
      (
        [
          ['started', started],
          ['after the events', after_events],
          ['connections open', with_connections],
          ['closed again', closed],
        ] as const
      ).map(([when, { rss, anonymous, file, shared, pss, peak }]) => [
        `role ${role}, ${when}`,
        rss,
        anonymous,
        file,
        shared,
        pss,
        peak,
      ]),
    ),
  );
  const aims = rounds.map(({ role, with_connections: { peak } }) => ({
    what: `role ${role}, peak RSS with all connections open, MiB`,
    figure: peak,
    aim: `< ${aimsMib[role]}`,
    isMet: peak < aimsMib[role],
  }));
  const medians = Object.fromEntries(
    rounds.map(({ role, started, after_events, with_connections }) => [
      role,
      {
        started_rss: started.rss,
        after_events_rss: after_events.rss,
        with_connections_rss: with_connections.rss,
        peak_rss: with_connections.peak,
      },
    ]),
  );
  const faults = rounds.flatMap((round) => round.faults);
  finish({ bench: 'memory', method, rounds, medians, ratios: {}, aims, faults }, machine, options);
}

await runMain(main);
