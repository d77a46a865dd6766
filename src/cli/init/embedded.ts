// The embedded part of `ess init`: the log and the store in the data directory, made where they are missing. Only one
// process can have the store open, so a running service answers for its own. Runs on the main thread.

import { existsSync } from 'node:fs';
import { shardCount } from '../../config/clickhouse.ts';
import type { Config } from '../../config/options.ts';
import { EssError } from '../../errors.ts';
import { openEmbeddedAppender } from '../../log/embedded/open.ts';
import { pinEmbeddedEngine } from '../../store/chdb_engine.ts';
import { openStore } from '../../store/client.ts';
import { addMissingColumns } from '../../store/migrate.ts';
import { ensureLayout } from '../../store/shard_layout.ts';
import { reasonOf } from './patience.ts';
import { type Finding, type Step, stepOf } from './step.ts';
import { type Mode, settleTables } from './tables.ts';

/** Makes the embedded log or opens the one that is there. */
export async function settleEmbeddedLog(path: string, config: Config): Promise<Step> {
  const part = `embedded log ${path}`;
  const isThere = existsSync(path);
  return unlessBusy(part, async () => {
    const log = await openEmbeddedAppender({
      path,
      partitions: config.partitions,
      bytesMax: config.logBytesMax,
      retentionMs: config.logRetentionMs,
      retentionBytes: config.logRetentionBytes,
    });
    const { partitions } = log;
    await log.close();
    const findings: Finding[] = [];
    const shards = shardCount(config);
    if (partitions % shards !== 0) {
      findings.push({
        what: 'partitions',
        found: `${partitions}`,
        wanted: `a multiple of the ${shards} shards`,
        breaks: 'exactly once: a partition has to stay on its shard',
        mend: 'another --data-dir, once everything in this log is stored',
      });
    }
    return stepOf(part, findings, isThere ? 'as_wanted' : 'made', `${partitions} partitions`);
  });
}

/** Makes the embedded store and its tables, or opens and compares those that are there. */
export async function settleEmbeddedStore(path: string, mode: Mode): Promise<Step> {
  const part = `embedded store ${path}`;
  return unlessBusy(part, async () => {
    await pinEmbeddedEngine();
    const store = await openStore({ kind: 'embedded', path });
    try {
      await addMissingColumns(store);
      const { made, changed, findings } = await settleTables(store, 'plain', mode);
      // A store in a data directory is all the shards that there are. It refuses what says otherwise.
      if (mode !== 'check' && findings.length === 0) await ensureLayout(store, { shard: 0, shards: 1 });
      const otherwise = changed.length > 0 ? 'changed' : made.length > 0 ? 'made' : 'as_wanted';
      return stepOf(part, findings, otherwise, [...made, ...changed].join(', '));
    } finally {
      await store.close();
    }
  });
}

async function unlessBusy(part: string, work: () => Promise<Step>): Promise<Step> {
  try {
    return await work();
  } catch (error) {
    // A newer format or a missing engine is no matter of waiting: it ends the command with its own advice.
    if (error instanceof EssError && !error.canRetry) throw error;
    const detail = `does not open; is an ess running on it? ${reasonOf(error)}`;
    return { part, state: 'unreachable', detail, findings: [] };
  }
}
