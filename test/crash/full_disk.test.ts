// Invariant: while the disk of the data directory is full, requests are refused with 503 or kept, the process lives, and
// doctor, page and /readyz name the disk; when there is room again everything goes on by itself, and nothing that was
// answered 200 is lost or doubled.

import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { troubleAnchor } from '../../src/live/troubles.ts';
import { assertHas, examine, has } from '../cli/doctor_run.ts';
import { EssProcess, type StatsJson } from '../support/ess_process.ts';
import { LiveViewer } from '../support/live_viewer.ts';
import { needsSmallDisk, SmallDisk } from '../support/small_disk.ts';
import { essVerify } from '../verify/by_hand.ts';

const MiB = 1024 * 1024;
const diskMiB = 300;
const patienceMs = 60_000;

test('a full disk under the data directory', { ...needsSmallDisk(), timeout: 240_000 }, async (context) => {
  const dataDir = mkdtempSync(join(tmpdir(), 'ess-full-'));
  const disk = new SmallDisk(dataDir, diskMiB);
  const ess = await EssProcess.start({
    dataDir,
    flags: { producers: 2, sinks: 1, readers: 1, partitions: 4 },
  });
  context.after(async () => {
    await ess.end('SIGKILL');
    disk.unmount();
    rmSync(dataDir, { recursive: true });
  });
  const viewer = await LiveViewer.open(ess.url);
  context.after(() => viewer.drop());
  const taken: string[] = [];
  let sent = 0;
  /** Sends events of some size and gives the statuses; those answered 200 are noted. */
  const send = async (count: number): Promise<Set<number>> => {
    const statuses = new Set<number>();
    for (let i = 0; i < count; i += 1) {
      const id = `e${sent}`;
      sent += 1;
      const response = await ess.post(JSON.stringify({ id, text: 'x'.repeat(5000) }));
      await response.arrayBuffer();
      statuses.add(response.status);
      if (response.status === 200) taken.push(id);
    }
    return statuses;
  };
  const until = async (isIt: (stats: StatsJson) => boolean): Promise<StatsJson> => {
    const untilMs = Date.now() + patienceMs;
    for (;;) {
      const stats = await ess.getJson<StatsJson>('/stats');
      if (isIt(stats)) return stats;
      assert.ok(
        Date.now() < untilMs,
        `${JSON.stringify(stats.troubles)}\n${ess.output.join('').slice(-2000)}`,
      );
      await sleep(50);
    }
  };
  /** Makes room, and holds what was promised against what is there. */
  const mend = async (): Promise<void> => {
    disk.relieve();
    await until(({ reasons, conservation }) => {
      const isWell = reasons.every((reason) => reason.startsWith('the data directory: 0.3 of 0.3'));
      return isWell && conservation.in_flight === 0 && conservation.exact;
    });
    assert.deepEqual(await send(5), new Set([200]));
    await ess.drained();
    const proof = await essVerify(['--deep', '--url', ess.url]);
    assert.equal(proof.code, 0, `${proof.out}${proof.err}`);
    assert.match(proof.out, /^exact: /);
    for (const id of [taken[0], taken.at(-1)])
      assert.equal((await fetch(`${ess.url}/events/${id}`)).status, 200);
    const { conservation } = await ess.getJson<StatsJson>('/stats');
    assert.equal(conservation.stored, taken.length);
  };
  await send(20);
  await ess.drained();

  await context.test('with some room left events are taken, and wait for the store', async () => {
    disk.fill(40 * MiB);
    assert.deepEqual(await send(20), new Set([200]));
    const { status, troubles } = await until(({ troubles: all }) =>
      all.some(({ kind, text }) => kind === 'partition_waiting' && text.includes('243')),
    );
    assert.equal(status, 'degraded');
    assert.ok(troubles.some(({ text }) => text.includes('make room')));
    await viewer.until(({ troubles: all }) =>
      ['disk', 'partition_waiting'].every((kind) => all.some((trouble) => trouble.kind === kind)),
    );
    assertHas(await examine(['--data-dir', dataDir, '--url', ess.url]), 'data_dir_space', 'error', dataDir);
    await mend();
  });

  await context.test('with none left events are refused in so many words, until there is room', async () => {
    // Near the end an append still goes where trimming made room.
    disk.fill(3 * MiB);
    for (const status of await send(100)) assert.ok(status === 200 || status === 503, String(status));
    disk.fill(0);
    // Each failed write of lmdb would be a chance to break the heap.
    assert.deepEqual(await send(100), new Set([503]));
    const refused = await ess.post('{"id":"refused"}');
    const { code, detail } = (await refused.json()) as { readonly code: string; readonly detail: string };
    assert.deepEqual(
      [code, detail],
      ['log_unavailable', `the disk is full that holds ${dataDir}/log: make room on it`],
    );
    const ready = await fetch(`${ess.url}/readyz`);
    assert.equal(ready.status, 503);
    assert.match(await ready.text(), /disk is full that holds/);
    viewer.forget();
    const { troubles } = await viewer.until(({ troubles: all }) => all.some(({ kind }) => kind === 'disk'));
    const helped = new Set(troubles.map(({ kind }) => troubleAnchor(kind)));
    assert.ok(helped.has('disk'));
    const report = await examine(['--data-dir', dataDir, '--url', ess.url]);
    assertHas(report, 'data_dir_space', 'error', 'make room');
    assert.ok(has(report, 'service_status', 'warning', '/operations#disk'));
    const help = await (await fetch(`${ess.url}/operations`)).text();
    for (const anchor of helped) assert.ok(help.includes(`id="${anchor}"`), anchor);
    await mend();
  });

  await context.test('a process that was killed meanwhile starts again where it was', async () => {
    disk.fill(0);
    await ess.end('SIGKILL');
    // Somebody who starts it before there is room is told why it does not.
    await assert.rejects(EssProcess.start({ dataDir, flags: { partitions: 4 } }), /disk|space/i);
    disk.relieve();
    const again = await EssProcess.start({ dataDir, flags: { partitions: 4 } });
    try {
      const { conservation } = await again.drained();
      assert.deepEqual([conservation.stored, conservation.exact], [taken.length, true]);
      const proof = await essVerify(['--deep', '--url', again.url]);
      assert.equal(proof.code, 0, `${proof.out}${proof.err}`);
    } finally {
      await again.end('SIGTERM');
    }
  });
  assert.match(readFileSync('docs/operations.md', 'utf8'), /^## Disk$/m);
});
