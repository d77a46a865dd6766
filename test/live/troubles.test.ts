// What is wrong, as the page, /stats and /readyz tell it of one service: the same everywhere, and dead letters are told
// without calling the service degraded.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Journal, refusePoison } from '../crash/journal.ts';
import { EssProcess, type StatsJson } from '../support/ess_process.ts';
import { LiveViewer } from '../support/live_viewer.ts';

interface Stats extends StatsJson {
  readonly dead_letters: number;
}

describe('dead letters on the page', () => {
  const journal = new Journal('troubles');
  let ess: EssProcess;

  before(async () => {
    const flags = { producers: 1, sinks: 1, readers: 1, partitions: 4, 'sink-linger-ms': 5 };
    ess = await EssProcess.start({ flags });
    assert.equal(await ess.end('SIGTERM'), 0);
    await refusePoison(ess.dataDir);
    ess = await EssProcess.start({ flags, dataDir: ess.dataDir });
  });
  after(() => ess.dispose());

  test('are there with their reasons, the newest first, while they happen', async () => {
    const viewer = await LiveViewer.open(ess.url);
    await viewer.until(({ dead_letters: letters }) => letters.total === 0);
    const ids: string[] = [];
    for (let i = 1; i <= 12; i += 1) {
      const event = journal.create(true);
      ids.unshift(event.id);
      assert.equal((await ess.post(event.json, '?ack=store')).status, 422);
    }
    const snapshot = await viewer.until(({ dead_letters: letters }) => letters.total === 12);
    viewer.drop();
    const { latest } = snapshot.dead_letters;
    assert.deepEqual(
      latest.map(({ id }) => id),
      ids.slice(0, 10),
    );
    for (const { code, reason, time } of latest) {
      assert.equal(code, '469');
      assert.ok(reason.includes('no_poison'));
      assert.ok(Math.abs(Date.parse(time) - Date.now()) < 600_000);
    }
    assert.deepEqual(
      [snapshot.status, snapshot.troubles],
      ['ready', [{ kind: 'dead_letters', text: '12 events are dead letters' }]],
    );
    assert.equal(snapshot.conservation.parked, 12);
  });

  test('are among the troubles of /stats with where help is, and degrade nothing', async () => {
    const { troubles, reasons, status, dead_letters: total } = await ess.getJson<Stats>('/stats');
    assert.deepEqual(troubles, [
      { kind: 'dead_letters', text: '12 events are dead letters', help: '/operations#dead-letters' },
    ]);
    assert.deepEqual([reasons, status, total], [[], 'ready', 12]);
    assert.deepEqual(await ess.getJson('/readyz'), { status: 'ready', reasons: [] });
    assert.match(await (await fetch(`${ess.url}/metrics`)).text(), /^ess_dead_letters 12$/m);
  });
});
