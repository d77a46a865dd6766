// The overview in a real browser on a real service: what it shows is what /stats says, it never shows what is old as new,
// and it needs nothing from outside.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Browser } from 'playwright-core';
import { atRest } from '../http/answers.ts';
import { BrowserPage, needsBrowser, openBrowser, textOf } from '../support/browser.ts';
import { EssProcess, type StatsJson } from '../support/ess_process.ts';
import { freePorts } from '../support/kafka_cluster.ts';

/** While the server is away the browser says so in its console. */
const refused = /ERR_CONNECTION_REFUSED|WebSocket connection/;

const text = (value: number): string => value.toLocaleString('en-US');

/** Sends events until told to stop; gives how many were accepted. */
async function send(ess: EssProcess, isOver: () => boolean): Promise<number> {
  let sent = 0;
  while (!isOver()) {
    const batch = Array.from({ length: 50 }, (_, i) => ({ id: `o-${sent + i}`, subject: `s-${i}` }));
    const answer = await ess.post(JSON.stringify(batch));
    assert.equal(answer.status, 200);
    await answer.arrayBuffer();
    sent += batch.length;
    await sleep(20);
  }
  return sent;
}

/** Holds the page's figures against /stats once both are at rest. */
async function agrees(look: BrowserPage, ess: EssProcess): Promise<void> {
  await atRest(ess);
  const stats = await ess.getJson<StatsJson & { conservation: { holes: number } }>('/stats');
  const { accepted, stored, duplicates, parked, holes, in_flight } = stats.conservation;
  const wanted = { accepted, stored, duplicates, parked, holes, in_flight };
  const shown = async (): Promise<Record<string, string>> =>
    Object.fromEntries(
      await Promise.all(Object.keys(wanted).map(async (name) => [name, await look.figure(name)] as const)),
    );
  const wantedTexts = Object.fromEntries(Object.entries(wanted).map(([name, value]) => [name, text(value)]));
  await look.until('the figures of /stats', async () => {
    const texts = await shown();
    return Object.entries(wantedTexts).every(([name, value]) => texts[name] === value);
  });
  await look.page.getByText('Exact: every record of the log is accounted for').waitFor();
  await look.until('the positions of /stats', async () => {
    // A position moves a moment after its last event is stored.
    const { partitions } = await ess.getJson<StatsJson>('/stats');
    const rows = await look.table('Partitions');
    return (
      rows.length === partitions.length &&
      partitions.every(({ partition, end, committed }, i) => {
        const [name, ...shown] = rows[i] ?? [];
        const numbers = [text(end), text(committed), '0'];
        return name === String(partition) && numbers.every((number, j) => shown[j] === number);
      })
    );
  });
}

describe('the overview', needsBrowser(), () => {
  let browser: Browser;
  before(async () => {
    browser = await openBrowser();
  });
  after(() => browser.close());

  test('an empty system says how to send the first event, and sends one', async () => {
    const ess = await EssProcess.start();
    try {
      const look = await BrowserPage.open(browser, ess.url);
      const { page } = look;
      await look.untilState('Ready');
      const hint = page.locator('.first-event');
      const command = await textOf(hint.locator('pre code').first());
      assert.ok(command.includes(`curl -X POST '${ess.url}/events/?ack=store'`), command);
      // The command is what it says: its event is taken as it stands there.
      const [, body = ''] = /-d '([^']+)'/.exec(command) ?? [];
      await look.screenshot('overview-empty');
      await hint.getByRole('button', { name: 'Send one now' }).click();
      await hint.getByText('It is durable and can be read.').waitFor();
      const answer = JSON.parse(await textOf(hint.getByLabel('Answer'))) as { id: string; ack: string };
      assert.equal(answer.ack, 'store');
      const found = await ess.getJson<{ source: string; type: string }>(`/events/${answer.id}`);
      assert.deepEqual([found.type, found.source], ['sample', 'ess-page']);
      await look.screenshot('overview-first-event');
      // Its answer stays while it is looked at; whoever comes now is not told that the system is empty.
      assert.ok(await hint.isVisible());
      await hint.getByRole('link', { name: 'See its journey' }).click();
      await page.locator('.journey li').nth(2).waitFor();
      assert.equal((await ess.post(body, '?ack=store')).status, 200);
      await page.goto(ess.url);
      await look.untilState('Ready');
      // The first snapshot of a viewer may be as old as a second.
      await look.until('a hint that is gone', () => hint.isHidden());
      await agrees(look, ess);
      look.check();
    } finally {
      await ess.dispose();
    }
  });

  test('figures move under load, agree with /stats at rest, and outlive a restart of the server', async () => {
    // Not out of those that outgoing connections take: the second start must find it free.
    const [port = 0] = await freePorts(1);
    let ess = await EssProcess.start({ flags: { port } });
    const { dataDir } = ess;
    try {
      const look = await BrowserPage.open(browser, ess.url);
      await look.untilState('Ready');
      let isOver = false;
      const sending = send(ess, () => isOver);
      try {
        const isAbove = async (name: string): Promise<boolean> => {
          const shown = Number((await look.figure(name)).replaceAll(',', ''));
          return Number.isFinite(shown) && shown > 0;
        };
        await look.until('a rate of events', () => isAbove('tile-events'));
        await look.until('a rate of stored events', () => isAbove('tile-stored'));
        const before = await look.figure('accepted');
        await look.until('another count', async () => (await look.figure('accepted')) !== before);
        await look.until('a latency', async () => / m?s$/.test(await look.figure('tile-answer')));
        await look.until('an end-to-end lag', async () => / m?s$/.test(await look.figure('tile-end-to-end')));
        // Something is drawn in each plot, and text says what.
        assert.equal(await look.page.locator('.plot canvas').count(), 3);
        await look.page.waitForTimeout(4000);
        await look.screenshot('overview-load');
      } finally {
        isOver = true;
      }
      const sent = await sending;
      await agrees(look, ess);
      assert.equal(await look.figure('accepted'), text(sent));
      look.check();

      assert.equal(await ess.end('SIGTERM'), 0);
      await look.page.locator('#banner').waitFor();
      await look.untilState('No connection');
      assert.match(await look.page.locator('body').getAttribute('class').then(String), /stale/);
      assert.match(await look.page.title(), /^No connection/);
      await look.screenshot('overview-lost');
      // Longer than a few tries: it does not give up.
      await sleep(4000);

      ess = await EssProcess.start({ dataDir, flags: { port } });
      await look.untilState('Ready');
      await look.page.locator('#banner').waitFor({ state: 'hidden' });
      assert.doesNotMatch(await look.page.locator('body').getAttribute('class').then(String), /stale/);
      await agrees(look, ess);
      assert.equal(await look.figure('accepted'), text(sent));
      const more = await ess.post('{"id":"after"}', '?ack=store');
      assert.equal(more.status, 200);
      await look.until(
        'the event after the restart',
        async () => (await look.figure('accepted')) === text(sent + 1),
      );
      look.check(refused);
    } finally {
      await ess.dispose();
    }
  });
});
