// `ess verify` on log and store themselves: Kafka and ClickHouse nodes, or the files of a data directory that no process
// holds. Makes and changes nothing, unless it is told to write losses down. Runs on the main thread of the command's process.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { clickhouseNodes } from '../../config/clickhouse.ts';
import { kafkaTarget } from '../../config/kafka.ts';
import type { Config } from '../../config/options.ts';
import { EssError } from '../../errors.ts';
import { type LogTarget, openAppender } from '../../log/open.ts';
import { openRecords, type RecordReader } from '../../log/records.ts';
import type { Store } from '../../store/store.ts';
import { StoreError } from '../../store/store.ts';
import { acceptLosses } from '../../verify/acceptance.ts';
import { leaderlessPartitions } from '../../verify/leaderless.ts';
import { type VerifyLog, type VerifyReport, verify } from '../../verify/verify.ts';

export interface DirectParts {
  readonly config: Config;
  readonly isDeep: boolean;
  /** Losses that were found are written into the ledger, and the report is that of the proof after it. */
  readonly isAccepting: boolean;
  readonly signal: AbortSignal;
  readonly onProgress: (done: number, total: number) => void;
}

/** The embedded store does not open, most likely because a process holds it, which has to be asked instead. */
export interface Held {
  readonly held: string;
}

/** Rejects as `verify`, and with `bad_option` where there is nothing to look at. */
export async function verifyDirectly(parts: DirectParts): Promise<VerifyReport | Held> {
  const { config, isDeep, isAccepting, signal, onProgress } = parts;
  // Files of passwords and certificates first: their faults are faults of the command line.
  const kafka = kafkaTarget(config);
  const nodes = clickhouseNodes(config);
  const isHere = (part: string): boolean => existsSync(join(config.dataDir, part));
  for (const [part, isNeeded] of [['log', kafka === null] as const, ['store', nodes === null] as const]) {
    if (!isNeeded || isHere(part)) continue;
    const text = `--data-dir: there is no ${part} in ${config.dataDir}; name the data directory, the nodes, or --url`;
    throw new EssError('bad_option', text);
  }
  const stores =
    nodes === null ? await openEmbedded(join(config.dataDir, 'store')) : await openNodes(config, nodes);
  if ('held' in stores) return stores;
  try {
    const target: LogTarget = kafka ?? {
      kind: 'embedded',
      path: join(config.dataDir, 'log'),
      partitions: config.partitions,
      bytesMax: config.logBytesMax,
      retentionMs: config.logRetentionMs,
      retentionBytes: config.logRetentionBytes,
    };
    const log = await openLog(target);
    try {
      const { retryWindowMs } = config;
      const leaderless = (): Promise<ReadonlySet<number>> => leaderlessPartitions(target);
      const records = (): Promise<RecordReader> => openRecords(target);
      const prove = (): Promise<VerifyReport> =>
        verify({
          log,
          stores,
          isDeep,
          retryWindowMs,
          signal,
          onProgress,
          leaderless,
          openRecords: records,
        });
      let report = await prove();
      // A report names so many findings at most, and what a halted partition lacks may have grown meanwhile.
      while (isAccepting && (await acceptLosses(log, stores, report)) > 0) report = await prove();
      return report;
    } finally {
      await log.close();
    }
  } finally {
    for (const store of stores) await store.close();
  }
}

async function openLog(target: LogTarget): Promise<VerifyLog & { close(): Promise<void> }> {
  if (target.kind !== 'embedded') return openAppender(target);
  const { openEmbeddedReader } = await import('../../log/embedded/open.ts');
  return openEmbeddedReader(target);
}

async function openNodes(
  config: Config,
  nodes: NonNullable<ReturnType<typeof clickhouseNodes>>,
): Promise<Store[]> {
  const { openShard } = await import('../../store/shard_store.ts');
  const { length: shards } = nodes;
  const requestTimeoutMs = config.clickhouseRequestTimeoutMs;
  return Promise.all(
    nodes.map((replicas, shard) =>
      openShard(
        replicas.map(({ url, user, password, database, tlsCa, compression }) => ({
          kind: 'http' as const,
          url,
          user,
          password,
          database,
          tls: tlsCa === '' ? null : { ca: tlsCa },
          isCompressed: compression === 'gzip',
        })),
        // Tables are looked at by what writes them: a replica that is missing one says so.
        { shard, shards, preferred: 0, requestTimeoutMs, check: async () => {} },
      ),
    ),
  );
}

async function openEmbedded(path: string): Promise<Store[] | Held> {
  const { pinEmbeddedEngine } = await import('../../store/chdb_engine.ts');
  const { openStore } = await import('../../store/client.ts');
  await pinEmbeddedEngine();
  try {
    return [await openStore({ kind: 'embedded', path })];
  } catch (error) {
    if (error instanceof StoreError) return { held: error.message };
    throw error;
  }
}
