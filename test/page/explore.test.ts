// The explore view in a real browser on a real service: its numbers are those of the HTTP interface, the address holds the
// whole question, and an event's journey is the true one.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import type { Browser } from 'playwright-core';
import { poison, refusePoison } from '../crash/journal.ts';
import { atRest, jsonOf } from '../http/answers.ts';
import { BrowserPage, needsBrowser, openBrowser, textOf } from '../support/browser.ts';
import { EssProcess } from '../support/ess_process.ts';

const countries = ['CH', 'DE', 'FR', 'IT', 'AT', 'ES', 'PT', 'NL', 'BE', 'DK', 'SE', 'NO', 'FI'];

interface SummaryJson {
  readonly count: number;
  readonly unique_subjects: number;
  readonly lag_ms: { readonly p95: number };
  readonly value: Readonly<Record<'count' | 'sum' | 'min' | 'max', number>>;
}

interface StatisticsJson {
  readonly total: SummaryJson;
  readonly groups: readonly (SummaryJson & { readonly group: Readonly<Record<string, string | null>> })[];
}

interface EventJson {
  readonly ingest_time: string;
  readonly store_time: string;
  readonly partition: number;
  readonly offset: number;
}

/** What a browser says of an answer with an error status. */
const status = /Failed to load resource: the server responded with a status of (400|404|409|422)/;

const digits = (text: string | undefined): number => Number((text ?? '').replaceAll(',', ''));

describe('the explore view', needsBrowser(), () => {
  let browser: Browser;
  let ess: EssProcess;

  before(async () => {
    browser = await openBrowser();
    ess = await EssProcess.start();
    assert.equal(await ess.end('SIGTERM'), 0);
    await refusePoison(ess.dataDir);
    ess = await EssProcess.start({ dataDir: ess.dataDir });
    const events = countries.flatMap((country, i) =>
      Array.from({ length: 40 - 2 * i }, (_, j) => ({
        id: `${country}-${j}`,
        type: 'order',
        subject: `customer-${j % 7}`,
        country,
        amount: j + i / 4,
        time: Date.now() - 1000 * (60 + 17 * j),
      })),
    );
    const answer = await jsonOf<{ accepted: number }>(ess.post(JSON.stringify(events), '?ack=store'));
    assert.equal(answer.accepted, events.length);
    // Something that the type leaves out, and a group that has no name.
    await jsonOf(ess.post('{"id":"other","type":"other"}', '?ack=store'));
    await jsonOf(ess.post('{"id":"stray","type":"order","amount":3}', '?ack=store'));
    await jsonOf(ess.post('{"id":"twice","source":"a"}', '?ack=store'));
    await jsonOf(ess.post('{"id":"twice","source":"b"}', '?ack=store'));
    await atRest(ess);
  });
  after(async () => {
    await browser.close();
    await ess.dispose();
  });

  /** The answer of the query that the page has asked. */
  async function askedOf(
    look: BrowserPage,
  ): Promise<{ readonly path: string; readonly json: StatisticsJson }> {
    const path = (await look.page.getByRole('link', { name: 'as JSON' }).getAttribute('href')) ?? '';
    return { path, json: await ess.getJson<StatisticsJson>(path) };
  }

  async function tableAgrees(look: BrowserPage): Promise<StatisticsJson> {
    const { path, json } = await askedOf(look);
    // Without grouping the one group is all events.
    const groups = path.includes('group_by=') ? json.groups : [];
    const rows = await look.table('Statistics by group');
    assert.equal(rows.length, groups.length + 1);
    const total = rows.at(-1)?.slice(1) ?? [];
    const wanted = [...groups, json.total];
    const numbers = [...rows.slice(0, -1).map((row) => row.slice(1)), total];
    for (const [i, { count, unique_subjects, value }] of wanted.entries()) {
      const cells = numbers[i] ?? [];
      assert.equal(digits(cells[0]), count);
      assert.equal(digits(cells[1]), unique_subjects);
      assert.match(cells[3] ?? '', / m?s$/);
      const [values, sum, , least, greatest] = cells.slice(4);
      assert.deepEqual([values, sum, least, greatest].map(digits), [
        value.count,
        value.sum,
        value.min,
        value.max,
      ]);
    }
    return json;
  }

  test('shows what /events/statistics answers, keeps the question in the address, and downloads it as CSV', async () => {
    const look = await BrowserPage.open(browser, ess.url, '/#explore');
    const { page } = look;
    await look.control('range').selectOption('24h');
    await look.control('type').fill('order');
    await look.control('group_by').fill('country');
    await look.control('value').fill('amount');
    await look.control('bucket').selectOption('1m');
    await page.getByRole('button', { name: 'Show' }).click();
    await page
      .locator('#statistics-table tbody tr')
      .nth(countries.length + 1)
      .waitFor();
    const json = await tableAgrees(look);
    assert.equal(json.groups.length, countries.length + 1);
    assert.deepEqual(json.groups[0]?.group, { country: 'CH' });
    assert.equal(
      (await look.table('Statistics by group')).at(-2)?.[0],
      'none',
      'a group without a name says so',
    );
    // Ten groups and the rest.
    assert.equal(await page.locator('.answer .legend li').count(), 11);
    assert.match(await textOf(page.locator('.answer .legend li').last()), /the other 4 listed/);
    await look.screenshot('explore-statistics');

    const [download] = await Promise.all([
      page.waitForEvent('download'),
      page.getByRole('button', { name: 'Download CSV' }).click(),
    ]);
    const { path } = await askedOf(look);
    const csv = await (await fetch(ess.url + path, { headers: { accept: 'text/csv' } })).text();
    assert.match(csv, /^country,t,count/);
    assert.equal(readFileSync(await download.path(), 'utf8'), csv);

    const { hash } = new URL(page.url());
    assert.equal(hash, '#explore?range=24h&type=order&group_by=country&value=amount&bucket=1m');
    await page.reload();
    await page
      .locator('#statistics-table tbody tr')
      .nth(countries.length + 1)
      .waitFor();
    assert.equal(await look.control('range').inputValue(), '24h');
    assert.equal(await look.control('type').inputValue(), 'order');
    assert.equal(await look.control('group_by').inputValue(), 'country');
    assert.equal(await look.control('value').inputValue(), 'amount');
    assert.equal(await look.control('bucket').inputValue(), '1m');
    await tableAgrees(look);
    // To the other view and back: the question is still there.
    await page.getByRole('link', { name: 'Overview' }).click();
    await page.locator('.tiles').waitFor();
    await page.getByRole('link', { name: 'Explore' }).click();
    assert.equal(new URL(page.url()).hash, hash);
    look.check();
    await look.close();
  });

  test('takes a range of its own, and shows an error as the service words it', async () => {
    const from = new Date(Date.now() - 10 * 60_000).toISOString();
    const query = new URLSearchParams({ range: 'custom', from, clock: 'ingest', value: 'amount' });
    const look = await BrowserPage.open(browser, ess.url, `/#explore?${query}`);
    const { page } = look;
    await page.locator('#statistics-table').waitFor();
    await tableAgrees(look);
    await look.control('group_by').fill('a,,b');
    await page.getByRole('button', { name: 'Show' }).click();
    const problem = page.locator('.answer [role=alert]');
    await problem.waitFor();
    const said = await textOf(problem);
    const answer = await fetch(`${ess.url}/events/statistics?group_by=a,,b`);
    const { title, detail, action } = (await answer.json()) as Record<string, string>;
    for (const part of [title, detail, action]) assert.ok(said.includes(part ?? '?'), said);
    look.check(status);
    await look.close();
  });

  test('shows an event and its journey, and what it means if it is not there', async () => {
    const look = await BrowserPage.open(browser, ess.url, '/#explore');
    const { page } = look;
    const ask = async (id: string): Promise<void> => {
      await look.control('event_id').fill(id);
      await page.getByRole('button', { name: 'Look up' }).click();
      await page.locator('.lookup .answer[aria-busy=false]:not(:empty)').waitFor();
    };
    await ask('CH-3');
    const event = await ess.getJson<EventJson>('/events/CH-3');
    const stage = (name: string) => page.locator(`.journey [data-stage=${name}]`);
    await stage('stored').waitFor();
    assert.equal(await stage('received').locator('time').getAttribute('datetime'), event.ingest_time);
    assert.equal(await stage('stored').locator('time').getAttribute('datetime'), event.store_time);
    const durable = await textOf(stage('durable'));
    assert.ok(durable.includes(`partition ${event.partition}, offset ${event.offset}`), durable);
    const tookMs = Date.parse(event.store_time) - Date.parse(event.ingest_time);
    const shown = await textOf(stage('stored').locator('.tag'));
    // Between the two stages there may be others, each with its own time.
    assert.match(shown, /^after [\d.]+ m?s$/);
    assert.ok(tookMs >= 0);
    assert.equal(
      (JSON.parse(await textOf(page.locator('#event-json'))) as { country: string }).country,
      'CH',
    );
    await look.screenshot('explore-event');
    await page.reload();
    await stage('stored').waitFor();
    assert.equal(await look.control('event_id').inputValue(), 'CH-3');
    look.check();

    await ask('twice');
    await page.getByRole('button', { name: 'b', exact: true }).click();
    await stage('stored').waitFor();
    assert.equal(await look.control('event_source').inputValue(), 'b');
    assert.match(page.url(), /id=twice&source=b$/);

    await look.control('event_source').fill('');
    await ask('never-sent');
    await page.getByText('It may not be stored yet.').waitFor();
    assert.match(await look.figure('lag'), /The store is not behind/);
    await look.screenshot('explore-not-found');

    const parked = await ess.post(`{"id":"refused","text":"${poison}"}`, '?ack=store');
    assert.equal(parked.status, 422);
    await ask('refused');
    await page.getByText('It was parked: durable, but the store refused it.').waitFor();
    assert.match(await textOf(page.locator('.lookup .answer')), /no_poison/);
    await page.getByRole('link', { name: 'Overview' }).click();
    const trouble = page.locator('.troubles li[data-kind=dead_letters] a');
    await trouble.waitFor();
    assert.equal(await trouble.getAttribute('href'), '/operations#dead-letters');
    await look.until(
      'the dead letter',
      async () => (await look.table('Latest dead letters'))[0]?.[2] === 'refused',
    );
    look.check(status);
    await look.close();
  });
});
