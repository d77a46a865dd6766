// The servers that bench:peers loads, each of which writes one Kafka record for a POST and answers when all in-sync
// replicas have it. A server is started for one load and ended after it, so that its memory is that load's.

import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import type { StatsJson } from '../../test/support/ess_process.ts';
import type { BenchKafka } from '../support/kafka.ts';
import { runInit } from '../support/kafka.ts';
import type { BenchOptions } from '../support/options.ts';
import { processTree } from '../support/process_usage.ts';
import { freePort, Program } from '../support/program.ts';
import { endService, pidOf, startService } from '../support/service.ts';

export interface RunningServer {
  /** http://127.0.0.1:port */
  readonly url: string;
  /** Every process of it. */
  readonly pids: readonly number[];
  /** Requests that it has refused so far, by its own error codes; empty where it does not tell. */
  refusals(): Promise<ReadonlyMap<string, number>>;
  end(): Promise<void>;
}

/** Where a server writes. */
export interface Destination {
  readonly kafka: BenchKafka;
  readonly topic: string;
  readonly partitions: number;
}

export const serverNames = [
  'ESS',
  'FastAPI, 1 worker',
  'FastAPI, 2 workers',
  'Benthos',
  'Benthos, 5 ms batches',
] as const;
export type ServerName = (typeof serverNames)[number];

/** scripts/tools.mjs puts them there. */
export const peersPython = resolve('.cache/tools/peers-python/bin/python');
const benthos = resolve('.cache/tools/usr/bin/benthos');
const peersFolder = resolve('bench/peers');

/** What a server lacks to be started here, and how to get it; null if nothing. */
export function serverMissing(name: ServerName): string | null {
  if (name.startsWith('FastAPI') && !existsSync(peersPython))
    return 'its Python packages are missing: node scripts/tools.mjs peers-python';
  if (name.startsWith('Benthos') && !existsSync(benthos))
    return 'it is not built: node scripts/tools.mjs benthos';
  return null;
}

/** Starts the server with a topic of its own, and waits until it answers. */
export async function startServer(
  name: ServerName,
  destination: Destination,
  options: BenchOptions<string>,
): Promise<RunningServer> {
  const { kafka, topic, partitions } = destination;
  if (name === 'ESS') return startEss(destination, options);
  await kafka.createTopic(topic, partitions);
  switch (name) {
    case 'FastAPI, 1 worker':
      return startFastApi(destination, 1);
    case 'FastAPI, 2 workers':
      return startFastApi(destination, 2);
    case 'Benthos':
      return startBenthos(destination, {});
    case 'Benthos, 5 ms batches':
      return startBenthos(destination, { BATCH_COUNT: '512', BATCH_PERIOD: '5ms' });
  }
}

async function startEss(destination: Destination, options: BenchOptions<string>): Promise<RunningServer> {
  const { kafka, topic, partitions } = destination;
  const flags = kafka.flags(topic, partitions);
  await runInit({ ...flags, role: 'ingest' });
  const service = await startService('ingest', options, flags);
  return {
    url: service.url,
    pids: processTree(pidOf(service)),
    refusals: async () => refusalsIn((await service.getJson<StatsJson>('/stats')).counters),
    end: () => endService(service),
  };
}

const refusalPrefix = 'requests_rejected_';

function refusalsIn(counters: StatsJson['counters']): ReadonlyMap<string, number> {
  return new Map(
    Object.entries(counters)
      .filter(([name]) => name.startsWith(refusalPrefix))
      .map(([name, count]) => [name.slice(refusalPrefix.length), count]),
  );
}

async function startFastApi({ kafka, topic }: Destination, workers: number): Promise<RunningServer> {
  const port = await freePort();
  const server = new Program({
    file: peersPython,
    argv: [
      ...['-m', 'uvicorn', 'app:app', '--host', '127.0.0.1', '--port', String(port)],
      ...['--workers', String(workers), '--loop', 'uvloop', '--http', 'httptools', '--no-access-log'],
      // As many as ESS lets wait, and as the kernel allows here by default.
      ...['--backlog', '4096'],
    ],
    env: { KAFKA: kafka.brokers, TOPIC: topic, PYTHONDONTWRITEBYTECODE: '1' },
    cwd: peersFolder,
  });
  const isUp = (): true | null =>
    server.output.split('Application startup complete').length > workers ? true : null;
  return started(server, port, () => server.until(isUp));
}

async function startBenthos(
  { kafka, topic }: Destination,
  env: Readonly<Record<string, string>>,
): Promise<RunningServer> {
  const port = await freePort();
  const server = new Program({
    file: benthos,
    argv: ['-c', resolve(peersFolder, 'benthos/benthos.yaml')],
    env: { ADDRESS: `127.0.0.1:${port}`, KAFKA: kafka.brokers, TOPIC: topic, ...env },
  });
  return started(server, port, async () => {});
}

async function started(server: Program, port: number, isUp: () => Promise<unknown>): Promise<RunningServer> {
  const url = `http://127.0.0.1:${port}`;
  try {
    await isUp();
    await server.untilAnswers(`${url}/events/`);
  } catch (error) {
    await server.end();
    throw error;
  }
  return { url, pids: server.pids, refusals: async () => new Map(), end: () => server.end() };
}
