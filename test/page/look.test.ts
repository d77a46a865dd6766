// How the page looks: both views and the operations guide, light and dark, on a desk and on a phone, held against axe's
// rules and the width of the window, and usable by keyboard. Saves a picture of each in .build/screenshots.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { Browser } from 'playwright-core';
import { poison, refusePoison } from '../crash/journal.ts';
import { atRest, jsonOf } from '../http/answers.ts';
import { BrowserPage, needsBrowser, openBrowser } from '../support/browser.ts';
import { EssProcess } from '../support/ess_process.ts';

const sizes = { desk: { width: 1366, height: 900 }, phone: { width: 375, height: 740 } } as const;
const views = {
  overview: '/',
  explore: '/#explore?range=24h&group_by=country&value=amount&id=CH-3',
  operations: '/operations',
} as const;

describe('the look of the page', needsBrowser(), () => {
  let browser: Browser;
  let ess: EssProcess;

  before(async () => {
    browser = await openBrowser();
    ess = await EssProcess.start();
    assert.equal(await ess.end('SIGTERM'), 0);
    await refusePoison(ess.dataDir);
    ess = await EssProcess.start({ dataDir: ess.dataDir });
    const events = ['CH', 'DE', 'FR', 'IT'].flatMap((country, i) =>
      Array.from({ length: 30 + 20 * i }, (_, j) => ({
        id: `${country}-${j}`,
        country,
        amount: j,
        time: Date.now() - j * 120_000 * (i + 1),
      })),
    );
    await jsonOf(ess.post(JSON.stringify(events), '?ack=store'));
    // So that there is something in every part: a trouble, too.
    assert.equal((await ess.post(`{"id":"refused","text":"${poison}"}`, '?ack=store')).status, 422);
    await atRest(ess);
  });
  after(async () => {
    await browser.close();
    await ess.dispose();
  });

  async function untilShown(look: BrowserPage, view: keyof typeof views): Promise<void> {
    if (view === 'operations') return;
    await look.untilState('Ready');
    if (view === 'overview') {
      await look.page.locator('.troubles li').waitFor();
      await look.page.locator('.plot canvas').nth(2).waitFor();
      await look.until('nodes', async () => (await look.table('ClickHouse nodes')).length === 1);
    } else {
      await look.page.locator('.journey li').nth(2).waitFor();
      await look.page.locator('#statistics-table').waitFor();
      await look.page.locator('.answer .plot canvas').waitFor();
    }
  }

  for (const view of Object.keys(views) as (keyof typeof views)[]) {
    for (const colorScheme of ['light', 'dark'] as const) {
      for (const [name, size] of Object.entries(sizes)) {
        test(`${view}, ${colorScheme}, ${name}`, async () => {
          const look = await BrowserPage.open(browser, ess.url, views[view], {
            colorScheme,
            bypassCSP: true,
            ...size,
          });
          await untilShown(look, view);
          await look.screenshot(`${view}-${colorScheme}-${name}`);
          await look.checkWidth();
          await look.checkAccessible();
          look.check();
          await look.close();
        });
      }
    }
  }

  test('everything is reached by keyboard, and the focus is seen', async () => {
    const look = await BrowserPage.open(browser, ess.url, '/');
    const { page } = look;
    await untilShown(look, 'overview');
    await page.keyboard.press('Tab');
    const focused = () =>
      page.evaluate<string>('document.activeElement.id || document.activeElement.textContent');
    assert.equal(await focused(), 'skip');
    await page.keyboard.press('Enter');
    assert.equal(await focused(), 'main');
    assert.equal(new URL(page.url()).hash, '', 'the view stays the same');
    const reached: string[] = [];
    for (let i = 0; i < 40; i += 1) {
      await page.keyboard.press('Tab');
      reached.push(await focused());
      const outline = await page.evaluate<string>('getComputedStyle(document.activeElement).outlineStyle');
      if (i < 10) assert.equal(outline, 'solid', reached.at(-1));
    }
    for (const wanted of [/What to do about it/, /All of them/, /link-explore/])
      assert.ok(
        reached.some((text) => wanted.test(text)),
        `${wanted} in ${reached}`,
      );
    await page.locator('#link-explore').focus();
    await page.keyboard.press('Enter');
    await page.locator('#statistics-table').waitFor();
    await look.control('event_id').focus();
    await page.keyboard.type('CH-3');
    await page.keyboard.press('Enter');
    await page.locator('.journey li').nth(2).waitFor();
    look.check();
    await look.close();
  });
});
