// The live stream of a real service on its embedded default: what it says agrees with /stats, it comes every second to
// everybody who may watch, and nothing is made while nobody does.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { viewersMax } from '../../src/live/bounds.ts';
import { type LiveSnapshot, snapshotFormat } from '../../src/live/snapshot.ts';
import { atRest, jsonOf } from '../http/answers.ts';
import { EssProcess, type StatsJson } from '../support/ess_process.ts';
import { LiveViewer, Refused } from '../support/live_viewer.ts';

const events = 200;

/** Waits until nobody is counted as a viewer. */
async function untilNobody(ess: EssProcess): Promise<void> {
  while ((await countersOf(ess))['live_viewers'] !== 0) await sleep(20);
}

async function countersOf(ess: EssProcess): Promise<Readonly<Record<string, number>>> {
  return (await ess.getJson<StatsJson>('/stats')).counters;
}

describe('the live stream', () => {
  let ess: EssProcess;
  before(async () => {
    ess = await EssProcess.start();
    for (let i = 0; i < events; i += 1) await jsonOf(ess.post(`{"id":"live-${i}"}`));
    await atRest(ess);
  });
  after(() => ess.dispose());

  test('begins with a snapshot, and sends another one each second', async () => {
    const viewer = await LiveViewer.open(ess.url);
    await viewer.until(() => viewer.snapshots.length >= 4);
    viewer.drop();
    const [first, second, ...more] = viewer.snapshots;
    assert.ok(first !== undefined && second !== undefined);
    assert.equal(first.format, snapshotFormat);
    assert.equal(first.events_per_s, null, 'there is no rate without a snapshot before');
    for (const snapshot of [second, ...more]) {
      assert.equal(snapshot.started_ms, first.started_ms);
      assert.equal(typeof snapshot.events_per_s, 'number');
      assert.equal(typeof snapshot.requests_per_s, 'number');
    }
    const times = viewer.snapshots.map(({ time_ms: timeMs }) => timeMs);
    // Not how fast this machine is: only that they are a second apart and not many at once.
    for (const [i, timeMs] of times.entries()) if (i > 0) assert.ok(timeMs - (times[i - 1] ?? 0) > 500);
  });

  test('agrees with /stats', async () => {
    const viewer = await LiveViewer.open(ess.url);
    const snapshot = await viewer.until(
      ({ nodes, log, dead_letters: letters }) =>
        nodes.length > 0 && log.disk_free_bytes !== null && letters.total !== null,
    );
    const stats = await ess.getJson<StatsJson & Pick<LiveSnapshot, 'epoch' | 'nodes' | 'group'>>('/stats');
    viewer.drop();
    assert.equal(snapshot.role, 'all');
    assert.equal(snapshot.epoch, stats.epoch);
    assert.equal(snapshot.status, 'ready');
    assert.deepEqual(snapshot.troubles, []);
    assert.deepEqual(snapshot.conservation, stats.conservation);
    assert.equal(snapshot.conservation.stored, events);
    assert.deepEqual(snapshot.lag, stats.lag);
    assert.equal(snapshot.slots?.max, stats.slots.max);
    assert.deepEqual(
      snapshot.threads.map(({ name, alive, restarts }) => ({ name, alive, restarts })),
      stats.threads.map(({ name, alive, restarts }) => ({ name, alive, restarts })),
    );
    assert.deepEqual(
      snapshot.partitions.map(({ partition, end, committed, stored }) => [partition, end, committed, stored]),
      stats.partitions.map(({ partition, end, committed, stored }) => [partition, end, committed, stored]),
    );
    for (const { owner, leader } of snapshot.partitions) assert.deepEqual([owner, leader], ['sink-0', null]);
    const [node, ...others] = snapshot.nodes;
    assert.ok(node !== undefined && others.length === 0);
    assert.deepEqual([node.name, node.shard, node.replica, node.is_up], ['chdb', 0, 0, true]);
    assert.equal(node.error, null);
    assert.equal(node.rows, events);
    assert.ok((node.parts ?? 0) >= 1 && (node.parts_max ?? 0) >= 100);
    assert.ok((node.disk_free_bytes ?? 0) > 0 && (node.disk_total_bytes ?? 0) > (node.disk_free_bytes ?? 0));
    assert.deepEqual(
      stats.nodes.map(({ name, rows, is_up: isUp }) => [name, rows, isUp]),
      [['chdb', events, true]],
    );
    assert.deepEqual([snapshot.log.kind, snapshot.log.brokers, snapshot.group], ['embedded', [], null]);
    assert.deepEqual(snapshot.dead_letters, { total: 0, latest: [] });
    assert.equal(stats.group, null);
  });

  test('shows a load as rates', async () => {
    const viewer = await LiveViewer.open(ess.url);
    await viewer.until(() => viewer.snapshots.length >= 2);
    for (let i = 0; i < 50; i += 1) await jsonOf(ess.post(`{"id":"rate-${i}"}`));
    await ess.post('{');
    await viewer.until(({ events_per_s: rate }) => (rate ?? 0) > 0);
    await viewer.until(({ stored_per_s: rate }) => (rate ?? 0) > 0);
    await viewer.until(({ refused_per_s: rate }) => (rate ?? 0) > 0);
    await viewer.until(({ stages }) => stages.end_to_end.count >= 50 && stages.end_to_end.p99_ms > 0);
    await viewer.until(({ nodes }) => (nodes[0]?.insert_p99_ms ?? 0) > 0);
    viewer.drop();
  });

  test('lets no page of another host listen', async () => {
    const { host } = new URL(ess.url);
    for (const origin of [
      'http://evil.example',
      'null',
      `https://${host}.evil.example`,
      'http://127.0.0.1:1',
    ]) {
      await assert.rejects(
        () => LiveViewer.open(ess.url, { origin }),
        (error) => error instanceof Refused && error.status === 403,
        origin,
      );
    }
    const viewer = await LiveViewer.open(ess.url, { origin: `http://${host}` });
    await viewer.until(() => true);
    viewer.drop();
  });

  test('lets no more in than it may, and counts those that it refused', async () => {
    await untilNobody(ess);
    const { live_viewers_rejected: before = 0 } = await countersOf(ess);
    const viewers = await Promise.all(Array.from({ length: viewersMax }, () => LiveViewer.open(ess.url)));
    await assert.rejects(
      () => LiveViewer.open(ess.url),
      (error) => error instanceof Refused && error.status === 503,
    );
    for (const viewer of viewers) await viewer.until(() => true);
    const full = await countersOf(ess);
    assert.equal(full['live_viewers'], viewersMax);
    assert.equal(full['live_viewers_rejected'], before + 1);
    viewers[0]?.drop();
    while ((await countersOf(ess))['live_viewers'] === viewersMax) await sleep(20);
    const late = await LiveViewer.open(ess.url);
    await late.until(() => true);
    for (const viewer of [...viewers, late]) viewer.drop();
  });

  test('sends one snapshot to all: viewers do not add to the work', async () => {
    await untilNobody(ess);
    const viewers = await Promise.all(Array.from({ length: 10 }, () => LiveViewer.open(ess.url)));
    for (const viewer of viewers) await viewer.until(() => viewer.snapshots.length >= 3);
    const times = viewers.map(({ snapshots }) => new Set(snapshots.map(({ time_ms: timeMs }) => timeMs)));
    for (const viewer of viewers) viewer.drop();
    assert.ok(new Set(times.flatMap((each) => [...each])).size <= 6);
  });

  test('survives viewers that come and go, talk, or send too much', async () => {
    const { live_snapshots: before = 0 } = await countersOf(ess);
    const startMs = Date.now();
    for (let i = 0; i < 50; i += 1) {
      const viewer = await LiveViewer.open(ess.url);
      if (i % 3 === 0) await viewer.until(() => true);
      if (i % 3 === 1) viewer.send('hello');
      viewer.drop();
    }
    const { live_snapshots: made = 0 } = await countersOf(ess);
    assert.ok(made - before <= (Date.now() - startMs) / 1000 + 50 / 3 + 2, `${made - before} snapshots`);
    const talker = await LiveViewer.open(ess.url);
    talker.send('ignored');
    await talker.until(() => talker.snapshots.length >= 2);
    talker.send('x'.repeat(5000));
    assert.notEqual(await talker.closed(), null);
    const viewer = await LiveViewer.open(ess.url);
    await viewer.until(() => viewer.snapshots.length >= 2);
    viewer.drop();
    await untilNobody(ess);
  });

  test('makes nothing while nobody watches', async () => {
    await untilNobody(ess);
    const before = (await countersOf(ess))['live_snapshots'];
    await sleep(2500);
    assert.equal((await countersOf(ess))['live_snapshots'], before);
  });

  test('answers a plain GET with a problem', async () => {
    const response = await fetch(`${ess.url}/live`);
    assert.equal(response.status, 404);
    assert.match(response.headers.get('content-type') ?? '', /problem/);
  });

  test('ends with a word when the service stops', async () => {
    const viewers = await Promise.all([LiveViewer.open(ess.url), LiveViewer.open(ess.url)]);
    for (const viewer of viewers) await viewer.until(() => true);
    const stopped = ess.end('SIGTERM');
    for (const viewer of viewers) assert.equal(await viewer.closed(), 1001);
    assert.equal(await stopped, 0);
  });
});
