// `ess init` and the start of a role against what nodes have recorded of their shards. Invariant: nothing that would make
// a partition be looked for on another shard is recorded or started, and what is recorded is never changed.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { after, before, describe, test } from 'node:test';
import type { Finding, Step } from '../../src/cli/init/step.ts';
import { checkDependencies, refusalOf, runInit } from '../../src/cli/init.ts';
import { loadConfig } from '../../src/config/load.ts';
import { openDataDir } from '../../src/engine/data_dir.ts';
import { openStore } from '../../src/store/client.ts';
import { type LayoutVersion, readLayouts, recordLayouts } from '../../src/store/shard_layout.ts';
import type { Store } from '../../src/store/store.ts';
import { ClickHouseNode } from '../support/clickhouse_node.ts';
import { EssProcess } from '../support/ess_process.ts';

const part = 'clickhouse layout';

class Sink extends Writable {
  text = '';
  override _write(chunk: Buffer, _encoding: string, callback: () => void): void {
    this.text += chunk.toString();
    callback();
  }
}

describe('the layout of the shards', () => {
  const folder = mkdtempSync(join(tmpdir(), 'ess-init-layout-'));
  let nodes: ClickHouseNode[] = [];
  before(async () => {
    nodes = await Promise.all([0, 1, 2].map(() => ClickHouseNode.start()));
  });
  after(async () => {
    await Promise.all(nodes.map((node) => node.dispose()));
    rmSync(folder, { recursive: true, force: true });
  });

  const nodeOf = (index: number): ClickHouseNode => {
    const node = nodes[index];
    assert.ok(node !== undefined);
    return node;
  };
  /** Options for these nodes as shards, in this order. */
  const argvOf = (database: string, order: readonly number[]): string[] => {
    const urls = order.map((index) => nodeOf(index).urls[0]).join(';');
    const dataDir = join(folder, database);
    return [
      '--data-dir',
      dataDir,
      '--clickhouse',
      urls,
      '--clickhouse-database',
      database,
      '--partitions',
      '12',
    ];
  };
  /** Runs `ess init` with --json; gives the step about the layout. */
  async function layoutStep(
    database: string,
    order: readonly number[],
    ...more: string[]
  ): Promise<{ code: number; step: Step }> {
    const [stdout, stderr] = [new Sink(), new Sink()];
    const argv = ['--wait-ms', '20000', '--json', ...argvOf(database, order), ...more];
    const code = await runInit(argv, { env: {}, cores: 2, stdout, stderr, openDataDir });
    const answer: { readonly steps: readonly Step[] } = JSON.parse(stdout.text);
    const step = answer.steps.find((candidate) => candidate.part === part);
    assert.ok(step !== undefined, stdout.text);
    return { code, step };
  }
  const onStore = async <T>(
    index: number,
    database: string,
    work: (store: Store) => Promise<T>,
  ): Promise<T> => {
    const [target] = nodeOf(index).targets(database);
    assert.ok(target !== undefined);
    const store = await openStore(target);
    try {
      return await work(store);
    } finally {
      await store.close();
    }
  };
  /** "version:shard/shards" of every version that a node has. */
  const recorded = (index: number, database: string): Promise<string[]> =>
    onStore(index, database, async (store) =>
      (await readLayouts(store)).map(
        ({ version, shard, shards }: LayoutVersion) => `${version}:${shard}/${shards}`,
      ),
    );
  const execute = (index: number, database: string, statement: string): Promise<void> =>
    onStore(index, database, (store) => store.command(statement));
  /** Why a role does not start. */
  const refusal = async (
    database: string,
    order: readonly number[],
    role = 'all',
  ): Promise<string | null> => {
    const config = loadConfig([...argvOf(database, order), '--role', role], {}, 2);
    return refusalOf(await checkDependencies(config))?.message ?? null;
  };
  const findingOf = ({ findings }: Step, index: number): Finding => {
    const host = new URL(nodeOf(index).urls[0] ?? '').host;
    const found = findings.find(({ what }) => what === `layout of ${host}`);
    assert.ok(found !== undefined, JSON.stringify(findings));
    return found;
  };

  test('the first layout is recorded on every node, once', async () => {
    assert.match((await refusal('first', [0, 1])) ?? '', /ess init/);
    const { code, step } = await layoutStep('first', [0, 1]);
    assert.deepEqual([code, step.state], [0, 'made']);
    assert.deepEqual(await recorded(0, 'first'), ['1:0/2']);
    assert.deepEqual(await recorded(1, 'first'), ['1:1/2']);
    assert.equal((await layoutStep('first', [0, 1])).step.state, 'as_wanted');
    assert.equal(await refusal('first', [0, 1]), null);
  });

  test('tables that were made before there was a layout get it', async () => {
    await layoutStep('older', [0, 1]);
    for (const index of [0, 1]) await execute(index, 'older', 'DROP TABLE layout SYNC');
    await execute(0, 'older', "INSERT INTO ledger (epoch, last) VALUES ('e', 9)");
    assert.match((await refusal('older', [0, 1])) ?? '', /table layout is missing.*ess init/);
    assert.equal((await layoutStep('older', [0, 1])).step.state, 'made');
    assert.equal(await refusal('older', [0, 1]), null);
  });

  test('a first recording that was cut off is completed by the next, as long as no node can be a stranger', async () => {
    await layoutStep('cut', [0, 1]);
    await execute(1, 'cut', 'TRUNCATE TABLE layout');
    assert.match((await refusal('cut', [0, 1])) ?? '', /layout of .* is not recorded.*ess init/);
    await execute(0, 'cut', "INSERT INTO ledger (epoch, last) VALUES ('e', 9)");
    const { code, step } = await layoutStep('cut', [0, 1]);
    assert.deepEqual([code, step.state], [1, 'differs']);
    assert.match(findingOf(step, 1).found, /empty ledger/);
    await execute(1, 'cut', "INSERT INTO ledger (epoch, partition, last) VALUES ('e', 1, 9)");
    assert.equal((await layoutStep('cut', [0, 1])).step.state, 'made');
    assert.deepEqual(await recorded(1, 'cut'), ['1:1/2']);
  });

  test('nothing is recorded while a node cannot be reached: it may have a layout', async () => {
    await nodeOf(1).setFault(0, 'down');
    const { code, step } = await layoutStep('away', [0, 1], '--wait-ms', '0');
    assert.deepEqual([code, step.state], [1, 'differs']);
    assert.match(findingOf(step, 0).mend, /once every node can be reached/);
    assert.deepEqual(await recorded(0, 'away'), []);
    await nodeOf(1).setFault(0, 'none');
    assert.equal((await layoutStep('away', [0, 1])).step.state, 'made');
  });

  test('another order of the shards is refused and stays refused with --apply', async () => {
    await layoutStep('order', [0, 1, 2]);
    const reason = (await refusal('order', [1, 0, 2], 'sink')) ?? '';
    for (const text of [/shard 1 of 3 \(layout version 1\)/, /must be shard 0 of 3/, /order/])
      assert.match(reason, text);
    for (const more of [[], ['--apply']]) {
      const { code, step } = await layoutStep('order', [1, 0, 2], ...more);
      assert.deepEqual([code, step.state], [1, 'differs']);
      assert.match(findingOf(step, 0).mend, /in the order of their recorded numbers/);
    }
    assert.deepEqual(await recorded(0, 'order'), ['1:0/3']);
    // Ingest looks after its own: what it reads from is said on its status page.
    assert.equal(await refusal('order', [1, 0, 2], 'ingest'), null);
  });

  test('a shard that is left out is refused', async () => {
    await layoutStep('fewer', [0, 1, 2]);
    assert.match((await refusal('fewer', [0, 1])) ?? '', /3 \(layout version 1.*must be 2.*all 3 shards/);
    for (const more of [[], ['--apply']]) {
      const { code, step } = await layoutStep('fewer', [0, 1], ...more);
      assert.deepEqual([code, step.findings[0]?.what], [1, 'number of shards']);
    }
    assert.deepEqual(await recorded(0, 'fewer'), ['1:0/3']);
  });

  test('a further shard is refused at the start, and shown by ess init with what records it', async () => {
    await layoutStep('more', [0, 1]);
    // Its tables are not there yet: that is said first.
    assert.match((await refusal('more', [0, 1, 2])) ?? '', /ess init/);
    const { code, step } = await layoutStep('more', [0, 1, 2]);
    assert.deepEqual([code, step.state, step.findings.length], [1, 'differs', 3]);
    for (const index of [0, 1, 2]) {
      const { found, wanted, mend } = findingOf(step, index);
      assert.equal(found, index === 2 ? 'not recorded' : `shard ${index} of 2 (layout version 1)`);
      assert.deepEqual([wanted, mend], [`shard ${index} of 3`, 'ess init --apply']);
    }
    assert.match((await refusal('more', [0, 1, 2])) ?? '', /ess init --apply/);
    assert.deepEqual([await recorded(0, 'more'), await recorded(2, 'more')], [['1:0/2'], []]);
  });

  test('shards that were added at the end are recorded with --apply, on the new ones with all that was before', async () => {
    await layoutStep('grown', [0]);
    const { code, step } = await layoutStep('grown', [0, 1], '--apply');
    assert.deepEqual([code, step.state], [0, 'changed']);
    assert.deepEqual(await recorded(0, 'grown'), ['1:0/1', '2:0/2']);
    assert.equal((await layoutStep('grown', [0, 1, 2], '--apply')).step.state, 'changed');
    for (const index of [0, 1, 2])
      assert.deepEqual(
        await recorded(index, 'grown'),
        [1, 2, 3].map((version) => `${version}:${index}/${version}`),
      );
    assert.equal((await layoutStep('grown', [0, 1, 2], '--apply')).step.state, 'as_wanted');
    assert.equal(await refusal('grown', [0, 1, 2]), null);
    assert.match((await refusal('grown', [0, 1])) ?? '', /all 3 shards/);
  });

  test('a change that was cut off lets no role start, and the same command completes it', async () => {
    await layoutStep('half', [0, 1]);
    await layoutStep('half', [0, 1, 2]);
    await onStore(0, 'half', (store) =>
      recordLayouts(store, [{ version: 2, shards: 3, shard: 0, recordedMs: Date.now() }]),
    );
    assert.match((await refusal('half', [0, 1])) ?? '', /all 3 shards/);
    assert.match((await refusal('half', [0, 1, 2])) ?? '', /ess init --apply/);
    const { step } = await layoutStep('half', [0, 1, 2]);
    assert.deepEqual([step.state, step.findings.length], ['differs', 2]);
    assert.equal((await layoutStep('half', [0, 1, 2], '--apply')).step.state, 'changed');
    assert.deepEqual(await recorded(1, 'half'), ['1:1/2', '2:1/3']);
    assert.deepEqual(await recorded(2, 'half'), ['1:2/2', '2:2/3']);
    assert.equal(await refusal('half', [0, 1, 2]), null);
  });

  test('nothing is recorded while a node is away, or in the place of a shard that was in use', async () => {
    await layoutStep('unsure', [0, 1]);
    await layoutStep('unsure', [0, 1, 2]);
    await nodeOf(1).setFault(0, 'down');
    const away = await layoutStep('unsure', [0, 1, 2], '--apply', '--wait-ms', '0');
    assert.deepEqual([away.code, away.step.state], [1, 'differs']);
    assert.match(findingOf(away.step, 0).mend, /once every node can be reached/);
    await nodeOf(1).setFault(0, 'none');
    await execute(0, 'unsure', "INSERT INTO ledger (epoch, last) VALUES ('e', 9)");
    // As if it had lost its disk, or another node stood in its place.
    await execute(1, 'unsure', 'TRUNCATE TABLE layout');
    const { step } = await layoutStep('unsure', [0, 1, 2], '--apply');
    assert.match(findingOf(step, 1).found, /empty ledger/);
    assert.deepEqual([await recorded(0, 'unsure'), await recorded(2, 'unsure')], [['1:0/2'], []]);
  });

  test('nothing is recorded while a service runs on the embedded log', async () => {
    await layoutStep('busy', [0]);
    const flags = { clickhouse: nodeOf(0).urls[0] ?? '', 'clickhouse-database': 'busy', role: 'ingest' };
    const ess = await EssProcess.start({
      flags: { ...flags, partitions: 12 },
      dataDir: join(folder, 'busy'),
    });
    const { step } = await layoutStep('busy', [0, 1], '--apply', '--wait-ms', '0');
    assert.match(findingOf(step, 0).mend, new RegExp(`process ${ess.child.pid}`));
    assert.equal(await ess.end('SIGTERM'), 0);
    assert.equal((await layoutStep('busy', [0, 1], '--apply')).step.state, 'changed');
  });
});
